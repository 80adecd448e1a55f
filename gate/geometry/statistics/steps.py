"""From one layer to the next: the angles between what the token states of a row span."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.statistics.tokens import which_tokens

STEP_TERMS = ("live", "rank_before", "rank", "overlap")
_ENTRIES = 2**22  # numbers in one tile of states
_ABOVE_ROUNDING = 10  # how far a direction has to stand out of what rounding alone can make of the states


def step_terms(layers: Mapping[str, Tensor], mask: Tensor | None = None) -> dict[str, Tensor]:
    """How far the token states of each layer span the same space as those of the layer before, row by row.

    The states H (T, d) of the real tokens of a row span a space of their columns: what can be said of the tokens by one
    channel or by a mix of them. With orthonormal bases Q and P of two of these spaces, of ranks r and s, the singular
    values of Q^T P are the cosines of the principal angles between them (Björck and Golub 1973); the overlap is the
    mean of their squares, |Q^T P|_F^2 / min(r, s). Bases are exact, by singular values in float64, O(T d min(T, d)) for
    each layer of each row; a padded token is a zero row and moves neither. A direction counts where its singular value
    is above 10 eps |H|_F, with eps of the type that the states come in: storing them in it moves no singular value by
    more than eps |H|_F (Weyl). States that were computed in a coarser type than they come in hold its rounding as
    directions.

    Args:
        layers: States (n, T, d) by layer, from shallow to deep; d may differ between layers.
        mask: (n, T) bool, True for a real token; all are real when None.

    Returns:
        Of every layer but the first, (n, 4) float64, the columns of `STEP_TERMS`: number of real tokens that are not
        zero at both layers; rank at the layer before; rank at this one; overlap, 0 where a rank is 0. NaN for a row of
        which a real token is not finite.

    Raises:
        MetricError: The layers have not the same rows and tokens, or the mask is not (n, T).
    """
    shapes = {layer: tuple(states.shape) for layer, states in layers.items()}
    if any(len(shape) != 3 or 0 in shape for shape in shapes.values()) or len({s[:2] for s in shapes.values()}) != 1:
        raise MetricError(f"layers must have states (n, T, d) of the same tokens, found {shapes}")
    if len(layers) < 2:
        return {}
    n, tokens, _ = next(iter(shapes.values()))
    real = which_tokens("token_mask", mask, next(iter(layers.values())))
    at_once = max(1, _ENTRIES // (tokens * max(shape[2] for shape in shapes.values())))
    tiles = [slice(start, start + at_once) for start in range(0, n, at_once)]
    parts = [_tile_steps([states[tile] for states in layers.values()], real[tile]) for tile in tiles]
    return dict(zip(list(layers)[1:], torch.cat(parts, dim=1), strict=True))


def _tile_steps(layers: list[Tensor], real: Tensor) -> Tensor:
    """The terms of every step, (L - 1, n, 4)."""
    bases, ranks, alive, broken = zip(*(_spanned(states, real) for states in layers), strict=True)
    steps = []
    for before, after in itertools.pairwise(range(len(layers))):
        fewer = torch.minimum(ranks[before], ranks[after])
        shared = (bases[before].mT @ bases[after]).square().sum(dim=(1, 2))
        live = (alive[before] | alive[after]).sum(dim=1)
        terms = torch.stack([live, ranks[before], ranks[after], shared / fewer.clamp_min(1)], dim=1).double()
        steps.append(terms.masked_fill((broken[before] | broken[after])[:, None], torch.nan))
    return torch.stack(steps)


def _spanned(states: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each row: basis (n, T, min(T, d)), zeros beyond its rank; rank; tokens that are not zero; is it broken."""
    wide = states.double().masked_fill(~real[:, :, None], 0.0)
    broken = ~torch.isfinite(wide).all(dim=2).all(dim=1)
    wide = wide.masked_fill(broken[:, None, None], 0.0)
    alive = (wide != 0).any(dim=2)
    reduced = torch.linalg.qr(wide.mT, mode="r").R.mT if wide.shape[2] > wide.shape[1] else wide  # spans the same
    left, values, _ = torch.linalg.svd(reduced, full_matrices=False)
    precision = torch.finfo(states.dtype if states.is_floating_point() else torch.float64).eps
    counts = values > _ABOVE_ROUNDING * precision * torch.linalg.vector_norm(values, dim=1, keepdim=True)
    return left * counts[:, None, :], counts.sum(dim=1), alive, broken
