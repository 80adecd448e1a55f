"""A metric of some features, with its uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry import influence as uncertainty
from gate.geometry import registry
from gate.geometry.influence import Measured, Readout, Refusal
from gate.geometry.intervals import quantile
from gate.geometry.registry import VALUE, Metric
from gate.geometry.statistics import Collection, Sample, Statistic, UnitClassMoments, UnitMoments, UnitSpectrum
from gate.geometry.statistics.precision import full_precision

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


Status = Literal["ok", "not_applicable", "inconclusive", "error"]
_ZERO_ROWS = 0.05  # more rows without a direction are a fault of the model that metrics of directions would not show


@dataclass(frozen=True)
class Influence:
    """How much each sampled row moves a value.

    Attributes:
        ids: The m sampled rows.
        values: (m,) float64, summing to zero.
        clusters: (m,) int64, equal for rows that are not independent; None when every row is.
        share: Sampled rows over all rows.
    """

    ids: tuple[str, ...]
    values: Tensor
    clusters: Tensor | None = None
    share: float = 1.0

    def variance(self, n: int) -> float:
        """Variance of the value over n rows."""
        effect = uncertainty.design_effect(self.values, self.clusters, self.share)
        return uncertainty.variance_of_mean(self.values, n) * effect


@dataclass(frozen=True)
class Estimate:
    """One number of one metric, or the reason why there is none.

    Attributes:
        metric: `id` or `id.readout`.
        status: `ok`; `not_applicable`, the question does not exist here; `inconclusive`, other data could answer it;
            `error`, the features admit no metric.
        reason: A sentence that begins with a reason code, None when ok.
        value: In the metric's unit; not finite only where the metric says so.
        interval: Two-sided interval at `confidence`; None, as is the standard error, where none was asked for.
        standard_error: Of the value.
        n, d, c, k: Rows, feature dimension, classes, neighbours.
        n_needed: Rows with which an inconclusive one could be answered.
        method: How the uncertainty came about.
        confidence: Two-sided level.
        influence: Of the sampled rows.
        detail, breakdown: Which pair is worst, the value of every class.
        params: As the policy or the caller set them, with defaults.
        unpaired: Part of the variance that no influence of the sampled rows carries.
        inflation: Factor of the variance that influence carries.
        trials: Effective rows of a proportion.
        change: Paired difference to the baseline on the same rows, where there is a baseline.
    """

    metric: str
    status: Status
    reason: str | None
    value: float | None
    interval: tuple[float, float] | None
    standard_error: float | None
    n: int
    d: int
    c: int | None
    k: int | None
    n_needed: int | None
    method: str
    confidence: float
    influence: Influence | None = field(repr=False)
    detail: str | None
    breakdown: Mapping[str, float] | None = field(repr=False)
    params: Mapping[str, Any]
    unpaired: float = field(default=0.0, repr=False)
    inflation: float = field(default=1.0, repr=False)
    trials: float | None = field(default=None, repr=False)
    change: Estimate | None = field(default=None, repr=False)

    def minus(self, baseline: Estimate) -> Estimate:
        """The paired difference to a baseline measured on the same rows: its error is that of the influence difference.

        Raises:
            MetricError: The two were measured on other rows.
        """
        worse = self if self.status != "ok" else baseline
        mine, other = self.influence, baseline.influence
        if worse.status == "ok" and (mine is None or other is None):
            reason = "no_intervals: a difference needs estimates that were measured with intervals"
            return replace(self, status="error", reason=reason, **_NOTHING)
        if worse.status != "ok" or mine is None or other is None or self.value is None or baseline.value is None:
            return replace(worse, **_NOTHING)
        if mine.ids != other.ids:
            raise MetricError(f"{self.metric}: candidate and baseline must be measured on the same rows to be compared")
        gap = replace(mine, values=mine.values - other.values)
        difference = self.value - baseline.value
        if not math.isfinite(difference):
            return replace(self, status="error", reason="not_finite: the difference is not a number", **_NOTHING)
        error, interval, method = _paired(self, baseline, gap, difference)
        return replace(
            self,
            value=difference,
            interval=interval,
            standard_error=error,
            method=method,
            influence=gap,
            detail=None,
            breakdown=None,
            change=None,
        )


_NOTHING: dict[str, Any] = {"value": None, "interval": None, "standard_error": None, "influence": None, "change": None}


def _paired(
    candidate: Estimate, baseline: Estimate, gap: Influence, difference: float
) -> tuple[float, tuple[float, float], str]:
    """Standard error, interval and method of a difference.

    A proportion gets half a row added to each way of differing (Agresti and Min 2005); what is counted or a maximum
    has no influence to pair, so that the two intervals are set against each other.
    """
    grown = max(candidate.inflation, baseline.inflation)
    error = math.sqrt(gap.variance(candidate.n) * grown + candidate.unpaired + baseline.unpaired)
    unpaired = candidate.method.startswith(("count", "block maxima"))
    if unpaired and candidate.interval is not None and baseline.interval is not None:
        low, high = candidate.interval[0] - baseline.interval[1], candidate.interval[1] - baseline.interval[0]
        return error, (low, high), f"difference of intervals, {candidate.method}"
    if candidate.method.startswith("Wilson"):
        rows = min([candidate.n, *(each.trials for each in (candidate, baseline) if each.trials is not None)])
        error = math.sqrt(error**2 + 2 / rows**2)
    groups = uncertainty.cluster_count(gap.clusters)
    degrees = None if groups is None else max(groups - 1, 1)
    reach = quantile(candidate.confidence, degrees=degrees) * error
    return error, (difference - reach, difference + reach), f"paired difference, {candidate.method}"


def statistics_for(metrics: Iterable[Metric]) -> tuple[type[Statistic], ...]:
    """The statistics that some metrics read, each once."""
    return tuple(dict.fromkeys(kind for each in metrics for kind in each.statistics.values()))


@full_precision()
def estimate(
    found: Metric,
    collection: Collection,
    *,
    confidence: float = 0.95,
    params: Mapping[str, Any] | None = None,
    readouts: Iterable[str] | None = None,
    intervals: bool = True,
) -> dict[str, Estimate]:
    """The value and the read-outs of a metric, by address.

    Args:
        found: The metric.
        collection: Statistics of the features, with all that the metric reads.
        confidence: Two-sided level of the intervals.
        params: Parameters of the metric that differ from their defaults.
        readouts: "value" and names of read-outs; all when None.
        intervals: Whether to find how sure each number is; without, nothing can be judged by it.
    """
    wanted = [VALUE, *found.readouts] if readouts is None else list(readouts)
    blank = _blank(found, collection, confidence, params or {})
    try:
        _require_finite(found, collection)
        answers, statistics = _ask(found, collection, params or {}, wanted)
    except (MetricError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        refused = replace(blank, status="error", reason=str(error))
        return {address: replace(refused, metric=address) for address in (address_of(found, name) for name in wanted)}
    given = _Given(statistics, collection, intervals)
    return {
        address_of(found, readout): _estimated(
            replace(blank, metric=address_of(found, readout)), answer, given, found.limits_of(readout)
        )
        for readout, answer in answers.items()
    }


def address_of(found: Metric, readout: str) -> str:
    """`id` for the value of a metric, `id.readout` for another read-out."""
    return found.name if readout == VALUE else f"{found.name}.{readout}"


def _blank(found: Metric, collection: Collection, confidence: float, params: Mapping[str, Any]) -> Estimate:
    census, labels = collection.census, collection.sample.rows.labels
    return Estimate(
        metric=found.name,
        status="ok",
        reason=None,
        value=None,
        interval=None,
        standard_error=None,
        n=census.n,
        d=census.d,
        c=None if labels is None else len(labels.names),
        k=None,
        n_needed=None,
        method="none",
        confidence=confidence,
        influence=None,
        detail=None,
        breakdown=None,
        params={**found.params, **params},
    )


def _ask(
    found: Metric, collection: Collection, params: Mapping[str, Any], wanted: Sequence[str]
) -> tuple[dict[str, registry.Answer], list[Statistic]]:
    missing = collection.sample.rows.missing(found.needs)
    given = {name: collection.get(kind) for name, kind in found.statistics.items()}
    missing += [
        f"{found.statistics[name].split} rows"
        for name, statistic in given.items()
        if statistic is None and name not in found.optional and found.statistics[name].split != Sample.split
    ]
    if missing:
        what = " and ".join(dict.fromkeys(missing))
        return dict.fromkeys(wanted, uncertainty.missing_input(what)), []
    reads_directions = "row_scaling" in found.invariant_to and "translation" not in found.invariant_to
    zeros = collection.sample.zero_share() if reads_directions else 0.0
    if _ZERO_ROWS < zeros < 1:
        reason = f"zero_rows: {zeros:.0%} of the sampled rows are zero and have no direction; mend the model"
        return dict.fromkeys(wanted, Refusal("inconclusive", reason)), []
    arguments = {
        name: None if statistic is None else uncertainty.tracked(statistic) for name, statistic in given.items()
    }
    return registry.answers(found, arguments, params, wanted), [each for each in arguments.values() if each is not None]


def _require_finite(found: Metric, collection: Collection) -> None:
    """Refuses NaN and infinity in whatever the metric may read, on any of the rows."""
    asked = (*found.needs, *found.reads)
    for split, census in collection.censuses.items():
        census.require_finite(asked, split)
    for name, tensor in collection.sample.rows.weights.items():
        if name.partition(".")[0] in asked and not bool(torch.isfinite(tensor).all()):
            raise MetricError(f"nonfinite_weights: {name} holds NaN or infinity; no metric is defined on it")


@dataclass(frozen=True)
class _Given:
    """What the read-outs of one metric were computed from, and the influences found so far."""

    statistics: Sequence[Statistic]
    collection: Collection
    intervals: bool
    known: dict[int, Tensor] = field(default_factory=dict)


def _estimated(blank: Estimate, answer: registry.Answer, given: _Given, limits: tuple[float, float]) -> Estimate:
    if isinstance(answer, Refusal):
        return _refused(blank, answer)
    readout = Readout(answer) if isinstance(answer, Tensor) else answer
    sample = given.collection.sample
    n = readout.n or given.collection.census.n
    directions = (each for each in given.statistics if isinstance(each, UnitMoments | UnitClassMoments | UnitSpectrum))
    zero_rows = max((n - each.n for each in directions if each.split == Sample.split), default=0)
    try:
        found = uncertainty.measured(
            readout, given.statistics, sample, n, blank.confidence, limits, given.known, intervals=given.intervals
        )
    except (MetricError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        return replace(blank, status="error", reason=str(error))
    if isinstance(found, Refusal):
        return _refused(blank, found)
    if math.isnan(found.value) or (found.interval is not None and any(map(math.isnan, found.interval))):
        return replace(
            blank, status="error", reason="not_finite: the features leave the range of floating-point numbers"
        )
    estimate = _filled(blank, readout, found, sample, n)
    if zero_rows <= 0:
        return estimate
    note = f"{zero_rows} zero rows have no direction and are left out"
    return replace(estimate, detail=uncertainty.noted(estimate.detail, note))


def _refused(blank: Estimate, refusal: Refusal) -> Estimate:
    return replace(blank, status=refusal.status, reason=refusal.reason, n_needed=refusal.n_needed)


def _filled(blank: Estimate, readout: Readout, found: Measured, sample: Sample, n: int) -> Estimate:
    groups = uncertainty.cluster_count(sample.clusters)
    method = readout.method if groups is None else f"{readout.method}, {groups} clusters"
    return replace(
        blank,
        value=found.value,
        interval=found.interval,
        standard_error=found.standard_error if math.isfinite(found.standard_error) else None,
        n=n,
        c=readout.c or blank.c,
        k=readout.k,
        method="none" if found.influence is None else method,
        influence=None
        if found.influence is None
        else Influence(sample.ids, found.influence, sample.clusters, sample.share),
        detail=readout.detail,
        breakdown=readout.breakdown,
        unpaired=found.unpaired,
        inflation=readout.inflation,
        trials=readout.trials,
    )
