"""Regression: features squeezed onto as many directions as there are targets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import Readout, Refusal, missing_input
from gate.geometry.registry import Answer, metric, neither
from gate.geometry.statistics import Moments, Sample, Spectrum, Weights
from gate.geometry.statistics.batch import per_live_row

_PER_DIMENSION = 10
_CUT = 1e-12  # eigenvalues below this share of the largest count as zero
_HEAD = "head.weight"
_MIN_ROWS = 30


class TargetCovariance(Moments):
    """Moments of the continuous targets (n, q)."""

    column: ClassVar[str] = "targets"
    needs: ClassVar[tuple[str, ...]] = ("targets",)


@metric(
    unit="share of variance",
    greater_is_better=None,
    invariant_to={"translation", "scaling", "rotation", "permutation"},
    domain="n >= 10 d and fewer than d / 2 targets",
    kinds={"regression"},
    paper="Andriopoulos et al. 2024, The Prevalence of Neural Collapse in Neural Multivariate Regression (form of a "
    "public toolbox); value: its form on the variance, derived here",
    readouts={
        "rows": neither("mean over rows of the squared length of the centred unit row outside those directions (NRC1)"),
        "nrc2": neither("the same outside the span of the head's rows (NRC2)"),
        "nrc3": neither(
            "squared distance of W W^T from the root of the targets' covariance less a multiple of the identity, "
            "each of norm 1, for the best multiple (NRC3)"
        ),
    },
    limits={"value": (0, 1), "rows": (0, 1), "nrc2": (0, 1), "nrc3": (0, 4)},
)
def nrc1(spectrum: Spectrum, sample: Sample, targets: TargetCovariance, weights: Weights) -> dict[str, Answer]:
    """Regression collapse: share of the variance outside as many leading directions as there are targets.

    1 - (sum of the q largest eigenvalues) / (sum of all) for the covariance of the features and q targets: near 0 when
    the features are squeezed onto as many directions as targets. Isotropic rows read about 1 - q (1 + sqrt(d/n))^2 / d.

    Args:
        spectrum: Of features (n, d).
        sample: The sampled rows.
        targets: Moments of the targets (n, q).
        weights: With "head.weight" (q, d).

    Returns:
        Share in [0, 1], and read-outs.

    Raises:
        MetricError: All feature rows, or all targets, are equal.
    """
    if spectrum.constant:
        raise MetricError(f"all {spectrum.n} feature rows are equal up to rounding: no direction carries them")
    if targets.is_constant():
        raise MetricError(f"all {targets.n} targets are equal up to rounding: there is nothing to regress on")
    head = weights.matrix(_HEAD)
    refused = _outside_domain(spectrum, targets.d)
    rows = _Rows.of(sample, spectrum)
    top = spectrum.vectors.flip(1)[:, : targets.d]
    return {
        "value": refused or _value(spectrum, targets.d),
        "rows": refused or rows.outside(top, rows.turning(spectrum.coordinates(sample), spectrum.values, targets.d)),
        "nrc2": _outside_head(rows, head, spectrum.n),
        "nrc3": _head_against_targets(head, targets),
    }


def _outside_domain(spectrum: Spectrum, q: int) -> Refusal | None:
    n, d = spectrum.n, spectrum.d
    if 2 * q >= d:
        reason = f"subspace_too_large: {q} targets for features of dimension {d}; it needs fewer than {d / 2:g}"
        return Refusal("not_applicable", reason)
    needed = max(_PER_DIMENSION * d, _MIN_ROWS)
    if n < needed:
        return Refusal("inconclusive", f"n_over_d: {n} rows of dimension {d}; it needs at least {needed}", needed)
    return None


def _value(spectrum: Spectrum, q: int) -> Readout:
    isotropic = max(0.0, 1 - q * (1 + math.sqrt(spectrum.d / (spectrum.n - 1))) ** 2 / spectrum.d)
    return Readout(
        spectrum.values[:-q].sum() / spectrum.values.sum(), detail=f"isotropic rows would read {isotropic:.3g}"
    )


@dataclass(frozen=True)
class _Rows:
    """Sampled rows less their mean: (m, d), their lengths (m,), and which are not zero (m,) bool."""

    moved: Tensor
    lengths: Tensor
    alive: Tensor

    @classmethod
    def of(cls, sample: Sample, spectrum: Spectrum) -> Self:
        moved = sample.features.double() - spectrum.centre
        lengths = torch.linalg.vector_norm(moved, dim=1)
        return cls(moved, lengths.clamp_min(torch.finfo(torch.float64).tiny), lengths > 0)

    def outside(self, basis: Tensor, turning: Tensor | None = None) -> Readout:
        """Mean squared length of the unit rows outside the span of an orthonormal basis (d, q).

        A row moves it by its own term and by the mean that all rows are taken about.

        Args:
            basis: (d, q).
            turning: (m,) how each row moves it by turning the basis.
        """
        weight = self.alive / self.alive.double().sum()
        along = (self.moved @ basis) / self.lengths[:, None]
        inside = along.square().sum(dim=1)
        value = weight @ (1 - inside)
        pull = weight / self.lengths
        shift = 2 * (basis @ (pull @ along) - (pull * inside / self.lengths) @ self.moved)
        influence = per_live_row(1 - inside - value, self.alive) + self.moved @ shift
        return Readout(
            value,
            influence=influence if turning is None else influence + turning,
            n=len(self.moved),
            method="mean over rows",
        )

    def turning(self, coordinates: Tensor, ascending: Tensor, q: int) -> Tensor:
        """How each row turns the leading q eigenvectors, times what that does to the mean outside them, (m,).

        First-order perturbation of the projection onto them (derived here).

        Args:
            coordinates: (m, d) of the rows along the eigenvectors.
            ascending: (d,) their eigenvalues.
            q: Leading ones.
        """
        along = coordinates.flip(1).double()
        top, rest = along[:, :q], along[:, q:]
        weight = self.alive / self.alive.double().sum() / self.lengths.square()
        values = ascending.detach().flip(0)
        gaps = (values[:q, None] - values[q:]).clamp_min(_CUT * values[0])
        slope = (top * weight[:, None]).T @ rest / gaps
        return -2 * ((top @ slope) * rest).sum(dim=1)


def _outside_head(rows: _Rows, head: Tensor | None, n: int) -> Answer:
    if head is None:
        return missing_input(_HEAD)
    d = rows.moved.shape[1]
    if head.shape[1] != d:
        reason = f"dim_mismatch: {_HEAD} has {head.shape[1]} columns, the features have dimension {d}"
        return Refusal("not_applicable", reason)
    if n < _MIN_ROWS:
        return Refusal("inconclusive", f"few_rows: {n} rows; it needs at least {_MIN_ROWS}", _MIN_ROWS)
    _, values, vectors = torch.linalg.svd(head, full_matrices=False)
    if not values[0].item() > 0:
        return Refusal("not_applicable", f"ill_conditioned: {_HEAD} is zero")
    basis = vectors[values > _CUT**0.5 * values[0]].T
    if 2 * basis.shape[1] >= d:
        reason = f"subspace_too_large: the head spans {basis.shape[1]} of {d} dimensions; it needs fewer than {d / 2:g}"
        return Refusal("not_applicable", reason)
    return rows.outside(basis)


def _head_against_targets(head: Tensor | None, targets: TargetCovariance) -> Answer:
    if head is None:
        return missing_input(_HEAD)
    q = targets.d
    if q < 2:
        return missing_input("two targets or more: with one, any head agrees")
    if len(head) != q:
        return Refusal("not_applicable", f"dim_mismatch: {_HEAD} has {len(head)} rows for {q} targets")
    if targets.n < _MIN_ROWS:
        return Refusal("inconclusive", f"few_rows: {targets.n} rows; it needs at least {_MIN_ROWS}", _MIN_ROWS)
    values, vectors = torch.linalg.eigh(targets.covariance.detach())
    if not values[0] > _CUT * values[-1]:
        return Refusal("not_applicable", f"ill_conditioned: the {q} targets are linearly dependent")
    return _nrc3(head @ head.T, targets.covariance, values.sqrt(), vectors)


def _nrc3(product: Tensor, covariance: Tensor, roots: Tensor, vectors: Tensor) -> Answer:
    """Distance of W W^T / |.| from D / |.|, D = covariance^1/2 - t I, for the best t in [0, smallest root].

    The squared distance is 2 - 2 cos; the cosine has one stationary point in t, so that the best one is there or at an
    end. The slope in the covariance solves R dR + dR R = dS for its symmetric root R (derived here): a Cholesky factor
    is another matrix and measures something else.

    Args:
        product: (q, q) W W^T.
        covariance: (q, q) of the targets, which the value is differentiable in.
        roots: (q,) ascending, square roots of its eigenvalues.
        vectors: (q, q) its eigenvectors.
    """
    size = torch.linalg.matrix_norm(product)
    if not size.item() > 0:
        return Refusal("not_applicable", f"ill_conditioned: {_HEAD} is zero")
    ours = vectors.T @ (product / size) @ vectors  # in the eigenvectors of the targets
    moments = ours.diagonal() @ roots, ours.diagonal().sum(), roots.square().sum(), roots.sum()
    best, at = _best_multiple(ours, roots, moments)
    lowered = roots - at
    length = torch.linalg.vector_norm(lowered)
    slope = (ours / length - best * torch.diag(lowered) / length**2) * -2
    if at == roots[0]:  # the multiple itself moves with the smallest root
        slope[0, 0] -= slope.diagonal().sum()
    slope = slope / (roots[:, None] + roots)
    gradient = vectors @ slope @ vectors.T
    change = (gradient * (covariance - covariance.detach())).sum()
    return Readout(2 - 2 * best + change, detail=f"multiple of the identity: {at.item():.4g}")


def _best_multiple(
    ours: Tensor, roots: Tensor, moments: tuple[Tensor, Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Largest cosine between the head's product and D, and the multiple t there."""
    inner, trace, squares, total = moments
    below = trace * total - inner * len(roots)
    stationary = (trace * squares - inner * total) / below if below != 0 else torch.zeros_like(inner)
    candidates = torch.stack([torch.zeros_like(inner), stationary.clamp(torch.zeros_like(inner), roots[0]), roots[0]])
    lowered = roots - candidates[:, None]
    lengths = torch.linalg.vector_norm(lowered, dim=1)
    cosines = torch.where(lengths > 1e-9 * roots[-1], lowered @ ours.diagonal() / lengths, -torch.inf)
    place = int(cosines.argmax())
    return cosines[place], candidates[place]
