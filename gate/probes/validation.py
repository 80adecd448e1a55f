"""Whether a probe set may decide anything, found out before a model is shown it: every fault at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from gate.errors import RefusedProbeError
from gate.probes.validating.checks import Check, Expectations, checks_of, of_pictures
from gate.probes.validating.collecting import read_broken, read_facts, read_values
from gate.probes.validating.facts import Facts, frames, shortened
from gate.probes.validating.findings import Finding, findings_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from gate.probes.probe_set import ProbeSet
    from gate.probes.validating.engine import Outcome
    from gate.probes.validating.facts import Frame, FrameName

__all__ = ["Check", "Expectations", "Facts", "Finding", "Validation", "validate", "validated", "write_pages"]

Result = Literal["passed", "warned", "failed"]

_MOST_LISTED = 60  # checks and findings in the evidence, which must stay small
_LONGEST = 300  # of a message there
_KINDS = {"i": "numbers", "u": "numbers", "f": "numbers", "b": "truth values", "M": "dates"}  # of pandas; else texts


@dataclass(frozen=True)
class Validation:
    """What a probe set was held against, and what came of it; small, however many rows there are.

    Attributes:
        probe: The probe set.
        expectations: What was asked.
        facts: What is known of the rows.
        checks: Everything that was checked, in order.
        outcomes: Of each.
        findings: What does not hold.
        suite_digest: Of the file of a suite, as it was read; None without one.
    """

    probe: ProbeSet
    expectations: Expectations
    facts: Facts
    checks: tuple[Check, ...]
    outcomes: tuple[Outcome, ...]
    findings: tuple[Finding, ...]
    suite_digest: str | None = None

    @property
    def uri(self) -> str:
        """Of the probe set."""
        return self.probe.uri

    def refused_for(self, fault: str) -> Validation:
        """The same, of a probe set with a fault that only a complete pass finds."""
        finding = Finding("probe", "", fault.removeprefix(f"{self.uri}: "), 0, (), "critical")
        return replace(self, findings=(*self.findings, finding))

    def with_pictures(self) -> Validation:
        """The same, with every picture read that a model would be shown; those that cannot be are a fault of their own.

        Raises:
            ProbeError: The file is damaged.
        """
        from gate.probes.validating import engine

        broken = read_broken(self.probe)
        if not broken:
            return self
        import numpy as np

        places = {f"unreadable {column}": np.array(list(rows)) for column, rows in broken.items()}
        facts = replace(self.facts, places={**self.facts.places, **places})
        inputs = self.probe.columns.inputs
        checks = [
            of_pictures("input" if column in inputs else "pair", column, rows.values())
            for column, rows in broken.items()
        ]
        outcomes = engine.evaluate(frames(facts), checks)
        return replace(
            self,
            facts=facts,
            checks=(*self.checks, *checks),
            outcomes=(*self.outcomes, *outcomes),
            findings=(*self.findings, *findings_of(list(zip(checks, outcomes, strict=True)), facts, self.probe)),
        )

    @property
    def refused(self) -> tuple[Finding, ...]:
        """The findings for which the probe set is refused."""
        return tuple(each for each in self.findings if each.severity == "critical")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that are only told."""
        return tuple(each for each in self.findings if each.severity == "warning")

    def results(self) -> Iterator[tuple[Check, Result]]:
        """Every check with what came of it."""
        for check, outcome in zip(self.checks, self.outcomes, strict=True):
            failed: Result = "warned" if check.severity == "warning" else "failed"
            yield check, "passed" if outcome.holds else failed

    @property
    def status(self) -> Result:
        """passed; warned, where something does not hold that only warns; else failed."""
        return "failed" if self.refused else "warned" if self.findings else "passed"

    @cached_property
    def document(self) -> dict[str, Any]:
        """A few kB of plain JSON values for the evidence."""
        from gate.probes.validating import engine

        found = [asdict(each) for each in self.findings[:_MOST_LISTED]]
        return {
            "engine": f"great_expectations {engine.version()}",
            "status": self.status,
            "rows": self.facts.rows,
            "classes": len(self.facts.counts("label")),
            "groups": len(self.facts.counts("group")),
            "splits": dict(self.facts.counts("split")),
            "packs": list(self.expectations.packs),
            "suite": self.suite_digest and {"path": self.expectations.suite, "digest": self.suite_digest},
            "expectations": [check.name for check in self.checks[:_MOST_LISTED]],
            "expectations_checked": len(self.checks),
            "findings": [
                {**each, "ids": [*map(shortened, each["ids"])], "message": each["message"][:_LONGEST]} for each in found
            ],
            "facts": self.facts.digest,
        }


def validated(probe: ProbeSet, expectations: Expectations | None = None) -> Validation:
    """The same as `validate`, of a probe set that may decide something.

    Args:
        probe: The probe set.
        expectations: What it must be; what the pack `basic` asks for when None.

    Raises:
        RefusedProbeError: It may not; every fault of it, with its column, the number of rows and the first of them.
        ProbeError: The file is damaged.
    """
    validation = validate(probe, expectations)
    if refused := validation.refused:
        raise RefusedProbeError(tuple(f"{probe.uri}: {each}" for each in refused))
    return validation


