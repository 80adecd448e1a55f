"""A policy test, run: what the policy says of the measurements, and where that is not what the test expects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from gate.errors import NothingEvaluatedError, RegistryError
from gate.evidence.wording import finding_name
from gate.policy.scope import enforcement, require_in_scope
from gate.policy_tests.measuring import measurements
from gate.verdict import Occasion, judge

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gate.policy.schema import Baseline, Policy
    from gate.policy_tests.files import Suite
    from gate.policy_tests.schema import Case
    from gate.verdict import Finding, Outcome, Status

_ANY_DAY = date(1970, 1, 1)  # of a policy that knows no dates


@dataclass(frozen=True)
class Tested:
    """What became of one test.

    Attributes:
        name: Of the test.
        path: Of its file.
        line: Where it stands there.
        complaints: Everything that is not as expected; none of a test that passed.
    """

    name: str
    path: str
    line: int
    complaints: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether everything is as expected."""
        return not self.complaints


@dataclass(frozen=True)
class _Said:
    """What the policy says."""

    status: Status
    exit_code: int
    findings: Sequence[Finding]
    instead: str = ""  # why there are no findings


def run(suite: Suite) -> list[Tested]:
    """Run the tests of a file, in order."""
    return [
        Tested(case.name, suite.path, suite.line(index), tuple(_complaints(case, _said(case, suite.policy.policy))))
        for index, case in enumerate(suite.tests)
    ]


def _said(case: Case, policy: Policy) -> _Said:
    """The verdict as a check would reach it; where a check stops before there is one, its exit code."""
    if case.model is not None and case.model.startswith("models:/"):
        try:
            require_in_scope(policy, case.model.removeprefix("models:/").rpartition("/")[0], case.model)
        except NothingEvaluatedError as error:
            return _Said("error", error.exit_code, (), str(error))
    if case.no_baseline is not None and (stop := _needs_the_baseline(case, policy.baseline)):
        return _Said("error", RegistryError.exit_code, (), f"there is no baseline ({case.no_baseline}), and {stop}")
    alias = "" if case.alias is None else f"models:/any@{case.alias}"
    on = Occasion(() if case.model is None else (case.model,), case.date or _ANY_DAY, enforcement(policy, alias))
    judgement = judge(policy, measurements(case, policy), on)
    return _Said(judgement.verdict.status, judgement.verdict.exit_code, judgement.findings)


def _needs_the_baseline(case: Case, baseline: Baseline | None) -> str | None:
    """Why a check stops without the baseline, None where it goes on."""
    if baseline is None:
        return None
    if baseline.when_absent == "error":
        return "`when_absent: error` stops a check then"
    if "@" in baseline.uri or case.model == baseline.uri:  # of a named version, only the candidate itself is left out
        return None
    return f"{baseline.uri}, which is named, must be there unless the `model` of the test is that version"


def _complaints(case: Case, said: _Said) -> Iterator[str]:
    expected = case.expect
    for key, wanted, found in (
        ("status", expected.status, said.status),
        ("exit_code", expected.exit_code, said.exit_code),
    ):
        if wanted is not None and wanted != found:
            yield f"{key}: expected {wanted}, found {found}" + (f": {said.instead}" if said.instead else "")
    for outcome, names in expected.lists.items():
        yield from _unlike(outcome, names, said.findings)
    if expected.status not in (None, said.status) and not expected.lists:
        told = (each for each in said.findings if each.status != "pass")
        yield from (f"{_name(each)} is {each.status}: {each.message}" for each in told)


def _unlike(outcome: Outcome, names: Sequence[str], findings: Sequence[Finding]) -> Iterator[str]:
    """What is missing among the findings of an outcome, and what is there and was not expected."""
    for name in names:
        about = [each for each in findings if name in (each.rule, _name(each))]
        if not about:
            yield f"{outcome}: expected {name}, there is no such finding"
        elif all(each.status != outcome for each in about):
            found = "; ".join(f"{_name(each)} is {each.status}: {each.message}" for each in about)
            yield f"{outcome}: expected {name}, but {found}"
    for each in findings:
        if each.status == outcome and not {each.rule, _name(each)} & set(names):
            yield f"{outcome}: did not expect {_name(each)}: {each.message}"


def _name(finding: Finding) -> str:
    return finding_name(vars(finding))
