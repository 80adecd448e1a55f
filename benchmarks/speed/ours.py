"""The suite, called as a user calls it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
_VALUES = "ours, values only: "
_INTERVALS = "ours, with intervals: "


def measured(metrics: tuple[str, ...], *, intervals: bool) -> Callable[[Data], Call]:
    """`gate.measure` of some metrics, with influence and intervals or without."""

    def prepare(data: Data) -> Call:
        from gate import measure

        features, columns = _rows_for(metrics, data)

        def call() -> object:
            found = measure(features, metrics=metrics, intervals=intervals, **columns)
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


def _search(data: Data) -> Call:
    from gate.geometry.methods.search import nearest

    rows = data.tensor(data.searched)
    return lambda: nearest(rows, 20).cpu()


OURS: Mapping[str, Callable[[Data], Call]] = {
    WITH_INTERVALS: measured(MOMENT_AND_CLASS_METRICS, intervals=True),
    VALUES_ONLY: measured(MOMENT_AND_CLASS_METRICS, intervals=False),
    SEARCH: _search,
}


def named(metrics: tuple[str, ...], *, intervals: bool) -> str:
    """The name under which some metrics of ours are measured."""
    return SEARCH if metrics == (SEARCH,) else f"{_INTERVALS if intervals else _VALUES}{', '.join(metrics)}"


def prepare(name: str) -> Callable[[Data], Call]:
    """The contender of a name."""
    intervals = name.startswith(_INTERVALS)
    metrics = tuple(name.removeprefix(_INTERVALS).removeprefix(_VALUES).split(", "))
    return OURS.get(name) or measured(metrics, intervals=intervals)
