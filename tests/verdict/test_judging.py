"""One measurement and one bound: what passes, what does not, and what people are told."""

from __future__ import annotations

from math import inf, nan

import pytest
import torch

from gate.estimate import Influence
from gate.verdict.judging import ROWS_SHOWN
from tests.verdict.made import estimate, found, rule


def test_a_failure_reads_like_the_example_of_the_design() -> None:
    seen = found(rule(why="w", fix="f"), estimate())
    assert seen.status == "fail"
    assert seen.message == "effective_rank of layer 'embedding' is 62.5 [60.1, 64.8], must be at least 96"
    assert (seen.margin, seen.value, seen.interval) == (33.5, 62.5, (60.1, 64.8))
    assert (seen.n, seen.d, seen.c, seen.method) == (10000, 256, None, "delta")
    assert (seen.rule, seen.metric, seen.layer, seen.slice) == ("rank", "effective_rank", "embedding", None)
    assert (seen.min, seen.max, seen.why, seen.fix, seen.reason) == (96, None, "w", "f", None)


@pytest.mark.parametrize(
    ("bounds", "interval", "expected"),
    [
        ({"min": 1}, (2, 3), "pass"),
        ({"min": 2}, (2, 3), "pass"),
        ({"max": 3}, (2, 3), "pass"),
        ({"min": 2, "max": 3}, (2, 3), "pass"),
        ({"min": 2.1}, (2, 3), "inconclusive"),
        ({"min": 3}, (2, 3), "inconclusive"),
        ({"max": 2.9}, (2, 3), "inconclusive"),
        ({"max": 2}, (2, 3), "inconclusive"),
        ({"min": 2.4, "max": 2.6}, (2, 3), "inconclusive"),
        ({"min": 1, "max": 2.6}, (2, 3), "inconclusive"),
        ({"min": 3.1}, (2, 3), "fail"),
        ({"max": 1.9}, (2, 3), "fail"),
        ({"min": 3.1, "max": 4}, (2, 3), "fail"),
        ({"min": 0, "max": 1.9}, (2, 3), "fail"),
        ({"min": -1}, (-3, -2), "fail"),
        ({"max": -1}, (-3, -2), "pass"),
        ({"max": 0}, (0, 0), "pass"),
    ],
)
def test_the_whole_interval_is_judged(bounds: dict[str, float], interval: tuple[float, float], expected: str) -> None:
    middle = sum(interval) / 2
    assert found(rule(**bounds), estimate(middle, interval)).status == expected
    lenient = found(rule(**bounds, severity="warn"), estimate(middle, interval)).status
    assert lenient == ("pass" if expected == "pass" else "warn")


@pytest.mark.parametrize("bounds", [{"min": 0}, {"max": 1000}, {"min": 0, "max": 1000}])
@pytest.mark.parametrize(
    ("value", "interval", "reason"),
    [
        (nan, (1.0, 2.0), "not_finite: the value is nan"),
        (inf, (1.0, inf), "not_finite: the value is inf"),
        (None, (1.0, 2.0), "not_finite: the value is None"),
        (None, None, "not_finite: the value is None"),
        (True, (0.0, 2.0), "not_finite: the value is True"),
        ("1", (0.0, 2.0), "not_finite: the value is '1'"),
        ([], (0.0, 2.0), "not_finite: the value is []"),
        (1.5, None, "not_finite: the interval is None"),
        (1.5, (nan, 2.0), "not_finite: the interval is (nan, 2.0)"),
        (1.5, (1.0, nan), "not_finite: the interval is (1.0, nan)"),
        (1.5, (nan, nan), "not_finite: the interval is (nan, nan)"),
        (1.5, (-inf, 2.0), "not_finite: the interval is (-inf, 2.0)"),
        (1.5, (1.0, inf), "not_finite: the interval is (1.0, inf)"),
        (1.5, (True, 2.0), "not_finite: the interval is (True, 2.0)"),
        (1.5, (None, 2.0), "not_finite: the interval is (None, 2.0)"),
        (1.5, (2.0, 3.0), "bad_interval: the interval (2.0, 3.0) does not contain the value 1.5"),
        (1.5, (2.0, 1.0), "bad_interval: the interval (2.0, 1.0) does not contain the value 1.5"),
    ],
)
def test_what_is_no_finite_measurement_is_an_error(
    value: object, interval: object, reason: str, bounds: dict[str, float]
) -> None:
    for severity in ("block", "warn"):
        seen = found(rule(**bounds, severity=severity), estimate(value, interval))
        assert seen.status == "error"
        assert seen.reason is not None
        assert seen.reason.startswith(reason)
        assert "could not be judged: " in seen.message
        assert seen.interval is None


