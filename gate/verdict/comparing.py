"""The change against a baseline, and the gap between slices, as estimates that can be judged like any other."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from math import hypot, inf
from typing import TYPE_CHECKING

from gate.verdict.measurements import slice_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gate.estimate import Estimate
    from gate.policy.kinds import Margin
    from gate.policy.rules import Relative
    from gate.verdict.measurements import Slice


def change_against(change: Estimate, baseline: Estimate, relative: Relative, confidence: float) -> Estimate:
    """The paired difference, with the uncertainty of the margins in its interval.

    A percentage of the baseline is itself an estimate: an end of the interval moves out by that percentage of the
    baseline's own half-width, which is no less than what any correlation of the two can make of it.
    """
    difference, base = change.at(confidence), baseline.at(confidence)
    if difference.status != "ok" or difference.interval is None:
        return difference
    if base.status != "ok" or base.interval is None or base.value is None:
        return replace(base, influence=None)
    half = max(base.value - base.interval[0], base.interval[1] - base.value)
    low, high = difference.interval
    interval = (low - _share(relative.max_drop) * half, high + _share(relative.max_rise) * half)
    return replace(difference, interval=interval)


def _share(margin: Margin | None) -> float:
    return margin.amount / 100 if margin and margin.percent else 0.0


def worst_gap(slices: Mapping[Slice, Estimate | None], confidence: float) -> Estimate | None:
    """The largest difference between two slices.

    The interval of every difference is put together from those of its two slices (Donner and Zou 2002), at a level at
    which all of them hold at once (Bonferroni), so that the largest is held as well.
    """
    pairs = len(slices) * (len(slices) - 1) // 2
    found = {
        each: None if estimate is None else estimate.at(1 - (1 - confidence) / pairs)
        for each, estimate in slices.items()
    }
    if None in found.values():
        return None
    estimates = {each: estimate for each, estimate in found.items() if estimate is not None}
    for estimate in estimates.values():
        if estimate.status != "ok" or estimate.value is None or estimate.interval is None:
            return estimate
    value, names, low, high = -inf, ("", ""), 0.0, 0.0
    for (first, one), (second, two) in combinations(estimates.items(), 2):
        gap, ends = _difference(one, two)
        low, high = max(low, ends[0], -ends[1]), max(high, ends[1], -ends[0])
        if abs(gap) > value:
            order = (first, second) if gap < 0 else (second, first)
            value, names = abs(gap), (slice_name(order[0]) or "", slice_name(order[1]) or "")
    return replace(
        next(iter(estimates.values())),
        value=value,
        interval=(low, high),
        n=sum(estimate.n for estimate in estimates.values()),
        confidence=confidence,
        method=f"largest difference of {len(estimates)} slices, all at once",
        detail=f"{names[0]} below {names[1]}",
        influence=None,
    )


def _difference(one: Estimate, two: Estimate) -> tuple[float, tuple[float, float]]:
    if one.value is None or two.value is None or one.interval is None or two.interval is None:
        return 0.0, (-inf, inf)
    gap = one.value - two.value
    down = hypot(one.value - one.interval[0], two.interval[1] - two.value)
    up = hypot(one.interval[1] - one.value, two.value - two.interval[0])
    return gap, (gap - down, gap + up)
