"""What can be read off the features, judged on held-out rows.

Sampled rows whose input is repeated are not judged: their copy may have been trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.classes import small_class
from gate.geometry.influence import (
    Readout,
    Refusal,
    density_at_zero,
    effective_trials,
    margins_of,
    missing_input,
    variance_of_mean,
)
from gate.geometry.registry import Answer, metric
from gate.geometry.standard_probe import (
    nearest_mean_scores,
    nearest_mean_slopes,
    ridge_scores,
    ridge_slopes,
)
from gate.geometry.statistics import ClassFolds, Sample


@dataclass(frozen=True)
class _HeldOut:
    """The judged rows.

    Attributes:
        rows: (r,) index of each judged row in the sample.
        codes: (r,) class of each.
        margins: (r,) score of its class less that of the best other one: right when positive.
        names: C classes.
        m: Sampled rows.
        training: Influence of each sampled row, as a training row, on a weighted mean of `correct`: weights (r,) with a
            mean of 1 → (m,).
    """

    rows: Tensor
    codes: Tensor
    margins: Tensor
    names: tuple[str, ...]
    training: Callable[[Tensor], Tensor]
    m: int

    @property
    def correct(self) -> Tensor:
        return (self.margins > 0).double()

    def counts(self) -> Tensor:
        return torch.bincount(self.codes, minlength=len(self.names)).double()

    def means(self, terms: Tensor) -> Tensor:
        """Mean of one number a row, by class, (C,)."""
        return torch.zeros_like(self.counts()).index_add_(0, self.codes, terms) / self.counts()

    def weights(self) -> Tensor:
        """What each row counts in a balanced mean, (r,), 1 on average."""
        return (len(self.codes) / (len(self.names) * self.counts()))[self.codes]

    def spread(self, terms: Tensor) -> Tensor:
        """Terms of the judged rows placed among all sampled rows, with the same standard error."""
        whole = torch.zeros(self.m, dtype=torch.float64, device=terms.device)
        whole[self.rows] = terms * (self.m / len(terms)) ** 0.5
        return whole

    def balanced_influence(self, terms: Tensor) -> Tensor:
        """Influence of each judged row on the balanced mean of the terms, (m,)."""
        return self.spread((terms - self.means(terms)[self.codes]) * self.weights())


@metric(
    unit="balanced accuracy",
    greater_is_better=True,
    invariant_to={"translation", "scaling", "rotation", "permutation"},
    unasserted={"row_scaling", "channel_scaling", "linear_map"},
    domain="20 judged rows of each class",
    paper="Razavian et al. 2014, CNN Features off-the-shelf; protocol derived here",
    readouts={
        "raw": "accuracy over rows",
        "worst_class": "recall of the worst class",
        "r2": "held-out R^2 for continuous targets",
        "task_ladder": "mean over several named tasks",
        "pretext": "accuracy on free labels such as rotation",
    },
    limits={"value": (0, 1), "raw": (0, 1), "worst_class": (0, 1)},
)
def ridge_probe_accuracy(folds: ClassFolds, sample: Sample) -> dict[str, Answer]:
    """Linear decodability of the labels: balanced accuracy of a closed-form ridge probe on held-out rows.

    Features are centred and divided by one number, targets are one-hot, the penalty comes from an inner fold. With
    fewer than 4 (d + 1) training rows the leading principal components are used; with classes that differ in size by
    more than two, equal counts of the sampled rows train.

    Args:
        folds: Moments of each fold of features (n, d).
        sample: The sampled rows, held out fold by fold.

    Returns:
        Balanced accuracy in [0, 1], and read-outs.

    Raises:
        MetricError: All feature rows are equal.
    """
    later = {
        "r2": missing_input("continuous targets"),
        "task_ladder": missing_input("several named label columns"),
        "pretext": missing_input("free labels such as rotation"),
    }
    held_out = _judge(folds, sample, ridge_scores, ridge_slopes, small=20)
    if isinstance(held_out, Refusal):
        return {"value": held_out, "raw": held_out, "worst_class": held_out, **later}
    return {**_accuracies(held_out, sample), **later}


@metric(
    unit="balanced accuracy",
    greater_is_better=True,
    invariant_to={"translation", "scaling", "rotation", "permutation"},
    domain="5 judged rows of each class",
    paper="Galanti, György and Hutter 2022, On the Role of Neural Collapse in Transfer Learning",
    readouts={
        "gap": "ridge_probe_accuracy minus value",
        "per_class": "recall of the worst class",
        "env_gap": "best minus worst accuracy over groups",
    },
    limits={"value": (0, 1), "gap": (-1, 1), "per_class": (0, 1), "env_gap": (0, 1)},
)
def ncc_accuracy(folds: ClassFolds, sample: Sample) -> dict[str, Answer]:
    """Nearest-class-mean accuracy on held-out rows: a quality floor without parameters.

    Each sampled row goes to the class whose mean over the other folds is nearest. One loud channel ruins it where a
    linear probe does not notice.

    Args:
        folds: Moments of each fold of features (n, d).
        sample: The sampled rows, held out fold by fold.

    Returns:
        Balanced accuracy in [0, 1], and read-outs.

    Raises:
        MetricError: All feature rows are equal.
    """
    held_out = _judge(folds, sample, nearest_mean_scores, nearest_mean_slopes, small=5)
    if isinstance(held_out, Refusal):
        return {"value": held_out, "gap": held_out, "per_class": held_out, "env_gap": held_out}
    ridge = _judge(folds, sample, ridge_scores, ridge_slopes, small=20)
    accuracy = _accuracies(held_out, sample)
    return {
        "value": accuracy["value"],
        "gap": ridge if isinstance(ridge, Refusal) else _gap(ridge, held_out),
        "per_class": accuracy["worst_class"],
        "env_gap": _group_gap(held_out, sample),
    }


_Scores = Callable[[ClassFolds, Sample, tuple[str, ...]], Tensor]
_Slopes = Callable[[ClassFolds, Sample, Tensor, Tensor, Tensor], Tensor]


def _judge(folds: ClassFolds, sample: Sample, score: _Scores, slopes: _Slopes, *, small: int) -> _HeldOut | Refusal:
    total, classes = folds.without()
    few = small_class(classes, small)
    if few:
        return few
    if total.is_constant():
        raise MetricError(f"all {total.n} feature rows are equal up to rounding: nothing can be read off")
    rows = _unrepeated(sample)
    if len(rows) < sample.m / 2:
        reason = f"duplicates: only {len(rows)} of {sample.m} sampled rows have an input of their own"
        return Refusal("inconclusive", reason)
    codes = sample.class_codes(classes.names)[rows]
    counts = torch.bincount(codes, minlength=classes.c)
    if int(counts.min()) < small:
        name, found = classes.names[int(counts.argmin())], int(counts.min())
        reason = f"small_class: class {name!r} has {found} of the {len(rows)} judged rows; each class needs {small}"
        return Refusal("inconclusive", reason)
    scores = score(folds, sample, classes.names)
    margins, rivals = margins_of(scores[rows], codes)
    margins = margins.nan_to_num(-1.0)

    def training(weights: Tensor) -> Tensor:
        """How the border moves with each training row, times the density of judged rows at the border."""
        density = density_at_zero(margins) * weights / len(rows)
        signs = torch.zeros_like(scores)
        signs[rows, codes] = density
        signs[rows, rivals] -= density
        return slopes(folds, sample, sample.class_codes(classes.names), scores, signs)

    return _HeldOut(rows, codes, margins, classes.names, training, sample.m)


def _unrepeated(sample: Sample) -> Tensor:
    """Index of the sampled rows whose input occurs once."""
    _, inverse, counts = sample.rows.fingerprints.unique(return_inverse=True, return_counts=True)
    once: Tensor = counts[inverse] == 1
    return once.nonzero()[:, 0]


def _accuracies(held_out: _HeldOut, sample: Sample) -> dict[str, Answer]:
    correct, counts = held_out.correct, held_out.counts()
    recalls = held_out.means(correct)
    breakdown = dict(zip(held_out.names, recalls.tolist(), strict=True))
    worst = int(recalls.argmin())
    left_out = sample.m - len(correct)

    def share(value: Tensor, influence: Tensor, rows: int) -> Readout:
        trials = effective_trials(value, variance_of_mean(influence, len(correct)), rows)
        return Readout(value, influence=influence, trials=trials, n=len(correct), method="Wilson, held-out rows")

    in_worst = (held_out.codes == worst).double()
    weights = in_worst / in_worst.mean()
    terms = held_out.spread(weights * (correct - recalls[worst])) + held_out.training(weights)
    return {
        "value": replace(
            _balanced(held_out),
            breakdown=breakdown,
            detail=f"{left_out} rows with a repeated input were not judged" if left_out else None,
        ),
        "raw": share(
            correct.mean(),
            held_out.spread(correct - correct.mean()) + held_out.training(torch.ones_like(correct)),
            len(correct),
        ),
        "worst_class": replace(
            share(recalls[worst], terms, int(counts[worst])),
            comparisons=len(counts),
            method="Wilson, held-out rows, Bonferroni over classes",
            detail=f"worst class {held_out.names[worst]!r}",
            breakdown=breakdown,
        ),
    }


def _balanced(held_out: _HeldOut) -> Readout:
    """Mean recall; a right and a wrong row are added to each class: a small one without errors is not certain."""
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


def _gap(first: _HeldOut, second: _HeldOut) -> Readout:
    """Difference of two balanced accuracies on the same rows, paired."""
    gain = first.correct - second.correct
    training = first.training(first.weights()) - second.training(second.weights())
    influence = first.balanced_influence(gain) + training
    m = len(gain)
    variance = (
        variance_of_mean(influence, m) + 2 / m**2
    )  # half a row added to each way of differing (Agresti and Min 2005)
    return Readout(first.means(gain).mean(), influence=influence, variance=variance, n=m, method="paired difference")


def _group_gap(held_out: _HeldOut, sample: Sample) -> Answer:
    """Best less worst accuracy of a group; a right and a wrong row added to each (Agresti and Caffo 2000)."""
    if sample.rows.groups is None:
        return missing_input("groups")
    names = sample.rows.groups.names
    codes = sample.rows.groups.values[held_out.rows]
    counts = torch.bincount(codes, minlength=len(names)).double()
    if int((counts > 0).sum()) < 2 or int(counts[counts > 0].min()) < 20:
        return Refusal("inconclusive", "small_group: it needs two groups of at least 20 judged rows each")
    means = torch.zeros_like(counts).index_add_(0, codes, held_out.correct) / counts
    best, worst = int(means.nan_to_num(-1.0).argmax()), int(means.nan_to_num(2.0).argmin())
    terms = torch.zeros_like(held_out.correct)
    for group, sign in ((best, 1.0), (worst, -1.0)):
        inside = (codes == group).double()
        terms += sign * inside * (held_out.correct - means[group]) / inside.mean()
    smoothed = (means * counts + 1) / (counts + 2)
    variances = smoothed * (1 - smoothed) / (counts + 2)
    return Readout(
        means[best] - means[worst],
        influence=held_out.spread(terms),
        variance=(variances[best] + variances[worst]).item(),
        n=len(terms),
        comparisons=len(names),
        method="difference of proportions, Bonferroni over groups",
        detail=f"best group {names[best]!r}, worst {names[worst]!r}",
        breakdown={
            name: mean for name, mean, count in zip(names, means.tolist(), counts.tolist(), strict=True) if count
        },
    )
