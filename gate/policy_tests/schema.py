"""The keys of a file of policy tests, and what each of them may hold."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from gate.policy.kinds import ONE_MODEL, Count, Day, Keys, Name, Text
from gate.verdict import OUTCOMES, Outcome, Status

_ROWS = 1000  # that an answer is said to come from, unless the test says otherwise

Reading = Annotated[float, Field(strict=True, allow_inf_nan=True)]  # NaN and infinity are judged, and never pass


class Answer(Keys):
    """What a metric answers: a number with its interval, or why there is none."""

    value: Reading | None = None
    """The number."""
    interval: tuple[Reading, Reading] | None = None
    """Lower and upper end, at whatever level of confidence the rule is judged."""
    n: Count = _ROWS
    """Rows that it comes from."""
    status: Literal["inconclusive", "not_applicable", "error"] | None = None
    """In place of a number: the metric refuses."""
    reason: Text | None = None
    """Why it refuses; begins with a code, such as `few_rows: …`."""

    @model_validator(mode="after")
    def _answers_in_one_way(self) -> Self:
        if self.status is not None and (self.value is not None or self.interval is not None):
            raise ValueError("has a number and refuses with `status`; give one of the two")
        if self.status is None and self.reason is not None:
            raise ValueError("a `reason` needs a `status`: inconclusive, not_applicable or error")
        if self.status is None and (self.value is None or self.interval is None) and not self._elsewhere():
            raise ValueError("needs `value` and `interval`, or the `status` of a metric that refuses")
        return self

    def _elsewhere(self) -> bool:
        return False


class Answers(Answer):
    """What a metric answers at every layer that a rule asks it about, or at each layer for itself."""

    layers: dict[Name, Answer] = Field(default_factory=dict)
    """Layer → what the metric answers there, in place of the answer for all layers."""

    def _elsewhere(self) -> bool:
        return bool(self.layers) and self.value is None and self.interval is None

    def at(self, layer: str) -> Answer | None:
        """The answer at a layer, None where there is none."""
        given = self.status is not None or self.value is not None
        return self.layers.get(layer, self if given else None)


class Measured(Keys):
    """What was measured; metrics by their address, `ID` or `ID.READOUT`."""

    given: dict[Text, Answers] = Field(default_factory=dict)
    """Metric, `ID` or `ID.READOUT` → what it says of the candidate."""
    baseline: dict[Text, Answers] = Field(default_factory=dict)
    """The same of the baseline."""
    change: dict[Text, Answers] = Field(default_factory=dict)
    """The same of the paired difference, candidate less baseline; without it the two intervals count as independent."""


class Slice(Measured):
    """What was measured on a part of the probe set."""

    rows: Annotated[int, Field(strict=True, ge=0)]
    """How many rows it has."""


class Expect(Keys):
    """What the policy must say; every key that is given must hold."""

    status: Status | None = None
    """Of the whole run: passed, warned, failed, inconclusive or error."""
    exit_code: Annotated[int, Field(strict=True, ge=0, le=7)] | None = None
    """Of `gate check` without `--fail-on`."""
    passing: tuple[Text, ...] | None = Field(default=None, alias="pass")
    """These findings pass, and no other: ids of rules, each for all of its findings with that outcome, or names of
    single ones, such as `rank[language=ja]`, `rank (relative)` or `rank (worst gap)`."""
    fail: tuple[Text, ...] | None = None
    """These fail, and no other."""
    inconclusive: tuple[Text, ...] | None = None
    """These are inconclusive, and no other."""
    warn: tuple[Text, ...] | None = None
    """These warn, and no other."""
    waived: tuple[Text, ...] | None = None
    """These are waived, and no other."""
    not_evaluated: tuple[Text, ...] | None = None
    """These are not evaluated, and no other."""
    error: tuple[Text, ...] | None = None
    """These are errors, and no other."""

    @model_validator(mode="after")
    def _expects_something(self) -> Self:
        if self.status is None and self.exit_code is None and not self.lists:
            keys = ", ".join(("status", "exit_code", *OUTCOMES))
            raise ValueError(f"a test that expects nothing would always pass; give at least one of {keys}")
        return self

    @property
    def lists(self) -> dict[Outcome, tuple[str, ...]]:
        """The names that are expected of an outcome, for those outcomes of which anything is."""
        named = {outcome: getattr(self, "passing" if outcome == "pass" else outcome) for outcome in OUTCOMES}
        return {outcome: names for outcome, names in named.items() if names is not None}


class Case(Measured):
    """One test."""

    name: Text
    """A sentence, unique in the file."""
    slices: dict[Text, Slice] = Field(default_factory=dict)
    """Slice, such as `language=ja` or `language=ja, site=3` → what was measured there."""
    no_baseline: Text | None = None
    """Why there is no baseline, in place of one."""
    date: Day | None = None
    """The day of the test (UTC); needed where the policy has waivers or dates."""
    model: Annotated[str, StringConstraints(pattern=ONE_MODEL)] | None = None
    """The version, `models:/NAME/VERSION`, or the digest `sha256:…`, that waivers and the scope are looked up for."""
    alias: Name | None = None
    """The alias that the model is checked by."""
    expect: Expect
    """What the policy must say."""

    @model_validator(mode="after")
    def _has_a_baseline_or_none(self) -> Self:
        compared: list[Measured] = [self, *self.slices.values()]
        if self.no_baseline is not None and any(each.baseline or each.change for each in compared):
            raise ValueError("`no_baseline` says that there is none, and `baseline` or `change` is given")
        return self


class PolicyTests(Keys):
    """A whole file of policy tests."""

    api_version: Literal["gate/v1"] = Field(default="gate/v1", alias="apiVersion")
    """Version of this format."""
    kind: Literal["PolicyTests"]
    """What the file is."""
    policy: Text
    """The policy file, by its path from this file, or a pack such as `classifier@1`."""
    tests: tuple[Case, ...]
    """What must hold."""

    @field_validator("tests")
    @classmethod
    def _are_there(cls, tests: tuple[Case, ...]) -> tuple[Case, ...]:
        if not tests:
            raise ValueError("should hold at least one test, found none")
        return tests
