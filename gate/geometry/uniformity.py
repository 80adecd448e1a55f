"""Spread of the directions: has the cloud of unit rows collapsed to a cone, a point or few dimensions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import Readout, Refusal
from gate.geometry.methods import nulls
from gate.geometry.methods.domains import too_few, unfair_null
from gate.geometry.registry import Answer, Answers, higher, lower, metric
from gate.geometry.statistics import UnitMoments, UnitSpectrum


def _uniformity(spectrum: UnitSpectrum) -> Tensor:
    """(sum of the square roots of the eigenvalues of the unit rows' covariance)^2 / d."""
    if spectrum.constant:
        return spectrum.values.sum() * 0
    return spectrum.live().sqrt().sum() ** 2 / spectrum.d


def _require_directions(units: UnitMoments) -> None:
    if units.n == 0:
        raise MetricError("all feature rows are zero: they have no direction")


@metric(
    unit="distance",
    greater_is_better=False,
    invariant_to={"scaling", "row_scaling", "rotation", "permutation"},
    domain="n >= 30 and n >= 4 d (iso_ratio: n >= d / 4 and a null that fits the dimensions in use)",
    paper="Fang et al. 2024, Rethinking The Uniformity Metric in Self-Supervised Learning",
    readouts={
        "share": higher("(1 - value^2 / 2)^2: 1 for isotropic rows, 0 for one point; the one to gate"),
        "iso_ratio": higher("share over that of isotropic rows of the same n and d"),
        "w2": lower("the value itself"),
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
        "iso_ratio": unfair_null(units, nulls.uniformity_share) or Readout(share / null),
    }


@metric(
    unit="share",
    greater_is_better=False,
    invariant_to={"scaling", "row_scaling", "rotation", "permutation"},
    domain="n >= 30, n >= d / 4 and a null that fits the dimensions in use",
    paper="derived from Fang et al. 2024, Rethinking The Uniformity Metric in Self-Supervised Learning",
    readouts={
        "cone": lower("part owed to the direction that all rows share: squared length of the mean unit row"),
        "dimensional": lower("part owed to the spectrum, once the shared direction is removed"),
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
    few = unfair_null(units, nulls.uniformity_share)
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
