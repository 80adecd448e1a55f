"""Data Docs that can be read as they lie: nothing in them is fetched from elsewhere, and nothing waits for a script.

Great Expectations writes its pages for styles, icons and scripts of other servers. Here they get a style sheet of their
own and words in place of icons, and in place of the first page, whose tables a script would fill, one that says what
became of the probe set.
"""

from __future__ import annotations

import re
import shutil
from html import escape
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from gate.probes.validating.report import brief

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    Attributes = Sequence[tuple[str, str | None]]

RUN_TIME = "2000-01-01T00:00:00Z"  # of every run, so that the same rows have the same one
_NO_TIME = "not recorded"
_LEFT_OUT = ("script", "style", "link", "footer", "button", "img", "iframe", "source", "object", "embed", "input")
_LEFT_OUT_CLASSES = ("card mb-3", "btn-group", "navbar-brand")  # buttons that only a script would answer; a logo
_WITHOUT_END = frozenset(("br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"))
_REMOTE = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)
_FETCHES = re.compile(r"url\(|@import", re.IGNORECASE)
_ICONS = {
    "fa-check-circle": '<b class="good">✓ Succeeded</b>',
    "fa-times": '<b class="bad">✗ Failed</b>',
    "fa-exclamation-triangle": '<b class="bad">! Could not be checked</b>',
}
_RESULTS = {"passed": ("good", "✓ Succeeded"), "warned": ("poor", "! Warned"), "failed": ("bad", "✗ Failed")}
_FRAMES = {
    "totals": "in how many rows something is so",
    "columns": "the columns, and whether their values are of the right kind",
    "widths": "how many values the inputs have",
    "splits": "how many rows each split has",
    "classes": "how many rows each class has",
    "groups": "how many rows each group has",
    "rows": "the columns that the suite is about, row by row",
}
_STYLE = """
body { color: #1c1c1c; background: #fff; font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
h4 { font-size: 1.4rem; margin: 0; } h5 { font-size: 1.1rem; margin: 0; } h6 { font-size: 1rem; margin: 1rem 0 .25rem; }
table { border-collapse: collapse; margin: .5rem 0 1rem; }
th, td { border: 1px solid #bbb; padding: .3rem .6rem; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { background: #eee; white-space: nowrap; }
td:first-child { min-width: 8rem; }
.alert { background: #eef2f6; border-left: 4px solid #567; padding: .4rem .8rem; margin: 1.5rem 0 .5rem; }
.badge, code { background: #eee; border-radius: 3px; padding: 0 .3rem; font-family: ui-monospace, monospace; }
.good { color: #17652b; } .poor { color: #7a4b00; } .bad { color: #a01818; }
.breadcrumb, .nav { list-style: none; padding: 0; } .breadcrumb li { display: inline; } .breadcrumb li + li::before { content: " / "; }
.nav li { display: inline-block; margin-right: 1rem; } hr { border: 0; margin: 0; }
.cooltip .top { display: none; } .cooltip:hover .top { display: block; }
"""  # noqa: E501 - a rule of a style sheet in each line
_HEAD = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
    f"<style>{_STYLE}</style>\n"
)


def readable(page: str) -> str:
    """A page without scripts, and without styles, pictures and links that lie elsewhere; with words for its icons."""
    parser = _Readable()
    parser.feed(page)
    parser.close()
    told_once = re.sub(r"(Succeeded|Failed)(</b>)\s*\1", r"\1\2", "".join(parser.kept))
    return re.sub(r"\n\s*\n+", "\n", told_once)


def finish(folder: Path, document: Mapping[str, Any]) -> int:
    """Make the pages of a folder readable, and write its first one; returns how many pages there are.

    Args:
        folder: Of Data Docs, as Great Expectations wrote them.
        document: The report of the validation.
    """
    shutil.rmtree(folder / "static", ignore_errors=True)  # fonts and pictures that no page shows any more
    for path in sorted(folder.rglob("*.html")):
        path.write_text(readable(path.read_text(encoding="utf-8")), encoding="utf-8")
    (folder / "index.html").write_text("\n".join(_first(folder, document)) + "\n", encoding="utf-8")
    return sum(1 for _ in folder.rglob("*.html"))


