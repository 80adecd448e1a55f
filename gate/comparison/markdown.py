"""A comparison as Markdown, for a comment on a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gate.comparison import wording
from gate.comparison.differences import OUTCOMES
from gate.evidence.markup import escaped, folded, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_SIGNS = {"worse": "🔴", "better": "🟢", "different": "🟡", "no_difference": "⚪"}
_FOLDED = ("no_difference",)


def render(document: Mapping[str, Any]) -> str:
    """Render a comparison as GitHub's Markdown.

    Args:
        document: The comparison.

    Returns:
        Text that ends with a newline; names of models, layers and files are shown as they are, never as markup.
    """
    blocks = [
        f"### gate compare: {escaped(wording.headline(document))}",
        f"{escaped(wording.tally(document))}. {escaped(wording.basis(document))}.",
        *_differences(document),
        *_between(document),
        *_not_compared(document),
        "\n".join(f"<sub>{escaped(note)}</sub>" for note in wording.footnotes(document)),
    ]
    return "\n\n".join(blocks) + "\n"


def _differences(document: Mapping[str, Any]) -> Iterator[str]:
    for outcome in OUTCOMES:
        found = [each for each in document["differences"] if each["outcome"] == outcome]
        rows = [
            (wording.name(document, each), *(wording.shown(each[key]) for key in ("a", "b", "difference")))
            for each in found
        ]
        title, cells = f"{_SIGNS[outcome]} {wording.TITLES[outcome]} ({len(rows)})", _table(("A", "B", "B - A"), rows)
        if rows:
            yield folded(title, cells) if outcome in _FOLDED else f"**{title}**\n\n{cells}"


def _between(document: Mapping[str, Any]) -> Iterator[str]:
    found = document["between"]
    rows = [(wording.name(document, each), wording.shown(each), wording.better(each)) for each in found]
    if rows:
        yield f"**between the two versions ({len(rows)})**\n\n{_table(('B against A', 'direction'), rows)}"


def _not_compared(document: Mapping[str, Any]) -> Iterator[str]:
    found = wording.reasons(document)
    if found:
        lines = [f"- {escaped(reason)}: {escaped(', '.join(names))}" for reason, names in found.items()]
        yield folded(f"not compared ({document['counts']['not_compared']})", "\n".join(lines))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return table(("metric", *heads), ([escaped(cell) for cell in row] for row in rows))
