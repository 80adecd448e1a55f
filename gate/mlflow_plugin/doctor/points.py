"""One point of a deployment, and how all of them are told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SCHEMA = "gate.doctor/v1"
State = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Point:
    """What was found at one point.

    Attributes:
        about: Its name.
        state: Whether it is well; a note is no fault.
        found: What stands there.
        do: What to run or to write; None where there is nothing to do.
    """

    about: str
    state: State
    found: str
    do: str | None = None


def ok(about: str, found: str) -> Point:
    """A point that is well."""
    return Point(about, "ok", found)


def note(about: str, found: str, do: str | None = None) -> Point:
    """A point that somebody should know of."""
    return Point(about, "note", found, do)


def wrong(about: str, found: str, do: str | None = None) -> Point:
    """A point that is not well."""
    return Point(about, "wrong", found, do)


def lines(points: Sequence[Point]) -> Iterator[tuple[State | None, str]]:
    """For a person: the state of a point and the rest of its line; the last line has no state.

    Args:
        points: At least one.
    """
    width = max(len(point.about) for point in points)
    for point in points:
        told = point.found + (f"; {point.do}" if point.do else "")
        yield point.state, f"{point.about:<{width}}  {told}"
    faults = sum(point.state == "wrong" for point in points)
    are = "1 of them is" if faults == 1 else f"{faults or 'none'} of them {'are' if faults else 'is'}"
    yield None, f"looked at {len(points)} points, {are} wrong"


def document(points: Sequence[Point], exit_code: int) -> dict[str, Any]:
    """For a program, as JSON.

    Args:
        points: All of them.
        exit_code: Of the command.
    """
    return {"schema": SCHEMA, "exit_code": exit_code, "points": [asdict(point) for point in points]}
