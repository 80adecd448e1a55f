"""From the intervals of the good versions to the number that a policy gets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING, Literal, NamedTuple

from gate.calibration.tolerance import scale_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gate.calibration.tolerance import Scale
    from gate.geometry.catalogue import Span

Side = Literal["min", "max"]
_FINE = 20  # steps of rounding from the good versions to their bound
_WIDEST = 1000  # times as far from the one limit that there is as the good versions: not worth its line
_AGREE = 1e-9  # of the number itself: less is rounding


class Reading(NamedTuple):
    """What a good version measured: the value, its interval, and the smallest step that a count can take (0: none)."""

    value: float
    low: float
    high: float
    step: float = 0.0


@dataclass(frozen=True)
class Bound:
    """A bound, and how it came about.

    Attributes:
        side: Key of the rule.
        number: As it is written, rounded away from the good versions.
        ends: Of the interval of each good version, those on this side.
        centre, spread: Of the ends, on the scale.
        factor: How many spreads it lies from the centre.
        edge: What that gives, before rounding.
        scale: On which it was found.
        why_spread: What stands in for the spread of the good versions, None where it is theirs.
    """

    side: Side
    number: float
    ends: tuple[float, ...]
    centre: float
    spread: float
    factor: float
    edge: float
    scale: Scale
    why_spread: str | None = None

    def excludes(self, low: float, high: float) -> bool:
        """Whether an interval lies wholly beyond it."""
        return high < self.number if self.side == "min" else low > self.number

    def distance(self, number: float) -> float:
        """How far beyond it a number lies, in units of its own distance from the good versions."""
        room = abs(self.number - fmean(self.ends)) or math.inf
        return (self.number - number if self.side == "min" else number - self.number) / room


class Unbounded(NamedTuple):
    """There is no bound, and why."""

    reason: str


class _Spread(NamedTuple):
    size: float
    why: str | None


def bound(
    side: Side, good: Sequence[Reading], *, limits: Span, factor: float, confidence: float = 0.95
) -> Bound | Unbounded:
    """The bound that another good version keeps.

    Args:
        side: Which.
        good: Readings of the good versions, at least one.
        limits: Smallest and largest possible number.
        factor: How many spreads from the mean it must lie, as `gate.calibration.tolerance.factor` says.
        confidence: Two-sided level of the intervals.
    """
    ends = [each.low if side == "min" else each.high for each in good]
    scale = scale_of(limits, [*ends, *(each.value for each in good)])
    points = [scale.to(end) for end in ends]
    centre = fmean(points)
    spread = _spread(points, good, scale, ends, confidence)
    if spread.size <= _AGREE * max(1.0, abs(centre)):
        return Unbounded("it does not vary between the good versions, so that nothing says how far another one may lie")
    edge = scale.back(centre - factor * spread.size if side == "min" else centre + factor * spread.size)
    number = _outward(side, edge, fmean(ends))
    far = f"for {len(good)} good version{'s'[: len(good) > 1]} {side} is {edge:.4g}, {factor:.3g} spreads away"
    if scale.formula and _is_endless(side, number, limits, ends):
        return Unbounded(f"{far}, which says nothing")
    if number <= limits[0] if side == "min" else number >= limits[1]:
        return Unbounded(f"{far}, which leaves out nothing that is possible")
    return Bound(side, number, tuple(ends), centre, spread.size, factor, edge, scale, spread.why)


def _spread(
    points: Sequence[float], good: Sequence[Reading], scale: Scale, ends: Sequence[float], confidence: float
) -> _Spread:
    """Of the ends on the scale; no less than half a step of what is counted, which versions that agree may still be."""
    if len(points) == 1:
        reach = NormalDist().inv_cdf((1 + confidence) / 2)
        found = _Spread(abs(scale.to(good[0].value) - points[0]) / reach, "sampling error")
    else:
        found = _Spread(stdev(points), None)
    step = max(each.step for each in good) / 2 * scale.slope(fmean(ends))
    return found if found.size >= step else _Spread(step, "half a step of the count")


def _is_endless(side: Side, number: float, limits: Span, ends: Sequence[float]) -> bool:
    """Whether a bound on the side without a limit lies far beyond any number that a version could have."""
    low, high = limits
    if side == "max":
        return math.isinf(high) and number - low > _WIDEST * (max(ends) - low)
    return math.isinf(low) and high - number > _WIDEST * (high - min(ends))


def _outward(side: Side, edge: float, centre: float) -> float:
    """Rounded away from the good versions, by little beside their distance."""
    distance = abs(edge - centre)
    if not distance > 0:
        return edge
    digits = -math.floor(math.log10(distance / _FINE))
    unit = 10.0**-digits
    whole = math.floor(edge / unit) if side == "min" else math.ceil(edge / unit)
    return round(whole * unit, max(digits, 0))
