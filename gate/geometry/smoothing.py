"""Depth: do the tokens of one input become alike."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import (
    Readout,
    Refusal,
    missing_input,
    noted,
    proportion,
    row_mean,
)
from gate.geometry.registry import Answer, higher, lower, metric, neither
from gate.geometry.statistics import Sample, TokenCentres, TokenMeans
from gate.geometry.statistics.batch import per_live_row
from gate.geometry.statistics.tokens import FEWEST, QUANTITIES, TERMS, dead_tokens, token_quantities

_FEW_TEXTS = 200
_DEAD = 0.05  # share of dead tokens, or of inputs lost to them, above which the others do not stand for all
_SMOOTH = 0.1  # share of the baseline's median diversity below which an input counts as over-smoothed


@metric(
    unit="cosine",
    greater_is_better=False,
    invariant_to={"scaling", "row_scaling", "rotation", "permutation"},
    unasserted={"translation", "channel_scaling", "linear_map"},
    domain="200 inputs of at least 4 tokens",
    kinds={"sequence", "backbone"},
    paper="after Tang et al. 2021, Augmented Shortcuts for Vision Transformers (residual form recollected); identity "
    "standard. layer_overlap: angles of Björck and Golub 1973, summary of Kornblith et al. 2019 (R2 of CCA, uncentred)",
    readouts={
        "rise": lower("value at the last layer less that at the middle one"),
        "diversity": higher("|Z - 1 z^T|_F / |Z|_F of the tokens Z of an input and their mean z"),
        "pairs09": lower("share of the pairs of tokens of one input with a cosine above 0.9"),
        "low_share": lower(
            "share of inputs whose diversity is below a tenth of the baseline's median", needs={"baseline_tokens"}
        ),
        "between_share": lower(
            "share of the variance of the tokens, their common mean removed, that lies between inputs",
            needs={"token_mean"},
        ),
        "dirichlet": higher(
            "share of the energy of node states that varies along the edges of their graph", needs={"dirichlet"}
        ),
        "layer_overlap": neither(
            "mean squared cosine of the principal angles between what the token states of an input span "
            "at a layer and at the next"
        ),
        "per_output": lower("value over the generated tokens alone"),
    },
    limits={
        "value": (-1, 1),
        "rise": (-2, 2),
        "diversity": (0, 1),
        "pairs09": (0, 1),
        "low_share": (0, 1),
        "between_share": (0, 1),
        "dirichlet": (0, math.inf),
        "layer_overlap": (0, 1),
        "per_output": (-1, 1),
    },
    reads={"baseline_tokens", "dirichlet"},
)
def token_mean_cosine(tokens: TokenMeans, sample: Sample, centres: TokenCentres | None = None) -> dict[str, Answer]:
    """Over-smoothing: tokens or patches of one input become parallel at the last layer.

    Mean over inputs of (|sum of unit tokens|^2 - T) / (T (T - 1)), exactly the mean cosine of two tokens; real tokens
    only, every input counts alike, inputs with fewer than 4 tokens are left out and counted. There is no answer where
    more than 5 % of the real tokens are zero, or of the inputs have no 4 others. A common offset of all tokens reads
    high without any smoothing: `between_share` is the intraclass correlation of the mean-removed tokens, which an
    offset does not move.

    `layer_overlap` compares the column spaces of the states (tokens x channels) at two layers that follow each other:
    |Q^T P|_F^2 / min(r, s) for orthonormal bases Q and P of ranks r and s, a mean over the steps from layer to layer
    and over inputs. 1 where one space holds the other, 0 where they are orthogonal, max(r, s) / T on average for spaces
    of T tokens that have nothing to do with each other: its detail names that number. An invertible linear map of the
    channels leaves it as it is; a common offset of the tokens, or a factor for each token, does not. Inputs whose
    states span all of their tokens at a layer are left out: their angles are 0 by dimension alone.

    Args:
        tokens: Means over rows of what their tokens are like, by layer.
        sample: The sampled rows.
        centres: Spread of the mean tokens, where they are given.

    Returns:
        Cosine in [-1/3, 1], and read-outs.
    """
    names = ("value", "rise", "diversity", "pairs09", "between_share", "per_output")
    found = int(tokens.counts[-1, 0])
    enough = found >= _FEW_TEXTS
    reason = f"few_rows: {found} of {tokens.n} inputs have at least 4 tokens; it needs at least {_FEW_TEXTS}"
    few = Refusal("inconclusive", reason, math.ceil(_FEW_TEXTS * tokens.n / max(found, 1)))
    middle = (len(tokens.layers) - 1) // 2
    dead = _zero_rows(tokens.dead[-1], tokens.layers[-1])
    dead_before = _zero_rows(tokens.dead[middle], tokens.layers[middle])
    note = _left_out(tokens)
    answers = {
        "value": _layered(tokens, "cosine", note),
        "rise": _rise(tokens),
        "diversity": _diversity(tokens, note),
        "pairs09": _layered(tokens, "pairs09", note),
        "between_share": _between_share(tokens, centres),
        "per_output": _per_output(tokens),
    }
    return {
        **{name: answers[name] if enough or isinstance(answers[name], Refusal) else few for name in names},
        "low_share": _low_share(sample) if enough else few,
        **(dict.fromkeys((*names, "low_share"), dead) if dead else {}),
        **({"rise": dead_before} if dead_before and not dead and len(tokens.layers) > 1 else {}),
        "dirichlet": _dirichlet(sample),
        "layer_overlap": _layer_overlap(tokens, sample),
    }


def _zero_rows(sums: Tensor, layer: str) -> Refusal | None:
    """The refusal when too many tokens that the mask calls real are zero, from `dead_tokens`."""
    real, dead, inputs, lost = (int(each) for each in sums)
    if dead <= _DEAD * real and lost <= _DEAD * inputs:
        return None
    return Refusal(
        "inconclusive",
        f"zero_rows: {dead} of {real} real tokens of layer {layer!r} are zero, and {lost} of {inputs} inputs have "
        "fewer than 4 others; leave padding out by token_mask",
    )


def _left_out(tokens: TokenMeans) -> str | None:
    _, _, inputs, lost = (int(each) for each in tokens.dead[-1])
    notes = [f"{tokens.n - inputs} inputs with fewer than 4 tokens left out"] if tokens.n > inputs else []
    notes += [f"{lost} inputs with fewer than 4 tokens that are not zero left out"] if lost else []
    return "; ".join(notes) or None


def _quantity(tokens: TokenMeans, name: str) -> Tensor:
    """Mean over rows at every layer, (L,)."""
    return tokens.means[:, QUANTITIES.index(name)]


def _layered(tokens: TokenMeans, name: str, note: str | None) -> Readout:
    values = _quantity(tokens, name)
    return Readout(
        values[-1],
        method="mean over rows",
        detail=note,
        breakdown=dict(zip(tokens.layers, values.tolist(), strict=True)),
    )


def _rise(tokens: TokenMeans) -> Answer:
    if len(tokens.layers) < 2:
        return missing_input("tokens of two layers")
    middle = (len(tokens.layers) - 1) // 2
    cosines = _quantity(tokens, "cosine")
    return Readout(
        cosines[-1] - cosines[middle],
        method="mean over rows",
        detail=f"from {tokens.layers[middle]!r} to {tokens.layers[-1]!r}",
    )


def _diversity(tokens: TokenMeans, note: str | None) -> Readout:
    """At the last layer; the detail tells how fast it falls: least squares of its logarithm on the layer number."""
    plain = _layered(tokens, "diversity", note)
    logs = _quantity(tokens, "diversity").detach().log()
    if len(logs) < 2 or not bool(torch.isfinite(logs).all()):
        return plain
    place = torch.arange(len(logs), dtype=torch.float64, device=logs.device)
    place -= place.mean()
    slope = (place @ logs / place.square().sum()).item()
    return replace(plain, detail=noted(note, f"slope of its logarithm {slope:.3g} per named layer"))


def _between_share(tokens: TokenMeans, centres: TokenCentres | None) -> Answer:
    """B / (B + W): W the variance of a token about its input's mean, B that of the means less what W adds to it."""
    if centres is None:
        return missing_input("token_mean")
    within, noise = _quantity(tokens, "variance")[-1], _quantity(tokens, "mean_noise")[-1]
    between = centres.within[0] * (centres.n / max(centres.n - 1, 1)) - noise
    total = (between + within).item()
    if total <= 0:
        return Refusal("inconclusive", "saturated: every token of every input is the same")
    return Readout(between / (between + within))


