"""A metric of some features, with its uncertainty: the value that every layer above judges, records and compares."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

from gate.errors import MetricError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

Status = Literal["ok", "not_applicable", "inconclusive", "error"]


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
        from gate.geometry import influence as uncertainty

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
        intervals: Level → interval at further levels, where they were asked for.
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
    intervals: Mapping[float, tuple[float, float]] = field(default_factory=dict, repr=False)
    change: Estimate | None = field(default=None, repr=False)

    def at(self, confidence: float) -> Estimate:
        """The same estimate with its interval at another level: at the next known one above it, never a narrower one.

        Where no interval of that level or more is known, nothing can be decided at it.
        """
        known = {level: ends for level, ends in self.intervals.items() if all(map(is_number, ends))}
        if self.interval is not None:
            known[self.confidence] = self.interval
        if self.status != "ok" or not known:
            return self
        level = level_for(confidence, known)
        if level is None:
            reason = f"no_interval: an interval of {confidence:.6g} is asked for, the widest known is {max(known):.6g}"
            return replace(self, status="inconclusive", reason=reason, interval=None, confidence=confidence)
        return replace(self, interval=known[level], confidence=level)

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
            told = worse.reason if worse is self else qualified(worse.reason, "in the baseline")
            return replace(worse, reason=told, **_NOTHING)
        if mine.ids != other.ids:
            raise MetricError(f"{self.metric}: candidate and baseline must be measured on the same rows to be compared")
        gap = replace(mine, values=mine.values - other.values)
        difference = self.value - baseline.value
        if not math.isfinite(difference):
            return replace(self, status="error", reason="not_finite: the difference is not a number", **_NOTHING)
        error, ends, method = _paired(self, baseline, gap, difference)
        return replace(
            self,
            value=difference,
            interval=ends(self.confidence),
            intervals={level: ends(level) for level in self.intervals},
            standard_error=error,
            method=method,
            influence=gap,
            detail=None,
            breakdown=None,
            change=None,
        )


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a finite number; True is none."""
    if type(value) is float:  # nearly always; a document has thousands of them
        return -_LARGEST <= value <= _LARGEST
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def level_for(confidence: float, known: Iterable[float]) -> float | None:
    """Which of some levels answers for a confidence: the next one above it, None where all are lower."""
    return min((level for level in known if level >= confidence - _SAME_LEVEL), default=None)


def qualified(reason: str | None, whose: str) -> str | None:
    """A reason with whose it is, after its code: `zero_rows: in the baseline, …`."""
    code, colon, sentence = (reason or "").partition(": ")
    return f"{code}{colon}{whose}, {sentence}" if colon else reason


_SAME_LEVEL = 1e-12
_LARGEST = sys.float_info.max  # of whole numbers some are larger, and no float
_NOTHING: dict[str, Any] = {
    "value": None,
    "interval": None,
    "intervals": {},
    "standard_error": None,
    "influence": None,
    "change": None,
}


def _paired(
    candidate: Estimate, baseline: Estimate, gap: Influence, difference: float
) -> tuple[float, Callable[[float], tuple[float, float]], str]:
    """Standard error, interval at a level, and method of a difference.

    A proportion gets half a row added to each way of differing (Agresti and Min 2005); what is counted or a maximum
    has no influence to pair, so that the two intervals are set against each other. Of all others the interval leans as
    those of the two do, each by the share that it has in the difference: a quantity that is known up to a factor, such
    as a ratio, is less certain above than below.
    """
    from gate.geometry.influence import cluster_count
    from gate.geometry.intervals import quantile

    grown = max(candidate.inflation, baseline.inflation)
    error = math.sqrt(gap.variance(candidate.n) * grown + candidate.unpaired + baseline.unpaired)
    if candidate.method.startswith(("count", "block maxima")):
        return error, partial(_set_against, candidate, baseline), f"difference of intervals, {candidate.method}"
    if candidate.method.startswith("Wilson"):
        rows = min([candidate.n, *(each.trials for each in (candidate, baseline) if each.trials is not None)])
        error = math.sqrt(error**2 + 2 / rows**2)
    groups = cluster_count(gap.clusters)
    degrees = None if groups is None else max(groups - 1, 1)
    mine, other = _shares(candidate, baseline, error)

    def ends(level: float) -> tuple[float, float]:
        reach = quantile(level, degrees=degrees) * error
        middle = difference + mine * _lean(candidate, level) - other * _lean(baseline, level)
        return min(middle - reach, difference), max(middle + reach, difference)

    return error, ends, f"paired difference, {candidate.method}"


def _shares(candidate: Estimate, baseline: Estimate, error: float) -> tuple[float, float]:
    """Squared correlation of each of the two with their difference, by the standard errors of all three."""
    mine, other = candidate.standard_error or 0.0, baseline.standard_error or 0.0
    if not (mine > 0 and other > 0 and error > 0):
        return 0.0, 0.0
    with_mine, with_other = mine**2 - other**2 + error**2, mine**2 - other**2 - error**2
    return min(1.0, (with_mine / (2 * mine * error)) ** 2), min(1.0, (with_other / (2 * other * error)) ** 2)


def _lean(estimate: Estimate, level: float) -> float:
    """How far the middle of an interval lies from its value."""
    interval = estimate.at(level).interval
    if interval is None or estimate.value is None or not all(map(math.isfinite, interval)):
        return 0.0
    return (interval[0] + interval[1]) / 2 - estimate.value


def _set_against(candidate: Estimate, baseline: Estimate, level: float) -> tuple[float, float]:
    mine, other = candidate.at(level).interval, baseline.at(level).interval
    return (-math.inf, math.inf) if mine is None or other is None else (mine[0] - other[1], mine[1] - other[0])
