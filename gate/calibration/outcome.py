"""What a calibration found: the rules with their bounds, the versions, and how the policy judges these."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gate.policy.schema import Policy
from gate.verdict import Measurements, Occasion, judge

if TYPE_CHECKING:
    from gate.calibration.asking import Asked
    from gate.calibration.measuring import Version
    from gate.calibration.proposing import LeftOut, Proposal, Shares
    from gate.verdict import Judgement


@dataclass(frozen=True)
class Calibration:
    """A policy from known-good versions.

    Attributes:
        asked: What was asked of every version.
        good, bad: The versions, measured.
        rules: Of the policy, with their bounds.
        left_out: Rules that it does not get, and why.
        for_their_kind: Ids of rules that catch no bad version, and are there as the best of their kind.
        shares: How the rate of false alarms is shared.
        name: Of the policy, None for that of the registered model.
    """

    asked: Asked
    good: tuple[Version, ...]
    bad: tuple[Version, ...]
    rules: tuple[Proposal, ...]
    left_out: tuple[LeftOut, ...]
    for_their_kind: frozenset[str]
    shares: Shares
    name: str | None

    @property
    def title(self) -> str:
        """Name of the policy."""
        if self.name:
            return self.name
        if registered := self.good[0].name:
            return re.sub(r"^[^A-Za-z0-9]+|[^A-Za-z0-9._-]+", "-", registered).strip("-") or "calibrated"
        return self.asked.like.policy.metadata.name if self.asked.like else "calibrated"

    @property
    def of_what(self) -> str:
        """The model in words: its registered name, where all versions have one."""
        names = {version.name for version in self.good}
        return f"models:/{self.good[0].name}" if len(names) == 1 and None not in names else "the model"

    @cached_property
    def policy(self) -> Policy:
        """The policy that is written."""
        return Policy.model_validate(self.keys)

    @property
    def copied(self) -> list[dict[str, Any]]:
        """Rules as they were, and what is left of those that get no bound: what compares, what is about slices."""
        unbounded = [dict(each.candidate.keys) for each in self.left_out]
        further = [keys for keys in unbounded if keys.get("relative") or keys.get("slices")]
        return [*map(dict, self.asked.copied), *further]

    @property
    def keys(self) -> dict[str, Any]:
        """The policy as keys and values, in the order in which they are written."""
        from gate.calibration.writing import keys

        return keys(self)

    @property
    def text(self) -> str:
        """The policy as YAML, with the evidence for every bound."""
        from gate.calibration.writing import text

        return text(self)

    @property
    def report(self) -> str:
        """What a person should know of it."""
        from gate.calibration.reporting import report

        return report(self)

    def judgement(self, version: Version) -> Judgement:
        """What the rules that were bounded say of a version that was measured."""
        bounded = {proposal.candidate.rule.id for proposal in self.rules}
        rules = tuple(rule for rule in self.policy.rules if rule.id in bounded)
        bare = tuple(rule.model_copy(update={"relative": None, "slices": None, "enforce_from": None}) for rule in rules)
        on = Occasion((version.uri, version.digest), date.min, "block")
        return judge(self.policy.model_copy(update={"rules": bare}), Measurements(dict(version.estimates)), on)
