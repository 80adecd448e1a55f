"""Neighbourhoods of the sampled rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gate.geometry.influence import (
    Readout,
    Refusal,
    density_at_zero,
    effective_trials,
    margins_of,
    missing_input,
    noted,
    variance_of_mean,
)
from gate.geometry.registry import Answer, metric
from gate.geometry.statistics import Sample
from gate.geometry.statistics.batch import unit_rows

_TILE = 1024
_REFINE_TILE = 64
_SPARE = 8  # candidates beyond the k-th whose distances are computed again in float64


def nearest(rows: Tensor, k: int, *, refine: bool = True) -> Tensor:
    """Index of the k nearest other rows of each unit row, (m, k), nearest first; ties by row order.

    Candidates come from float32 products; the distances that decide are computed again in float64 by differences.
    """
    spare = min(len(rows) - 1, k + (_SPARE if refine else 0))
    found = []
    moved = rows - rows.mean(dim=0)  # in a tight cone the products of the rows themselves differ by rounding alone
    single = moved.float()
    half = moved.square().sum(dim=1).float() / 2
    for start in range(0, len(rows), _TILE):
        similar = single[start : start + _TILE] @ single.T - half
        own = torch.arange(len(similar), device=rows.device)
        similar[own, own + start] = -torch.inf
        found.append(similar.topk(spare, dim=1).indices)
    candidates = torch.cat(found)
    return _refined(rows.double(), candidates)[:, :k] if refine else candidates


def _refined(rows: Tensor, candidates: Tensor) -> Tensor:
    ordered = candidates.sort(dim=1).values
    parts = []
    for start in range(0, len(rows), _REFINE_TILE):
        picks = ordered[start : start + _REFINE_TILE]
        gaps = (rows[picks] - rows[start : start + _REFINE_TILE, None]).square().sum(dim=2)
        parts.append(picks.gather(1, gaps.argsort(dim=1, stable=True)))
    return torch.cat(parts)


@dataclass(frozen=True)
class _Graph:
    """Neighbours of the judged rows, and their classes."""

    codes: Tensor  # (m,)
    neighbours: Tensor  # (m, 2 k) where there are so many
    k: int

    @property
    def agree(self) -> Tensor:
        return (self.codes[self.neighbours] == self.codes[:, None]).double()

    def jackknife(self, k: int, among: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean agreement with the k nearest over some rows, and the influence of each row on it, (m,).

        Without a row, its own term goes, and whoever had it as a neighbour takes the next: on average one that agrees
        as often as those beyond the k-th.
        """
        agree = self.agree
        own = agree[:, :k].mean(dim=1)
        weight = torch.ones_like(own) if among is None else among.double() / among.double().mean()
        mean = (own * weight).mean()
        beyond = agree[:, k:] if agree.shape[1] > k else agree[:, k - 1 : k]
        change = weight[:, None] * (agree[:, :k] - beyond.mean(dim=1, keepdim=True)) / k
        as_neighbour = torch.zeros_like(own).index_add_(0, self.neighbours[:, :k].flatten(), change.flatten())
        return mean, weight * (own - mean) + as_neighbour


