"""What a version has forgotten: recall that its baseline or an earlier checkpoint had."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

import torch
from torch import Tensor

from gate.geometry.influence import Readout, Refusal, missing_input
from gate.geometry.intervals import quantile
from gate.geometry.methods.rates import (
    BASELINE,
    OF_FEATURES,
    Bounds,
    Parts,
    classes_of,
    extreme,
    over_rows,
    paired_bounds,
    same_classes,
    shortened,
    too_few,
    two_classes,
)
from gate.geometry.registry import Answer, Answers, higher, lower, metric
from gate.geometry.statistics import Ledger, Sample

_DRAWS = 1024  # of the recalls of a half
_NO_SPREAD = 1e-12  # of a class of which all rows are right, or wrong


@metric(
    unit="recall",
    greater_is_better=False,
    invariant_to=OF_FEATURES,
    needs={BASELINE, "labels"},
    reads={"groups", "history"},
    kinds={"classifier", "embedding"},
    domain="2 classes and 30 rows of each",
    paper="standard; forgetting after Chaudhry et al. 2018, Riemannian Walk for Incremental Learning (recollected)",
    readouts={
        "forgetting": lower(
            "mean over groups, or classes, of the best accuracy of an earlier checkpoint minus that of now",
            needs={"history"},
        ),
        "poor_rich": higher(
            "mean change of recall of the weakest third of the classes minus that of the strongest third"
        ),
        "which": lower("number of classes whose recall has dropped beyond doubt; the text names them"),
    },
    limits={"value": (-1, 1), "forgetting": (-1, 1), "poor_rich": (-2, 2), "which": (0, math.inf)},
)
def max_class_regression(ledger: Ledger, sample: Sample) -> Answers:
    """A class forgotten between versions: the largest drop of a class's recall.

    max over classes of recall_old - recall_new. The largest of many noisy drops is above 0 even when nothing has
    changed: its interval holds all classes at once.

    Args:
        ledger: Of the outputs (n, C) of both versions on all rows, with labels.
        sample: The sampled rows.

    Returns:
        Drop in [-1, 1], negative where every class gains, and read-outs.

    Raises:
        MetricError: No output stands for a label.
    """
    few = too_few(ledger, 60) or same_classes(ledger)
    if few:
        return few
    parts = classes_of(ledger)
    few = two_classes(parts)
    if few:
        return few
    now, before = ledger.right(), ledger.right(BASELINE)
    drops = parts.means(before - now)
    bounds = paired_bounds(parts.sums(before * (1 - now)), parts.sums(now * (1 - before)), parts.counts)
    value, ends = extreme(drops, bounds, largest=True)
    worst = int(drops.argmax())
    readout = over_rows(
        ledger,
        sample,
        value,
        parts.influence(before - now, parts.one(worst)),
        interval=ends,
        comparisons=parts.g,
        method="paired proportions, all classes at once (Bonferroni)",
        detail=f"worst class {parts.names[worst]!r}",
        breakdown=shortened(dict(sorted(parts.breakdown(drops).items(), key=lambda entry: -entry[1]))),
    )
    return {
        "value": replace(readout, c=parts.g),
        "forgetting": _forgetting(ledger, sample, parts, now),
        "poor_rich": _poor_rich(ledger, sample, parts, before, now),
        "which": _which(ledger, sample, parts, drops, bounds),
    }


def _forgetting(ledger: Ledger, sample: Sample, parts: Parts, now: Tensor) -> Answer:
    """Best earlier accuracy less the present one, slice by slice; the best of several is a little optimistic."""
    history = ledger.named("history")
    if not history:
        return missing_input("history of earlier checkpoints")
    groups = ledger.codes("groups")
    slices = parts if groups is None else Parts.of(groups.names, groups.values)
    few = slices.too_small(30, "small_group", "group")
    if few:
        return few
    right = torch.stack([ledger.right(name) for name in history])
    means = torch.stack([slices.means(each) for each in right])
    best = means.max(dim=0)
    drops = best.values - slices.means(now)
    terms = torch.zeros_like(now)
    for checkpoint, each in enumerate(right):
        weights = (best.indices == checkpoint).double() / slices.g
        terms += slices.influence(each - now, weights)
    return over_rows(
        ledger,
        sample,
        drops.mean(),
        terms,
        method="paired difference",
        detail=f"over {slices.g} {'classes' if groups is None else 'groups'} and {len(history)} earlier checkpoints",
        breakdown=shortened(slices.breakdown(drops)),
    )


def _poor_rich(ledger: Ledger, sample: Sample, parts: Parts, before: Tensor, now: Tensor) -> Answer:
    """Classes are ranked on one half of the rows and judged on the other, both ways: luck makes no class weak."""
    half = ledger.numbers("fold") % 2
    poor, rich, sizes = [], [], []
    terms, added = torch.zeros_like(now), 0.0
    for judging in (0, 1):
        ranking = Parts(parts.names, torch.where(half == judging, -1, parts.codes), parts.counts)
        inside = torch.where(half == judging, parts.codes, -1)
        counts = torch.bincount(inside[inside >= 0], minlength=parts.g).double()
        if not bool(((counts > 0) & (counts < parts.counts)).all()):
            return Refusal(
                "inconclusive", "small_class: a class lies in one half of the rows alone; it needs more rows"
            )
        weak, strong = (side.double() for side in _thirds(ranking.sums(before) / (parts.counts - counts)))
        if bool((weak * strong).any()):
            return Refusal("inconclusive", "no_class_signal: classes of the baseline do not differ in recall")
        judged_on = Parts(parts.names, inside, counts)
        sizes.append(counts)
        gains = judged_on.means(now - before)
        poor.append((weak / weak.sum()) @ gains)
        rich.append((strong / strong.sum()) @ gains)
        weights = (weak / weak.sum() - strong / strong.sum()) / 2
        terms += judged_on.influence(now - before, weights)
        added += 2 * float((weights / counts).square().sum())  # half a row in each cell (Agresti and Min 2005)
    means = {"poor": sum(map(float, poor)) / 2, "rich": sum(map(float, rich)) / 2}
    value = (poor[0] + poor[1] - rich[0] - rich[1]) / 2
    method = "paired difference, cross-fitted halves"
    readout = over_rows(ledger, sample, value, terms, method=method, breakdown=means)
    luck = max(0.0, _shared_luck(parts, before, now - before, sizes)) / 2
    return replace(readout, variance=(readout.variance or 0.0) + added + luck)


def _shared_luck(parts: Parts, before: Tensor, gains: Tensor, sizes: Sequence[Tensor]) -> float:
    """Covariance of the differences that the two halves judge: what ranks a class low by luck is its gain afterwards.

    Over all pairs of a draw of the recalls in one half and one in the other, about recalls that differ by what is not
    noise (derived here). It is nothing where the classes differ so much that luck does not rank them.

    Args:
        parts: The classes.
        before: (n,) 1 where the baseline is right.
        gains: (n,) what the rows gain.
        sizes: Rows of each class (G,) in either half.
    """
    recalls, spreads = parts.means(before), parts.spreads(before)
    slopes = (parts.means(before * gains) - recalls * parts.means(gains)) / spreads.clamp_min(_NO_SPREAD)
    moved = recalls - recalls.mean()
    noise, size = (spreads / parts.counts).mean(), moved.square().sum() / (parts.g - 1)
    centre = moved * (1 - noise / size.clamp_min(_NO_SPREAD)).clamp_min(0).sqrt()
    generator = torch.Generator().manual_seed(0)
    weights, lucky = [], []
    for counts in sizes:
        drawn = torch.randn(_DRAWS, parts.g, generator=generator, dtype=torch.float64).to(counts.device)
        luck = drawn * (spreads / counts).sqrt()
        weak, strong = (side.double() / side.sum(dim=1, keepdim=True) for side in _thirds(centre + luck))
        weights.append(weak - strong)
        lucky.append(slopes * luck)
    return float(((weights[0] @ lucky[1].T) * (lucky[0] @ weights[1].T)).mean())


def _thirds(values: Tensor) -> tuple[Tensor, Tensor]:
    """Which values (..., G) are in the lowest and in the highest third; equal ones stay together."""
    third = max(1, values.shape[-1] // 3)
    ordered = values.sort(dim=-1).values
    return values <= ordered[..., third - 1, None], values >= ordered[..., -third, None]


def _which(ledger: Ledger, sample: Sample, parts: Parts, drops: Tensor, bounds: Bounds) -> Readout:
    """Counted at 95 % for all classes at once."""
    low, high = bounds(quantile(0.95, parts.g))
    worse = (low > 0).nonzero()[:, 0]
    names = ", ".join(repr(parts.names[code]) for code in worse[drops[worse].argsort(descending=True)].tolist()[:20])

    def ends(z: float) -> tuple[float, float]:
        least, most = bounds(z)
        return float((least > 0).sum()), float((most > 0).sum())

    certain = [
        NormalDist().cdf(float(end / width))
        for end, width in zip(low, (high - low) / (2 * quantile(0.95, parts.g)), strict=True)
    ]
    readout = over_rows(
        ledger,
        sample,
        torch.tensor(float(len(worse)), dtype=torch.float64, device=drops.device),
        torch.zeros_like(ledger.numbers("confidence")),
        interval=ends,
        comparisons=parts.g,
        method="count, paired proportions of all classes at once (Bonferroni)",
        detail=f"worse beyond doubt: {names}" if names else "no class is worse beyond doubt",
    )
    return replace(readout, variance=math.fsum(share * (1 - share) for share in certain))
