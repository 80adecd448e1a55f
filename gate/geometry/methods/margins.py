"""Margins of judged rows: how far each is on the right side, and how many lie at the border."""

from __future__ import annotations

import torch
from torch import Tensor


def margins_of(scores: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """How far the score of each row's own class lies above that of the best other one, (r,), and which that is, (r,).

    Args:
        scores: (r, C).
        codes: (r,) the own class of each row.
    """
    own = scores.gather(1, codes[:, None])[:, 0]
    rival = scores.scatter(1, codes[:, None], -torch.inf).max(dim=1)
    return own - rival.values, rival.indices


def density_at_zero(margins: Tensor) -> Tensor:
    """Kernel weight of each margin at 0, (r,): how fast the share of positive ones changes with all margins.

    Gaussian kernel; a quarter of Silverman's bandwidth, so that a peak at the border is not flattened: that of a nearly
    perfect probe is narrow.
    """
    ordinary = margins[torch.isfinite(margins)]
    low, high = ordinary.quantile(0.25), ordinary.quantile(0.75)
    width: Tensor = 0.225 * torch.minimum(ordinary.std(), (high - low) / 1.34) * len(ordinary) ** -0.2
    if not width.item() > 0:  # equal margins have no border
        return torch.zeros_like(margins)
    weights: Tensor = (-0.5 * (margins / width).square()).exp() / (width * (2 * torch.pi) ** 0.5)
    return weights
