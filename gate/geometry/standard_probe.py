"""Deterministic probes: trained on the moments of the other folds, scored on the sampled rows of the fold left out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gate.geometry.statistics import ClassFolds, ClassMoments, Sample

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
MAX_IMBALANCE = 2  # beyond it equal counts per class train, so that the large class does not decide


def nearest_mean_scores(folds: ClassFolds, sample: Sample, names: tuple[str, ...]) -> Tensor:
    """Minus the squared distance of each sampled row to each class mean over the other folds, (m, C)."""
    scores = torch.full((sample.m, len(names)), -torch.inf, dtype=torch.float64, device=sample.features.device)
    for fold, rows in _folds(folds, sample):
        _, train = folds.without(fold)
        known = (train.counts > 0).nonzero()[:, 0]
        shift = train.mean
        distances = torch.cdist(sample.features[rows].double() - shift, train.means[known] - shift)
        scores[rows[:, None], _columns(train, names)[known]] = -distances.square()
    return scores


def ridge_scores(folds: ClassFolds, sample: Sample, names: tuple[str, ...]) -> Tensor:
    """Score of each sampled row for each class by the ridge probe of the other folds, (m, C).

    Features centred and divided by one number, one-hot targets, the penalty chosen on an inner fold by balanced
    accuracy (of equal ones the largest).
    """
    counts = folds.without()[1].counts
    if int(counts.max()) > MAX_IMBALANCE * int(counts.min()):
        folds = _equal_counts(sample)
    scores = torch.full((sample.m, len(names)), -torch.inf, dtype=torch.float64, device=sample.features.device)
    codes = sample.class_codes(names)
    members = dict(_folds(folds, sample))
    for fold, rows in members.items():
        inner = (fold + 1) % len(folds.moments)
        penalty = PENALTIES[-1]
        if inner in members:
            tuned = _Ridge.trained(folds, (fold, inner))
            penalty = max(
                PENALTIES, key=lambda each: (tuned.accuracy(sample, members[inner], codes, names, each), each)
            )
        probe = _Ridge.trained(folds, (fold,))
        scores[rows[:, None], _columns(probe.train, names)] = probe.scores(sample.features[rows], penalty)
    return scores


def nearest_mean_slopes(folds: ClassFolds, sample: Sample, codes: Tensor, scores: Tensor, signs: Tensor) -> Tensor:
    """Influence through the class mean that a row moves; `signs` (m, C) is what a unit of each score is worth."""
    del scores
    _, classes = folds.without()
    rows = sample.features.double()
    pulls = 2 * (signs.T @ rows - signs.sum(dim=0)[:, None] * classes.means)
    return ((rows - classes.means[codes]) * pulls[codes]).sum(dim=1) / classes.shares[codes]


def ridge_slopes(folds: ClassFolds, sample: Sample, codes: Tensor, scores: Tensor, signs: Tensor) -> Tensor:
    """Influence through the ridge weights: a row moves them by its residual, at the middle penalty."""
    moments, _ = folds.without()
    moved = sample.features.double() - moments.mean
    penalty = 1e-2 * moments.covariance.diagonal().mean()
    penalised = moments.covariance + penalty * torch.eye(moments.d, dtype=torch.float64, device=moved.device)
    pulls: Tensor = torch.linalg.solve(penalised, moved.T @ signs)
    residuals = functional.one_hot(codes, scores.shape[1]) - scores.clamp(-10, 10)
    influence: Tensor = (residuals * (moved @ pulls + signs.sum(dim=0))).sum(dim=1)
    return influence


def _folds(folds: ClassFolds, sample: Sample) -> list[tuple[int, Tensor]]:
    """Each fold with the index of its sampled rows, where it has any."""
    which = sample.rows.hashes % len(folds.moments)
    members = ((fold, (which == fold).nonzero()[:, 0]) for fold in range(len(folds.moments)))
    return [(fold, rows) for fold, rows in members if len(rows)]


def _columns(train: ClassMoments, names: tuple[str, ...]) -> Tensor:
    index = {name: column for column, name in enumerate(names)}
    return torch.tensor([index[name] for name in train.names], device=train.means.device)


def _equal_counts(sample: Sample) -> ClassFolds:
    """Folds of the sampled rows with equally many of each class, those of the lowest hashes."""
    codes = sample.rows.class_codes()
    counts = codes.counts()
    smallest = int(counts[counts > 0].min())
    kept = torch.cat([(codes.values == code).nonzero()[:smallest, 0] for code in range(len(codes.names))])
    return ClassFolds.of(sample.rows.rows(kept))


@dataclass(frozen=True)
class _Ridge:
    """The eigenbasis in which a ridge probe of any penalty is one product."""

    train: ClassMoments
    mean: Tensor
    basis: Tensor  # (d, r), of the scaled covariance, divided by the scale
    values: Tensor  # (r,)
    targets: Tensor  # (r, C)

    @classmethod
    def trained(cls, folds: ClassFolds, held_out: tuple[int, ...]) -> _Ridge:
        moments, train = folds.without(*held_out)
        scale = moments.covariance.diagonal().mean().sqrt()
        values, vectors = torch.linalg.eigh(moments.covariance / scale**2)
        if moments.n < 4 * (moments.d + 1):
            kept = max(1, moments.n // 8)
            values, vectors = values[-kept:], vectors[:, -kept:]
        targets = vectors.T @ (((train.means - moments.mean) / scale) * train.shares[:, None]).T
        return cls(train, moments.mean, vectors / scale, values.clamp_min(0), targets)

    def scores(self, features: Tensor, penalty: float) -> Tensor:
        projected = (features.double() - self.mean) @ self.basis
        return projected / (self.values + penalty) @ self.targets + self.train.shares

    def accuracy(self, sample: Sample, rows: Tensor, codes: Tensor, names: tuple[str, ...], penalty: float) -> float:
        guesses = _columns(self.train, names)[self.scores(sample.features[rows], penalty).argmax(dim=1)]
        counts = torch.bincount(codes[rows], minlength=len(names)).double()
        hits = torch.zeros_like(counts).index_add_(0, codes[rows], (guesses == codes[rows]).double())
        return round((hits[counts > 0] / counts[counts > 0]).mean().item(), 12)
