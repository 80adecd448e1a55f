"""The change against a baseline, and the gap between slices, as estimates that can be judged like any other."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from math import comb, hypot
from typing import TYPE_CHECKING

from gate.estimate import qualified
from gate.verdict.measurements import slice_name
from gate.verdict.readings import Reading, at, reading, why_unsound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gate.estimate import Estimate
    from gate.policy.kinds import Margin
    from gate.policy.rules import Relative
    from gate.verdict.measurements import Slice

_BASELINE = "in the baseline"
_CANDIDATE = "in the candidate"


def change_against(
    change: Estimate, candidate: Estimate, baseline: Estimate, relative: Relative, confidence: float
) -> Estimate:
    """The paired difference, with the uncertainty of the margins in its interval; refused where one of the two is.

    A percentage of the baseline is itself an estimate: both ends of the interval move out by that percentage of the
    baseline's own half-width, which is no less than what any correlation of the two can make of it.
    """
    share = max(_share(relative.max_drop), _share(relative.max_rise))
    difference = at(change, confidence)
    base = _sound(at(baseline, confidence) if share else baseline, _BASELINE)
    for side in (_sound(candidate, _CANDIDATE), base):
        if side.status != "ok":
            refused = replace(difference, status=side.status, reason=side.reason, n_needed=side.n_needed)
            return replace(refused, value=None, interval=None)
    found, own = reading(difference), reading(base)
    if difference.status != "ok" or found is None or own is None:
        return difference
    more = share * max(own.value - own.low, own.high - own.value)
    return replace(difference, interval=(found.low - more, found.high + more))


def _share(margin: Margin | None) -> float:
    return margin.amount / 100 if margin and margin.percent else 0.0


def worst_gap(slices: Mapping[Slice, Estimate | None], confidence: float) -> Estimate | None:
    """The largest difference between two slices; fewer than two, or a slice without a number, leave none.

    The interval of every difference is put together from those of its two slices (Donner and Zou 2002), at a level at
    which all of them hold at once (Bonferroni), so that the largest is held as well.
    """
    if len(slices) < 2:
        return None
    level = 1 - (1 - confidence) / comb(len(slices), 2)
    estimates = {
        each: _sound(at(one, level), f"on {slice_name(each)}") for each, one in slices.items() if one is not None
    }
    if len(estimates) < len(slices):
        return None
    refused = [estimate for estimate in estimates.values() if estimate.status != "ok"]
    if refused:
        return min(refused, key=lambda estimate: estimate.status == "inconclusive")  # an error before all others
    readings = {each: found for each, estimate in estimates.items() if (found := reading(estimate)) is not None}
    gap, below, above = _largest(readings)
    return replace(
        next(iter(estimates.values())),
        value=gap.value,
        interval=(gap.low, gap.high),
        n=sum(estimate.n for estimate in estimates.values()),
        confidence=confidence,
        method=f"largest difference of {len(estimates)} slices, all at once",
        detail=f"{slice_name(below)} below {slice_name(above)}",
        influence=None,
    )


def _sound(estimate: Estimate, whose: str) -> Estimate:
    """The estimate, refused where it is no finite number inside a finite interval."""
    if estimate.status != "ok":
        return replace(estimate, reason=qualified(estimate.reason, whose))
    if reading(estimate) is None:
        return replace(estimate, status="error", reason=qualified(why_unsound(estimate), whose))
    return estimate


def _largest(readings: Mapping[Slice, Reading]) -> tuple[Reading, Slice, Slice]:
    """The largest of all differences with an interval that holds it, and the lower and the higher slice."""
    differences = {pair: _difference(readings[pair[0]], readings[pair[1]]) for pair in permutations(readings, 2)}
    (above, below), widest = max(differences.items(), key=lambda each: each[1].value)
    low = max(each.low for each in differences.values())
    high = max(each.high for each in differences.values())
    return Reading(widest.value, max(low, 0.0), high), below, above


def _difference(one: Reading, two: Reading) -> Reading:
    gap = one.value - two.value
    down = hypot(one.value - one.low, two.high - two.value)
    up = hypot(one.high - one.value, two.value - two.low)
    return Reading(gap, gap - down, gap + up)