@metric(
    unit="agreement beyond chance",
    greater_is_better=True,
    invariant_to={"scaling", "row_scaling", "rotation", "permutation"},
    needs={"labels"},
    ranges={"k": (1, 200), "vote_k": (1, 1000), "tau": (0.01, 1)},
    domain="2 rows of each class; k is lowered to the smallest class less one",
    paper="standard; vote after Wu et al. 2018, Non-Parametric Instance-level Discrimination (constants recollected)",
    readouts={
        "raw": "share of the k nearest rows that have the row's label",
        "thornton": "raw for the single nearest row",
        "vote": "accuracy of a vote weighted by exp(cosine / tau) over 200 neighbours",
        "worst_class": "raw of the worst class",
        "recall@k": "share of the query rows (one hash fold) with their label among the k nearest of the others",
        "fine": "value for the finer of two label levels",
        "coarse": "value for the coarser of two label levels",
    },
    limits={
        "value": (-math.inf, 1),
        **dict.fromkeys(("raw", "thornton", "vote", "worst_class", "recall@k"), (0.0, 1.0)),
    },
)
def knn_label_agreement(sample: Sample, *, k: int = 20, vote_k: int = 200, tau: float = 0.07) -> dict[str, Answer]:
    """Do neighbours share the label: agreement of the k nearest rows on the sphere, beyond chance.

    (A - a0) / (1 - a0) for the mean share A of the k nearest unit rows that have the row's label, and its chance a0.
    Rows with equal inputs count once; k is lowered to the size of the smallest class less one.

    Args:
        sample: The sampled rows of features (n, d).
        k: Neighbours.
        vote_k: Neighbours that vote.
        tau: Temperature of the vote.

    Returns:
        Agreement of at most 1, 0 by chance, and read-outs.
    """
    later: dict[str, Answer] = dict.fromkeys(("fine", "coarse"), missing_input("two levels of labels"))
    names = ("value", "raw", "thornton", "vote", "worst_class", "recall@k")
    kept, refusal = _distinct(sample)
    if refusal:
        return {**dict.fromkeys(names, refusal), **later}
    labels = sample.rows.class_codes().rows(kept)
    counts = torch.bincount(labels.values, minlength=len(labels.names))
    smallest = int(counts[counts > 0].min())
    if int((counts > 0).sum()) < 2 or smallest < 2:
        few = Refusal("inconclusive", "small_class: it needs two classes of at least 2 rows each")
        return {**dict.fromkeys(names, few), **later}
    k = min(k, smallest - 1)
    rows, _ = unit_rows(sample.features[kept].double())
    graph = _Graph(labels.values, nearest(rows, min(2 * k, len(kept) - 1)), k)
    place = _Placement(sample.m, kept, k)
    answers = {
        "value": _chance_corrected(graph, counts, place),
        "raw": place.readout(*graph.jackknife(k)),
        "thornton": _single(graph, place),
        "vote": _vote(rows, graph.codes, min(vote_k, len(kept) - 1), tau, place),
        "worst_class": _worst_class(graph, labels.names, counts, place),
        "recall@k": _recall(graph, rows, sample.rows.hashes[kept] % 10 == 0, place),
    }
    if len(kept) == sample.m:
        return {**answers, **later}
    note = f"{sample.m - len(kept)} sampled rows repeat an input or have no direction and are left out"
    return {**{name: _noted(answer, note) for name, answer in answers.items()}, **later}


def _noted(answer: Answer, note: str) -> Answer:
    if not isinstance(answer, Readout):
        return answer
    return replace(answer, detail=noted(answer.detail, note))


@dataclass(frozen=True)
class _Placement:
    """Puts terms of the judged rows where they belong in the sample."""

    m: int
    kept: Tensor
    k: int

    def spread(self, terms: Tensor) -> Tensor:
        whole = torch.zeros(self.m, dtype=torch.float64, device=terms.device)
        whole[self.kept] = terms * (self.m / len(self.kept)) ** 0.5
        return whole

    def readout(self, share: Tensor, terms: Tensor, rows: int | None = None) -> Readout:
        """A share of neighbours: Wilson's interval for as many rows as its jackknife variance amounts to."""
        trials = effective_trials(share, variance_of_mean(terms, len(self.kept)), rows or len(self.kept))
        return Readout(
            share,
            influence=self.spread(terms),
            trials=trials,
            n=len(self.kept),
            k=self.k,
            method="Wilson, jackknife over rows",
        )


def _distinct(sample: Sample) -> tuple[Tensor, Refusal | None]:
    """The sampled rows that have a direction, the first of every group of equal inputs."""
    _, alive = unit_rows(sample.features.double())
    _, inverse = sample.rows.fingerprints.unique(return_inverse=True)
    first = torch.full((int(inverse.max()) + 1,), sample.m, device=inverse.device)
    order = torch.arange(sample.m, device=inverse.device)
    first.scatter_reduce_(0, inverse, order, "amin")
    kept = first[alive[first]].sort().values
    if len(kept) < max(sample.m / 2, 3):
        reason = f"duplicates: only {len(kept)} of {sample.m} sampled rows have an input of their own and a direction"
        return kept, Refusal("inconclusive", reason)
    return kept, None


def _chance_corrected(graph: _Graph, counts: Tensor, place: _Placement) -> Readout:
    raw, terms = graph.jackknife(graph.k)
    m = len(graph.codes)
    chance = float((counts * (counts - 1)).sum()) / (m * (m - 1))
    shares = counts.double() / m
    by_chance = 2 * (shares[graph.codes] - shares.square().sum())
    value = (raw - chance) / (1 - chance)
    return replace(
        place.readout(raw, terms - (1 - value) * by_chance), display=lambda natural: (natural - chance) / (1 - chance)
    )


