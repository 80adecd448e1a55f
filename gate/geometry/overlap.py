"""Whether two versions put the same rows next to each other."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gate.geometry.influence import Readout, Refusal, variance_of_mean
from gate.geometry.methods.placement import Placement, distinct_rows, possible_neighbours
from gate.geometry.methods.row_pairs import u_statistic_variance
from gate.geometry.methods.search import nearest
from gate.geometry.registry import Answer, Answers, higher, lower, metric
from gate.geometry.statistics import Sample
from gate.geometry.statistics.batch import unit_rows

_TILE = 256  # rows whose lists of neighbours are compared at once
_SHIFTS = 16  # partners of each row among which the second-order part of a U-statistic is judged


@metric(
    unit="overlap beyond chance",
    greater_is_better=True,
    invariant_to={"scaling", "row_scaling", "rotation", "permutation"},
    needs={"baseline"},
    ranges={"k": (1, 200)},
    domain="n >= 20 k; comparable at equal n and k only",
    paper="standard; chance and error derived here. sim_mse: row-wise similarities as in Tung and Mori 2019",
    readouts={
        "raw": higher("share of the k nearest rows that are the same in both versions"),
        "topk_jaccard": higher("rows in both lists of the k nearest over rows in either, mean over rows"),
        "sim_mse": lower(
            "mean squared difference of the two matrices of cosines, each row at unit mean square: 0 equal"
        ),
    },
    limits={"value": (-math.inf, 1), "raw": (0, 1), "topk_jaccard": (0, 1), "sim_mse": (0, 4)},
)
def knn_overlap(sample: Sample, *, k: int = 20) -> Answers:
    """Are neighbourhoods preserved between versions: share of equal ones among the k nearest rows, beyond chance.

    (J - J0) / (1 - J0) for the mean share J of a row's k nearest unit rows that are among its k nearest in the baseline
    too, and its chance J0 = k / (n - 1). Rows with equal inputs count once, rows of one cluster are never neighbours.

    Args:
        sample: The sampled rows of features (n, d) and of the baseline.
        k: Neighbours.

    Returns:
        Overlap of at most 1, 0 by chance, and read-outs.
    """
    kept, refusal = distinct_rows(sample, "baseline")
    if refusal:
        return refusal
    if len(kept) < 20 * k:
        return Refusal("inconclusive", f"few_rows: found {len(kept)} rows; it needs {20 * k}", 20 * k)
    x, y = (unit_rows(sample.rows.numbers(name)[kept].double())[0] for name in ("features", "baseline"))
    clusters = None if sample.clusters is None else sample.clusters[kept]
    others = possible_neighbours(kept, clusters)
    if int(others.min()) < k:
        reason = f"few_rows: a row has {int(others.min())} rows of other clusters; it needs {k} to be its neighbours"
        return Refusal("inconclusive", reason)
    width = min(2 * k, int(others.min()))
    shared = _Shared.of(nearest(x, width, clusters=clusters), nearest(y, width, clusters=clusters), k)
    place = Placement(sample.m, kept, k)
    chance = float((k / others).mean())
    raw = shared.readout(shared.share, torch.ones_like(shared.share), chance, place)
    found: dict[str, Answer] = {
        "value": replace(raw, display=lambda natural: (natural - chance) / (1 - chance)),
        "raw": raw,
        "topk_jaccard": shared.readout(
            shared.share / (2 - shared.share), 2 / (2 - shared.share).square(), chance, place
        ),
        "sim_mse": _similarity_gap(x, y, place),
    }
    return {name: place.noted(answer) for name, answer in found.items()}


@dataclass(frozen=True)
class _Shared:
    """Neighbours that two versions have in common.

    Attributes:
        first, second: (m, k) the k nearest rows in either version.
        first_in_second, second_in_first: (m, k) bool, which of them the other one has too.
        next_first, next_second: (m,) chance that a row just beyond the k-th of one is among the k of the other.
        next_both: (m,) what both lists gain in common when both grow by one.
    """

    first: Tensor
    second: Tensor
    first_in_second: Tensor
    second_in_first: Tensor
    next_first: Tensor
    next_second: Tensor
    next_both: Tensor

    @classmethod
    def of(cls, first: Tensor, second: Tensor, k: int) -> _Shared:
        """Of the w nearest rows in either version, (m, w) with w of at least k, nearest first."""
        ranks, ranks_back = _ranks(first, second), _ranks(second, first)
        width = first.shape[1]
        share = (ranks[:, :k] < k).double().sum(dim=1)
        if width == k:
            nothing = torch.zeros_like(share)
            return cls(first, second, ranks < k, ranks_back < k, nothing, nothing, share / k)
        return cls(
            first[:, :k],
            second[:, :k],
            ranks[:, :k] < k,
            ranks_back[:, :k] < k,
            (ranks[:, k:] < k).double().mean(dim=1),
            (ranks_back[:, k:] < k).double().mean(dim=1),
            ((ranks < width).double().sum(dim=1) - share) / (width - k),
        )

    @property
    def share(self) -> Tensor:
        return self.first_in_second.double().mean(dim=1)

    def readout(self, terms: Tensor, slopes: Tensor, chance: float, place: Placement) -> Readout:
        """Mean of a function of each row's share.

        Without a row, its own term goes, and whoever had it as a neighbour takes the next one instead. What one pair of
        rows shares by luck counts in both of these ways, and is taken off once: of unrelated versions there is nothing
        else.

        Args:
            terms: (m,) the function.
            slopes: (m,) its derivative by the share.
            chance: Share of the k nearest that unrelated versions have in common.
            place: Of the judged rows.
        """
        m, k = self.first.shape
        worth = slopes[:, None] / k
        lost = (1 - self.next_both)[:, None] * worth
        from_first = torch.where(self.first_in_second, lost, -self.next_first[:, None] * worth)
        from_second = torch.where(self.second_in_first, 0.0, -self.next_second[:, None] * worth)
        as_neighbour = torch.zeros_like(terms).index_add_(0, self.first.flatten(), from_first.flatten())
        as_neighbour.index_add_(0, self.second.flatten(), from_second.flatten())
        influence = terms - terms.mean() + as_neighbour
        row, rank = self.first_in_second.nonzero(as_tuple=True)
        other = self.first[row, rank]
        mutual = torch.isin(other * m + row, row * m + other)
        lucky = min(1.0, chance / max(float(self.share.mean()), chance))
        by_luck = lucky * float((lost[row, 0].square() * (1 + mutual.double())).sum()) / m**2
        jackknife = variance_of_mean(influence, m)
        return place.readout(terms.mean(), influence, variance=max(jackknife - by_luck, jackknife / 2))


def _ranks(of: Tensor, among: Tensor) -> Tensor:
    """Place of each entry in the same row of the other list, (m, w); w where it is not there."""
    width = of.shape[1]
    parts = []
    for a, b in zip(of.split(_TILE), among.split(_TILE), strict=True):
        equal = a[:, :, None] == b[:, None, :]
        parts.append(torch.where(equal.any(dim=2), equal.int().argmax(dim=2), width))
    return torch.cat(parts)


def _similarity_gap(x: Tensor, y: Tensor, place: Placement) -> Readout:
    """2 - 2 (cosine of a row's similarities in both versions), mean over rows: by d x e products alone."""
    gap = _CosineGap.of(x, y)
    about_mean = _CosineGap.of(x - x.mean(dim=0), y - y.mean(dim=0))
    value, centred = gap.terms.mean(), float(about_mean.terms.mean())
    return Readout(
        value,
        influence=place.spread(gap.influence),
        variance=u_statistic_variance(gap.influence, len(x), gap.kernel_square()),
        n=len(x),
        method="U-statistic projection",
        detail=f"{centred:.4g} about the mean, where a common cone does not hide a difference",
        breakdown={"about zero": float(value), "about the mean": centred},
    )


@dataclass(frozen=True)
class _CosineGap:
    """How the similarities of each row to all others differ between two versions.

    Attributes:
        x, y: Unit rows.
        own, other, both: (m,) mean over the other rows of the squared cosines, and of the product of both versions'.
        influence: (m,) of each row on the mean of `terms`.
    """

    x: Tensor
    y: Tensor
    own: Tensor
    other: Tensor
    both: Tensor
    influence: Tensor

    @classmethod
    def of(cls, first: Tensor, second: Tensor) -> _CosineGap:
        """Of rows; sum_j (x_i x_j)(y_i y_j) is x_i^T (sum_j x_j y_j^T) y_i."""
        x, y = (torch.nn.functional.normalize(rows, dim=1) for rows in (first, second))
        m = len(x)
        pairs = ((x, x), (y, y), (x, y))
        sums = [(a.T @ b / m).requires_grad_() for a, b in pairs]
        own, other, both = (((a @ total) * b).sum(dim=1) - 1 / m for (a, b), total in zip(pairs, sums, strict=True))
        terms = 2 - 2 * both / (own * other).sqrt()
        slopes = torch.autograd.grad(terms.mean(), sums)
        with torch.no_grad():
            through = (((a @ slope) * b).sum(dim=1) for (a, b), slope in zip(pairs, slopes, strict=True))
            influence = terms + sum(through, start=torch.zeros_like(terms))
        return cls(x, y, own.detach(), other.detach(), both.detach(), (influence - influence.mean()).detach())

    @property
    def terms(self) -> Tensor:
        """(m,) the gap of each row, 0 to 4."""
        return 2 - 2 * self.both / (self.own * self.other).sqrt()

    def kernel_square(self) -> float:
        """Mean square of what a pair of rows adds, each row with the 16 after it."""
        terms, scale = self.terms, (self.own * self.other).sqrt()
        ratio = self.both / scale
        total = torch.zeros((), dtype=torch.float64, device=terms.device)
        for shift in range(1, _SHIFTS + 1):
            a = (self.x * self.x.roll(shift, 0)).sum(dim=1)
            b = (self.y * self.y.roll(shift, 0)).sum(dim=1)
            ways = [
                t - terms.mean() - 2 * a * b / s + r * (a.square() / o + b.square() / q)
                for t, s, r, o, q in (
                    (terms, scale, ratio, self.own, self.other),
                    [each.roll(shift, 0) for each in (terms, scale, ratio, self.own, self.other)],
                )
            ]
            total += ((ways[0] + ways[1]) / 2).square().mean()
        return float(total) / _SHIFTS
