"""A comparison as text for a terminal or a log, in lines of at most 100 columns."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from gate.comparison import wording
from gate.comparison.differences import OUTCOMES
from gate.evidence.layout import WIDTH, painter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gate.evidence.layout import Paint

_INDENT, _GAP = "  ", "  "


def render(document: Mapping[str, Any], *, color: bool = False) -> str:
    """Render a comparison as text.

    Args:
        document: The comparison.
        color: Whether to use ANSI colours; without them the text has no control character but the newline.

    Returns:
        Text that ends with a newline. No line is longer than 100 characters but one that names a model or a file.
    """
    paint = painter(color=color)
    blocks = [_head(document, paint), *_differences(document, paint), *_between(document, paint)]
    blocks += [*_not_compared(document, paint), "\n".join(_wrapped(wording.footnotes(document)))]
    return "\n\n".join(blocks) + "\n"


def _head(document: Mapping[str, Any], paint: Paint) -> str:
    title = f"COMPARED  {paint(wording.headline(document), 'strong')}"
    return "\n".join([title, wording.tally(document), paint(wording.basis(document), "faint")])


def _differences(document: Mapping[str, Any], paint: Paint) -> Iterator[str]:
    """A table for every outcome; the columns of all of them stand below each other."""
    found = document["differences"]
    rows = [
        (wording.name(document, each), *(wording.shown(each[key]) for key in ("a", "b", "difference")))
        for each in found
    ]
    widths = _widths(rows)
    for outcome in OUTCOMES:
        own = [row for row, each in zip(rows, found, strict=True) if each["outcome"] == outcome]
        if own:
            title = f"{wording.TITLES[outcome]} ({len(own)})"
            yield "\n".join([*_titled(title, outcome, widths, paint), *_lines(own, widths)])


def _titled(title: str, style: str, widths: Sequence[int], paint: Paint) -> list[str]:
    columns = _GAP.join(head.ljust(width) for head, width in zip(("A", "B", "B - A"), widths[1:], strict=True)).rstrip()
    indent = len(_INDENT) + widths[0] + len(_GAP)
    if len(title) < indent:
        return [f"{paint(title, style)}{' ' * (indent - len(title))}{paint(columns, 'faint')}"]
    return [paint(title, style), f"{' ' * indent}{paint(columns, 'faint')}"]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Of every column, the first of which takes what room the others leave."""
    numbers = [max((len(row[i]) for row in rows), default=0) for i in range(1, 4)]
    room = WIDTH - len(_INDENT) - sum(numbers) - len(_GAP) * len(numbers)
    return [max(min(max((len(row[0]) for row in rows), default=0), room), 0), *numbers]


def _lines(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    """Each row in a line; a name that leaves no room for its numbers has a line of its own."""
    for name, *numbers in rows:
        cells = _GAP.join(each.ljust(width) for each, width in zip(numbers, widths[1:], strict=True)).rstrip()
        if len(name) > widths[0]:
            yield f"{_INDENT}{name}"
            yield f"{_INDENT}{' ' * widths[0]}{_GAP}{cells}"
        else:
            yield f"{_INDENT}{name.ljust(widths[0])}{_GAP}{cells}"


def _between(document: Mapping[str, Any], paint: Paint) -> Iterator[str]:
    entries = document["between"]
    if entries:
        rows = [(wording.name(document, each), wording.shown(each), wording.better(each)) for each in entries]
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        lines = [f"{_INDENT}{row[0].ljust(widths[0])}{_GAP}{row[1].ljust(widths[1])}{_GAP}{row[2]}" for row in rows]
        yield "\n".join([paint(f"between the two versions ({len(rows)})", "strong"), *lines])


def _not_compared(document: Mapping[str, Any], paint: Paint) -> Iterator[str]:
    found = wording.reasons(document)
    if found:
        lines = [f"{reason}: {', '.join(names)}" for reason, names in found.items()]
        title = paint(f"not compared ({document['counts']['not_compared']})", "strong")
        yield "\n".join([title, *_wrapped(lines, _INDENT)])


def _wrapped(lines: Sequence[str], indent: str = "") -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(line, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}{_INDENT}")
