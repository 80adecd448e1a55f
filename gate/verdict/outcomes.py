"""What judging a rule can come to, what a run adds up to, and the exit code of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gate.errors import NothingEvaluatedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from gate.policy.waivers import Waiver

Outcome = Literal["pass", "fail", "inconclusive", "warn", "waived", "not_evaluated", "error"]
Status = Literal["passed", "warned", "failed", "inconclusive", "error"]
FailOn = Literal["error", "fail", "inconclusive", "warn", "never"]
Check = Literal["bound", "relative", "worst_gap"]

CHECKS: tuple[Check, ...] = ("bound", "relative", "worst_gap")
OUTCOMES: tuple[Outcome, ...] = ("pass", "fail", "inconclusive", "warn", "waived", "not_evaluated", "error")
_WORST_FIRST: tuple[tuple[Outcome, Status], ...] = (
    ("error", "error"),
    ("fail", "failed"),
    ("inconclusive", "inconclusive"),
    ("warn", "warned"),
    ("waived", "passed"),
    ("pass", "passed"),
)
_CODES: dict[Status, int] = {"error": 3, "failed": 1, "inconclusive": 4, "warned": 6, "passed": 0}
_NEVER_SILENCED = frozenset({2, 3, 5, 7})
_NON_ZERO: dict[FailOn, frozenset[int]] = {
    "error": frozenset(),
    "never": frozenset(),
    "fail": frozenset({1}),
    "inconclusive": frozenset({1, 4}),
    "warn": frozenset({1, 4, 6}),
}


@dataclass(frozen=True)
class DrivingRow:
    """A probe row, and how much it moves the value."""

    id: str
    influence: float


@dataclass(frozen=True)
class Finding:
    """One thing that a rule asks for, judged."""

    rule: str
    metric: str
    layer: str
    status: Outcome
    severity: Literal["block", "warn"]
    message: str  # one sentence: what was measured, and what was required
    check: Check = "bound"
    slice: str | None = None  # "language=ja"; None is the whole probe set
    location: tuple[str | int, ...] = ()  # inside the rule, of the line of the policy that the finding is about
    reason: str | None = None  # why there is no decision: begins with a code, "not_finite: …"
    value: float | None = None
    interval: tuple[float, float] | None = None
    confidence: float | None = None  # two-sided level of the interval
    min: float | None = None
    max: float | None = None
    margin: float | None = None  # how far the value lies beyond the nearest bound; negative inside
    baseline: float | None = None  # what a relative one is compared with
    n: int | None = None
    d: int | None = None
    c: int | None = None
    method: str | None = None
    n_needed: int | None = None  # rows that would decide an inconclusive one
    rows: tuple[DrivingRow, ...] = ()  # those that push the value over the bound, the strongest first
    why: str | None = None
    fix: str | None = None
    docs: str | None = None
    paper: str | None = None
    enforce_from: date | None = None
    waiver: Waiver | None = None


@dataclass(frozen=True)
class Verdict:
    """The outcome of a run; the exit code is that of the default `--fail-on inconclusive`."""

    status: Status
    exit_code: int
    counts: dict[str, int]  # by outcome, zeros included


def decide(findings: Sequence[Finding]) -> Verdict:
    """The worst finding decides: error, fail, inconclusive, warn, pass. Where nothing was evaluated, that is an error.

    Raises:
        NothingEvaluatedError: There is no finding; silence is not a pass.
    """
    if not findings:
        raise NothingEvaluatedError("no rule was evaluated, so there is no verdict; a policy needs at least one rule")
    counts: dict[str, int] = {outcome: sum(each.status == outcome for each in findings) for outcome in OUTCOMES}
    if sum(counts.values()) != len(findings):
        raise ValueError(f"findings of unknown status: {[finding.status for finding in findings]!r}")
    status = next((status for outcome, status in _WORST_FIRST if counts[outcome]), None)
    if status is None:
        return Verdict("error", NothingEvaluatedError.exit_code, counts)
    return Verdict(status, _silenced(_CODES[status], "inconclusive"), counts)


def exit_code(verdict: Verdict, fail_on: FailOn = "inconclusive") -> int:
    """The exit code under `--fail-on`, which may silence 1, 4 and 6 and nothing else; `--dry-run` is "never"."""
    if verdict.exit_code in _NEVER_SILENCED:
        return verdict.exit_code
    return _silenced(_CODES[verdict.status], fail_on)


def _silenced(code: int, fail_on: FailOn) -> int:
    return code if code in _NEVER_SILENCED | _NON_ZERO[fail_on] else 0
