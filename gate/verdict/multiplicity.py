"""Many rules at once: with how much confidence each of them must be decided."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gate.verdict.judging import judged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gate.policy.schema import Defaults
    from gate.verdict.cases import Case
    from gate.verdict.outcomes import Finding

_SHARES = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 100000)
_COMMON = (0.9, 0.95, 0.99, 0.999)


def levels(confidence: float) -> tuple[float, ...]:
    """The levels at which intervals are worth knowing: those that several rules or slices at once may ask for."""
    return tuple(sorted({*_COMMON, *(1 - (1 - confidence) / share for share in _SHARES)}))


def all_judged(cases: Sequence[Case], defaults: Defaults) -> list[Finding]:
    """Every case, judged at the level of the policy, or such that all decisions hold at once at that level (Holm 1979).

    With `holm` the decision that stands out most must hold at 1 - a/m, m being the number of cases, the next at
    1 - a/(m - 1), and so on; from the first that does not on, all are inconclusive.
    """
    findings = [judged(case, defaults.confidence) for case in cases]
    if defaults.multiplicity == "none":
        return findings
    waiting = [index for index, finding in enumerate(findings) if finding.interval is not None]
    while waiting:
        level = 1 - (1 - defaults.confidence) / len(waiting)
        for index in waiting:
            findings[index] = judged(cases[index], level)
        undecided = [index for index in waiting if findings[index].status == "inconclusive"]
        if undecided == waiting:
            break
        waiting = undecided
    return [_explained(finding) for finding in findings]


def _explained(finding: Finding) -> Finding:
    if finding.status != "inconclusive" or finding.interval is None:
        return finding
    return replace(finding, message=f"{finding.message}; all rules hold at once at this level")
