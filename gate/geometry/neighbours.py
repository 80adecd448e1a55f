"""Neighbourhoods of the sampled rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gate.geometry.influence import Readout, Refusal, missing_input
from gate.geometry.intervals import effective_trials
from gate.geometry.methods.cross_search import shared_row_covariance
from gate.geometry.methods.margins import density_at_zero, margins_of
from gate.geometry.methods.placement import Placement, distinct_rows, possible_neighbours
from gate.geometry.methods.search import nearest
from gate.geometry.registry import Answer, Later, higher, metric
from gate.geometry.statistics import Codes, Sample
from gate.geometry.statistics.batch import unit_rows

_REFINE_TILE = 64


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
    domain="2 rows of each class in 2 clusters; k is lowered to the smallest class less one",
    reads={"sublabels"},
    paper="standard; vote after Wu et al. 2018, Non-Parametric Instance-level Discrimination (constants recollected)",
    readouts={
        "raw": higher("share of the k nearest rows that have the row's label"),
        "thornton": higher("raw for the single nearest row"),
        "vote": higher("accuracy of a vote weighted by exp(cosine / tau) over 200 neighbours"),
        "worst_class": higher("raw of the worst class"),
        "recall@k": higher(
            "share of the query rows (one hash fold) with their label among the k nearest of the others"
        ),
        "fine": higher("value for the subclasses", needs={"sublabels"}),
        "coarse": higher("value for the classes, beside it", needs={"sublabels"}),
    },
    limits={
        **dict.fromkeys(("value", "fine", "coarse"), (-math.inf, 1.0)),
        **dict.fromkeys(("raw", "thornton", "vote", "worst_class", "recall@k"), (0.0, 1.0)),
    },
)
def knn_label_agreement(
    sample: Sample, *, k: int = 20, vote_k: int = 200, tau: float = 0.07
) -> dict[str, Answer | Later] | Refusal:
    """Do neighbours share the label: agreement of the k nearest rows on the sphere, beyond chance.

    (A - a0) / (1 - a0) for the mean share A of the k nearest unit rows that have the row's label, and its chance a0.
    Rows with equal inputs count once, rows of one cluster are never neighbours; k is lowered to the smallest class less
    one.

    Args:
        sample: The sampled rows of features (n, d).
        k: Neighbours.
        vote_k: Neighbours that vote.
        tau: Temperature of the vote.

    Returns:
        Agreement of at most 1, 0 by chance, and read-outs.
    """
    kept, refusal = distinct_rows(sample)
    if refusal:
        return refusal
    rows, _ = unit_rows(sample.features[kept].double())
    clusters = None if sample.clusters is None else sample.clusters[kept]
    level = _Level.of(sample.rows.class_codes().rows(kept), clusters)
    k = min(k, level.smallest)
    if k < 1:
        return _small_class()
    neighbours = nearest(rows, min(2 * k, level.reach), clusters=clusters)
    graph, place = _Graph(level.codes.values, neighbours, k), Placement(sample.m, kept, k)
    value = _chance_corrected(graph, level, place)

    def vote() -> Answer:
        voters = nearest(rows, min(vote_k, level.reach), clusters=clusters, refine=False)
        return place.noted(_vote(rows, graph.codes, voters, tau, place))

    def recall() -> Answer:
        return place.noted(_recall(graph, rows, clusters, sample.rows.hashes[kept] % 10 == 0, place))

    answers: dict[str, Answer] = {
        "value": value,
        "raw": place.readout(*graph.jackknife(k)),
        "thornton": _single(graph, place),
        "worst_class": _worst_class(graph, level.codes.names, place),
        **_levels(sample, clusters, neighbours, value, place),
    }
    return {**{name: place.noted(answer) for name, answer in answers.items()}, "vote": vote, "recall@k": recall}


def _small_class() -> Refusal:
    return Refusal(
        "inconclusive",
        "small_class: it needs two classes of at least 2 rows each, and rows of every class in two clusters",
    )


@dataclass(frozen=True)
class _Level:
    """The classes of the judged rows, and which rows may be neighbours.

    Attributes:
        codes: Of m rows.
        same: (m,) rows of the same class and another cluster.
        others: (m,) rows of another cluster; all but the row itself where rows are independent.
    """

    codes: Codes
    same: Tensor
    others: Tensor

    @classmethod
    def of(cls, codes: Codes, clusters: Tensor | None) -> _Level:
        values = codes.values
        own = torch.arange(len(values), device=values.device) if clusters is None else clusters
        names, cluster = own.unique(return_inverse=True)
        _, cell, together = (values * len(names) + cluster).unique(return_inverse=True, return_counts=True)
        return cls(codes, codes.counts()[values] - together[cell], possible_neighbours(values, clusters))

    @property
    def smallest(self) -> int:
        """Neighbours of its own class that every row can have; none where there is one class only."""
        return int(self.same.min()) if int((self.codes.counts() > 0).sum()) > 1 else 0

    @property
    def reach(self) -> int:
        """Neighbours that every row can have."""
        return int(self.others.min())

    @property
    def chance(self) -> float:
        """Share of possible neighbours that have a row's class, on average."""
        return (self.same / self.others).mean().item()


