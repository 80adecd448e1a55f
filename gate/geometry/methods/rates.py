"""Means of one number a row over classes, groups or slices, several of them judged at once.

The smallest of several noisy means lies below the smallest of what they estimate. An interval that holds all of them at
once holds their extreme: its ends are the extremes of the ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Self

import torch
from torch import Tensor

from gate.geometry.influence import Readout, Refusal, variance_of_mean
from gate.geometry.intervals import effective_trials
from gate.geometry.registry import Change
from gate.geometry.statistics import Ledger, Sample

OF_FEATURES: set[Change] = {
    "translation", "scaling", "row_scaling", "rotation", "permutation", "channel_scaling", "linear_map",
}  # fmt: skip
BASELINE = "baseline_logits"
Bounds = Callable[[float], tuple[Tensor, Tensor]]
_SHOWN = 30  # entries of a breakdown


@dataclass(frozen=True, eq=False)
class Parts:
    """Rows in parts that do not overlap; parts without rows are left out.

    Attributes:
        names: G names.
        codes: (n,) part of each row, -1 for none.
        counts: (G,) float64, rows of each.
    """

    names: tuple[str, ...]
    codes: Tensor
    counts: Tensor

    @classmethod
    def of(cls, names: tuple[str, ...], codes: Tensor) -> Self:
        """Of the part of each row (n,) among some names, -1 for none."""
        counts = torch.bincount(codes[codes >= 0], minlength=len(names))
        kept = (counts > 0).nonzero()[:, 0]
        among = torch.full((len(names) + 1,), -1, dtype=torch.int64, device=codes.device)
        among[kept] = torch.arange(len(kept), device=codes.device)
        return cls(tuple(names[code] for code in kept.tolist()), among[codes], counts[kept].double())

    @property
    def g(self) -> int:
        """Parts that have rows."""
        return len(self.names)

    def sums(self, terms: Tensor) -> Tensor:
        """Sum of one number a row by part, (G,)."""
        inside = self.codes >= 0
        return torch.zeros_like(self.counts).index_add_(0, self.codes[inside], terms[inside].double())

    def means(self, terms: Tensor) -> Tensor:
        """Mean of one number a row by part, (G,)."""
        return self.sums(terms) / self.counts

    def spreads(self, terms: Tensor) -> Tensor:
        """Unbiased variance of one number a row by part, (G,); 0 for one row."""
        moved = terms - self._of_rows(self.means(terms))
        return self.sums(moved.square()) / (self.counts - 1).clamp_min(1)

    def influence(self, terms: Tensor, weights: Tensor) -> Tensor:
        """Influence of every row, (n,), on the sum of weights (G,) times means."""
        moved = terms - self._of_rows(self.means(terms))
        return moved * self._of_rows(weights / self.counts) * len(terms)

    def one(self, part: int) -> Tensor:
        """Weights (G,) of one part alone."""
        weights = torch.zeros_like(self.counts)
        weights[part] = 1
        return weights

    def _of_rows(self, values: Tensor) -> Tensor:
        return torch.cat([values, values.new_zeros(1)])[self.codes]

    def too_small(self, needed: int, reason: str, what: str, verb: str = "has") -> Refusal | None:
        """The refusal when there is no part, or one has too few rows."""
        if self.g == 0:
            return Refusal("inconclusive", f"{reason}: no {what} has rows; each needs at least {needed}")
        worst = int(self.counts.argmin())
        found = int(self.counts[worst])
        if found >= needed:
            return None
        sentence = f"{reason}: {what} {self.names[worst]!r} {verb} {found} rows; each needs at least {needed}"
        return Refusal("inconclusive", sentence, math.ceil(len(self.codes) * needed / found))

    def breakdown(self, values: Tensor) -> Mapping[str, float]:
        """A value of each part by name."""
        return dict(zip(self.names, values.tolist(), strict=True))


def classes_of(ledger: Ledger) -> Parts:
    """The rows by label."""
    return Parts.of(ledger.names, ledger.labels)


def lacks_classes(ledger: Ledger) -> Refusal | None:
    """The refusal of outputs that choose between no classes."""
    if ledger.c > 1:
        return None
    return Refusal(
        "not_applicable", "wrong_model_kind: logits have one column; it needs outputs of two classes or more"
    )


def too_few(ledger: Ledger, needed: int) -> Refusal | None:
    """The refusal of outputs without classes, or of too few rows."""
    lacking = lacks_classes(ledger)
    if lacking or ledger.n >= needed:
        return lacking
    return Refusal("inconclusive", f"few_rows: {ledger.n} rows; it needs at least {needed}", needed)


def same_classes(ledger: Ledger, column: str = BASELINE) -> Refusal | None:
    """The refusal of other outputs of the same rows that choose between other classes."""
    if ledger.widths[column] == ledger.c:
        return None
    reason = f"dim_mismatch: {column} has {ledger.widths[column]} columns, logits have {ledger.c}"
    return Refusal("not_applicable", reason)


def two_classes(parts: Parts) -> Refusal | None:
    """The refusal of labels of one class, or of a class with fewer than 30 rows."""
    if parts.g < 2:
        return Refusal("inconclusive", f"small_class: all rows are of class {parts.names[0]!r}; it needs two classes")
    return parts.too_small(30, "small_class", "class")


def over_rows(  # noqa: PLR0913 - what a read-out over all rows can say
    ledger: Ledger,
    sample: Sample,
    value: Tensor,
    terms: Tensor,
    *,
    display: Callable[[Tensor], Tensor] | None = None,
    interval: Callable[[float], tuple[float, float]] | None = None,
    wilson: bool = False,
    comparisons: int = 1,
    method: str = "delta method over all rows",
    detail: str | None = None,
    breakdown: Mapping[str, float] | None = None,
) -> Readout:
    """A read-out over all rows: its variance comes from all, its influence from the sampled ones.

    Args:
        ledger: Of n rows.
        sample: The sampled rows.
        value: On the natural scale.
        terms: (n,) influence of every row on it.
        display: From the natural to the displayed scale.
        interval: As a function of the normal quantile.
        wilson: Whether the value is a share, with Wilson's interval for as many rows as its variance amounts to.
        comparisons: Number of values of which this is the extreme one.
        method: As for `Readout`, and so are the next ones.
        detail: Which part is worst.
        breakdown: The value of every part.
    """
    terms = terms - terms.mean()
    variance = variance_of_mean(terms, ledger.n)
    readout = Readout(
        value,
        influence=terms[ledger.places(sample)],
        variance=variance,
        interval=interval,
        trials=effective_trials(value, variance, ledger.n) if wilson else None,
        comparisons=comparisons,
        n=ledger.n,
        method=method,
        detail=detail,
        breakdown=breakdown,
    )
    return readout if display is None else replace(readout, display=display)


def share_of_rows(ledger: Ledger, sample: Sample, terms: Tensor, detail: str | None = None) -> Readout:
    """The share of all rows (n,) that have something."""
    return over_rows(ledger, sample, terms.double().mean(), terms.double(), wilson=True, method="Wilson", detail=detail)


def extreme(
    values: Tensor, bounds: Bounds, *, largest: bool, k: int = 1
) -> tuple[Tensor, Callable[[float], tuple[float, float]]]:
    """The mean of the k largest, or smallest, of some values, and its interval from simultaneous bounds.

    Args:
        values: (G,).
        bounds: Lower and upper bounds (G,) that hold one value each at a normal quantile.
        largest: Whether the largest or the smallest are asked for.
        k: How many.
    """

    def pick(numbers: Tensor) -> Tensor:
        return numbers.topk(min(k, len(numbers)), largest=largest).values.mean()

    def ends(z: float) -> tuple[float, float]:
        low, high = bounds(z)
        return float(pick(low)), float(pick(high))

    return pick(values), ends


def worst_of(
    ledger: Ledger, sample: Sample, parts: Parts, terms: Tensor, *, what: str, largest: bool = False
) -> Readout:
    """The smallest share of a part, or the largest, each known up to its Wilson bounds, all at once.

    Args:
        ledger: Of n rows.
        sample: The sampled rows.
        parts: Of the n rows.
        terms: (n,) 1 for the rows that have something, else 0.
        what: Name of a part, for the reader.
        largest: Whether large shares are the bad ones.
    """
    means = parts.means(terms)
    worst = int(means.argmax() if largest else means.argmin())
    value, ends = extreme(means, wilson_bounds(means, parts.counts), largest=largest)
    return over_rows(
        ledger,
        sample,
        value,
        parts.influence(terms, parts.one(worst)),
        interval=ends,
        comparisons=parts.g,
        method=f"Wilson and likelihood ratio, all {plural(what)} at once (Bonferroni)",
        detail=f"worst {what} {parts.names[worst]!r}",
        breakdown=shortened(dict(sorted(parts.breakdown(means).items(), key=lambda entry: entry[1], reverse=largest))),
    )


def plural(noun: str) -> str:
    """More than one of them."""
    irregular = {"class": "classes", "stratum": "strata", "predicted class": "predicted classes"}
    return irregular.get(noun, f"{noun}s")


def wilson_bounds(shares: Tensor, counts: Tensor) -> Bounds:
    """Wilson's bounds of several shares (G,) of counts (G,), and those of Clopper and Pearson at 0 and 1.

    Where the likelihood ratio reaches further it bounds: far out in the tails of a skewed share Wilson's errs more
    often than it says, and all classes at once are far out (checked against the binomial distribution).
    """

    def ends(z: float) -> tuple[Tensor, Tensor]:
        spread = z * (shares * (1 - shares) / counts + z * z / (4 * counts.square())).sqrt()
        centre, scale = shares + z * z / (2 * counts), 1 + z * z / counts
        low, high = (centre - spread) / scale, (centre + spread) / scale
        edge = NormalDist().cdf(-z) ** (1 / counts)
        low = torch.minimum(low, _likely_end(shares, counts, z, torch.zeros_like(shares)))
        high = torch.maximum(high, _likely_end(shares, counts, z, torch.ones_like(shares)))
        low = torch.where(shares >= 1, edge, torch.where(shares <= 0, 0.0, low))
        high = torch.where(shares <= 0, 1 - edge, torch.where(shares >= 1, 1.0, high))
        return low, high

    return ends


def _likely_end(shares: Tensor, counts: Tensor, z: float, far: Tensor) -> Tensor:
    """Where the log-likelihood has fallen by z^2 / 2 from that of the share towards `far` (0 or 1), by bisection."""
    near = shares.clone()
    for _ in range(60):
        middle = (near + far) / 2
        lost = torch.xlogy(shares, shares / middle) + torch.xlogy(1 - shares, (1 - shares) / (1 - middle))
        inside = counts * lost < z * z / 2
        near, far = torch.where(inside, middle, near), torch.where(inside, far, middle)
    return near


def paired_bounds(more: Tensor, less: Tensor, counts: Tensor) -> Bounds:
    """Bounds of (more - less) / counts for paired rows, half a row added to each cell (Agresti and Min 2005)."""
    size = counts + 2
    centre = (more - less) / size
    error = ((more + less + 1) / size - centre.square()).clamp_min(0).sqrt() / size.sqrt()
    return lambda z: (centre - z * error, centre + z * error)


def difference_interval(
    first: Tensor, first_count: Tensor, second: Tensor, second_count: Tensor
) -> Callable[[float], tuple[float, float]]:
    """Interval of the difference of two independent shares: two rows added to each (Agresti and Caffo 2000)."""
    one, other = ((share * n + 1) / (n + 2) for share, n in ((first, first_count), (second, second_count)))
    variance = one * (1 - one) / (first_count + 2) + other * (1 - other) / (second_count + 2)
    centre, error = float(one - other), math.sqrt(float(variance))
    return lambda z: (max(-1.0, centre - z * error), min(1.0, centre + z * error))


def shortened(breakdown: Mapping[str, float]) -> Mapping[str, float]:
    """The first entries of a long breakdown."""
    return dict(list(breakdown.items())[:_SHOWN])
