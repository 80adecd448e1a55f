"""Nothing bad passes: over random policies and measurements, one number that is none is enough."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from math import inf, nan
from typing import Any

import pytest

from gate.policy.schema import Policy
from gate.verdict import OUTCOMES, Measurements, Question, judge
from tests.verdict.drawn import drawn, spoilt, with_estimates
from tests.verdict.made import ON

NO_NUMBERS: tuple[Any, ...] = (nan, inf, -inf, None, True, "1", [])


@cache
def read_by(seed: int) -> tuple[tuple[str, Question], ...]:
    """The estimates that some rule rests on: without any of them, something is an error."""
    return tuple(_read_by(*drawn(seed)))


def _read_by(of: Policy, measured: Measurements) -> Iterator[tuple[str, Question]]:
    for kind in ("candidate", "baseline", "changes"):
        found = getattr(measured, kind)
        for question in found:
            rest = {each: found[each] for each in found if each != question}
            if judge(of, with_estimates(measured, kind, rest), ON).verdict.status == "error":
                yield kind, question


def test_sound_numbers_inside_of_loose_bounds_pass() -> None:
    judged = [judge(*drawn(seed), ON) for seed in range(60)]
    assert {each.verdict.status for each in judged} == {"passed"}
    assert sum(finding.check == "worst_gap" for each in judged for finding in each.findings) > 15
    assert sum(finding.check == "relative" for each in judged for finding in each.findings) > 50


@pytest.mark.parametrize("number", NO_NUMBERS, ids=repr)
def test_one_number_that_is_none_is_enough_not_to_pass(number: Any) -> None:
    """Wherever it stands, and whatever is waived, only warned of or allowed to stay open."""
    spoilt_runs = 0
    for seed in range(30):
        of, sound = drawn(seed)
        draw = random.Random(seed)  # noqa: S311
        for kind, question in draw.sample(found := read_by(seed), min(4, len(found))):
            estimates = dict(getattr(sound, kind))
            estimates[question] = spoilt(estimates[question], draw, number)
            verdict = judge(of, with_estimates(sound, kind, estimates), replace(ON, enforcement="warn")).verdict
            assert (verdict.status, verdict.exit_code) == ("error", 3), (seed, kind, question, estimates[question])
            spoilt_runs += 1
    assert spoilt_runs > 80


@pytest.mark.parametrize("number", NO_NUMBERS, ids=repr)
def test_one_further_interval_that_is_none_is_enough_not_to_pass_at_that_level(number: Any) -> None:
    for seed in range(25):
        of, sound = drawn(seed)
        of = of.model_copy(update={"waivers": (), "defaults": of.defaults.model_copy(update={"multiplicity": "holm"})})
        broken = {}
        for question, each in sound.candidate.items():
            ends: Any = (each.value, number)
            broken[question] = replace(each, intervals=dict.fromkeys(each.intervals, ends))
        judged = judge(of, replace(sound, candidate=broken), ON)
        alone = [finding for finding in judged.findings if finding.check != "relative"]
        assert "error" not in {finding.status for finding in judged.findings}
        assert all(finding.confidence == 0.95 for finding in alone if finding.status == "pass")


@pytest.mark.parametrize(
    "less",
    [
        lambda _: Measurements({}, {}, {}, {}),
        lambda found: replace(found, candidate={}),
        lambda found: replace(found, changes={}),
        lambda found: replace(found, baseline={}),
        lambda found: replace(found, slices={}),
        lambda found: replace(found, slices={("language",): {}}),
        lambda found: replace(found, slices={("site",): found.slices["language",]}),
        lambda found: replace(found, slices={("language",): dict.fromkeys(found.slices["language",], 3)}),
        lambda found: found,
    ],
)
def test_every_rule_has_a_finding_whatever_was_measured(less: Callable[[Measurements], Measurements]) -> None:
    for seed in range(25):
        of, sound = drawn(seed)
        judged = judge(of, less(sound), ON)
        assert {finding.rule for finding in judged.findings} == {each.id for each in of.rules}
        whole = judge(of, sound, ON)
        assert judged.verdict.status == "error" or len(judged.findings) >= len(whole.findings)


def test_no_softening_turns_an_error_into_anything_else() -> None:
    for seed in range(60):
        of, _ = drawn(seed)
        soft = of.model_copy(update={"defaults": of.defaults.model_copy(update={"inconclusive": "pass"})})
        judged = judge(soft, Measurements({}), replace(ON, enforcement="warn"))
        assert {finding.status for finding in judged.findings} == {"error"}
        assert judged.verdict.exit_code == 3


def test_of_tight_bounds_every_outcome_follows() -> None:
    """The policies that are drawn are no easy ones."""
    judged = [judge(*drawn(seed, loose=False), ON) for seed in range(80)]
    assert {finding.status for each in judged for finding in each.findings} == set(OUTCOMES)
    assert {each.verdict.status for each in judged} == {"passed", "warned", "failed", "inconclusive", "error"}
