"""What a run adds up to, and what the shell is told."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any, get_args

import pytest

from gate.errors import NothingEvaluatedError
from gate.verdict import FailOn, Finding, Verdict, decide, exit_code, judge
from tests.verdict.made import ON, estimate, found, on_all_rows, policy, rule


def finding(status: Any) -> Finding:
    return replace(found(rule(), estimate()), status=status)


@pytest.mark.parametrize(
    ("statuses", "status", "code"),
    [
        (["pass"], "passed", 0),
        (["pass", "warn"], "warned", 0),
        (["pass", "waived"], "passed", 0),
        (["waived"], "passed", 0),
        (["pass", "not_evaluated"], "passed", 0),
        (["pass", "warn", "inconclusive"], "inconclusive", 4),
        (["inconclusive", "fail", "warn"], "failed", 1),
        (["fail", "error", "pass", "inconclusive"], "error", 3),
        (["not_evaluated", "error"], "error", 3),
    ],
)
def test_the_worst_finding_decides(statuses: list[str], status: str, code: int) -> None:
    verdict = decide([finding(each) for each in statuses])
    assert (verdict.status, verdict.exit_code) == (status, code)
    assert {outcome: count for outcome, count in verdict.counts.items() if count} == dict.fromkeys(statuses, 1)
    assert set(verdict.counts) == {"pass", "fail", "inconclusive", "warn", "waived", "not_evaluated", "error"}


@pytest.mark.parametrize("fail_on", get_args(FailOn))
def test_where_nothing_was_evaluated_the_exit_code_is_5_and_no_flag_silences_it(fail_on: FailOn) -> None:
    verdict = decide([finding("not_evaluated"), finding("not_evaluated")])
    assert (verdict.status, verdict.exit_code) == ("error", 5)
    assert exit_code(verdict, fail_on) == 5


def test_no_finding_is_no_verdict() -> None:
    with pytest.raises(NothingEvaluatedError, match="no rule was evaluated") as raised:
        decide([])
    assert raised.value.exit_code == 5


def test_a_policy_without_rules_is_no_verdict() -> None:
    with pytest.raises(NothingEvaluatedError, match="no rule was evaluated"):
        judge(policy(), on_all_rows(rule(), estimate()), ON)


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


def test_findings_stand_in_the_order_of_the_policy() -> None:
    rules = [rule(id=name) for name in ("b", "c", "a")]
    judged = judge(policy(*rules), on_all_rows(rule(), estimate()), ON)
    assert [each.rule for each in judged.findings] == ["b", "c", "a"]


def test_importing_the_verdict_imports_neither_torch_nor_pydantic() -> None:
    code = "import sys, gate.verdict; print(sorted({'torch', 'pydantic', 'mlflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
