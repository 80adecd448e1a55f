"""Many rules at once: with how much confidence each of them must be decided."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from gate.verdict.judging import judged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gate.policy.schema import Defaults
    from gate.verdict.cases import Case
    from gate.verdict.outcomes import Finding

Item = TypeVar("Item")

_SHARES = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 100000)
_COMMON = (0.9, 0.95, 0.99, 0.999)


def levels(confidence: float) -> tuple[float, ...]:
    """The levels at which intervals are worth knowing: those that several rules or slices at once may ask for."""
    return tuple(sorted({*_COMMON, *(1 - (1 - confidence) / share for share in _SHARES)}))


def holm(items: Sequence[Item], confidence: float, decided: Callable[[Item, float], bool]) -> list[float]:
    """The level of each of several decisions, such that all of them hold at once at a confidence (Holm 1979).

    The one that stands out most must hold at 1 - a/m, m being their number, the next at 1 - a/(m - 1), and so on; from
    the first that does not on, all are undecided.

    Args:
        items: What is decided.
        confidence: Two-sided, in (0, 1).
        decided: Whether one of them is decided at a level.
    """
    levels, waiting = [confidence] * len(items), list(range(len(items)))
    while waiting:
        level = 1 - (1 - confidence) / len(waiting)
        for index in waiting:
            levels[index] = level
        undecided = [index for index in waiting if not decided(items[index], level)]
        if undecided == waiting:
            break
        waiting = undecided
    return levels


def all_judged(cases: Sequence[Case], defaults: Defaults) -> list[Finding]:
    """Every case, judged at the level of the policy, or such that all decisions hold at once at that level."""
    findings = [judged(case, defaults.confidence) for case in cases]
    if defaults.multiplicity == "none":
        return findings
    waiting = [index for index, finding in enumerate(findings) if finding.interval is not None]
    levels = holm([cases[index] for index in waiting], defaults.confidence, _is_decided)
    for index, level in zip(waiting, levels, strict=True):
        findings[index] = _explained(judged(cases[index], level), findings[index])
    return findings


def _is_decided(case: Case, level: float) -> bool:
    return judged(case, level).status != "inconclusive"


def _explained(finding: Finding, alone: Finding) -> Finding:
    """With what the other rules have to do with it that it is open: nothing where it is open by itself, too."""
    if finding.status != "inconclusive" or finding.interval is None or alone.confidence == finding.confidence:
        return finding
    many, one = (_percent(each.confidence) for each in (finding, alone))
    if alone.status == "inconclusive":
        return replace(finding, message=f"{finding.message}; at {one}, by itself, it is not decided either")
    at_once = f"all rules at once ask for {many} of it, and at {one}, by itself, it would be decided"
    return replace(finding, message=f"{finding.message}; {at_once}")


def _percent(level: float | None) -> str:
    return "-" if level is None else f"{100 * level:.4f}".rstrip("0").rstrip(".") + "%"
