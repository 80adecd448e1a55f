"""What is wrong with a probe set, in sentences: which fault, in which column, how many rows, and the first of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gate.probes.validating.collecting import read_ids, read_paths, read_places
from gate.probes.validating.engine import SHOWN
from gate.probes.validating.facts import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gate.probes.probe_set import ProbeSet
    from gate.probes.validating.checks import Check, Severity
    from gate.probes.validating.engine import Outcome
    from gate.probes.validating.facts import Facts

_ROLES = {"classes": "label", "groups": "group"}


@dataclass(frozen=True)
class Finding:
    """One expectation that a probe set does not meet.

    Attributes:
        fault: What it is called: the key of the policy, or `finite`, `width`, …
        column: Of the probe set; several with commas between them; "" where it is about none.
        message: What was found, where, and what was expected.
        rows: Number of rows at fault; 0 where the fault is not one of rows.
        ids: The first of them, as they are called in the probe set; else their numbers in the file.
        severity: `critical` refuses the probe set.
    """

    fault: str
    column: str
    message: str
    rows: int
    ids: tuple[str, ...]
    severity: Severity

    def __str__(self) -> str:
        return f"{self.fault}: {self.message}"


def findings_of(failed: Sequence[tuple[Check, Outcome]], facts: Facts, probe: ProbeSet) -> tuple[Finding, ...]:
    """What the checks that do not hold have found; the probe set is read again for what the rows are called.

    Args:
        failed: Checks that do not hold, or could not be made, each with its outcome.
        facts: What they were held against.
        probe: Whose facts these are.
    """
    found = [(check, outcome, *_rows(check, outcome, facts, probe)) for check, outcome in failed]
    wanted = {place for *_, places in found for place in places}
    ids = read_ids(probe, facts, wanted)
    called = {place: shortened(repr(ids[place])) if place in ids else f"number {place}" for place in wanted}
    for place, path in read_paths(probe, wanted).items():
        called[place] += f" with {shortened(repr(path))}" if path != ids.get(place) else ""
    return tuple(_finding(*each, facts, ids, called) for each in found)


def _finding(
    check: Check,
    outcome: Outcome,
    count: int,
    places: Sequence[int],
    facts: Facts,
    ids: Mapping[int, str],
    called: Mapping[int, str],
) -> Finding:
    if outcome.error is not None:
        message = f"{check.type} could not be checked: {outcome.error}"
        return Finding(check.fault, check.column, message, 0, (), check.severity)
    shown = list(dict.fromkeys(called[place] for place in places))
    shown += ["…"] if count > len(places) and shown else []
    message = check.words.replace("{observed}", _number(outcome.observed))
    if "{names}" in message:
        message = message.replace("{names}", ", ".join(_names(check, outcome, facts)))
    if "{rows}" in message:
        message = message.replace("{rows}", _counted(count, facts.rows, shown))
    elif shown:
        message += f" (first rows {', '.join(shown)})"
    names = tuple(ids.get(place, str(place)) for place in places)
    return Finding(check.fault, check.column, message, count, names, check.severity)


def _counted(count: int, rows: int, shown: Sequence[str]) -> str:
    of = f"{count} of {rows} rows" if count else "the rows as a whole"
    return f"{of} ({', '.join(shown)})" if shown else of


def _number(value: Any) -> str:  # noqa: ANN401 - of Great Expectations
    if isinstance(value, float):
        return f"{value:.6g}"
    return "no" if value is None else str(value)


def _rows(check: Check, outcome: Outcome, facts: Facts, probe: ProbeSet) -> tuple[int, Sequence[int]]:
    """How many rows of the probe set are at fault, and the first of them."""
    if check.frame == "rows":
        return outcome.count or 0, outcome.places[:SHOWN]
    if outcome.error is not None or not (check.at or outcome.places) or check.frame == "columns":
        return 0, ()
    if check.at:
        places = facts.places[check.at]
    else:
        role = _ROLES[check.frame]
        names = list(facts.counts(role))
        places = read_places(probe, facts, role, [names[place] for place in outcome.places])
    return len(places), places[:SHOWN].tolist()


def _names(check: Check, outcome: Outcome, facts: Facts) -> list[str]:
    """The classes, groups or columns at fault, each with what is wrong with it."""
    if check.frame == "columns":
        return [
            f"{each.role or 'column'} {each.column!r} holds {each.found}, expected {each.expected}"
            for each in facts.unsuited
        ]
    counts = facts.counts(_ROLES[check.frame])
    total, listed = sum(counts.values()), list(counts.items())
    share = check.kwargs["column"] == "share"
    names = [
        f"{shortened(repr(name))} ({f'{count / total:.1%}' if share else count})"
        for name, count in (listed[place] for place in outcome.places)
    ]
    return [*names, *(["…"] if (outcome.count or 0) > len(names) else [])]
