"""Whether the queries of one version can search an index that another version has built."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gate.geometry.influence import Readout, Refusal, variance_of_mean
from gate.geometry.intervals import count_interval, effective_trials, ratio_interval
from gate.geometry.methods.cross_search import CANDIDATES, Contrast, Index
from gate.geometry.methods.placement import Placement, distinct_rows
from gate.geometry.registry import Answer, Answers, higher, metric
from gate.geometry.statistics import Codes, Sample
from gate.geometry.statistics.batch import unit_rows

_TILE = 1024
_LEAST = 200  # queries
_METHOD = "paired difference, variance over pairs that share a row"


@metric(
    unit="recall@1",
    greater_is_better=True,
    invariant_to={"scaling", "row_scaling"},
    needs={"baseline", "labels"},
    domain="200 rows; versions of one dimension",
    paper="criterion of Shen et al. 2020 (recollected); AC, AM after Biondi et al. 2023, CL2R; error derived here",
    readouts={
        "update_gain": higher(
            "share of what the new version gains on an index of its own that it keeps on the old one"
        ),
        "AC": higher(
            "share of pairs of versions in which the later one searches the earlier index no worse, up to one error"
        ),
        "AM": higher("mean accuracy over all pairs of versions, each with itself too"),
        "BC": higher("mean change on each earlier index when the newest version asks in place of its own"),
        "FC": higher("mean accuracy on the index of the version before minus that on its own"),
        "pair_share": higher("share of pairs of rows that the new query tells from the old index at least as well"),
    },
    limits={
        **dict.fromkeys(("value", "BC", "FC"), (-1.0, 1.0)),
        **dict.fromkeys(("AC", "AM", "pair_share"), (0.0, 1.0)),
    },
    reads={"earlier"},
    elsewhere="one published code counts ties as failures, so that an unchanged model has AC 0",
)
def cross_compat_gain(sample: Sample) -> Answers:
    """Can new queries search an index built with the old version: change of recall@1 against old queries.

    A(new, old) - A(old, old), where A(q, g) is the share of rows whose nearest unit row of version g, among all other
    rows, has their label, with the row itself as version q has it. Versions of another dimension need a new index.
    Rows with equal inputs count once, rows of one cluster are never found for each other.

    Args:
        sample: The sampled rows of features (n, d), of the baseline, and of the versions before it.

    Returns:
        -1 to 1, and read-outs; over more than two versions with the column `earlier`.
    """
    rows = sample.rows
    earlier = [column for column in rows.named("earlier").values() if isinstance(column, Tensor)]
    old, new = rows.numbers("baseline"), rows.numbers("features")
    if old.shape[1] != new.shape[1]:
        return _other_dimension(old.shape[1], new.shape[1])
    kept, refusal = distinct_rows(sample, "baseline")
    if refusal is None and len(kept) < _LEAST:
        refusal = Refusal("inconclusive", f"few_rows: found {len(kept)} rows; it needs {_LEAST} queries", _LEAST)
    clusters = None if sample.clusters is None else sample.clusters[kept]
    refusal = refusal or _unsearchable(rows.class_codes().rows(kept), clusters)
    if refusal:
        return refusal
    odd = [column.shape[1] for column in earlier if column.shape[1] != new.shape[1]]
    versions = [unit_rows(column[kept].double())[0] for column in (*([] if odd else earlier), old, new)]
    index = Index(versions, rows.class_codes().values[kept], clusters)
    place = Placement(sample.m, kept, 1)
    found = {
        "value": _difference(index, index.gain(index.newest, index.newest - 1), place),
        "update_gain": _update_gain(index, place),
        "pair_share": _pair_share(versions[-2], versions[-1], index.codes, clusters, place),
        **(
            dict.fromkeys(("AC", "AM", "BC", "FC"), _other_dimension(odd[0], new.shape[1]))
            if odd
            else _over(index, place)
        ),
    }
    return {name: place.noted(answer) for name, answer in found.items()}


def _other_dimension(old: int, new: int) -> Refusal:
    reason = f"dim_mismatch: an index of dimension {old} cannot be searched with queries of dimension {new}; re-index"
    return Refusal("not_applicable", reason)


def _unsearchable(codes: Codes, clusters: Tensor | None) -> Refusal | None:
    """The refusal where there is one class only, or too few rows outside a cluster to find any."""
    if int((codes.counts() > 0).sum()) < 2:
        return Refusal("inconclusive", "small_class: all rows are of one class; it needs two")
    if clusters is not None and len(codes) - int(clusters.unique(return_counts=True)[1].max()) < CANDIDATES:
        return Refusal("inconclusive", f"few_clusters: a cluster leaves fewer than {CANDIDATES} rows of others to find")
    return None


def _difference(index: Index, contrast: Contrast, place: Placement) -> Readout:
    """A paired difference of shares; half a row is added to each way of differing (Agresti and Min 2005)."""
    return Readout(
        index.value(contrast),
        influence=place.spread(index.influence(contrast)),
        variance=index.variance(contrast) + 2 / index.rows**2,
        n=index.rows,
        k=1,
        method=_METHOD,
    )


def _update_gain(index: Index, place: Placement) -> Answer:
    """The gain on the old index over the gain on an index of its own, where there is one.

    A gain of its own is at least that of one row: no set of rows reads more than their number.
    """
    new, old = index.newest, index.newest - 1
    gain, whole = index.gain(new, old), Contrast.of((new, new)).minus(Contrast.of((old, old)))
    gained, rows = float(index.value(whole)), index.rows
    above, below, apart = (index.variance(each) + 2 / rows**2 for each in (gain, whole, gain.minus(whole)))
    error = math.sqrt(below)
    if not gained > 2 * error:
        reason = f"saturated: the new version alone gains {gained:.4f}, no more than two errors of {error:.4f}"
        return Refusal("inconclusive", reason)
    ratio = index.value(gain) / gained
    rest = gain.minus(whole, float(ratio))
    covariance = (above + below - apart) / 2
    return Readout(
        ratio,
        influence=place.spread(index.influence(rest)) / gained,
        variance=(index.variance(rest) + 2 / rows**2) / gained**2,
        interval=ratio_interval(float(index.value(gain)), gained, (above, below), covariance, reach=rows),
        n=rows,
        k=1,
        method="ratio of paired differences (Fieller)",
    )


def _over(index: Index, place: Placement) -> dict[str, Answer]:
    """What is said of all versions."""
    newest = index.newest
    backward = Contrast.mean([index.gain(newest, g) for g in range(newest)])
    forward = [Contrast.of((q, q - 1)).minus(Contrast.of((q, q))) for q in range(1, newest + 1)]
    return {
        "AC": _compatible_pairs(index),
        "AM": _mean_accuracy(index, place),
        "BC": _difference(index, backward, place),
        "FC": _difference(index, Contrast.mean(forward), place),
    }


def _mean_accuracy(index: Index, place: Placement) -> Readout:
    mean = Contrast.mean([Contrast.of(pair) for pair in index.searches])
    value = index.value(mean)
    variance = index.variance(mean) + 1 / index.rows**2  # half a row that finds and half a row that does not
    matrix = {f"version {q + 1} on index {g + 1}": float(each.accuracy) for (q, g), each in index.searches.items()}
    return Readout(
        value,
        influence=place.spread(index.influence(mean)),
        variance=variance,
        trials=effective_trials(value, variance, index.rows),
        n=index.rows,
        k=1,
        method="Wilson, variance over pairs that share a row",
        breakdown=matrix,
    )


def _compatible_pairs(index: Index) -> Readout:
    """Share of pairs of versions with a gain of at least minus one of its errors: equal versions are compatible."""
    gains = [index.gain(q, g) for q, g in index.searches if q > g]
    errors = torch.tensor([math.sqrt(index.variance(gain)) for gain in gains], dtype=torch.float64)
    values = torch.tensor([float(index.value(gain)) for gain in gains], dtype=torch.float64)
    short = -values - errors - torch.finfo(torch.float64).eps
    return Readout(
        (short < 0).double().mean(),
        interval=count_interval(short, errors),
        n=index.rows,
        k=1,
        method="count, from the error of each pair",
        detail=f"{int((short < 0).sum())} of {len(gains)} pairs of versions",
    )


def _pair_share(old: Tensor, new: Tensor, codes: Tensor, clusters: Tensor | None, place: Placement) -> Answer:
    """Share of ordered pairs of rows whose distance from new query to old row is no worse than from the old query.

    Unit rows: the sign of (new_i - old_i) old_j says which distance is smaller, also where a cone hides it.
    """
    own = torch.arange(len(old), device=old.device) if clusters is None else clusters
    gap, index = (new - old).float(), old.float()
    good = torch.zeros(2, len(old), dtype=torch.float64, device=old.device)
    counted = torch.zeros_like(good)
    for start in range(0, len(old), _TILE):
        rows = slice(start, start + _TILE)
        nearer = gap[rows] @ index.T
        right = torch.where(codes[rows, None] == codes, nearer >= 0, nearer <= 0)
        possible = own[rows, None] != own
        right &= possible
        for total, part in ((good, right), (counted, possible)):
            total[0, rows] += part.sum(dim=1)
            total[1] += part.sum(dim=0)
    share = good[0].sum() / counted[0].sum()
    influence = (good - share * counted).sum(dim=0) * (len(old) / counted[0].sum())
    return Readout(
        share,
        influence=place.spread(influence),
        trials=effective_trials(share, variance_of_mean(influence, len(old)), len(old)),
        n=len(old),
        method="Wilson, jackknife over rows",
    )
