"""Eigenvalues of a covariance, as the leaves of a gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.statistics.batch import Batch, Split, by_tile, per_live_row, unit_rows, unit_scale
from gate.geometry.statistics.moments import Moments, UnitMoments, centred

if TYPE_CHECKING:
    from gate.geometry.statistics.sample import Sample


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues and eigenvectors of the covariance of feature rows.

    A function of the eigenvalues moves with a row by its slopes times the squared projections of the row: one product
    of the sampled rows with the eigenvectors serves every metric that reads the spectrum.

    Attributes:
        n: Rows.
        values: (d,) float64, ascending.
        vectors: (d, d) float64, eigenvectors as columns.
        centre: (d,) float64, what rows are taken about.
        constant: Whether the rows do not vary by more than rounding.
        known: Coordinates of the sampled rows, once they have been asked for.
    """

    n: int
    values: Tensor
    vectors: Tensor
    centre: Tensor
    constant: bool
    known: WeakKeyDictionary[Sample, Tensor] = field(default_factory=WeakKeyDictionary, repr=False)

    source: ClassVar[type[Moments]] = Moments
    split: ClassVar[Split] = Moments.split
    needs: ClassVar[tuple[str, ...]] = Moments.needs
    leaves: ClassVar[tuple[str, ...]] = ("values",)

    @classmethod
    def of_moments(cls, moments: Moments) -> Self:
        """Of the rows that the moments are of."""
        values, vectors = torch.linalg.eigh(cls._matrix(moments))
        return cls(moments.n, values, vectors, cls._centre(moments), moments.is_constant())

    @classmethod
    def _matrix(cls, moments: Moments) -> Tensor:
        return moments.covariance

    @classmethod
    def _centre(cls, moments: Moments) -> Tensor:
        return moments.mean

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        return cls.of_moments(cls.source.of(batch))

    def merge(self, other: Self) -> Self:
        """Not possible: moments are merged.

        Args:
            other: Any other one.

        Raises:
            MetricError: Always.
        """
        del other
        raise MetricError("a spectrum is derived from merged moments, it is not merged itself")

    @property
    def d(self) -> int:
        """Feature dimension."""
        return len(self.values)

    def live(self, floor: float = 1e-15) -> Tensor:
        """Eigenvalues above a share of the largest: those below are rounding, and their square root has no slope."""
        return self.values[self.values > floor * self.values[-1].detach().clamp_min(torch.finfo(torch.float64).tiny)]

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """How each sampled row moves a function of the eigenvalues with this gradient, (m,) float64."""
        slopes, along = gradient["values"], self.coordinates(sample)
        weights = slopes.to(along.dtype)
        return by_tile(lambda tile: tile.square() @ weights, along).double() - (slopes * self.values).sum()

    def coordinates(self, sample: Sample) -> Tensor:
        """The sampled rows about their centre, along the eigenvectors, (m, d) in their own precision."""
        if sample not in self.known:
            self.known[sample] = self._projected(self._rows(sample))
        return self.known[sample]

    def _rows(self, sample: Sample) -> Tensor:
        return sample.rows.numbers(self.source.column)

    def _projected(self, rows: Tensor) -> Tensor:
        return by_tile(lambda tile: centred(tile, self.centre), rows) @ self.vectors.to(rows.dtype)


class UncentredSpectrum(Spectrum):
    """Of the second moments of features as they are, without taking out their mean."""

    @classmethod
    def _matrix(cls, moments: Moments) -> Tensor:
        return moments.covariance + torch.outer(moments.mean, moments.mean)

    @classmethod
    def _centre(cls, moments: Moments) -> Tensor:
        return torch.zeros_like(moments.mean)


class UnitSpectrum(Spectrum):
    """Of the unit rows x / |x|."""

    source: ClassVar[type[Moments]] = UnitMoments

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """As for `Spectrum`, over the rows that have a direction."""
        _, alive = unit_scale(sample.rows.numbers(self.source.column))
        return per_live_row(super().influence(gradient, sample), alive)

    def _rows(self, sample: Sample) -> Tensor:
        return unit_rows(super()._rows(sample))[0]
