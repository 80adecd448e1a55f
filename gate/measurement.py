"""`gate.measure`: the geometry of plain arrays, the door for notebooks and tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.estimation import address_of, estimate, statistics_for
from gate.geometry import registry
from gate.geometry.statistics import (
    COLUMNS,
    Batch,
    Codes,
    Collection,
    Statistic,
    hash_numbers,
    items_of,
    output_names,
    read_columns,
    step_terms,
    token_means,
    token_terms,
)

if TYPE_CHECKING:
    from collections.abc import Sequence, ValuesView

    import numpy as np

    from gate.estimate import Estimate
    from gate.geometry.registry import Metric

_ROWS_AT_ONCE = 131072
_ROUNDING = 1e-3  # of probabilities
_ROWS_COPIED = 32768  # at once, of a precision that is not computed in
_VERSIONS = {"baseline", "baseline_logits"}  # a metric that needs one of these compares two versions itself
_OF_STEPS = "token_mean_cosine.layer_overlap"  # costs a decomposition of the states of every row at every layer


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
    params: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    confidence: float = 0.95,
    intervals: bool = True,
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
        params: Parameters by metric, `{"knn_label_agreement": {"k": 5}}`.
        seed: Of the hash that picks the sampled rows.
        confidence: Two-sided level of the intervals, in (0, 1).
        intervals: False gives the numbers alone, sooner: to watch a training by, nothing to judge a model by.
        columns: What is known of each row, by the names of `gate.geometry.statistics.COLUMNS`: `labels`, `groups`,
            `clusters`, `logits`, ... Token states (n, T, d) in `tokens` and `baseline_tokens`, by layer, are reduced to
            their terms at once. With `baseline` (n, e), the features of the version to compare with on the same
            rows, every estimate carries `change`, the paired difference, where there are intervals.

    Returns:
        Address → estimate. A metric that these features do not admit answers with a status and a reason.

    Raises:
        MetricError: The features are not rows, a column is unknown or has another length, an id occurs twice, or a
            metric is unknown.
    """
    if not 0 < confidence < 1:
        raise MetricError(f"confidence must lie between 0 and 1, found {confidence!r}")
    wanted = _selected(metrics)
    strange = sorted(set(params or {}) - {found.name for found in wanted})
    if strange:
        raise MetricError(f"params name {strange[0]!r}, which is not among the metrics asked for")
    kinds = statistics_for(wanted)
    given = {name: values for name, values in columns.items() if values is not None}
    steps = any(_OF_STEPS in addresses for addresses in wanted.values())
    rows = _without_states(given, token_mask, token_outputs, steps=steps)
    for name in {"logits", "baseline_logits"} & rows.keys():
        _require_logits(name, rows[name])
    names = _output_names(outputs, rows)
    parts = {"reference": reference, "ood": ood, "shifted": shifted}
    others = [_other(values, split, kinds, names, seed) for split, values in parts.items() if values is not None]
    tensors = {name: torch.as_tensor(tensor) for name, tensor in (weights or {}).items()}
    about = {"weights": tensors, "outputs": names, "seed": seed}
    candidate = reduce(Collection.merge, [_collect(_tensor(features), ids, rows, kinds, about), *others])
    result = _addressed(wanted, candidate, confidence, params or {}, intervals=intervals)
    alone = {found: addresses for found, addresses in wanted.items() if not _VERSIONS & set(found.needs)}
    if rows.get("baseline") is None or not intervals or not alone:
        return result
    own = {**about, "weights": {}}
    features = _tensor(cast("Tensor", rows["baseline"]))
    earlier = _collect(features, ids, _of_baseline(rows), statistics_for(alone), own)
    theirs = _addressed(alone, earlier, confidence, params or {}, intervals=True)
    return {
        address: replace(found, change=found.minus(theirs[address])) if address in theirs else found
        for address, found in result.items()
    }


