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
            values = [found[name.removesuffix(".value")] for name in metrics]
            refused = [f"{each.metric}: {each.reason}" for each in values if each.status != "ok"]
            if refused:
                raise ValueError("; ".join(refused))
            return found

        return call

    return prepare


def _rows_for(metrics: tuple[str, ...], data: Data) -> tuple[Tensor, dict[str, Any]]:
    features, labels = data.tensor(data.features), data.tensor(data.labels)
    if metrics == ("mahalanobis_ood_auroc.value",):
        training = {"features": features, "labels": labels}
        return data.tensor(data.judged), {"reference": training, "ood": data.tensor(data.ood)}
    if metrics == ("cka_debiased.value",):
        return features, {"baseline": data.tensor(data.second)}
    return features, {"labels": labels}


def _values_only(data: Data) -> Call:
    """The statistics and the values, with neither influence nor intervals."""
    import torch

    from gate.estimate import statistics_for
    from gate.geometry import registry
    from gate.geometry.statistics import Batch, Collection, hash_numbers

    found = [registry.find(name)[0] for name in MOMENT_AND_CLASS_METRICS]
    kinds = statistics_for(found)
    features, labels = data.tensor(data.features), data.tensor(data.labels)

    def part(start: int) -> Collection:
        rows = slice(start, start + _ROWS_AT_ONCE)
        numbers = torch.arange(start, start + len(features[rows]))
        ids, hashes = [str(number) for number in numbers.tolist()], hash_numbers(numbers)
        return Collection.of(Batch.of(features[rows], ids=ids, hashes=hashes, labels=labels[rows]), kinds)

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
