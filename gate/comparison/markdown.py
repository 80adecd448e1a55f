"""A comparison as Markdown, for a comment on a pull request."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

from gate.comparison import wording
from gate.comparison.differences import OUTCOMES
from gate.evidence.wording import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_SIGNS = {"worse": "🔴", "better": "🟢", "different": "🟡", "no_difference": "⚪"}
_FOLDED = ("no_difference",)
_MARKS = re.compile(r"([\\`*_\[\]|~])")
_MENTION = re.compile(r"(?<!\w)@(?=\w)")


def render(document: Mapping[str, Any]) -> str:
    """Render a comparison as GitHub's Markdown.

    Args:
        document: The comparison.

    Returns:
        Text that ends with a newline; names of models, layers and files are shown as they are, never as markup.
    """
    blocks = [
        f"### gate compare: {_text(wording.headline(document))}",
        f"{_text(wording.tally(document))}. {_text(wording.basis(document))}.",
        *_differences(document),
        *_between(document),
        *_not_compared(document),
        "\n".join(f"<sub>{_text(note)}</sub>" for note in wording.footnotes(document)),
    ]
    return "\n\n".join(blocks) + "\n"


def _differences(document: Mapping[str, Any]) -> Iterator[str]:
    for outcome in OUTCOMES:
        found = [each for each in document["differences"] if each["outcome"] == outcome]
        rows = [
            (wording.name(document, each), *(wording.shown(each[key]) for key in ("a", "b", "difference")))
            for each in found
        ]
        title, table = f"{_SIGNS[outcome]} {wording.TITLES[outcome]} ({len(rows)})", _table(("A", "B", "B - A"), rows)
        if rows:
            yield _folded(title, table) if outcome in _FOLDED else f"**{title}**\n\n{table}"


def _between(document: Mapping[str, Any]) -> Iterator[str]:
    found = document["between"]
    rows = [(wording.name(document, each), wording.shown(each), wording.better(each)) for each in found]
    if rows:
        yield f"**between the two versions ({len(rows)})**\n\n{_table(('B against A', 'direction'), rows)}"


def _not_compared(document: Mapping[str, Any]) -> Iterator[str]:
    found = wording.reasons(document)
    if found:
        lines = [f"- {_text(reason)}: {_text(', '.join(names))}" for reason, names in found.items()]
        yield _folded(f"not compared ({document['counts']['not_compared']})", "\n".join(lines))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [("metric", *heads), ["---"] * (len(heads) + 1), *([_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _folded(title: str, content: str) -> str:
    # GitHub reads no Markdown in the line of a tag, and needs the empty lines to read it again after.
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>"


def _text(text: str) -> str:
    """Text from anywhere as Markdown that shows it as it is, in a cell of a table too, and that calls nobody."""
    line = _MARKS.sub(r"\\\1", html.escape(one_line(text), quote=False))
    return _MENTION.sub("@&#8203;", line)