def _per_output(tokens: TokenMeans) -> Answer:
    found = int(tokens.counts[-1, QUANTITIES.index("output_cosine")])
    if found == 0:
        return missing_input("token_outputs: which tokens are generated")
    if found < _FEW_TEXTS:
        reason = f"few_rows: {found} inputs have at least 4 generated tokens; it needs at least {_FEW_TEXTS}"
        return Refusal("inconclusive", reason)
    return Readout(_quantity(tokens, "output_cosine")[-1], method="mean over rows", detail=f"{found} inputs")


def _low_share(sample: Sample) -> Answer:
    layers, earlier = list(sample.rows.named("tokens")), list(sample.rows.named("baseline_tokens"))
    if not earlier:
        return missing_input("baseline_tokens")
    column = QUANTITIES.index("diversity")
    values, exists = token_quantities(sample.rows.numbers(f"tokens.{layers[-1]}"))
    terms = sample.rows.numbers(f"baseline_tokens.{earlier[-1]}")
    before, known = token_quantities(terms)
    if not bool(torch.isfinite(before[known]).all()):
        raise MetricError("nonfinite_rows: token states of the baseline hold NaN or infinity")
    dead = _zero_rows(dead_tokens(terms), f"baseline {earlier[-1]}")
    if dead:
        return dead
    if not bool(known[:, column].any()):
        return Refusal("inconclusive", "few_rows: no input of the baseline has at least 4 tokens")
    limit = _SMOOTH * before[known[:, column], column].median()
    low = (values[:, column] < limit) & exists[:, column]
    alone = proportion(low[exists[:, column]], method="Wilson over rows")
    influence = per_live_row(low.double() - alone.natural, exists[:, column])
    return replace(alone, influence=influence, detail=f"diversity below {limit.item():.3g}")


