"""Moments of every fold, so that a probe can be trained on the other folds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from gate.geometry.statistics.batch import Batch, Split
from gate.geometry.statistics.classes import ClassMoments
from gate.geometry.statistics.moments import Moments

if TYPE_CHECKING:
    from gate.geometry.statistics.sample import Sample


def fold_count(d: int) -> int:
    """Folds for features of dimension d: 10, or 5 above 1024, where every fold holds d^2 numbers."""
    return 10 if d <= 1024 else 5


@dataclass(frozen=True, eq=False)
class ClassFolds:
    """Moments and class moments of the rows of each fold.

    A row's fold is the hash of its id, or of its cluster where there are clusters, modulo the number of folds.
    """

    moments: tuple[Moments, ...]
    classes: tuple[ClassMoments, ...]

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ("labels",)
    leaves: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch.

        Raises:
            MetricError: The batch has no labels.
        """
        folds = fold_count(batch.features.shape[1])
        batch.class_codes()
        which = batch.folds % folds
        parts = [batch.rows((which == fold).nonzero()[:, 0]) for fold in range(folds)]
        return cls(tuple(Moments.of(part) for part in parts), tuple(ClassMoments.of(part) for part in parts))

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        return type(self)(
            tuple(a.merge(b) for a, b in zip(self.moments, other.moments, strict=True)),
            tuple(a.merge(b) for a, b in zip(self.classes, other.classes, strict=True)),
        )

    def without(self, *held_out: int) -> tuple[Moments, ClassMoments]:
        """Moments of all rows but those of some folds."""
        kept = [fold for fold in range(len(self.moments)) if fold not in held_out]
        return (
            reduce(Moments.merge, [self.moments[fold] for fold in kept]),
            reduce(ClassMoments.merge, [self.classes[fold] for fold in kept]),
        )

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """Nothing: held-out rows carry the influence of a probe."""
        del gradient
        return torch.zeros(sample.m, dtype=torch.float64, device=sample.features.device)
