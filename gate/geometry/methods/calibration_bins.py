"""Equal-mass bins of predicted probabilities, and how far they are from what happened."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

BINS = 15


def equal_mass_bins(scores: Tensor, count: int = BINS) -> Tensor:
    """Bin of each entry among those of its column, (n, K), from 0; equal entries share a bin."""
    order = scores.argsort(dim=0, stable=True)
    ranked = scores.gather(0, order)
    rank = torch.arange(len(scores), device=scores.device)[:, None].expand_as(order)
    starts = torch.zeros_like(order)
    starts[1:] = torch.where(ranked[1:] != ranked[:-1], rank[1:], 0)
    bins = starts.cummax(dim=0).values * count // len(scores)
    return torch.empty_like(order).scatter_(0, order, bins)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Bins of K columns of predicted probabilities; an empty bin has the share 0.

    Attributes:
        bins: (n, K) bin of each entry.
        errors: (n, K) outcome less probability.
        shares, confidence, accuracy: (15, K) share of the rows, mean probability and mean outcome of each bin.
        counts: (15, K) rows, at least 1.
        spread: (15, K) squared standard error of a bin's accuracy less its confidence.
    """

    bins: Tensor
    errors: Tensor
    shares: Tensor
    confidence: Tensor
    accuracy: Tensor
    counts: Tensor
    spread: Tensor

    @classmethod
    def of(cls, scores: Tensor, outcomes: Tensor) -> Self:
        """Of probabilities (n, K) and what happened (n, K), 0 or 1, float64."""
        bins = equal_mass_bins(scores)

        def sums(terms: Tensor) -> Tensor:
            return terms.new_zeros(BINS, terms.shape[1]).scatter_add_(0, bins, terms)

        found = sums(torch.ones_like(scores))
        counts = found.clamp_min(1)
        confidence, accuracy = (sums(scores) / counts).clamp(0, 1), sums(outcomes) / counts
        errors = outcomes - scores
        gaps = accuracy - confidence
        variance = sums((errors - gaps.gather(0, bins)).square()) / (counts - 1).clamp_min(1)
        variance = torch.where(counts > 1, variance, confidence * (1 - confidence))
        return cls(bins, errors, found / len(scores), confidence, accuracy, counts, variance / counts)

    @property
    def gaps(self) -> Tensor:
        """Accuracy less confidence of each bin, (15, K)."""
        return self.accuracy - self.confidence

    @property
    def signal(self) -> Tensor:
        """Size of each gap without what its noise adds, (15, K): shrunk to 0 where all bins together are noise."""
        excess = self.gaps.square() - self.spread
        alone = (2 * (self.shares * self.spread).square().sum(dim=0)).sqrt()
        whole = (self.shares * excess).sum(dim=0).clamp_min(0)
        ratio = torch.where(alone > 0, whole / alone.clamp_min(1e-300), 1e3).clamp_max(1e3)
        clear = ratio**4 / (ratio**4 + 4)  # a weight that covers in simulations without, with weak and with clear gaps
        return (clear * excess.clamp_min(0)).sqrt()

    def error(self) -> Tensor:
        """Expected calibration error of each column, (K,)."""
        return (self.shares * self.gaps.abs()).sum(dim=0)

    def null(self) -> Tensor:
        """What a perfectly calibrated column of these probabilities reads, (K,): mean of a folded normal."""
        own = self.confidence * (1 - self.confidence)
        return (self.shares * (2 / math.pi * own / self.counts).sqrt()).sum(dim=0)

    def slopes(self) -> Tensor:
        """How the mean of |gap| grows with the gap, (15, K): 0 where it is noise alone, the sign where it is clear."""
        return self.gaps.sign() * torch.erf(self._ratio() / math.sqrt(2))

    def folding(self) -> Tensor:
        """Variance of |gap| beyond that which follows its slope, (15, K): the gap is normal, its size folded."""
        ratio = self._ratio()
        mean = math.sqrt(2 / math.pi) * (-ratio.square() / 2).exp() + ratio * torch.erf(ratio / math.sqrt(2))
        whole = 1 + ratio.square() - mean.square()
        return self.spread * (whole - torch.erf(ratio / math.sqrt(2)).square()).clamp_min(0)

    def per_row(self, of_bins: Tensor) -> Tensor:
        """A value of each bin (15, K) for every row, (n, K)."""
        return of_bins.gather(0, self.bins)

    def _ratio(self) -> Tensor:
        return torch.where(self.spread > 0, self.signal / self.spread.clamp_min(1e-300).sqrt(), torch.inf).clamp_max(30)


def squared_error(calibration: Calibration) -> Tensor:
    """Unbiased squared calibration error of each column, (K,); a bin of one row has no noise to take away."""
    noise = calibration.accuracy * (1 - calibration.accuracy) / (calibration.counts - 1).clamp_min(1)
    return (calibration.shares * (calibration.gaps.square() - noise)).sum(dim=0)
