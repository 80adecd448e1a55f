"""Equal-mass bins of predicted probabilities, and how far they are from what happened."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

BINS = 15
_FEW = 10.0  # variance of the count of a bin, below which it is a Poisson count and not a normal number


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
        own: (15, K) variance of the outcome of a row of the bin if the probabilities are right, mean p (1 - p).
    """

    bins: Tensor
    errors: Tensor
    shares: Tensor
    confidence: Tensor
    accuracy: Tensor
    counts: Tensor
    spread: Tensor
    own: Tensor

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
        own = sums(scores * (1 - scores)).clamp_min(0) / counts
        # of few expected outcomes often none is found, which says nothing of their variance
        variance = torch.where(own * counts < _FEW, torch.maximum(variance, own), variance)
        return cls(bins, errors, found / len(scores), confidence, accuracy, counts, variance / counts, own)

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
        """What a perfectly calibrated column of these probabilities reads, (K,).

        The mean of a folded normal, and where few outcomes are expected that of a binomial count (De Moivre): there the
        normal one is far too large.
        """
        plain = self.confidence * (1 - self.confidence)
        folded = (2 / math.pi * plain / self.counts).sqrt()
        exact = _binomial_deviation(self.counts, self.confidence) * (self.own / plain.clamp_min(1e-300)).sqrt()
        return (self.shares * torch.where(self._few, exact / self.counts, folded)).sum(dim=0)

    def slopes(self) -> Tensor:
        """How the mean of |gap| grows with the gap, (15, K): 0 where it is noise alone, the sign where it is clear."""
        normal = self.gaps.sign() * torch.erf(self._ratio() / math.sqrt(2))
        return torch.where(self._few, self._counted()[0], normal)

    def folding(self) -> Tensor:
        """Variance of |gap| beyond that which follows its slope, (15, K): the gap is normal, its size folded."""
        ratio = self._ratio()
        mean = math.sqrt(2 / math.pi) * (-ratio.square() / 2).exp() + ratio * torch.erf(ratio / math.sqrt(2))
        whole = 1 + ratio.square() - mean.square()
        normal = self.spread * (whole - torch.erf(ratio / math.sqrt(2)).square()).clamp_min(0)
        return torch.where(self._few, self._counted()[1], normal)

    def per_row(self, of_bins: Tensor) -> Tensor:
        """A value of each bin (15, K) for every row, (n, K)."""
        return of_bins.gather(0, self.bins)

    @property
    def _few(self) -> Tensor:
        return self.own * self.counts < _FEW

    def _counted(self) -> tuple[Tensor, Tensor]:
        """Slopes and folding of a Poisson count: of the rarer outcome, about what the probabilities expect."""
        side = torch.where(self.confidence > 0.5, -1.0, 1.0).double()
        expected = self.counts * torch.where(side < 0, 1 - self.confidence, self.confidence)
        true = (expected + side * self.counts * self.gaps.sign() * self.signal).clamp_min(1e-12)
        floor = expected.floor()
        below = torch.where(floor > 0, torch.special.gammaincc(floor.clamp_min(1), true), 0.0)  # P(X < floor)
        up_to = torch.special.gammaincc(floor + 1, true)
        slope = 1 - up_to - below + (2 * floor + 1 - 2 * expected) * (up_to - below)
        size = true - expected + 2 * (expected * up_to - true * below)
        rest = true + (true - expected).square() - size.square() - slope.square() * true
        return side * slope, rest.clamp_min(0) / self.counts.square()

    def _ratio(self) -> Tensor:
        return torch.where(self.spread > 0, self.signal / self.spread.clamp_min(1e-300).sqrt(), torch.inf).clamp_max(30)


def _binomial_deviation(n: Tensor, p: Tensor) -> Tensor:
    """Mean distance of a binomial count from its mean n p, exactly: De Moivre's 2 v C(n, v) p^v (1 - p)^(n - v + 1)."""
    inside = p.clamp(1e-300, 1 - torch.finfo(p.dtype).eps)
    above = ((n * inside).floor() + 1).clamp_max(n)
    choose = torch.lgamma(n + 1) - torch.lgamma(above + 1) - torch.lgamma(n - above + 1)
    logs = choose + above * inside.log() + (n - above + 1) * torch.log1p(-inside)
    return torch.where((p > 0) & (p < 1), 2 * above * logs.exp(), 0.0)


def squared_error(calibration: Calibration) -> Tensor:
    """Unbiased squared calibration error of each column, (K,); a bin of one row has no noise to take away."""
    noise = calibration.accuracy * (1 - calibration.accuracy) / (calibration.counts - 1).clamp_min(1)
    return (calibration.shares * (calibration.gaps.square() - noise)).sum(dim=0)
