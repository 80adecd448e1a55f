"""How far rows are from the reference rows, and what the error of the reference adds to anything made of that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import design_effect, variance_of_mean
from gate.geometry.statistics import ReferenceClasses, Sample

_TILE = 1024
_REFINE_TILE = 64
_SPARE = 8  # candidates beyond the k-th whose distances are computed again in float64
_ERROR_ROWS = 2048  # reference rows whose influence tells the error of the reference
_BLOCKS = 10  # hash blocks of the reference that are left out in turn


@dataclass(frozen=True)
class Distances:
    """Distances of rows from the reference.

    Attributes:
        values: (p,) float64.
        variance: Weights (p,) → variance that the sampling of the reference gives to the weighted sum of the distances.
    """

    values: Tensor
    variance: Callable[[Tensor], float]


def shrunk(pooled: Tensor, fourth: float, n: int) -> tuple[Tensor, float]:
    """A covariance drawn towards its mean variance (Ledoit and Wolf 2004), and how far, in [0, 1].

    Args:
        pooled: (d, d), with 1/n.
        fourth: Mean of the fourth power of the length of a row less its mean.
        n: Rows.
    """
    target = pooled.diagonal().mean() * torch.eye(len(pooled), dtype=pooled.dtype, device=pooled.device)
    off = (pooled - target).square().sum().item()
    noise = max(fourth - pooled.square().sum().item(), 0.0) / n
    share = min(1.0, noise / off) if off > 0 else 1.0
    return torch.lerp(pooled, target, share), share


def mahalanobis(rows: Tensor, reference: Sample, classes: ReferenceClasses) -> Distances:
    """Distance to the nearest class mean under the pooled, shrunk covariance.

    Rows are whitened once, in float64, for n d^2 + n C d operations. The mean is chosen by products; the distance is
    that of the difference to it, never an expansion, which loses tight classes between far means.

    Args:
        rows: (p, d).
        reference: The sampled reference rows.
        classes: Class moments of all reference rows.

    Raises:
        MetricError: The reference rows of each class are equal.
    """
    if classes.is_tight():
        raise MetricError("all reference rows of each class are equal up to rounding: they have no covariance")
    codes = reference.class_codes(classes.names)
    residuals = reference.features.double() - classes.means[codes]
    fourth = residuals.square().sum(dim=1).square().mean().item()
    covariance, share = shrunk(classes.pooled, fourth, classes.n)
    factor = torch.linalg.cholesky(covariance)
    centre = classes.means[0]
    means = _whitened(classes.means - centre, factor)
    whitened = _whitened(rows.double() - centre, factor)
    nearest = _nearest_mean(whitened, means)
    gaps = whitened.sub_(means[nearest])
    lengths = torch.linalg.vector_norm(gaps, dim=1)
    few = slice(0, min(reference.m, _ERROR_ROWS))
    inverse = _whitened(torch.eye(len(factor), dtype=factor.dtype, device=factor.device), factor).T
    fitted = _Fitted(
        _whitened(residuals[few], factor),
        codes[few],
        (classes.counts / classes.n)[codes[few]],
        1 - share,
        residuals[few].square().sum(dim=1) * (share / len(factor)),
        inverse @ inverse.T,
        None if reference.clusters is None else reference.clusters[few],
        classes.n,
    )
    return Distances(lengths, lambda weights: fitted.variance(gaps, lengths, nearest, weights))


def _whitened(moved: Tensor, factor: Tensor) -> Tensor:
    whitened: Tensor = torch.linalg.solve_triangular(factor, moved.T, upper=False).T.contiguous()
    return whitened


def _nearest_mean(rows: Tensor, means: Tensor) -> Tensor:
    half = means.square().sum(dim=1) / 2
    return torch.cat([(tile @ means.T - half).argmax(dim=1) for tile in rows.split(_TILE)])


@dataclass(frozen=True)
class _Fitted:
    """Reference rows, as the means and the covariance were fitted to them.

    Attributes:
        rows: (t, d) whitened differences to the own class mean.
        codes: (t,) class of each.
        shares: (t,) share of that class among the reference rows.
        kept: What shrinkage leaves of the covariance.
        added: (t,) what each row gives to the multiple of the identity that shrinkage adds.
        identity: (d, d) that identity, whitened.
        clusters: (t,) int64 or None.
        n: Reference rows.
    """

    rows: Tensor
    codes: Tensor
    shares: Tensor
    kept: float
    added: Tensor
    identity: Tensor
    clusters: Tensor | None
    n: int

    def variance(self, gaps: Tensor, lengths: Tensor, nearest: Tensor, weights: Tensor) -> float:
        """Variance that the reference gives to a weighted sum of distances (delta method, derived here).

        A reference row u of class c moves the whitened mean of c by u / share of c, and the covariance by u u^T, which
        shrinkage divides between itself and the identity; the distance |g| to a mean then changes by -g.dm / |g| and
        -g^T dS g / 2 |g|.

        Args:
            gaps: (p, d) whitened difference of each judged row to its nearest class mean.
            lengths: (p,) their lengths.
            nearest: (p,) index of that class.
            weights: (p,) of the distances in the sum.
        """
        used = (weights != 0) & (lengths > 0)
        scaled = gaps[used] * (weights[used] / lengths[used])[:, None]
        size = int(max(self.codes.max(), nearest.max())) + 1
        pull = torch.zeros(size, gaps.shape[1], dtype=torch.float64, device=gaps.device)
        pull.index_add_(0, nearest[used], scaled)
        shape = scaled.T @ gaps[used]
        terms = (self.rows * pull[self.codes]).sum(dim=1) / self.shares
        terms += ((self.rows @ shape) * self.rows).sum(dim=1) * (self.kept / 2)
        terms += self.added * ((self.identity * shape).sum() / 2)
        terms -= terms.mean()
        return variance_of_mean(terms, self.n) * design_effect(terms, self.clusters, len(terms) / self.n)


def kth_neighbour(rows: Tensor, reference: Sample, k: int) -> Distances:
    """Distance to the k-th nearest sampled reference row; its error by leaving out a hash block of them at a time.

    Args:
        rows: (p, d).
        reference: At least 2 k + 8 sampled reference rows.
        k: Neighbours.
    """
    order, distances = _nearest(rows, reference.features, min(reference.m, 2 * k + _SPARE))
    block = (reference.rows.folds % _BLOCKS)[order]
    values = distances[:, k - 1].contiguous()
    changes = torch.stack([_without(distances, block == left_out, k) for left_out in range(_BLOCKS)]) - values

    def variance(weights: Tensor) -> float:
        moved = changes @ weights
        return (moved - moved.mean()).square().sum().item() * (_BLOCKS - 1) / _BLOCKS

    return Distances(values, variance)


def _without(distances: Tensor, gone: Tensor, k: int) -> Tensor:
    """Distance to the k-th neighbour that is left; the last candidate where fewer are."""
    place = ((~gone).cumsum(dim=1) < k).sum(dim=1).clamp_max(distances.shape[1] - 1)
    return distances.gather(1, place[:, None])[:, 0]


def _nearest(rows: Tensor, among: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of other rows and their distances, (p, k), nearest first.

    Float32 products choose the candidates, distances are differences in float64.
    """
    centre = among.double().mean(dim=0)
    targets = (among.double() - centre).float()
    half = targets.square().sum(dim=1) / 2
    orders, distances = [], []
    for tile in rows.split(_TILE):
        similar = (tile.double() - centre).float() @ targets.T - half
        picks = similar.topk(k, dim=1).indices
        parts = zip(tile.split(_REFINE_TILE), picks.split(_REFINE_TILE), strict=True)
        exact = torch.cat([(among[pick].double() - own[:, None].double()).square().sum(dim=2) for own, pick in parts])
        ranked = exact.sort(dim=1, stable=True)
        orders.append(picks.gather(1, ranked.indices))
        distances.append(ranked.values.sqrt())
    return torch.cat(orders), torch.cat(distances)
