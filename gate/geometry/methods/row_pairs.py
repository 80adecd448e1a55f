"""Pairs of sampled rows: enough of them to know how products of rows spread, never all."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from gate.geometry.influence import variance_of_mean

_COUNT = 131072


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of m rows, about 131072 of them; every row is in about as many as any other of its group.

    Each group is cut into blocks, of which every pair counts: their products are small matrix products. Rows come in
    the order of their hashes, so that a block is a random choice.

    Attributes:
        order: (m,) int64, the rows block by block.
        sizes: Rows of each block.
        first, second: (p,) int64, index of the two rows of each pair.
    """

    order: Tensor
    sizes: list[int]
    first: Tensor
    second: Tensor

    @classmethod
    def among(cls, m: int, device: torch.device) -> Pairs:
        """Of any two of m rows, each pair at most once."""
        return cls.within(torch.zeros(m, dtype=torch.int64, device=device))

    @classmethod
    def within(cls, codes: Tensor) -> Pairs:
        """Of two rows of one group.

        Args:
            codes: (m,) int64 group of each row.
        """
        order = codes.argsort(stable=True)
        least = 2 * _COUNT // max(len(codes), 1) + 1
        sizes = [part for size in torch.bincount(codes).tolist() for part in _even_parts(size, least)]
        starts = list(accumulate(sizes, initial=0))[:-1]
        pairs = [
            torch.triu_indices(size, size, 1, device=codes.device) + start
            for size, start in zip(sizes, starts, strict=True)
        ]
        first, second = order[torch.cat(pairs, dim=1)] if pairs else order.new_zeros(2, 0)
        return cls(order, sizes, first, second)

    @property
    def m(self) -> int:
        """Rows."""
        return len(self.order)

    def products(self, rows: Tensor) -> Tensor:
        """Inner product of the two rows of each pair, (p,) float64."""
        blocks = rows.index_select(0, self.order).split(self.sizes)
        parts = [(block @ block.T)[*torch.triu_indices(len(block), len(block), 1)] for block in blocks]
        return torch.cat(parts).double() if parts else rows.new_zeros(0, dtype=torch.float64)

    def row_means(self, values: Tensor, among: Tensor | None = None) -> Tensor:
        """Mean of the values (p,) of the pairs that a row is in, (m,) float64; the overall mean where it is in none.

        Args:
            values: Of every pair.
            among: (p,) bool, the pairs that count; all when None.
        """
        weights = torch.ones_like(values) if among is None else among.double()
        counted = values * weights
        sums = values.new_zeros(self.m).index_add_(0, self.first, counted).index_add_(0, self.second, counted)
        counts = values.new_zeros(self.m).index_add_(0, self.first, weights).index_add_(0, self.second, weights)
        return torch.where(counts > 0, sums / counts.clamp_min(1), counted.sum() / weights.sum())


def _even_parts(size: int, least: int) -> list[int]:
    """A number of rows as parts of at least so many, or all in one, that differ by at most one."""
    count = max(1, size // least)
    return [size // count + (part < size % count) for part in range(count)]


def squared_covariance(rows: Tensor) -> float:
    """tr(C^2) for the covariance C of centred rows (m, d), without a d x d matrix.

    Mean of the squared products of pairs of different rows: unbiased, as (u.v)^2 has the mean tr(C^2).
    """
    return float(Pairs.among(len(rows), rows.device).products(rows).square().mean())


def without_pair_noise(plugged_in: float, pairs: float) -> float:
    """Variance of a U-statistic that is quadratic in means.

    With estimated means, the projection counts the noise of the means twice over: its variance is too large by
    4 `pairs`, where the true one has 2 `pairs` besides the projection.

    Args:
        plugged_in: Variance from the influence.
        pairs: Sum over pairs of means of (weight^2 tr(C_a C_b) / (n_a n_b)).
    """
    return max(0.0, plugged_in - 4 * pairs) + 2 * pairs


def u_statistic_variance(influence: Tensor, n: int, kernel_square: float) -> float:
    """Variance of a mean over pairs of n rows, of which both orders count.

    4 Var(h1) / n + 2 Var(h2) / n^2 (Hoeffding 1948). The influence of the n rows holds the second order twice over, and
    unrelated rows have nothing else: half of it is taken off again.

    Args:
        influence: (m,) of the sampled rows.
        n: Rows.
        kernel_square: Mean square of the symmetric kernel about its mean, over pairs.
    """
    first = variance_of_mean(influence, n)
    second = max(kernel_square - first * n / 2, 0.0) / max(1 - 2 / n, 0.5)
    return max(first - 2 * second / n**2, first / 2)
