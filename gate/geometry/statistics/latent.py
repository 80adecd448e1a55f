"""Posteriors of latent-variable models, and code indices of quantisers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.statistics.batch import Batch, Split
from gate.geometry.statistics.moments import Moments

if TYPE_CHECKING:
    from gate.geometry.statistics.sample import Sample


class LatentMoments(Moments):
    """Moments of the posterior means (n, z)."""

    column: ClassVar[str] = "latent_means"
    needs: ClassVar[tuple[str, ...]] = ("latent_means",)


class PosteriorVariances(Moments):
    """Moments of the posterior variances (n, z), given as their logarithms."""

    column: ClassVar[str] = "latent_log_variances"
    needs: ClassVar[tuple[str, ...]] = ("latent_log_variances",)

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        return cls.of_rows(batch.numbers(cls.column).double().exp(), batch.resolution)

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """As for `Moments`, of the variances."""
        return self._influence(gradient, sample.rows.numbers(self.column).double().exp())


@dataclass(frozen=True, eq=False)
class CodeCounts:
    """How often each code index occurs.

    Attributes:
        n: Rows.
        codes: (u,) int64, the indices that occur, ascending.
        counts: (u,) int64, how often.
        shares: (u,) float64, counts over all assignments.
    """

    n: int
    codes: Tensor
    counts: Tensor
    shares: Tensor

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ("codes",)
    leaves: ClassVar[tuple[str, ...]] = ("shares",)

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch; -1 stands for no code."""
        given = batch.numbers("codes")
        return cls._counted(len(given), *given[given != -1].unique(return_counts=True))

    @classmethod
    def _counted(cls, n: int, codes: Tensor, counts: Tensor) -> Self:
        return cls(n, codes, counts, counts.double() / counts.sum().clamp_min(1))

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        codes, places = torch.cat([self.codes, other.codes]).unique(return_inverse=True)
        counts = torch.zeros_like(codes).index_add_(0, places, torch.cat([self.counts, other.counts]))
        return self._counted(self.n + other.n, codes, counts)

    @property
    def assignments(self) -> int:
        """Codes of all rows together: N."""
        return int(self.counts.sum())

    @property
    def used(self) -> int:
        """Codes that occur."""
        return len(self.codes)

    def require_within(self, size: int) -> None:
        """Refuses indices that the codebook does not have.

        Raises:
            MetricError: A code lies outside 0 ... size - 1.
        """
        if not self.used:
            return
        low, high = int(self.codes[0]), int(self.codes[-1])
        if low < 0 or high >= size:
            odd = low if low < 0 else high
            raise MetricError(f"codes must be -1 (none) or lie in 0 to {size - 1} for {size} codes, found {odd}")

    def cells(self, sample: Sample) -> tuple[Tensor, Tensor, Tensor]:
        """Every code of every sampled row once: the row, the place of the code among `codes`, and how often, (p,)."""
        given = sample.rows.numbers("codes")
        rows, positions = (given != -1).nonzero(as_tuple=True)
        places = torch.searchsorted(self.codes, given[rows, positions])
        pairs, times = (rows * max(self.used, 1) + places).unique(return_counts=True)
        return pairs // max(self.used, 1), pairs % max(self.used, 1), times

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """How each sampled row moves a function of the shares with this gradient, (m,) float64."""
        slopes = gradient["shares"]
        if not self.used:
            return torch.zeros(sample.m, dtype=torch.float64, device=slopes.device)
        rows, places, times = self.cells(sample)
        moved = (slopes - slopes @ self.shares)[places] * times
        total = torch.zeros(sample.m, dtype=torch.float64, device=slopes.device).index_add_(0, rows, moved)
        return total / (self.assignments / self.n)
