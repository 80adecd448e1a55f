"""At which level the intervals of the written policy are judged where the most is asked of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gate.streaming.opening import open_rows
from gate.verdict import Measurements
from gate.verdict.cases import cases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gate.calibration.asking import Asked
    from gate.policy.rules import Rule
    from gate.policy.schema import Probe
    from gate.verdict.measurements import Slice

_ROWS = 10_000  # read at once


def widest(asked: Asked) -> float:
    """Two-sided level of the widest interval that the policy may judge.

    With `holm` it is that of the first step, 1 - a / m: m counts everything that the rules ask for, of the whole probe
    set, against the baseline, of each slice and between slices. Whatever keeps its bound there is decided at once,
    however the rest turns out.

    Raises:
        ProbeError: The probe set cannot be read, or lacks a column that a rule cuts it by.
    """
    defaults, probe = asked.policy.defaults, asked.policy.probe
    if defaults.multiplicity == "none":
        return defaults.confidence
    rules = (asked.like.policy if asked.like else asked.policy).rules
    measured = Measurements({}, slices=_slices(rules, probe) if probe else {})
    count = sum(case.settled is None for rule in rules for case in cases(rule, measured))
    return 1 - (1 - defaults.confidence) / count


def _slices(rules: Sequence[Rule], probe: Probe) -> dict[tuple[str, ...], dict[Slice, int]]:
    """How many rows each slice has, by the columns that the rules cut by."""
    counts: dict[tuple[str, ...], Counter[tuple[str, ...]]] = {
        rule.slices.by: Counter() for rule in rules if rule.enabled and rule.slices
    }
    if not counts:
        return {}
    tags = tuple(dict.fromkeys(column for by in counts for column in by))
    for rows in open_rows(probe, tags).read_tags(_ROWS):
        for by, count in counts.items():
            count.update(zip(*(rows[column] for column in by), strict=True))
    return {
        by: {tuple(zip(by, values, strict=True)): rows for values, rows in count.items()}
        for by, count in counts.items()
    }