@pytest.mark.parametrize("status", ["error", "not_applicable", "something else"])
@pytest.mark.parametrize("severity", ["block", "warn"])
def test_a_refused_metric_is_an_error_whatever_its_value(status: str, severity: str) -> None:
    seen = found(rule(severity=severity), estimate(500.0, (499.0, 501.0), status=status, reason="no_labels: why"))
    assert (seen.status, seen.reason) == ("error", "no_labels: why")
    assert seen.message == (
        "effective_rank of layer 'embedding' could not be judged: no_labels: why; it must be at least 96"
    )


def test_a_refusal_without_a_reason_still_has_one() -> None:
    assert found(rule(), estimate(status="error")).reason == "unknown: the metric gave no reason"


@pytest.mark.parametrize(("value", "interval"), [(None, None), (500.0, (499.0, 501.0)), (nan, None)])
def test_an_inconclusive_metric_never_passes(value: float | None, interval: tuple[float, float] | None) -> None:
    told = estimate(value, interval, status="inconclusive", reason="n_over_d: too few rows", n_needed=2560)
    seen = found(rule(), told)
    assert (seen.status, seen.reason, seen.n_needed) == ("inconclusive", "n_over_d: too few rows", 2560)
    assert seen.message == (
        "effective_rank of layer 'embedding' cannot be decided: n_over_d: too few rows; about 2560 rows are needed; "
        "it must be at least 96"
    )
    assert found(rule(severity="warn"), told).status == "warn"


def test_no_estimate_at_all_is_an_error() -> None:
    seen = found(rule(severity="warn"), None)
    assert (seen.status, seen.reason) == ("error", "missing: no estimate was made for this rule")
    assert (seen.value, seen.n, seen.method) == (None, None, None)


def test_an_estimate_of_another_metric_is_an_error() -> None:
    seen = found(rule(), estimate(500.0, (499.0, 501.0), metric="vci"))
    assert seen.status == "error"
    assert seen.reason == "wrong_metric: the estimate is of 'vci', the rule asks for 'effective_rank'"


@pytest.mark.parametrize(
    ("bounds", "value", "interval", "n", "needed"),
    [
        ({"min": 96}, 98.0, (94.0, 102.0), 1000, 4000),  # half-width 4, distance 2
        ({"min": 96}, 94.0, (90.0, 98.0), 1000, 4000),
        ({"max": 96}, 98.0, (94.0, 102.0), 1000, 4000),
        ({"min": 96}, 98.0, (95.0, 110.0), 1000, 2250),  # the side that crosses: 3 over 2
        ({"min": 0, "max": 10}, 4.0, (-1.0, 11.0), 100, 157),  # of 5/4 and 7/6, the one that asks for more
        ({"min": 96}, 94.0, (92.0, 96.0), 1000, 1001),
        ({"min": 96}, 96.0, (95.0, 97.0), 1000, None),
        ({"max": 0.3}, 0.1, (0.0, 0.4), 7, 16),  # 15.75, rounded up
    ],
)
def test_the_rows_that_would_decide_are_told(
    bounds: dict[str, float], value: float, interval: tuple[float, float], n: int, needed: int | None
) -> None:
    seen = found(rule(**bounds), estimate(value, interval, n=n))
    assert seen.status == "inconclusive"
    assert seen.n_needed == needed
    words = f"about {needed} rows would decide" if needed else "no number of rows decides a value on the bound"
    assert seen.message.endswith(f": the interval crosses the bound, {words} (n = {n})")
    assert seen.reason == "crosses_bound: the interval reaches over the bound"


@pytest.mark.parametrize(
    ("bounds", "margin"),
    [
        ({"min": 3}, 1.0),
        ({"max": 1.5}, 0.5),
        ({"min": 1}, -1.0),
        ({"min": 0, "max": 5}, -2.0),
        ({"min": 3, "max": 9}, 1),
    ],
)
def test_the_margin_is_the_distance_of_the_value_beyond_the_nearest_bound(
    bounds: dict[str, float], margin: float
) -> None:
    assert found(rule(**bounds), estimate(2.0, (1.9, 2.1))).margin == margin


