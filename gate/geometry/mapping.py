"""Whether a linear map leads from a version's features to those of its baseline, judged on held-out rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import Readout, Refusal, missing_input, variance_of_mean
from gate.geometry.methods.held_out import HeldOut, gap, judge, too_few_judged, unrepeated
from gate.geometry.methods.standard_probe import Question, probe_pull, probe_scores
from gate.geometry.registry import Answer, Answers, higher, metric, neither
from gate.geometry.statistics import (
    BaselineClassFolds,
    CategoryFolds,
    ClassFolds,
    CrossFolds,
    MomentFolds,
    PairMoments,
    Sample,
    Versions,
)

_LEAST = 100  # rows
_PENALTIES = (
    1e-4,
    1e-3,
    1e-2,
    1e-1,
    1.0,
    1e1,
    1e2,
)  # on whitened features: the largest means that nothing is predicted
_CUT = 1e-10  # pseudo-inverse: eigenvalues below this share of the largest count as zero
_PER_CLASS = 20  # judged rows of a class below which its recall is noise


@metric(
    unit="R^2",
    greater_is_better=True,
    invariant_to={"translation", "scaling", "rotation", "permutation", "channel_scaling", "linear_map"},
    domain="100 rows; with fewer than 4 (d + 1) training rows on principal components, no longer for any linear map",
    paper="Gu et al. 2023, Preserving Linear Separability by Backward Feature Projection; protocol derived here",
    readouts={
        "forward": neither("the same from the baseline to the features: what is left over is new"),
        "old_probe": higher(
            "balanced accuracy of a ridge probe on the features minus that on the baseline's", needs={"labels"}
        ),
    },
    limits={"value": (-math.inf, 1), "forward": (-math.inf, 1), "old_probe": (-1, 1)},
)
def backward_map_r2(
    folds: CrossFolds,
    sample: Sample,
    classes: ClassFolds | None = None,
    old_classes: BaselineClassFolds | None = None,
) -> Answers:
    """Does a linear map recover the baseline's features: R^2 on held-out rows, 1 when nothing linear was lost.

    1 - sum |y - A x - b|^2 / sum |y - training mean|^2 over the rows of each fold, with a ridge map A of the other
    folds. The ridge acts on whitened features, so that no invertible map of the features changes the value: it is least
    squares times 1 / (1 + penalty), the penalty chosen on an inner fold. Below 0 where the map predicts worse than the
    mean. With fewer than 4 (d + 1) training rows the leading n / 8 principal components are used.

    Args:
        folds: Moments of the features (n, d) and the baseline's (n, e), fold by fold.
        sample: The sampled rows, held out fold by fold.
        classes: Class moments of the features, fold by fold.
        old_classes: Class moments of the baseline's features, fold by fold.

    Returns:
        At most 1, and read-outs.

    Raises:
        MetricError: All feature rows are equal, or all of the baseline's.
    """
    total = folds.whole()
    if total.n < _LEAST:
        return Refusal("inconclusive", f"few_rows: found {total.n} rows; it needs {_LEAST}", _LEAST)
    if total.xy.is_constant():
        raise MetricError(f"all {total.n} rows of the features or of the baseline are equal up to rounding")
    return {
        "value": _mapped(folds, sample, backward=True),
        "forward": _mapped(folds, sample, backward=False),
        "old_probe": _probe_gain(classes, old_classes, sample),
    }


@dataclass(frozen=True)
class _Side:
    """Moments of a map's inputs and targets: inputs with themselves and with targets, spread of targets."""

    n: int
    inputs: PairMoments
    cross: Tensor
    mean_x: Tensor
    mean_y: Tensor
    spread: Tensor

    @classmethod
    def of(cls, moments: Versions, *, backward: bool) -> _Side:
        pair = moments.xy
        if backward:
            return cls(pair.n, moments.xx, pair.cross, pair.mean_x, pair.mean_y, pair.spread_y)
        return cls(pair.n, moments.yy, pair.cross.T, pair.mean_y, pair.mean_x, pair.spread_x)


