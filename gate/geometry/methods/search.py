"""The nearest rows, exactly: for duplicates, for ties, in a tight cone and in collapsed classes.

Products of tiles say which rows come into question and how sure that is; each tile serves its rows and its columns.
What float32 leaves open is asked again in float64, and what that leaves open is decided by differences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from gate.errors import MetricError

_TILE = 1024  # on a CPU, where a tile and its rows stay in the cache
_LARGE_TILE = 8192
_DEPTH = 8  # entries of a tile are first looked at by the largest of so many
_PAIRS = 256  # differences of rows held at once
_SPARE = 8  # candidates beyond the k-th
_CERTAINTY = 6.0  # standard deviations of a sum's rounding, after Higham & Mary 2019 (SIAM J. Sci. Comput. 41)


def nearest(rows: Tensor, k: int, *, clusters: Tensor | None = None, refine: bool = True) -> Tensor:
    """The k nearest other rows of each row by Euclidean distance, nearest first; equally far ones by row order.

    Args:
        rows: (m, d), finite.
        k: Neighbours of each row, from 1.
        clusters: (m,) int64, equal for rows that are never neighbours of each other; None when all may be.
        refine: Whether rounding may not decide. Without, nearly equal distances come in any order.

    Returns:
        Row numbers, (m, k) int64.

    Raises:
        MetricError: A row has fewer than k others to choose from.
    """
    largest = 1 if clusters is None else int(clusters.unique(return_counts=True)[1].max())
    _check(k, len(rows) - largest)
    own = torch.arange(len(rows), device=rows.device) if clusters is None else clusters
    products = _Products.of(rows, rows, own, own, torch.float32)
    best = _Best.empty(products.left, min(k + _SPARE, len(rows) - 1) if refine else k)
    starts = products.starts(len(rows))
    for apart in range(len(starts)):
        for start, other in zip(starts, starts[apart:], strict=False):
            tile = products.tile(start, other)
            best.offer(start, other, tile, _peaks(tile))
            if apart:
                best.offer(other, start, tile.T, _peaks_of_columns(tile))
    return _decided(products, best, k) if refine else best.found[: len(rows)]


def nearest_among(queries: Tensor, gallery: Tensor, k: int) -> Tensor:
    """The k gallery rows nearest to each query row by Euclidean distance, nearest first; equally far ones by row order.

    Args:
        queries: (q, d), finite.
        gallery: (g, d), finite.
        k: From 1 to g.

    Returns:
        Row numbers of the gallery, (q, k) int64.

    Raises:
        MetricError: The gallery has fewer than k rows.
    """
    _check(k, len(gallery))
    others = torch.arange(len(gallery), device=gallery.device)
    outside = torch.full((len(queries),), -1, device=queries.device)
    return _among(_Products.of(queries, gallery, outside, others, torch.float32), k)


def _check(k: int, available: int) -> None:
    if not 1 <= k <= available:
        raise MetricError(f"too_few_rows: k must lie between 1 and the {available} rows to choose from, found {k}")


def _among(products: _Products, k: int) -> Tensor:
    best = _Best.empty(products.left, min(k + _SPARE, len(products.gallery)))
    for start in products.starts(len(products.queries)):
        for other in products.starts(len(products.gallery)):
            tile = products.tile(start, other)
            best.offer(start, other, tile, _peaks(tile))
    return _decided(products, best, k)


@dataclass(frozen=True, eq=False)
class _Products:
    """Minus half the squared distances of queries to a gallery, tile by tile, each by one product of longer rows.

    Attributes:
        queries: (q, d).
        gallery: (g, d).
        own: (q,), and others: (g,): a pair with the same number is left out.
        left: The queries about a common centre over `scale`, then minus half their square, then 1; filled up with
            rows that are infinitely far.
        right: The same of the gallery, with the last two columns the other way round.
        scale: A power of two, so that dividing by it rounds nothing.
    """

    queries: Tensor
    gallery: Tensor
    own: Tensor
    others: Tensor
    left: Tensor
    right: Tensor
    scale: float

    @classmethod
    def of(cls, queries: Tensor, gallery: Tensor, own: Tensor, others: Tensor, precision: torch.dtype) -> Self:
        centre = gallery[:: max(1, len(gallery) // 256)].median(dim=0).values  # a few rows far out do not move it
        farthest = max(_farthest(queries, centre), _farthest(gallery, centre))
        scale = 2.0 ** math.frexp(farthest)[1]
        left = _lengthened(queries, centre, scale, precision)
        right = left.clone() if gallery is queries else _lengthened(gallery, centre, scale, precision)
        right[:, -2:] = right[:, -2:].flip(1)
        return cls(queries, gallery, own, others, left, right, scale)

    def starts(self, rows: int) -> range:
        """Where the tiles of so many rows begin."""
        return range(0, rows, _TILE if self.left.device.type == "cpu" else _LARGE_TILE)

    def tile(self, start: int, other: int) -> Tensor:
        """Of the queries from `start` and the gallery rows from `other`; minus infinity for pairs left out."""
        step = self.starts(1).step
        tile = self.left[start : start + step] @ self.right[other : other + step].T
        own, others = self.own[start : start + step], self.others[other : other + step]
        if own.min() <= others.max() and others.min() <= own.max():
            tile[: len(own), : len(others)].masked_fill_(own[:, None] == others, -torch.inf)
        return tile

    def doubt(self, squares: Tensor) -> Tensor:
        """By how much computed squared distances must differ to be sure of their order, (q, 1).

        For gallery rows no farther than these squared distances, (q, 1): rounding errs in proportion to the lengths
        of both rows, and no such row is longer than the query and the distance together.
        """
        own = (-2 * self.left[: len(self.queries), -2:-1].double()).sqrt()
        longest = (-2 * self.right[: len(self.gallery), -1].double().min()).sqrt()
        reach = torch.minimum(own + squares.clamp(min=0).sqrt(), longest)
        rounding = torch.finfo(self.left.dtype).eps / 2
        return 2 * (_CERTAINTY * math.sqrt(self.left.shape[1]) + 4) * rounding * (own + reach).square()

    def again(self, rows: Tensor, limit: Tensor, k: int) -> Tensor:
        """The k nearest of those queries that this precision leaves open, (r, k), within these squares, (r, 1)."""
        if self.left.dtype == torch.float64:
            return self._by_differences(rows, limit, k)
        return _among(_Products.of(self.queries[rows], self.gallery, self.own[rows], self.others, torch.float64), k)

    def _by_differences(self, rows: Tensor, limit: Tensor, k: int) -> Tensor:
        """By the differences to every row within the limit; equal rows share theirs."""
        distinct, group = torch.cat([self.queries, self.gallery]).unique(dim=0, return_inverse=True)
        own_group, other_group = group.split([len(self.queries), len(self.gallery)])
        answers = []
        for part in torch.arange(len(rows), device=rows.device).split(max(1, _TILE**2 // len(self.gallery))):
            squares = -2 * (self.left[rows[part]] @ self.right[: len(self.gallery)].T)
            squares.masked_fill_(self.own[rows[part], None] == self.others, torch.inf)
            row, other = (squares <= limit[part]).nonzero(as_tuple=True)
            pairs, which = torch.stack([own_group[rows[part]][row], other_group[other]]).unique(
                dim=1, return_inverse=True
            )
            exact = _differences(distinct, distinct, pairs[0], pairs[1])[which]
            order = exact.argsort(stable=True)
            order = order[row[order].argsort(stable=True)]
            first = torch.searchsorted(row, torch.arange(len(part), device=row.device))
            answers.append(other[order][first[:, None] + torch.arange(k, device=row.device)])
        return torch.cat(answers)


def _farthest(rows: Tensor, centre: Tensor) -> float:
    return max((rows.amax(dim=0) - centre).max().item(), (centre - rows.amin(dim=0)).max().item())


def _lengthened(rows: Tensor, centre: Tensor, scale: float, precision: torch.dtype) -> Tensor:
    n, d = rows.shape
    longer = torch.zeros(n + -n % _DEPTH, d + 2, dtype=precision, device=rows.device)
    moved = (rows.to(torch.promote_types(rows.dtype, precision)) - centre).div_(scale)
    longer[:n, :d] = moved
    longer[:n, d] = moved.square_().sum(dim=1) / -2
    longer[n:, d] = -torch.inf
    longer[:, d + 1] = 1
    return longer


def _differences(left: Tensor, right: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    """Squared distances of some pairs, (p,) float64."""
    parts = zip(rows.split(_PAIRS), others.split(_PAIRS), strict=True)
    gaps = (left[own].double() - right[other].double() for own, other in parts)
    return torch.cat([gap.square_().sum(dim=1) for gap in gaps])


def _peaks(tile: Tensor) -> Tensor:
    """Largest of every `_DEPTH` columns of a tile."""
    return tile.view(len(tile), _DEPTH, -1).amax(dim=1)


def _peaks_of_columns(tile: Tensor) -> Tensor:
    """The same of the transposed tile."""
    return tile.view(_DEPTH, -1, tile.shape[1]).amax(dim=0).T


@dataclass(frozen=True, eq=False)
class _Best:
    """The nearest rows so far of each query, nearest first.

    Attributes:
        similar: Minus half their squared distances, (q, kept).
        found: Their row numbers, (q, kept).
    """

    similar: Tensor
    found: Tensor

    @classmethod
    def empty(cls, queries: Tensor, kept: int) -> Self:
        found = torch.zeros(len(queries), kept, dtype=torch.int64, device=queries.device)
        return cls(torch.full_like(found, -torch.inf, dtype=queries.dtype), found)

    def offer(self, start: int, first: int, tile: Tensor, peaks: Tensor) -> None:
        """Takes what is nearer from a tile of the queries from `start` and of the rows from `first`."""
        similar, found = self.similar[start : start + len(tile)], self.found[start : start + len(tile)]
        kept = similar.shape[1]
        least = similar[:, -1:]
        if kept <= peaks.shape[1] and bool(least.isinf().any()):
            nearer = peaks.topk(kept, dim=1).values[:, -1:]  # at least as many entries are as near as that
            least = torch.maximum(least, nearer.nextafter(torch.full_like(nearer, -torch.inf)))
        row, other, value = _above(tile, peaks, least)
        counts = torch.bincount(row, minlength=len(tile))
        place = kept + torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
        width = kept + int(counts.max())
        similars = torch.full((len(tile), width), -torch.inf, dtype=tile.dtype, device=tile.device)
        founds = torch.zeros(len(tile), width, dtype=torch.int64, device=tile.device)
        similars[:, :kept], founds[:, :kept] = similar, found
        similars[row, place], founds[row, place] = value, other + first
        top = similars.topk(kept, dim=1)
        similar.copy_(top.values)
        found.copy_(founds.gather(1, top.indices))


def _above(tile: Tensor, peaks: Tensor, least: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Row, column and value of the entries above the least of their row, row by row."""
    row, group = (peaks > least).nonzero(as_tuple=True)
    columns = group[:, None] + torch.arange(0, tile.shape[1], peaks.shape[1], device=tile.device)
    values = tile[row[:, None], columns]
    above = values > least[row]
    return row[:, None].expand_as(above)[above], columns[above], values[above]


def _decided(products: _Products, best: _Best, k: int) -> Tensor:
    """The k nearest of each query, (q, k): what rounding leaves open is computed again."""
    q = len(products.queries)
    squares, found = -2 * best.similar[:q].double(), best.found[:q]
    doubt = products.doubt(squares[:, k - 1 : k])
    limit = squares[:, k - 1 : k] + doubt
    open_rows = (squares[:, -1:] <= limit).nonzero()[:, 0]
    close = squares.diff(dim=1) <= doubt
    row, place = (_either_side(close) & (squares <= limit)).nonzero(as_tuple=True)
    if len(row):
        exact = _differences(products.queries, products.gallery, row, found[row, place])
        squares[row, place] = exact / products.scale**2
    order = found.argsort(dim=1)
    order = order.gather(1, squares.gather(1, order).argsort(dim=1, stable=True))[:, :k]
    answer = found.gather(1, order)
    if len(open_rows):
        answer[open_rows] = products.again(open_rows, limit[open_rows], k)
    return answer


def _either_side(close: Tensor) -> Tensor:
    edge = torch.zeros_like(close[:, :1])
    return torch.cat([close, edge], dim=1) | torch.cat([edge, close], dim=1)
