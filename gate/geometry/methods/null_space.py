"""The part of a shift of the mean that lies outside the span of the class means."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gate.geometry.influence import Readout, Refusal, missing_input, variance_of_mean
from gate.geometry.methods.row_pairs import squared_covariance, without_pair_noise
from gate.geometry.registry import Answer
from gate.geometry.statistics import ClassMoments, Sample, ShiftedMean, ShiftedSample

_CLEAR = 10  # times their noise that class means must spread in every direction of their span
_CUT = 1e-10  # directions of the class means below this share of the largest are rounding


def null_space_shift(
    classes: ClassMoments, sample: Sample, mean: ShiftedMean | None, rows: ShiftedSample | None
) -> Answer:
    """|P (mu_shifted - mu)|^2 / tr(total covariance), P orthogonal to the span of the centred class means.

    Less what the noise of the means adds: with r_i the part of each row that the projected shift moves with, its mean
    square over n. Rows that occur in both sets by id are paired, so that their common noise cancels. Derived here.

    Args:
        classes: Class moments of features (n, d).
        sample: The sampled rows.
        mean: Mean of the shifted rows.
        rows: The sampled shifted rows.
    """
    if mean is None or rows is None:
        return missing_input("shifted rows")
    if min(mean.n, sample.m) < 30:
        return Refusal("inconclusive", f"few_rows: {mean.n} shifted rows; it needs at least 30", 30)
    offsets = (classes.means - classes.mean).detach()
    basis = _span(offsets)
    if basis.shape[1] >= classes.d:
        reason = f"subspace_too_large: the means of {classes.c} classes span all {classes.d} dimensions"
        return Refusal("not_applicable", reason)
    strength = float(torch.linalg.svdvals(offsets)[basis.shape[1] - 1]) ** 2
    if strength < _CLEAR * (classes.within / classes.counts).mean().item():
        reason = f"no_class_signal: the means of {classes.c} classes do not all lie apart beyond their noise"
        return Refusal("inconclusive", reason)
    total = (classes.shares @ (classes.within + offsets.square().sum(dim=1))).detach()
    gap = (mean.means[0] - classes.mean).detach()
    noise = _Noise.of(*_projected_terms(classes, sample, mean, rows, offsets, gap), sample.n, mean.n)
    shift = gap - basis @ (basis.T @ gap)
    value = (shift @ shift - noise.square) / total
    centred = (sample.features.double() - classes.mean.detach()).square().sum(dim=1) - total
    influence = (2 * noise.terms @ shift - value * centred) / total
    alone = 4 * float((noise.alone @ shift).square().sum()) * noise.weight
    plugged_in = variance_of_mean(influence, classes.n) + alone / float(total) ** 2
    variance = without_pair_noise(plugged_in, noise.pairs / float(total) ** 2)
    return Readout(
        value,
        influence=influence,
        variance=variance,
        method="U-statistic projection, rows paired by id",
        detail=f"{mean.n} shifted rows, {1 - noise.share:.0%} of them with a probe row of the same id",
    )


def _span(offsets: Tensor) -> Tensor:
    """Orthonormal basis (d, r) of the span of rows (C, d)."""
    _, sizes, right = torch.linalg.svd(offsets, full_matrices=False)
    kept: Tensor = right[sizes > _CUT**0.5 * sizes[0]].T
    return kept


@dataclass(frozen=True)
class _Noise:
    """What the rows add to the projected shift.

    Attributes:
        terms: (m, d), n times what each sampled probe row adds, with the shifted row of the same id.
        alone: (u, d), number of shifted rows times what those add whose id no probe row has.
        weight: What the square of one of these counts in a variance.
        share: Share of the shifted rows that are alone.
        square: Mean squared length of the noise.
        pairs: tr(N^2) of its covariance N.
    """

    terms: Tensor
    alone: Tensor
    weight: float
    share: float
    square: float
    pairs: float

    @classmethod
    def of(cls, terms: Tensor, alone: Tensor, share: float, n: int, shifted: int) -> _Noise:
        """Of what each row adds, for n probe rows and so many shifted ones."""
        weight = share / (shifted * max(len(alone), 1))
        square = float(terms.square().sum()) / (n * len(terms)) + weight * float(alone.square().sum())
        pairs = squared_covariance(terms) / n**2
        if len(alone) > 2:
            common = min(len(terms), len(alone))
            across = float((terms[:common] * alone[:common]).sum(dim=1).square().mean())
            pairs += squared_covariance(alone) * (share / shifted) ** 2 + 2 * across * share / (n * shifted)
        return cls(terms, alone, weight, share, square, pairs)


def _projected_terms(
    classes: ClassMoments, sample: Sample, mean: ShiftedMean, rows: ShiftedSample, offsets: Tensor, gap: Tensor
) -> tuple[Tensor, Tensor, float]:
    """What each probe row adds to the projected shift, what each lone shifted row adds, and the share of these.

    A row moves the mean, and the mean of its class, by which the span turns: with a the coefficients of the shift on
    the centred class means, a row of class c adds -(1 + a_c / pi_c - sum a) (x - mu_c) / n before projection.
    """
    basis = _span(offsets)
    coefficients = torch.linalg.pinv(offsets.T, rtol=_CUT**0.5) @ gap
    codes = sample.class_codes(classes.names)
    weights = coefficients.sum() - 1 - (coefficients / classes.shares.detach())[codes]
    terms = weights[:, None] * (sample.features.double() - classes.means.detach()[codes])
    moved = rows.features.double() - mean.means[0]
    place = torch.searchsorted(sample.rows.hashes, rows.rows.hashes).clamp_max(sample.m - 1)
    paired = sample.rows.hashes[place] == rows.rows.hashes
    terms.index_add_(0, place[paired], moved[paired] * (sample.n / mean.n))
    seen = rows.rows.hashes <= sample.rows.hashes[-1] if sample.m < sample.n else torch.ones_like(paired)
    lone = ~paired & seen
    share = float(lone.sum()) / max(int(seen.sum()), 1)
    terms, alone = (each - (each @ basis) @ basis.T for each in (terms, moved[lone]))
    return terms, alone, share
