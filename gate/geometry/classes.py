"""Class separability: how tight classes are, and how far apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import Guard, Readout, Refusal, count_interval, missing_input
from gate.geometry.registry import Answer, metric
from gate.geometry.statistics import ClassMoments, Moments

_CUT = 1e-10  # pseudo-inverse: eigenvalues below this share of the largest count as zero


def small_class(classes: ClassMoments, needed: int) -> Refusal | None:
    """The refusal when there is one class only, or a class has too few rows."""
    if classes.c < 2:
        return Refusal("inconclusive", f"small_class: all rows are of class {classes.names[0]!r}; it needs two classes")
    worst = int(classes.counts.argmin())
    found = int(classes.counts[worst])
    if found >= needed:
        return None
    reason = f"small_class: class {classes.names[worst]!r} has {found} rows; each class needs at least {needed}"
    return Refusal("inconclusive", reason, math.ceil(classes.n * needed / found))


def _between(classes: ClassMoments) -> Tensor:
    """Trace of the between-class covariance."""
    return classes.shares @ (classes.means - classes.mean).square().sum(dim=1)


@metric(
    unit="ratio",
    greater_is_better=None,
    invariant_to={"translation", "scaling", "rotation", "permutation"},
    domain="5 rows of each class; value: a between-class spread above two of its errors",
    paper="inverse trace ratio of Fisher; correction derived here",
    readouts={
        "raw": "tr(within) / tr(between) without the correction for class sizes",
        "between_share": "between / (between + within), bounded: the one to gate",
        "per_layer": "its change with depth",
        "contamination": "share of the variance that lies in channels whose between-class share is below tau",
        "null_space_shift": "shift of the mean outside the class means' span",
    },
    limits={"value": (0, math.inf), "raw": (0, math.inf), "between_share": (0, 1), "contamination": (0, 1)},
    ranges={"tau": (0.01, 0.99)},
)
def within_between_ratio(classes: ClassMoments, *, tau: float = 0.1) -> dict[str, Answer]:
    """Within-class spread over between-class spread.

    tr(within-class covariance) / tr(between-class covariance), both unbiased in the class sizes: the raw ratio flatters
    small classes.

    Args:
        classes: Class moments of features (n, d).
        tau: Between-class share below which a channel counts as contaminated.

    Returns:
        Ratio of at least 0, and read-outs.

    Raises:
        MetricError: All feature rows are equal.
    """
    later = {
        "per_layer": missing_input("the features of several layers"),
        "null_space_shift": missing_input("the features of a shifted probe set"),
    }
    few = small_class(classes, 5)
    if few:
        return {"value": few, "raw": few, "between_share": few, "contamination": few, **later}
    within = classes.shares @ classes.unbiased_within
    between = _between(classes) - ((1 - classes.shares) @ classes.unbiased_within) / classes.n
    if not (classes.within.sum() + _between(classes)).item() > 0:
        raise MetricError(f"all {classes.n} feature rows are equal: there is nothing to separate")
    guard = Guard(
        between,
        2,
        Refusal("inconclusive", "no_class_signal: the spread between classes does not exceed its own error twice"),
    )
    raw = (classes.shares @ classes.within) / _between(classes)
    tight = within.item() == 0
    return {
        "value": Readout(within / between, guard=guard)
        if tight
        else Readout(within.log() - between.clamp_min(1e-300).log(), torch.exp, guard=guard),
        "raw": Readout(raw),
        "between_share": Readout(between / (between + within)),
        "contamination": _contamination(classes, tau),
        **later,
    }


def _contamination(classes: ClassMoments, tau: float) -> Readout:
    """Weak channels by their adjusted between-class share; its error is that of a squared correlation ratio."""
    within = classes.within_channels
    between = classes.shares @ (classes.means - classes.mean).square()
    total = within + between
    weight = (total / total.sum()).detach()
    n, extra = classes.n, classes.c - 1
    share = (between / total.clamp_min(1e-300)).detach()
    adjusted = share - extra / n * (1 - share)
    error = (4 * share * (1 - share) ** 2 / n + 2 * extra / n**2).sqrt()
    weak = adjusted < tau
    return Readout(
        total[weak].sum() / total.sum(),
        interval=count_interval(adjusted - tau, error, weight),
        method="count, from the error of each channel's share",
        detail=f"{int(weak.sum())} of {classes.d} channels",
    )


@metric(
    unit="share",
    greater_is_better=None,
    invariant_to={"translation", "scaling", "rotation", "permutation", "channel_scaling", "linear_map"},
    domain="n >= 2 max(d, C - 1) and 10 rows of each class",
    paper="Xu and Liu 2023, Quantifying the Variability Collapse of Neural Networks; correction derived here",
    readouts={"raw": "1 - tr(total^-1 between) / rank, without the correction for n"},
    limits={"value": (-math.inf, math.inf), "raw": (0, 1)},
)
def vci(moments: Moments, classes: ClassMoments) -> dict[str, Answer]:
    """Variability collapse index: 0 when classes are points, 1 when there is no linear class signal.

    1 - tr(T^+ B) / min(d, C - 1) for the total and between-class covariances T and B, corrected so that random labels
    read 1 at any n. Unchanged by any invertible linear map, hence blind to cones, scale and outlier channels.

    Args:
        moments: Of features (n, d).
        classes: Class moments of the same rows.

    Returns:
        About 0 to 1, and read-outs.

    Raises:
        MetricError: All feature rows are equal.
    """
    few = too_few_for_inverse(moments, classes)
    if few:
        return {"value": few, "raw": few}
    if moments.is_constant():
        raise MetricError(f"all {moments.n} feature rows are equal up to rounding: there is nothing to separate")
    basis = _support(moments.covariance.detach())
    rank = basis.shape[1]
    total = basis.T @ moments.covariance @ basis
    offsets = (classes.means - classes.mean) @ basis
    signal = classes.shares @ (offsets * torch.linalg.solve(total, offsets.T).T).sum(dim=1)
    raw = 1 - signal / min(rank, classes.c - 1)
    null = max(rank, classes.c - 1) / (moments.n - 1)
    inflation = 1 / (1 - null)  # the inverse is fitted to the very rows whose influence is taken
    value = Readout(1 - (1 - raw - null) / (1 - null), inflation=inflation)
    return {"value": value, "raw": Readout(raw, inflation=inflation)}


def too_few_for_inverse(moments: Moments, classes: ClassMoments) -> Refusal | None:
    """The refusal when the total covariance cannot be inverted honestly."""
    needed = 2 * max(moments.d, classes.c - 1)
    if moments.n < needed:
        return Refusal(
            "inconclusive", f"n_over_d: {moments.n} rows of dimension {moments.d}; it needs at least {needed}", needed
        )
    return small_class(classes, 10)


def _support(covariance: Tensor) -> Tensor:
    """Orthonormal basis (d, r) of the directions that vary."""
    values, vectors = torch.linalg.eigh(covariance)
    kept: Tensor = vectors[:, values > _CUT * values[-1]]
    return kept


@metric(
    unit="ratio",
    greater_is_better=False,
    invariant_to={"translation", "scaling", "rotation", "permutation"},
    domain="10 rows of each class",
    paper="Galanti, György and Hutter 2022, On the Role of Neural Collapse in Transfer Learning",
    readouts={
        "mean": "the value itself: mean over class pairs",
        "max": "worst pair of classes",
        "median": "median over class pairs",
        "raw": "mean over pairs with the distance as it is, without the correction for class sizes",
    },
    limits=dict.fromkeys(("value", "mean", "max", "median", "raw"), (0.0, math.inf)),
)
def cdnv(moments: Moments, classes: ClassMoments) -> dict[str, Answer]:
    """Class-distance normalised variance: how large classes are against the distance between them.

    (v_a + v_b) / (2 |mu_a - mu_b|^2) for each pair of classes, with unbiased variances and squared distances. A pair
    whose distance does not exceed its own error twice is merged: the value is infinite.

    Args:
        moments: Of features (n, d).
        classes: Class moments of the same rows.

    Returns:
        Ratio of at least 0, and read-outs.
    """
    names = ("value", "mean", "max", "median", "raw")
    few = small_class(classes, 10)
    if few:
        return dict.fromkeys(names, few)
    first, second = torch.triu_indices(classes.c, classes.c, 1, device=classes.means.device)
    spread = classes.unbiased_within
    distance = _squared_distances(classes.means)[first, second]
    corrected = distance - (spread / classes.counts)[first] - (spread / classes.counts)[second]
    ratio = (spread[first] + spread[second]) / (2 * corrected)
    merged = corrected.detach() <= 2 * _distance_error(moments, classes)[first, second]
    ratio = torch.where(merged, math.inf, ratio)
    worst = int(ratio.argmax())
    pair = f"{classes.names[int(first[worst])]!r} and {classes.names[int(second[worst])]!r}"
    detail = (
        f"{int(merged.sum())} merged pairs of classes, one is {pair}" if bool(merged.any()) else f"worst pair {pair}"
    )
    mean = _log_readout(ratio.mean(), detail)
    return {
        "value": mean,
        "mean": mean,
        "max": _log_readout(ratio[worst], detail, comparisons=len(ratio)),
        "median": _log_readout(
            ratio.quantile(0.5) if not bool(merged.any()) else ratio.sort().values[len(ratio) // 2], detail
        ),
        "raw": _log_readout(((spread[first] + spread[second]) / (2 * distance)).mean(), None),
    }


def _log_readout(value: Tensor, detail: str | None, comparisons: int = 1) -> Readout:
    if not bool(torch.isfinite(value)):
        return Readout(value.detach(), detail=detail)
    return Readout(value.clamp_min(1e-300).log(), torch.exp, detail=detail, comparisons=comparisons)


def _squared_distances(means: Tensor) -> Tensor:
    centred = means - means.mean(dim=0).detach()
    inner = centred @ centred.T
    size = inner.diagonal()
    return size[:, None] + size[None, :] - 2 * inner


def _distance_error(moments: Moments, classes: ClassMoments) -> Tensor:
    """Standard error of each squared distance of two class means, from the pooled within-class covariance, (C, C)."""
    offsets = (classes.means - classes.mean).detach()
    pooled = moments.covariance.detach() - (offsets * classes.shares.detach()[:, None]).T @ offsets
    inner = offsets @ pooled @ offsets.T
    along = inner.diagonal()[:, None] + inner.diagonal()[None, :] - 2 * inner
    weight = 1 / classes.counts.double()
    weight = weight[:, None] + weight[None, :]
    return (4 * weight * along.clamp_min(0) + 2 * weight**2 * pooled.square().sum()).sqrt()
