"""One pass over the rows through the candidate, and beside it through the baseline."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from gate.errors import MetricError, ModelError, ProbeError
from gate.streaming.parts import READ, Shown, parts_of, require_few_slices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from gate.geometry.statistics import Batch
    from gate.probes.probe_set import ProbeSet
    from gate.questions import Part, Plan
    from gate.streaming.sources import Running, Seen

    OnProgress = Callable[[int, int | None], None]  # rows done so far, and all there are, where that is known

_LOGITS = f"{READ}logits"


def batches(
    models: Running,
    probe: ProbeSet,
    plan: Plan,
    *,
    seed: int,
    total: int | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[dict[Part, Batch]]:
    """Part → feature rows, batch by batch: every layer of the candidate and the baseline, and the slices of both.

    Args:
        models: The candidate, and what it is compared with on the same rows, if anything.
        probe: Rows with ids.
        plan: Where to read what.
        seed: Of the hash that picks sampled rows.
        total: How many rows there are, where that is known.
        on_progress: Called with the number of rows done so far, and of all.

    Raises:
        GateError: A model, a layer or a row of the probe set is refused.
    """
    size = max(source.at_once for source in models if source is not None)
    mine = models.candidate.rows(probe, size, second_view=plan.second_view)
    theirs = None if models.baseline is None else models.baseline.rows(probe, size, second_view=False)
    classes = plan.classes or None
    seen: set[Part] = set()
    done, probabilities = 0, _Probabilities()
    for raw in _side_by_side(mine, theirs, probe):
        probabilities.see("the candidate", raw.features)
        probabilities.see("the baseline", raw.earlier)
        shown = raw._replace(features=_for_each_class(raw.features), earlier=_for_each_class(raw.earlier))
        if classes is None and _LOGITS in shown.features:
            classes = _classes(probe, shown.features[_LOGITS].shape[1], size)
        about = {of: {"outputs": classes, "seed": seed, "weights": each} for of, each in models.weights.items()}
        for parts in parts_of(shown, plan, about):
            seen |= parts.keys()
            require_few_slices(seen)
            yield parts
        done += len(shown.rows.ids)
        if on_progress is not None:
            on_progress(done, total)
    probabilities.refuse()


def _side_by_side(mine: Iterator[Seen], theirs: Iterator[Seen] | None, probe: ProbeSet) -> Iterator[Shown]:
    """Rows with their features in both models; both passes end, with the checks at their end."""
    if theirs is None:
        yield from (Shown(one.rows, one.features, {}, one.second) for one in mine)
        return
    for one, other in zip_longest(mine, theirs):
        if one is None or other is None or one.rows.ids != other.rows.ids:
            raise ProbeError(f"{probe.uri}: changed while it was read; the two models were shown other rows")
        yield Shown(one.rows, one.features, other.features, one.second)


def _for_each_class(features: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Logits with a column for each class: a single output is that of the second of two, beside 0 for the first."""
    outputs = features.get(_LOGITS)
    if outputs is None or outputs.shape[1] != 1:
        return features
    return {**features, _LOGITS: _beside(outputs, of_the_first=0.0)}


def _beside(outputs: Tensor, *, of_the_first: Tensor | float) -> Tensor:
    """Outputs (n, 1) of the second of two classes with those of the first, (n, 2)."""
    import torch

    return torch.cat([torch.zeros_like(outputs) + of_the_first, outputs], dim=1)


class _Probabilities:
    """Looks for probabilities in the place of logits: one row may look like them by chance, all rows do not."""

    def __init__(self) -> None:
        self._found: dict[str, bool] = {}

    def see(self, whose: str, features: Mapping[str, Tensor]) -> None:
        from gate.measurement import are_probabilities

        outputs = features.get(_LOGITS)
        if outputs is not None:
            shares = _beside(outputs, of_the_first=1 - outputs) if outputs.shape[1] == 1 else outputs
            self._found[whose] = self._found.get(whose, True) and are_probabilities(shares)

    def refuse(self) -> None:
        for whose, found in self._found.items():
            if found:
                raise ModelError(
                    f"`reads: logits` of {whose}: no output is negative and every row sums to 1 (a single one lies "
                    "from 0 to 1), so these are probabilities; name the layer before the softmax, or the sigmoid"
                )


def _classes(probe: ProbeSet, width: int, size: int) -> tuple[str, ...]:
    """What the columns of logits stand for, by the labels of the probe set."""
    from gate.geometry.statistics import Codes, output_names

    labels = sorted(probe.read_labels(size))
    try:
        return output_names(width, Codes.of(labels) if labels else None)
    except MetricError as error:
        found, _, _ = str(error).partition("; ")
        raise MetricError(f"{found}; name them in order: `reads: {{logits: {{classes: [...]}}}}`") from None
