"""Spectrum and dimensional collapse: how many directions carry the rows."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import Readout, Refusal
from gate.geometry.methods import nulls
from gate.geometry.registry import Answer, Answers, metric
from gate.geometry.statistics import Moments, Sample, Spectrum, UncentredSpectrum, UnitMoments, UnitSpectrum

_MIN_ROWS = 30
_FAIR = 1.15  # how far the nulls of all dimensions and of those in use may differ


def _entropy(weights: Tensor) -> Tensor:
    share = weights / weights.sum()
    return -(share * share.log()).sum()


def too_few(n: int, d: int, factor: float) -> Refusal | None:
    """The refusal when there are fewer rows than `factor` times the dimension, or than any interval needs."""
    needed = max(math.ceil(factor * d), _MIN_ROWS)
    if n >= needed:
        return None
    return Refusal("inconclusive", f"n_over_d: {n} rows of dimension {d}; it needs at least {needed}", needed)


def _unfair_null(moments: Moments, gain: Callable[[int, float], float]) -> Refusal | None:
    """The refusal when the correction for n is that of isotropic rows only.

    Rows in few directions are hardly biased by n, those in all directions are: dividing by the isotropic null then
    makes a collapsed cloud look healthy. `gain(n, d)` is the null as a share of d; it is compared at d and at the
    dimensions in use.
    """
    few = too_few(moments.n, moments.d, 0.25)
    if few:
        return few
    a, b = _unbiased_traces(*_traces(moments.covariance.detach()), moments.n)
    in_use = min(max((a / b).item(), 1.0), float(moments.d)) if b.item() > 0 else float(moments.d)
    if gain(moments.n, moments.d) * _FAIR >= gain(moments.n, in_use):
        return None
    reason = f"n_over_d: {moments.n} rows in about {in_use:.0f} of {moments.d} dimensions have no common null"
    return Refusal("inconclusive", f"{reason}; it needs at least {4 * moments.d} rows", 4 * moments.d)


def _require_variation(moments: Moments) -> None:
    if moments.is_constant():
        raise MetricError(f"all {moments.n} feature rows are equal up to rounding: there is no spectrum")


def _require_directions(units: UnitMoments) -> None:
    if units.n == 0:
        raise MetricError("all feature rows are zero: they have no direction")


@metric(
    unit="dimensions",
    greater_is_better=None,
    invariant_to={"translation", "scaling", "rotation", "permutation"},
    domain="n >= 30; n >= 4 d or value <= (n - 1) / 10 (iso_ratio: n >= d / 4 and a null that fits)",
    paper="Roy and Vetterli 2007, EUSIPCO; Garrido et al. 2023, ICML (rankme)",
    readouts={
        "share": "value / d",
        "iso_ratio": "value over that of isotropic rows of the same n and d",
        "sv": "the same on singular values of the centred features (Roy and Vetterli)",
        "rankme": "the same on singular values of the features as they are (RankMe)",
    },
    limits={
        "value": (0, math.inf),
        "share": (0, 1),
        "iso_ratio": (0, math.inf),
        "sv": (0, math.inf),
        "rankme": (0, math.inf),
    },
    elsewhere=(
        "Five numbers go by this name. Here it is the exponential of the entropy of the eigenvalues of the centred "
        "covariance. RankMe, as its paper has it, takes the singular values of the features as they are: `rankme`. "
        "reptrix 0.1.0 names RankMe what it computes from centred eigenvalues: the value here. MONAI 1.6.1 takes "
        "the singular values of the centred features, `sv`, over min(n - 1, d), which isotropic rows do not reach "
        "at finite n. vecscope 0.2.0 reports the participation ratio of the unit rows."
    ),
)
def effective_rank(moments: Moments, spectrum: Spectrum, uncentred: UncentredSpectrum) -> dict[str, Answer]:
    """Effective number of directions in the feature cloud.

    exp(-sum p ln p) with p the eigenvalues of the feature covariance, d x d, over their sum: 1 when all variance lies
    on one axis, d when it is equal on every axis. Biased down at finite n, and highest for noise: a floor alone passes
    a representation without any structure.

    Args:
        moments: Of features of shape (n, d).
        spectrum: Of their covariance.
        uncentred: Of their second moments.

    Returns:
        Dimensions in [1, d], and read-outs.

    Raises:
        MetricError: All feature rows are equal.
    """
    _require_variation(moments)
    n, d = moments.n, moments.d
    eigenvalues = spectrum.live()
    entropy = _entropy(eigenvalues)
    singular = uncentred.live().sqrt()
    share = singular / singular.sum() + 1e-7
    raw = too_few(n, d, 4) if entropy.exp().item() > (n - 1) / 10 else None
    return {
        "value": raw or Readout(entropy, torch.exp),
        "share": raw or Readout(entropy, lambda natural: natural.exp() / d),
        "iso_ratio": _unfair_null(moments, lambda n, d: nulls.effective_rank(n, d) / d)
        or Readout(entropy, lambda natural: natural.exp() / nulls.effective_rank(n, d)),
        "sv": raw or Readout(_entropy(eigenvalues.sqrt()), torch.exp),
        "rankme": raw or Readout(-(share * share.log()).sum(), torch.exp),
    }


@metric(
    unit="dimensions",
    greater_is_better=None,
    invariant_to={"translation", "scaling", "rotation", "permutation"},
    domain="n >= 50 and tr(S^2) above three of its errors; also for n < d",
    paper="Gao et al. 2017, bioRxiv 214262; finite-sample correction derived here",
    readouts={"share": "value / d", "raw": "tr(S)^2 / tr(S^2) without the correction for n"},
    limits={"value": (0, math.inf), "share": (0, math.inf), "raw": (0, math.inf)},
    elsewhere=(
        "The formula is the same everywhere, but libraries do not correct it for n: `raw`, about d / (1 + d / n) "
        "for isotropic rows. vecscope 0.2.0 takes that of the unit rows and calls it the effective rank."
    ),
)
def participation_ratio(moments: Moments, sample: Sample) -> Answers:
    """Number of directions that carry the variance, unbiased in n.

    tr(C)^2 / tr(C^2) for the feature covariance C, with numerator and denominator replaced by their unbiased estimates
    under Gaussian rows, so that it stands for n < d as well.

    Args:
        moments: Of features of shape (n, d).
        sample: The sampled rows.

    Returns:
        Dimensions, about 1 to d, and read-outs.

    Raises:
        MetricError: All feature rows are equal.
    """
    _require_variation(moments)
    n, d = moments.n, moments.d
    if n < 50:
        return Refusal("inconclusive", f"few_rows: {n} rows; it needs at least 50", 50)
    covariance = moments.covariance.detach()
    b = _unbiased_traces(*_traces(covariance), n)[1]
    noise = _second_moment_error(covariance * (n / (n - 1)), n)
    if not b.item() > 3 * noise:
        return Refusal("inconclusive", f"n_over_d: {n} rows do not tell tr(S^2) from noise")
    terms = _trace_terms(moments, sample)

    def of_traces(function: Callable[[Tensor, Tensor], Tensor]) -> Readout:
        trace, square = (each.requires_grad_() for each in _traces(covariance))
        natural = function(trace, square)
        slopes = torch.stack(torch.autograd.grad(natural, (trace, square)))
        return Readout(natural.detach(), torch.exp, influence=terms @ slopes)

    def corrected(trace: Tensor, square: Tensor) -> Tensor:
        a, b = _unbiased_traces(trace, square, n)
        return (a / b).log()

    return {
        "value": of_traces(corrected),
        "share": of_traces(lambda trace, square: corrected(trace, square) - math.log(d)),
        "raw": of_traces(lambda trace, square: (trace**2 / square).log()),
    }


def _traces(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """tr(C) and tr(C^2)."""
    return covariance.diagonal().sum(), covariance.square().sum()


def _unbiased_traces(trace: Tensor, square: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Estimates of tr(C)^2 and tr(C^2) that are unbiased for Gaussian rows: their ratio is the participation ratio."""
    nu, grown = n - 1, n / (n - 1)
    whole = (trace * grown) ** 2
    b = (square * grown**2 - whole / nu) * (nu**2 / ((nu + 2) * (nu - 1)))
    return whole - 2 * b / nu, b


