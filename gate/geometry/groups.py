"""Groups, sites and batches: can they be read off, and how much of the variance is theirs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import Readout, Refusal, design_effect, missing_input, noted, variance_of_mean
from gate.geometry.methods.held_out import HeldOut, balanced, beyond_chance, judge
from gate.geometry.methods.probing import components_note, read_off, require_spread
from gate.geometry.methods.standard_probe import Question, Residual, probe_pull
from gate.geometry.methods.variance_share import Share, Table
from gate.geometry.registry import Answer, lower, metric, neither
from gate.geometry.statistics import (
    AttributeFolds,
    CategoryFolds,
    CellFolds,
    CellMoments,
    ClassFolds,
    GroupFolds,
    MomentFolds,
    Sample,
)

_CROSSED = 0.2  # share of a group's membership that classes must leave open, else nothing is left to be read off
_EQUAL = 0.05  # two accuracies beyond chance that differ by no more are equal
_SMALL = 10  # rows of a group


@metric(
    unit="balanced accuracy beyond chance",
    greater_is_better=False,
    invariant_to={"translation", "scaling", "rotation", "permutation"},
    unasserted={"row_scaling", "channel_scaling", "linear_map"},
    domain="20 judged rows of each group; groups crossed with classes",
    paper="after Enhancing Whole Slide Pathology Foundation Models through Stain Normalization; form derived here",
    readouts={
        "raw_rows": lower("the same on rows as they are, class means left in"),
        "worst_pair": lower("the pair of groups that is told apart best"),
    },
    limits=dict.fromkeys(("value", "raw_rows", "worst_pair"), (-1.0, 1.0)),
)
def group_probe_bacc(
    moments: MomentFolds, groups: GroupFolds, cells: CellFolds, sample: Sample, folds: ClassFolds | None = None
) -> dict[str, Answer]:
    """Can the site, slide, batch or device be read off: collapse by source.

    (a - 1/G) / (1 - 1/G) for the balanced accuracy a of the standard probe for G groups, on rows from which the mean of
    their class over the training folds is taken out. With fewer than 4 (d + 1) training rows the leading principal
    components of the rows are used. Folds follow clusters.

    Args:
        moments: Moments of each fold of features (n, d).
        groups: Moments of each group, fold by fold.
        cells: Rows of each group and class, fold by fold.
        sample: The sampled rows, held out fold by fold.
        folds: Moments of each class, fold by fold; without labels rows are taken as they are.

    Returns:
        0 by chance, 1 when every row betrays its group, and read-outs.

    Raises:
        MetricError: All feature rows are equal.
    """
    require_spread(moments.without())
    plain = Question(sample.class_codes(groups.parts[0].names, "groups"), moments, groups)
    raw = read_off(plain, sample, "group")
    answers: dict[str, Answer] = {"raw_rows": raw if isinstance(raw, Refusal) else _beyond(raw, moments)}
    if folds is None:
        question, found, note = plain, raw, "there are no labels: rows as they are"
    else:
        nested = _nested(cells.groups, cells.classes, cells.without().double())
        classes = CategoryFolds(folds.classes)
        residual = Residual(classes, sample.class_codes(folds.classes[0].names), cells)
        question, note = replace(plain, residual=residual), None
        found = nested or read_off(question, sample, "group")
    if isinstance(found, Refusal):
        return {**answers, "value": found, "worst_pair": found}
    value = _beyond(found, moments)
    value = replace(value, detail=noted(value.detail, note) if note else value.detail)
    return {**answers, "value": value, "worst_pair": _worst_pair(found, question, sample)}


def _beyond(held_out: HeldOut, moments: MomentFolds) -> Readout:
    recalls = dict(zip(held_out.names, held_out.means(held_out.correct).tolist(), strict=True))
    notes = [note for note in (components_note(moments), held_out.note) if note]
    found = replace(balanced(held_out), breakdown=recalls, detail="; ".join(notes) or None, c=len(held_out.names))
    return beyond_chance(found, len(held_out.names))


def _nested(groups: tuple[str, ...], classes: tuple[str, ...], counts: Tensor) -> Refusal | None:
    """The refusal when a group's rows are (nearly) those of whole classes: its effect cannot be told from theirs."""
    present = counts > 0
    in_group, in_class = present.nonzero(as_tuple=True)
    empty = counts.new_zeros(0)
    table = Table(classes, groups, in_class, in_group, counts[present], empty, empty)
    return nested_refusal(table)


