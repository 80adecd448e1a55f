"""How the rows of each class fall into clusters, over all rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Self

import torch
from torch import Tensor

from gate.geometry.statistics.batch import Batch, Split
from gate.geometry.statistics.columns import place, union


@dataclass(frozen=True, eq=False)
class ClusterCounts:
    """How many rows each cluster has in each class.

    Attributes:
        names: C class names, sorted.
        classes: (k,) int64, class of each cell of a class and a cluster.
        clusters: (k,) int64, its cluster.
        counts: (k,) int64.
    """

    names: tuple[str, ...]
    classes: Tensor
    clusters: Tensor
    counts: Tensor

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ("labels", "clusters")

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        codes = batch.class_codes()
        ones = torch.ones_like(codes.values)
        return cls._counted(codes.names, codes.values, batch.numbers("clusters"), ones)

    @classmethod
    def _counted(cls, names: tuple[str, ...], classes: Tensor, clusters: Tensor, counts: Tensor) -> Self:
        found, places = clusters.unique(return_inverse=True)
        cells, inverse = (classes * len(found) + places).unique(return_inverse=True)
        sizes = counts.new_zeros(len(cells)).index_add_(0, inverse, counts)
        return cls(names, cells // len(found), found[cells % len(found)], sizes)

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        names = union(self.names, other.names)
        classes = [place(part.names, names, part.classes.device)[part.classes] for part in (self, other)]
        clusters, counts = [self.clusters, other.clusters], [self.counts, other.counts]
        return self._counted(names, torch.cat(classes), torch.cat(clusters), torch.cat(counts))

    def by_class(self, terms: Tensor) -> Tensor:
        """Sum over the cells of each class, (C,) float64."""
        return torch.zeros(len(self.names), dtype=torch.float64, device=terms.device).index_add_(0, self.classes, terms)

    @cached_property
    def concentration(self) -> Tensor:
        """Sum of the squared shares of the clusters in each class, (C,): 1 for a single one, 1 / G for G equal ones."""
        sizes = self.counts.double()
        return self.by_class(sizes.square()) / self.by_class(sizes).square()

    def concentration_of_all(self) -> float:
        """Sum of the squared shares of the clusters in all rows, of whatever class."""
        _, inverse = self.clusters.unique(return_inverse=True)
        sizes = torch.bincount(inverse, self.counts.double())
        return float(sizes.square().sum() / sizes.sum() ** 2)

    def left(self, weights: Tensor) -> Tensor:
        """Share of a covariance within clusters that is left about the fitted class means, (C,).

        Args:
            weights: (k,) how much each cell counts: by its pairs of different rows, or by all pairs with other classes.
        """
        sizes = self.counts.double()
        typical = self.by_class(weights * sizes) / (self.by_class(weights) * self.by_class(sizes)).clamp_min(1)
        return 1 - 2 * typical + self.concentration