def _trace_terms(moments: Moments, sample: Sample) -> Tensor:
    """Influence of each sampled row on tr(C) and tr(C^2), (m, 2): one product with the covariance serves both."""
    covariance = moments.covariance.detach()
    none = torch.zeros_like(moments.mean)
    ones = torch.eye(moments.d, dtype=torch.float64, device=none.device)
    parts = (ones, 2 * covariance)
    return torch.stack(
        [moments.influence({"mean": none, "covariance": part}, sample) for part in parts], dim=1
    ).detach()


def _second_moment_error(covariance: Tensor, n: int) -> float:
    """Standard error of the unbiased tr(S^2) of Gaussian rows."""
    square = covariance @ covariance
    return math.sqrt(8 * square.square().sum().item() / n + 4 * square.diagonal().sum().item() ** 2 / n**2)


def _uniformity(spectrum: UnitSpectrum) -> Tensor:
    """(sum of the square roots of the eigenvalues of the unit rows' covariance)^2 / d."""
    if spectrum.constant:
        return spectrum.values.sum() * 0
    return spectrum.live().sqrt().sum() ** 2 / spectrum.d


@metric(
    unit="distance",
    greater_is_better=False,
    invariant_to={"scaling", "row_scaling", "rotation", "permutation"},
    domain="n >= 30 and n >= 4 d (iso_ratio: n >= d / 4 and a null that fits the dimensions in use)",
    paper="Fang et al. 2024, Rethinking The Uniformity Metric in Self-Supervised Learning",
    readouts={
        "share": "(1 - value^2 / 2)^2: 1 for isotropic rows, 0 for one point; the one to gate",
        "iso_ratio": "share over that of isotropic rows of the same n and d",
        "w2": "the value itself",
    },
    limits={"value": (0, math.sqrt(2)), "w2": (0, math.sqrt(2)), "share": (0, 1), "iso_ratio": (0, math.inf)},
    elsewhere=(
        "Uniformity mostly means that of Wang and Isola (2020), the logarithm of the mean of exp(-2 |z - z'|^2) "
        "over pairs of unit rows: another number, which hardly sees dead dimensions."
    ),
)
def wasserstein_uniformity(units: UnitMoments, spectrum: UnitSpectrum) -> dict[str, Answer]:
    """Distance of the unit rows to an isotropic Gaussian; sees dead dimensions.

    W2 = sqrt(2 (1 - tr(S^1/2) / sqrt(d))) for the covariance S of the unit rows, the 2-Wasserstein distance to N(0,
    I/d).

    Args:
        units: Moments of the unit rows of features (n, d).
        spectrum: Of their covariance.

    Returns:
        Distance in [0, sqrt 2], and read-outs.

    Raises:
        MetricError: All feature rows are zero.
    """
    _require_directions(units)
    share = _uniformity(spectrum)
    null = nulls.uniformity_share(max(units.n, 2), units.d)
    few = too_few(units.n, units.d, 4)
    distance = few or Readout(share, lambda natural: (2 * (1 - natural.clamp(0, 1).sqrt())).sqrt())
    return {
        "value": distance,
        "w2": distance,
        "share": few or Readout(share),
        "iso_ratio": _unfair_null(units, nulls.uniformity_share) or Readout(share / null),
    }


