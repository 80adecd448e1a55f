"""From the statistics of some features to the estimates of a metric and its read-outs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.estimate import Estimate, Influence
from gate.geometry import influence as uncertainty
from gate.geometry import registry
from gate.geometry.influence import Measured, Readout, Refusal
from gate.geometry.registry import VALUE, Metric
from gate.geometry.statistics import Collection, Sample, Statistic, UnitClassMoments, UnitMoments, UnitSpectrum
from gate.geometry.statistics.precision import full_precision

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_ZERO_ROWS = 0.05  # more rows without a direction are a fault of the model that metrics of directions would not show


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
    levels: Sequence[float] = (),
) -> dict[str, Estimate]:
    """The value and the read-outs of a metric, by address.

    Args:
        found: The metric.
        collection: Statistics of the features, with all that the metric reads.
        confidence: Two-sided level of the intervals.
        params: Parameters of the metric that differ from their defaults.
        readouts: "value" and names of read-outs; all when None.
        intervals: Whether to find how sure each number is; without, nothing can be judged by it.
        levels: Further levels at which an interval is wanted.
    """
    wanted = [VALUE, *found.readouts] if readouts is None else list(readouts)
    blank = _blank(found, collection, confidence, params or {})
    try:
        _require_finite(found, collection)
        answers, statistics = _ask(found, collection, params or {}, wanted)
    except (MetricError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        refused = replace(blank, status="error", reason=str(error))
        return {address: replace(refused, metric=address) for address in (address_of(found, name) for name in wanted)}
    given = _Given(statistics, collection, intervals, (confidence, *levels))
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
    levels: tuple[float, ...]
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
            readout, given.statistics, sample, n, given.levels, limits, given.known, intervals=given.intervals
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
        intervals=found.intervals,
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