def nested_refusal(table: Table) -> Refusal | None:
    """The refusal when the classes of a group leave less than a fifth of its membership open."""
    crossing = table.crossing()
    worst = int(crossing.argmin())
    if len(table.groups) < 2 or crossing[worst].item() >= _CROSSED:
        return None
    reason = (
        f"group_nested_in_class: the classes of its rows fix who is of group {table.groups[worst]!r} "
        f"({crossing[worst].item():.2f} of it is left open); it needs rows of several groups in each class"
    )
    return Refusal("not_applicable", reason)


def _worst_pair(held_out: HeldOut, question: Question, sample: Sample) -> Readout:
    """The pair that the scores of its two groups tell apart best."""
    groups = len(held_out.names)
    wins = torch.stack(
        [
            (held_out.scores[held_out.codes == g][:, g, None] > held_out.scores[held_out.codes == g])
            .double()
            .mean(dim=0)
            for g in range(groups)
        ]
    )
    both = (wins + wins.T).triu(1)
    first, second = divmod(int(both.argmax()), groups)
    pair = torch.tensor([first, second], device=held_out.codes.device)
    inside = (held_out.codes == first) | (held_out.codes == second)
    scores = torch.full((sample.m, groups), -torch.inf, dtype=torch.float64, device=pair.device)
    scores[held_out.rows] = held_out.scores
    pull = probe_pull(question, sample, scores.nan_to_num(neginf=0.0))

    def of_pair(signs: Tensor) -> Tensor:
        whole = torch.zeros_like(scores)
        whole[:, pair] = signs
        return pull(whole)

    names = (held_out.names[first], held_out.names[second])
    codes = (question.codes == second).long()
    told = balanced(judge(sample, held_out.rows[inside], names, codes, scores[:, pair], of_pair))
    pairs = groups * (groups - 1) // 2
    named = {
        f"{held_out.names[a]} / {held_out.names[b]}": both[a, b].item() / 2 for a, b in combinations(range(groups), 2)
    }
    told = replace(
        told,
        comparisons=pairs,
        breakdown=named if pairs <= 100 else None,
        method="Wilson, held-out rows, Bonferroni over pairs",
        detail=f"groups {names[0]!r} and {names[1]!r}",
    )
    return beyond_chance(told, 2)


@metric(
    unit="share of variance",
    greater_is_better=None,
    invariant_to={"translation", "scaling", "rotation", "permutation"},
    domain="10 rows of each group; groups crossed with classes",
    reads={"labels"},
    value_needs={"groups"},
    paper="after Lampinen et al. 2024, Learned feature representations are biased by complexity, learning order, "
    "position, and more; corrections derived here",
    readouts={
        "raw": neither("between / (between + within) without the correction for group sizes", needs={"groups"}),
        "attribute": neither("largest corrected share of an attribute, on rows as they are", needs={"attributes"}),
        "easy_hard": lower(
            "ratio of the shares of two attributes that are read off equally well", needs={"attributes"}
        ),
    },
    limits={"value": (-1, 1), "raw": (0, 1), "attribute": (-1, 1), "easy_hard": (1, math.inf)},
)
def group_variance_share(
    sample: Sample,
    cells: CellMoments | None = None,
    attributes: AttributeFolds | None = None,
    moments: MomentFolds | None = None,
) -> dict[str, Answer]:
    """Share of the variance that a group or an attribute owns.

    Between / (between + within) for groups of rows about the mean of their class, both unbiased in the sizes of groups
    and classes: 0 on average when groups do not differ. A small share can still be read off perfectly.

    Args:
        sample: The sampled rows.
        cells: Moments of features (n, d) by group and class.
        attributes: Moments by attribute, fold by fold.
        moments: Moments of each fold.

    Returns:
        Share of at most 1, and read-outs.

    Raises:
        MetricError: The rows of every class are equal.
    """
    if moments is not None:
        require_spread(moments.without())
    return {**_of_groups(cells, sample), **_of_attributes(attributes, moments, sample)}