@metric(
    unit="share",
    greater_is_better=False,
    invariant_to={"scaling", "row_scaling", "rotation", "permutation"},
    domain="n >= 30, n >= d / 4 and a null that fits the dimensions in use",
    paper="derived from Fang et al. 2024, Rethinking The Uniformity Metric in Self-Supervised Learning",
    readouts={
        "cone": "part owed to the direction that all rows share: squared length of the mean unit row",
        "dimensional": "part owed to the spectrum, once the shared direction is removed",
    },
    limits={"value": (0, 1), "cone": (0, 1), "dimensional": (0, 1)},
    ranges={"null_share": (0, 1)},
    elsewhere=(
        "MONAI 1.6.1 has a collapse score: the largest of several indicators on different scales, among them 1 - "
        "effective rank / min(n - 1, d). Isotropic rows reach 0.12 to 0.2 in it when n is close to d; here they "
        "read about 0. Its shift between domains is a CKA of rows that are not paired, d / (n + d) for two samples "
        "of one distribution: nothing of that kind is part of this."
    ),
)
def collapse_index(units: UnitMoments, spectrum: UnitSpectrum, *, null_share: float | None = None) -> Answers:
    """How far the cloud has collapsed: 0 as spread as an isotropic cloud, 1 a point or a line.

    1 - share / share0, with `wasserstein_uniformity.share` and its value for isotropic rows of the same n and d. It
    sees a constant output, a cone and lost directions, in any rotation; 1 - value = (1 - cone)(1 - dimensional). It
    does not see merged classes, sites or channels.

    Args:
        units: Moments of the unit rows of features (n, d).
        spectrum: Of their covariance.
        null_share: share0, when it is known to be higher than that of isotropic rows.

    Returns:
        Share in [0, 1], and read-outs.

    Raises:
        MetricError: All feature rows are zero.
    """
    _require_directions(units)
    few = _unfair_null(units, nulls.uniformity_share)
    isotropic = nulls.uniformity_share(max(units.n, 2), units.d)
    if null_share is not None and null_share < isotropic:
        raise MetricError(
            f"null_share {null_share!r} is below {isotropic:.4f} of isotropic rows: it would hide a collapse"
        )
    if few:
        return few
    null = isotropic if null_share is None else null_share
    share, cone = _uniformity(spectrum), units.mean @ units.mean
    spread = spectrum.values.sum()
    lost = torch.ones_like(spread) if units.is_constant() else 1 - share / (spread * null)
    return {
        "value": Readout(1 - share / null),
        "cone": Readout(cone),
        "dimensional": Readout(lost),
    }


@metric(
    unit="share",
    greater_is_better=True,
    invariant_to={"scaling", "row_scaling", "permutation"},
    domain="n >= 100",
    paper="a reading of Chen and He 2021, Exploring Simple Siamese Representation Learning (recollected form)",
    limits={"value": (0, 1)},
    elsewhere="The plots of Chen and He (2021) leave out the factor sqrt(d): 1 / sqrt(d) there is 1 here.",
)
def channel_spread(units: UnitMoments) -> Answer:
    """Cheapest test for a constant output: the mean standard deviation of a channel of the unit rows.

    sqrt(d) times the mean over channels of the standard deviation of the unit rows: 1 for isotropic rows, 0 for a
    constant output. It depends on the basis: it certifies only that the output is not constant.

    Args:
        units: Moments of the unit rows of features (n, d).

    Returns:
        Share in [0, 1].

    Raises:
        MetricError: All feature rows are zero.
    """
    _require_directions(units)
    if units.n < 100:
        return Refusal("inconclusive", f"few_rows: {units.n} rows; it needs at least 100", 100)
    variances = units.covariance.diagonal()
    alive = variances > units.resolution**2 * units.mean.square()
    return Readout(variances[alive].sqrt().sum() / math.sqrt(units.d))
