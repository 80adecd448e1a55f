"""Intervals of normal estimates, proportions and counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import torch
from torch import Tensor


def quantile(confidence: float, comparisons: int = 1, degrees: int | None = None) -> float:
    """Two-sided quantile of the normal, or of Student's t by expansion in 1/degrees (Abramowitz and Stegun 26.7.5)."""
    z = NormalDist().inv_cdf(1 - (1 - confidence) / (2 * comparisons))
    if degrees is None:
        return z
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3


def effective_trials(share: Tensor, variance: float, rows: int) -> float:
    """Number of independent rows that would give a share this variance; `rows` where all or none have it."""
    return share.item() * (1 - share.item()) / variance if variance > 0 and 0 < share.item() < 1 else float(rows)


def wilson(share: float, trials: float, z: float, alpha: float) -> tuple[float, float]:
    """Interval of a proportion: Wilson's, and that of Clopper and Pearson when all or none of the rows have it."""
    if share <= 0:
        return 0.0, 1 - (alpha / 2) ** (1 / trials)
    if share >= 1:
        return (alpha / 2) ** (1 / trials), 1.0
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    centre = share + z * z / (2 * trials)
    return (centre - spread) / (1 + z * z / trials), (centre + spread) / (1 + z * z / trials)


def count_interval(
    distance: Tensor, spread: Tensor, weight: Tensor | None = None
) -> Callable[[float], tuple[float, float]]:
    """Interval of the share of channels with distance < 0, when each distance is known up to its spread.

    Args:
        distance: (d,) signed distance of each channel to the border.
        spread: (d,) standard error of each distance.
        weight: (d,) what each channel counts, in place of 1 / d.
    """
    share = torch.full_like(distance, 1 / len(distance)) if weight is None else weight

    def ends(z: float) -> tuple[float, float]:
        low, high = (share[distance + side * z * spread < 0].sum().item() for side in (1, -1))
        return low, high

    return ends


def ratio_interval(
    top: float, bottom: float, variances: tuple[float, float], covariance: float, reach: float
) -> Callable[[float], tuple[float, float]]:
    """Interval of a ratio: all r for which top - r bottom is within its error of 0 (Fieller 1954).

    It is long on the side of a small denominator; where that cannot be told from 0 it holds all that is possible.

    Args:
        top: Numerator.
        bottom: Denominator.
        variances: Of both.
        covariance: Of the two.
        reach: The largest ratio that is possible, of either sign.
    """

    def ends(z: float) -> tuple[float, float]:
        whole = bottom**2 - z * z * variances[1]
        if whole <= 0:
            return -reach, reach
        middle = top * bottom - z * z * covariance
        spread = math.sqrt(max(0.0, middle**2 - whole * (top**2 - z * z * variances[0])))
        return max((middle - spread) / whole, -reach), min((middle + spread) / whole, reach)

    return ends
