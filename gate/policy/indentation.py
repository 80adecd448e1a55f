"""Lines that are out of line with the keys around them, which is what most texts that are no YAML suffer from."""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE = re.compile(r"(?P<indent> *)(?P<dashes>-(?: +-)* +)?(?P<key>[^\s:#-][^:#]*:(?=\s|$))?")
_BLOCK_ENDS = "expected <block end>, but found"
_KEY_IN_VALUE = "mapping values are not allowed here"


class _Line(NamedTuple):
    """Where things begin in a line; None where it has no such thing."""

    entry: int | None
    key: int | None
    colon: int | None

    @property
    def indent(self) -> int | None:
        return self.key if self.entry is None else self.entry


def out_of_line(text: str, problem: str, line: int, column: int) -> tuple[int, str] | None:
    """What is wrong with the indentation of a line, and where it begins; None where that is not what is wrong.

    Args:
        text: All of it.
        problem: What the parser says.
        line: Where it says so, from 0.
        column: The same.
    """
    lines = text.split("\n")
    found = _begins(lines[line]) if line < len(lines) else _begins("")
    indent = found.indent
    ends = problem.startswith(_BLOCK_ENDS) and column == indent
    nested = problem == _KEY_IN_VALUE and column == found.colon and not _goes_on(lines[:line])
    if indent is None or not (ends or nested):
        return None
    around = _open_around([_begins(each) for each in lines[:line]], entries=found.entry is not None)
    if not around or indent in around:
        return None
    near = min(around, key=lambda each: (abs(each - indent), -each))
    what = "keys" if found.entry is None else "list entries"
    spaces = f"{indent} space{'' if indent == 1 else 's'}"
    return indent, f"this line is indented by {spaces}, the {what} around it by {near}"


def _begins(line: str) -> _Line:
    match = _LINE.match(line)
    indent, dashes, key = match.group("indent", "dashes", "key") if match else ("", None, None)
    first, start = len(indent), len(indent) + len(dashes or "")
    return _Line(first if dashes else None, start if key else None, start + len(key) - 1 if key else None)


def _goes_on(before: list[str]) -> bool:
    """Whether the last line is text of several words, to which the next one may belong."""
    last = next((each for each in reversed(before) if each.strip() and not each.lstrip().startswith("#")), "")
    colon = _begins(last).colon
    return " " in last[0 if colon is None else colon + 1 :].partition(" #")[0].strip()


def _open_around(before: list[_Line], *, entries: bool) -> list[int]:
    """Where the list entries, or else the keys, begin that a line may stand beside."""
    around: list[int] = []
    outermost: int | None = None
    for each in reversed(before):
        for start, wanted in ((each.key, not entries), (each.entry, entries)):
            if start is not None and (outermost is None or start < outermost):
                outermost = start
                around += [start] if wanted else []
    return around
