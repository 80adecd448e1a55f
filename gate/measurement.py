"""`gate.measure`: the geometry of plain arrays, the door for notebooks and tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.estimate import Estimate, address_of, estimate, statistics_for
from gate.geometry import registry
from gate.geometry.statistics import (
    COLUMNS,
    Batch,
    Codes,
    Collection,
    Statistic,
    items_of,
    read_columns,
    token_means,
    token_terms,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from gate.geometry.registry import Metric

_ROWS_AT_ONCE = 32768


def measure(  # noqa: PLR0913 - one parameter for everything that features can come with
    features: Tensor | np.ndarray[Any, Any],
    *,
    ids: Sequence[object] | None = None,
    metrics: Sequence[str] | None = None,
    reference: Tensor | np.ndarray[Any, Any] | Mapping[str, Any] | None = None,
    ood: Tensor | np.ndarray[Any, Any] | Mapping[str, Any] | None = None,
    shifted: Tensor | np.ndarray[Any, Any] | Mapping[str, Any] | None = None,
    weights: Mapping[str, Tensor | np.ndarray[Any, Any]] | None = None,
    outputs: Sequence[object] | None = None,
    token_mask: Tensor | np.ndarray[Any, Any] | None = None,
    token_outputs: Tensor | np.ndarray[Any, Any] | None = None,
    seed: int = 0,
    confidence: float = 0.95,
    **columns: object,
) -> dict[str, Estimate]:
    """Measures the geometry of features.

    Args:
        features: Rows (n, d), a numpy array or a tensor on any device.
        ids: Unique sample ids; row numbers when there are none.
        metrics: Addresses `id` (the value and all read-outs) or `id.readout`; all metrics when None.
        reference: Rows (r, d) of the training set, apart from the probe set; a mapping when they come with columns:
            `{"features": rows, "labels": ...}`.
        ood: Rows out of distribution.
        shifted: The probe set under a shift, such as another preprocessing.
        weights: Tensors of the model by name: "head.weight" (C, d), "head.bias" (C,), "codebook" (K, d).
        outputs: Class names of the columns of `logits`; by default 0, 1, ... or, where the labels are others and as
            many, the sorted labels.
        token_mask: (n, T), true for a real token, where `tokens` gives token states (n, T, d) by layer.
        token_outputs: (n, T), true for a generated token.
        seed: Of the hash that picks the sampled rows.
        confidence: Two-sided level of the intervals, in (0, 1).
        columns: What is known of each row, by the names of `gate.geometry.statistics.COLUMNS`: `labels`, `groups`,
            `clusters`, `logits`, ... Token states (n, T, d) in `tokens` and `baseline_tokens`, by layer, are reduced to
            their terms at once. With `baseline` (n, e), the features of the version to compare with on the same
            rows, every estimate carries `change`, the paired difference.

    Returns:
        Address → estimate. A metric that these features do not admit answers with a status and a reason.

    Raises:
        MetricError: The features are not rows, a column is unknown or has another length, an id occurs twice, or a
            metric is unknown.
    """
    if not 0 < confidence < 1:
        raise MetricError(f"confidence must lie between 0 and 1, found {confidence!r}")
    wanted = _selected(metrics)
    kinds = statistics_for(wanted)
    given = {name: values for name, values in columns.items() if values is not None}
    rows = _without_states(given, token_mask, token_outputs)
    names = _output_names(outputs, rows)
    parts = {"reference": reference, "ood": ood, "shifted": shifted}
    others = [_other(values, split, kinds, names, seed) for split, values in parts.items() if values is not None]
    tensors = {name: torch.as_tensor(tensor) for name, tensor in (weights or {}).items()}
    about = {"weights": tensors, "outputs": names, "seed": seed}
    candidate = reduce(Collection.merge, [_collect(_tensor(features), ids, rows, kinds, about), *others])
    result = _addressed(wanted, candidate, confidence)
    if rows.get("baseline") is None:
        return result
    earlier = _collect(
        _tensor(cast("Tensor", rows["baseline"])), ids, _of_baseline(rows), kinds, {**about, "weights": {}}
    )
    other = _addressed(wanted, earlier, confidence)
    return {address: _with_change(found, other[address]) for address, found in result.items()}


def _of_baseline(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of the same rows as the baseline model makes them."""
    kept = {name: values for name, values in columns.items() if name in COLUMNS and COLUMNS[name].source == "probe"}
    own = {"logits": "baseline_logits", "tokens": "baseline_tokens"}
    return {**kept, **{name: columns[source] for name, source in own.items() if source in columns}}


