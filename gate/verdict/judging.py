"""One case and a confidence level to a finding. Pure: no clock, no file, no environment.

The whole interval is judged, and every comparison is written so that NaN cannot pass:

    the metric was refused, or its value or interval is no finite number     error
    interval inside the bounds                                               pass
    interval wholly outside                                                  fail
    interval across a bound                                                  inconclusive
"""

from __future__ import annotations

from math import ceil, inf
from typing import TYPE_CHECKING

from gate.estimate import is_number
from gate.verdict.measurements import direction, slice_name
from gate.verdict.outcomes import DrivingRow, Finding
from gate.verdict.readings import reading, why_unsound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gate.estimate import Estimate
    from gate.verdict.cases import Case
    from gate.verdict.outcomes import Outcome
    from gate.verdict.readings import Reading

ROWS_SHOWN = 20
LONGEST_WHOLE = 6  # digits before the point, in a message
_MOST_TIMES = 1e6  # a value that is nearer to a bound than that share of its half-width lies on it
_NO_REASON = "unknown: the metric gave no reason"


def judged(case: Case, confidence: float) -> Finding:
    """Judge one case at a two-sided confidence level; no estimate at all is an error."""
    if case.settled is not None:
        return _undecided(case, None, *case.settled)
    estimate = case.at(confidence)
    if estimate is None:
        return _undecided(case, None, "error", "missing: no estimate was made for this rule")
    if refusal := _refusal(case, estimate):
        return _undecided(case, estimate, *refusal)
    found = reading(estimate)
    if found is None:
        return _undecided(case, estimate, "error", why_unsound(estimate))
    return _decided(case, estimate, found)


def _refusal(case: Case, estimate: Estimate) -> tuple[Outcome, str] | None:
    """What it comes to, and why, when this is no number for this rule; None when it is one."""
    if estimate.metric != case.rule.metric:
        return "error", f"wrong_metric: the estimate is of {estimate.metric!r}, the rule asks for {case.rule.metric!r}"
    if estimate.status == "ok":
        return None
    outcome: Outcome = "inconclusive" if estimate.status == "inconclusive" else "error"
    return outcome, estimate.reason or _NO_REASON


def _decided(case: Case, estimate: Estimate, found: Reading) -> Finding:
    floor = -inf if case.min is None else case.min
    ceiling = inf if case.max is None else case.max
    short, over = floor - found.value, found.value - ceiling
    margin = max(short, over)
    message = _measured(case, estimate, found)
    if found.low >= floor and found.high <= ceiling:
        return _finding(case, estimate, "pass", message, margin=margin)
    rows = _driving_rows(estimate, sign=-1 if short >= over else 1)
    if found.high < floor or found.low > ceiling:
        return _finding(case, estimate, "fail", message, margin=margin, rows=rows)
    needed = _rows_needed(estimate.n, found, (case.min, case.max))
    message = f"{message}: {_crossing(estimate.n, needed)}"
    reason = "crosses_bound: the interval reaches over the bound"
    return _finding(case, estimate, "inconclusive", message, reason=reason, margin=margin, rows=rows, n_needed=needed)


_UNDECIDED = {
    "error": "could not be judged",
    "inconclusive": "cannot be decided",
    "not_evaluated": "was not evaluated",
}


def _undecided(case: Case, estimate: Estimate | None, outcome: Outcome, reason: str) -> Finding:
    needed = estimate.n_needed if estimate and outcome == "inconclusive" else None
    more = f"; about {needed} rows are needed" if needed is not None else ""
    required = f"; it {case.required}" if case.required else ""
    message = f"{case.subject} {_UNDECIDED[outcome]}: {reason}{more}{required}"
    return _finding(case, estimate, outcome, message, reason=reason, n_needed=needed)


def _finding(
    case: Case,
    estimate: Estimate | None,
    outcome: Outcome,
    message: str,
    *,
    reason: str | None = None,
    margin: float | None = None,
    rows: tuple[DrivingRow, ...] = (),
    n_needed: int | None = None,
) -> Finding:
    rule, value = case.rule, estimate.value if estimate else None
    found = reading(estimate) if estimate else None
    return Finding(
        rule=rule.id,
        metric=rule.metric,
        layer=rule.layer,
        status=outcome,
        severity=rule.severity,
        message=message,
        check=case.check,
        slice=slice_name(case.slice),
        location=_location(case, found),
        reason=reason,
        value=value if is_number(value) else None,
        interval=(found.low, found.high) if found else None,
        confidence=estimate.confidence if estimate and found else None,
        min=case.min,
        max=case.max,
        margin=margin,
        baseline=case.baseline,
        n=estimate.n if estimate else None,
        d=estimate.d if estimate else None,
        c=estimate.c if estimate else None,
        method=estimate.method if estimate else None,
        n_needed=n_needed,
        rows=rows,
        why=rule.why,
        fix=rule.fix,
        docs=rule.docs,
        paper=rule.paper,
        enforce_from=rule.enforce_from,
    )


def _location(case: Case, found: Reading | None) -> tuple[str | int, ...]:
    """The key of the bound that the interval does not hold; of one that is held, the lower where there is one."""
    if case.min is None and case.max is None:
        return case.location
    held = found is not None and case.min is not None and found.low >= case.min
    upper = case.min is None or (held and case.max is not None)
    return (*case.location, case.upper if upper else case.lower)


def _driving_rows(estimate: Estimate, *, sign: int) -> tuple[DrivingRow, ...]:
    if estimate.influence is None:
        return ()
    pairs = zip(estimate.influence.ids, estimate.influence.values.tolist(), strict=True)
    pushing = [DrivingRow(id_, float(move)) for id_, move in pairs if 0 < sign * move < inf]
    return tuple(sorted(pushing, key=lambda row: (-abs(row.influence), row.id))[:ROWS_SHOWN])


def _rows_needed(n: int, found: Reading, bounds: tuple[float | None, float | None]) -> int | None:
    """How many rows put the interval on one side: n (half-width / distance)^2, of the crossed bound that asks for most.

    None when the value lies on a bound: no number of rows decides that.
    """
    needed = n + 1
    for bound in bounds:
        if bound is None or not found.low <= bound <= found.high:
            continue
        half_width = found.value - found.low if bound < found.value else found.high - found.value
        distance = abs(bound - found.value)
        if distance * _MOST_TIMES <= half_width:
            return None
        needed = max(needed, ceil(n * (half_width / distance) ** 2))
    return needed


def _crossing(n: int, needed: int | None) -> str:
    more = f"about {needed} rows would decide" if needed else "no number of rows decides a value on the bound"
    return f"the interval crosses the bound, {more} (n = {n})"


def _measured(case: Case, estimate: Estimate, found: Reading) -> str:
    value, low, high = _told_apart(found, [bound for bound in (case.min, case.max) if bound is not None])
    detail = f" ({estimate.detail})" if estimate.detail else ""
    if case.check == "relative":
        change = f"changed by {value} [{low}, {high}]{_judgement_of(case, found)}"
        return f"{case.subject} {change} from the baseline's {case.baseline:.4g}, {case.required}"
    verb = "differs between slices by" if case.check == "worst_gap" else "is"
    return f"{case.subject} {verb} {value} [{low}, {high}]{detail}, {case.required}"


def _judgement_of(case: Case, found: Reading) -> str:
    """Whether a change is one for the better or for the worse, where that can be said."""
    better = direction(case.rule.metric)
    if better == "range" or found.low <= 0 <= found.high:
        return ""
    return " for the better" if (found.value > 0) == (better == "higher") else " for the worse"


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
