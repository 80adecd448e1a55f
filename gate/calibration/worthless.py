"""Representations that are worth nothing, made of the rows of a good version.

A bound that lets all of them through is so wide that it says nothing. They are the failures that every policy should
see: the rows were dealt to other inputs, the cloud is a line, it is a point far from the origin, half of its channels
are dead and one is far too loud; and where the probe set knows groups or lengths, the cloud parts by these.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gate.geometry.statistics import COLUMNS, Codes, Collection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from gate.geometry.statistics import Batch, Sample
    from gate.policy.rules import Rule
    from gate.verdict import Question

    Worthless = Mapping[str, Mapping[Question, float]]  # kind → what is measured of it

_FAR = 40.0  # spreads from the origin
_THIN = 0.01  # of a line, and of a point
_LOUD = 60.0
_SEED = 0


def worthless(samples: Mapping[str, Sample], rules: Sequence[Rule]) -> Worthless:
    """What each rule measures of every kind of worthlessness; what a metric refuses is left out.

    Args:
        samples: Layer → rows of a good version, with their columns.
        rules: About these layers.
    """
    found: dict[str, dict[Question, float]] = {}
    for layer, sample in samples.items():
        about = [rule for rule in rules if rule.layer == layer]
        for kind, values in _of_layer(sample, about):
            found[kind] = found.get(kind, {}) | values
    return found


def _of_layer(sample: Sample, rules: Sequence[Rule]) -> Iterator[tuple[str, dict[Question, float]]]:
    from gate.estimation import statistics_for
    from gate.geometry.registry import find

    kinds = statistics_for(find(rule.metric)[0] for rule in rules)
    for kind, batch in _made(sample.rows):
        yield kind, _values(Collection.of(batch, kinds), rules)


def _values(collection: Collection, rules: Iterable[Rule]) -> dict[Question, float]:
    from gate.estimation import estimate
    from gate.geometry.registry import VALUE, find
    from gate.verdict import question_of

    values = {}
    for rule in rules:
        found, readout = find(rule.metric)
        answers = estimate(found, collection, params=rule.params, readouts=[readout or VALUE], intervals=False)
        value = answers[rule.metric].value
        if value is not None:
            values[question_of(rule)] = value
    return values


def _made(rows: Batch) -> Iterator[tuple[str, Batch]]:
    generator = torch.Generator().manual_seed(_SEED)
    order = torch.randperm(len(rows.ids), generator=generator).to(rows.features.device)
    yield "rows dealt to other inputs", _changed(rows, lambda values: values[order])
    features = rows.features.double()
    mean = features.mean(dim=0)
    spread = (features - mean).square().sum(dim=1).mean().sqrt()
    direction = torch.randn(features.shape[1], generator=generator, dtype=torch.float64).to(features.device)
    direction = direction / direction.norm()
    centred = features - mean
    line = (centred @ direction)[:, None] * direction
    yield "a line", _with(rows, mean + line + _THIN * (centred - line))
    point = _changed(rows, lambda values: values[:1].expand_as(values).clone())
    yield "a point", _with(point, _FAR * spread * direction + _THIN * centred)
    yield "dead and loud channels", _with(rows, _broken(features))
    if rows.groups is not None:
        places = torch.randn(len(rows.groups.names), features.shape[1], generator=generator, dtype=torch.float64)
        places = places.to(features.device)[rows.groups.values]
        yield "apart by group", _with(rows, features + spread * places)
    lengths = rows.columns.get("lengths")
    if isinstance(lengths, Tensor):
        long = (lengths > lengths.median()).double()[:, None]
        yield "long rows in a cone", _with(rows, features + _FAR * spread * direction * long)


def _broken(features: Tensor) -> Tensor:
    half = features.clone()
    half[:, : features.shape[1] // 2] = 0
    half[:, -1] *= _LOUD
    return half


def _with(rows: Batch, features: Tensor) -> Batch:
    return replace(rows, features=features.to(rows.features.dtype))


def _changed(rows: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """The same change to all that the model made."""
    columns: Mapping[str, Codes | Tensor] = {
        name: change(column)
        if isinstance(column, Tensor) and COLUMNS[name.partition(".")[0]].source == "model"
        else column
        for name, column in rows.columns.items()
    }
    return replace(rows, features=change(rows.features), columns=columns)
