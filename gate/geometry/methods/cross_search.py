"""Searching the index of one version with the queries of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

_TILE = 1024
_REFINE_TILE = 64
CANDIDATES = 8  # of each query: the nearest row, and those that would take its place

Pair = tuple[int, int]  # the version that asks, and the version whose index is searched


@dataclass(frozen=True)
class Search:
    """What the queries of one version find in the index of another.

    Attributes:
        nearest: (r,) the row found by each query.
        hits: (r,) float64, 1 where it has the label of the query.
        influence: (r,) of each row on the mean of `hits`, as a query and as a row of the index.
    """

    nearest: Tensor
    hits: Tensor
    influence: Tensor

    @property
    def accuracy(self) -> Tensor:
        """Share of the queries that find their label."""
        return self.hits.mean()


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of accuracies: pair of versions → weight."""

    weights: dict[Pair, float]

    @classmethod
    def of(cls, pair: Pair) -> Contrast:
        """One accuracy."""
        return cls({pair: 1.0})

    @classmethod
    def mean(cls, parts: Sequence[Contrast]) -> Contrast:
        """The mean of several."""
        total = cls({})
        for part in parts:
            total = total.minus(part, -1 / len(parts))
        return total

    def minus(self, other: Contrast, times: float = 1.0) -> Contrast:
        """This less a multiple of another one."""
        pairs = dict.fromkeys((*self.weights, *other.weights))
        return Contrast({pair: self.weights.get(pair, 0.0) - times * other.weights.get(pair, 0.0) for pair in pairs})


@dataclass(frozen=True)
class Index:
    """Accuracy of the queries of each version on the index of each.

    Attributes:
        versions: Unit rows (r, d) of each version, oldest first.
        codes: (r,) class of each row.
        clusters: (r,), equal for rows that are never found for each other; None when all may be.
    """

    versions: Sequence[Tensor]
    codes: Tensor
    clusters: Tensor | None
    _covariances: dict[tuple[Pair, Pair], float] = field(default_factory=dict, repr=False)

    @property
    def newest(self) -> int:
        """Place of the newest version."""
        return len(self.versions) - 1

    @property
    def rows(self) -> int:
        """Rows of each version."""
        return len(self.codes)

    @cached_property
    def searches(self) -> dict[Pair, Search]:
        """For every index that is no newer than the query."""
        return {(q, g): self._search(q, g) for q in range(len(self.versions)) for g in range(q + 1)}

    def gain(self, query: int, index: int) -> Contrast:
        """The accuracy of a version on an index, less that of the version that has built it."""
        return Contrast.of((query, index)).minus(Contrast.of((index, index)))

    def value(self, contrast: Contrast) -> Tensor:
        """The weighted sum, scalar."""
        return sum(
            (self.searches[pair].accuracy * weight for pair, weight in contrast.weights.items()),
            start=torch.zeros((), dtype=torch.float64, device=self.codes.device),
        )

    def influence(self, contrast: Contrast) -> Tensor:
        """Of each row on the weighted sum, (r,)."""
        return sum(
            (self.searches[pair].influence * weight for pair, weight in contrast.weights.items()),
            start=torch.zeros(self.rows, dtype=torch.float64, device=self.codes.device),
        )

    def variance(self, contrast: Contrast) -> float:
        """Of the weighted sum, at least that of paired shares: rows of one index found by several queries count too.

        A single neighbour changes by leaps, of which a jackknife reads far too much; the variance is summed over the
        pairs of queries of which one is, or finds, what the other is or finds.
        """
        parts = [(pair, weight) for pair, weight in contrast.weights.items() if weight != 0]
        shared = sum(w * v * self._covariance(a, b) for a, w in parts for b, v in parts)
        terms = sum(
            ((self.searches[pair].hits - self.searches[pair].accuracy) * weight for pair, weight in parts),
            start=torch.zeros(self.rows, dtype=torch.float64, device=self.codes.device),
        )
        return max(shared, float(terms.square().sum())) / self.rows**2

    def _covariance(self, a: Pair, b: Pair) -> float:
        if (a, b) not in self._covariances:
            first, second = self.searches[a], self.searches[b]
            found = shared_row_covariance(
                first.nearest, first.hits - first.accuracy, second.nearest, second.hits - second.accuracy
            )
            self._covariances[a, b] = self._covariances[b, a] = found
        return self._covariances[a, b]

    def _search(self, query: int, index: int) -> Search:
        found = candidates(self.versions[query], self.versions[index], self.clusters)
        hits = (self.codes[found] == self.codes[:, None]).double()
        first = hits[:, 0]
        change = first - hits[:, 1:].mean(dim=1)  # the next candidates, on average, where the nearest one leaves
        influence = (first - first.mean()).index_add(0, found[:, 0], change)
        return Search(found[:, 0], first, influence)


def shared_row_covariance(found_first: Tensor, first: Tensor, found_second: Tensor, second: Tensor) -> float:
    """Sum of the products of the terms of two searches over the pairs of queries that share a row.

    Query i and what it finds in one, query j and what it finds in the other: a pair counts once, also where both of its
    rows are the same.

    Args:
        found_first: (r,) the row that each query finds in the first search.
        first: (r,) term of each query there, about its mean.
        found_second: (r,) the row that each query finds in the second search.
        second: (r,) term of each query there, about its mean.
    """
    order = torch.arange(len(first), device=first.device)
    by_row = [
        torch.zeros_like(terms).index_add_(0, found, terms)
        for found, terms in ((found_first, first), (found_second, second))
    ]
    once = found_first != found_second
    mutual = found_second[found_first] == order
    same_query = (first * second * once).sum()
    same_found = by_row[0] @ by_row[1]
    crossed = (first[found_second] * second).sum() + (first * second[found_first] * ~mutual).sum()
    return float(same_query + same_found + crossed)


def candidates(queries: Tensor, index: Tensor, clusters: Tensor | None) -> Tensor:
    """The 8 rows of the index nearest to each query but its own row and cluster, (r, 8), nearest first.

    Candidates come from float32 products about the mean; distances that decide are computed again by differences.

    Args:
        queries: (r, d).
        index: (r, d), of the same rows.
        clusters: (r,), at least 8 rows outside the largest one.
    """
    own = torch.arange(len(queries), device=queries.device) if clusters is None else clusters
    centre = index.mean(dim=0)
    left, right = (queries - centre).float(), (index - centre).float()
    half = right.square().sum(dim=1) / 2
    spare = min(2 * CANDIDATES, len(index) - int(own.unique(return_counts=True)[1].max()))
    parts = []
    for start in range(0, len(queries), _TILE):
        similar = left[start : start + _TILE] @ right.T - half
        similar.masked_fill_(own[start : start + _TILE, None] == own, -torch.inf)
        parts.append(similar.topk(spare, dim=1).indices.sort(dim=1).values)
    ordered = []
    for query, picks in zip(queries.split(_REFINE_TILE), torch.cat(parts).split(_REFINE_TILE), strict=True):
        gaps = (index[picks] - query[:, None]).square().sum(dim=2)
        ordered.append(picks.gather(1, gaps.argsort(dim=1, stable=True)))
    return torch.cat(ordered)[:, :CANDIDATES]
