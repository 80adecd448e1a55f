"""How far class means are off by chance, for rows that may come in clusters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from gate.geometry.statistics import ClassMoments, ClusterCounts, Sample
from gate.geometry.statistics.classes import Offsets

_BORROWED = 10  # prior weight of the correlation of all classes, in pairs of sampled rows of a class
_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True, eq=False)
class Cells:
    """Sums of sampled rows about their class means, by cells of a class and a cluster.

    Attributes:
        classes: (k,) int64.
        clusters: (k,) int64, ascending.
        sizes: (k,) float64, sampled rows that are off their mean.
        sums: (k, d) float64.
    """

    classes: Tensor
    clusters: Tensor
    sizes: Tensor
    sums: Tensor

    @classmethod
    def of(cls, rows: Offsets, clusters: Tensor) -> Self:
        """Of sampled rows and their clusters (m,)."""
        found, inverse = torch.stack([clusters, rows.codes]).unique(dim=1, return_inverse=True)
        sums = torch.zeros(found.shape[1], rows.moved.shape[1], dtype=torch.float64, device=inverse.device)
        sums.index_add_(0, inverse, rows.moved.double())
        live = (rows.sizes > 0).double()  # rows without a direction lie at their mean
        return cls(found[1], found[0], sums.new_zeros(len(sums)).index_add_(0, inverse, live), sums)

    def by_cluster(self, terms: Tensor) -> Tensor:
        """Sum over the cells of each cluster."""
        _, inverse = self.clusters.unique_consecutive(return_inverse=True)
        return terms.new_zeros(int(inverse[-1]) + 1, *terms.shape[1:]).index_add_(0, inverse, terms)


@dataclass(frozen=True, eq=False)
class MeanNoise:
    """Covariance of the errors of class means, summed over channels.

    Rows of one cluster move together, by the intraclass correlation: the share of the variance within a class that lies
    between its clusters. A cluster with rows of two classes moves both means, and less so their difference.

    Attributes:
        own: (C,) float64, expected squared error of each class mean; differentiable in the spread within classes.
        cells: How far clusters move class means, in `sums`; None when rows are independent.
    """

    own: Tensor
    cells: Cells | None = None

    @classmethod
    def of(
        cls, classes: ClassMoments, sample: Sample, clusters: ClusterCounts | None, offsets: Offsets | None = None
    ) -> MeanNoise:
        """Of class means. With a mean and a variance v = t + s of its rows, a class mean has the squared error v e.

        e = (t k + s / n) / v for the concentration k of its clusters, and what is within the class about the fitted
        mean is v (1 - e).

        Args:
            classes: Class moments of all rows; each class has two clusters at least.
            sample: The sampled rows.
            clusters: How all rows fall into clusters; None when they are independent.
            offsets: Sampled rows about their class means, where these are not of the classes' own column.
        """
        counts = classes.counts.double()
        if clusters is None or sample.clusters is None:
            return cls(classes.within / (counts - 1))
        rows = classes.offsets(sample) if offsets is None else offsets
        cells = Cells.of(rows, sample.clusters)
        correlations = _correlations(cells, rows, classes, clusters)
        error = correlations * clusters.concentration() + (1 - correlations) / counts
        left = clusters.left(clusters.counts.double().square()).clamp_min(_TINY)
        scale = sample.share * counts * left.sqrt()
        moved = replace(cells, sums=cells.sums / scale[cells.classes, None])
        return cls(classes.within * (error / (1 - error)).clamp_min(0), moved)

    def of_sum(self, weights: Tensor) -> Tensor:
        """Expected squared error of the sum of the class means times their weights (C,)."""
        error = weights.square() @ self.own
        if self.cells is None:
            return error
        parts = self.cells.sums * weights[self.cells.classes, None]
        return (error + self.cells.by_cluster(parts).square().sum() - parts.square().sum()).clamp_min(0)

    def between(self, shares: Tensor) -> Tensor:
        """What errors add to the between-class trace, for classes with these shares (C,) of the rows."""
        return shares @ self.own - self.of_sum(shares)

    def of_gaps(self) -> Tensor:
        """Expected squared error of the difference of any two class means, (C, C)."""
        error = self.own[:, None] + self.own
        if self.cells is None:
            return error
        sizes = self.cells.clusters.unique_consecutive(return_counts=True)[1].tolist()
        shared = torch.zeros_like(error)
        for own, sums in zip(self.cells.classes.split(sizes), self.cells.sums.split(sizes), strict=True):
            if len(own) > 1:
                shared[own[:, None], own] += sums @ sums.T
        return (error - 2 * shared.fill_diagonal_(0)).clamp_min(0)


def _correlations(cells: Cells, rows: Offsets, classes: ClassMoments, clusters: ClusterCounts) -> Tensor:
    """Intraclass correlation of each class, (C,), drawn to that of all where few pairs of its rows were sampled.

    With t the variance between clusters, s that within them, k the concentration of the clusters and a what is left of
    a covariance: a product of two rows of one cluster about the class mean is t a - s / n on average, the spread within
    the class t (1 - k) + s (1 - 1 / n). Hence t ~ products (1 - 1 / n) + pairs spread / n and s ~ pairs spread a -
    products (1 - k), by one common factor. Unbiased; derived here.

    Args:
        cells: Sums of the sampled rows.
        rows: The sampled rows about their class means.
        classes: Class moments of all rows.
        clusters: How all rows fall into clusters.
    """
    n, spread, concentration = classes.counts.double(), classes.within.detach(), clusters.concentration()

    def by_class(terms: Tensor, codes: Tensor) -> Tensor:
        return torch.zeros_like(n).index_add_(0, codes, terms)

    products = by_class(cells.sums.square().sum(dim=1), cells.classes) - by_class(rows.sizes, rows.codes)
    pairs = by_class(cells.sizes.square(), cells.classes) - by_class(cells.sizes, cells.classes)
    sizes = clusters.counts.double()
    between = products * (1 - 1 / n) + pairs * spread / n
    inside = pairs * spread * clusters.left(sizes * (sizes - 1)) - products * (1 - concentration)
    whole = between + inside
    together = between.sum() / whole.sum() if bool((pairs > 0).any()) and whole.sum() > 0 else whole.new_zeros(())
    own = torch.where(whole > 0, between / whole.clamp_min(_TINY), together)
    found: Tensor = (_BORROWED * together + pairs * own) / (_BORROWED + pairs)
    return found.clamp(-1, 1)
