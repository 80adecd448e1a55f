"""Hidden strata of one class: k-means without chance."""

from __future__ import annotations

import torch
from torch import Tensor

STRATA = (2, 3, 4, 5)
_ROUNDS = 30
_SMALLEST = 30  # rows of a stratum


def stratify(rows: Tensor) -> Tensor:
    """The stratum of each row, (r,), counted from 0.

    k-means for K = 2 ... 5 that starts from the two rows of the longest spread and adds the row farthest from all
    centres; the K with the best simplified silhouette is taken, among those whose strata all have 30 rows. A class that
    cannot be split so is one stratum. Nothing is random: the same rows have the same strata.

    Args:
        rows: (r, d), in a fixed order.
    """
    moved = rows.double() - rows.double().mean(dim=0)
    best, found = -torch.inf, torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    for k in STRATA:
        if len(rows) < k * _SMALLEST:
            break
        codes, distances = _k_means(moved, k)
        score = _silhouette(distances)
        if int(torch.bincount(codes, minlength=k).min()) >= _SMALLEST and score > best:
            best, found = score, codes
    return found


def _k_means(rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Nearest centre of each row, (r,), and the distance to every centre, (r, k)."""
    centres = rows[_far_apart(rows, k)]
    codes = torch.full((len(rows),), -1, dtype=torch.int64, device=rows.device)
    distances = torch.cdist(rows, centres)
    for _ in range(_ROUNDS):
        moved = distances.argmin(dim=1)
        if torch.equal(moved, codes):
            break
        codes = moved
        members = torch.nn.functional.one_hot(codes, k).double()
        counts = members.sum(dim=0)
        centres = torch.where(counts[:, None] > 0, members.T @ rows / counts.clamp_min(1)[:, None], centres)
        distances = torch.cdist(rows, centres)
    return distances.argmin(dim=1), distances


def _far_apart(rows: Tensor, k: int) -> list[int]:
    """The row farthest from the mean, then always the one farthest from all that were taken."""
    taken = [int(rows.square().sum(dim=1).argmax())]
    nearest = (rows - rows[taken[0]]).square().sum(dim=1)
    while len(taken) < k:
        taken.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (rows - rows[taken[-1]]).square().sum(dim=1))
    return taken


def _silhouette(distances: Tensor) -> float:
    """Mean of 1 - distance to the own centre over that to the next one."""
    near = distances.topk(2, dim=1, largest=False).values
    apart = near[:, 1] > 0
    return float(torch.where(apart, 1 - near[:, 0] / near[:, 1].clamp_min(1e-300), 0.0).mean())
