"""Class separability: how tight classes are, and how far apart."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import Guard, Readout, Refusal
from gate.geometry.intervals import count_interval
from gate.geometry.methods.chance import Chance
from gate.geometry.methods.class_pairs import ClassPairs
from gate.geometry.methods.class_traces import between_trace, largest_rise, unbiased_traces
from gate.geometry.methods.domains import small_class
from gate.geometry.methods.mean_noise import MeanNoise
from gate.geometry.methods.null_space import null_space_shift
from gate.geometry.registry import Answer, Answers, Later, lower, metric, neither
from gate.geometry.statistics import (
    ClassMoments,
    ClusterCounts,
    LayerClasses,
    Moments,
    Sample,
    ShiftedMean,
    ShiftedSample,
    Spectrum,
)
from gate.geometry.statistics.batch import by_tile

_EXACT = 1e-12  # spread, relative to the mean, that sums in float64 leave of equal rows
_FAINT = 4  # units in the last place below which an eigenvalue, beside the largest one, may be rounding
_CUT = 1e-10  # pseudo-inverse: eigenvalues below this share of the largest count as zero


@metric(
    unit="ratio",
    greater_is_better=None,
    invariant_to={"translation", "scaling", "rotation", "permutation"},
    domain="5 rows, and 5 clusters if any, of each class; value: a between-class spread above two of its errors",
    paper="inverse trace ratio of Fisher; correction derived here",
    readouts={
        "raw": neither("tr(within) / tr(between) without the correction for class sizes"),
        "between_share": neither("between / (between + within), bounded: the one to gate"),
        "per_layer": lower(
            "largest rise of within / (within + between) from a layer to a deeper one", needs={"depths"}
        ),
        "contamination": lower("share of the variance that lies in channels whose between-class share is below tau"),
        "null_space_shift": lower(
            "squared shift of the mean outside the class means' span, over the total variance", needs={"shifted"}
        ),
    },
    limits={
        "value": (0, math.inf),
        "raw": (0, math.inf),
        "between_share": (0, 1),
        "per_layer": (-1, 1),
        "contamination": (0, 1),
    },
    ranges={"tau": (0.01, 0.99)},
    elsewhere=(
        "Several numbers are called NC1. This is a ratio of traces, corrected for the sizes of the classes; `raw` "
        "is the plain one that Tirer and others use. Papyan et al. (2020) print tr(within between^+) / C, their "
        "notebook leaves out the 1 / C, and the package neural-collapse (2025-02) cuts off the inverse in float32 "
        "so early that it lost a third of the value on a set of 1000 classes."
    ),
)
def within_between_ratio(
    classes: ClassMoments,
    sample: Sample,
    layers: LayerClasses | None = None,
    shifted: ShiftedMean | None = None,
    shifted_rows: ShiftedSample | None = None,
    clusters: ClusterCounts | None = None,
    *,
    tau: float = 0.1,
) -> Answers:
    """Within-class spread over between-class spread.

    tr(within-class covariance) / tr(between-class covariance), both unbiased in the class sizes: the raw ratio flatters
    small classes.

    Args:
        classes: Class moments of features (n, d).
        sample: The sampled rows.
        layers: Class moments of earlier layers, where they are given.
        shifted: Mean of the rows under a shift, where there are such.
        shifted_rows: The sampled ones of these.
        clusters: How rows fall into clusters, where they do.
        tau: Between-class share below which a channel counts as contaminated.

    Returns:
        Ratio of at least 0, and read-outs.

    Raises:
        MetricError: All feature rows are equal.
    """
    few = small_class(classes, 5, clusters)
    if few:
        return few
    noise = MeanNoise.of(classes, sample, clusters)
    within, between = unbiased_traces(classes, noise)
    rounding = max(sample.rows.resolution, _EXACT) ** 2 * (classes.shares @ classes.means.square().sum(dim=1)).item()
    if not (classes.shares @ classes.within + between_trace(classes)).item() > rounding:
        raise MetricError(f"all {classes.n} feature rows are equal up to rounding: there is nothing to separate")
    guard = Guard(
        between,
        2,
        Refusal("inconclusive", "no_class_signal: the spread between classes does not exceed its own error twice"),
    )
    raw = (classes.shares @ classes.within) / between_trace(classes)
    return {
        "value": _ratio(within, between, rounding, guard),
        "raw": Readout(raw),
        "between_share": Readout(between / (between + within)),
        "per_layer": largest_rise(classes, noise, sample, layers, clusters),
        "contamination": _contamination(classes, tau),
        "null_space_shift": null_space_shift(classes, sample, shifted, shifted_rows),
    }


def _ratio(within: Tensor, between: Tensor, rounding: float, guard: Guard) -> Readout:
    """On a log scale; 0 where each class is one point up to rounding, which bounds what may hide below."""
    if within.item() > rounding:
        return Readout(within.log() - between.clamp_min(1e-300).log(), torch.exp, guard=guard)
    most = rounding / max(between.item(), 1e-300)
    return Readout(
        torch.zeros_like(between.detach()),
        interval=lambda _: (0.0, most),
        method="bound of rounding",
        detail="the rows of each class are equal up to rounding",
        guard=guard,
    )


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
    domain="n >= 2 max(d, C - 1); 10 rows, and 5 clusters if any, of each class; "
    "no direction too faint for the precision of the rows",
    paper="Xu and Liu 2023, Quantifying the Variability Collapse of Neural Networks; correction derived here",
    readouts={"raw": neither("1 - tr(total^-1 between) / rank, without the correction for n")},
    limits={"value": (-math.inf, math.inf), "raw": (0, 1)},
    elsewhere=(
        "As published the index has no correction for n: `raw`. Unweighted means of classes, as some code has them, "
        "break total = within + between where classes differ in size; here classes count by their rows."
    ),
)
def vci(
    moments: Moments,
    spectrum: Spectrum,
    classes: ClassMoments,
    sample: Sample,
    clusters: ClusterCounts | None = None,
) -> Answers:
    """Variability collapse index: 0 when classes are points, 1 when there is no linear class signal.

    1 - tr(T^+ B) / min(d, C - 1) for the total and between-class covariances T and B, corrected so that random labels
    read 1 at any n, and so that clusters of rows do not read as classes. Unchanged by any invertible linear map, hence
    blind to cones, scale and outlier channels.

    Args:
        moments: Of features (n, d).
        spectrum: Of their covariance.
        classes: Class moments of the same rows.
        sample: The sampled rows.
        clusters: How rows fall into clusters, where they do.

    Returns:
        About 0 to 1, and read-outs.

    Raises:
        MetricError: All feature rows are equal.
    """
    few = too_few_for_inverse(moments, classes, clusters)
    if few:
        return few
    if moments.is_constant():
        raise MetricError(f"all {moments.n} feature rows are equal up to rounding: there is nothing to separate")
    kept = spectrum.values > _CUT * spectrum.values[-1]
    blurred = _blurred(moments, spectrum.values[kept], classes, sample.features.dtype)
    if blurred:
        return blurred
    scale = spectrum.values[kept].sqrt()
    rank = len(scale)
    offsets = ((classes.means - classes.mean) @ spectrum.vectors[:, kept]) / scale
    signal = classes.shares @ offsets.square().sum(dim=1)
    largest = min(rank, classes.c - 1)
    chance = Chance(max(rank, classes.c - 1) / (moments.n - 1), rank, classes.c - 1)
    if clusters is not None:
        with torch.no_grad():
            white = spectrum.coordinates(sample)[:, kept] / scale
            chance = chance.clustered(white, offsets, classes, sample, clusters)
    if chance.too_much:
        return Refusal("inconclusive", "few_clusters: clusters of rows alone would part the classes; it needs more")
    found = (signal / largest).item()
    true, slope = chance.removed(found)

    @cache
    @torch.no_grad()
    def influence() -> Tensor:
        rows = spectrum.coordinates(sample)
        rows = rows if rank == spectrum.d else rows[:, kept]
        terms = _signal_terms(rows, offsets, scale, classes.shares, sample.class_codes(classes.names))
        return -terms / largest

    # The inverse is fitted to the very rows whose influence is taken.
    inflation = 1 / (1 - min(chance.single * chance.inverse, 0.9))
    value, raw = (signal.new_tensor(1 - share) for share in (true, found))
    return {
        "value": Readout(value, later=lambda: (influence() * slope, None), inflation=inflation),
        "raw": Readout(raw, later=lambda: (influence(), None), inflation=inflation),
    }


def _blurred(moments: Moments, values: Tensor, classes: ClassMoments, precision: torch.dtype) -> Refusal | None:
    """The refusal of directions within classes so faint beside the others that products of the rows do not hold them.

    Rounding is relative to each pair of channels: what counts are the eigenvalues of the correlations.
    """
    faintest = _FAINT * torch.finfo(precision).eps
    if values[0] > faintest * values[-1]:
        return None
    offsets = (classes.means - classes.mean).detach()
    within = moments.covariance - (offsets * classes.shares.detach()[:, None]).T @ offsets
    spread = within.diagonal()
    live = spread > _EXACT * moments.covariance.diagonal()
    scale = spread[live].sqrt()
    correlations = torch.linalg.eigvalsh(within[live][:, live] / (scale[:, None] * scale))
    if len(scale) == 0 or correlations[0] > faintest * correlations[-1]:
        return None
    name = str(precision).removeprefix("torch.")
    return Refusal(
        "inconclusive",
        f"ill_conditioned: some directions are too faint beside others for {name} to hold their covariance; reduce the "
        "features to the directions that vary, or give them as float64",
    )


def _signal_terms(rows: Tensor, offsets: Tensor, scale: Tensor, shares: Tensor, codes: Tensor) -> Tensor:
    """Influence on tr(T^-1 B), (m,), of rows (m, r) along the eigenvectors.

    `scale` (r,) whitens them; `offsets` are the whitened class means (C, r) about the mean.
    """
    twice = offsets / scale
    between = ((twice * shares[:, None]).T @ twice).to(rows.dtype)
    means, sizes = (2 * twice).to(rows.dtype), offsets.square().sum(dim=1)
    across = rows @ between

    def terms(tile: Tensor, product: Tensor, own: Tensor) -> Tensor:
        return ((means.index_select(0, own) - product) * tile).sum(dim=1)

    return by_tile(terms, rows, across, codes).double() - sizes[codes]


def too_few_for_inverse(moments: Moments, classes: ClassMoments, clusters: ClusterCounts | None) -> Refusal | None:
    """The refusal when the total covariance cannot be inverted honestly."""
    needed = 2 * max(moments.d, classes.c - 1)
    if moments.n < needed:
        return Refusal(
            "inconclusive", f"n_over_d: {moments.n} rows of dimension {moments.d}; it needs at least {needed}", needed
        )
    return small_class(classes, 10, clusters)


@metric(
    unit="ratio",
    greater_is_better=False,
    invariant_to={"translation", "scaling", "rotation", "permutation"},
    domain="10 rows, and 5 clusters if any, of each class",
    paper="Galanti, György and Hutter 2022, On the Role of Neural Collapse in Transfer Learning",
    readouts={
        "mean": lower("the value itself: mean over class pairs"),
        "max": lower("worst pair of classes"),
        "median": lower("median over class pairs"),
        "raw": lower("mean over pairs with the distance as it is, without the correction for class sizes"),
    },
    limits=dict.fromkeys(("value", "mean", "max", "median", "raw"), (0.0, math.inf)),
    elsewhere=(
        "The package neural-collapse (2025-02) and the paper take distances between class means as they are, which "
        "are too large when classes are small: `raw`."
    ),
)
def cdnv(
    classes: ClassMoments, sample: Sample, clusters: ClusterCounts | None = None
) -> dict[str, Answer | Later] | Refusal:
    """Class-distance normalised variance: how large classes are against the distance between them.

    (v_a + v_b) / (2 |mu_a - mu_b|^2) for each pair of classes, with unbiased variances and squared distances. A pair
    whose distance does not exceed its own error twice is merged: the value is infinite. Where rows come in clusters,
    class means are as uncertain as these make them.

    Args:
        classes: Class moments of features (n, d).
        sample: The sampled rows.
        clusters: How rows fall into clusters, where they do.

    Returns:
        Ratio of at least 0, and read-outs.
    """
    few = small_class(classes, 10, clusters)
    if few:
        return few
    pairs = ClassPairs.of(classes, sample, clusters)
    worst = " and ".join(repr(classes.names[one]) for one in pairs.worst)
    count = int(pairs.merged.sum())
    detail = f"{count} merged pairs of classes, one is {worst}" if count else f"worst pair {worst}"
    mean = _log_readout(pairs.mean(pairs.ratio), detail)
    return {
        "value": mean,
        "mean": mean,
        "max": _log_readout(pairs.largest(), detail, comparisons=int(pairs.above.sum())),
        "median": lambda: _log_readout(pairs.middle(), detail),
        "raw": lambda: _log_readout(pairs.mean(pairs.raw), None),
    }


def _log_readout(value: Tensor, detail: str | None, comparisons: int = 1) -> Readout:
    if not bool(torch.isfinite(value)):
        return Readout(value.detach(), detail=detail)
    return Readout(value.clamp_min(1e-300).log(), torch.exp, detail=detail, comparisons=comparisons)
