"""Probes put to work: a column, or the classes, as they are read off held-out rows, or why they are not."""

from __future__ import annotations

from dataclasses import replace

from gate.errors import MetricError
from gate.geometry.influence import Refusal
from gate.geometry.methods.domains import small_class
from gate.geometry.methods.held_out import HeldOut, Kind, judge, too_few_judged, unrepeated
from gate.geometry.methods.standard_probe import (
    Question,
    nearest_mean_pull,
    nearest_mean_scores,
    probe_pull,
    probe_scores,
)
from gate.geometry.statistics import CategoryFolds, ClassFolds, MomentFolds, Moments, Sample

SMALL = 20  # judged rows of each category below which a ridge probe is not judged


def require_spread(total: Moments) -> None:
    """Refuses features that do not vary.

    Raises:
        MetricError: All rows are equal.
    """
    if total.is_constant():
        raise MetricError(f"all {total.n} feature rows are equal up to rounding: nothing can be read off")


def components_note(moments: MomentFolds) -> str | None:
    """What is said of a probe that had too few rows for every dimension."""
    axes = moments.axes_without(0)
    return f"probe of {len(axes.values)} principal components" if len(axes.values) < len(axes.mean) else None


def other_features(sample: Sample, column: str) -> Sample:
    """The sampled rows with another column in place of their features."""
    rows = sample.rows
    inputs = rows.fingerprints  # a row stays a repeated one whatever its features
    return replace(sample, rows=replace(rows, features=rows.numbers(column), given_fingerprints=inputs))


def judged_classes(moments: MomentFolds, folds: ClassFolds, sample: Sample) -> HeldOut | Refusal:
    """The labels as the ridge probe reads them off held-out rows."""
    few = small_class(folds.without()[1], SMALL)
    codes = sample.class_codes(folds.classes[0].names)
    return few or read_off(Question(codes, moments, CategoryFolds(folds.classes)), sample)


def read_off(question: Question, sample: Sample, kind: Kind = "class") -> HeldOut | Refusal:
    """A column as the ridge probe reads it off held-out rows, where each category has 20 of them."""
    rows = unrepeated(sample)
    if isinstance(rows, Refusal):
        return rows
    if len(question.names) < 2:
        return Refusal("inconclusive", f"small_{kind}: all rows are of {kind} {question.names[0]!r}; it needs two")
    few = too_few_judged(question.names, question.codes[rows], SMALL, kind)
    if few:
        return few
    scores = probe_scores(question, sample)
    return judge(sample, rows, question.names, question.codes, scores, probe_pull(question, sample, scores))


def nearest_means(folds: ClassFolds, sample: Sample) -> HeldOut | Refusal:
    """The labels as the nearest class mean of the other folds gives them; no fit has made these means the best ones."""
    total, classes = folds.without()
    rows = unrepeated(sample)
    codes = sample.class_codes(classes.names)
    few = small_class(classes, 5)
    if few:
        return few
    require_spread(total)
    if isinstance(rows, Refusal):
        return rows
    few = too_few_judged(classes.names, codes[rows], 5)
    if few:
        return few
    pull = nearest_mean_pull(folds, sample, codes)
    found = judge(sample, rows, classes.names, codes, nearest_mean_scores(folds, sample), pull)
    return replace(found, training=found.pulled)
