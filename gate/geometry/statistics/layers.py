"""Moments of what comes before the layer, and of the probe set under a shift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from gate.geometry.statistics.batch import Batch, Split
from gate.geometry.statistics.classes import ClassMoments, Offsets
from gate.geometry.statistics.columns import Codes
from gate.geometry.statistics.moments import UnitMoments

if TYPE_CHECKING:
    from gate.geometry.statistics.sample import Sample


class BeforeUnitMoments(UnitMoments):
    """Moments of the unit rows of the features before the layer."""

    needs: ClassVar[tuple[str, ...]] = ("before",)
    column: ClassVar[str] = "before"


@dataclass(frozen=True, eq=False)
class LayerClasses:
    """Class means and spreads of every earlier layer.

    Attributes:
        layers: L names, from shallow to deep.
        widths: Dimension of each layer, E in all.
        names: C class names, sorted.
        counts: (C,) int64.
        shares: (C,) float64, counts / n.
        means: (C, E) float64, the layers side by side.
        within: (C, L) float64, mean squared distance of a row to its class mean.
    """

    layers: tuple[str, ...]
    widths: tuple[int, ...]
    names: tuple[str, ...]
    counts: Tensor
    shares: Tensor
    means: Tensor
    within: Tensor

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ("depths", "labels")
    leaves: ClassVar[tuple[str, ...]] = ("shares", "means", "within")

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        layers = tuple(batch.named("depths"))
        codes = batch.class_codes()
        return cls._joined(layers, [ClassMoments.of_rows(batch.numbers(f"depths.{layer}"), codes) for layer in layers])

    @classmethod
    def _joined(cls, layers: tuple[str, ...], parts: list[ClassMoments]) -> Self:
        first = parts[0]
        return cls(
            layers,
            tuple(part.d for part in parts),
            first.names,
            first.counts,
            first.shares,
            torch.cat([part.means for part in parts], dim=1),
            torch.stack([part.within for part in parts], dim=1),
        )

    def layer(self, index: int) -> ClassMoments:
        """Class moments of one layer, without those of its channels."""
        start, stop = self._edges()[index]
        means = self.means[:, start:stop]
        empty = torch.zeros(stop - start, dtype=torch.float64, device=means.device)
        return ClassMoments(self.names, self.counts, self.shares, means, self.within[:, index], empty)

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        parts = [self.layer(index).merge(other.layer(index)) for index in range(len(self.layers))]
        return self._joined(self.layers, parts)

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """How each sampled row moves a function of the class moments with this gradient, (m,) float64."""
        codes = sample.class_codes(self.names)
        share = gradient["shares"][codes] - gradient["shares"] @ self.shares
        own = torch.zeros_like(share)
        for index, (start, stop) in enumerate(self._edges()):
            rows = self.offsets(index, sample)
            own += (rows.moved * gradient["means"][:, start:stop][codes]).sum(dim=1)
            own += gradient["within"][codes, index] * (rows.sizes - self.within[codes, index])
        return share + own / self.shares[codes]

    def offsets(self, index: int, sample: Sample) -> Offsets:
        """The sampled rows of one layer about the mean of their class."""
        codes = sample.class_codes(self.names)
        start, stop = self._edges()[index]
        moved = sample.rows.numbers(f"depths.{self.layers[index]}").double() - self.means.detach()[codes, start:stop]
        return Offsets(moved, moved.square().sum(dim=1), codes)

    def _edges(self) -> list[tuple[int, int]]:
        return list(pairwise(accumulate(self.widths, initial=0)))


class ShiftedMean(ClassMoments):
    """Mean and spread of the rows under a shift, as one class."""

    split: ClassVar[Split] = "shifted"
    needs: ClassVar[tuple[str, ...]] = ()
    leaves: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        codes = torch.zeros(len(batch.features), dtype=torch.int64, device=batch.features.device)
        return cls.of_rows(batch.features, Codes(("shifted",), codes))