@dataclass(frozen=True)
class _Map:
    """Least squares of some training rows: y is near mean_y + shrink (x - mean_x) weights."""

    mean_x: Tensor
    mean_y: Tensor
    weights: Tensor  # (d, e)

    @classmethod
    def fitted(cls, train: _Side) -> _Map:
        covariance = train.inputs.cross
        if train.n >= 4 * (len(covariance) + 1):
            root = covariance.diagonal().sqrt()
            scaled = covariance / root[:, None] / root
            factor, failed = torch.linalg.cholesky_ex(scaled)
            if not int(failed) and float(factor.diagonal().min()) ** 2 > _CUT:
                weights = torch.cholesky_solve(train.cross / root[:, None], factor) / root[:, None]
                return cls(train.mean_x, train.mean_y, weights)
        return cls(train.mean_x, train.mean_y, _pseudo_inverse(covariance, train.n) @ train.cross)

    def errors(self, held_out: _Side) -> tuple[Tensor, Tensor, Tensor]:
        """Mean square of the held-out targets about the training mean, what the map explains, and its own size."""
        gap_x, gap_y = held_out.mean_x - self.mean_x, held_out.mean_y - self.mean_y
        explained = (self.weights * held_out.cross).sum() + gap_x @ self.weights @ gap_y
        size = (self.weights * (held_out.inputs.cross @ self.weights)).sum() + (gap_x @ self.weights).square().sum()
        return held_out.spread + gap_y @ gap_y, explained, size

    def shrink(self, inner: _Side) -> float:
        """Factor of the weights, by the penalty that is best on the inner fold; of equal ones the larger."""
        _, explained, size = (float(part) for part in self.errors(inner))
        factors = [1 / (1 + penalty) for penalty in reversed(_PENALTIES)]
        return min(factors, key=lambda factor: factor**2 * size - 2 * factor * explained)


def _pseudo_inverse(covariance: Tensor, n: int) -> Tensor:
    """Inverse on the directions that vary, or on the n / 8 leading ones where rows are few."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = len(values) if n >= 4 * (len(values) + 1) else min(max(1, n // 8), len(values))
    values, vectors = values[-kept:], vectors[:, -kept:]
    live = values > _CUT * values[-1]
    inverse: Tensor = (vectors[:, live] / values[live]) @ vectors[:, live].T
    return inverse


def _mapped(folds: CrossFolds, sample: Sample, *, backward: bool) -> Answer:
    which = sample.rows.folds % len(folds.parts)
    features, baseline = sample.features.double(), sample.rows.numbers("baseline").double()
    x, y = (features, baseline) if backward else (baseline, features)
    error = torch.zeros(sample.m, dtype=torch.float64, device=x.device)
    spread = torch.zeros_like(error)
    sums: list[Tensor] = []
    kept = [part for part in folds.parts if part.n > 0]
    if len(kept) < 3:
        return Refusal("inconclusive", f"few_rows: the rows fall into {len(kept)} folds; it needs at least 3")
    for fold, *sides in folds.splits():
        outer, rest, inner, held_out = (_Side.of(side, backward=backward) for side in sides)
        factor = _Map.fitted(rest).shrink(inner)
        found = _Map.fitted(outer)
        total, explained, size = found.errors(held_out)
        sums.append(held_out.n * torch.stack([total - 2 * factor * explained + factor**2 * size, total]))
        rows = which == fold
        targets = y[rows] - found.mean_y
        error[rows] = (targets - factor * (x[rows] - found.mean_x) @ found.weights).square().sum(dim=1)
        spread[rows] = targets.square().sum(dim=1)
    missed, whole = torch.stack(sums).T
    value = 1 - missed.sum() / whole.sum()
    influence = ((1 - value) * spread - error) * (folds.whole().n / whole.sum())
    return Readout(
        value,
        influence=influence,
        variance=max(variance_of_mean(influence, folds.whole().n), _jackknife(missed, whole)),
        degrees=len(missed) - 1,
        method="held-out rows, at least the jackknife over folds",
        detail="worse than the mean: it reads 0 at best" if float(value) < 0 else None,
    )


def _jackknife(missed: Tensor, whole: Tensor) -> float:
    """Variance of 1 - missed / whole, fold by fold: with little to predict the penalties of the folds decide it."""
    left = (missed.sum() - missed) / (whole.sum() - whole)
    folds = len(left)
    return float((left - left.mean()).square().sum()) * (folds - 1) / folds


def _probe_gain(classes: ClassFolds | None, old: BaselineClassFolds | None, sample: Sample) -> Answer:
    """Balanced accuracy of the standard probe on the features minus that on the baseline's, paired by row."""
    if classes is None or old is None:
        return missing_input("labels")
    names = classes.classes[0].names
    rows = unrepeated(sample)
    if isinstance(rows, Refusal):
        return rows
    codes = sample.class_codes(names)
    few = too_few_judged(names, codes[rows], _PER_CLASS)
    if few or len(names) < 2:
        return few or Refusal("inconclusive", "small_class: all rows are of one class; it needs two")
    earlier = replace(sample, rows=replace(sample.rows, features=sample.rows.numbers("baseline")))
    return gap(_judged(classes, sample, rows, codes), _judged(old, earlier, rows, codes))


def _judged(folds: ClassFolds, sample: Sample, rows: Tensor, codes: Tensor) -> HeldOut:
    names = folds.classes[0].names
    question = Question(codes, MomentFolds(folds.moments), CategoryFolds(folds.classes))
    scores = probe_scores(question, sample)
    return judge(sample, rows, names, codes, scores, probe_pull(question, sample, scores))
