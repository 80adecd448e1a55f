"""The suite, called as a user calls it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from benchmarks.speed.features import Data

Call = Callable[[], object]

SEARCH = "nearest rows"
MOMENT_AND_CLASS_METRICS = (
    "collapse_index",
    "effective_rank",
    "participation_ratio",
    "wasserstein_uniformity",
    "channel_spread",
    "mean_cosine",
    "dead_unit_share",
    "outlier_channel_ratio",
    "vci",
    "within_between_ratio",
    "cdnv",
    "class_separation_r2",
)
WITH_INTERVALS = "ours: all, with influence and intervals"
VALUES_ONLY = "ours: all, values only"
_ROWS_AT_ONCE = 32_768


def measured(metrics: tuple[str, ...]) -> Callable[[Data], Call]:
    """`gate.measure` of some metrics, with influence and intervals."""

    def prepare(data: Data) -> Call:
        from gate import measure

        features, columns = _rows_for(metrics, data)

        def call() -> object:
            found = measure(features, metrics=metrics, **columns)
            refused = [f"{name}: {found[name].reason}" for name in metrics if found[name].status != "ok"]
            if refused:
                raise ValueError("; ".join(refused))
            return found

        return call

    return prepare


def _rows_for(metrics: tuple[str, ...], data: Data) -> tuple[Tensor, dict[str, Any]]:
    features, labels = data.tensor(data.features), data.tensor(data.labels)
    if metrics == ("mahalanobis_ood_auroc",):
        training = {"features": features, "labels": labels}
        return data.tensor(data.judged), {"reference": training, "ood": data.tensor(data.ood)}
    if metrics == ("cka_debiased",):
        return features, {"baseline": data.tensor(data.second)}
    return features, {"labels": labels}


def _values_only(data: Data) -> Call:
    """The statistics and the values, with neither influence nor intervals."""
    from gate.estimate import statistics_for
    from gate.geometry import registry
    from gate.geometry.statistics import Batch, Collection

    found = [registry.find(name)[0] for name in MOMENT_AND_CLASS_METRICS]
    kinds = statistics_for(found)
    features, labels = data.tensor(data.features), data.tensor(data.labels)

    def part(start: int) -> Collection:
        rows = slice(start, start + _ROWS_AT_ONCE)
        ids = [str(row) for row in range(start, start + len(features[rows]))]
        return Collection.of(Batch.of(features[rows], ids=ids, labels=labels[rows]), kinds)

    def values() -> object:
        collection = reduce(Collection.merge, map(part, range(0, len(features), _ROWS_AT_ONCE)))
        return [
            registry.answers(each, {name: collection.get(kind) for name, kind in each.statistics.items()}, {})
            for each in found
        ]

    return values


def _search(data: Data) -> Call:
    from gate.geometry.methods.search import nearest

    rows = data.tensor(data.searched)
    return lambda: nearest(rows, 20).cpu()


OURS: Mapping[str, Callable[[Data], Call]] = {
    WITH_INTERVALS: measured(MOMENT_AND_CLASS_METRICS),
    VALUES_ONLY: _values_only,
    SEARCH: _search,
}


def named(metrics: tuple[str, ...]) -> str:
    """The name under which some metrics of ours are measured."""
    return SEARCH if metrics == (SEARCH,) else f"ours: {', '.join(metrics)}"


def prepare(name: str) -> Callable[[Data], Call]:
    """The contender of a name."""
    return OURS.get(name) or measured(tuple(name.removeprefix("ours: ").split(", ")))
