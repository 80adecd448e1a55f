"""What can be read off the features, judged on held-out rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch

from gate.geometry.influence import Readout, Refusal, missing_input
from gate.geometry.methods.held_out import HeldOut, accuracies, balanced, gap, mean_of, mean_recall, unrepeated
from gate.geometry.methods.placement import placed
from gate.geometry.methods.probing import (
    components_note,
    judged_classes,
    nearest_means,
    other_features,
    read_off,
    require_spread,
)
from gate.geometry.methods.standard_probe import Question, ridge_predictions
from gate.geometry.registry import Answer, Later, higher, lower, metric
from gate.geometry.statistics import (
    CategoryFolds,
    ClassFolds,
    MomentFolds,
    PretextFolds,
    Sample,
    TargetFolds,
    TaskFolds,
)

_FEW = 50  # judged rows below which a regression is not judged


@metric(
    unit="balanced accuracy",
    greater_is_better=True,
    invariant_to={"translation", "scaling", "rotation", "permutation"},
    unasserted={"row_scaling", "channel_scaling", "linear_map"},
    domain="20 judged rows of each class (of each category of a task; 50 rows with targets)",
    paper="Razavian et al. 2014, CNN Features off-the-shelf; protocol derived here",
    reads={"baseline", "trivial"},
    value_needs={"labels"},
    readouts={
        "raw": higher("accuracy over rows", needs={"labels"}),
        "worst_class": higher("recall of the worst class", needs={"labels"}),
        "r2": higher("held-out R^2 for continuous targets, mean over targets", needs={"targets"}),
        "task_ladder": higher("balanced accuracy, mean over several named tasks", needs={"tasks"}),
        "pretext": higher("balanced accuracy on free labels such as rotation", needs={"pretext"}),
    },
    limits={
        "r2": (-math.inf, 1),
        **dict.fromkeys(("value", "raw", "worst_class", "task_ladder", "pretext"), (0.0, 1.0)),
    },
)
def ridge_probe_accuracy(
    moments: MomentFolds,
    sample: Sample,
    folds: ClassFolds | None = None,
    targets: TargetFolds | None = None,
    tasks: TaskFolds | None = None,
    pretext: PretextFolds | None = None,
) -> dict[str, Answer | Later]:
    """Linear decodability of the labels: balanced accuracy of a closed-form ridge probe on held-out rows.

    Features are centred and divided by one number, targets are one-hot, the penalty comes from an inner fold. With
    fewer than 4 (d + 1) training rows the leading principal components are used; with classes that differ in size by
    more than two, equal counts of the sampled rows train.

    Args:
        moments: Moments of each fold of features (n, d).
        sample: The sampled rows, held out fold by fold.
        folds: Moments of each class, fold by fold.
        targets: Continuous targets (n, q), fold by fold.
        tasks: Moments of each category of each named task, fold by fold.
        pretext: Moments of each free label, fold by fold.

    Returns:
        Balanced accuracy in [0, 1], and read-outs.

    Raises:
        MetricError: All feature rows are equal.
    """
    require_spread(moments.without())
    return {
        **_of_labels(moments, folds, sample),
        "r2": lambda: missing_input("targets") if targets is None else _explained(moments, targets, sample),
        "task_ladder": lambda: missing_input("tasks") if tasks is None else _ladder(moments, tasks, sample),
        "pretext": lambda: missing_input("pretext") if pretext is None else _free_labels(moments, pretext, sample),
    }


def _of_labels(moments: MomentFolds, folds: ClassFolds | None, sample: Sample) -> dict[str, Answer | Later]:
    found = missing_input("labels") if folds is None else judged_classes(moments, folds, sample)
    if isinstance(found, Refusal):
        return dict.fromkeys(("value", "raw", "worst_class"), found)
    return accuracies(found, components_note(moments))


def _explained(moments: MomentFolds, targets: TargetFolds, sample: Sample) -> Answer:
    """Mean over targets of 1 - SSE / SST, the latter about the mean of the training rows."""
    rows = unrepeated(sample)
    if isinstance(rows, Refusal):
        return rows
    if len(rows) < _FEW:
        return Refusal("inconclusive", f"few_rows: {len(rows)} judged rows; it needs at least {_FEW}", _FEW)
    constant = (targets.without().variance == 0).nonzero()[:, 0].tolist()
    if constant:
        return Refusal("inconclusive", f"constant_target: target {constant[0]} does not vary; leave it out")
    guesses, means = ridge_predictions(moments, targets, sample)
    wanted = sample.rows.numbers("targets").double()[rows]
    missed, spread = (wanted - guesses[rows]).square(), (wanted - means[rows]).square()
    ratio = missed.mean(dim=0) / spread.mean(dim=0)
    lost = ratio.mean().clamp_min(torch.finfo(torch.float64).tiny)
    terms = ((missed - ratio * spread) / spread.mean(dim=0)).mean(dim=1) / lost
    return Readout(
        lost.log(),
        display=lambda natural: 1 - natural.exp(),
        influence=placed(terms, rows, sample.m),
        n=len(rows),
        method="delta method over held-out rows",
        detail=components_note(moments),
        breakdown={f"target {place}": 1 - each for place, each in enumerate(ratio.tolist())},
    )


def _free_labels(moments: MomentFolds, pretext: PretextFolds, sample: Sample) -> Answer:
    codes = sample.class_codes(pretext.parts[0].names, "pretext")
    found = read_off(Question(codes, moments, pretext), sample)
    return found if isinstance(found, Refusal) else mean_recall(found, components_note(moments))


def _ladder(moments: MomentFolds, tasks: TaskFolds, sample: Sample) -> Answer:
    """Mean over tasks, and the mean rank over tasks among all features that come on the same rows."""
    found: dict[str, Readout] = {}
    for name, answers in tasks.parts.items():
        codes = sample.class_codes(answers.parts[0].names, f"tasks.{name}")
        held_out = read_off(Question(codes, moments, answers), sample)
        if isinstance(held_out, Refusal):
            return replace(held_out, reason=f"{held_out.reason} (task {name!r})")
        found[name] = balanced(held_out)
    values = {name: each.natural.item() for name, each in found.items()}
    rows = max(each.n or 0 for each in found.values())
    mean = mean_of(list(found.values()), [1 / len(found)] * len(found), rows)
    return replace(mean, detail=_rank(values, sample), breakdown=values)


def _rank(values: Mapping[str, float], sample: Sample) -> str:
    """Mean rank over tasks (Friedman 1937) among the baseline and the trivial features, the best being 1."""
    others = [name for name in sample.rows.columns if name == "baseline" or name.startswith("trivial.")]
    ranks = dict.fromkeys(values, 1.0)
    for other in others:
        rows = other_features(sample, other)
        moments = MomentFolds.of(rows.rows)
        for name, value in values.items():
            codes = sample.rows.class_codes(f"tasks.{name}")
            found = read_off(Question(codes.values, moments, CategoryFolds.of_codes(rows.rows, codes)), rows)
            rival = 0.0 if isinstance(found, Refusal) else balanced(found).natural.item()
            ranks[name] += 1.0 if rival > value else 0.5 * (rival == value)
    if not others:
        return "no other features on these rows to be ranked among"
    return f"mean rank {sum(ranks.values()) / len(ranks):.2f} of {len(others) + 1}, with {', '.join(others)}"


@metric(
    unit="balanced accuracy",
    greater_is_better=True,
    invariant_to={"translation", "scaling", "rotation", "permutation"},
    domain="5 judged rows of each class",
    reads={"groups"},
    paper="Galanti, György and Hutter 2022, On the Role of Neural Collapse in Transfer Learning",
    readouts={
        "gap": lower("ridge_probe_accuracy minus value"),
        "per_class": higher("recall of the worst class"),
        "env_gap": lower("best minus worst accuracy over groups", needs={"groups"}),
    },
    limits={"value": (0, 1), "gap": (-1, 1), "per_class": (0, 1), "env_gap": (0, 1)},
)
def ncc_accuracy(folds: ClassFolds, moments: MomentFolds, sample: Sample) -> dict[str, Answer | Later] | Refusal:
    """Nearest-class-mean accuracy on held-out rows: a quality floor without parameters.

    Each sampled row goes to the class whose mean over the other folds is nearest. One loud channel ruins it where a
    linear probe does not notice.

    Args:
        folds: Moments of each class of features (n, d), fold by fold.
        moments: Moments of each fold.
        sample: The sampled rows, held out fold by fold.

    Returns:
        Balanced accuracy in [0, 1], and read-outs.

    Raises:
        MetricError: All feature rows are equal.
    """
    held_out = nearest_means(folds, sample)
    if isinstance(held_out, Refusal):
        return held_out
    accuracy = accuracies(held_out)
    return {
        "value": accuracy["value"],
        "gap": lambda: _gap(judged_classes(moments, folds, sample), held_out),
        "per_class": accuracy["worst_class"],
        "env_gap": lambda: _group_gap(held_out, sample),
    }


def _gap(ridge: HeldOut | Refusal, held_out: HeldOut) -> Answer:
    return ridge if isinstance(ridge, Refusal) else gap(ridge, held_out)


def _group_gap(held_out: HeldOut, sample: Sample) -> Answer:
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
