"""Recorded checks, judged again under another policy or on another day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from gate.backtest.bundles import asked_by, document
from gate.backtest.obstacles import of_the_findings, of_the_whole
from gate.errors import GateError
from gate.evidence.recorded import measurements, occasion
from gate.evidence.summary import policy_name
from gate.evidence.wording import finding_name, one_line
from gate.policy.scope import enforcement
from gate.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import date

    from gate.backtest.bundles import Bundle
    from gate.policy.schema import Policy
    from gate.verdict import Finding, Verdict


class Said(NamedTuple):
    """What is said of one finding."""

    outcome: str
    message: str


Findings = Mapping[str, Said]  # by name, such as "rank[language=ja]"


@dataclass(frozen=True)
class Recorded:
    """What evidence says of itself.

    Attributes:
        model: The version, or the features.
        policy: Name and version of the policy that it was checked under.
        status, exit_code: Its verdict.
        probe: Digest of the probe set.
        digest: Of the model's files.
        started: When it was checked.
        findings: What it says of each.
    """

    model: str
    policy: str
    status: str
    exit_code: int
    probe: str
    digest: str
    started: str
    findings: Findings = field(repr=False)


@dataclass(frozen=True)
class Replay:
    """One recorded check, and what a policy says of it.

    Attributes:
        source: Where the evidence is.
        model: That it is about, as far as is known.
        recorded: What it says, None where it cannot be read.
        verdict: What the policy says, None where it cannot say.
        findings: What it says of each; of what was not recorded it says `not_recorded`.
        obstacles: Why it cannot say; none where it can.
        notes: What to know of what it says.
    """

    source: str
    model: str
    recorded: Recorded | None
    verdict: Verdict | None = None
    findings: Findings = field(default_factory=dict, repr=False)
    obstacles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether the verdict is another than the recorded one."""
        if self.verdict is None or self.recorded is None:
            return False
        before = (self.recorded.status, self.recorded.exit_code)
        return before != (self.verdict.status, self.verdict.exit_code)


class Change(NamedTuple):
    """A finding whose outcome is another than it was; None where there is no such finding."""

    finding: str
    before: str | None
    after: str | None
    message: str


def replays(policies: Sequence[Policy], bundles: Iterable[Bundle], today: date) -> Iterator[tuple[Replay, ...]]:
    """Every bundle under every policy, one bundle at a time: hundreds need the memory of one.

    Args:
        policies: One, or several to be set side by side.
        bundles: The evidence.
        today: On which waivers and dates are looked at.
    """
    asked = asked_by(policies)
    for bundle in bundles:
        try:
            found = document(bundle.read(), asked)
        except GateError as error:
            unread = Replay(bundle.source, bundle.model or bundle.source, None, obstacles=(f"cannot be read: {error}",))
            yield tuple(unread for _ in policies)
        else:
            yield tuple(replay(policy, found, today, bundle.source) for policy in policies)


def replay(policy: Policy, evidence: Mapping[str, Any], today: date, source: str) -> Replay:
    """One document under one policy.

    Args:
        policy: The policy.
        evidence: The document.
        today: On which waivers and dates are looked at.
        source: Where the evidence is.
    """
    recorded = _recorded(evidence)
    if obstacles := tuple(of_the_whole(policy, evidence)):
        return Replay(source, recorded.model, recorded, obstacles=obstacles)
    measured = measurements(evidence)
    at = enforcement(policy, evidence["model"]["uri"])
    judgement = judge(policy, measured, occasion(evidence, today, at))
    unanswered = of_the_findings(policy, judgement.findings, measured)
    said = {finding_name(vars(each)): Said(each.status, one_line(each.message)) for each in judgement.findings}
    said |= {name: Said("not_recorded", what) for name, what in unanswered.items()}
    verdict = None if unanswered else judgement.verdict
    noted = tuple(_notes(policy, evidence, judgement.findings))
    return Replay(source, recorded.model, recorded, verdict, said, tuple(unanswered.values()), noted)


def _notes(policy: Policy, evidence: Mapping[str, Any], findings: Sequence[Finding]) -> Iterator[str]:
    """What a policy leaves open, or the evidence does not have exactly."""
    probe, named, baseline, against = evidence["probe"], policy.probe, evidence["baseline"], policy.baseline
    if named and named.digest is None and named.uri != probe["uri"]:
        yield f"measured on {probe['uri']}; the policy names {named.uri}, and pins no digest"
    if baseline and against and "@" in against.uri:
        yield f"compared with {baseline['resolved']}, which {against.uri} was on {evidence['run']['started'][:10]}"
    if baseline and evidence["baseline_layers"] is None and any(each.check == "relative" for each in findings):
        yield "does not say where layers of the baseline were read: it was written by an earlier version of gate"
    level, defaults = policy.defaults.confidence, policy.defaults
    used = {each.confidence for each in findings if each.check != "worst_gap" and each.confidence is not None}
    if defaults.multiplicity == "none" and (other := sorted(used - {level})):
        told = " and ".join(f"{each:.6g}" for each in other)
        yield f"no interval at {level:.6g} was recorded; those at {told} were judged, which are wider"


def _recorded(evidence: Mapping[str, Any]) -> Recorded:
    return Recorded(
        model=str(evidence["model"]["resolved"]),
        policy=policy_name(evidence),
        status=evidence["status"],
        exit_code=evidence["exit_code"],
        probe=str(evidence["probe"]["digest"]),
        digest=str(evidence["model"]["digest"]),
        started=str(evidence["run"]["started"]),
        findings={finding_name(each): Said(each["status"], each["message"]) for each in evidence["results"]},
    )


def changes(before: Findings, after: Findings) -> Iterator[Change]:
    """Findings with another outcome than before; of what was not recorded nothing can be said.

    Args:
        before: What was said of each.
        after: What is said of each now.
    """
    for name, now in after.items():
        was = before[name].outcome if name in before else None
        if was != now.outcome and "not_recorded" not in (was, now.outcome):
            yield Change(name, was, now.outcome, now.message)
    for name, then in before.items():
        if name not in after:
            yield Change(name, then.outcome, None, "the policy no longer asks for it")
