"""Deterministic probes: trained on the moments of the other folds, scored on the sampled rows of the fold left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from gate.geometry.statistics import (
    Axes,
    CategoryFolds,
    CellFolds,
    Centres,
    ClassFolds,
    Codes,
    MomentFolds,
    Sample,
    TargetFolds,
)

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
MAX_IMBALANCE = 2  # beyond it equal counts per class train, so that the large class does not decide

Pull = Callable[[Tensor], Tensor]  # what a unit of each score (m, K) is worth → influence of each training row (m,)


@dataclass(frozen=True, eq=False)
class Residual:
    """Classes whose mean over the training folds is taken out of every row.

    Attributes:
        classes: Moments of each class.
        codes: (m,) class of each sampled row.
        cells: How many rows are of each category that is read off, and class.
    """

    classes: CategoryFolds
    codes: Tensor
    cells: CellFolds


@dataclass(frozen=True, eq=False)
class Question:
    """A column to be read off features, and what its probe is trained on.

    Attributes:
        codes: (m,) category of each sampled row.
        moments: Of the features; several questions about the same rows share their principal axes.
        answers: Moments of each of the K categories.
        residual: Classes that are taken out first.
    """

    codes: Tensor
    moments: MomentFolds
    answers: CategoryFolds
    residual: Residual | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """K categories."""
        return self.answers.parts[0].names

    def balanced(self, sample: Sample) -> Question:
        """The same, trained on equally many sampled rows of each category, where those differ too much in size."""
        counts = self.answers.centres_without().counts
        if int(counts.max()) <= MAX_IMBALANCE * int(counts.min()):
            return self
        found = torch.bincount(self.codes, minlength=len(self.names))
        smallest = int(found[found > 0].min())
        kept = torch.cat([(self.codes == code).nonzero()[:smallest, 0] for code in range(len(self.names))])
        batch, codes = sample.rows.rows(kept), self.codes[kept]
        rest = self.residual
        if rest is not None:
            classes = Codes(rest.classes.parts[0].names, rest.codes[kept])
            cells = CellFolds.of_codes(batch, Codes(self.names, codes), classes)
            rest = replace(rest, classes=CategoryFolds.of_codes(batch, classes), cells=cells)
        answers = CategoryFolds.of_codes(batch, Codes(self.names, codes))
        return Question(self.codes, MomentFolds.of(batch), answers, rest)


def folds_of(sample: Sample, folds: int) -> list[tuple[int, Tensor]]:
    """Each fold with the index of its sampled rows, where it has any."""
    which = sample.rows.folds % folds
    members = ((fold, (which == fold).nonzero()[:, 0]) for fold in range(folds))
    return [(fold, rows) for fold, rows in members if len(rows)]


def _inner(fold: int, folds: int) -> int:
    """The fold that picks the penalty: its neighbour in pairs, so that both of a pair need the same axes."""
    return fold ^ 1 if fold ^ 1 < folds else 0


def nearest_mean_scores(folds: ClassFolds, sample: Sample, *, cosine: bool = False) -> Tensor:
    """Nearness of each sampled row to each class mean over the other folds, (m, C).

    Minus the squared distance, or the cosine.
    """
    classes = len(folds.classes[0].names)
    scores = torch.full((sample.m, classes), -torch.inf, dtype=torch.float64, device=sample.features.device)
    for fold, rows in folds_of(sample, len(folds.classes)):
        train = CategoryFolds(folds.classes).centres_without(fold)
        known = (train.counts > 0).nonzero()[:, 0]
        features, means = sample.features[rows].double(), train.means[known]
        centre = train.shares @ train.means
        if cosine:
            scores[rows[:, None], known] = _directions(features) @ _directions(means).T
        else:
            scores[rows[:, None], known] = -torch.cdist(features - centre, means - centre).square()
    return scores


def nearest_mean_pull(folds: ClassFolds, sample: Sample, codes: Tensor) -> Pull:
    """Influence through the class mean that a row moves."""
    classes = CategoryFolds(folds.classes).centres_without()
    rows = sample.features.double()

    def pull(signs: Tensor) -> Tensor:
        pulls = 2 * (signs.T @ rows - signs.sum(dim=0)[:, None] * classes.means)
        influence: Tensor = ((rows - classes.means[codes]) * pulls[codes]).sum(dim=1) / classes.shares[codes]
        return influence

    return pull


def cosine_pull(folds: ClassFolds, sample: Sample, codes: Tensor, scores: Tensor) -> Pull:
    """Influence through the direction of the class mean that a row moves."""
    classes = CategoryFolds(folds.classes).centres_without()
    size = classes.means.abs().amax()
    unit = torch.where(size > 0, size, 1.0)  # in which nothing leaves the range of floating-point numbers
    rows, means = sample.features.double() / unit, classes.means / unit
    directions, ways, lengths = _directions(rows), _directions(means), means.norm(dim=1)

    def pull(signs: Tensor) -> Tensor:
        along = (signs * scores.nan_to_num(0, 0, 0)).sum(dim=0)
        turned = signs.T @ directions - along[:, None] * ways
        pulls = torch.where(lengths[:, None] > 0, turned / lengths[:, None], 0.0)  # a zero mean has no direction
        influence: Tensor = ((rows - means[codes]) * pulls[codes]).sum(dim=1) / classes.shares[codes]
        return influence

    return pull


def _directions(rows: Tensor) -> Tensor:
    """Rows (n, d) at length 1, at any scale; zero rows stay."""
    largest = rows.abs().amax(dim=1, keepdim=True)
    scaled = rows / torch.where(largest > 0, largest, 1.0)
    lengths: Tensor = scaled.norm(dim=1, keepdim=True)
    return scaled / lengths.clamp_min(1.0)  # an entry is 1, unless all are 0


def probe_scores(question: Question, sample: Sample) -> Tensor:
    """Score of each sampled row for each category by the ridge probe of the other folds, (m, K).

    Features centred, by class where classes are taken out, and divided by one number, one-hot targets, the penalty
    chosen on an inner fold by balanced accuracy (of equal ones the largest).
    """
    codes, count = question.codes, len(question.moments.parts)
    trained = question.balanced(sample)
    scores = torch.full((sample.m, len(question.names)), -torch.inf, dtype=torch.float64, device=codes.device)
    members = dict(folds_of(sample, count))
    for fold, rows in members.items():
        inner, penalty = _inner(fold, count), PENALTIES[-1]
        if inner in members:
            probe, judged = _Ridge.trained(trained, (fold, inner)), members[inner]
            penalty = max(PENALTIES, key=lambda each: (probe.accuracy(sample, judged, codes, each), each))
        scores[rows] = _Ridge.trained(trained, (fold,)).scores(sample, rows, penalty)
    return scores


def probe_pull(question: Question, sample: Sample, scores: Tensor) -> Pull:
    """Influence through the ridge weights: a row moves them by its residual, at the middle penalty."""
    moments = question.moments.without()
    centre, covariance = moments.mean, moments.covariance
    if question.residual is not None:
        classes = question.residual.classes.centres_without()
        offsets = (classes.means - centre) * classes.shares.sqrt()[:, None]
        centre, covariance = classes.means[question.residual.codes], covariance - offsets.T @ offsets
    moved = sample.features.double() - centre
    penalised = covariance.clone()
    penalised.diagonal().add_(1e-2 * covariance.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny))
    residuals = functional.one_hot(question.codes, scores.shape[1]) - scores.clamp(-10, 10)

    def pull(signs: Tensor) -> Tensor:
        pulls = torch.linalg.solve(penalised, moved.T @ signs)
        influence: Tensor = (residuals * (moved @ pulls + signs.sum(dim=0))).sum(dim=1)
        return influence

    return pull


@dataclass(frozen=True, eq=False)
class _Ridge:
    """What a ridge probe of any penalty follows from.

    Attributes:
        axes: Principal axes of the training rows.
        train: Where the rows of each category lie.
        targets: (r, K) covariance of the axes with the one-hot categories.
        centres: (C, d) what rows are taken about: the mean, or the mean of their class.
        lost: (r, C) what the class means take: the covariance is diag(axes.values) - lost lost^T.
        codes: (m,) index into the centres of each sampled row.
        shares: (K,) of all rows: those of the training rows would be low where the fold holds many, which reads random
            labels below chance.
    """

    axes: Axes
    train: Centres
    targets: Tensor
    centres: Tensor
    lost: Tensor | None
    codes: Tensor
    shares: Tensor

    @classmethod
    def trained(cls, question: Question, held_out: tuple[int, ...]) -> Self:
        axes = question.moments.axes_without(*held_out)
        train = question.answers.centres_without(*held_out)
        shares = question.answers.centres_without().shares
        sums = (train.means - axes.mean) * train.shares[:, None]
        rest = question.residual
        if rest is None:
            codes = torch.zeros_like(question.codes)
            return cls(axes, train, axes.vectors.T @ sums.T, axes.mean[None], None, codes, shares)
        classes = rest.classes.centres_without(*held_out)
        centres = torch.where(classes.counts[:, None] > 0, classes.means, axes.mean)
        offsets = centres - axes.mean
        sums = sums - rest.cells.without(*held_out).double() @ offsets / axes.n
        lost = axes.vectors.T @ (offsets * classes.shares.sqrt()[:, None]).T
        return cls(axes, train, axes.vectors.T @ sums.T, centres, lost, rest.codes, shares)

    def weights(self, penalty: float) -> Tensor:
        """(d, K)."""
        if self.lost is None:
            return self.axes.vectors @ (self.targets / (self.axes.values + penalty)[:, None])
        within = (self.axes.values.sum() - self.lost.square().sum()) / self.axes.values.sum()
        covariance = torch.diag(self.axes.values + penalty * within.clamp_min(1e-10)) - self.lost @ self.lost.T
        return self.axes.vectors @ torch.cholesky_solve(self.targets, torch.linalg.cholesky(covariance))

    def scores(self, sample: Sample, rows: Tensor, penalty: float) -> Tensor:
        moved = sample.features[rows].double() - self.centres[self.codes[rows]]
        return moved @ self.weights(penalty) + self.shares

    def accuracy(self, sample: Sample, rows: Tensor, codes: Tensor, penalty: float) -> float:
        guesses = self.scores(sample, rows, penalty).argmax(dim=1)
        counts = torch.bincount(codes[rows], minlength=len(self.train.counts)).double()
        hits = torch.zeros_like(counts).index_add_(0, codes[rows], (guesses == codes[rows]).double())
        return round((hits[counts > 0] / counts[counts > 0]).mean().item(), 12)


def ridge_predictions(moments: MomentFolds, targets: TargetFolds, sample: Sample) -> tuple[Tensor, Tensor]:
    """Continuous targets of each sampled row by the ridge of the other folds, and their mean over these, both (m, q).

    The penalty is chosen on an inner fold by the squared error of targets of unit variance (of equal ones the largest).
    """
    wanted = sample.rows.numbers("targets").double()
    guesses, means = torch.zeros_like(wanted), torch.zeros_like(wanted)
    members = dict(folds_of(sample, len(moments.parts)))

    def predicted(rows: Tensor, penalty: float, *held_out: int) -> tuple[Tensor, Tensor, Tensor]:
        axes, train = moments.axes_without(*held_out), targets.without(*held_out)
        weights = axes.vectors @ (axes.vectors.T @ train.cross / (axes.values + penalty)[:, None])
        return (sample.features[rows].double() - axes.mean) @ weights + train.mean, train.mean, train.variance

    for fold, rows in members.items():
        inner, penalty = _inner(fold, len(moments.parts)), PENALTIES[-1]
        if inner in members:

            def error(each: float, fold: int = fold, inner: int = inner) -> tuple[float, float]:
                found, _, variance = predicted(members[inner], each, fold, inner)
                missed = (found - wanted[members[inner]]).square().mean(dim=0) / variance
                return round(missed.mean().item(), 12), -each

            penalty = min(PENALTIES, key=error)
        guesses[rows], means[rows], _ = predicted(rows, penalty, fold)
    return guesses, means
