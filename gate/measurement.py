"""`gate.measure`: the geometry of plain arrays, the door for notebooks and tests."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.estimate import Estimate, address_of, estimate, statistics_for
from gate.geometry import registry
from gate.geometry.statistics import Batch, Collection, Statistic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from gate.geometry.registry import Metric

_ROWS_AT_ONCE = 8192


def measure(  # noqa: PLR0913 - one parameter for every column that rows can come with
    features: Tensor | np.ndarray[Any, Any],
    *,
    labels: Sequence[object] | Tensor | None = None,
    groups: Sequence[object] | Tensor | None = None,
    lengths: Sequence[float] | Tensor | None = None,
    ids: Sequence[object] | None = None,
    baseline: Tensor | np.ndarray[Any, Any] | None = None,
    metrics: Sequence[str] | None = None,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Estimate]:
    """Measures the geometry of features.

    Args:
        features: Rows (n, d), a numpy array or a tensor on any device.
        labels: Class of each row; class metrics are not applicable without.
        groups: Site, batch or speaker of each row.
        lengths: Tokens or seconds of each row.
        ids: Unique sample ids; row numbers when there are none.
        baseline: Rows (n, e) of the version to compare with, on the same samples: every estimate then carries `change`,
            the paired difference.
        metrics: Addresses `id` (the value and all read-outs) or `id.readout`; all metrics when None.
        seed: Of the hash that picks the sampled rows.
        confidence: Two-sided level of the intervals, in (0, 1).

    Returns:
        Address → estimate. A metric that these features do not admit answers with a status and a reason.

    Raises:
        MetricError: The features are not rows, a column has another length, an id occurs twice, or a metric is unknown.
    """
    if not 0 < confidence < 1:
        raise MetricError(f"confidence must lie between 0 and 1, found {confidence!r}")
    wanted = _selected(metrics)
    kinds = statistics_for(wanted)
    columns = {"labels": labels, "groups": groups, "lengths": lengths}
    candidate = _collect(_tensor(features), ids, columns, kinds, seed)
    result = _addressed(wanted, candidate, confidence)
    if baseline is None:
        return result
    other = _addressed(wanted, _collect(_tensor(baseline), ids, columns, kinds, seed), confidence)
    return {address: replace(found, change=found.minus(other[address])) for address, found in result.items()}


def _tensor(features: Tensor | np.ndarray[Any, Any]) -> Tensor:
    try:
        rows = torch.as_tensor(features)
    except (TypeError, ValueError, RuntimeError) as error:
        raise MetricError(f"features must be an array or a tensor of numbers: {error}") from None
    return rows.to_dense() if rows.is_sparse else rows


def _selected(addresses: Sequence[str] | None) -> dict[Metric, tuple[str, ...]]:
    if addresses is None:
        return {found: found.addresses() for found in registry.metrics().values()}
    if isinstance(addresses, str):
        raise MetricError(f"metrics must be a list of names, found the string {addresses!r}")
    wanted: dict[Metric, tuple[str, ...]] = {}
    for address in addresses:
        found, readout = registry.find(address)
        more = found.addresses() if address == found.name else (address_of(found, readout),)
        wanted[found] = tuple(dict.fromkeys((*wanted.get(found, ()), *more)))
    return wanted


def _addressed(
    wanted: Mapping[Metric, Sequence[str]], collection: Collection, confidence: float
) -> dict[str, Estimate]:
    result: dict[str, Estimate] = {}
    for found, addresses in wanted.items():
        every = estimate(found, collection, confidence=confidence)
        result.update({address: every[address] for address in addresses})
    return result


def _collect(
    features: Tensor,
    ids: Sequence[object] | None,
    columns: Mapping[str, Any],
    kinds: tuple[type[Statistic], ...],
    seed: int,
) -> Collection:
    if features.ndim != 2 or 0 in features.shape:
        raise MetricError(
            f"features must be rows (n, d) with at least one of each, found shape {tuple(features.shape)}"
        )
    names = [str(row) for row in (range(len(features)) if ids is None else ids)]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise MetricError(f"duplicate_ids: sample ids must be unique, {twice!r} occurs more than once")
    columns = {name: column for name, column in columns.items() if column is not None}
    for name, column in {"ids": names, **columns}.items():
        if len(column) != len(features):
            raise MetricError(f"{name} must have one entry for each of the {len(features)} rows, found {len(column)}")
    parts = (
        Collection.of(
            Batch.of(
                features[start : start + _ROWS_AT_ONCE],
                ids=names[start : start + _ROWS_AT_ONCE],
                seed=seed,
                **{name: column[start : start + _ROWS_AT_ONCE] for name, column in columns.items()},
            ),
            kinds,
        )
        for start in range(0, len(features), _ROWS_AT_ONCE)
    )
    return reduce(Collection.merge, parts)
