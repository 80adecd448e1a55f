"""From the bare outcome of a finding to what it does: waivers, severities, dates and the enforcement point."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import date

    from gate.policy.kinds import Severity
    from gate.policy.schema import Defaults
    from gate.policy.waivers import Waiver
    from gate.verdict.measurements import Slice
    from gate.verdict.outcomes import Finding

Use = Literal["used", "expired", "unused"]


@dataclass(frozen=True)
class Occasion:
    """When, for which model and where a verdict is asked for.

    Attributes:
        model: Names of the model that waivers may use: its resolved URI and its digest.
        today: The date (UTC).
        enforcement: `warn` where the policy blocks nothing at this alias.
    """

    model: Collection[str]
    today: date
    enforcement: Severity = "block"


def softened(finding: Finding, slice_: Slice, waivers: Sequence[Waiver], defaults: Defaults, on: Occasion) -> Finding:
    """What a FAIL or an INCONCLUSIVE comes to; nothing softens an ERROR, and a PASS stays one."""
    from gate.policy.waivers import state

    finding = _dated(finding, on)
    if finding.status not in ("fail", "inconclusive"):
        return finding
    for waiver in waivers:
        if state(waiver, rule=finding.rule, slice_=slice_, model=on.model, today=on.today) == "holds":
            return replace(finding, status="waived", waiver=waiver)
    if finding.severity == "warn" or (finding.status == "inconclusive" and defaults.inconclusive == "warn"):
        return replace(finding, status="warn")
    if finding.status == "inconclusive" and defaults.inconclusive == "pass":
        return replace(finding, status="not_evaluated")
    return finding


def _dated(finding: Finding, on: Occasion) -> Finding:
    """With the severity that counts today and here."""
    if finding.enforce_from is not None and on.today < finding.enforce_from:
        days = (finding.enforce_from - on.today).days
        message = f"{finding.message} (blocks from {finding.enforce_from}, in {days} day{'' if days == 1 else 's'})"
        warned = finding.severity == "block" and finding.status in ("fail", "inconclusive")
        return replace(finding, severity="warn", message=message if warned else finding.message)
    return replace(finding, severity="warn") if on.enforcement == "warn" else finding


def uses(
    waivers: Sequence[Waiver], findings: Sequence[tuple[Finding, Slice]], on: Occasion
) -> list[tuple[Waiver, Use]]:
    """What became of every waiver that names this model."""
    return [(waiver, _use(waiver, findings, on)) for waiver in waivers if waiver.is_about(on.model)]


def _use(waiver: Waiver, findings: Sequence[tuple[Finding, Slice]], on: Occasion) -> Use:
    from gate.policy.waivers import state

    waived = [(finding.rule, slice_) for finding, slice_ in findings if finding.status == "waived"]
    about = (
        state(waiver, rule=rule, slice_=slice_, model=on.model, today=on.today) == "holds" for rule, slice_ in waived
    )
    if any(about):
        return "used"
    return "expired" if waiver.expires < on.today else "unused"


def notes(used: Sequence[tuple[Waiver, Use]]) -> list[str]:
    """What a person should know of the waivers."""
    told = []
    for waiver, use in used:
        what = f"the waiver of rule {waiver.rule!r} for {waiver.model} by {waiver.owner}"
        if use == "expired":
            told.append(f"{what} expired on {waiver.expires} and is ignored")
        elif use == "unused":
            told.append(f"{what} matches nothing that failed; take it out")
    return told
