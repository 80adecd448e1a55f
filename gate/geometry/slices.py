"""The weakest group, tag combination or hidden stratum of the rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import Readout, Refusal, missing_input
from gate.geometry.methods.rates import (
    OF_FEATURES,
    Bounds,
    Parts,
    difference_interval,
    extreme,
    lacks_classes,
    over_rows,
    same_classes,
    shortened,
    wilson_bounds,
    worst_of,
)
from gate.geometry.methods.strata import stratify
from gate.geometry.registry import Answer, Answers, higher, lower, metric
from gate.geometry.statistics import Ledger, Sample

_TAGS = 3  # of one set


@metric(
    unit="accuracy",
    greater_is_better=True,
    invariant_to=OF_FEATURES,
    needs={"labels"},
    reads={"groups", "cues", "attributes", "view_logits"},
    value_needs={"groups"},
    kinds={"classifier", "sequence"},
    ranges={"support": (10, 1_000_000)},
    domain="30 rows of each group; slices: `support` rows of each tag set",
    paper="standard; strata after Sohoni et al. 2020, No Subclass Left Behind (choice of K derived here)",
    readouts={
        "gap": lower("accuracy over all rows minus value", needs={"groups"}),
        "aligned_conflict": lower(
            "accuracy on rows whose cue names their label minus that on all other rows", needs={"cues"}
        ),
        "slices": lower(
            "largest drop of accuracy below that of all rows on a set of at most 3 tags; the sets whose drop "
            "exceeds that of all their parts are listed",
            needs={"attributes"},
        ),
        "strata": higher("accuracy of the worst hidden stratum: k-means within each class"),
        "per_view": higher("accuracy with the worst view or attribute alone", needs={"view_logits"}),
    },
    limits={
        **dict.fromkeys(("value", "strata", "per_view"), (0.0, 1.0)),
        **dict.fromkeys(("gap", "aligned_conflict", "slices"), (-1.0, 1.0)),
    },
)
def worst_group_accuracy(ledger: Ledger, sample: Sample, *, support: int = 30) -> Answers:
    """Performance floor over groups, tag combinations or hidden strata: accuracy of the worst group.

    min over groups of the share of rows whose largest output is their label. The smallest of many noisy accuracies lies
    below the smallest true one: its interval holds all groups at once.

    Args:
        ledger: Of the outputs (n, C) of all rows, with labels and what is known of the rows.
        sample: The sampled rows.
        support: Rows that a tag set needs.

    Returns:
        Accuracy in [0, 1], and read-outs.

    Raises:
        MetricError: No output stands for a label.
    """
    lacking = lacks_classes(ledger)
    if lacking:
        return lacking
    right = ledger.right()
    return {
        **_groups(ledger, sample, right),
        "aligned_conflict": _aligned(ledger, sample, right),
        "slices": _slices(ledger, sample, right, support),
        "strata": _strata(ledger, sample, right),
        "per_view": _per_view(ledger, sample),
    }


def _groups(ledger: Ledger, sample: Sample, right: Tensor) -> dict[str, Answer]:
    codes = ledger.codes("groups")
    if codes is None:
        return dict.fromkeys(("value", "gap"), missing_input("groups"))
    parts = Parts.of(codes.names, codes.values)
    few = parts.too_small(30, "small_group", "group")
    if few:
        return {"value": few, "gap": few}
    means = parts.means(right)
    gaps = right.mean() - means
    value, ends = extreme(gaps, _drop_bounds(right, means, parts.counts), largest=True)
    worst = int(gaps.argmax())
    gap = over_rows(
        ledger,
        sample,
        value,
        right - parts.influence(right, parts.one(worst)),
        interval=ends,
        comparisons=parts.g,
        method="difference of proportions, all groups at once (Bonferroni)",
        detail=f"worst group {parts.names[worst]!r}",
        breakdown=parts.breakdown(gaps),
    )
    return {"value": worst_of(ledger, sample, parts, right, what="group"), "gap": gap}


def _drop_bounds(right: Tensor, inside: Tensor, counts: Tensor) -> Bounds:
    """Bounds of the drops of accuracy from all rows to parts of them: (1 - share) times inside against outside.

    A right and a wrong row are added to either side (Agresti and Caffo 2000).
    """
    n = len(right)
    outside = (n - counts).clamp_min(0)
    rest = (right.sum() - inside * counts).clamp_min(0)
    one, other = (inside * counts + 1) / (counts + 2), (rest + 1) / (outside + 2)
    share = outside / n
    centre = share * (other - one)
    error = share * (one * (1 - one) / (counts + 2) + other * (1 - other) / (outside + 2)).sqrt()
    return lambda z: (centre - z * error, centre + z * error)


def _aligned(ledger: Ledger, sample: Sample, right: Tensor) -> Answer:
    cues, labels = ledger.codes("cues"), ledger.codes("labels")
    if cues is None or labels is None:
        return missing_input("cues")
    aligned = cues.among(labels.names) == labels.values
    parts = Parts.of(("conflict", "aligned"), aligned.long())
    if parts.g < 2:
        return Refusal(
            "inconclusive", f"small_group: all rows are {parts.names[0]}; it needs 30 aligned and 30 conflict"
        )
    few = parts.too_small(30, "small_group", "part")
    if few:
        return few
    means, counts = parts.means(right), parts.counts
    return over_rows(
        ledger,
        sample,
        means[1] - means[0],
        parts.influence(right, torch.tensor([-1.0, 1.0], dtype=torch.float64, device=right.device)),
        interval=difference_interval(means[1], counts[1], means[0], counts[0]),
        method="difference of proportions",
        breakdown=parts.breakdown(means),
    )


def _slices(ledger: Ledger, sample: Sample, right: Tensor, support: int) -> Answer:
    """The tag set of the largest drop, known as well as all sets at once allow."""
    if not ledger.named("attributes"):
        return missing_input("attributes")
    found = list(_tag_sets(ledger, right, support))
    if not found:
        return Refusal(
            "inconclusive", f"small_group: no tag has {support} rows; choose other attributes or a smaller support"
        )
    sets = [name for names, _, _ in found for name in names]
    counts = torch.cat([entry[1] for entry in found])
    means = torch.cat([entry[2] for entry in found])
    drops = right.mean() - means
    value, ends = extreme(drops, _drop_bounds(right, means, counts), largest=True)
    worst = sets[int(drops.argmax())]
    inside = _members(ledger, worst)
    minimal = _minimal(dict(zip(sets, drops.tolist(), strict=True)))
    return over_rows(
        ledger,
        sample,
        value,
        right - inside * (right - (right * inside).sum() / inside.sum()) / inside.mean(),
        interval=ends,
        comparisons=len(sets),
        method="difference of proportions, all tag sets at once (Bonferroni)",
        detail=f"worst {_spelled(worst)}; {len(minimal)} of {len(sets)} tag sets drop more than all their parts",
        breakdown=shortened({_spelled(tags): drop for tags, drop in minimal.items()}),
    )


_Tags = tuple[tuple[str, str], ...]


def _tag_sets(ledger: Ledger, right: Tensor, support: int) -> Iterator[tuple[list[_Tags], Tensor, Tensor]]:
    """Every set of tags with enough rows: names, counts and accuracies, one combination of attributes at a time."""
    columns = ledger.named("attributes")
    for size in range(1, min(_TAGS, len(columns)) + 1):
        for chosen in itertools.combinations(columns, size):
            cells, names = _cells(ledger, chosen)
            distinct, places, counts = cells.unique(return_inverse=True, return_counts=True)
            kept = (counts >= support).nonzero()[:, 0]
            if not len(kept):
                continue
            sums = torch.zeros(len(distinct), dtype=torch.float64, device=right.device).index_add_(0, places, right)
            sets = [_tags_of(int(cell), chosen, names) for cell in distinct[kept].tolist()]
            yield sets, counts[kept].double(), sums[kept] / counts[kept]


def _cells(ledger: Ledger, chosen: tuple[str, ...]) -> tuple[Tensor, list[tuple[str, ...]]]:
    """The combination of tags of each row as one number, (n,)."""
    cells, names = torch.zeros(ledger.n, dtype=torch.int64, device=ledger.shares.device), []
    for column in chosen:
        codes = ledger.codes(column)
        if codes is None:
            raise MetricError(f"these feature rows have no {column}")
        cells = cells * len(codes.names) + codes.values
        names.append(codes.names)
    return cells, names


def _tags_of(cell: int, chosen: tuple[str, ...], names: list[tuple[str, ...]]) -> _Tags:
    tags = []
    for column, values in zip(reversed(chosen), reversed(names), strict=True):
        cell, code = divmod(cell, len(values))
        tags.append((column.partition(".")[2], values[code]))
    return tuple(reversed(tags))


def _members(ledger: Ledger, tags: _Tags) -> Tensor:
    inside = torch.ones(ledger.n, dtype=torch.float64, device=ledger.shares.device)
    for column, tag in tags:
        codes = ledger.codes(f"attributes.{column}")
        if codes is not None:
            inside *= codes.values == codes.names.index(tag)
    return inside


def _minimal(drops: dict[_Tags, float]) -> dict[_Tags, float]:
    """The sets whose drop exceeds 0 and that of each of their subsets, largest first."""
    found = {
        tags: drop
        for tags, drop in drops.items()
        if drop > 0
        and all(drop > drops[part] for size in range(1, len(tags)) for part in itertools.combinations(tags, size))
    }
    return dict(sorted(found.items(), key=lambda entry: (-entry[1], entry[0])))


def _spelled(tags: _Tags) -> str:
    return " and ".join(f"{column}={tag}" for column, tag in tags)


def _per_view(ledger: Ledger, sample: Sample) -> Answer:
    """The view with the lowest accuracy; all views are of the same rows."""
    views = ledger.named("view_logits")
    if not views:
        return missing_input("view_logits")
    for view in views:
        other = same_classes(ledger, view)
        if other:
            return other
    if ledger.n < 30:
        return Refusal("inconclusive", f"few_rows: {ledger.n} rows; it needs at least 30", 30)
    right = torch.stack([ledger.right(view) for view in views])
    means = right.mean(dim=1)
    value, ends = extreme(means, wilson_bounds(means, torch.full_like(means, ledger.n)), largest=False)
    worst = int(means.argmin())
    names = [view.partition(".")[2] for view in views]
    return over_rows(
        ledger,
        sample,
        value,
        right[worst],
        interval=ends,
        comparisons=len(views),
        method="Wilson, all views at once (Bonferroni)",
        detail=f"worst view {names[worst]!r}",
        breakdown=dict(zip(names, means.tolist(), strict=True)),
    )


def _strata(ledger: Ledger, sample: Sample, right: Tensor) -> Answer:
    """Groups that nobody has named: k-means of the sampled features within each class."""
    places = ledger.places(sample)
    labels, hits = ledger.labels[places], right[places]
    classes = Parts.of(ledger.names, labels)
    few = classes.too_small(30, "small_class", "class", "has among the sampled rows")
    if few:
        return few
    codes = torch.empty_like(labels)
    names: list[str] = []
    for part, name in enumerate(classes.names):
        rows = (classes.codes == part).nonzero()[:, 0]
        found = stratify(sample.features[rows])
        codes[rows] = len(names) + found
        count = int(found.max()) + 1
        names += [f"{name}/{stratum + 1} of {count}" for stratum in range(count)]
    parts = Parts.of(tuple(names), codes)
    means = parts.means(hits)
    worst = int(means.argmin())
    value, ends = extreme(means, wilson_bounds(means, parts.counts), largest=False)
    terms = parts.influence(hits, parts.one(worst))
    readout = Readout(value, influence=terms, interval=ends, comparisons=parts.g, n=sample.m)
    return replace(
        readout,
        method="Wilson, all strata at once (Bonferroni)",
        detail=f"worst stratum {names[worst]!r}",
        breakdown=shortened(dict(sorted(parts.breakdown(means).items(), key=lambda entry: entry[1]))),
    )
