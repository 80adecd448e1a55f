"""Facts and tables as lines of text for a terminal or a log."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from gate.evidence.wording import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeAlias

    Paint: TypeAlias = Callable[[str, str], str]  # a text, and the name of a style

WIDTH = 100
_INDENT, _GAP = "  ", "  "
_STYLES = {
    "pass": "32",
    "passed": "1;32",
    "fail": "1;31",
    "failed": "1;31",
    "error": "1;35",
    "inconclusive": "1;33",
    "warn": "1;33",
    "warned": "1;33",
    "waived": "36",
    "not_evaluated": "36",
    "worse": "1;31",
    "better": "32",
    "different": "1;33",
    "no_difference": "2",
    "frame": "1;34",
    "strong": "1",
    "label": "36",
    "faint": "2",
}


def painter(*, color: bool) -> Paint:
    """A function that gives a text a style, or leaves it as it is."""
    return _ansi if color else _plain


def section(title: str, lines: Iterable[str], paint: Paint) -> str:
    """Lines under a title."""
    return "\n".join([paint(title, "strong"), *lines])


def facts(pairs: Iterable[tuple[str, str]], paint: Paint) -> Iterator[str]:
    """Labels with their texts, which go on below themselves; a label without a text is left out."""
    told = [(label, one_line(text)) for label, text in pairs if text]
    widest = max((len(label) for label, _ in told), default=0)
    indent = len(_INDENT) + widest + len(_GAP)
    for label, text in told:
        first, *rest = textwrap.wrap(text, WIDTH - indent, break_on_hyphens=False) or [""]
        yield f"{_INDENT}{paint(label, 'label')}{' ' * (widest - len(label))}{_GAP}{first}"
        yield from (f"{' ' * indent}{line}" for line in rest)


def table(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Rows in columns; the text of the last one goes on below itself."""
    told = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in told) for i in range(len(told[0]) - 1)] if told else []
    indent = len(_INDENT) + sum(widths) + len(_GAP) * len(widths)
    for *cells, last in told:
        head = "".join(f"{cell.ljust(width)}{_GAP}" for cell, width in zip(cells, widths, strict=True))
        first, *rest = textwrap.wrap(last, max(WIDTH - indent, WIDTH // 4), break_on_hyphens=False) or [""]
        yield f"{_INDENT}{head}{first}".rstrip()
        yield from (f"{' ' * indent}{line}" for line in rest)


def paragraph(text: str) -> Iterator[str]:
    """A text in lines of one width."""
    yield from textwrap.wrap(one_line(text), WIDTH, break_on_hyphens=False)


def _ansi(text: str, style: str) -> str:
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def _plain(text: str, _style: str) -> str:
    return text