def test_numbers_in_a_message_never_read_like_a_bound_that_they_miss() -> None:
    seen = found(
        rule(metric="collapse_index", max=0.35), estimate(0.35004, (0.35001, 0.35007), metric="collapse_index")
    )
    assert seen.status == "fail"
    assert "is 0.35004 [0.35001, 0.35007], must be at most 0.35" in seen.message


@pytest.mark.parametrize(
    ("bounds", "value", "interval", "words"),
    [
        ({"min": 20000}, 12345.6, (12000.0, 12600.0), "is 12346 [12000, 12600], must be at least 20000"),
        ({"min": 0.2, "max": 0.8}, 0.5, (0.49, 0.51), "is 0.5 [0.49, 0.51], must be between 0.2 and 0.8"),
        ({"max": 1}, 3e9, (2.5e9, 3.5e9), "is 3e+09 [2.5e+09, 3.5e+09], must be at most 1"),
        ({"max": 0.1}, 0.0, (0.0, 0.0123456), "is 0 [0, 0.0123], must be at most 0.1"),
    ],
)
def test_a_message_says_what_was_measured_and_required(
    bounds: dict[str, float], value: float, interval: tuple[float, float], words: str
) -> None:
    assert words in found(rule(**bounds), estimate(value, interval)).message


def test_the_detail_of_an_estimate_is_part_of_the_message() -> None:
    seen = found(rule(), estimate(detail="worst pair: '3' and '5'"))
    assert seen.message.endswith("is 62.5 [60.1, 64.8] (worst pair: '3' and '5'), must be at least 96")


def influence() -> Influence:
    ids = tuple(f"row-{index:02}" for index in range(60))
    return Influence(ids, torch.tensor([index - 29.5 for index in range(60)], dtype=torch.float64))


@pytest.mark.parametrize(
    ("bounds", "interval", "first", "sign"),
    [
        ({"min": 96}, (60.1, 64.8), "row-00", -1),
        ({"max": 3}, (60.1, 64.8), "row-59", 1),
        ({"min": 61}, (60.1, 64.8), "row-00", -1),
        ({"max": 61}, (60.1, 64.8), "row-59", 1),
        ({"min": 0, "max": 3}, (60.1, 64.8), "row-59", 1),
        ({"min": 96, "max": 200}, (60.1, 64.8), "row-00", -1),
    ],
)
def test_the_rows_that_push_over_the_bound_are_named_strongest_first(
    bounds: dict[str, float], interval: tuple[float, float], first: str, sign: int
) -> None:
    rows = found(rule(**bounds), estimate(62.5, interval, influence=influence())).rows
    assert len(rows) == ROWS_SHOWN
    assert rows[0].id == first
    assert all(row.influence * sign > 0 for row in rows)
    strengths = [abs(row.influence) for row in rows]
    assert strengths == sorted(strengths, reverse=True)


def test_no_row_is_blamed_for_a_pass_or_without_a_finite_influence() -> None:
    assert found(rule(min=3), estimate(influence=influence())).rows == ()
    broken = Influence(("a", "b", "c"), torch.tensor([nan, -inf, -1.0]))
    assert [row.id for row in found(rule(), estimate(influence=broken)).rows] == ["c"]


@pytest.mark.parametrize(("value", "bound"), [(1e-200, 0.0), (0.1, 0.1 + 1e-15), (5e-324, 0.0)])
def test_a_value_that_hardly_leaves_its_bound_asks_for_no_number_of_rows(value: float, bound: float) -> None:
    seen = found(rule(min=bound), estimate(value, (value - 1, value + 1)))
    assert (seen.status, seen.n_needed) == ("inconclusive", None)
    assert "no number of rows decides a value on the bound" in seen.message


def test_the_level_of_the_policy_is_that_of_the_interval() -> None:
    sure = estimate(100.0, (97.0, 103.0), intervals={0.99: (94.0, 106.0)})
    assert (found(rule(), sure).status, found(rule(), sure).confidence) == ("pass", 0.95)
    strict = found(rule(), sure, defaults={"confidence": 0.99})
    assert (strict.status, strict.confidence, strict.interval) == ("inconclusive", 0.99, (94.0, 106.0))


def test_an_interval_of_less_than_the_level_of_the_policy_decides_nothing() -> None:
    seen = found(rule(), estimate(100.0, (97.0, 103.0)), defaults={"confidence": 0.99})
    assert (seen.status, seen.interval) == ("inconclusive", None)
    assert seen.reason == "no_interval: an interval of 0.99 is asked for, the widest known is 0.95"