def validate(probe: ProbeSet, expectations: Expectations | None = None) -> Validation:
    """Hold a probe set against what is expected of it: one pass over its rows, and no vector kept.

    Args:
        probe: The probe set.
        expectations: What it must be; what the pack `basic` asks for when None.

    Raises:
        RefusedProbeError: What is expected has faults of its own: a column that is not there, a suite that asks for
            nothing.
        ProbeError: The file is damaged.
    """
    from gate.probes.validating import engine

    expected = expectations or Expectations()
    suite, suite_digest = _suite(expected)
    further = [*expected.columns, *(column for check in suite for column in _columns(check))]
    _require_columns(probe, expected, suite)
    facts = read_facts(probe, expected, tuple(dict.fromkeys(further)))
    checks = checks_of(facts, expected)
    checks = checks[:1] if not facts.rows else [*checks, *_answerable(suite, facts)]
    held = _frames(probe, facts, checks)
    outcomes = [
        _explained(check, outcome, held) for check, outcome in zip(checks, engine.evaluate(held, checks), strict=True)
    ]
    failed = [(check, outcome) for check, outcome in zip(checks, outcomes, strict=True) if not outcome.holds]
    found = findings_of(failed, facts, probe)
    return Validation(probe, expected, facts, tuple(checks), tuple(outcomes), found, suite_digest)


def _explained(check: Check, outcome: Outcome, held: Mapping[FrameName, Frame]) -> Outcome:
    """What could not be checked of a suite, with what its columns hold: the usual reason is a bound of another kind."""
    if check.fault == "suite" and outcome.error is None and _compares_nothing(check, held[check.frame]):
        outcome = replace(outcome, holds=False, error="no value is of the kind of those in value_set")
    if outcome.error is None or check.fault != "suite":
        return outcome
    kinds = [f"column {column!r} holds {_kind(held[check.frame][column])}" for column in _columns(check)]
    advice = f"; {', '.join(kinds)}: write the kwargs for such values" if kinds else ""
    return replace(outcome, error=f"{outcome.error.rstrip('. ')}{advice}")


def _compares_nothing(check: Check, frame: Frame) -> bool:
    """Whether texts are asked of numbers, or numbers of texts, which would hold or not whatever they are."""
    column, wanted = check.kwargs.get("column"), check.kwargs.get("value_set")
    if column is None or not isinstance(wanted, list):
        return False
    if _kind(frame[column]) == "numbers":
        return all(isinstance(each, str) for each in wanted)
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in wanted)
    return numbers and all(isinstance(each, str) for each in frame[column] if each is not None)


def _kind(values: object) -> str:
    """What a column of a frame holds, in words."""
    return _KINDS.get(getattr(getattr(values, "dtype", None), "kind", ""), "texts")


def _frames(probe: ProbeSet, facts: Facts, checks: Sequence[Check]) -> dict[FrameName, Frame]:
    """The facts, and the values of the columns that a suite names."""
    asked = [column for check in checks if check.fault == "suite" for column in _columns(check)]
    values = read_values(probe, facts, tuple(dict.fromkeys(asked)))
    return {**frames(facts), "rows": values or {"number": range(facts.rows)}}


def write_pages(validation: Validation, folder: Path, document: Mapping[str, Any]) -> int:
    """Write Data Docs of a validation, in which nothing is fetched from elsewhere.

    Args:
        validation: The validation.
        folder: Where to; index.html is the first page.
        document: The report of it, whose digest names the run, so that the same probe set has the same.

    Returns:
        The number of pages.
    """
    from gate.probes.validating import engine, pages

    held = _frames(validation.probe, validation.facts, validation.checks)
    run = document["digest"] or document["facts"]
    engine.write_pages(held, validation.checks, folder, run=run.replace(":", "-"))
    return pages.finish(folder, document)


def _suite(expected: Expectations) -> tuple[list[Check], str | None]:
    """The checks of the suite, whose arguments Great Expectations accepts, and the digest of its file."""
    from gate.probes.validating import engine, suites

    if expected.suite is None:
        return [], None
    checks, digest = suites.read_suite(expected.suite)
    faults = [
        f"{expected.suite}: expectations[{number}].kwargs: {fault}"
        for number, check in enumerate(checks)
        if (fault := engine.argument_fault(check.type, check.kwargs))
    ]
    if faults:
        raise RefusedProbeError(tuple(faults))
    return [*suites.guards(checks), *checks], digest


def _answerable(suite: Sequence[Check], facts: Facts) -> Iterator[Check]:
    """The checks of columns that hold values of a kind that can be checked; of the others `type` tells."""
    return (check for check in suite if set(_columns(check)) <= set(facts.read))


def _columns(check: Check) -> list[str]:
    from gate.probes.validating.suites import columns_of

    return columns_of(check.kwargs)


def _require_columns(probe: ProbeSet, expected: Expectations, suite: Sequence[Check]) -> None:
    """Every column that is named must be there, and one of a suite must not be what the model is shown."""
    present = set(probe.table.columns)
    faults = [
        f"{probe.uri}: {key}: there is no column {column!r}; there are: {', '.join(probe.table.columns[:20])}"
        for key in ("unique", "not_null")
        for column in getattr(expected, key)
        if column not in present
    ]
    for check in suite:
        for column in _columns(check):
            if column not in present:
                faults.append(f"{expected.suite}: {check.type}: there is no column {column!r} in {probe.uri}")
            elif column in probe.columns.inputs + probe.columns.pairs:
                faults.append(
                    f"{expected.suite}: {check.type}: {column!r} is the input; a suite is about the other columns"
                )
    if faults:
        raise RefusedProbeError(tuple(dict.fromkeys(faults)))
