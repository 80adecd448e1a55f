"""How well every class is recognised."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gate.geometry.influence import Readout, Refusal
from gate.geometry.methods.rates import (
    OF_FEATURES,
    Parts,
    classes_of,
    extreme,
    lacks_classes,
    over_rows,
    shortened,
    two_classes,
    wilson_bounds,
    worst_of,
)
from gate.geometry.registry import Answer, Answers, higher, lower, metric, neither
from gate.geometry.statistics import Ledger, Sample

_IMBALANCE = 1.5  # the largest over the smallest class, from which there are a head and a tail
_BY_CHANCE = 0.001  # the probability with which equally frequent classes may be told apart all the same


@metric(
    unit="recall",
    greater_is_better=True,
    invariant_to=OF_FEATURES,
    needs={"labels"},
    kinds={"classifier", "sequence"},
    ranges={"worst": (1, 1000), "tau": (0.01, 0.999)},
    domain="2 classes and 30 rows of each; precision_c: 30 rows that are predicted as each",
    paper="standard; simultaneous bounds after Bonferroni",
    readouts={
        "uar": higher("mean recall of the classes: unweighted average recall, balanced accuracy"),
        "balanced_error": lower("1 - uar"),
        "std": lower("standard deviation of the recalls over classes, sampling noise included"),
        "worst_k": higher("mean recall of the classes with the lowest recall, `worst` of them"),
        "head_tail": lower("mean recall of the largest third of the classes minus that of the smallest third, by rows"),
        "precision_c": higher("share of right rows among those predicted as a class, for the worst class"),
        "accept_c": neither("share of the rows of a class whose largest probability reaches tau, for the worst class"),
    },
    limits={
        **dict.fromkeys(("value", "uar", "balanced_error", "worst_k", "precision_c", "accept_c"), (0.0, 1.0)),
        "std": (0, 0.5),
        "head_tail": (-1, 1),
    },
)
def worst_class_recall(ledger: Ledger, sample: Sample, *, worst: int = 5, tau: float = 0.95) -> Answers:
    """Recall floor and balance over classes: recall of the worst class.

    min over the classes of the labels of the share of their rows whose largest output is their class. The smallest of
    many noisy recalls lies below the smallest true one: its interval holds all classes at once.

    Args:
        ledger: Of the outputs (n, C) of all rows, with labels.
        sample: The sampled rows.
        worst: Classes that `worst_k` averages; all when there are fewer.
        tau: Probability from which a prediction is accepted.

    Returns:
        Recall in [0, 1], and read-outs.

    Raises:
        MetricError: No output stands for a label.
    """
    lacking = lacks_classes(ledger)
    if lacking:
        return lacking
    parts, right = classes_of(ledger), ledger.right()
    few = two_classes(parts)
    if few:
        return few
    recalls = parts.means(right)
    value = replace(worst_of(ledger, sample, parts, right, what="class"), c=parts.g)
    absent = ledger.c - parts.g
    if absent:
        value = replace(value, detail=f"{value.detail}; {absent} of {ledger.c} outputs have no rows and are not judged")
    accepted = (ledger.numbers("confidence") >= tau).double()
    return {
        "value": value,
        **_averages(ledger, sample, parts, right),
        "std": _spread(ledger, sample, parts, right),
        "worst_k": _worst_k(ledger, sample, parts, right, worst),
        "head_tail": _head_tail(ledger, sample, parts, right, recalls),
        "precision_c": _precision(ledger, sample, right),
        "accept_c": worst_of(ledger, sample, parts, accepted, what="class"),
    }


def _smoothed(parts: Parts, means: Tensor) -> Tensor:
    """Variance of the share of each part, (G,), with a right and a wrong row added: none is certain."""
    centre = (means * parts.counts + 1) / (parts.counts + 2)
    return centre * (1 - centre) / (parts.counts + 2)


def _averages(ledger: Ledger, sample: Sample, parts: Parts, right: Tensor) -> dict[str, Answer]:
    means = parts.means(right)
    terms = parts.influence(right, torch.full_like(means, 1 / parts.g))
    plain = over_rows(ledger, sample, means.mean(), terms, breakdown=shortened(parts.breakdown(means)))
    variance = float(_smoothed(parts, means).sum()) / parts.g**2
    centre = float(((means * parts.counts + 1) / (parts.counts + 2)).mean())
    uar = replace(plain, variance=variance, trials=centre * (1 - centre) / variance, method="Wilson, mean over classes")
    return {"uar": uar, "balanced_error": replace(uar, display=lambda natural: 1 - natural)}


def _spread(ledger: Ledger, sample: Sample, parts: Parts, right: Tensor) -> Readout:
    """Its square has noise of two kinds: that which follows the true differences, and that of noise alone."""
    means = parts.means(right)
    moved, noise = means - means.mean(), _smoothed(parts, means)
    squared = moved.square().mean()
    followed = 4 * ((moved.square() - noise) * noise).sum().clamp_min(0) + 2 * noise.square().sum()
    spread = squared.sqrt()
    weights = moved / (parts.g * spread) if float(spread) > 0 else torch.zeros_like(moved)
    readout = over_rows(ledger, sample, spread, parts.influence(right, weights), method="delta method, second order")
    scale = torch.maximum(squared, noise.mean())
    variance = float(followed / (4 * scale)) / parts.g**2
    alone = float((noise.mean() * (1 - 1 / parts.g)).sqrt())
    return replace(readout, variance=variance, detail=f"sampling noise alone gives {alone:.3f}")


def _worst_k(ledger: Ledger, sample: Sample, parts: Parts, right: Tensor, worst: int) -> Readout:
    means = parts.means(right)
    k = min(worst, parts.g)
    value, ends = extreme(means, wilson_bounds(means, parts.counts), largest=False, k=k)
    chosen = means.topk(k, largest=False).indices
    weights = torch.zeros_like(means).index_fill_(0, chosen, 1 / k)
    return over_rows(
        ledger,
        sample,
        value,
        parts.influence(right, weights),
        interval=ends,
        comparisons=parts.g,
        method="Wilson, all classes at once (Bonferroni)",
        detail=f"mean of {k} classes",
        breakdown={parts.names[code]: float(means[code]) for code in chosen.tolist()},
    )


def _head_tail(ledger: Ledger, sample: Sample, parts: Parts, right: Tensor, recalls: Tensor) -> Answer:
    """Classes of equal size stay together; sizes are those of the probe set, and differ by more than its noise."""
    third = max(1, parts.g // 3)
    ordered = parts.counts.sort().values
    expected = parts.counts.mean()
    excess = (parts.counts - expected).square().sum() / expected  # chi-square where all classes are drawn equally often
    chance = float(torch.special.gammaincc(torch.full_like(excess, (parts.g - 1) / 2), excess / 2))
    if float(ordered[-1]) < _IMBALANCE * float(ordered[0]) or chance > _BY_CHANCE:
        sizes = f"these have {int(ordered[0])} to {int(ordered[-1])} rows"
        return Refusal(
            "not_applicable",
            f"missing_input: it needs classes of different sizes, the largest {_IMBALANCE} times the smallest and "
            f"beyond what drawing balanced classes gives; {sizes}: balanced",
        )
    head, tail = parts.counts >= ordered[-third], parts.counts <= ordered[third - 1]
    if bool((head & tail).any()):
        return Refusal("not_applicable", "missing_input: it needs classes of different sizes; these are balanced")
    weights = head.double() / head.sum() - tail.double() / tail.sum()
    readout = over_rows(
        ledger, sample, weights @ recalls, parts.influence(right, weights), method="difference of mean proportions"
    )
    variance = float((weights.square() * _smoothed(parts, recalls)).sum())
    return replace(
        readout,
        variance=variance,
        detail=f"{int(head.sum())} classes of at least {int(ordered[-third])} rows, "
        f"{int(tail.sum())} of at most {int(ordered[third - 1])}",
    )


def _precision(ledger: Ledger, sample: Sample, right: Tensor) -> Answer:
    parts = Parts.of(ledger.names, ledger.predictions())
    few = parts.too_small(30, "small_class", "predicted class")
    if few:
        return few
    readout = worst_of(ledger, sample, parts, right, what="predicted class")
    absent = ledger.c - parts.g
    return replace(readout, detail=f"{readout.detail}; {absent} classes are never predicted") if absent else readout