def _dirichlet(sample: Sample) -> Answer:
    if not sample.rows.has({"dirichlet"}):
        return missing_input("dirichlet")
    terms = sample.rows.numbers("dirichlet")
    if not bool(torch.isfinite(terms).all()):
        raise MetricError("nonfinite_rows: dirichlet holds NaN or infinity; a graph of zero states has no energy")
    if len(terms) < _FEW_TEXTS:
        reason = f"few_rows: {len(terms)} inputs; it needs at least {_FEW_TEXTS}"
        return Refusal("inconclusive", reason, _FEW_TEXTS)
    return row_mean(terms)


def _layer_overlap(tokens: TokenMeans, sample: Sample) -> Answer:
    """Mean over the inputs of which no step between two layers has angles that are fixed by dimension alone."""
    steps = [sample.rows.numbers(f"tokens.{layer}")[:, len(TERMS) :] for layer in tokens.layers[1:]]
    if not steps or not all(each.shape[1] for each in steps):
        return missing_input("states of two layers or more, of the same tokens")
    for sums, layer in zip(tokens.dead, tokens.layers, strict=True):
        if dead := _zero_rows(sums, layer):
            return dead
    live, before, after, overlap = torch.stack(steps).double().unbind(dim=2)
    larger, smaller = torch.maximum(before, after), torch.minimum(before, after)
    short = (live < FEWEST).any(dim=0)
    empty = (smaller == 0).any(dim=0) & ~short
    full = (larger >= live).any(dim=0) & ~short & ~empty
    exists = ~(short | empty | full)
    left_out = (
        f"{int(short.sum())} with fewer than 4 tokens, {int(empty.sum())} with no state but zero at a layer, "
        f"{int(full.sum())} whose states span all of their tokens at a layer"
    )
    found = int(exists.sum())
    if bool(full.all()):
        return Refusal(
            "not_applicable",
            "saturated: the states of every input span all of its tokens at a layer, which makes the angles 0 whatever "
            "the layers do; it needs more tokens than channels",
        )
    if found < _FEW_TEXTS:
        reason = f"few_rows: {found} of {sample.m} inputs have angles; it needs at least {_FEW_TEXTS}; left out: "
        needed = math.ceil(_FEW_TEXTS * sample.m / found) if found else None
        return Refusal("inconclusive", reason + left_out, needed)
    unrelated = (larger / live)[:, exists].mean().item()
    detail = f"layers that have nothing to do with each other would read {unrelated:.3g}"
    means = overlap.mean(dim=0)
    value = means[exists].mean()
    return Readout(
        value,
        influence=per_live_row(means - value, exists),
        n=sample.m,
        method="mean over rows",
        detail=detail if found == sample.m else noted(detail, f"left out: {left_out}"),
        breakdown=dict(zip(tokens.layers[1:], overlap[:, exists].mean(dim=1).tolist(), strict=True)),
    )
