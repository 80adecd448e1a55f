"""Text from anywhere as Markdown that shows it as it is: names of models, rows and files are never markup."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from gate.evidence.wording import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MARKS = re.compile(r"([\\`*_\[\]|~])")
_MENTION = re.compile(r"(?<!\w)@(?=\w)")


def escaped(text: str, longest: int | None = None) -> str:
    """The text in one line, in a cell of a table too, calling nobody.

    Args:
        text: Anything.
        longest: Number of characters that it is cut to; None keeps them all.
    """
    return _unmentioned(_MARKS.sub(r"\\\1", html.escape(one_line(text, longest), quote=False)))


def code(text: str, longest: int | None = None) -> str:
    """The text in letters of one width."""
    return f"<code>{escaped(text, longest)}</code>"


def folded(title: str, content: str, longest: int | None = None) -> str:
    """Markdown under a title that opens it.

    Args:
        title: Anything.
        content: Markdown.
        longest: Number of characters that the title is cut to.
    """
    # GitHub reads no Markdown in the line of a tag, and needs the empty lines to read it again after.
    shown = _unmentioned(html.escape(one_line(title, longest), quote=False))
    return f"<details><summary>{shown}</summary>\n\n{content}\n\n</details>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells of Markdown as a table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _unmentioned(text: str) -> str:
    """The text with no `@name` that would call a person to the page."""
    return _MENTION.sub("@&#8203;", text)
