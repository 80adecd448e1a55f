"""Spectrum and dimensional collapse: how many directions carry the rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import Readout, Refusal
from gate.geometry.methods import nulls
from gate.geometry.methods.domains import too_few, traces, unbiased_traces, unfair_null
from gate.geometry.registry import Answer, Answers, metric, neither
from gate.geometry.statistics import Moments, Sample, Spectrum, UncentredSpectrum


def _entropy(weights: Tensor) -> Tensor:
    share = weights / weights.sum()
    return -(share * share.log()).sum()


def _require_variation(moments: Moments) -> None:
    if moments.is_constant():
        raise MetricError(f"all {moments.n} feature rows are equal up to rounding: there is no spectrum")


@metric(
    unit="dimensions",
    greater_is_better=None,
    invariant_to={"translation", "scaling", "rotation", "permutation"},
    domain="n >= 30; n >= 4 d or value <= (n - 1) / 10 (iso_ratio: n >= d / 4 and a null that fits)",
    paper="Roy and Vetterli 2007, EUSIPCO; Garrido et al. 2023, ICML (rankme)",
    readouts={
        "share": neither("value / d"),
        "iso_ratio": neither("value over that of isotropic rows of the same n and d"),
        "sv": neither("the same on singular values of the centred features (Roy and Vetterli)"),
        "rankme": neither("the same on singular values of the features as they are (RankMe)"),
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
        "iso_ratio": unfair_null(moments, lambda n, d: nulls.effective_rank(n, d) / d)
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
    readouts={"share": neither("value / d"), "raw": neither("tr(S)^2 / tr(S^2) without the correction for n")},
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
    b = unbiased_traces(*traces(covariance), n)[1]
    noise = _second_moment_error(covariance * (n / (n - 1)), n)
    if not b.item() > 3 * noise:
        return Refusal("inconclusive", f"n_over_d: {n} rows do not tell tr(S^2) from noise")
    terms = cache(lambda: _trace_terms(moments, sample))

    def of_traces(function: Callable[[Tensor, Tensor], Tensor]) -> Readout:
        trace, square = (each.requires_grad_() for each in traces(covariance))
        natural = function(trace, square)
        slopes = torch.stack(torch.autograd.grad(natural, (trace, square)))
        return Readout(natural.detach(), torch.exp, later=lambda: (terms() @ slopes, None))

    def corrected(trace: Tensor, square: Tensor) -> Tensor:
        a, b = unbiased_traces(trace, square, n)
        return (a / b).log()

    return {
        "value": of_traces(corrected),
        "share": of_traces(lambda trace, square: corrected(trace, square) - math.log(d)),
        "raw": of_traces(lambda trace, square: (trace**2 / square).log()),
    }


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
    """Standard error of the unbiased tr(S^2) of Gaussian rows, to the few digits that tell signal from noise."""
    unit = covariance.diagonal().max()
    plain = (covariance / unit).float()
    square = (plain @ plain).double()
    relative = 8 * square.square().sum().item() / n + 4 * square.diagonal().sum().item() ** 2 / n**2
    return math.sqrt(relative) * unit.item() ** 2
