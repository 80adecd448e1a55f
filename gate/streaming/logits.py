"""The outputs of a head: a column for each class, what each stands for, and whether they are logits at all."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gate.errors import MetricError, ModelError
from gate.streaming.parts import READ

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from gate.probes.probe_set import ProbeSet

LOGITS = f"{READ}logits"
_SHOWN = 8
_MOST = 0.99  # of the rows may look like probabilities by chance
_NAME_THEM = "name them in order: `reads: {logits: {classes: [...]}}`"


def is_single(features: Mapping[str, Tensor]) -> bool:
    """Whether the head has one output, which chooses between two classes."""
    return LOGITS in features and features[LOGITS].shape[1] == 1


def for_each_class(features: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Logits with a column for each class: a single output is that of the second of two, beside 0 for the first."""
    return {**features, LOGITS: _beside(features[LOGITS], of_the_first=0.0)} if is_single(features) else features


def _beside(outputs: Tensor, *, of_the_first: Tensor | float) -> Tensor:
    """Outputs (n, 1) of the second of two classes with those of the first, (n, 2)."""
    import torch

    return torch.cat([torch.zeros_like(outputs) + of_the_first, outputs], dim=1)


class Probabilities:
    """Looks for probabilities in the place of logits: some rows may look like them by chance, nearly all do not."""

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()
        self._like: Counter[str] = Counter()

    def see(self, whose: str, features: Mapping[str, Tensor]) -> None:
        """Count the rows of a batch.

        Args:
            whose: Of the two models.
            features: As it gave them, a single output as one.
        """
        from gate.measurement import probability_rows

        outputs = features.get(LOGITS)
        if outputs is not None:
            shares = _beside(outputs, of_the_first=1 - outputs) if is_single(features) else outputs
            self._rows[whose] += len(shares)
            self._like[whose] += int(probability_rows(shares).sum())

    def refuse(self) -> None:
        """Refuses what was seen, where nearly all rows of a model are probabilities.

        Raises:
            ModelError: They are.
        """
        for whose, rows in self._rows.items():
            if self._like[whose] >= _MOST * rows:
                raise ModelError(
                    f"`reads: logits` of {whose}: in {self._like[whose]} of {rows} rows no output is negative and they "
                    "sum to 1 (a single one lies from 0 to 1), so these are probabilities; name the layer before the "
                    "softmax, or the sigmoid"
                )


def class_names(probe: ProbeSet, width: int, size: int, *, named: Sequence[str], single: bool) -> tuple[str, ...]:
    """What the columns of logits stand for, where a policy does not say.

    Args:
        probe: With the labels.
        width: Number of columns, a column for each class.
        size: Rows to read at once.
        named: What the model calls them, in order; empty where it does not.
        single: Whether the model has one output, which may speak for either of two classes.

    Raises:
        MetricError: The labels leave it open which column is whose, or the model calls them otherwise.
    """
    from gate.geometry.statistics import Codes, output_names

    labels = sorted(probe.read_labels(size))
    numbers = {str(code) for code in range(width)}
    if len(named) == width and set(labels) <= set(named):
        return tuple(named)
    if len(named) == width and not set(labels) <= numbers:
        raise MetricError(
            f"the model calls its outputs {_some(named)}, and the labels are {_some(labels)}; {_NAME_THEM}"
        )
    if single and len(labels) == 2 and not all(each.removeprefix("-").isdecimal() for each in labels):
        raise MetricError(
            f"the single column of logits may be that of {labels[0]!r} or of {labels[1]!r}; {_NAME_THEM}, second the "
            "class that a large output stands for"
        )
    try:
        return output_names(width, Codes.of(labels) if labels else None)
    except MetricError as error:
        found, _, _ = str(error).partition("; ")
        raise MetricError(f"{found}; {_NAME_THEM}") from None


def require_same_names(candidate: Sequence[str], baseline: Sequence[str]) -> None:
    """Refuses to compare the outputs of two models that call them otherwise.

    Raises:
        MetricError: They do.
    """
    if candidate and baseline and list(candidate) != list(baseline):
        raise MetricError(
            f"the candidate calls its outputs {_some(candidate)}, and the baseline {_some(baseline)}; they cannot be "
            "compared column by column"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (", …" if len(names) > _SHOWN else "")
