"""How far class means are off by chance, for rows that may come in clusters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gate.geometry.influence import Refusal
from gate.geometry.statistics import ClassMoments, ClusterCounts, Sample
from gate.geometry.statistics.classes import Offsets

_BORROWED = 10  # clusters of a class beyond the first that say as much of it as all classes together
_FEWEST = 5  # clusters of a class, counted as equal ones: with fewer, intervals are too narrow
_TINY = torch.finfo(torch.float64).tiny


def few_clusters(classes: ClassMoments, clusters: ClusterCounts | None) -> Refusal | None:
    """The refusal when the rows of a class are of few clusters: too few tell how its mean would vary."""
    if clusters is None:
        return None
    effective = 1 / clusters.concentration()
    worst = int(effective.argmin())
    if effective[worst].item() >= _FEWEST - 1e-9:
        return None
    return Refusal(
        "inconclusive",
        f"few_clusters: the rows of class {classes.names[worst]!r} are of effectively {effective[worst].item():.2g} "
        f"clusters; each class needs at least {_FEWEST}, better 20",
    )


@dataclass(frozen=True, eq=False)
class Cells:
    """Errors of class means, by cells of a class and a cluster.

    Attributes:
        classes: (k,) int64.
        clusters: (k,) int64, ascending.
        sums: (k, d) float64, how far the rows of the cell move the mean of their class.
    """

    classes: Tensor
    clusters: Tensor
    sums: Tensor


@dataclass(frozen=True, eq=False)
class MeanNoise:
    """Covariance of the errors of class means, summed over channels.

    Rows of one cluster move together, by the intraclass correlation: the share of the variance within a class that lies
    between its clusters. A cluster with rows of two classes moves both means, and less so their difference.

    Attributes:
        own: (C,) float64, expected squared error of each class mean; differentiable in the spread within classes.
        correlation: Intraclass correlation of all classes together, 0 for independent rows.
        cells: What clusters move together; None when rows are independent.
    """

    own: Tensor
    correlation: float = 0.0
    cells: Cells | None = None

    @classmethod
    def of(
        cls, classes: ClassMoments, sample: Sample, clusters: ClusterCounts | None, offsets: Offsets | None = None
    ) -> MeanNoise:
        """Of class means.

        Args:
            classes: Class moments of all rows.
            sample: The sampled rows.
            clusters: How all rows fall into clusters; None when they are independent.
            offsets: Sampled rows about their class means, where these are not of the classes' own column.
        """
        counts = classes.counts.double()
        if clusters is None or sample.clusters is None:
            return cls(classes.within / (counts - 1))
        rows = classes.offsets(sample) if offsets is None else offsets
        found, inverse = torch.stack([sample.clusters, rows.codes]).unique(dim=1, return_inverse=True)
        own = found[1]
        moved = torch.zeros(len(own), rows.moved.shape[1], dtype=torch.float64, device=counts.device)
        moved.index_add_(0, inverse, rows.moved.double())

        def by_class(terms: Tensor, codes: Tensor) -> Tensor:
            return torch.zeros_like(counts).index_add_(0, codes, terms)

        cells, ones = torch.bincount(inverse).double(), torch.ones_like(rows.sizes)
        products = by_class(moved.square().sum(dim=1), own) - by_class(rows.sizes, rows.codes)
        pairs = by_class(cells.square(), own) - by_class(ones, rows.codes)
        correlations, together = _correlations(products, pairs, classes, clusters)
        concentration = clusters.concentration()
        error = correlations * concentration + (1 - correlations) / counts
        scale = sample.share * counts * clusters.left().clamp_min(_TINY).sqrt()
        return cls(
            classes.within * (error / (1 - error)).clamp_min(0),
            together,
            Cells(own, found[0], moved / scale[own, None]),
        )

    def of_sum(self, weights: Tensor) -> Tensor:
        """Expected squared error of the sum of the class means times their weights (C,)."""
        error = weights.square() @ self.own
        if self.cells is None:
            return error
        parts = self.cells.sums * weights[self.cells.classes, None]
        wholes = torch.zeros_like(parts).index_add_(0, self.cells.clusters.unique(return_inverse=True)[1], parts)
        return error + wholes.square().sum() - parts.square().sum()

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
        return error - 2 * shared.fill_diagonal_(0)


def _correlations(
    products: Tensor, pairs: Tensor, classes: ClassMoments, clusters: ClusterCounts
) -> tuple[Tensor, float]:
    """Intraclass correlation of each class, (C,), drawn to that of all where it has few clusters; and that of all.

    With t the variance between clusters and s that within, a product of two rows of one cluster about the class mean is
    t a - s / n on average, and the spread within the class t b + s (1 - 1 / n): derived here, and solved for t and s.

    Args:
        products: Sum of the products of sampled rows of one cluster about their class mean, (C,).
        pairs: Number of these, (C,).
        classes: Class moments of all rows.
        clusters: How all rows fall into clusters.
    """
    n, within, concentration = classes.counts.double(), classes.within.detach(), clusters.concentration()
    between = products * (1 - 1 / n) + pairs * within / n
    inside = pairs * within * clusters.left() - products * (1 - concentration)
    whole = (between + inside).sum()
    together = (between.sum() / whole).clamp(max=1).item() if whole.item() > 0 else 0.0
    own = torch.where(between + inside > 0, between / (between + inside).clamp_min(_TINY), together).clamp(-1, 1)
    weight = torch.minimum(1 / concentration - 1, pairs)
    return (_BORROWED * together + weight * own) / (_BORROWED + weight), together