def _levels(
    sample: Sample, clusters: Tensor | None, neighbours: Tensor, value: Readout, place: Placement
) -> dict[str, Answer]:
    """Agreement in the subclasses (fine) and in the classes they are of (coarse)."""
    codes = sample.rows.codes("sublabels")
    if codes is None:
        return dict.fromkeys(("fine", "coarse"), missing_input("sublabels, a finer level of labels"))
    level = _Level.of(codes.rows(place.kept), clusters)
    k = min(place.k, level.smallest)
    if k < 1:
        return {"fine": _small_class(), "coarse": value}
    graph = _Graph(level.codes.values, neighbours[:, : 2 * k], k)
    fine = _chance_corrected(graph, level, Placement(place.m, place.kept, k))
    return {"fine": replace(fine, c=len(level.codes.names)), "coarse": value}


def _chance_corrected(graph: _Graph, level: _Level, place: Placement) -> Readout:
    raw, terms = graph.jackknife(graph.k)
    chance = level.chance
    shares = level.codes.counts().double() / len(graph.codes)
    by_chance = 2 * (shares[graph.codes] - shares.square().sum())
    value = (raw - chance) / (1 - chance)
    return replace(
        place.readout(raw, terms - (1 - value) * by_chance), display=lambda natural: (natural - chance) / (1 - chance)
    )


def _worst_class(graph: _Graph, names: tuple[str, ...], place: Placement) -> Readout:
    counts = torch.bincount(graph.codes, minlength=len(names))
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


def _single(graph: _Graph, place: Placement) -> Readout:
    """Agreement with the one nearest row.

    A single neighbour changes by leaps, so that the jackknife reads far too much; the variance is summed over the
    pairs of rows whose terms share a row: a row and its nearest one, and two rows with the same nearest one.
    """
    nearest_one = graph.neighbours[:, 0]
    share, terms = graph.jackknife(1)
    own = graph.agree[:, 0] - share
    shared = shared_row_covariance(nearest_one, own, nearest_one, own)
    variance = max(shared, float(own.square().sum())) / len(own) ** 2
    readout = place.readout(share, terms)
    return replace(
        readout,
        variance=variance,
        trials=effective_trials(share, variance, len(own)),
        method="Wilson, variance over pairs that share a row",
        k=1,
    )


def _vote(rows: Tensor, codes: Tensor, neighbours: Tensor, tau: float, place: Placement) -> Readout:
    """Accuracy of a weighted vote; a row moves it by its own term and, as a voter, by the rows that it tips."""
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
    return replace(readout, k=neighbours.shape[1], method="Wilson, own and cast votes")


def _vote_weights(rows: Tensor, neighbours: Tensor, tau: float) -> Tensor:
    """exp(cosine / tau) of each neighbour, over its sum, (m, k)."""
    single = rows.float()
    tiles = (slice(start, start + _REFINE_TILE) for start in range(0, len(rows), _REFINE_TILE))
    cosines = [torch.einsum("td,tkd->tk", single[tile], single[neighbours[tile]]) for tile in tiles]
    return (torch.cat(cosines).double() / tau).softmax(dim=1)


def _recall(graph: _Graph, rows: Tensor, clusters: Tensor | None, queries: Tensor, place: Placement) -> Answer:
    if int(queries.sum()) < 30 or int((~queries).sum()) < graph.k:
        return Refusal("inconclusive", f"few_rows: {int(queries.sum())} query rows; it needs at least 30")
    gallery = (~queries).nonzero()[:, 0]
    similar = rows[queries] @ rows[gallery].T
    if clusters is not None:
        similar.masked_fill_(clusters[queries][:, None] == clusters[gallery], -torch.inf)
    found = similar.topk(graph.k, dim=1)
    if bool(found.values.isinf().any()):
        return Refusal("inconclusive", f"few_rows: a query row has fewer than {graph.k} rows of other clusters to find")
    nearest_ones = gallery[found.indices]
    hits = (graph.codes[nearest_ones] == graph.codes[queries][:, None]).any(dim=1).double()
    terms = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    value = hits.mean()
    terms[queries] = (hits - value) * (len(rows) / len(hits))
    return Readout(
        value, influence=place.spread(terms), trials=len(hits), n=len(rows), k=graph.k, method="Wilson, query rows"
    )
