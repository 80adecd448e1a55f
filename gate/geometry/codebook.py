"""Quantisers: are the codes of the codebook used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self, get_args

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import Readout, Refusal, missing_input, variance_of_mean
from gate.geometry.registry import Answer, Change, higher, lower, metric, neither
from gate.geometry.statistics import CodeCounts, Sample, Weights

_PER_CODE = 10  # assignments a code on average
_COMMON = 5  # occurrences from which the noise of a share is small against it
_LIVE = 1e-15  # eigenvalues below this share of the largest are rounding


@metric(
    unit="share of the codebook",
    greater_is_better=True,
    invariant_to=set(get_args(Change)),  # it does not read the features
    domain="10 assignments a code",
    kinds={"quantiser"},
    paper="perplexity: standard, correction after Miller 1955; utilisation after Zhu et al. 2024, Addressing "
    "Representation Collapse in Vector Quantized Models with One Linear Layer",
    readouts={
        "utilisation": higher(
            "share of the codes that occur, over its expectation for uniform use of as many assignments"
        ),
        "dead": lower("share of the codes that occur fewer than min_count times"),
        "codebook_erank": neither("effective rank of the covariance of the codebook's vectors, used or not"),
    },
    limits={"value": (0, math.inf), "utilisation": (0, math.inf), "dead": (0, 1), "codebook_erank": (1, math.inf)},
    ranges={"size": (2, 1e9), "min_count": (1, 1000)},
)
def codebook_usage(
    codes: CodeCounts, sample: Sample, weights: Weights, *, size: int | None = None, min_count: int = 2
) -> dict[str, Answer]:
    """Codes of the codebook that are actually used: perplexity of their use, over their number.

    exp(H) / K, H the entropy of the shares of the K codes, corrected for the number of assignments N by (codes that
    occur - 1) / 2 N: 1 for uniform use, 1 / K when one code takes all.

    Args:
        codes: Counts of the code indices (n, T) of the rows; a row may have several, and -1 for none.
        sample: The sampled rows.
        weights: With the "codebook" (K, e).
        size: K, where the codebook itself is not given.
        min_count: Occurrences below which a code is dead.

    Returns:
        Share, about 0 to 1, and read-outs.

    Raises:
        MetricError: A code lies outside the codebook, or the codebook has another size than `size`.
    """
    book = weights.matrix("codebook")
    erank = missing_input("the codebook") if book is None else _erank(book)
    count = _size(book, size)
    if isinstance(count, Refusal):
        return {**dict.fromkeys(("value", "utilisation", "dead"), count), "codebook_erank": erank}
    codes.require_within(count)
    few = _few_assignments(codes, count)
    if few:
        return {**dict.fromkeys(("value", "utilisation", "dead"), few), "codebook_erank": erank}
    cells = _Cells.of(codes, sample)
    return {
        "value": _perplexity(codes, count, cells),
        "utilisation": _utilisation(codes, count, cells),
        "dead": _dead(codes, count, min_count, cells),
        "codebook_erank": erank,
    }


def _size(book: Tensor | None, size: int | None) -> int | Refusal:
    """K. The largest index seen is no substitute: it hides the codes that are never used."""
    if book is None and size is None:
        return missing_input("the number of codes: the codebook, or the parameter size")
    if book is not None and size is not None and len(book) != size:
        raise MetricError(f"shape_mismatch: the codebook has {len(book)} codes, the parameter size is {size}")
    return len(book) if book is not None else int(size or 0)


def _few_assignments(codes: CodeCounts, size: int) -> Refusal | None:
    found, needed = codes.assignments, _PER_CODE * size
    if found >= needed:
        return None
    reason = f"few_assignments: {found} assignments to {size} codes; it needs at least {needed}"
    return Refusal("inconclusive", reason, math.ceil(codes.n * needed / found) if found else None)


@dataclass(frozen=True)
class _Cells:
    """Every code of every sampled row once.

    Attributes:
        codes: Counts of all rows.
        rows, times: (p,) the row and how often it has the code.
        counts: (p,) float64, how often all rows have it.
        m: Sampled rows.
    """

    codes: CodeCounts
    rows: Tensor
    times: Tensor
    counts: Tensor
    m: int

    @classmethod
    def of(cls, codes: CodeCounts, sample: Sample) -> Self:
        rows, places, times = codes.cells(sample)
        return cls(codes, rows, times.double(), codes.counts[places].double(), sample.m)

    def sums(self, terms: Tensor) -> Tensor:
        """Sum of one number a cell, by row, (m,) float64."""
        return torch.zeros(self.m, dtype=torch.float64, device=terms.device).index_add_(0, self.rows, terms)

    def noise(self) -> tuple[float, int]:
        """Sum over the common codes of var(share) / share, with rows as the sampling unit, and how many there are."""
        total = self.codes.assignments
        common = self.counts >= _COMMON
        times, shares = self.times[common], self.counts[common] / total
        held = self.codes.counts[self.codes.counts >= _COMMON].sum().item() / total
        lengths = self.sums(self.times)
        squares = (times.square() / shares).sum() - lengths @ (2 * self.sums(self.times * common) - held * lengths)
        per_row = total / self.codes.n
        found = squares.item() / self.m / (per_row**2 * self.codes.n)
        return max(found, 0.0), int((self.codes.counts >= _COMMON).sum())

    def losses(self, border: int) -> Tensor:
        """Codes that would occur fewer than `border` times without a row, for each row, (m,) float64."""
        return self.sums(((self.counts >= border) & (self.counts - self.times < border)).double())

    def count_variance(self, border: int) -> float:
        """Variance of the number of codes that occur at least `border` times.

        Its jackknife over rows, and the chance of each code to fall across the border or rise over it as a Poisson
        number of its own count: where no code is near the border the jackknife alone would be certain (derived here).
        """
        jackknife = self.losses(border).square().sum().item() * self.codes.n / self.m
        found, common = self.noise()
        clumping = max(1.0, found * self.codes.assignments / max(common - 1, 1)) if common > 1 else 1.0
        rate = self.codes.counts.double() / clumping
        below = torch.special.gammaincc(torch.full_like(rate, border), rate)
        crossing = torch.where(self.codes.counts >= border, below, 1 - below)
        return jackknife + crossing.sum().item()


def _perplexity(codes: CodeCounts, size: int, cells: _Cells) -> Readout:
    """Its variance: the jackknife, less half of what sampling noise adds to it, all that there is at uniform use.

    With b = sum of var(share) / share over rows, which is (K - 1) / N for independent assignments, noise adds about
    b^2 / (K - 1) to the jackknife, and the entropy of uniform use varies by half of that (derived here).
    """
    entropy, influence = _entropy(codes, cells)
    noise, common = cells.noise()
    doubled = noise**2 / (common - 1) if common > 1 else 0.0
    variance = max(variance_of_mean(influence, codes.n) - doubled / 2, doubled / 2)
    return Readout(
        entropy - math.log(size),
        torch.exp,
        influence=influence,
        variance=variance,
        method="jackknife over rows",
        detail=f"{codes.used} of {size} codes occur in {codes.assignments} assignments",
    )


def _entropy(codes: CodeCounts, cells: _Cells) -> tuple[Tensor, Tensor]:
    """Miller-Madow entropy of the shares, and what leaving out each row does to it, (m,)."""
    counts, total = codes.counts.double(), codes.assignments
    products = torch.special.xlogy(counts, counts).sum()
    entropy = math.log(total) - products / total + (codes.used - 1) / (2 * total)
    rest = cells.counts - cells.times
    change = torch.special.xlogy(cells.counts, cells.counts) - torch.special.xlogy(rest, rest)
    left = total - cells.sums(cells.times)
    without = left.log() - (products - cells.sums(change)) / left
    without += (codes.used - cells.losses(1) - 1) / (2 * left)
    return entropy, (entropy - without) * (codes.n - 1)


def _utilisation(codes: CodeCounts, size: int, cells: _Cells) -> Readout:
    """Codes that are used but seldom may be missed by another draw, and where some are unseen one more may be seen."""
    expected = -math.expm1(codes.assignments * math.log1p(-1 / size)) * size
    variance, unseen = cells.count_variance(1), size - codes.used

    def ends(z: float) -> tuple[float, float]:
        more = min(z * math.sqrt(variance + 1), unseen)
        return max(codes.used - z * math.sqrt(variance), 1) / expected, (codes.used + more) / expected

    return Readout(
        torch.tensor(codes.used / expected, dtype=torch.float64),
        influence=cells.losses(1) * (codes.n / expected),
        interval=ends,
        method="count, jackknife over rows",
        detail=f"{codes.used} of {size} codes",
    )


def _dead(codes: CodeCounts, size: int, min_count: int, cells: _Cells) -> Readout:
    dead = size - int((codes.counts >= min_count).sum())
    spread = math.sqrt(cells.count_variance(min_count) + (0 < dead < size))

    def ends(z: float) -> tuple[float, float]:
        return max(dead - z * spread, 0) / size, min(dead + z * spread, size) / size

    return Readout(
        torch.tensor(dead / size, dtype=torch.float64),
        influence=-cells.losses(min_count) * (codes.n / size),
        interval=ends,
        method="count, jackknife over rows",
        detail=f"{dead} of {size} codes occur fewer than {min_count} times",
    )


def _erank(book: Tensor) -> Answer:
    """Effective rank of the codebook: the weights are what they are, without a sampling error."""
    values = torch.linalg.eigvalsh(torch.cov(book.T, correction=0).reshape(book.shape[1], -1))
    if not values[-1].item() > 0:
        return Refusal("not_applicable", f"ill_conditioned: all {len(book)} vectors of the codebook are equal")
    live = values[values > _LIVE * values[-1]]
    share = live / live.sum()
    return Readout(
        -(share * share.log()).sum(), torch.exp, variance=0.0, method="weights, no sampling error", n=len(book)
    )
