"""What chance adds to the signal of classes along whitened directions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from gate.geometry.methods.mean_noise import Cells, MeanNoise
from gate.geometry.statistics import ClassMoments, ClusterCounts, Sample
from gate.geometry.statistics.classes import Offsets

_MOST = 0.25  # of the largest signal that clusters may add to chance; beyond it intervals are too narrow
_FLAT = 0.3  # slope below which the share that is found tells little of the true one
_STEP = 1e-6


@dataclass(frozen=True)
class Chance:
    """What chance adds to a signal share s of the largest one.

    single (1 - s) for independent rows. Errors of the class means and of the total covariance, whose inverse weights
    the signal, make up parts of it, to second order; clusters multiply each. Derived here.

    Attributes:
        single: Share that chance makes of no signal at all, for independent rows.
        rank: Directions.
        classes: Classes less one.
        means: Variance of the class means over that with independent rows.
        inverse: The same of the total covariance.
    """

    single: float
    rank: int
    classes: int
    means: float = 1.0
    inverse: float = 1.0

    def clustered(
        self, rows: Tensor, means: Tensor, classes: ClassMoments, sample: Sample, clusters: ClusterCounts
    ) -> Self:
        """For rows that come in clusters.

        A mean of products of rows is 1 + (q - 1) r^2 times as uncertain as with independent rows, for the correlation r
        of the rows of a cluster and the size q of that of an average row.

        Args:
            rows: (m, r) sampled rows, whitened.
            means: (C, r) class means, whitened.
            classes: Class moments of all rows.
            sample: The sampled rows.
            clusters: How all rows fall into clusters.
        """
        codes = sample.class_codes(classes.names)
        moved = rows.double() - means[codes]
        offsets = Offsets(moved, moved.square().sum(dim=1), codes)
        spread = rows.shape[1] - (classes.shares @ means.square().sum(dim=1)).item()
        within = torch.full_like(classes.within, max(spread, 0.0))
        white = replace(classes, means=means, within=within, known=WeakKeyDictionary())
        noise = MeanNoise.of(white, sample, clusters, offsets)
        alone = ((1 - classes.shares) @ (within + noise.own)).item() / classes.n
        beside = max(classes.n * clusters.concentration_of_all() - 1, 0.0)
        return replace(
            self,
            means=noise.between(classes.shares).item() / alone if alone > 0 else 1.0,
            inverse=1 + beside * _correlation(noise.cells, offsets, classes, sample, clusters) ** 2,
        )

    @property
    def too_much(self) -> bool:
        """Whether clusters leave too little to tell the signal from chance."""
        times = max(self.means, self.inverse * self.rank / max(self.rank, self.classes))
        return self.single * (times - 1) > _MOST or self._slope(0.0) < _FLAT

    def found(self, share: float) -> float:
        """The share that is found on average where this is the true one."""
        largest, signal = max(self.rank, self.classes), share * min(self.rank, self.classes)
        free = (self.rank - signal) / largest
        means = free * (self.classes / min(self.rank, self.classes) - 2 * share + share**2)
        means += share * (1 - share) * signal / largest
        inverse = share * (1 - share) * free
        return share + self.single * ((1 - share) + (self.means - 1) * means + (self.inverse - 1) * inverse)

    def removed(self, found: float) -> tuple[float, float]:
        """The signal share without chance, and how fast it moves with the one that was found.

        Args:
            found: At most 1; below what chance makes of no signal, the curve goes on straight.
        """
        low, high = 0.0, 1.0
        if found <= self.found(0.0):
            return (found - self.found(0.0)) / self._slope(0.0), 1 / self._slope(0.0)
        while high - low > _STEP * _STEP:
            middle = (low + high) / 2
            low, high = (middle, high) if self.found(middle) < found else (low, middle)
        return low, 1 / self._slope(low)

    def _slope(self, share: float) -> float:
        return (self.found(share + _STEP) - self.found(share - _STEP)) / (2 * _STEP)


def _correlation(
    cells: Cells | None, rows: Offsets, classes: ClassMoments, sample: Sample, clusters: ClusterCounts
) -> float:
    """Correlation of two rows of one cluster, of whatever class, about their class means."""
    if cells is None:
        return 0.0
    pairs = (cells.by_cluster(cells.sizes).square().sum() - cells.sizes.sum()).item()
    size = rows.sizes.mean().item()
    if pairs <= 0 or size <= 0:
        return 0.0 if sample.share == 1 else 1.0
    products = (cells.by_cluster(cells.sums).square().sum() - rows.sizes.sum()).item()
    left = 1 - (classes.shares @ clusters.concentration).item()  # about the fitted class means
    return min(max(products / pairs / size / left, 0.0), 1.0)
