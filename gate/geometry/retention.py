"""Class collapse: are the subclasses of a class still there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from gate.geometry.classes import vci
from gate.geometry.influence import (
    Readout,
    Refusal,
    design_effect,
    missing_input,
    variance_of_mean,
)
from gate.geometry.methods.held_out import HeldOut, balanced, beyond_chance, mean_of
from gate.geometry.methods.probing import components_note, read_off
from gate.geometry.methods.standard_probe import Question
from gate.geometry.registry import Answer, higher, metric, neither
from gate.geometry.statistics import CategoryFolds, ClassMoments, Codes, MomentFolds, Moments, Sample, Spectrum


@metric(
    unit="balanced accuracy beyond chance",
    greater_is_better=True,
    invariant_to={"translation", "scaling", "rotation", "permutation"},
    unasserted={"row_scaling", "channel_scaling", "linear_map"},
    needs={"labels", "sublabels"},
    reads={"attributes"},
    domain="20 judged rows of each subclass; vci_sub: also 2 d rows of each class",
    paper="failure of Xue et al. 2023, Which Features are Learnt by Contrastive Learning?; probe form derived here",
    readouts={
        "worst": higher("the class whose subclasses are told apart worst"),
        "vci_sub": neither("vci of the subclasses, mean over classes"),
        "by_frequency": higher(
            "of the values of attributes inside classes: the rare half over the common half", needs={"attributes"}
        ),
    },
    limits={"value": (-1, 1), "worst": (-1, 1)},
)
def subclass_retention(sample: Sample) -> dict[str, Answer]:
    """Class collapse: are subclasses still told apart inside their class.

    Inside each class with K >= 2 annotated subclasses, the standard probe for the subclass, held out fold by fold:
    mean over classes of (a - 1/K) / (1 - 1/K) for its balanced accuracy a. A class with fewer than 4 (d + 1) training
    rows is probed in the leading principal components of these. A class whose rows are all equal keeps nothing: 0.

    Args:
        sample: The sampled rows of features (n, d), with labels and sublabels.

    Returns:
        0 when subclasses are merged, 1 when each is told apart, and read-outs.
    """
    parts = _parts(sample)
    answers = {"by_frequency": _by_frequency(parts, sample)}
    found: dict[str, Readout] = {}
    several = [part for part in parts if len(part.codes("sublabels").names) > 1]
    if not several:
        missing = missing_input("a class with two subclasses")
        return {**answers, **dict.fromkeys(("value", "worst", "vci_sub"), missing)}
    answers["vci_sub"] = _collapse(several, sample)
    for part in several:
        answer = part.readout("sublabels")
        if isinstance(answer, Refusal):
            refusal = replace(answer, reason=f"{answer.reason} (inside class {part.name!r})")
            return {**answers, **dict.fromkeys(("value", "worst"), refusal)}
        found[part.name] = answer
    return {**answers, **_retained(found, several, len(parts))}


def _retained(found: Mapping[str, Readout], parts: Sequence[_Part], classes: int) -> dict[str, Answer]:
    """Mean and worst class of balanced accuracies, each as its share of what lies between chance and 1."""
    counts = [len(part.codes("sublabels").names) for part in parts]
    slopes = [1 / (len(parts) * (1 - 1 / k)) for k in counts]
    chance = sum(slope / k for slope, k in zip(slopes, counts, strict=True))
    whole = sum(slopes)
    beyond = {
        name: (each.natural.item() - 1 / k) / (1 - 1 / k) for (name, each), k in zip(found.items(), counts, strict=True)
    }
    worst = min(range(len(parts)), key=lambda place: list(beyond.values())[place])
    notes = [f"{len(parts)} of {classes} classes have subclasses", *dict.fromkeys(filter(None, map(_note, parts)))]
    lowest = beyond_chance(found[parts[worst].name], counts[worst])
    return {
        "value": replace(
            mean_of(
                list(found.values()), [slope / whole for slope in slopes], sum(each.n or 0 for each in found.values())
            ),
            display=lambda natural: natural * whole - chance,
            breakdown=beyond,
            detail="; ".join(notes),
            c=len(parts),
        ),
        "worst": replace(
            lowest,
            comparisons=len(parts),
            breakdown=beyond,
            method="Wilson, held-out rows, Bonferroni over classes",
            detail=f"worst class {parts[worst].name!r}",
        ),
    }


@dataclass(frozen=True, eq=False)
class _Part:
    """One class of the sampled rows.

    Attributes:
        name: Of the class.
        index: (r,) its rows in the sample.
        sample: These rows alone, in coordinates of what they span.
        whole: The sample.
    """

    name: str
    index: Tensor
    sample: Sample
    whole: Sample

    @cached_property
    def moments(self) -> MomentFolds:
        """Fold by fold: every column that is read off inside the class shares the principal axes."""
        return MomentFolds.of(self.sample.rows)

    def codes(self, column: str) -> Codes:
        """A column, with those of its categories that occur in the class."""
        return _present(self.sample.rows.class_codes(column))

    def judged(self, column: str) -> HeldOut | Refusal:
        """A column as it is read off held-out rows of the class."""
        codes = self.codes(column)
        return read_off(
            Question(codes.values, self.moments, CategoryFolds.of_codes(self.sample.rows, codes)), self.sample
        )

    def readout(self, column: str) -> Readout | Refusal:
        """Balanced accuracy of a column, with its influence placed among all sampled rows."""
        if self.moments.without().is_constant():
            return self._point(len(self.codes(column).names))
        found = self.judged(column)
        if isinstance(found, Refusal):
            return found
        part = balanced(found)
        own = torch.zeros(found.m) if part.influence is None else part.influence
        return replace(part, influence=self.spread(own * (self.whole.m / found.m) ** 0.5))

    def _point(self, categories: int) -> Readout:
        """Of a class whose rows are all equal: chance."""
        zeros = torch.zeros(self.whole.m, dtype=torch.float64, device=self.index.device)
        chance = torch.tensor(1 / categories, dtype=torch.float64)
        return Readout(chance, influence=zeros, variance=0.0, trials=self.sample.m, n=self.sample.m)

    def spread(self, terms: Tensor) -> Tensor:
        """Terms of the rows of the class placed among all sampled rows, and 0 for the others."""
        whole = torch.zeros(self.whole.m, dtype=torch.float64, device=terms.device)
        whole[self.index] = terms
        return whole


def _note(part: _Part) -> str | None:
    return None if part.moments.without().is_constant() else components_note(part.moments)


def _parts(sample: Sample) -> list[_Part]:
    """The sampled rows, class by class."""
    labels = sample.rows.class_codes()
    order = labels.values.argsort(stable=True)
    pieces = order.split(labels.counts().tolist())
    return [
        _Part(name, index, _spanned(sample, index), sample)
        for name, index in zip(labels.names, pieces, strict=True)
        if len(index)
    ]


def _spanned(sample: Sample, index: Tensor) -> Sample:
    """Some rows, as coordinates in the space that they span where that is smaller: distances stay as they are."""
    rows = sample.rows.rows(index)
    inputs = rows.fingerprints
    if len(index) < rows.features.shape[1]:
        moved = rows.features.double()
        moved = moved - moved.mean(dim=0)
        values, vectors = torch.linalg.eigh(moved @ moved.T)
        rows = replace(rows, features=vectors * values.clamp_min(0).sqrt())
    return Sample(len(index), replace(rows, given_fingerprints=inputs))


def _present(codes: Codes) -> Codes:
    found, values = codes.values.unique(return_inverse=True)
    return Codes(tuple(codes.names[code] for code in found.tolist()), values)


def _collapse(parts: Sequence[_Part], sample: Sample) -> Answer:
    """Mean over classes of the vci of their subclasses."""
    value, influence = 0.0, torch.zeros(sample.m, dtype=torch.float64, device=sample.features.device)
    breakdown: dict[str, float] = {}
    for part in parts:
        rows = sample.rows.rows(part.index)
        codes = part.codes("sublabels")
        moments, classes = Moments.of_rows(rows.features, rows.resolution), ClassMoments.of_rows(rows.features, codes)
        if moments.is_constant():
            return Refusal("inconclusive", f"no_class_signal: all rows of class {part.name!r} are equal")
        subclasses = Sample(part.sample.m, replace(rows, columns={"labels": codes}))
        found = vci(moments, Spectrum.of_moments(moments), classes, subclasses)
        answer = found if isinstance(found, Refusal) else found["value"]
        if isinstance(answer, Refusal):
            return replace(answer, reason=f"{answer.reason} (inside class {part.name!r})", n_needed=None)
        terms = answer.settled().influence * answer.inflation**0.5
        influence += part.spread(terms) * (sample.m / part.sample.m / len(parts))
        breakdown[part.name] = answer.natural.item()
        value += breakdown[part.name] / len(parts)
    return Readout(
        torch.tensor(value, dtype=torch.float64), influence=influence, n=sample.m, c=len(parts), breakdown=breakdown
    )


@dataclass(frozen=True, eq=False)
class _Value:
    """One value of an attribute inside one class: how frequent it is, and how well it is told from the others."""

    frequency: float
    beyond: float
    code: int


def _by_frequency(parts: Sequence[_Part], sample: Sample) -> Answer:
    """Recall beyond chance of the rarer half of all values of attributes inside classes, over that of the others."""
    names = [name for name in sample.rows.columns if name.startswith("attributes.")]
    if not names:
        return missing_input("attributes")
    judgements: list[tuple[_Part, HeldOut]] = []
    values: list[tuple[int, _Value]] = []
    for part in parts:
        for name in names:
            codes = part.codes(name)
            if len(codes.names) < 2 or part.moments.without().is_constant():
                continue
            found = part.judged(name)
            if isinstance(found, Refusal):
                return replace(found, reason=f"{found.reason} (attribute {name!r} inside class {part.name!r})")
            chance = 1 / len(codes.names)
            recalls = ((found.means(found.correct) - chance) / (1 - chance)).tolist()
            shares = (codes.counts().double() / len(codes)).tolist()
            values += [
                (len(judgements), _Value(share, recall, code))
                for code, (share, recall) in enumerate(zip(shares, recalls, strict=True))
            ]
            judgements.append((part, found))
    return _ratio(judgements, values, sample)


def _ratio(judgements: Sequence[tuple[_Part, HeldOut]], values: Sequence[tuple[int, _Value]], sample: Sample) -> Answer:
    border = sorted(value.frequency for _, value in values)[len(values) // 2] if values else 0.0
    rare = [value.frequency < border for _, value in values]
    if not any(rare):
        return missing_input("attributes whose values differ in frequency inside a class")
    sizes = {True: sum(rare), False: len(rare) - sum(rare)}
    means = {side: _mean_beyond(values, rare, side=side) for side in (True, False)}
    influence = {side: torch.zeros(sample.m, dtype=torch.float64) for side in (True, False)}
    for place, (part, found) in enumerate(judgements):
        for side in (True, False):
            codes = [
                value.code for (at, value), is_rare in zip(values, rare, strict=True) if at == place and is_rare is side
            ]
            if codes:
                influence[side] = influence[side].to(part.index.device) + _moved(part, found, codes) / sizes[side]
    common, n = influence[False], sample.m
    effect = design_effect(common, sample.clusters, sample.share)
    if not means[False] > 2 * math.sqrt(variance_of_mean(common, n) * effect):
        return Refusal("inconclusive", "no_class_signal: the common values are not read off beyond their error twice")
    ratio = means[True] / means[False]
    return Readout(
        torch.tensor(ratio, dtype=torch.float64),
        influence=(influence[True] - ratio * common) / means[False],
        n=n,
        method="ratio over held-out rows",
        detail=f"{sizes[True]} values rarer than {border:.2f} against {sizes[False]} others",
        breakdown={"rare": means[True], "common": means[False]},
    )


def _mean_beyond(values: Sequence[tuple[int, _Value]], rare: Sequence[bool], *, side: bool) -> float:
    found = [value.beyond for (_, value), is_rare in zip(values, rare, strict=True) if is_rare is side]
    return sum(found) / len(found)


def _moved(part: _Part, found: HeldOut, codes: Sequence[int]) -> Tensor:
    """Influence of each sampled row on the sum of the recalls beyond chance of some categories."""
    chance = 1 / len(found.names)
    chosen = torch.zeros(len(found.names), dtype=torch.float64, device=found.codes.device)
    chosen[list(codes)] = 1 / (1 - chance)
    weights = (chosen * len(found.codes) / found.counts())[found.codes]
    own = found.spread((found.correct - found.means(found.correct)[found.codes]) * weights)
    terms = own * (found.m / len(found.codes)) ** 0.5 + found.pulled(weights)
    return part.spread(terms) * (part.whole.m / part.sample.m)
