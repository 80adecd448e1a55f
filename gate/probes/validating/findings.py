"""What is wrong with a probe set, in sentences: which fault, in which column, how many rows, and the first of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gate.probes.validating.engine import SHOWN
from gate.probes.validating.facts import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gate.probes.validating.checks import Check, Severity
    from gate.probes.validating.engine import Outcome
    from gate.probes.validating.facts import Facts


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


def finding(check: Check, outcome: Outcome, facts: Facts) -> Finding:
    """What a check that does not hold has found.

    Args:
        check: The check.
        outcome: That it does not hold, or could not be made.
        facts: What it was held against.
    """
    if outcome.error is not None:
        message = f"{check.type} could not be checked: {outcome.error}"
        return Finding(check.fault, check.column, message, 0, (), check.severity)
    count, places = _rows(check, outcome, facts)
    shown = list(dict.fromkeys(facts.name(place) for place in places))
    shown += ["…"] if count > len(places) and shown else []
    message = check.words.replace("{observed}", _number(outcome.observed))
    if "{names}" in message:
        message = message.replace("{names}", ", ".join(_names(check, outcome, facts)))
    if "{rows}" in message:
        message = message.replace("{rows}", _counted(count, facts.rows, shown))
    elif shown:
        message += f" (first rows {', '.join(shown)})"
    ids = tuple(str(facts.identity(place)) for place in places)
    return Finding(check.fault, check.column, message, count, ids, check.severity)


def _counted(count: int, rows: int, shown: Sequence[str]) -> str:
    of = f"{count} of {rows} rows" if count else "the rows as a whole"
    return f"{of} ({', '.join(shown)})" if shown else of


def _number(value: Any) -> str:  # noqa: ANN401 - of Great Expectations
    if isinstance(value, float):
        return f"{value:.6g}"
    return "no" if value is None else str(value)


def _rows(check: Check, outcome: Outcome, facts: Facts) -> tuple[int, tuple[int, ...]]:
    """How many rows of the probe set are at fault, and the first of them."""
    import numpy as np

    if check.offenders is not None:
        places = np.flatnonzero(check.offenders(facts))
        return len(places), tuple(places[:SHOWN].tolist())
    if check.frame in ("classes", "groups"):
        role = "label" if check.frame == "classes" else "group"
        values = facts.values.get(facts.column(role) or "", ())
        names = list(facts.counts(role))
        wrong = {names[place] for place in outcome.places}
        places = np.flatnonzero([value in wrong and at for value, at in zip(values, facts.measured, strict=False)])
        return len(places), tuple(places[:SHOWN].tolist())
    if check.frame == "columns":
        return 0, ()
    return outcome.count or 0, outcome.places[:SHOWN]


def _names(check: Check, outcome: Outcome, facts: Facts) -> list[str]:
    """The classes, groups or columns at fault, each with what is wrong with it."""
    if check.frame == "columns":
        return [
            f"{each.role or 'column'} {each.column!r} holds {each.found}, expected {each.expected}"
            for each in facts.unsuited
        ]
    counts = facts.counts("label" if check.frame == "classes" else "group")
    total, listed = sum(counts.values()), list(counts.items())
    share = check.kwargs["column"] == "share"
    names = [
        f"{shortened(repr(name))} ({f'{count / total:.1%}' if share else count})"
        for name, count in (listed[place] for place in outcome.places)
    ]
    return [*names, *(["…"] if (outcome.count or 0) > len(names) else [])]
