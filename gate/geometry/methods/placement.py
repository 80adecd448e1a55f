"""The sampled rows that metrics of neighbours judge, and where their terms belong."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gate.geometry.influence import Readout, Refusal, noted, variance_of_mean
from gate.geometry.intervals import effective_trials
from gate.geometry.registry import Answer
from gate.geometry.statistics import Sample
from gate.geometry.statistics.batch import unit_rows


def distinct_rows(sample: Sample, *columns: str) -> tuple[Tensor, Refusal | None]:
    """The sampled rows that have a direction, the first of every group of equal inputs.

    Args:
        sample: The sampled rows.
        columns: Further features of the same rows in which they must have a direction.

    Returns:
        Their index (r,), and a refusal where they are too few.
    """
    alive = torch.ones(sample.m, dtype=torch.bool, device=sample.features.device)
    for column in ("features", *columns):
        alive &= unit_rows(sample.rows.numbers(column).double())[1]
    _, inverse = sample.rows.fingerprints.unique(return_inverse=True)
    first = torch.full((int(inverse.max()) + 1,), sample.m, device=inverse.device)
    order = torch.arange(sample.m, device=inverse.device)
    first.scatter_reduce_(0, inverse, order, "amin")
    kept = first[alive[first]].sort().values
    if len(kept) < max(sample.m / 2, 3):
        reason = f"duplicates: only {len(kept)} of {sample.m} sampled rows have an input of their own and a direction"
        return kept, Refusal("inconclusive", reason)
    return kept, None


def possible_neighbours(rows: Tensor, clusters: Tensor | None) -> Tensor:
    """Rows of another cluster that each of some rows (m, ...) has, (m,); all but itself where rows are independent."""
    m = len(rows)
    if clusters is None:
        return torch.full((m,), m - 1, device=rows.device)
    _, codes, sizes = clusters.unique(return_inverse=True, return_counts=True)
    others: Tensor = m - sizes[codes]
    return others


def placed(terms: Tensor, rows: Tensor, m: int) -> Tensor:
    """Terms of some rows placed among all m sampled ones, with the same standard error."""
    whole = torch.zeros(m, dtype=torch.float64, device=terms.device)
    whole[rows] = terms * (m / len(terms)) ** 0.5
    return whole


@dataclass(frozen=True)
class Placement:
    """Puts terms of the judged rows where they belong in the sample.

    Attributes:
        m: Sampled rows.
        kept: (r,) index of the judged ones.
        k: Neighbours.
    """

    m: int
    kept: Tensor
    k: int

    def spread(self, terms: Tensor) -> Tensor:
        """Terms of the judged rows placed among all sampled rows, (m,), with the same standard error."""
        return placed(terms, self.kept, self.m)

    def readout(self, share: Tensor, terms: Tensor, rows: int | None = None, variance: float | None = None) -> Readout:
        """A share of neighbours: Wilson's interval for as many rows as its variance, the jackknife's, amounts to."""
        known = variance_of_mean(terms, len(self.kept)) if variance is None else variance
        return Readout(
            share,
            influence=self.spread(terms),
            variance=variance,
            trials=effective_trials(share, known, rows or len(self.kept)),
            n=len(self.kept),
            k=self.k,
            method="Wilson, jackknife over rows",
        )

    def noted(self, answer: Answer) -> Answer:
        """The answer, with a word on the rows that were not judged."""
        left_out = self.m - len(self.kept)
        if left_out == 0 or not isinstance(answer, Readout):
            return answer
        note = f"{left_out} sampled rows repeat an input or have no direction and are left out"
        return replace(answer, detail=noted(answer.detail, note))
