"""Refusals that several metrics share: outside its valid domain a metric never answers with a number."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from gate.geometry.influence import Refusal
from gate.geometry.statistics import ClassMoments, ClusterCounts, Moments

_MIN_ROWS = 30
_FEWEST = 5  # clusters of a class: with fewer, intervals are too narrow
_FAIR = 1.15  # how far the nulls of all dimensions and of those in use may differ


def small_class(classes: ClassMoments, needed: int, clusters: ClusterCounts | None = None) -> Refusal | None:
    """The refusal when there is one class only, or a class has too few rows or clusters."""
    if classes.c < 2:
        return Refusal("inconclusive", f"small_class: all rows are of class {classes.names[0]!r}; it needs two classes")
    worst = int(classes.counts.argmin())
    found = int(classes.counts[worst])
    if found >= needed:
        return _few_clusters(clusters) if clusters else None
    reason = f"small_class: class {classes.names[worst]!r} has {found} rows; each class needs at least {needed}"
    return Refusal("inconclusive", reason, math.ceil(classes.n * needed / max(found, 1)))


def _few_clusters(clusters: ClusterCounts) -> Refusal | None:
    """The refusal when a class has less than 5 clusters, uneven ones counted as so many equal ones: 1 / sum of w^2."""
    effective = 1 / clusters.concentration
    worst = int(effective.argmin())
    found = effective[worst].item()
    if found >= _FEWEST - 1e-9:  # sums of shares that are rounded
        return None
    return Refusal(
        "inconclusive",
        f"few_clusters: the rows of class {clusters.names[worst]!r} are of effectively {found:.2g} clusters; "
        f"each class needs at least {_FEWEST}, better 20",
    )


def too_few(n: int, d: int, factor: float) -> Refusal | None:
    """The refusal when there are fewer rows than `factor` times the dimension, or than any interval needs."""
    needed = max(math.ceil(factor * d), _MIN_ROWS)
    if n >= needed:
        return None
    return Refusal("inconclusive", f"n_over_d: {n} rows of dimension {d}; it needs at least {needed}", needed)


def unfair_null(moments: Moments, gain: Callable[[int, float], float]) -> Refusal | None:
    """The refusal when the correction for n is that of isotropic rows only.

    Rows in few directions are hardly biased by n, those in all directions are: dividing by the isotropic null then
    makes a collapsed cloud look healthy. `gain(n, d)` is the null as a share of d; it is compared at d and at the
    dimensions in use.
    """
    few = too_few(moments.n, moments.d, 0.25)
    if few:
        return few
    a, b = unbiased_traces(*traces(moments.covariance.detach()), moments.n)
    in_use = min(max((a / b).item(), 1.0), float(moments.d)) if b.item() > 0 else float(moments.d)
    if gain(moments.n, moments.d) * _FAIR >= gain(moments.n, in_use):
        return None
    reason = f"n_over_d: {moments.n} rows in about {in_use:.0f} of {moments.d} dimensions have no common null"
    return Refusal("inconclusive", f"{reason}; it needs at least {4 * moments.d} rows", 4 * moments.d)


def traces(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """tr(C) and tr(C^2)."""
    return covariance.diagonal().sum(), covariance.square().sum()


def unbiased_traces(trace: Tensor, square: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Estimates of tr(C)^2 and tr(C^2) that are unbiased for Gaussian rows: their ratio is the participation ratio."""
    nu, grown = n - 1, n / (n - 1)
    whole = (trace * grown) ** 2
    b = (square * grown**2 - whole / nu) * (nu**2 / ((nu + 2) * (nu - 1)))
    return whole - 2 * b / nu, b
