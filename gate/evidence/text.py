"""The evidence as text for a terminal or a log: the verdict, the count of every outcome, a frame per finding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gate.evidence import summary, wording
from gate.evidence.layout import painter
from gate.evidence.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gate.evidence.layout import Paint

_KIND = {"fail": "error", "error": "error", "inconclusive": "inconclusive", "warn": "warning", "waived": "waived"}


def render(document: Mapping[str, Any], *, color: bool = False) -> str:
    """Render the evidence as text.

    Args:
        document: The evidence.
        color: Whether to use ANSI colours; without them the text has no control character but the newline.

    Returns:
        Text that ends with a newline.
    """
    paint = painter(color=color)
    results = summary.worst_first(document)
    blocks = [_head(document, paint)]
    blocks += [_frame(document, result, paint) for result in results if result["status"] != "pass"]
    passed = [result for result in results if result["status"] == "pass"]
    blocks += [_table(passed, paint)] if passed else []
    return "\n\n".join(blocks) + "\n"


def _head(document: Mapping[str, Any], paint: Paint) -> str:
    status = document["status"]
    policy, probe = document["policy"], document["probe"]
    basis = f"policy {summary.policy_name(document)} ({policy['path']}), probe {probe['uri']}, {summary.rows(document)}"
    against = f", baseline {summary.baseline(document)}" if document["baseline"] else ""
    return "\n".join(
        (
            f"{paint(status.upper(), status)}  {paint(printable(summary.headline(document)), 'strong')}",
            summary.tally(document),
            paint(printable(basis + against), "faint"),
            *(paint(f"note: {note}", "inconclusive") for note in summary.notes(document)),
        )
    )


def _frame(document: Mapping[str, Any], result: Mapping[str, Any], paint: Paint) -> str:
    gutter = " " * len(str(result["policy_line"] or 0))
    kind = _KIND.get(result["status"], "note")
    title = paint(f"{kind}[{wording.finding_name(result)}]", result["status"])
    notes = [f"{label}: {text}" for label, text in _notes(document, result)]
    lines = [
        f"{title}: {paint(printable(result['message']), 'strong')}",
        f"{gutter}{paint('-->', 'frame')} {printable(wording.place(document, result))}",
        *_source(document, result, paint),
        *(f"{gutter} {paint('=', 'frame')} {note}" for note in notes),
    ]
    return "\n".join(lines)


def _source(document: Mapping[str, Any], result: Mapping[str, Any], paint: Paint) -> list[str]:
    source = wording.source_line(document, result)
    miss = printable(wording.miss(result, document["run"]["confidence"]))
    gutter = str(result["policy_line"] or 0)
    blank = " " * len(gutter)
    if source is None:
        return [f"{blank} {paint('=', 'frame')} {miss}"]
    text, part = source
    carets = " " * (result["policy_column"] - 1) + paint("^" * len(part) + " " + miss, result["status"])
    bar = paint("|", "frame")
    return [f"{blank} {bar}", f"{paint(gutter, 'frame')} {bar} {printable(text)}", f"{blank} {bar} {carets}"]


def _notes(document: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What it was compared with and who waived it, then why and what to do, then the rows."""
    own = dict(wording.particulars(result))
    if "baseline" in own:
        yield f"baseline {printable(summary.baseline(document))}", own["baseline"] + _in_percent(result)
    if "waiver" in own:
        yield "waiver", own["waiver"]
    yield from wording.advice(result)
    if "rows" in own:
        yield "rows", own["rows"]


def _in_percent(result: Mapping[str, Any]) -> str:
    change, base = result["value"], result["baseline"]
    return f" ({100 * change / abs(base):+.0f}%)" if change is not None and base else ""


def _table(results: list[dict[str, Any]], paint: Paint) -> str:
    rows = [
        (
            wording.finding_name(result),
            f"{result['metric']} of {result['layer']}",
            wording.measured(result),
            wording.required(result),
        )
        for result in results
    ]
    widths = [max(len(printable(row[i])) for row in rows) for i in range(3)]
    return "\n".join(
        f"{paint('pass', 'pass')}  " + "  ".join([*(printable(row[i]).ljust(widths[i]) for i in range(3)), row[3]])
        for row in rows
    )