def _of_groups(cells: CellMoments | None, sample: Sample) -> dict[str, Answer]:
    if cells is None:
        return dict.fromkeys(("value", "raw"), missing_input("groups"))
    table = Table.of_cells(cells)
    refusal = _small_group(table.groups, table.by_group(table.counts)) or nested_refusal(table)
    if refusal:
        return dict.fromkeys(("value", "raw"), refusal)
    codes = sample.class_codes(table.groups, "groups")
    classes = torch.zeros_like(codes) if sample.rows.labels is None else sample.class_codes(table.classes)
    share = Share.of(table, sample, classes, codes)
    if share is None:
        raise MetricError(f"the rows of every class are equal over all {cells.n} rows: there is no variance to share")
    value = Readout(share.value, influence=share.influence, variance=share.variance, c=len(table.groups))
    return {"value": value, "raw": replace(value, natural=share.raw)}


def _small_group(names: tuple[str, ...], counts: Tensor) -> Refusal | None:
    if len(names) < 2:
        return Refusal("inconclusive", f"small_group: all rows are of group {names[0]!r}; it needs two groups")
    worst = int(counts.argmin())
    found = int(counts[worst])
    if found >= _SMALL:
        return None
    reason = f"small_group: group {names[worst]!r} has {found} rows; each group needs at least {_SMALL}"
    return Refusal("inconclusive", reason, math.ceil(counts.sum().item() * _SMALL / max(found, 1)))


def _of_attributes(attributes: AttributeFolds | None, moments: MomentFolds | None, sample: Sample) -> dict[str, Answer]:
    if attributes is None or moments is None:
        return dict.fromkeys(("attribute", "easy_hard"), missing_input("attributes"))
    shares: dict[str, Share] = {}
    for name, part in attributes.parts.items():
        table = Table.of_groups(part.without())
        few = _small_group(table.groups, table.counts)
        codes = sample.class_codes(table.groups, f"attributes.{name}")
        share = None if few else Share.of(table, sample, torch.zeros_like(codes), codes)
        if few or share is None:
            refusal = few or missing_input("rows that vary")
            refusal = replace(refusal, reason=f"{refusal.reason} (attribute {name!r})")
            return dict.fromkeys(("attribute", "easy_hard"), refusal)
        shares[name] = share
    largest = max(shares, key=lambda name: shares[name].value.item())
    named = {name: share.value.item() for name, share in shares.items()}
    readout = Readout(
        shares[largest].value,
        influence=shares[largest].influence,
        variance=shares[largest].variance,
        comparisons=len(shares),
        detail=f"attribute {largest!r}",
        breakdown=named,
    )
    return {"attribute": readout, "easy_hard": _easy_hard(shares, attributes, moments, sample)}


def _easy_hard(shares: Mapping[str, Share], attributes: AttributeFolds, moments: MomentFolds, sample: Sample) -> Answer:
    """Largest ratio of two shares among the pairs of attributes that a probe reads off equally well."""
    decoded: dict[str, float] = {}
    for name, part in attributes.parts.items():
        codes = sample.class_codes(part.parts[0].names, f"attributes.{name}")
        found = read_off(Question(codes, moments, part), sample)
        if isinstance(found, Refusal):
            return replace(found, reason=f"{found.reason} (attribute {name!r})")
        chance = 1 / len(found.names)
        decoded[name] = (balanced(found).natural.item() - chance) / (1 - chance)
    pairs = [pair for pair in combinations(shares, 2) if abs(decoded[pair[0]] - decoded[pair[1]]) <= _EQUAL]
    if not pairs:
        return missing_input(f"two attributes that are read off equally well, within {_EQUAL} of each other")
    ordered = [sorted(pair, key=lambda name: -shares[name].value.item()) for pair in pairs]
    faint = [name for name in dict.fromkeys(name for _, name in ordered) if not _seen(shares[name], sample)]
    if faint:
        reason = f"no_class_signal: the share of attribute {faint[0]!r} does not exceed its own error twice"
        return Refusal("inconclusive", reason)
    easy, hard = max(ordered, key=lambda pair: (shares[pair[0]].value / shares[pair[1]].value).item())
    ratio = (shares[easy].value / shares[hard].value).log()
    influence = shares[easy].influence / shares[easy].value - shares[hard].influence / shares[hard].value
    return Readout(
        ratio,
        torch.exp,
        influence=influence,
        variance=variance_of_mean(influence, sample.n),
        comparisons=len(pairs),
        detail=f"{easy!r} over {hard!r}, read off at {decoded[easy]:.2f} and {decoded[hard]:.2f} beyond chance",
        breakdown=decoded,
    )


def _seen(share: Share, sample: Sample) -> bool:
    effect = design_effect(share.influence, sample.clusters, sample.share)
    return share.value.item() > 2 * math.sqrt(share.variance * effect)
