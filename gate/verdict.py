"""Rule and estimate to finding, findings to verdict, verdict to exit code. Pure: no clock, no file, no environment.

The whole interval is judged, and every comparison is written so that NaN cannot pass:

    the metric was refused, or its value or interval is no finite number     error
    interval inside the bounds                                               pass
    interval wholly outside                                                  fail
    interval across a bound                                                  inconclusive

`severity: warn` turns fail and inconclusive into warn, never an error. A run is the worst of its findings.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, isfinite
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeGuard

from gate.errors import NothingEvaluatedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gate.estimate import Estimate
    from gate.policy.schema import Rule

Outcome = Literal["pass", "fail", "inconclusive", "warn", "error"]
Status = Literal["passed", "warned", "failed", "inconclusive", "error"]
FailOn = Literal["error", "fail", "inconclusive", "warn", "never"]

ROWS_SHOWN = 20
LONGEST_WHOLE = 6  # digits before the point, in a message

OUTCOMES = ("pass", "fail", "inconclusive", "warn", "waived", "not_evaluated", "error")
_WORST_FIRST: tuple[tuple[Outcome, Status], ...] = (
    ("error", "error"),
    ("fail", "failed"),
    ("inconclusive", "inconclusive"),
    ("warn", "warned"),
    ("pass", "passed"),
)
_CODES: dict[Status, int] = {"error": 3, "failed": 1, "inconclusive": 4, "warned": 6, "passed": 0}
_NO_REASON = "unknown: the metric gave no reason"
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
    """One rule, judged."""

    rule: str
    metric: str
    layer: str
    status: Outcome
    severity: Literal["block", "warn"]
    message: str  # one sentence: what was measured, and what was required
    reason: str | None = None  # why there is no decision: begins with a code, "not_finite: …"
    value: float | None = None
    interval: tuple[float, float] | None = None
    min: float | None = None
    max: float | None = None
    margin: float | None = None  # how far the value lies beyond the nearest bound; negative inside
    n: int | None = None
    d: int | None = None
    c: int | None = None
    method: str | None = None
    n_needed: int | None = None  # rows that would decide an inconclusive one
    rows: tuple[DrivingRow, ...] = ()  # those that push the value over the bound, the strongest first
    why: str | None = None
    fix: str | None = None
    slice: str | None = None


class _Reading(NamedTuple):
    """A value inside its interval, all three finite."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """The outcome of a run; the exit code is that of the default `--fail-on inconclusive`."""

    status: Status
    exit_code: int
    counts: dict[str, int]  # by outcome, zeros included


def judge(rule: Rule, estimate: Estimate | None) -> Finding:
    """Judge one rule on the estimate of its metric at its layer; None, no estimate at all, is an error."""
    if estimate is None:
        return _undecided(rule, None, "error", "missing: no estimate was made for this rule")
    if refusal := _refusal(rule, estimate):
        return _undecided(rule, estimate, "error", refusal)
    if estimate.status == "inconclusive":
        return _undecided(rule, estimate, "inconclusive", estimate.reason or _NO_REASON)
    reading = _reading(estimate)
    if reading is None:
        return _undecided(rule, estimate, "error", _why_unsound(estimate))
    return _decided(rule, estimate, reading)


def decide(findings: Sequence[Finding]) -> Verdict:
    """The worst finding decides: error, fail, inconclusive, warn, pass.

    Raises:
        NothingEvaluatedError: There is no finding; silence is not a pass.
    """
    if not findings:
        raise NothingEvaluatedError("no rule was evaluated, so there is no verdict; a policy needs at least one rule")
    counts = {outcome: sum(finding.status == outcome for finding in findings) for outcome in OUTCOMES}
    if sum(counts.values()) != len(findings):
        raise ValueError(f"findings of unknown status: {[finding.status for finding in findings]!r}")
    status = next(status for outcome, status in _WORST_FIRST if counts[outcome])
    return Verdict(status, _silenced(_CODES[status], "inconclusive"), counts)


def exit_code(verdict: Verdict, fail_on: FailOn = "inconclusive") -> int:
    """The exit code under `--fail-on`, which may silence 1, 4 and 6 and nothing else; `--dry-run` is "never"."""
    if verdict.exit_code in _NEVER_SILENCED:
        return verdict.exit_code
    return _silenced(_CODES[verdict.status], fail_on)


def _silenced(code: int, fail_on: FailOn) -> int:
    return code if code in _NEVER_SILENCED | _NON_ZERO[fail_on] else 0


def _refusal(rule: Rule, estimate: Estimate) -> str | None:
    """Why this is no estimate for this rule; None when it is one."""
    if estimate.metric != rule.metric:
        return f"wrong_metric: the estimate is of {estimate.metric!r}, the rule asks for {rule.metric!r}"
    if estimate.status not in ("ok", "inconclusive"):
        return estimate.reason or _NO_REASON
    return None


def _reading(estimate: Estimate) -> _Reading | None:
    """Value and interval when they are finite numbers and the interval contains the value; None otherwise."""
    value, (low, high) = estimate.value, estimate.interval or (None, None)
    if _is_number(value) and _is_number(low) and _is_number(high) and low <= value <= high:
        return _Reading(value, low, high)
    return None


def _why_unsound(estimate: Estimate) -> str:
    value, interval = estimate.value, estimate.interval
    if not _is_number(value):
        more = f" ({estimate.detail})" if estimate.detail else ""
        return f"not_finite: the value is {value!r}{more}, expected a finite number"
    if interval is None or not all(_is_number(end) for end in interval):
        return f"not_finite: the interval is {interval!r}, expected two finite numbers"
    return f"bad_interval: the interval {interval!r} does not contain the value {value!r}"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _decided(rule: Rule, estimate: Estimate, reading: _Reading) -> Finding:
    floor = -inf if rule.min is None else rule.min
    ceiling = inf if rule.max is None else rule.max
    short, over = floor - reading.value, reading.value - ceiling
    margin = max(short, over)
    message = _measured(rule, estimate, reading)
    if reading.low >= floor and reading.high <= ceiling:
        return _finding(rule, estimate, "pass", message, margin=margin)
    rows = _driving_rows(estimate, sign=-1 if short >= over else 1)
    if reading.high < floor or reading.low > ceiling:
        return _finding(rule, estimate, "fail", message, margin=margin, rows=rows)
    needed = _rows_needed(estimate.n, reading, (rule.min, rule.max))
    message = f"{message}: {_crossing(estimate.n, needed)}"
    reason = "crosses_bound: the interval reaches over the bound"
    return _finding(rule, estimate, "inconclusive", message, reason=reason, margin=margin, rows=rows, n_needed=needed)


def _undecided(rule: Rule, estimate: Estimate | None, outcome: Outcome, reason: str) -> Finding:
    verb = "could not be judged" if outcome == "error" else "cannot be decided"
    needed = estimate.n_needed if estimate and outcome == "inconclusive" else None
    more = f"; about {needed} rows are needed" if needed is not None else ""
    message = f"{rule.metric} of layer {rule.layer!r} {verb}: {reason}{more}; it {_required(rule)}"
    return _finding(rule, estimate, outcome, message, reason=reason, n_needed=needed)


def _finding(
    rule: Rule,
    estimate: Estimate | None,
    outcome: Outcome,
    message: str,
    *,
    reason: str | None = None,
    margin: float | None = None,
    rows: tuple[DrivingRow, ...] = (),
    n_needed: int | None = None,
) -> Finding:
    warns = rule.severity == "warn" and outcome in ("fail", "inconclusive")
    value = estimate.value if estimate else None
    reading = _reading(estimate) if estimate else None
    return Finding(
        rule=rule.id,
        metric=rule.metric,
        layer=rule.layer,
        status="warn" if warns else outcome,
        severity=rule.severity,
        message=message,
        reason=reason,
        value=value if _is_number(value) else None,
        interval=(reading.low, reading.high) if reading else None,
        min=rule.min,
        max=rule.max,
        margin=margin,
        n=estimate.n if estimate else None,
        d=estimate.d if estimate else None,
        c=estimate.c if estimate else None,
        method=estimate.method if estimate else None,
        n_needed=n_needed,
        rows=rows,
        why=rule.why,
        fix=rule.fix,
    )


def _driving_rows(estimate: Estimate, *, sign: int) -> tuple[DrivingRow, ...]:
    if estimate.influence is None:
        return ()
    pairs = zip(estimate.influence.ids, estimate.influence.values.tolist(), strict=True)
    pushing = [DrivingRow(id_, float(move)) for id_, move in pairs if 0 < sign * move < inf]
    return tuple(sorted(pushing, key=lambda row: (-abs(row.influence), row.id))[:ROWS_SHOWN])


def _rows_needed(n: int, reading: _Reading, bounds: tuple[float | None, float | None]) -> int | None:
    """How many rows put the interval on one side: n (half-width / distance)^2, of the crossed bound that asks for most.

    None when the value lies on a bound: no number of rows decides that.
    """
    needed = n + 1
    for bound in bounds:
        if bound is None or not reading.low <= bound <= reading.high:
            continue
        if reading.value == bound:
            return None
        half_width = reading.value - reading.low if bound < reading.value else reading.high - reading.value
        needed = max(needed, ceil(n * (half_width / abs(bound - reading.value)) ** 2))
    return needed


def _crossing(n: int, needed: int | None) -> str:
    more = f"about {needed} rows would decide" if needed else "no number of rows decides a value on the bound"
    return f"the interval crosses the bound, {more} (n = {n})"


def _required(rule: Rule) -> str:
    if rule.min is None:
        return f"must be at most {rule.max:.12g}"
    if rule.max is None:
        return f"must be at least {rule.min:.12g}"
    return f"must be between {rule.min:.12g} and {rule.max:.12g}"


def _measured(rule: Rule, estimate: Estimate, reading: _Reading) -> str:
    value, low, high = _told_apart(reading, [bound for bound in (rule.min, rule.max) if bound is not None])
    detail = f" ({estimate.detail})" if estimate.detail else ""
    return f"{rule.metric} of layer {rule.layer!r} is {value} [{low}, {high}]{detail}, {_required(rule)}"


def _told_apart(numbers: Sequence[float], bounds: Sequence[float]) -> list[str]:
    """The shortest texts, of three digits or more, in which no number reads like a bound that it differs from."""
    texts = [f"{bound:.12g}" for bound in bounds]
    for digits in range(3, 18):
        shown = [_number(number, digits) for number in numbers]
        if all(text not in texts or number in bounds for number, text in zip(numbers, shown, strict=True)):
            break
    return shown


def _number(number: float, digits: int) -> str:
    whole = len(f"{abs(number):.0f}")  # digits before the point: 12345.6 reads 12346, not 1.23e+04
    return f"{number:.{max(digits, whole) if whole <= LONGEST_WHOLE else digits}g}"
