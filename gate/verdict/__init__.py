"""Rules and measurements to findings, findings to a verdict, a verdict to an exit code.

Pure: no clock, no file, no environment. A check, a policy test, a backtest and a policy diff all go through `judge`.
A run is the worst of its findings; `severity: warn` turns fail and inconclusive into warn, never an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gate.verdict.cases import cases
from gate.verdict.measurements import Measurements, Question, Slice, question_of, slice_name
from gate.verdict.multiplicity import all_judged, levels
from gate.verdict.outcomes import (
    CHECKS,
    OUTCOMES,
    Check,
    DrivingRow,
    FailOn,
    Finding,
    Outcome,
    Status,
    Verdict,
    decide,
    exit_code,
)
from gate.verdict.softening import Occasion, Use, notes, softened, uses

if TYPE_CHECKING:
    from gate.policy.schema import Policy
    from gate.policy.waivers import Waiver

__all__ = [
    "CHECKS",
    "OUTCOMES",
    "Check",
    "DrivingRow",
    "FailOn",
    "Finding",
    "Judgement",
    "Measurements",
    "Occasion",
    "Outcome",
    "Question",
    "Slice",
    "Status",
    "Use",
    "Verdict",
    "decide",
    "exit_code",
    "judge",
    "levels",
    "question_of",
    "slice_name",
]


@dataclass(frozen=True)
class Judgement:
    """Everything that a policy says of some measurements.

    Attributes:
        findings: One or more of every rule, in the order of the policy.
        verdict: What they add up to.
        waivers: Those that name this model, with what became of them.
        notes: What a person should know besides.
    """

    findings: tuple[Finding, ...]
    verdict: Verdict
    waivers: tuple[tuple[Waiver, Use], ...]
    notes: tuple[str, ...]


def judge(policy: Policy, measured: Measurements, on: Occasion) -> Judgement:
    """Judge everything that a policy asks for.

    Raises:
        NothingEvaluatedError: The policy asks for nothing.
    """
    asked = [case for rule in policy.rules for case in cases(rule, measured)]
    bare = all_judged(asked, policy.defaults)
    slices = [case.slice for case in asked]
    findings = [
        softened(finding, slice_, policy.waivers, policy.defaults, on)
        for finding, slice_ in zip(bare, slices, strict=True)
    ]
    used = uses(policy.waivers, list(zip(findings, slices, strict=True)), on)
    return Judgement(tuple(findings), decide(findings), tuple(used), tuple(notes(used)))
