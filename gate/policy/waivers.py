"""Exceptions from a rule for one model and for a time, and the one function that says whether they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StringConstraints

from gate.policy.kinds import ONE_MODEL, Day, Keys, Name, Reason, Text

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import date

State = Literal["holds", "expired", "other"]


class Waiver(Keys):
    """An exception: the rule is still evaluated and shown, and its FAIL or INCONCLUSIVE reads WAIVED."""

    rule: Name
    """Id of the rule."""
    model: Annotated[str, StringConstraints(pattern=ONE_MODEL)]
    """The one version, `models:/NAME/VERSION`, or the digest of its files, `sha256:…`, which no model that is
    registered anew under the name can have. Never a pattern."""
    slices: dict[Text, Text] = Field(default_factory=dict)
    """Only these slices, by column and value; without it all that the rule asks for."""
    expires: Day
    """The last day on which it holds (UTC)."""
    owner: Text
    """Who answers for it."""
    reason: Reason
    """Why, in at least ten characters."""
    ticket: Text | None = None
    """Where it is discussed."""
    approver: Text | None = None
    """Who agreed."""

    def is_about(self, model: Collection[str]) -> bool:
        """Whether it names this model, by version or digest."""
        return self.model in model


def state(
    waiver: Waiver,
    *,
    rule: str,
    slice_: Collection[tuple[str, str]],
    model: Collection[str],
    today: date,
) -> State:
    """Whether a waiver holds for a finding; the only place that decides it.

    Args:
        waiver: Of the policy.
        rule: Id of the rule that the finding is about.
        slice_: Columns and values of its slice; none for the whole probe set.
        model: The resolved URI and the digest of the model.
        today: The date (UTC).

    Returns:
        `holds`; `expired`, it would but for its date; `other`, it is about something else.
    """
    if waiver.rule != rule or not waiver.is_about(model) or not set(waiver.slices.items()) <= set(slice_):
        return "other"
    return "holds" if today <= waiver.expires else "expired"
