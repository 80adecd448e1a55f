"""One pass over the rows through the candidate, and beside it through the baseline."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from gate.errors import MetricError, ModelError, ProbeError
from gate.models.loading import LoadedModel
from gate.questions import Part
from gate.streaming.parts import READ, parts_of, require_few_slices
from gate.streaming.vectors import vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from gate.features import LayerAddress
    from gate.geometry.statistics import Batch
    from gate.models.baseline import Absent
    from gate.policy.schema import Run
    from gate.probes.probe_set import ProbeBatch, ProbeSet
    from gate.questions import Plan

    Features = Iterator[tuple[ProbeBatch, dict[str, Tensor]]]

_LOGITS = f"{READ}logits"
_MODEL_ROWS = 256
_VECTOR_ROWS = 4096


def batches(
    candidate: LoadedModel,
    baseline: LoadedModel | Absent,
    probe: ProbeSet,
    plan: Plan,
    *,
    device: str,
    run: Run,
    on_progress: Callable[[int], None] | None = None,
) -> Iterator[dict[Part, Batch]]:
    """Part → feature rows, batch by batch: every layer of the candidate and the baseline, and the slices of both.

    Args:
        candidate: Loaded, or precomputed vectors.
        baseline: What it is compared with on the same rows, if anything.
        probe: Rows with ids.
        plan: Where to read what.
        device: Where the models run and statistics are computed.
        run: Batch size, and the seed of the hash that picks sampled rows.
        on_progress: Called with the number of rows done so far.

    Raises:
        GateError: A model, a layer or a row of the probe set is refused.
    """
    size = run.batch_size if isinstance(run.batch_size, int) else _rows_at_once(candidate, baseline)
    mine = _features(candidate, probe, _addresses(plan.layers, plan.reads), device, size)
    theirs: Features | None = None
    if isinstance(baseline, LoadedModel) and plan.compares:
        theirs = _features(baseline, probe, _addresses(plan.baseline_layers, plan.baseline_reads), device, size)
    classes = plan.classes or None
    seen, done, probabilities = set[Part](), 0, _Probabilities()
    for rows, features, earlier in _side_by_side(mine, theirs, probe):
        if classes is None and _LOGITS in features:
            classes = _classes(probe, features[_LOGITS].shape[1], size)
        probabilities.see("the candidate", features)
        probabilities.see("the baseline", earlier)
        parts = parts_of(rows, features, earlier, plan, {"outputs": classes, "seed": run.seed})
        seen |= parts.keys()
        require_few_slices(seen)
        yield parts
        done += len(rows.ids)
        if on_progress is not None:
            on_progress(done)
    probabilities.refuse()


def _addresses(layers: Mapping[str, LayerAddress], reads: Mapping[str, LayerAddress]) -> dict[str, LayerAddress]:
    return {**layers, **{f"{READ}{name}": address for name, address in reads.items()}}


def _side_by_side(
    mine: Features, theirs: Features | None, probe: ProbeSet
) -> Iterator[tuple[ProbeBatch, dict[str, Tensor], dict[str, Tensor]]]:
    """Rows with their features in both models; both passes end, with the checks at their end."""
    if theirs is None:
        yield from ((rows, features, {}) for rows, features in mine)
        return
    for one, other in zip_longest(mine, theirs):
        if one is None or other is None or one[0].ids != other[0].ids:
            raise ProbeError(f"{probe.uri}: changed while it was read; the two models were shown other rows")
        yield one[0], one[1], other[1]


class _Probabilities:
    """Looks for probabilities in the place of logits: one row may look like them by chance, all rows do not."""

    def __init__(self) -> None:
        self._found: dict[str, bool] = {}

    def see(self, whose: str, features: Mapping[str, Tensor]) -> None:
        from gate.measurement import are_probabilities

        outputs = features.get(_LOGITS)
        if outputs is not None:
            self._found[whose] = self._found.get(whose, True) and are_probabilities(outputs)

    def refuse(self) -> None:
        for whose, found in self._found.items():
            if found:
                raise ModelError(
                    f"`reads: logits` of {whose}: no output is negative and every row sums to 1, so these are "
                    "probabilities; name the layer before the softmax"
                )


def _rows_at_once(*models: LoadedModel | Absent) -> int:
    runs = any(isinstance(model, LoadedModel) and model.module is not None for model in models)
    return _MODEL_ROWS if runs else _VECTOR_ROWS


def _classes(probe: ProbeSet, width: int, size: int) -> tuple[str, ...]:
    """What the columns of logits stand for, by the labels of the probe set."""
    from gate.geometry.statistics import Codes, output_names

    labels = sorted(probe.read_labels(size))
    try:
        return output_names(width, Codes.of(labels) if labels else None)
    except MetricError as error:
        found, _, _ = str(error).partition("; ")
        raise MetricError(f"{found}; name them in order: `reads: {{logits: {{classes: [...]}}}}`") from None


def _features(
    model: LoadedModel, probe: ProbeSet, layers: Mapping[str, LayerAddress], device: str, size: int
) -> Features:
    return (vectors if model.module is None else _forward)(model, probe, layers, device, size)


def _forward(
    model: LoadedModel, probe: ProbeSet, layers: Mapping[str, LayerAddress], device: str, size: int
) -> Features:
    from gate.features import Extractor

    if model.module is None:
        raise ModelError(f"{model.uri}: there is no model to run")
    with Extractor(
        model.module, layers, device=device, batch_size=model.batch_size, input_dtype=model.input_dtype
    ) as extract:
        for rows in probe.batches(size):
            yield rows, extract(rows.inputs)
