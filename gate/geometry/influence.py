"""From a read-out to its uncertainty: the influence of every sampled row, the standard error and the interval.

A metric over moments is a differentiable function of its statistics: its gradient, evaluated on the sampled rows, is
the empirical influence function (the delta method). A metric over individual rows hands its influence over itself.
Either way the standard error is std(influence) / sqrt(n), unless the read-out knows a better variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from gate.geometry.intervals import quantile, wilson
from gate.geometry.statistics import Differentiable, Sample, Statistic


@dataclass(frozen=True)
class Refusal:
    """Why there is no number.

    Attributes:
        status: `not_applicable` when the question does not exist for these features, `inconclusive` when more or other
            data could answer it.
        reason: A sentence that begins with the reason code.
        n_needed: Rows with which it could be answered, where that is known.
    """

    status: Literal["not_applicable", "inconclusive"]
    reason: str
    n_needed: int | None = None


def missing_input(what: str) -> Refusal:
    """The refusal of a read-out that needs something these features do not come with."""
    return Refusal("not_applicable", f"missing_input: it needs {what}")


@dataclass(frozen=True, eq=False)
class Guard:
    """A read-out stands only where `quantity` exceeds `errors` of its own standard errors."""

    quantity: Tensor
    errors: float
    refusal: Refusal


def _same(natural: Tensor) -> Tensor:
    return natural


@dataclass(frozen=True, eq=False)
class Readout:
    """One number of a metric, with what its uncertainty follows from.

    Attributes:
        natural: Scalar on the scale on which the estimate is close to normal; differentiable in the statistics unless
            `influence` or `later` is given.
        display: Monotone map from the natural scale to the one that is reported.
        influence: Of the natural value, (m,) over the sampled rows.
        variance: Of the natural value, where std(influence)^2 / n is not the best that is known.
        later: Both of these, where they cost more than the value: found when an interval is asked for.
        interval: Interval on the displayed scale as a function of the normal quantile, for counts.
        trials: Effective number of rows of a proportion: its interval is Wilson's (Clopper-Pearson at 0 and 1).
        inflation: Factor of the variance, where influence on the rows that were fitted is too small.
        degrees: Degrees of freedom of `variance`, when a normal quantile is too small.
        comparisons: Number of values of which this is the extreme one (Bonferroni).
        n, c, k: Rows, classes and neighbours it rests on, where they differ from those of the metric.
        method: How the uncertainty came about.
        detail, breakdown: What a reader wants to know besides: which pair is worst, the value of every class.
        guard: When to refuse after all.
    """

    natural: Tensor
    display: Callable[[Tensor], Tensor] = _same
    influence: Tensor | None = None
    variance: float | None = None
    later: Callable[[], tuple[Tensor, float | None]] | None = None
    interval: Callable[[float], tuple[float, float]] | None = None
    trials: float | None = None
    inflation: float = 1.0
    degrees: int | None = None
    comparisons: int = 1
    n: int | None = None
    c: int | None = None
    k: int | None = None
    method: str = "delta method"
    detail: str | None = None
    breakdown: Mapping[str, float] | None = None
    guard: Guard | None = None

    def settled(self) -> Readout:
        """With the influence and the variance that were put off."""
        if self.later is None:
            return self
        influence, variance = self.later()
        return replace(self, influence=influence, variance=variance, later=None)


@dataclass(frozen=True, eq=False)
class Measured:
    """A read-out with its uncertainty, on the displayed scale.

    Attributes:
        value, standard_error: Numbers; not finite where the read-out is not.
        interval: (low, high), None where the value is not finite or none was asked for.
        influence: (m,) float64, sums to zero; None where no interval was asked for.
        unpaired: Part of the variance that influence does not carry: two versions do not share it row by row.
        intervals: Level → interval at further levels.
    """

    value: float
    interval: tuple[float, float] | None
    standard_error: float
    influence: Tensor | None
    unpaired: float = 0.0
    intervals: Mapping[float, tuple[float, float]] = field(default_factory=dict)


def tracked(statistic: Statistic) -> Statistic:
    """The statistic with its fields as the leaves of a gradient."""
    if not isinstance(statistic, Differentiable):
        return statistic
    fields = {name: getattr(statistic, name).detach().clone().requires_grad_() for name in statistic.leaves}
    return replace(statistic, **fields) if fields else statistic  # type: ignore[type-var]


def row_influence(
    natural: Tensor, statistics: Sequence[Statistic], sample: Sample, known: dict[int, Tensor] | None = None
) -> Tensor:
    """Influence of each sampled row on a function of the statistics, (m,) float64, summing to zero.

    Args:
        natural: Scalar.
        statistics: What it is a function of.
        sample: The sampled rows.
        known: What was found for scalars so far: read-outs that differ in their display alone share one.
    """
    if known is not None and id(natural) in known:
        return known[id(natural)]
    total = torch.zeros(sample.m, dtype=torch.float64, device=sample.features.device)
    if natural.requires_grad:
        for statistic in statistics:
            total += _contribution(natural, statistic, sample)
    centred = total - total.mean()
    if known is not None:
        known[id(natural)] = centred
    return centred


def _contribution(natural: Tensor, statistic: Statistic, sample: Sample) -> Tensor:
    nothing = torch.zeros(sample.m, dtype=torch.float64, device=sample.features.device)
    if not isinstance(statistic, Differentiable) or not statistic.leaves:
        return nothing
    leaves = {name: getattr(statistic, name) for name in statistic.leaves}
    slopes: list[Tensor | None] = [
        *torch.autograd.grad(natural, list(leaves.values()), retain_graph=True, allow_unused=True)
    ]
    if all(slope is None for slope in slopes):
        return nothing
    gradient = {  # a leaf that the value does not depend on has the slope 0
        name: torch.zeros_like(leaves[name]) if slope is None else slope
        for name, slope in zip(leaves, slopes, strict=True)
    }
    with torch.no_grad():
        return statistic.influence(gradient, sample)


def variance_of_mean(influence: Tensor, n: int) -> float:
    """Variance of an estimate from n independent rows with this influence on some of them."""
    return float(influence.var(correction=1)) / n if len(influence) > 1 else math.inf


def design_effect(influence: Tensor, clusters: Tensor | None, share: float) -> float:
    """How many times larger the variance is because rows of one cluster move together, at least 1.

    Influence is summed by cluster first (Liang and Zeger 1986); a cluster of which only a share of the rows was sampled
    counts for all of them. Where nothing is known of the influence, rows of a cluster count as copies of each other.

    Args:
        influence: (m,), summing to zero.
        clusters: (m,) int64, None when rows are independent.
        share: Sampled rows over all rows.
    """
    if clusters is None:
        return 1.0
    _, codes, sizes = clusters.unique(return_inverse=True, return_counts=True)
    groups, own = len(sizes), float(influence.square().sum())
    if groups < 2 or own == 0:
        return max(1.0, float((sizes / share).square().sum()) / (len(clusters) / share))
    sums = torch.zeros(groups, dtype=torch.float64, device=influence.device).index_add_(0, codes, influence)
    together = float(sums.square().sum()) * groups / (groups - 1)
    return max(1.0, (together / own - (1 - share)) / share)


def centred_influence(terms: Tensor) -> Tensor:
    """Terms (m,) as an influence, float64: they sum to zero and carry no gradient."""
    plain = terms.detach().double()
    return plain - plain.mean()


def cluster_count(clusters: Tensor | None) -> int | None:
    """Number of clusters, None when rows are independent."""
    return None if clusters is None else len(clusters.unique())


def measured(
    readout: Readout,
    statistics: Sequence[Statistic],
    sample: Sample,
    n: int,
    levels: Sequence[float],
    limits: tuple[float, float],
    known: dict[int, Tensor] | None = None,
    *,
    intervals: bool = True,
) -> Measured | Refusal:
    """The value, standard error, influence and intervals of a read-out, or the refusal of its guard.

    The interval is that at the first level.
    """
    if readout.guard is not None and not _holds(readout.guard, statistics, sample, n):
        return readout.guard.refusal
    groups = cluster_count(sample.clusters)
    alone = _alone(sample, groups)
    if alone is not None:
        return alone
    if not intervals:
        return Measured(_clamp(float(readout.display(readout.natural.detach())), limits), None, math.nan, None)
    readout = readout.settled()
    rows = readout.n or n
    given = readout.influence
    influence = row_influence(readout.natural, statistics, sample, known) if given is None else centred_influence(given)
    effect = design_effect(influence, sample.clusters, sample.share)
    readout = _for_clusters(readout, effect, groups)
    variance = variance_of_mean(influence, rows) if readout.variance is None else readout.variance
    apart = (variance - variance_of_mean(influence, rows)) * effect
    error = math.sqrt(variance * readout.inflation * effect)
    if math.isinf(error):
        return Refusal("inconclusive", f"few_rows: {rows} rows have no spread to judge by; it needs at least 2", 2)
    value = _clamp(float(readout.display(readout.natural.detach())), limits)
    if not math.isfinite(value):
        return Measured(value, None, math.nan, influence)

    def around(level: float) -> tuple[float, float]:
        low, high = _interval(readout, error, level)
        return min(_clamp(low, limits), value), max(_clamp(high, limits), value)

    interval = around(levels[0])
    slope = _slope(readout, error, interval, quantile(levels[0], readout.comparisons, readout.degrees))
    unpaired = apart * slope * slope if apart > 0 else 0.0
    further = {level: around(level) for level in levels[1:]}
    return Measured(value, interval, abs(slope) * error, influence * slope, unpaired, further)


def _alone(sample: Sample, groups: int | None) -> Refusal | None:
    """The refusal of a single row, or of rows that are all of one cluster: nothing tells how they spread."""
    if groups is not None and groups < 2:
        return Refusal("inconclusive", "few_clusters: all rows are of one cluster; it needs at least 2, better 30")
    if sample.m < 2:
        return Refusal("inconclusive", f"few_rows: {sample.m} rows have no spread to judge by; it needs at least 2", 2)
    return None


def _for_clusters(readout: Readout, effect: float, groups: int | None) -> Readout:
    """The read-out with as many trials and degrees of freedom as its clusters leave."""
    if groups is None:
        return readout
    ends = readout.interval
    return replace(
        readout,
        trials=None if readout.trials is None else readout.trials / effect,
        degrees=groups - 1 if readout.degrees is None else min(readout.degrees, groups - 1),
        interval=None if ends is None else lambda z: ends(z * math.sqrt(effect)),
    )


def _holds(guard: Guard, statistics: Sequence[Statistic], sample: Sample, n: int) -> bool:
    influence = row_influence(guard.quantity, statistics, sample)
    effect = design_effect(influence, sample.clusters, sample.share)
    return guard.quantity.item() > guard.errors * math.sqrt(variance_of_mean(influence, n) * effect)


def _interval(readout: Readout, error: float, confidence: float) -> tuple[float, float]:
    z = quantile(confidence, readout.comparisons, readout.degrees)
    centre = readout.natural.detach()
    ends = (centre.item() - z * error, centre.item() + z * error)
    if readout.interval is not None:
        low, high = readout.interval(z)
        continuous = readout.natural.requires_grad  # a count of things whose weights are estimated themselves
        return (min(low, ends[0]), max(high, ends[1])) if continuous else (low, high)
    if readout.trials is not None:
        ends = wilson(centre.item(), readout.trials, z, (1 - confidence) / readout.comparisons)
    low, high = sorted(readout.display(torch.tensor(end, dtype=torch.float64)).item() for end in ends)
    return low, high


def _slope(readout: Readout, error: float, interval: tuple[float, float], z: float) -> float:
    """Derivative of the displayed by the natural value; across a kink, the slope of the interval."""
    centre = readout.natural.detach().clone().requires_grad_()
    shown = readout.display(centre)
    slope = 1.0 if shown is centre else float(torch.autograd.grad(shown, centre)[0])
    if math.isfinite(slope) and slope != 0:
        return slope
    return (interval[1] - interval[0]) / (2 * z * error) if error > 0 else 1.0


def _clamp(number: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return number if math.isnan(number) else min(max(number, low), high)


def proportion(correct: Tensor, *, method: str = "Wilson", comparisons: int = 1, k: int | None = None) -> Readout:
    """A read-out for the share of rows (m,) bool that have something."""
    terms = correct.double()
    return Readout(
        terms.mean(),
        influence=terms - terms.mean(),
        trials=len(terms),
        comparisons=comparisons,
        n=len(terms),
        k=k,
        method=method,
    )


def row_mean(terms: Tensor, *, method: str = "mean over rows", detail: str | None = None) -> Readout:
    """A read-out for the mean of one number a row, (m,)."""
    terms = terms.double()
    return Readout(terms.mean(), influence=terms - terms.mean(), n=len(terms), method=method, detail=detail)


def noted(detail: str | None, note: str) -> str:
    """What is said of a value, and one thing more."""
    return f"{detail}; {note}" if detail else note
