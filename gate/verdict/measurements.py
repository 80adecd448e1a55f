"""What was measured of a model, as the rules of a policy ask for it: live, recorded earlier, or written by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gate.estimate import Estimate
    from gate.policy.rules import Rule

Params = tuple[tuple[str, Any], ...]
Slice = tuple[tuple[str, str], ...]  # column and value of each; none for the whole probe set


class Question(NamedTuple):
    """What an estimate answers: a number of a layer, over all rows or those of a slice."""

    layer: str
    metric: str  # `id` or `id.readout`
    params: Params = ()  # all of them, defaults included
    slice: Slice = ()


@dataclass(frozen=True)
class Measurements:
    """The estimates of one model.

    Attributes:
        candidate: Of the model that is judged.
        baseline: Of the baseline on the same rows.
        changes: Paired differences, candidate less baseline.
        slices: Columns → slice → number of rows, for everything that the probe set was cut by.
        no_baseline: Why there is no baseline, None where there is one.
    """

    candidate: Mapping[Question, Estimate]
    baseline: Mapping[Question, Estimate] = field(default_factory=dict)
    changes: Mapping[Question, Estimate] = field(default_factory=dict)
    slices: Mapping[tuple[str, ...], Mapping[Slice, int]] = field(default_factory=dict)
    no_baseline: str | None = None


def slice_name(of: Slice) -> str | None:
    """How people read it, `language=ja, site=3`; None for the whole probe set."""
    return ", ".join(f"{column}={value}" for column, value in of) or None


def question_of(rule: Rule) -> Question:
    """What a rule asks of the whole probe set, whatever it makes of the answer."""
    return Question(rule.layer, rule.metric, params_of(rule.metric, rule.params))


def direction(metric: str) -> str:
    """`higher`, `lower`, or `range` where neither is better."""
    from gate.geometry import catalogue

    name, _, readout = metric.partition(".")
    return catalogue.load()[name].direction(readout or "value")


def params_of(metric: str, given: Mapping[str, Any]) -> Params:
    """All parameters of a metric, with those that are given in place of their defaults."""
    from gate.geometry import catalogue

    entry = catalogue.load().get(metric.partition(".")[0])
    return tuple(sorted({**(entry.params if entry else {}), **given}.items()))
