"""A backtest as text, as JSON and as Markdown, each from its document alone."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from gate.evidence import markup
from gate.evidence.markup import escaped
from gate.evidence.wording import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    Document = Mapping[str, Any]

FORMATS = ("text", "json", "markdown")
_BEGINNINGS = {
    "text": re.compile(r"BACKTEST  "),
    "json": re.compile(r'\{\s*"schema":\s*"gate\.backtest/v'),
    "markdown": re.compile(r"### Backtest of [^\n]+\n\n<!-- geometry-gate -->\n"),
}
_HEADINGS = ("version", "recorded", "replayed", "rules that change")


def render(format_: str, document: Document) -> str:
    """The document in one of `FORMATS`."""
    return {"text": _text, "json": dumps, "markdown": _markdown}[format_](document)


def is_report(beginning: str, format_: str) -> bool:
    """Whether a file that begins so is one that `render` made, or empty."""
    return not beginning or _BEGINNINGS[format_].match(beginning) is not None


def dumps(document: Document) -> str:
    """The document as JSON text."""
    return json.dumps(document, allow_nan=False, ensure_ascii=False, indent=1) + "\n"


def _text(document: Document) -> str:
    head = [f"BACKTEST  {one_line(_title(document))}", tally(document["counts"]), *as_notes(document["notes"]), ""]
    return "\n".join([*head, *table(_HEADINGS, document["versions"]), *told(document["versions"])]) + "\n"


def _markdown(document: Document) -> str:
    head = [f"### Backtest of {escaped(_title(document))}", "<!-- geometry-gate -->", tally(document["counts"])]
    head += [f"> {escaped(note)}" for note in document["notes"]]
    return "\n\n".join([*head, markdown_table(_HEADINGS, document["versions"])]) + "\n"


def _title(document: Document) -> str:
    policy = document["policy"]
    return f"{policy['name']}@{policy['version']} ({policy['path']}) on {document['date']}"


def tally(counts: Mapping[str, int]) -> str:
    """How many versions change, in one line."""
    versions = "1 version" if counts["versions"] == 1 else f"{counts['versions']} versions"
    changed, unchanged, not_replayed = (counts[key] for key in ("changed", "unchanged", "not_replayed"))
    return f"{versions}: {changed} with another verdict, {unchanged} with the same, {not_replayed} cannot be replayed"


def as_notes(notes: Iterable[str]) -> list[str]:
    """Notes as lines of text."""
    return [f"note: {one_line(note)}" for note in notes]


def table(headings: Sequence[str], versions: Sequence[Document]) -> list[str]:
    """A line for every version: its name, both verdicts, and the rules that change."""
    rows = [tuple(headings), *(tuple(map(one_line, _cells(version))) for version in versions)]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def told(versions: Iterable[Document]) -> Iterator[str]:
    """For each version what changes and why, what cannot be replayed, and what to do then."""
    for version in versions:
        if version["changes"] or version["obstacles"]:
            yield ""
            yield one_line(f"{version['model']} ({version['source']})")
        for change in version["changes"]:
            yield f"  {one_line(_change(change))}: {one_line(change['message'])}"
        for obstacle in version["obstacles"]:
            yield f"  not replayed: {one_line(obstacle)}"
        if version["todo"]:
            yield f"  = {one_line(version['todo'])}"


def markdown_table(headings: Sequence[str], versions: Iterable[Document]) -> str:
    """The same as a table of Markdown, with the reasons in its last cell."""
    return markup.table(headings, map(_markdown_row, versions))


def _markdown_row(version: Document) -> list[str]:
    *cells, _ = map(escaped, _cells(version))
    why = [f"{escaped(_change(change))}: {escaped(change['message'])}" for change in version["changes"]]
    why += [f"*not replayed:* {escaped(obstacle)}" for obstacle in version["obstacles"]]
    why += [markup.code(version["todo"])] if version["todo"] else []
    return [*cells, "<br>".join(why)]


def _cells(version: Document) -> tuple[str, str, str, str]:
    before, after = (None if found is None else found["status"] for found in (version["before"], version["after"]))
    rules = ", ".join(change["finding"] for change in version["changes"])
    return version["model"], before or "unknown", after or "unknown", rules or "-"


def _change(change: Document) -> str:
    was, now = (None if found is None else found.replace("_", " ") for found in (change["before"], change["after"]))
    return f"{change['finding']}: {was or 'new'} → {now or 'gone'}"
