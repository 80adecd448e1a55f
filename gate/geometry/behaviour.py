"""How the predictions of two versions differ on the same rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from gate.geometry.influence import Readout, Refusal, missing_input
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
    share_of_rows,
    shortened,
    too_few,
    worst_of,
)
from gate.geometry.registry import Answer, Answers, lower, metric, neither
from gate.geometry.statistics import Ledger, Sample


@metric(
    unit="nats",
    greater_is_better=False,
    invariant_to=OF_FEATURES,
    needs={BASELINE},
    reads={"groups", "attributes"},
    kinds={"classifier", "sequence"},
    domain="500 rows",
    paper="standard; sym_ce after Chen et al. 2021, Semantic Segmentation with Cross Pseudo Supervision",
    readouts={
        "l2": lower("half the mean squared distance of the logits, each row's mean removed"),
        "churn": lower("share of rows with another prediction"),
        "sym_ce": lower("cross-entropy of each version to the hard prediction of the other, mean of the two, nats"),
        "top1pct": neither("share of the total that lies in the 1 % of rows with the largest distance"),
        "per_slice": lower("value on the group or attribute where it is largest"),
    },
    limits={
        **dict.fromkeys(("value", "l2", "sym_ce", "per_slice"), (0.0, math.inf)),
        **dict.fromkeys(("churn", "top1pct"), (0.0, 1.0)),
    },
)
def function_space_distance(ledger: Ledger, sample: Sample) -> Answers:
    """How differently two versions predict, no labels needed: mean KL divergence from the old to the new predictions.

    mean_i sum_c p_old ln(p_old / p_new): exactly 0 for identical predictions. High agreement is good between versions
    and bad inside an ensemble.

    Args:
        ledger: Of the outputs (n, C) of both versions on all rows.
        sample: The sampled rows.

    Returns:
        Nats of at least 0, and read-outs.
    """
    few = too_few(ledger, 500) or same_classes(ledger)
    if few:
        return few
    gaps = ledger.numbers("divergence")
    churn = ledger.predictions() != ledger.predictions(BASELINE)
    return {
        "value": _positive_mean(ledger, sample, gaps),
        "l2": _positive_mean(ledger, sample, ledger.numbers("square")),
        "churn": share_of_rows(ledger, sample, churn, f"{int(churn.sum())} of {ledger.n} rows"),
        "sym_ce": _positive_mean(ledger, sample, ledger.numbers("cross_entropy")),
        "top1pct": _top_share(ledger, sample, gaps),
        "per_slice": _largest_slice(ledger, sample, gaps),
    }


def _positive_mean(ledger: Ledger, sample: Sample, terms: Tensor) -> Readout:
    """Mean of skewed numbers of at least 0: close to normal on the scale of logs."""
    mean = terms.mean()
    if not float(mean) > 0:
        return over_rows(ledger, sample, mean, terms, method="mean over all rows")
    return over_rows(
        ledger, sample, mean.log(), terms / mean, display=torch.exp, method="mean over all rows, log scale"
    )


def _top_share(ledger: Ledger, sample: Sample, gaps: Tensor) -> Answer:
    """A point of the Lorenz curve, with its influence function; half the few rows it rests on are its degrees."""
    total = gaps.mean()
    if not float(total) > 0:
        return Refusal(
            "inconclusive", "saturated: both versions predict the same on every row, there is no total to share"
        )
    count = math.ceil(ledger.n / 100)
    top = gaps.topk(count).values
    share, border, part = top.sum() / gaps.sum(), top[-1], top.sum() / ledger.n
    above = (gaps - border).clamp_min(0) + border * count / ledger.n
    terms = ((above - part) - share * (gaps - total)) / total
    if float(share) < 1:
        readout = over_rows(ledger, sample, share.logit(), terms / (share * (1 - share)), display=torch.sigmoid)
    else:
        readout = over_rows(ledger, sample, share, terms)
    return replace(readout, degrees=max(count // 2, 1), detail=f"{count} rows")


def _slices(ledger: Ledger) -> tuple[Parts, ...]:
    """The groups, and the tags of every attribute."""
    columns = [name for name in ("groups", *ledger.named("attributes")) if ledger.has(name)]
    found = []
    for column in columns:
        codes = ledger.codes(column)
        if codes is not None:
            names = tuple(f"{column.removeprefix('attributes.')}={name}" for name in codes.names)
            found.append(Parts.of(names, codes.values))
    return tuple(found)


def _largest_slice(ledger: Ledger, sample: Sample, gaps: Tensor) -> Answer:
    slices = _slices(ledger)
    if not slices:
        return missing_input("groups or attributes")
    for parts in slices:
        few = parts.too_small(30, "small_group", "slice")
        if few:
            return few
    means = torch.cat([parts.means(gaps) for parts in slices])
    errors = torch.cat([(parts.spreads(gaps) / parts.counts).sqrt() for parts in slices])
    names = [name for parts in slices for name in parts.names]
    value, ends = extreme(means, _log_bounds(means, errors), largest=True)
    worst = int(means.argmax())
    own = next(parts for parts in slices if names[worst] in parts.names)
    return over_rows(
        ledger,
        sample,
        value,
        own.influence(gaps, own.one(own.names.index(names[worst]))),
        interval=ends,
        comparisons=len(names),
        method="mean, log scale, all slices at once (Bonferroni)",
        detail=f"worst slice {names[worst]!r}",
        breakdown=shortened(dict(zip(names, means.tolist(), strict=True))),
    )


def _log_bounds(means: Tensor, errors: Tensor) -> Bounds:
    ratio = torch.where(means > 0, errors / means.clamp_min(1e-300), 0.0)
    return lambda z: (means * (-z * ratio).exp(), means * (z * ratio).exp())


@metric(
    unit="share of rows",
    greater_is_better=False,
    invariant_to=OF_FEATURES,
    needs={BASELINE, "labels"},
    reads={"history"},
    kinds={"classifier", "embedding", "sequence"},
    domain="500 rows; per_class: 30 rows of each class",
    paper="Yan et al. 2021, Positive-Congruent Training; cycles after Reduce Catastrophic Forgetting of Dense "
    "Retrieval Training with Teleportation Negatives (form derived here)",
    readouts={
        "net": lower("value minus the share of rows that the old version had wrong and the new one has right"),
        "per_class": lower("value of the class where it is largest"),
        "cycles": lower(
            "mean number of times that a row is learnt and then forgotten again, over 3 or more checkpoints",
            needs={"history"},
        ),
    },
    limits={"value": (0, 1), "net": (-1, 1), "per_class": (0, 1), "cycles": (0, math.inf)},
)
def negative_flip_rate(ledger: Ledger, sample: Sample) -> Answers:
    """Rows that the old version had right and the new one has wrong.

    Share of all rows; its noise floor is the rate between two seeds of one recipe.

    Args:
        ledger: Of the outputs (n, C) of both versions on all rows, with labels.
        sample: The sampled rows.

    Returns:
        Share in [0, 1], and read-outs.

    Raises:
        MetricError: No output stands for a label.
    """
    few = too_few(ledger, 500) or same_classes(ledger)
    if few:
        return few
    now, before = ledger.right(), ledger.right(BASELINE)
    lost, won = before * (1 - now), now * (1 - before)
    counts = f"{int(lost.sum())} right to wrong, {int(won.sum())} wrong to right"
    p = sign_test(int(lost.sum()), int(won.sum()))
    low, high = lost.sum(), won.sum()
    bounds = paired_bounds(low, high, torch.tensor(float(ledger.n), dtype=torch.float64, device=now.device))
    return {
        "value": share_of_rows(ledger, sample, lost, counts),
        "net": over_rows(
            ledger,
            sample,
            (lost - won).mean(),
            lost - won,
            interval=_scalar(bounds),
            method="paired proportions (Agresti and Min)",
            detail=f"{counts}, exact McNemar p = {p:.3g}",
        ),
        "per_class": _largest_loss(ledger, sample, lost),
        "cycles": _cycles(ledger, sample, now),
    }


def _scalar(bounds: Bounds) -> Callable[[float], tuple[float, float]]:
    def ends(z: float) -> tuple[float, float]:
        low, high = bounds(z)
        return float(low), float(high)

    return ends


def sign_test(first: int, second: int) -> float:
    """Two-sided exact probability that counts of two equally likely outcomes differ by as much or more."""
    n, most = first + second, max(first, second)
    if first == second:
        return 1.0
    upper = torch.arange(most, n + 1, dtype=torch.float64)
    size = torch.tensor(float(n + 1), dtype=torch.float64)
    logs = size.lgamma() - (upper + 1).lgamma() - (n - upper + 1).lgamma() - n * math.log(2)
    return min(1.0, 2 * float(logs.exp().sum()))


def _largest_loss(ledger: Ledger, sample: Sample, lost: Tensor) -> Answer:
    parts = classes_of(ledger)
    few = parts.too_small(30, "small_class", "class")
    return few or worst_of(ledger, sample, parts, lost, what="class", largest=True)


def _cycles(ledger: Ledger, sample: Sample, now: Tensor) -> Answer:
    """Rightness alternates: every loss but that of a row that was right from the start ends a cycle."""
    history = ledger.named("history")
    if len(history) < 2:
        return missing_input("history of at least two earlier checkpoints")
    right = torch.stack([*(ledger.right(name) for name in history), now])
    losses = (right[:-1] * (1 - right[1:])).sum(dim=0)
    cycles = losses - right[0] * (losses > 0)
    most = len(history) // 2
    readout = over_rows(
        ledger, sample, cycles.mean() / most, cycles / most, display=lambda share: share * most, wilson=True
    )
    return replace(readout, method="Wilson", detail=f"{len(right)} checkpoints")
