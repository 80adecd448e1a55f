"""Random policies, and random measurements of what they ask for."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from math import inf, nan
from typing import Any

from gate.estimate import Estimate
from gate.policy.rules import Rule
from gate.policy.schema import Policy
from gate.verdict import Measurements, Question, Slice, question_of
from tests.verdict.made import VERSION, normal, policy, refused, rule

LANGUAGES = ("en", "de", "ja")
LOOSE: dict[str, tuple[Any, ...]] = {
    "min": (-1e6,),
    "max": (1e6,),
    "margin": (1e9, "100000000%"),
    "gap": (1e6,),
    "min_rows": (30,),
    "required": ((),),
    "enforce_from": (None,),
    "inconclusive": ("block",),
}
TIGHT: dict[str, tuple[Any, ...]] = {
    "min": (40, 70, 70.5, 90),
    "max": (95, 100, 140),
    "margin": (5, "10%", 0, "100%"),
    "gap": (0, 20, 30),
    "min_rows": (30, 200, 400),
    "required": ((), ("ja",), ("language=xx",)),
    "enforce_from": (None, "2027-01-15", "2026-01-15"),
    "inconclusive": ("block", "warn", "pass"),
}


@cache
def drawn(seed: int, *, loose: bool = True) -> tuple[Policy, Measurements]:
    """A policy, and sound numbers for all that it asks.

    Loose bounds let all of them pass; of tight ones every outcome follows.
    """
    draw = random.Random(seed)  # noqa: S311 - nothing is kept secret by it
    amounts = LOOSE if loose else TIGHT
    rules = [_rule(draw, amounts, index) for index in range(draw.randint(1, 4))]
    waived = {"model": VERSION, "owner": "kenji", "expires": "2027-01-01", "reason": "New tokenizer."}
    defaults = {"multiplicity": draw.choice(["none", "holm"]), "inconclusive": draw.choice(amounts["inconclusive"])}
    of = policy(
        *rules,
        layers={each.layer: {"path": each.layer} for each in rules},
        defaults=defaults,
        waivers=[{**waived, "rule": each.id} for each in rules if draw.random() < 0.4],
    )
    return of, _measured(of, draw)


def _rule(draw: random.Random, amounts: dict[str, tuple[Any, ...]], index: int) -> Rule:
    """A rule that asks for anything that a rule can ask for."""
    every = {
        "min": draw.choice(amounts["min"]),
        "max": draw.choice(amounts["max"]),
        "relative": _relative(draw, amounts),
        "slices": _slices(draw, amounts),
    }
    asked: dict[str, Any] = dict(draw.sample(sorted(every.items(), key=str), draw.randint(1, 4)))
    keys = {"severity": draw.choice(["block", "block", "warn"]), "enforce_from": draw.choice(amounts["enforce_from"])}
    given = {key: value for key, value in keys.items() if value is not None}
    return rule(id=f"r{index}", layer=f"l{index}", why="w", fix="f", paper="p", **given, **asked)


def _relative(draw: random.Random, amounts: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    return {key: draw.choice(amounts["margin"]) for key in draw.sample(["max_drop", "max_rise"], draw.randint(1, 2))}


def _slices(draw: random.Random, amounts: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    asked: list[dict[str, Any]] = [
        {"min": draw.choice(amounts["min"])},
        {"max": draw.choice(amounts["max"])},
        {"worst_gap": {"max": draw.choice(amounts["gap"])}},
        {"relative": _relative(draw, amounts)},
        {"bounds": {"ja": {"min": draw.choice(amounts["min"])}}, "min": draw.choice(amounts["min"])},
    ]
    keys = {"min_rows": draw.choice(amounts["min_rows"]), "required": draw.choice(amounts["required"])}
    return {"by": ["language"], **keys, **{key: each for part in draw.sample(asked, 2) for key, each in part.items()}}


def _measured(of: Policy, draw: random.Random) -> Measurements:
    asked = [
        question_of(each)._replace(slice=slice_)
        for each in of.rules
        for slice_ in ((), *((("language", name),) for name in LANGUAGES))
    ]

    def numbers(low: float, high: float) -> dict[Question, Estimate]:
        return {question: normal(draw.uniform(low, high), draw.uniform(0.1, 2)) for question in asked}

    rows: dict[Slice, int] = {(("language", name),): draw.randint(30, 500) for name in LANGUAGES}
    rows[("language", "ja"),] = 500  # rules have bounds of its own for it, so that it may not be too small
    return Measurements(numbers(50, 100), numbers(50, 100), numbers(-12, 12), {("language",): rows})


def spoilt(estimate: Estimate, draw: random.Random, number: Any) -> Estimate:
    """The estimate with something that is no number in its value or at an end of its interval."""
    low, high = estimate.interval or (0.0, 0.0)
    return draw.choice(
        [
            replace(estimate, value=number),
            replace(estimate, interval=(number, high)),
            replace(estimate, interval=(low, number)),
            replace(estimate, interval=None),
        ]
    )


def with_estimates(measured: Measurements, kind: str, estimates: dict[Question, Estimate]) -> Measurements:
    """The measurements with other estimates of the candidate, the baseline or their changes."""
    changes: Any = {kind: estimates}
    return replace(measured, **changes)


def as_a_model_may_have_it(measured: Measurements, seed: int) -> Measurements:
    """Some of the numbers refused, some without an end, some levels without an interval; or there is no baseline."""
    draw = random.Random(seed)  # noqa: S311

    def odd(each: Estimate) -> Estimate:
        return draw.choice(
            [
                *[each] * 12,
                refused("few_rows: 3 rows", "inconclusive", n_needed=90),
                refused("missing_input: it needs labels", "not_applicable"),
                refused("zero_rows: the rows are zero"),
                replace(each, value=inf, interval=None, detail="a class without rows"),
                replace(each, interval=(-inf, 90.0)),
                replace(each, value=nan),
                replace(
                    each,
                    intervals={level: (-inf, inf) if level > 0.99 else ends for level, ends in each.intervals.items()},
                ),
                replace(each, detail="worst pair: '3' and '5'"),
            ]
        )

    parts = (measured.candidate, measured.baseline, measured.changes)
    candidate, baseline, changes = ({question: odd(each) for question, each in part.items()} for part in parts)
    if draw.random() < 0.2:
        return Measurements(candidate, {}, {}, measured.slices, "there is no baseline models:/encoder@champion")
    return Measurements(candidate, baseline, changes, measured.slices)