class _Readable(HTMLParser):
    """Passes on what can be read.

    Attributes:
        kept: The pieces of the page that stay.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.kept: list[str] = []
        self._within = ""  # the element that is left out, ...
        self._depth = 0  # ... and how many of its name are open

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        if self._within:
            self._depth += tag == self._within
            return
        found = dict(attrs)
        classes = found.get("class") or ""
        if tag == "i":
            self.kept += [words for icon, words in _ICONS.items() if icon in classes.split()]
        if tag in (*_LEFT_OUT, "i") or _is_dead(classes, found):
            self._within, self._depth = ("", 0) if tag in _WITHOUT_END else (tag, 1)
            return
        self.kept.append(f"<{tag}{''.join(_attributes(attrs))}>")

    def handle_endtag(self, tag: str) -> None:
        if self._within:
            self._depth -= tag == self._within
            self._within = self._within if self._depth else ""
            return
        if tag == "head":
            self.kept.append(_HEAD)
        if tag not in _WITHOUT_END:
            self.kept.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self._within:
            known = data.replace(f" / {RUN_TIME}", "")
            self.kept.append(known.replace(RUN_TIME, _NO_TIME))

    def handle_entityref(self, name: str) -> None:
        self.handle_data(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self.handle_data(f"&#{name};")

    def handle_decl(self, decl: str) -> None:
        self.kept.append(f"<!{decl}>")


def _is_dead(classes: str, attributes: Mapping[str, str | None]) -> bool:
    """Whether an element does nothing without a script."""
    return attributes.get("data-toggle") == "collapse" or any(
        set(each.split()) <= set(classes.split()) for each in _LEFT_OUT_CLASSES
    )


def _attributes(attributes: Attributes) -> Iterator[str]:
    for name, value in attributes:
        is_remote = name in ("href", "src", "action", "srcset") and _REMOTE.match(value or "")
        if is_remote or name.startswith(("on", "data-")) or _FETCHES.search(value or ""):
            continue
        yield f" {name}" if value is None else f' {name}="{escape(value)}"'


def _first(folder: Path, document: Mapping[str, Any]) -> Iterator[str]:
    title = f"Probe set {document['status']}: {document['uri']}"
    yield f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="UTF-8">\n<title>{escape(title)}</title>'
    yield f"{_HEAD}</head>\n<body>"
    yield f"<h1>Probe set {_marked(document['status'], document['status'])}</h1>"
    facts = [("probe set", document["uri"]), *((key, document[key]) for key in ("rows", "classes", "groups"))]
    facts += [*document["splits"].items(), *((key, document[key]) for key in ("digest", "slices_digest"))]
    known = [(key, value) for key, value in facts if value]
    yield from _table((), ([escape(key), f"<code>{escape(str(value))}</code>"] for key, value in known))
    yield from _findings(document["findings"])
    yield "<h2>Checks</h2>"
    pages = dict(_pages(folder))
    rows = [
        [
            _marked(each["result"]),
            escape(brief(each["name"])),
            _linked(each["frame"], pages),
            escape(each["expectation"]),
        ]
        for each in document["checks"]
    ]
    yield from _table(("Status", "Check", "Result", "Expectation"), rows)
    yield "<h2>Pages of Great Expectations</h2>"
    yield (
        "<p>Each holds a small table of facts about the rows against what is expected of it. What would pass there by "
        "asking nothing fails above, and what is above counts.</p>"
    )
    yield from _table(("Status", "Facts", "What they are", "Expectations"), _runs(document["checks"], pages))
    yield "</body>\n</html>"


def _findings(findings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if findings:
        yield "<h2>What does not hold</h2>"
        rows = [
            [_marked("failed" if each["severity"] == "critical" else "warned"), each["fault"], escape(each["message"])]
            for each in findings
        ]
        yield from _table(("Status", "Fault", "What was found"), rows)


def _runs(checks: Sequence[Mapping[str, Any]], pages: Mapping[str, str]) -> Iterator[list[str]]:
    for frame in pages:
        results = {each["result"] for each in checks if each["frame"] == frame}
        worst = next(each for each in ("failed", "warned", "passed") if each in results)
        expected = f'<a href="expectations/{frame}.html">what is expected</a>'
        yield [_marked(worst), _linked(frame, pages), _FRAMES[frame], expected]


def _pages(folder: Path) -> Iterator[tuple[str, str]]:
    """Each frame of facts with the page of its results."""
    for frame in _FRAMES:
        for path in sorted((folder / "validations" / frame).rglob("*.html")):
            yield frame, path.relative_to(folder).as_posix()


def _linked(frame: str, pages: Mapping[str, str]) -> str:
    return f'<a href="{escape(pages[frame])}">{escape(frame)}</a>'


def _marked(result: str, words: str = "") -> str:
    kind, usual = _RESULTS[result]
    return f'<b class="{kind}">{words or usual}</b>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "<table>"
    if heads:
        yield f"<tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>"
    for row in rows:
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>"
    yield "</table>"
