"""Held-out rows that were judged: accuracies, and how each row moves them as a judged and as a training row.

Sampled rows whose input is repeated are not judged: their copy may have been trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from gate.geometry.influence import Readout, Refusal, noted, variance_of_mean
from gate.geometry.intervals import effective_trials
from gate.geometry.methods.margins import density_at_zero, margins_of
from gate.geometry.methods.placement import placed
from gate.geometry.methods.standard_probe import Pull
from gate.geometry.registry import Answer, Later
from gate.geometry.statistics import Sample

Kind = Literal["class", "group"]


@dataclass(frozen=True)
class HeldOut:
    """The judged rows.

    Attributes:
        rows: (r,) index of each judged row in the sample.
        codes: (r,) category of each.
        margins: (r,) score of its category less that of the best other one: right when positive.
        names: K categories.
        m: Sampled rows.
        training: Influence of each sampled row, as a training row, on a weighted mean of `correct`: weights (r,) with a
            mean of 1 → (m,). For a probe at its best that is nothing and its estimate is noise, so that it is scaled
            down to what two halves of the judged rows agree on.
        pulled: The same without scaling down, where nothing was fitted to be best.
        scores: (r, K).
    """

    rows: Tensor
    codes: Tensor
    margins: Tensor
    names: tuple[str, ...]
    m: int
    training: Callable[[Tensor], Tensor]
    pulled: Callable[[Tensor], Tensor]
    scores: Tensor

    @property
    def correct(self) -> Tensor:
        """(r,) 1 where the row is given its own category."""
        return (self.margins > 0).double()

    @property
    def note(self) -> str | None:
        """What is said of the rows that were not judged."""
        left_out = self.m - len(self.rows)
        return f"{left_out} rows with a repeated input were not judged" if left_out else None

    def counts(self) -> Tensor:
        """Judged rows of each category, (K,)."""
        return torch.bincount(self.codes, minlength=len(self.names)).double()

    def means(self, terms: Tensor) -> Tensor:
        """Mean of one number a row, by category, (K,)."""
        return torch.zeros_like(self.counts()).index_add_(0, self.codes, terms) / self.counts()

    def weights(self) -> Tensor:
        """What each row counts in a balanced mean, (r,), 1 on average."""
        return (len(self.codes) / (len(self.names) * self.counts()))[self.codes]

    def spread(self, terms: Tensor) -> Tensor:
        """Terms of the judged rows placed among all sampled rows, with the same standard error."""
        return placed(terms, self.rows, self.m)

    def balanced_influence(self, terms: Tensor) -> Tensor:
        """Influence of each judged row on the balanced mean of the terms, (m,)."""
        return self.spread((terms - self.means(terms)[self.codes]) * self.weights())


def unrepeated(sample: Sample) -> Tensor | Refusal:
    """Index of the sampled rows whose input occurs once."""
    _, inverse, counts = sample.rows.fingerprints.unique(return_inverse=True, return_counts=True)
    rows: Tensor = (counts[inverse] == 1).nonzero()[:, 0]
    if len(rows) >= sample.m / 2:
        return rows
    return Refusal(
        "inconclusive", f"duplicates: only {len(rows)} of {sample.m} sampled rows have an input of their own"
    )


def judge(
    sample: Sample,
    rows: Tensor,
    names: tuple[str, ...],
    codes: Tensor,
    scores: Tensor,
    pull: Pull,
) -> HeldOut:
    """The given rows, each by the margin of its category.

    Args:
        sample: The sampled rows.
        rows: (r,) index of those that are judged.
        names: K categories.
        codes: (m,) category of each sampled row.
        scores: (m, K) held-out score of each sampled row.
        pull: Influence of the training rows on a weighted sum of the scores.
    """
    margins, rivals = margins_of(scores[rows], codes[rows])
    margins = margins.nan_to_num(-1.0)

    def halves(weights: Tensor) -> tuple[Tensor, Tensor]:
        """How each training row moves the border, times the density of judged rows there, by halves of these."""
        density = density_at_zero(margins) * weights / len(rows)
        found = []
        for half in (0, 1):
            signs = torch.zeros_like(scores)
            kept = density * (torch.arange(len(rows), device=rows.device) % 2 == half)
            signs[rows, codes[rows]] = kept
            signs[rows, rivals] -= kept
            found.append(pull(signs))
        return found[0], found[1]

    def pulled(weights: Tensor) -> Tensor:
        first, second = halves(weights)
        return first + second

    def training(weights: Tensor) -> Tensor:
        first, second = halves(weights)
        whole, agreed = first + second, 4 * (first * second).mean()
        size = whole.square().mean().clamp_min(torch.finfo(torch.float64).tiny)
        return whole * (agreed / size).clamp(0, 1).sqrt()

    return HeldOut(rows, codes[rows], margins, names, sample.m, training, pulled, scores[rows])


def too_few_judged(names: tuple[str, ...], codes: Tensor, small: int, kind: Kind = "class") -> Refusal | None:
    """The refusal when a category has fewer than `small` of the judged rows."""
    counts = torch.bincount(codes, minlength=len(names))
    name, found = names[int(counts.argmin())], int(counts.min())
    if found >= small:
        return None
    reason = f"small_{kind}: {kind} {name!r} has {found} of the {len(codes)} judged rows; each {kind} needs {small}"
    return Refusal("inconclusive", reason)


def accuracies(held_out: HeldOut, detail: str | None = None) -> dict[str, Answer | Later]:
    """Balanced accuracy, accuracy over rows, and the recall of the worst category."""
    correct, counts = held_out.correct, held_out.counts()
    recalls, value = held_out.means(correct), mean_recall(held_out, detail)

    def over_rows() -> Readout:
        terms = held_out.spread(correct - correct.mean()) + held_out.training(torch.ones_like(correct))
        return share(held_out, correct.mean(), terms, len(correct))

    def of_worst() -> Readout:
        worst = int(recalls.argmin())
        in_worst = (held_out.codes == worst).double()
        weights = in_worst / in_worst.mean()
        terms = held_out.spread(weights * (correct - recalls[worst])) + held_out.training(weights)
        return replace(
            share(held_out, recalls[worst], terms, int(counts[worst])),
            comparisons=len(counts),
            method="Wilson, held-out rows, Bonferroni over classes",
            detail=f"worst class {held_out.names[worst]!r}",
            breakdown=value.breakdown,
        )

    return {"value": value, "raw": over_rows, "worst_class": of_worst}


def mean_recall(held_out: HeldOut, detail: str | None = None) -> Readout:
    """Balanced accuracy, with the recall of each category and what is said of the rows that were not judged."""
    recalls = dict(zip(held_out.names, held_out.means(held_out.correct).tolist(), strict=True))
    note = held_out.note
    return replace(balanced(held_out), breakdown=recalls, detail=noted(detail, note) if note else detail)


def share(held_out: HeldOut, value: Tensor, influence: Tensor, rows: int) -> Readout:
    """A read-out for a share of judged rows, `rows` of them where all or none count."""
    judged = len(held_out.rows)
    trials = effective_trials(value, variance_of_mean(influence, judged), rows)
    return Readout(value, influence=influence, trials=trials, n=judged, method="Wilson, held-out rows")


def balanced(held_out: HeldOut) -> Readout:
    """Mean recall; a right and a wrong row are added to each category: a small one without errors is not certain."""
    correct, counts = held_out.correct, held_out.counts()
    recalls = held_out.means(correct)
    smoothed = (recalls * counts + 1) / (counts + 2)
    added = smoothed * (1 - smoothed) / (counts + 2) - recalls * (1 - recalls) / counts
    influence = held_out.balanced_influence(correct) + held_out.training(held_out.weights())
    variance = variance_of_mean(influence, len(correct)) + max(added.sum().item(), 0.0) / len(counts) ** 2
    return Readout(
        recalls.mean(),
        influence=influence,
        variance=variance,
        trials=effective_trials(smoothed.mean(), variance, len(correct)),
        n=len(correct),
        method="Wilson, held-out rows",
    )


def mean_of(parts: Sequence[Readout], weights: Sequence[float], n: int) -> Readout:
    """A weighted mean of balanced accuracies whose influence is over the same sampled rows.

    Args:
        parts: The balanced accuracies.
        weights: Of each; they sum to one.
        n: Rows that are judged in all.
    """
    value, influence, added, middle = 0.0, torch.zeros(()), 0.0, 0.0
    for share_of, part in zip(weights, parts, strict=True):
        own, rows = part.influence, part.n or 0
        if own is None or part.variance is None:
            raise TypeError("a balanced accuracy has its own influence and variance")
        value += share_of * part.natural.item()
        influence = influence + share_of * own * (n / rows) ** 0.5
        added += share_of**2 * max(part.variance - variance_of_mean(own, rows), 0.0)
        middle += share_of * min(max(part.natural.item(), 1 / (rows + 2)), 1 - 1 / (rows + 2))
    variance = variance_of_mean(influence, n) + added
    trials = effective_trials(torch.tensor(middle), variance, n)
    natural = torch.tensor(value, dtype=torch.float64)
    return Readout(natural, influence=influence, variance=variance, trials=trials, n=n, method="Wilson, held-out rows")


def gap(first: HeldOut, second: HeldOut) -> Readout:
    """Difference of two balanced accuracies on the same rows, paired."""
    own = first.balanced_influence(first.correct) - second.balanced_influence(second.correct)
    influence = own + first.training(first.weights()) - second.training(second.weights())
    m = len(first.correct)
    # half a row is added to each way of differing (Agresti and Min 2005)
    variance = variance_of_mean(influence, m) + 2 / m**2
    value = first.means(first.correct).mean() - second.means(second.correct).mean()
    return Readout(value, influence=influence, variance=variance, n=m, method="paired difference")


def beyond_chance(found: Readout, categories: int) -> Readout:
    """A balanced accuracy as its share of what lies between chance (0) and 1."""
    chance = 1 / categories
    kept = {name: (each - chance) / (1 - chance) for name, each in (found.breakdown or {}).items()}
    return replace(found, display=lambda natural: (natural - chance) / (1 - chance), breakdown=kept or None)
