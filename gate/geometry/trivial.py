"""Does the model beat features that know nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from gate.geometry.influence import Readout, Refusal, design_effect, noted, variance_of_mean
from gate.geometry.methods.held_out import HeldOut, balanced, gap
from gate.geometry.methods.probing import judged_classes, other_features, read_off, require_spread
from gate.geometry.methods.standard_probe import Question
from gate.geometry.registry import Answer, Answers, higher, metric
from gate.geometry.statistics import CategoryFolds, ClassFolds, Codes, MomentFolds, Sample

PERMUTED, CONSTANT = "permuted labels", "constant"


@metric(
    unit="balanced accuracy",
    greater_is_better=True,
    invariant_to={"translation", "scaling", "rotation", "permutation"},
    unasserted={"row_scaling", "channel_scaling", "linear_map"},
    domain="20 judged rows of each class; the same rows for all features",
    paper="idea of On zero-shot recognition of generic objects; protocol derived here",
    reads={"trivial"},
    readouts={"in_errors": higher("the margin in units of its own standard error")},
    limits={"value": (-1, 1)},
)
def trivial_margin(moments: MomentFolds, folds: ClassFolds, sample: Sample) -> Answers:
    """Does the model beat trivial features on this probe set.

    `ridge_probe_accuracy` of the features minus the best of that of permuted labels, of a constant and of every column
    `trivial.*` (raw inputs, a random-weight network), all trained and judged on the same sampled rows. A column whose
    name holds "backbone" is reported and not subtracted. The interval holds for all of them at once.

    Args:
        moments: Moments of each fold of features (n, d).
        folds: Moments of each class, fold by fold.
        sample: The sampled rows, held out fold by fold.

    Returns:
        Difference of two accuracies in [-1, 1], and the same in standard errors.

    Raises:
        MetricError: All feature rows are equal.
    """
    require_spread(moments.without())
    if sample.m < sample.n:  # a baseline has no more than the sampled rows to train on
        moments, folds = MomentFolds.of(sample.rows), ClassFolds.of(sample.rows)
    model = judged_classes(moments, folds, sample)
    if isinstance(model, Refusal):
        return model
    baselines = _baselines(moments, sample)
    refused = next((each for each in baselines.values() if isinstance(each, Refusal)), None)
    if refused is not None:
        return refused
    return _margins(model, {name: each for name, each in baselines.items() if isinstance(each, HeldOut)}, sample)


def _baselines(moments: MomentFolds, sample: Sample) -> dict[str, HeldOut | Refusal]:
    """What the probe reads off features that know nothing; folds are 10, or 5 for a column wider than 1024."""
    labels = sample.rows.class_codes()
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(sample.m, generator=generator).to(labels.values.device)
    permuted = Codes(labels.names, labels.values[order])
    answers = CategoryFolds.of_codes(sample.rows, permuted)
    found: dict[str, HeldOut | Refusal] = {PERMUTED: read_off(Question(permuted.values, moments, answers), sample)}
    for name in sample.rows.named("trivial"):
        rows = other_features(sample, f"trivial.{name}")
        own = MomentFolds.of(rows.rows)
        if not own.without().is_constant():
            found[name] = read_off(Question(labels.values, own, CategoryFolds.of_codes(rows.rows, labels)), rows)
    return found


def _margins(model: HeldOut, baselines: Mapping[str, HeldOut], sample: Sample) -> dict[str, Answer]:
    own = balanced(model)
    scores = {name: balanced(each).natural.item() for name, each in baselines.items()}
    scores[CONSTANT] = 1 / len(model.names)
    judging = {name: score for name, score in scores.items() if "backbone" not in name.lower()}
    best = max(judging, key=lambda name: judging[name])
    if best in baselines:
        margin = gap(model, baselines[best])
    else:
        margin = replace(own, natural=own.natural - scores[CONSTANT], trials=None)
    detail = f"best trivial features: {best!r}"
    margin = replace(
        margin,
        comparisons=len(judging),
        method="paired difference, Bonferroni over trivial features",
        detail=noted(detail, model.note) if model.note else detail,
        breakdown={"features": own.natural.item(), **scores},
    )
    rivals = [gap(model, baselines[name]) for name in judging if name in baselines]
    return {"value": margin, "in_errors": _in_errors(margin, _errors(model, margin, rivals), sample)}


def _errors(model: HeldOut, margin: Readout, rivals: Sequence[Readout]) -> tuple[float, float]:
    """Least and largest standard error that the margin could have been given.

    The least has no noise of training and of a baseline; the largest is that of any baseline that could have been best.
    """
    judged = variance_of_mean(model.balanced_influence(model.correct), len(model.rows)) + 2 / len(model.rows) ** 2
    own = margin.variance or 0.0
    near = [each.variance or 0.0 for each in rivals]
    near = [
        variance
        for each, variance in zip(rivals, near, strict=True)
        if each.natural.item() - margin.natural.item() <= 2 * math.sqrt(variance)
    ]
    return math.sqrt(min(judged, own)), math.sqrt(max([own, *near]))


def _in_errors(margin: Readout, errors: tuple[float, float], sample: Sample) -> Readout:
    """The margin over its standard error, which is an estimate as well.

    Its logarithm is uncertain by the fourth moment of the influence (a row moves the variance by its square) and by
    what was estimated to be noise at all: the range of `errors`.
    """
    influence, variance = margin.influence, margin.variance
    if influence is None or variance is None:
        raise TypeError("a difference of accuracies has its own influence and variance")
    moved = influence - influence.mean()
    effect = design_effect(moved, sample.clusters, sample.share)
    error, squares = math.sqrt(variance * effect), moved.square()
    units, size = margin.natural.item() / error, squares.mean().clamp_min(1e-300)
    rows = margin.n or sample.n
    fourth = variance_of_mean(squares / size, rows) / 4
    low, high = (math.log(each / math.sqrt(variance)) for each in errors)
    spread = math.sqrt(fourth + ((high - low) / 2) ** 2)

    def ends(z: float) -> tuple[float, float]:
        wide = min(z * spread, 50.0)
        first, second = sorted((units * math.exp(-wide), units * math.exp(wide)))
        return first - z / math.sqrt(effect), second + z / math.sqrt(effect)  # z holds the effect of clusters

    return replace(
        margin,
        natural=margin.natural / error,
        influence=influence / error,
        variance=(1 + (units * spread) ** 2) / effect,
        interval=ends,
        method=f"{margin.method}, its error estimated",
    )
