"""A change of a policy as text, as JSON and as Markdown for a pull request, each from its document alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gate.backtest.rendering import as_notes, dumps, markdown_table, table, tally, told
from gate.evidence import markup
from gate.evidence.markup import escaped
from gate.evidence.wording import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Document = Mapping[str, Any]

_BEGINNINGS = {
    "text": re.compile(r"POLICY DIFF  "),
    "json": re.compile(r'\{\s*"schema":\s*"gate\.policy-diff/v'),
    "markdown": re.compile(r"### Policy [^\n]+\n\n<!-- geometry-gate -->\n"),
}
_HEADINGS = ("version", "old policy", "new policy", "rules that change")


def render(format_: str, document: Document) -> str:
    """The document as `text`, `json` or `markdown`."""
    return {"text": _text, "json": dumps, "markdown": _markdown}[format_](document)


def is_report(beginning: str, format_: str) -> bool:
    """Whether a file that begins so is one that `render` made, or empty."""
    return not beginning or _BEGINNINGS[format_].match(beginning) is not None


def _text(document: Document) -> str:
    lines = [f"POLICY DIFF  {one_line(_title(document))}", _summary(document)]
    for difference in document["differences"]:
        lines += ["", one_line(f"{difference['kind']:<10} {_subject(difference)}")]
        lines += [f"  {one_line(_detail(detail))}" for detail in difference["details"]]
    if document["versions"]:
        shown = _worth_showing(document)
        lines += ["", f"on {document['date']}, {tally(document['counts'])}", *as_notes(document["notes"])]
        lines += ["", *table(_HEADINGS, shown), *told(shown)] if shown else []
    return "\n".join(lines) + "\n"


def _markdown(document: Document) -> str:
    blocks = [f"### Policy {escaped(_title(document))}", "<!-- geometry-gate -->", _summary(document)]
    if document["differences"]:
        rows = [
            (escaped(_subject(each)), each["kind"], "<br>".join(escaped(_detail(detail)) for detail in each["details"]))
            for each in document["differences"]
        ]
        blocks.append(markup.table(("what", "", "how"), rows))
    if document["versions"]:
        shown = _worth_showing(document)
        blocks.append(f"On {document['date']}, {tally(document['counts'])}.")
        blocks += [f"> {escaped(note)}" for note in document["notes"]]
        blocks += [markdown_table(_HEADINGS, shown)] if shown else []
    return "\n\n".join(blocks) + "\n"


def _worth_showing(document: Document) -> Sequence[Document]:
    """Versions with another verdict, and those of which one of the two cannot say any."""
    return [each for each in document["versions"] if each["changed"] or each["obstacles"]]


def _title(document: Document) -> str:
    old, new = (f"{each['name']}@{each['version']} ({each['path']})" for each in (document["old"], document["new"]))
    return f"{old} → {new}"


def _summary(document: Document) -> str:
    counted = [f"{count} {kind}" for kind, count in document["kinds"].items() if count]
    return ", ".join(counted) if counted else "nothing differs that decides anything"


def _subject(difference: Document) -> str:
    return f"{difference['what']} {difference['name']}".rstrip()


def _detail(detail: Document) -> str:
    was, now = ("nothing" if each is None else each for each in (detail["before"], detail["after"]))
    kind = "" if detail["kind"] == "reworded" else f" ({detail['kind']})"
    return f"{detail['key'] or 'all of it'}: {was} → {now}{kind}"
