"""The verdict algebra: what passes, what does not, and what the shell is told."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from math import inf, nan
from typing import Any, get_args

import pytest
import torch

from gate.errors import NothingEvaluatedError
from gate.estimate import Estimate, Influence
from gate.policy.schema import Rule
from gate.verdict import ROWS_SHOWN, FailOn, Finding, Verdict, decide, exit_code, judge


def rule(**changes: Any) -> Rule:
    bounds = {} if {"min", "max"} & set(changes) else {"min": 96}
    return Rule.model_validate({"id": "rank", "metric": "effective_rank", "layer": "embedding", **bounds, **changes})


def estimate(value: Any = 62.5, interval: Any = (60.1, 64.8), **changes: Any) -> Estimate:
    known: dict[str, Any] = {
        "metric": "effective_rank", "status": "ok", "reason": None, "standard_error": 1.2, "n": 10000, "d": 256,
        "c": None, "k": None, "n_needed": None, "method": "delta", "confidence": 0.95, "influence": None,
        "detail": None, "breakdown": None, "params": {},
    }  # fmt: skip
    return Estimate(**{**known, "value": value, "interval": interval, **changes})


def finding(status: Any) -> Finding:
    return replace(judge(rule(), estimate()), status=status)


def test_a_failure_reads_like_the_example_of_the_design() -> None:
    found = judge(rule(why="w", fix="f"), estimate())
    assert found.status == "fail"
    assert found.message == "effective_rank of layer 'embedding' is 62.5 [60.1, 64.8], must be at least 96"
    assert (found.margin, found.value, found.interval) == (33.5, 62.5, (60.1, 64.8))
    assert (found.n, found.d, found.c, found.method) == (10000, 256, None, "delta")
    assert (found.rule, found.metric, found.layer, found.slice) == ("rank", "effective_rank", "embedding", None)
    assert (found.min, found.max, found.why, found.fix, found.reason) == (96, None, "w", "f", None)


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
    assert judge(rule(**bounds), estimate(middle, interval)).status == expected
    lenient = judge(rule(**bounds, severity="warn"), estimate(middle, interval)).status
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
        found = judge(rule(**bounds, severity=severity), estimate(value, interval))
        assert found.status == "error"
        assert found.reason is not None
        assert found.reason.startswith(reason)
        assert "could not be judged: " in found.message
        assert found.interval is None


@pytest.mark.parametrize("status", ["error", "not_applicable", "something else"])
@pytest.mark.parametrize("severity", ["block", "warn"])
def test_a_refused_metric_is_an_error_whatever_its_value(status: str, severity: str) -> None:
    found = judge(rule(severity=severity), estimate(500.0, (499.0, 501.0), status=status, reason="no_labels: why"))
    assert (found.status, found.reason) == ("error", "no_labels: why")
    assert found.message == (
        "effective_rank of layer 'embedding' could not be judged: no_labels: why; it must be at least 96"
    )


def test_a_refusal_without_a_reason_still_has_one() -> None:
    assert judge(rule(), estimate(status="error")).reason == "unknown: the metric gave no reason"


@pytest.mark.parametrize(("value", "interval"), [(None, None), (500.0, (499.0, 501.0)), (nan, None)])
def test_an_inconclusive_metric_never_passes(value: float | None, interval: tuple[float, float] | None) -> None:
    told = estimate(value, interval, status="inconclusive", reason="n_over_d: too few rows", n_needed=2560)
    found = judge(rule(), told)
    assert (found.status, found.reason, found.n_needed) == ("inconclusive", "n_over_d: too few rows", 2560)
    assert found.message == (
        "effective_rank of layer 'embedding' cannot be decided: n_over_d: too few rows; about 2560 rows are needed; "
        "it must be at least 96"
    )
    assert judge(rule(severity="warn"), told).status == "warn"


def test_no_estimate_at_all_is_an_error() -> None:
    found = judge(rule(severity="warn"), None)
    assert (found.status, found.reason) == ("error", "missing: no estimate was made for this rule")
    assert (found.value, found.n, found.method) == (None, None, None)


def test_an_estimate_of_another_metric_is_an_error() -> None:
    found = judge(rule(), estimate(500.0, (499.0, 501.0), metric="vci"))
    assert found.status == "error"
    assert found.reason == "wrong_metric: the estimate is of 'vci', the rule asks for 'effective_rank'"


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
    found = judge(rule(**bounds), estimate(value, interval, n=n))
    assert found.status == "inconclusive"
    assert found.n_needed == needed
    words = f"about {needed} rows would decide" if needed else "no number of rows decides a value on the bound"
    assert found.message.endswith(f": the interval crosses the bound, {words} (n = {n})")
    assert found.reason == "crosses_bound: the interval reaches over the bound"


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
    assert judge(rule(**bounds), estimate(2.0, (1.9, 2.1))).margin == margin


def test_numbers_in_a_message_never_read_like_a_bound_that_they_miss() -> None:
    found = judge(
        rule(metric="collapse_index", max=0.35), estimate(0.35004, (0.35001, 0.35007), metric="collapse_index")
    )
    assert found.status == "fail"
    assert "is 0.35004 [0.35001, 0.35007], must be at most 0.35" in found.message


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
    assert words in judge(rule(**bounds), estimate(value, interval)).message


def test_the_detail_of_an_estimate_is_part_of_the_message() -> None:
    found = judge(rule(), estimate(detail="worst pair: '3' and '5'"))
    assert found.message.endswith("is 62.5 [60.1, 64.8] (worst pair: '3' and '5'), must be at least 96")


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
    rows = judge(rule(**bounds), estimate(62.5, interval, influence=influence())).rows
    assert len(rows) == ROWS_SHOWN
    assert rows[0].id == first
    assert all(row.influence * sign > 0 for row in rows)
    strengths = [abs(row.influence) for row in rows]
    assert strengths == sorted(strengths, reverse=True)


def test_no_row_is_blamed_for_a_pass_or_without_a_finite_influence() -> None:
    assert judge(rule(min=3), estimate(influence=influence())).rows == ()
    broken = Influence(("a", "b", "c"), torch.tensor([nan, -inf, -1.0]))
    assert [row.id for row in judge(rule(), estimate(influence=broken)).rows] == ["c"]


@pytest.mark.parametrize(
    ("statuses", "status", "code"),
    [
        (["pass"], "passed", 0),
        (["pass", "warn"], "warned", 0),
        (["pass", "warn", "inconclusive"], "inconclusive", 4),
        (["inconclusive", "fail", "warn"], "failed", 1),
        (["fail", "error", "pass", "inconclusive"], "error", 3),
    ],
)
def test_the_worst_finding_decides(statuses: list[str], status: str, code: int) -> None:
    verdict = decide([finding(each) for each in statuses])
    assert (verdict.status, verdict.exit_code) == (status, code)
    assert {outcome: count for outcome, count in verdict.counts.items() if count} == dict.fromkeys(statuses, 1)
    assert set(verdict.counts) == {"pass", "fail", "inconclusive", "warn", "waived", "not_evaluated", "error"}


def test_no_finding_is_no_verdict() -> None:
    with pytest.raises(NothingEvaluatedError, match="no rule was evaluated") as raised:
        decide([])
    assert raised.value.exit_code == 5


def test_a_finding_of_unknown_status_is_no_pass() -> None:
    with pytest.raises(ValueError, match="unknown status: \\['pass', 'ok'\\]"):
        decide([finding("pass"), finding("ok")])


CODES: dict[str, dict[str, int]] = {
    "passed": {"error": 0, "fail": 0, "inconclusive": 0, "warn": 0, "never": 0},
    "warned": {"error": 0, "fail": 0, "inconclusive": 0, "warn": 6, "never": 0},
    "inconclusive": {"error": 0, "fail": 0, "inconclusive": 4, "warn": 4, "never": 0},
    "failed": {"error": 0, "fail": 1, "inconclusive": 1, "warn": 1, "never": 0},
    "error": {"error": 3, "fail": 3, "inconclusive": 3, "warn": 3, "never": 3},
}
WORST = {"passed": "pass", "warned": "warn", "inconclusive": "inconclusive", "failed": "fail", "error": "error"}


@pytest.mark.parametrize("status", CODES)
@pytest.mark.parametrize("fail_on", get_args(FailOn))
def test_fail_on_chooses_what_is_non_zero_and_renumbers_nothing(status: str, fail_on: FailOn) -> None:
    verdict = decide([finding("pass"), finding(WORST[status])])
    assert exit_code(verdict, fail_on) == CODES[status][fail_on]
    assert exit_code(verdict) == verdict.exit_code


@pytest.mark.parametrize("code", [2, 3, 5, 7])
@pytest.mark.parametrize("fail_on", get_args(FailOn))
def test_no_flag_silences_an_error(code: int, fail_on: FailOn) -> None:
    assert exit_code(Verdict("error", code, {}), fail_on) == code


def test_importing_the_verdict_imports_neither_torch_nor_pydantic() -> None:
    code = "import sys, gate.verdict; print(sorted({'torch', 'pydantic', 'mlflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