def _of_baseline(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of the same rows as the baseline model makes them."""
    kept = {name: values for name, values in columns.items() if name in COLUMNS and COLUMNS[name].source == "probe"}
    own = {"logits": "baseline_logits", "tokens": "baseline_tokens"}
    return {**kept, **{name: columns[source] for name, source in own.items() if source in columns}}


def _without_states(
    columns: Mapping[str, Any],
    mask: Any,  # noqa: ANN401 - an array
    outputs: Any,  # noqa: ANN401 - an array
    *,
    steps: bool,
) -> dict[str, Any]:
    """Token states (n, T, d) replaced by their terms, with those of the steps between layers where they are asked for.

    The mean token of the last layer is added.
    """
    result = dict(columns)
    real, generated = (None if each is None else torch.as_tensor(each) for each in (mask, outputs))
    if mask is not None and not columns.get("tokens"):
        raise MetricError("token_mask was given without tokens={layer: states (n, T, d)}")
    for name in ("tokens", "baseline_tokens"):
        if not isinstance(columns.get(name, {}), Mapping):
            raise MetricError(f"{name} must map the names of layers to states (n, T, d), from shallow to deep")
        layers = {layer: torch.as_tensor(states) for layer, states in dict(columns.get(name, {})).items()}
        if layers:
            result[name] = {
                layer: states if states.ndim == 2 else token_terms(states, real, generated)
                for layer, states in layers.items()
            }
            if steps and _of_same_tokens(layers.values()):
                for layer, terms in step_terms(layers, real).items():
                    result[name][layer] = torch.cat([result[name][layer], terms], dim=1)
            last = list(layers.values())[-1]
            if name == "tokens" and last.ndim == 3:
                result.setdefault("token_mean", token_means(last, real))
    return result


def _of_same_tokens(layers: ValuesView[Tensor]) -> bool:
    return {states.ndim for states in layers} == {3} and len({states.shape[:2] for states in layers}) == 1


def _output_names(outputs: Sequence[object] | None, columns: Mapping[str, Any]) -> tuple[str, ...] | None:
    if outputs is not None:
        return tuple(str(name) for name in outputs)
    logits, labels = columns.get("logits"), columns.get("labels")
    if logits is None or not hasattr(logits, "shape") or len(logits.shape) != 2:
        return None
    return output_names(logits.shape[1], None if labels is None else Codes.of(items_of(labels)))


def _require_logits(name: str, outputs: Any) -> None:  # noqa: ANN401 - an array
    """Refuses probabilities: their softmax is not what the model says.

    Raises:
        MetricError: No output is negative, and every row sums to 1.
    """
    rows = torch.as_tensor(outputs)
    if rows.ndim == 2 and 0 not in rows.shape and bool(probability_rows(rows).all()):
        raise MetricError(f"{name}: no entry is negative and every row sums to 1: pass the logarithms of probabilities")


def probability_rows(outputs: Tensor) -> Tensor:
    """Which rows of outputs (n, C) of a model look like probabilities, (n,): none is negative, and they sum to 1."""
    if outputs.shape[1] < 2:
        return torch.zeros(len(outputs), dtype=torch.bool, device=outputs.device)
    return (outputs >= -_ROUNDING).all(dim=1) & ((outputs.double().sum(dim=1) - 1).abs() < _ROUNDING)


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
        rows = torch.as_tensor(features.to_numpy() if hasattr(features, "to_numpy") else features)
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
    wanted: Mapping[Metric, Sequence[str]],
    collection: Collection,
    confidence: float,
    params: Mapping[str, Mapping[str, Any]],
    *,
    intervals: bool,
) -> dict[str, Estimate]:
    result: dict[str, Estimate] = {}
    for found, addresses in wanted.items():
        readouts = [address.partition(".")[2] or registry.VALUE for address in addresses]
        own = params.get(found.name)
        result |= estimate(found, collection, confidence=confidence, params=own, readouts=readouts, intervals=intervals)
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
    names = None if ids is None else _unique(ids, len(features))
    read = read_columns(columns, len(features), features.device)

    def part(rows: slice) -> Collection:
        own: dict[str, Any] = {name: _rows(column, rows) for name, column in read.items()}
        numbers = torch.arange(rows.start, min(rows.stop, len(features)))
        return Collection.of(
            Batch.of(
                features[rows],
                ids=[str(number) for number in numbers.tolist()] if names is None else names[rows],
                hashes=hash_numbers(numbers, about["seed"]) if names is None else None,
                **about,
                **own,
            ),
            kinds,
        )

    step = _ROWS_AT_ONCE if features.dtype == torch.float32 else _ROWS_COPIED
    slices = (slice(start, start + step) for start in range(0, len(features), step))
    return reduce(Collection.merge, map(part, slices))


def _unique(ids: Sequence[object], n: int) -> list[str]:
    names = [str(each) for each in ids]
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise MetricError(f"duplicate_ids: sample ids must be unique, {twice!r} occurs more than once")
    if len(names) != n:
        raise MetricError(f"ids must have one entry for each of the {n} rows, found {len(names)}")
    return names


def _rows(column: Codes | Tensor, rows: slice) -> Codes | Tensor:
    return Codes(column.names, column.values[rows]) if isinstance(column, Codes) else column[rows]
