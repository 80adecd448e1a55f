"""Many rules at once: the textbook procedure, and never a decision that a rule alone would not get."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from gate.estimate import Estimate
from gate.evidence.wording import miss
from gate.verdict import Measurements, judge, levels, question_of
from gate.verdict.multiplicity import _SHARES
from tests.verdict.made import ON, estimate, policy, rule

NORMAL = NormalDist()


def exact(value: float, error: float, most: int) -> Estimate:
    """An estimate with its interval at every level that so many rules may ask for."""

    def ends(level: float) -> tuple[float, float]:
        reach = NORMAL.inv_cdf((1 + level) / 2) * error
        return value - reach, value + reach

    return estimate(
        value, ends(0.95), intervals={1 - 0.05 / share: ends(1 - 0.05 / share) for share in range(1, most + 1)}
    )


def outcomes(values: Any, multiplicity: str, **keys: Any) -> list[str]:
    """Of rules that ask for at least 0, each of a layer of its own."""
    rules = [rule(id=f"r{index}", layer=f"l{index}", min=0) for index in range(len(values))]
    found = {question_of(each): exact(value, 1.0, len(values)) for each, value in zip(rules, values, strict=True)}
    layers = {each.layer: {"path": each.layer} for each in rules}
    defaults = {"multiplicity": multiplicity, **keys}
    judged = judge(policy(*rules, layers=layers, defaults=defaults), Measurements(found), ON)
    return [each.status for each in judged.findings]


def textbook(values: Any) -> list[str]:
    """Holm's step-down on two-sided p-values, one hypothesis after the other."""
    p = [2 * (1 - NORMAL.cdf(abs(value))) for value in values]
    decided = ["inconclusive"] * len(p)
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if p[index] > 0.05 / (len(p) - rank):
            break
        decided[index] = "pass" if values[index] > 0 else "fail"
    return decided


@pytest.mark.parametrize("count", [1, 2, 5, 20])
@pytest.mark.parametrize("shift", [0.0, 2.0, 3.0])
def test_holm_is_the_procedure_of_the_textbook(count: int, shift: float) -> None:
    rng = np.random.default_rng(count)
    seen = set()
    for _ in range(60):
        values = rng.normal(0, 1, size=count) + shift * rng.choice([-1, 0, 1], size=count)
        found = outcomes(values.tolist(), "holm")
        assert found == textbook(values.tolist())
        seen |= set(found)
    assert count < 5 or shift == 0 or seen == {"pass", "fail", "inconclusive"}


def test_holm_decides_nothing_that_a_rule_alone_leaves_open_and_leaves_more_open() -> None:
    rng = np.random.default_rng(0)
    fewer = 0
    for _ in range(100):
        values = rng.normal(0, 2.5, size=8).tolist()
        alone, together = outcomes(values, "none"), outcomes(values, "holm")
        assert all(now in (before, "inconclusive") for before, now in zip(alone, together, strict=True))
        fewer += sum(now != before for before, now in zip(alone, together, strict=True))
    assert fewer > 50


def test_holm_makes_one_false_decision_in_at_most_one_run_of_twenty() -> None:
    rng = np.random.default_rng(1)
    draws = 1500
    false = {"none": 0, "holm": 0}
    for _ in range(draws):
        values = rng.normal(0, 1, size=5).tolist()
        for multiplicity in false:
            false[multiplicity] += set(outcomes(values, multiplicity)) != {"inconclusive"}
    assert false["holm"] / draws < 0.05 + 2 * (0.05 * 0.95 / draws) ** 0.5
    assert false["none"] / draws > 0.15


@pytest.mark.parametrize(
    ("other", "value", "level", "shown", "says"),
    [
        (9.0, 1.9, 0.95, "95", None),
        (0.5, 2.1, 0.975, "97.5", "all rules at once ask for 97.5% of it, and at 95%, by itself, it would be decided"),
        (0.5, 1.9, 0.975, "97.5", "at 95%, by itself, it is not decided either"),
    ],
)
def test_what_is_left_open_says_at_which_level_and_whether_it_is_because_of_the_others(
    other: float, value: float, level: float, shown: str, says: str | None
) -> None:
    rules = [rule(id=name, layer=name, min=0) for name in ("a", "b")]
    found = {question_of(rules[0]): exact(other, 1.0, 2), question_of(rules[1]): exact(value, 1.0, 2)}
    layers = {each.layer: {"path": each.layer} for each in rules}
    keys: Any = {"layers": layers, "defaults": {"multiplicity": "holm"}}
    _, open_ = judge(policy(*rules, **keys), Measurements(found), ON).findings
    assert (open_.status, open_.confidence) == ("inconclusive", level)
    assert open_.message.endswith(f" (n = {open_.n})" + (f"; {says}" if says else ""))
    assert f"not decided ({shown}% interval" in miss(vars(open_), 0.95)


def test_errors_and_what_is_not_judged_take_no_share_of_the_level() -> None:
    values = [2.0, 2.5]
    rules = [rule(id=f"r{index}", layer=f"l{index}", min=0) for index in range(6)]
    found = {question_of(each): exact(value, 1.0, 6) for each, value in zip(rules, values, strict=False)}
    layers = {each.layer: {"path": each.layer} for each in rules}
    keys: Any = {"layers": layers, "defaults": {"multiplicity": "holm"}}
    judged = judge(policy(*rules, **keys), Measurements(found), ON)
    assert [each.status for each in judged.findings] == ["pass", "pass", *["error"] * 4]


def test_a_level_without_a_finite_interval_is_left_open_and_is_no_error() -> None:
    rules = [rule(id=name, layer=name, min=0) for name in ("a", "b", "c")]
    wide = estimate(9.0, (1.0, 17.0), intervals={1 - 0.05 / share: (float("-inf"), float("inf")) for share in (2, 3)})
    found = {question_of(each): wide for each in rules}
    layers = {each.layer: {"path": each.layer} for each in rules}
    keys: Any = {"layers": layers, "defaults": {"multiplicity": "holm"}}
    judged = judge(policy(*rules, **keys), Measurements(found), ON)
    assert [each.status for each in judged.findings] == ["inconclusive"] * 3
    assert str(judged.findings[0].reason).startswith("no_interval: an interval of 0.983333 is asked for")


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95, 0.99])
def test_levels_are_those_that_several_rules_may_ask_for(confidence: float) -> None:
    found = levels(confidence)
    assert list(found) == sorted(set(found))
    assert {1 - (1 - confidence) / share for share in _SHARES} <= set(found)
    assert confidence in [pytest.approx(level, abs=1e-12) for level in found]
    assert all(0.5 < level < 1 for level in found)


@pytest.mark.parametrize("count", [7, 9, 40])
def test_between_two_levels_the_wider_interval_counts(count: int) -> None:
    told = exact(9.0, 1.0, 1)
    known = {level: (9 - reach, 9 + reach) for level in levels(0.95) for reach in [NORMAL.inv_cdf((1 + level) / 2)]}
    seen = estimate(9.0, told.interval, intervals=known).at(1 - 0.05 / count)
    nearest = min(share for share in _SHARES if share >= count)
    assert seen.confidence == pytest.approx(1 - 0.05 / nearest)
    assert seen.interval == known[seen.confidence]
