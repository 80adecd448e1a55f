"""Policies and measurements as the tests of verdicts write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from statistics import NormalDist
from typing import Any

from gate.estimate import Estimate
from gate.policy.rules import Rule
from gate.policy.schema import Policy
from gate.verdict import Finding, Judgement, Measurements, Occasion, Question, Slice, judge, levels, question_of

VERSION, DIGEST = "models:/encoder/7", "sha256:" + "a" * 64
TODAY = date(2026, 11, 21)
ON = Occasion((VERSION, DIGEST), TODAY)
BASELINE: Any = {"uri": "@champion"}


def rule(**changes: Any) -> Rule:
    """A rule on the effective rank; at least 96 where nothing else is asked for."""
    asked = {"min", "max", "relative", "slices"} & set(changes)
    bounds = {} if asked else {"min": 96}
    return Rule.model_validate({"id": "rank", "metric": "effective_rank", "layer": "embedding", **bounds, **changes})


def policy(*rules: Rule, **keys: Any) -> Policy:
    """A policy of some rules, with a baseline to compare with."""
    head = {"apiVersion": "gate/v1", "kind": "Policy", "metadata": {"name": "p", "version": "1"}}
    layers = {"embedding": {"path": "embedding"}}
    return Policy.model_validate({**head, "layers": layers, "baseline": BASELINE, "rules": rules, **keys})


def estimate(value: Any = 62.5, interval: Any = (60.1, 64.8), **changes: Any) -> Estimate:
    known: dict[str, Any] = {
        "metric": "effective_rank", "status": "ok", "reason": None, "standard_error": 1.2, "n": 10000, "d": 256,
        "c": None, "k": None, "n_needed": None, "method": "delta", "confidence": 0.95, "influence": None,
        "detail": None, "breakdown": None, "params": {},
    }  # fmt: skip
    return Estimate(**{**known, "value": value, "interval": interval, **changes})


def normal(value: float, error: float, **changes: Any) -> Estimate:
    """An estimate with the intervals of a normal one at every level that is worth knowing."""

    def ends(level: float) -> tuple[float, float]:
        reach = NormalDist().inv_cdf((1 + level) / 2) * error
        return value - reach, value + reach

    known = {level: ends(level) for level in levels(0.95)}
    return estimate(value, ends(0.95), **{"intervals": known, "standard_error": error, **changes})


def refused(reason: str = "zero_rows: the rows are zero", status: str = "error", **changes: Any) -> Estimate:
    return estimate(None, None, status=status, reason=reason, **changes)


@dataclass
class Measured:
    """Measurements of one rule, put together step by step."""

    rule: Rule
    candidate: dict[Question, Estimate] = field(default_factory=dict)
    baseline: dict[Question, Estimate] = field(default_factory=dict)
    changes: dict[Question, Estimate] = field(default_factory=dict)
    slices: dict[tuple[str, ...], dict[Slice, int]] = field(default_factory=dict)

    def on(self, slice_: Slice = ()) -> Question:
        return question_of(self.rule)._replace(slice=slice_)

    def measurements(self, no_baseline: str | None = None) -> Measurements:
        return Measurements(self.candidate, self.baseline, self.changes, self.slices, no_baseline)


def on_all_rows(of: Rule, found: Estimate | None) -> Measurements:
    return Measurements({} if found is None else {question_of(of): found})


def compared(of: Rule, change: Estimate | None, baseline: Estimate | None) -> Measurements:
    """The change of a number against a baseline, on all rows."""
    question = question_of(of)
    return Measurements(
        {question: estimate()},
        {} if baseline is None else {question: baseline},
        {} if change is None else {question: change},
    )


def cut(of: Rule, slices: Mapping[Slice, tuple[int, Estimate | None]]) -> Measured:
    """Slices with their numbers of rows and estimates, by the columns of the first of them."""
    found = Measured(of)
    for slice_, (rows, each) in slices.items():
        found.slices.setdefault(tuple(column for column, _ in slice_), {})[slice_] = rows
        if each is not None:
            found.candidate[found.on(slice_)] = replace(each, n=rows)
    return found


def languages(of: Rule, **found: tuple[int, Estimate | None]) -> Measured:
    """Slices by language."""
    return cut(of, {(("language", name),): each for name, each in found.items()})


def judgement(of: Rule, measured: Measurements, on: Occasion = ON, **keys: Any) -> Judgement:
    return judge(policy(of, **keys), measured, on)


def found(of: Rule, each: Estimate | None, **keys: Any) -> Finding:
    """What a rule on all rows makes of an estimate."""
    (finding,) = judgement(of, on_all_rows(of, each), **keys).findings
    return finding
