"""A bound for every rule that the good versions allow one for, and what each of them would catch."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import TYPE_CHECKING, NamedTuple

from gate.calibration.bounds import Bound, Reading, Unbounded, bound
from gate.calibration.tolerance import factor
from gate.verdict import question_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gate.calibration.asking import Candidate
    from gate.calibration.measuring import Version
    from gate.calibration.worthless import Worthless
    from gate.estimate import Estimate
    from gate.geometry.catalogue import Span
    from gate.verdict import Question


class LeftOut(NamedTuple):
    """A rule that the policy does not get, and why."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True)
class Shares:
    """How the rate of false alarms is shared.

    Attributes:
        false_alarm: Rate of a whole run.
        assurance: Chance that these bounds in particular keep it.
        bounds: Among how many bounds, those that were not chosen included.
        factor: How many spreads from the mean of the good versions that makes.
    """

    false_alarm: float
    assurance: float
    bounds: int
    factor: float


@dataclass(frozen=True)
class Proposal:
    """A rule with its bounds.

    Attributes:
        candidate: The rule.
        bounds: One or two.
        good: Readings of the good versions.
        bad: Estimates of the bad versions, in their order; None where there is none.
        caught: Which of the bad versions lie wholly beyond a bound.
        worthless: Kinds of worthlessness that lie beyond a bound.
        separation: How far the nearest that it catches lies beyond, against the room that good versions have.
    """

    candidate: Candidate
    bounds: tuple[Bound, ...]
    good: tuple[Reading, ...]
    bad: tuple[Estimate | None, ...]
    caught: tuple[bool, ...]
    worthless: tuple[str, ...]
    separation: float


def proposed(
    candidates: Sequence[Candidate],
    good: Sequence[Version],
    bad: Sequence[Version],
    worthless: Worthless,
    *,
    false_alarm: float,
    assurance: float,
    level: float,
) -> tuple[list[Proposal], list[LeftOut], Shares]:
    """Bounds for all candidates that every good version answers.

    Args:
        candidates: Rules and sides.
        good: Versions that must pass, at least one.
        bad: Versions that must not.
        worthless: What is measured of representations that are worth nothing.
        false_alarm: Chance that another good version does not pass a whole run, in (0, 0.5).
        assurance: Chance that these bounds in particular keep that rate.
        level: Two-sided level of the intervals that will be judged.
    """
    readings, left_out = _readings(candidates, good, level)
    count = sum(len(candidate.sides) for candidate in candidates if candidate.rule.id in readings)
    if not count:
        return [], left_out, Shares(false_alarm, assurance, 0, inf)
    shares = Shares(false_alarm, assurance, count, factor(len(good), count, false_alarm, assurance))
    found: list[Proposal] = []
    for candidate in candidates:
        if candidate.rule.id not in readings:
            continue
        outcome = _proposal(candidate, readings[candidate.rule.id], bad, worthless, shares, level)
        if isinstance(outcome, Proposal):
            found.append(outcome)
        else:
            left_out.append(outcome)
    return found, left_out, shares


def _readings(
    candidates: Iterable[Candidate], good: Sequence[Version], level: float
) -> tuple[dict[str, tuple[Reading, ...]], list[LeftOut]]:
    """What every good version measured, by rule; and the rules that one of them has no answer to."""
    found: dict[str, tuple[Reading, ...]] = {}
    left_out: list[LeftOut] = []
    for candidate in candidates:
        readings = [_reading(_estimate(candidate, version), level) for version in good]
        whole = tuple(each for each in readings if isinstance(each, Reading))
        if len(whole) == len(good):
            found[candidate.rule.id] = whole
        else:
            version, reason = next(
                (version, each) for version, each in zip(good, readings, strict=True) if isinstance(each, str)
            )
            left_out.append(LeftOut(candidate, f"{version.subject} has no answer: {reason}"))
    return found, left_out


def _estimate(candidate: Candidate, version: Version) -> Estimate | None:
    found: Mapping[Question, Estimate] = version.estimates
    return found.get(question_of(candidate.rule))


def _reading(estimate: Estimate | None, level: float) -> Reading | str:
    """The reading, or why there is none."""
    if estimate is None:
        return "missing: no estimate was made"
    at = estimate.at(level)
    if at.status != "ok" or at.value is None or at.interval is None:
        return at.reason or f"{at.status}: no interval"
    low, high = at.interval
    if not (isfinite(low) and isfinite(high) and low <= at.value <= high):
        return f"not_finite: the interval is {at.interval!r}"
    return Reading(at.value, low, high, _step(at))


def _step(estimate: Estimate) -> float:
    """The smallest step of what is counted: a row of a proportion, a channel of a count; 0 for all else."""
    if estimate.method.startswith("Wilson"):
        return 1 / (estimate.trials or estimate.n)
    return 1 / estimate.d if estimate.method.startswith("count") else 0.0


def _proposal(
    candidate: Candidate,
    good: tuple[Reading, ...],
    bad: Sequence[Version],
    worthless: Worthless,
    shares: Shares,
    level: float,
) -> Proposal | LeftOut:
    limits = _limits(candidate.rule.metric)
    outcomes = [bound(side, good, limits=limits, factor=shares.factor, confidence=level) for side in candidate.sides]
    bounds = tuple(each for each in outcomes if isinstance(each, Bound))
    if not bounds:
        return LeftOut(candidate, "; ".join(each.reason for each in outcomes if isinstance(each, Unbounded)))
    estimates = tuple(_estimate(candidate, version) for version in bad)
    intervals = [_interval(estimate, level) for estimate in estimates]
    question = question_of(candidate.rule)
    values = {kind: found[question] for kind, found in worthless.items() if question in found}
    seen = tuple(kind for kind, value in values.items() if _catches(bounds, (value, value)))
    caught = tuple(each is not None and _catches(bounds, each) for each in intervals)
    if values and not seen and not any(caught):
        passed = ", ".join(values)
        return LeftOut(
            candidate, f"too wide: {_shown(bounds)} lets everything worthless pass that was tried ({passed})"
        )
    beyond = [each for each, hit in zip(intervals, caught, strict=True) if each and hit]
    beyond = beyond or [(values[kind], values[kind]) for kind in seen]
    separation = min((_distance(bounds, each) for each in beyond), default=0.0)
    return Proposal(candidate, bounds, good, estimates, caught, seen, separation)


def _shown(bounds: Sequence[Bound]) -> str:
    return " and ".join(f"{each.side} {each.number:g}" for each in bounds)


def _interval(estimate: Estimate | None, level: float) -> Span | None:
    found = _reading(estimate, level)
    return (found.low, found.high) if isinstance(found, Reading) else None


def _catches(bounds: Sequence[Bound], interval: Span) -> bool:
    return any(each.excludes(*interval) for each in bounds)


def _distance(bounds: Sequence[Bound], interval: Span) -> float:
    low, high = interval
    return max(each.distance(high if each.side == "min" else low) for each in bounds)


def _limits(metric: str) -> Span:
    from gate.geometry import catalogue

    name, _, readout = metric.partition(".")
    return catalogue.load()[name].limits[readout or "value"]
