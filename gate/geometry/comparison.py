"""How alike two versions' features of the same rows are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import cast

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import (
    Readout,
    Refusal,
    missing_input,
    tracked,
)
from gate.geometry.methods.row_pairs import Pairs, u_statistic_variance
from gate.geometry.registry import Answer, Later, lower, metric, neither
from gate.geometry.statistics import (
    BaselineMoments,
    CrossMoments,
    FeatureMoments,
    PairMoments,
    Sample,
)
from gate.geometry.statistics.batch import by_tile
from gate.geometry.statistics.moments import centred

_LEAST = 100  # rows


@metric(
    unit="similarity",
    greater_is_better=True,
    invariant_to={"translation", "scaling", "rotation", "permutation"},
    domain="100 rows; dominated by directions of large variance: a warning, never the only reason to refuse",
    elsewhere=(
        "Most code computes the biased form, about sqrt(d1 d2 / ((n + d1)(n + d2))) for unrelated features: "
        "0.89 for 64 rows of 512 dimensions. MONAI 1.6.1 applies it to rows that are not paired. pytorch-cka "
        "1.1.3 subtracts large float32 terms of uncentred features and cuts the result to [0, 1]."
    ),
    paper="Kornblith et al. 2019; debiased HSIC of Song et al. 2012; form from streams derived here",
    readouts={
        "per_layer_pair": lower(
            "largest similarity of two named layers of this model: near 1, one of them does nothing",
            needs={"depths"},
        ),
        "block": neither("similarity of the first and the second half of the channels"),
    },
    limits={"value": (-1, 1), "per_layer_pair": (-1, 1), "block": (-1, 1)},
    reads={"depths"},
)
def cka_debiased(
    own: FeatureMoments, other: BaselineMoments, pair: CrossMoments, sample: Sample
) -> dict[str, Answer | Later] | Refusal:
    """Linear similarity to the baseline's features, whatever their rotation and scale: 1 equal, 0 unrelated.

    HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)) with the unbiased HSIC of linear kernels: the plain form reads 0.8 for
    unrelated rows when n is below d. It is not the similarity of what the two models do.

    Args:
        own: Moments of the features (n, d) with themselves.
        other: Of the baseline's features (n, e) with themselves.
        pair: Of both with each other.
        sample: The sampled rows; the read-outs are of them alone.

    Returns:
        -1 to 1, and read-outs.

    Raises:
        MetricError: All feature rows are equal, or all of the baseline's.
    """
    if own.n < _LEAST:
        return _few_rows(own.n)
    if pair.is_constant():
        raise MetricError(f"all {pair.n} rows of the features or of the baseline are equal up to rounding")
    rows = sample.rows
    return {
        "value": _similarity(own, other, pair, rows.numbers("features"), rows.numbers("baseline")),
        "per_layer_pair": lambda: _layer_pairs(sample),
        "block": lambda: _blocks(sample),
    }


def _few_rows(n: int, needed: int = _LEAST) -> Refusal:
    return Refusal("inconclusive", f"few_rows: found {n} rows; it needs {needed}", needed)


def _similarity(own: PairMoments, other: PairMoments, pair: PairMoments, x: Tensor, y: Tensor) -> Answer:
    """The ratio of tracked moments, over the pairs of some rows."""
    scales = own.hsic, other.hsic
    if not min(scale.item() for scale in scales) > 0:
        return Refusal("inconclusive", f"n_over_d: {own.n} rows do not resolve the spread of the features", 2 * own.n)
    ratio = pair.hsic / (scales[0] * scales[1]).sqrt()
    n = own.n

    def spread() -> tuple[Tensor, float]:
        parts = ((own, x, x), (other, y, y), (pair, x, y))
        influence = sum(
            (_through(ratio, *part) for part in parts), start=torch.zeros_like(x[:, 0], dtype=torch.float64)
        )
        return influence, u_statistic_variance(influence, n, _second_moment(pair, x, y, *scales, ratio))

    return Readout(ratio.detach(), later=spread, n=n, method="U-statistic projection")


def _through(ratio: Tensor, part: PairMoments, x: Tensor, y: Tensor) -> Tensor:
    leaves = [getattr(part, name) for name in part.leaves]
    slopes = torch.autograd.grad(ratio, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
    with torch.no_grad():
        return part.influence_of(dict(zip(part.leaves, slopes, strict=True)), x, y)


def _second_moment(pair: PairMoments, x: Tensor, y: Tensor, xx: Tensor, yy: Tensor, ratio: Tensor) -> float:
    """Mean square of the kernel of the ratio over pairs of sampled rows."""
    with torch.no_grad():
        pairs = Pairs.among(len(x), x.device)
        k, q = (
            pairs.products(by_tile(partial(centred, mean=mean), rows))
            for rows, mean in ((x, pair.mean_x), (y, pair.mean_y))
        )
        kernel = k * q / (xx * yy).sqrt() - ratio / 2 * (k.square() / xx + q.square() / yy)
        return float(kernel.square().mean())


def _tracked_pair(x: Tensor, y: Tensor, resolution: float) -> PairMoments:
    return cast("PairMoments", tracked(PairMoments.of_rows(x, y, resolution)))


def _layer_pairs(sample: Sample) -> Answer:
    named = sample.rows.named("depths")
    layers = {name: rows for name, rows in named.items() if isinstance(rows, Tensor)}
    if not layers:
        return missing_input("the features of several layers")
    layers["this layer"] = sample.features
    resolution = sample.rows.resolution
    own = {name: _tracked_pair(rows, rows, resolution) for name, rows in layers.items()}
    still = [name for name, moments in own.items() if moments.is_constant()]
    if still:
        return Refusal("inconclusive", f"degenerate_layer: all rows of {still[0]!r} are equal up to rounding")
    found: dict[str, Readout] = {}
    for a, b in combinations(layers, 2):
        pair = _tracked_pair(layers[a], layers[b], resolution)
        answer = _similarity(own[a], own[b], pair, layers[a], layers[b])
        if isinstance(answer, Readout):
            found[f"{a} and {b}"] = answer
    return _largest(found)


def _largest(found: Mapping[str, Readout]) -> Answer:
    if not found:
        return Refusal("inconclusive", "n_over_d: the rows do not resolve the spread of any two layers")
    name = max(found, key=lambda each: float(found[each].natural))
    breakdown = {each: float(readout.natural) for each, readout in found.items()}
    return replace(found[name], comparisons=len(found), detail=f"layers {name}", breakdown=breakdown)


def _blocks(sample: Sample) -> Answer:
    half = sample.features.shape[1] // 2
    if half == 0:
        return Refusal("not_applicable", "missing_input: it needs two channels")
    blocks = sample.features[:, :half], sample.features[:, half:]
    resolution = sample.rows.resolution
    first, second = (_tracked_pair(block, block, resolution) for block in blocks)
    if first.is_constant() or second.is_constant():
        return Refusal("inconclusive", "degenerate_block: one half of the channels does not vary")
    return _similarity(first, second, _tracked_pair(*blocks, resolution), *blocks)
