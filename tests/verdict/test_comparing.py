"""The change against a baseline and the gap between slices, as estimates that hold what they say."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from math import comb, hypot, inf, nan
from typing import Any

import numpy as np
import pytest

from gate.policy.rules import Relative
from gate.verdict.comparing import change_against, worst_gap
from tests.verdict.made import estimate, normal

CANDIDATE = estimate(95.0, (94.0, 96.0))


def slices(*found: Any) -> Any:
    return {(("part", str(number)),): each for number, each in enumerate(found)}


@pytest.mark.parametrize(
    ("relative", "moved"),
    [
        ({"max_drop": "10%"}, 1.0),
        ({"max_rise": "20%"}, 2.0),
        ({"max_drop": "10%", "max_rise": "20%"}, 2.0),
        ({"max_drop": 3, "max_rise": "20%"}, 2.0),
        ({"max_drop": 3, "max_rise": 4}, 0.0),
    ],
)
@pytest.mark.parametrize("interval", [(90.0, 105.0), (95.0, 110.0)])
def test_a_percentage_of_an_uncertain_baseline_makes_the_change_less_certain(
    relative: dict[str, Any], moved: float, interval: tuple[float, float]
) -> None:
    change = estimate(-5.0, (-6.0, -4.0))
    seen = change_against(change, CANDIDATE, estimate(100.0, interval), Relative.model_validate(relative), 0.95)
    assert seen.value == -5.0
    assert seen.interval == pytest.approx((-6 - moved, -4 + moved))


def test_the_wider_interval_of_a_change_holds_whatever_the_correlation_with_the_baseline() -> None:
    """Of change + share * baseline, the standard error is at most the sum of both: here it is met exactly."""
    change, baseline = normal(-5.0, 1.0), normal(100.0, 3.0)
    seen = change_against(change, CANDIDATE, baseline, Relative.model_validate({"max_drop": "10%"}), 0.99)
    assert change.at(0.99).interval is not None
    assert baseline.at(0.99).interval is not None
    reach = (1.0 + 0.1 * 3.0) * 2.5758293
    assert seen.interval == pytest.approx((-5 - reach, -5 + reach))


def test_the_gap_is_the_largest_of_all_differences_and_names_its_slices() -> None:
    seen = worst_gap(slices(normal(5, 0.1), normal(9, 0.1), normal(2, 0.1), normal(8, 0.1)), 0.95)
    assert seen is not None
    assert (seen.value, seen.detail) == (7.0, "part=2 below part=1")
    assert seen.method == "largest difference of 4 slices, all at once"
    assert (seen.confidence, seen.n, seen.influence) == (0.95, 40000, None)


def test_every_difference_is_taken_at_the_level_of_bonferroni() -> None:
    one, two = normal(5, 0.3), normal(9, 0.4)
    pair = worst_gap(slices(one, two), 0.95)
    assert pair is not None
    assert pair.interval == pytest.approx((4 - 0.5 * 1.959964, 4 + 0.5 * 1.959964))
    more = worst_gap(slices(one, two, *[normal(7, 0.001)] * 3), 0.95)  # 10 pairs
    assert more is not None
    assert more.interval == pytest.approx((4 - 0.5 * 2.8070338, 4 + 0.5 * 2.8070338))


def test_a_pair_that_is_less_certain_may_be_the_one_that_lies_furthest_apart() -> None:
    seen = worst_gap(slices(normal(5, 0.01), normal(9, 0.01), normal(8, 2.0)), 0.95)
    assert seen is not None
    assert seen.interval is not None
    reach = 2.3939798 * hypot(2.0, 0.01)  # of three pairs
    assert (seen.value, seen.detail) == (4.0, "part=0 below part=1")
    assert seen.interval[0] == pytest.approx(4 - 2.3939798 * hypot(0.01, 0.01))
    assert seen.interval[1] == pytest.approx(3 + reach)


def test_the_ends_of_lopsided_intervals_are_put_together_side_by_side() -> None:
    one, two = estimate(5.0, (4.0, 5.5), intervals={}), estimate(9.0, (8.6, 12.0), intervals={})
    seen = worst_gap(slices(one, two), 0.95)
    assert seen is not None
    assert seen.interval == pytest.approx((4 - hypot(0.4, 0.5), 4 + hypot(3.0, 1.0)))


@pytest.mark.parametrize("count", [0, 1])
def test_there_is_no_gap_without_two_slices(count: int) -> None:
    assert worst_gap(slices(*[normal(5, 1)] * count), 0.95) is None


def test_a_gap_is_never_said_to_be_below_zero() -> None:
    seen = worst_gap(slices(normal(5, 1), normal(5, 1)), 0.95)
    assert seen is not None
    assert seen.value == 0
    assert seen.interval is not None
    assert seen.interval[0] == 0 < seen.interval[1]


@pytest.mark.parametrize("count", [2, 3, 6, 12])
@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0])
def test_the_interval_of_the_gap_holds_the_largest_difference(count: int, spread: float) -> None:
    rng = np.random.default_rng(count)
    draws, held = 400, 0
    for _ in range(draws):
        true, errors = rng.normal(0, spread, size=count), rng.uniform(0.1, 1.0, size=count)
        told = [
            normal(float(value), float(error)) for value, error in zip(rng.normal(true, errors), errors, strict=True)
        ]
        seen = worst_gap(slices(*told), 0.95)
        assert seen is not None
        assert seen.interval is not None
        largest = max(abs(a - b) for a, b in combinations(true, 2))
        held += seen.interval[0] <= largest <= seen.interval[1]
    assert held / draws >= 0.95 - 2 * (0.95 * 0.05 / draws) ** 0.5


def test_more_slices_than_there_are_levels_for_leave_the_gap_open() -> None:
    seen = worst_gap(slices(*[normal(5, 0.1)] * 500), 0.95)
    assert comb(500, 2) > 100_000
    assert seen is not None
    assert seen.status == "inconclusive"
    assert str(seen.reason).startswith("no_interval: on part=0, an interval of ")


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"interval": (-inf, inf)}, "error", "not_finite: in the candidate, the interval is"),
        ({"value": nan}, "error", "not_finite: in the candidate, the value is nan"),
        (
            {"status": "inconclusive", "reason": "few_rows: 3 rows"},
            "inconclusive",
            "few_rows: in the candidate, 3 rows",
        ),
    ],
)
def test_a_change_of_a_candidate_without_a_sound_number_is_refused(
    changes: dict[str, Any], status: str, reason: str
) -> None:
    relative = Relative.model_validate({"max_drop": 50})
    candidate = replace(CANDIDATE, **changes)
    seen = change_against(estimate(0.0, (-0.1, 0.1)), candidate, estimate(95.0, (94.0, 96.0)), relative, 0.95)
    assert (seen.status, seen.value, seen.interval) == (status, None, None)
    assert str(seen.reason).startswith(reason)
