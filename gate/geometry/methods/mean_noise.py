"""How far class means are off by chance, for rows that may come in clusters."""

from __future__ import annotations

from dataclasses import dataclass
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
        which: (m,) int64, cell of each row.
        sizes: (k,) float64, sampled rows that are off their mean.
        sums: (k, d) float64.
    """

    classes: Tensor
    clusters: Tensor
    which: Tensor
    sizes: Tensor
    sums: Tensor

    @classmethod
    def of(cls, rows: Offsets, clusters: Tensor) -> Self:
        """Of sampled rows and their clusters (m,)."""
        found, which = torch.stack([clusters, rows.codes]).unique(dim=1, return_inverse=True)
        sums = torch.zeros(found.shape[1], rows.moved.shape[1], dtype=torch.float64, device=which.device)
        sums.index_add_(0, which, rows.moved.double())
        live = (rows.sizes > 0).double()  # rows without a direction lie at their mean
        return cls(found[1], found[0], which, sums.new_zeros(len(sums)).index_add_(0, which, live), sums)

    def by_cluster(self, terms: Tensor) -> Tensor:
        """Sum over the cells of each cluster."""
        _, inverse = self.clusters.unique_consecutive(return_inverse=True)
        return terms.new_zeros(int(inverse[-1]) + 1, *terms.shape[1:]).index_add_(0, inverse, terms)


def independent_errors(classes: ClassMoments) -> Tensor:
    """Expected squared error of each class mean, (C,), were all rows independent."""
    return classes.within / (classes.counts.double() - 1)


@dataclass(frozen=True, eq=False)
class MeanNoise:
    """Covariance of the errors of class means, summed over channels.

    Rows of one cluster move together, by the intraclass correlation: the share of the variance within a class that lies
    between its clusters. A cluster with rows of two classes moves both means, and less so their difference.

    Attributes:
        own: (C,) float64, expected squared error of each class mean; differentiable in the spread within classes.
        cells: What clusters move together; None when rows are independent.
        scale: (C,) float64, by which a sum of a cell is divided to have its part of the error of a class mean.
    """

    own: Tensor
    cells: Cells | None = None
    scale: Tensor | None = None

    @classmethod
    def of(
        cls, classes: ClassMoments, sample: Sample, clusters: ClusterCounts | None, offsets: Offsets | None = None
    ) -> MeanNoise:
        """Of class means.

        Rows of a class have the variance v, of which the part r lies between clusters. For the concentration k of these
        the class mean has the squared error v e with e = r k + (1 - r) / n, and v (1 - e) is found about it.

        Args:
            classes: Class moments of all rows; each class has two clusters at least.
            sample: The sampled rows.
            clusters: How all rows fall into clusters; None when they are independent.
            offsets: Sampled rows about their class means, where these are not of the classes' own column.
        """
        counts = classes.counts.double()
        if clusters is None or sample.clusters is None:
            return cls(independent_errors(classes))
        rows = classes.offsets(sample) if offsets is None else offsets
        cells = Cells.of(rows, sample.clusters)
        correlations = _correlations(cells, rows, classes, clusters)
        error = correlations * clusters.concentration + (1 - correlations) / counts
        left = clusters.left(clusters.counts.double().square()).clamp_min(_TINY)
        scale = sample.share * counts * left.sqrt()
        return cls(classes.within * (error / (1 - error)).clamp_min(0), cells, scale)

    def of_sum(self, weights: Tensor) -> Tensor:
        """Expected squared error of the sum of the class means times their weights (C,)."""
        error = weights.square() @ self.own
        if self.cells is None or self.scale is None:
            return error
        parts = self.cells.sums * (weights / self.scale)[self.cells.classes, None]
        return (error + self.cells.by_cluster(parts).square().sum() - parts.square().sum()).clamp_min(0)

    def between(self, shares: Tensor) -> Tensor:
        """What errors add to the between-class trace, for classes with these shares (C,) of the rows."""
        return shares @ self.own - self.of_sum(shares)

    def of_gaps(self) -> Tensor:
        """Expected squared error of the difference of any two class means, (C, C)."""
        error = self.own[:, None] + self.own
        if self.cells is None or self.scale is None:
            return error
        sizes = self.cells.clusters.unique_consecutive(return_counts=True)[1].tolist()
        parts = self.cells.sums / self.scale[self.cells.classes, None]
        shared = torch.zeros_like(error)
        for own, sums in zip(self.cells.classes.split(sizes), parts.split(sizes), strict=True):
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
    n, spread, concentration = classes.counts.double(), classes.within.detach(), clusters.concentration

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
