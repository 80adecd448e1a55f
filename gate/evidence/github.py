"""The evidence as workflow commands: annotations of the policy file in a GitHub run and its pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gate.evidence import summary, wording

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_COMMANDS = {
    "error": "error",
    "fail": "error",
    "inconclusive": "warning",
    "warn": "warning",
    "waived": "notice",
    "not_evaluated": "notice",
}
_SHOWN = 10  # GitHub shows ten of a kind for each step, and drops the others unseen
_DATA = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_PROPERTY = _DATA | str.maketrans({":": "%3A", ",": "%2C"})


def render(document: Mapping[str, Any]) -> str:
    """Render the evidence for the log of a GitHub workflow.

    Args:
        document: The evidence.

    Returns:
        The verdict in plain lines, an annotation for each of the worst findings, one line with the rest.
    """
    results = [result for result in summary.worst_first(document) if result["status"] in _COMMANDS]
    lines = [*_head(document), *(_annotation(document, result) for result in results[:_SHOWN])]
    if rest := results[_SHOWN:]:
        lines.append(_rest(rest))
    return "\n".join(lines) + "\n"


def _head(document: Mapping[str, Any]) -> list[str]:
    verdict = f"{document['status'].upper()}  {summary.headline(document)}"
    said = (verdict, summary.tally(document), *(f"note: {note}" for note in summary.notes(document)))
    # The runner obeys `##[command]` anywhere in a line that is no command itself.
    return [f"gate: {wording.printable(line).replace('##[', '## [')}" for line in said]


def _annotation(document: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    anchor = wording.anchor(document, result)
    properties = {
        "title": f"gate ({wording.finding_name(result)})",
        "file": wording.printable(anchor.path),
        "line": str(anchor.line),
    }
    given = ",".join(f"{key}={value.translate(_PROPERTY)}" for key, value in properties.items())
    told = [wording.one_line(result["message"]), *(f"{label}: {text}" for label, text in wording.explained(result))]
    return f"::{_COMMANDS[result['status']]} {given}::" + "\n".join(told).translate(_DATA)


def _rest(results: Sequence[Mapping[str, Any]]) -> str:
    names = [f"{wording.finding_name(result)} ({wording.outcome(result)})" for result in results]
    return "::notice title=gate::" + f"and {len(names)} more: {', '.join(names)}".translate(_DATA)
