"""Pairs of sampled rows: enough of them to know how products of rows spread, never all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gate.geometry.influence import variance_of_mean

_COUNT = 131072
_TILE = 2048


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of m rows, about 131072 of them; every row is in about as many as any other of its group.

    Rows come in the order of their hashes, so that a fixed distance in that order is a random choice.

    Attributes:
        first, second: (p,) int64, index of the two rows of each pair.
        m: Rows.
    """

    first: Tensor
    second: Tensor
    m: int

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
        m = len(codes)
        order = codes.argsort(stable=True)
        sizes = torch.bincount(codes)
        starts = (sizes.cumsum(0) - sizes)[codes[order]]
        size = sizes[codes[order]]
        place = torch.arange(m, device=codes.device) - starts
        steps = torch.arange(1, max(2, min(int(sizes.max()) // 2 + 1, _COUNT // max(m, 1) + 1)), device=codes.device)
        partner = starts + (place + steps[:, None]) % size
        once = (steps[:, None] <= ((size - 1) // 2).clamp_min(1)) & (size >= 2)
        first = order.expand(len(steps), -1)[once]
        return cls(first, order[partner][once], m)

    def chosen(self, keep: Tensor) -> Pairs:
        """Some of the pairs, by a mask (p,) bool."""
        return Pairs(self.first[keep], self.second[keep], self.m)

    def products(self, rows: Tensor) -> Tensor:
        """Inner product of the two rows of each pair, (p,) float64."""
        tiles = zip(self.first.split(_TILE), self.second.split(_TILE), strict=True)
        parts = [
            (rows.index_select(0, first).mul_(rows.index_select(0, second))).sum(dim=1).double()
            for first, second in tiles
        ]
        return torch.cat(parts) if parts else rows.new_zeros(0, dtype=torch.float64)

    def row_means(self, values: Tensor) -> Tensor:
        """Mean of the values (p,) of the pairs that a row is in, (m,) float64; the overall mean where it is in none."""
        sums = values.new_zeros(self.m).index_add_(0, self.first, values).index_add_(0, self.second, values)
        ones = torch.ones_like(values)
        counts = values.new_zeros(self.m).index_add_(0, self.first, ones).index_add_(0, self.second, ones)
        return torch.where(counts > 0, sums / counts.clamp_min(1), values.mean())


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