def _worst_class(graph: _Graph, names: tuple[str, ...], counts: Tensor, place: _Placement) -> Readout:
    own = graph.agree[:, : graph.k].mean(dim=1)
    means = torch.zeros(len(names), dtype=torch.float64, device=own.device).index_add_(0, graph.codes, own) / counts
    worst = int(means.nan_to_num(2.0).argmin())
    breakdown = {name: float(mean) for name, mean, count in zip(names, means, counts, strict=True) if count > 0}
    value, terms = graph.jackknife(graph.k, graph.codes == worst)
    return replace(
        place.readout(value, terms, int(counts[worst])),
        comparisons=len(breakdown),
        c=len(breakdown),
        detail=f"worst class {names[worst]!r}",
        breakdown=breakdown,
    )


def _single(graph: _Graph, place: _Placement) -> Readout:
    """Agreement with the one nearest row.

    A single neighbour changes by leaps, so that the jackknife reads far too much; the variance is summed over the
    pairs of rows whose terms share a row: a row and its nearest one, and two rows with the same nearest one.
    """
    nearest_one = graph.neighbours[:, 0]
    share, terms = graph.jackknife(1)
    own = graph.agree[:, 0] - share
    order = torch.arange(len(own), device=own.device)
    mutual = nearest_one[nearest_one] == order
    along = (own * own[nearest_one] * torch.where(mutual, 0.5, 1.0)).sum()
    siblings = torch.zeros_like(own).index_add_(0, nearest_one, own).square().sum() - own.square().sum()
    spread = own.square().sum()
    variance = torch.maximum(spread + 2 * along + siblings, spread).item() / len(own) ** 2
    readout = place.readout(share, terms)
    return replace(
        readout,
        variance=variance,
        trials=effective_trials(share, variance, len(own)),
        method="Wilson, variance over pairs that share a row",
        k=1,
    )


def _vote(rows: Tensor, codes: Tensor, k: int, tau: float, place: _Placement) -> Readout:
    """Accuracy of a weighted vote; a row moves it by its own term and, as a voter, by the rows that it tips."""
    neighbours = nearest(rows, k, refine=False)
    weights = _vote_weights(rows, neighbours, tau)
    votes = torch.zeros(len(rows), int(codes.max()) + 1, dtype=torch.float64, device=rows.device)
    votes.scatter_add_(1, codes[neighbours], weights)
    margins, rivals = margins_of(votes, codes)
    correct = (margins > 0).double()
    voted = codes[neighbours]
    sides = (voted == codes[:, None]).double() - (voted == rivals[:, None]).double()
    pull = density_at_zero(margins)[:, None] * weights * (sides - margins[:, None])
    as_voter = torch.zeros_like(correct).index_add_(0, neighbours.flatten(), pull.flatten())
    readout = place.readout(correct.mean(), correct - correct.mean() + as_voter)
    return replace(readout, k=k, method="Wilson, own and cast votes")


def _vote_weights(rows: Tensor, neighbours: Tensor, tau: float) -> Tensor:
    """exp(cosine / tau) of each neighbour, over its sum, (m, k)."""
    single = rows.float()
    tiles = (slice(start, start + _REFINE_TILE) for start in range(0, len(rows), _REFINE_TILE))
    cosines = [torch.einsum("td,tkd->tk", single[tile], single[neighbours[tile]]) for tile in tiles]
    return (torch.cat(cosines).double() / tau).softmax(dim=1)


def _recall(graph: _Graph, rows: Tensor, queries: Tensor, place: _Placement) -> Answer:
    if int(queries.sum()) < 30 or int((~queries).sum()) < graph.k:
        return Refusal("inconclusive", f"few_rows: {int(queries.sum())} query rows; it needs at least 30")
    gallery = (~queries).nonzero()[:, 0]
    similar = rows[queries] @ rows[gallery].T
    nearest_ones = gallery[similar.topk(graph.k, dim=1).indices]
    hits = (graph.codes[nearest_ones] == graph.codes[queries][:, None]).any(dim=1).double()
    terms = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    value = hits.mean()
    terms[queries] = (hits - value) * (len(rows) / len(hits))
    return Readout(
        value, influence=place.spread(terms), trials=len(hits), n=len(rows), k=graph.k, method="Wilson, query rows"
    )
