"""What isotropic rows read at the same n and d: closed forms and quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

_POINTS = 4000


def marchenko_pastur_mean(function: Callable[[Tensor], Tensor], gamma: float) -> float:
    """Mean of a function of the eigenvalues of an isotropic sample covariance, gamma = d / (n - 1).

    Midpoint rule over the angle of the Marchenko-Pastur law, with the mass 1 - 1/gamma at zero when gamma > 1.
    """
    theta = (torch.arange(_POINTS, dtype=torch.float64) + 0.5) * (math.pi / _POINTS)
    level = 1 + gamma + 2 * math.sqrt(gamma) * theta.cos()
    inside = float((function(level) * theta.sin().square() / level).sum()) * (2 / _POINTS)
    at_zero = float(function(torch.zeros(1, dtype=torch.float64))) * (1 - 1 / gamma) if gamma > 1 else 0.0
    return inside + at_zero


@lru_cache(maxsize=256)
def uniformity_share(n: int, d: float) -> float:
    """`wasserstein_uniformity.share` of isotropic rows: (E sqrt(lambda))^2."""
    return marchenko_pastur_mean(torch.sqrt, d / (n - 1)) ** 2


def effective_rank(n: int, d: float) -> float:
    """`effective_rank` of isotropic rows: d exp(-d / 2 nu), or nu exp(-nu / 2 d) when d > nu (Page 1993)."""
    nu = n - 1
    return d * math.exp(-d / (2 * nu)) if d <= nu else nu * math.exp(-nu / (2 * d))
