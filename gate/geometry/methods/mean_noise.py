"""How far class means are off by chance, for rows that may come in clusters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gate.geometry.influence import sampled_effect
from gate.geometry.statistics import ClassMoments, Sample
from gate.geometry.statistics.classes import Offsets


@dataclass(frozen=True, eq=False)
class ClusterSums:
    """Errors of class means, cluster by cluster.

    Attributes:
        classes: (k,) int64, class of each cell of a class and a cluster.
        clusters: (k,) int64, cluster of each cell, in ascending order.
        sums: (k, d) float64, how far the rows of the cell move the mean of their class.
    """

    classes: Tensor
    clusters: Tensor
    sums: Tensor


@dataclass(frozen=True, eq=False)
class MeanNoise:
    """Covariance of the errors of class means, summed over channels.

    Rows of one cluster move together (Liang and Zeger 1986): what counts is the sum of their offsets from the mean of
    their class. A cluster with rows of two classes moves both means, and less so their difference.

    Attributes:
        own: (C,) float64, expected squared error of each class mean; differentiable in the spread within classes.
        together: What clusters move together; None when rows are independent.
    """

    own: Tensor
    together: ClusterSums | None = None

    @classmethod
    def of(cls, classes: ClassMoments, sample: Sample, offsets: Offsets | None = None) -> MeanNoise:
        """Of class means.

        The mean of a class of a single cluster is as uncertain as one row: nothing tells how it would vary. A class of
        which fewer than two rows were sampled is taken to be as clustered as the others.

        Args:
            classes: Class moments of all rows.
            sample: The sampled rows, which name their clusters.
            offsets: Sampled rows about their class means, where these are not of the classes' own column.
        """
        counts = classes.counts.double()
        if sample.clusters is None:
            return cls(classes.within / (counts - 1))
        rows = classes.offsets(sample) if offsets is None else offsets
        cells, inverse = torch.stack([sample.clusters, rows.codes]).unique(dim=1, return_inverse=True)
        clusters, own = cells
        moved = torch.zeros(len(own), rows.moved.shape[1], dtype=torch.float64, device=counts.device)
        moved.index_add_(0, inverse, rows.moved.double())
        together = torch.zeros_like(counts).index_add_(0, own, moved.square().sum(dim=1))
        alone = torch.zeros_like(counts).index_add_(0, rows.codes, rows.sizes)
        effects = sampled_effect(together, alone, sample.share)
        fitted = _fitted(torch.bincount(inverse).double(), own, classes)
        effects = torch.where(fitted > 0, effects / fitted, counts)
        seen = torch.bincount(rows.codes, minlength=classes.c) > 1
        if bool(seen.any()):
            effects = torch.where(seen, effects, alone[seen] @ effects[seen] / alone[seen].sum().clamp_min(1e-300))
        sums = moved / (sample.share * counts * fitted.sqrt()).clamp_min(1e-300)[own, None]
        sums[fitted[own] == 0] = 0
        return cls(classes.within * (effects.clamp_min(0) / counts).clamp_max(1), ClusterSums(own, clusters, sums))

    def of_sum(self, weights: Tensor) -> Tensor:
        """Expected squared error of the sum of the class means times their weights (C,)."""
        error = weights.square() @ self.own
        if self.together is None:
            return error
        parts = self.together.sums * weights[self.together.classes, None]
        wholes = torch.zeros_like(parts).index_add_(0, self.together.clusters.unique(return_inverse=True)[1], parts)
        return error + wholes.square().sum() - parts.square().sum()

    def between(self, shares: Tensor) -> Tensor:
        """What errors add to the between-class trace, for classes with these shares (C,) of the rows."""
        return shares @ self.own - self.of_sum(shares)

    def of_gaps(self) -> Tensor:
        """Expected squared error of the difference of any two class means, (C, C)."""
        error = self.own[:, None] + self.own
        if self.together is None:
            return error
        sizes = self.together.clusters.unique_consecutive(return_counts=True)[1].tolist()
        shared = torch.zeros_like(error)
        for own, sums in zip(self.together.classes.split(sizes), self.together.sums.split(sizes), strict=True):
            if len(own) > 1:
                shared[own[:, None], own] += sums @ sums.T
        return error - 2 * shared.fill_diagonal_(0)


def _fitted(sizes: Tensor, own: Tensor, classes: ClassMoments) -> Tensor:
    """Share of the squared sums by cluster that the fitted mean of each class leaves, (C,); 0 for a single cluster.

    1 + sum w^2 - 2 sum w^3 / sum w^2 for the shares w of the clusters in a class: 1 - 1 / G when all are equal. Derived
    here, for clusters whose middles vary; falling moments of the sampled sizes are free of the sampling.

    Args:
        sizes: (k,) float64 sampled rows of each cell.
        own: (k,) class of each cell.
        classes: Class moments of all rows.
    """
    n = classes.counts.double()

    def by_class(terms: Tensor) -> Tensor:
        return torch.zeros_like(n).index_add_(0, own, terms)

    m = by_class(sizes)
    pairs = by_class(sizes * (sizes - 1)) / (m * (m - 1)).clamp_min(1)
    triples = by_class(sizes * (sizes - 1) * (sizes - 2)) / (m * (m - 1) * (m - 2)).clamp_min(1)
    squares = (1 + (n - 1) * pairs) / n
    cubes = (1 + 3 * (n - 1) * pairs + (n - 1) * (n - 2) * triples) / n.square()
    single = by_class(torch.ones_like(sizes)) <= 1
    return torch.where(single, 0.0, (1 + squares - 2 * cubes / squares).clamp(0, 1))
