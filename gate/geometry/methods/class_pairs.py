"""Any two classes: how large they are against how far apart their means lie."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from gate.geometry.methods.mean_noise import MeanNoise, independent_errors
from gate.geometry.methods.row_pairs import squared_covariance
from gate.geometry.statistics import ClassMoments, ClusterCounts, Sample

_JUDGED = 1024  # sampled rows that tell how far a class mean may be off


@dataclass(frozen=True, eq=False)
class ClassPairs:
    """Pairs of classes a < b, in the upper half of (C, C).

    Attributes:
        classes: Class moments of all rows.
        spread: (C,) float64 unbiased variance of each class, summed over channels.
        distances: (C, C) squared distance of two class means.
        noise: (C, C) what errors of the means add to it.
        merged: (C, C) bool, pairs whose distance does not exceed its own error twice.
    """

    classes: ClassMoments
    spread: Tensor
    distances: Tensor
    noise: Tensor
    merged: Tensor

    @classmethod
    def of(cls, classes: ClassMoments, sample: Sample, clusters: ClusterCounts | None) -> Self:
        """Of all pairs of classes; where rows come in clusters, class means are as uncertain as these make them."""
        errors = MeanNoise.of(classes, sample, clusters)
        spread, noise = classes.within + errors.own, errors.of_gaps()
        distances = _squared_distances(classes.means)
        with torch.no_grad():
            apart = distances - noise > 2 * _distance_error(classes, sample, spread, noise)
        return cls(classes, spread, distances, noise, (~apart).triu(1))

    @cached_property
    def above(self) -> Tensor:
        """Which entries are pairs, (C, C) bool."""
        return torch.ones_like(self.merged).triu(1)

    @cached_property
    def ratio(self) -> Tensor:
        """Half the spreads over the squared distance, (C, C); infinite where merged."""
        return torch.where(self.merged, math.inf, self._over(self.distances - self.noise))

    @property
    def raw(self) -> Tensor:
        """Ratio with the distances as they are, (C, C)."""
        return self._over(self.distances)

    def _over(self, distances: Tensor) -> Tensor:
        return (self.spread[:, None] + self.spread) / (2 * torch.where(self.above, distances, 1.0))

    def mean(self, values: Tensor) -> Tensor:
        """Mean of values (C, C) over the pairs."""
        return torch.where(self.above, values, 0.0).sum() / self.above.sum()

    @property
    def worst(self) -> tuple[int, int]:
        """The pair of the largest ratio."""
        a, b = divmod(int(torch.where(self.above, self.ratio.detach(), -math.inf).argmax()), self.classes.c)
        return a, b

    def largest(self) -> Tensor:
        """Ratio of the worst pair."""
        return self._single(*self.worst)

    def middle(self) -> Tensor:
        """Median over pairs; the upper one of two where a pair is merged."""
        first, second = self.above.nonzero().T
        ratio = self.ratio.detach()[self.above]
        order = ratio.argsort()
        ends = [len(order) // 2]
        if len(order) % 2 == 0 and not bool(torch.isinf(ratio).any()):
            ends.append(ends[0] - 1)
        return torch.stack([self._single(int(first[order[end]]), int(second[order[end]])) for end in ends]).mean()

    def _single(self, a: int, b: int) -> Tensor:
        """Ratio of one pair: its gradient touches two classes alone."""
        if bool(self.merged[a, b]):
            return self.ratio.detach()[a, b]
        gap = (self.classes.means[a] - self.classes.means[b]).square().sum() - self.noise[a, b]
        ratio: Tensor = (self.spread[a] + self.spread[b]) / (2 * gap)
        return ratio


def _squared_distances(means: Tensor) -> Tensor:
    centred = means - means.mean(dim=0).detach()
    inner = centred @ centred.T
    size = inner.diagonal()
    return size[:, None] + size[None, :] - 2 * inner


def _distance_error(classes: ClassMoments, sample: Sample, spread: Tensor, noise: Tensor) -> Tensor:
    """Standard error of each squared distance of two class means, (C, C): wide and clustered classes are off by more.

    The shape of the errors is taken to be that of the pooled covariance within classes, of which sampled rows will do:
    it decides only whether a distance is more than noise.
    """
    rows = classes.offsets(sample).moved
    some, offsets = rows[:_JUDGED], classes.means - classes.mean
    along = some @ offsets.T.to(rows.dtype)
    inner = (along.T @ along).double() / len(some)
    across = inner.diagonal()[:, None] + inner.diagonal() - 2 * inner
    single = independent_errors(classes)  # errors that clusters seem to take away are chance
    weight = torch.maximum(noise, single[:, None] + single) / (classes.shares @ spread).clamp_min(1e-300)
    return (4 * across.clamp_min_(0)).add_(weight, alpha=2 * squared_covariance(rows)).mul_(weight).sqrt_()