def _without_states(columns: Mapping[str, Any], mask: Any, outputs: Any) -> dict[str, Any]:  # noqa: ANN401 - arrays
    """Token states (n, T, d) replaced by their terms, and by the mean token of the last layer."""
    result = dict(columns)
    real, generated = (None if each is None else torch.as_tensor(each) for each in (mask, outputs))
    for name in ("tokens", "baseline_tokens"):
        layers = {layer: torch.as_tensor(states) for layer, states in dict(columns.get(name, {})).items()}
        if layers:
            result[name] = {
                layer: token_terms(states, real, generated) if states.ndim == 3 else states
                for layer, states in layers.items()
            }
            last = list(layers.values())[-1]
            if name == "tokens" and last.ndim == 3:
                result.setdefault("token_mean", token_means(last, real))
    return result


def _with_change(found: Estimate, baseline: Estimate) -> Estimate:
    """The estimate with its paired difference, unless it compares two versions itself."""
    needs = registry.find(found.metric)[0].needs
    if "baseline" in needs or "baseline_logits" in needs:
        return found
    return replace(found, change=found.minus(baseline))


def _output_names(outputs: Sequence[object] | None, columns: Mapping[str, Any]) -> tuple[str, ...] | None:
    if outputs is not None:
        return tuple(str(name) for name in outputs)
    logits = columns.get("logits")
    if logits is None or not hasattr(logits, "shape") or len(logits.shape) != 2:
        return None
    numbered = tuple(str(code) for code in range(logits.shape[1]))
    labels = columns.get("labels")
    if labels is None:
        return numbered
    found = Codes.of(items_of(labels)).names
    if set(found) <= set(numbered) or len(found) != len(numbered):
        return numbered
    return tuple(sorted(found, key=int)) if all(name.isdecimal() for name in found) else found  # 2 before 10


def _other(
    values: Any,  # noqa: ANN401 - an array, or a mapping with one
    split: str,
    kinds: tuple[type[Statistic], ...],
    names: tuple[str, ...] | None,
    seed: int,
) -> Collection:
    given = dict(values) if isinstance(values, Mapping) else {"features": values}
    if given.get("features") is None:
        raise MetricError(f"{split} rows need their features, found {sorted(given)}")
    ids = given.pop("ids", None)
    rows = _tensor(given.pop("features"))
    return _collect(rows, ids, given, kinds, {"split": split, "outputs": names, "seed": seed})


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
    about: Mapping[str, Any],
) -> Collection:
    if features.ndim != 2 or 0 in features.shape:
        raise MetricError(
            f"features must be rows (n, d) with at least one of each, found shape {tuple(features.shape)}"
        )
    names = [str(row) for row in (range(len(features)) if ids is None else ids)]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise MetricError(f"duplicate_ids: sample ids must be unique, {twice!r} occurs more than once")
    if len(names) != len(features):
        raise MetricError(f"ids must have one entry for each of the {len(features)} rows, found {len(names)}")
    read = read_columns(columns, len(features), features.device)
    parts = (
        Collection.of(
            _batch(
                features[start : start + _ROWS_AT_ONCE],
                names[start : start + _ROWS_AT_ONCE],
                {name: _rows(column, slice(start, start + _ROWS_AT_ONCE)) for name, column in read.items()},
                about,
            ),
            kinds,
        )
        for start in range(0, len(features), _ROWS_AT_ONCE)
    )
    return reduce(Collection.merge, parts)


def _batch(features: Tensor, ids: Sequence[str], columns: Mapping[str, Any], about: Mapping[str, Any]) -> Batch:
    return Batch.of(features, ids=ids, **about, **columns)


def _rows(column: Codes | Tensor, rows: slice) -> Codes | Tensor:
    return Codes(column.names, column.values[rows]) if isinstance(column, Codes) else column[rows]
