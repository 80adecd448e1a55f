"""Whether an estimate is a finite number inside a finite interval: nothing else is judged, compared or put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gate.estimate import is_number

if TYPE_CHECKING:
    from gate.estimate import Estimate


class Reading(NamedTuple):
    """A value inside its interval, all three finite."""

    value: float
    low: float
    high: float


def reading(estimate: Estimate) -> Reading | None:
    """Value and interval when they are finite numbers and the interval contains the value; None otherwise."""
    value, (low, high) = estimate.value, estimate.interval or (None, None)
    if is_number(value) and is_number(low) and is_number(high) and low <= value <= high:
        return Reading(value, low, high)
    return None


def at(estimate: Estimate, confidence: float) -> Estimate:
    """The estimate at a level; what is no finite measurement as it stands is none at another level either."""
    return estimate if reading(estimate) is None else estimate.at(confidence)


def why_unsound(estimate: Estimate) -> str:
    """Why there is no reading, with its code."""
    value, interval = estimate.value, estimate.interval
    if not is_number(value):
        more = f" ({estimate.detail})" if estimate.detail else ""
        return f"not_finite: the value is {value!r}{more}, expected a finite number"
    if interval is None or not all(is_number(end) for end in interval):
        return f"not_finite: the interval is {interval!r}, expected two finite numbers"
    return f"bad_interval: the interval {interval!r} does not contain the value {value!r}"
