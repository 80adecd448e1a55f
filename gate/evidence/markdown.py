"""The evidence as Markdown, for the summary of a GitHub step or a comment on a pull request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gate.evidence import markup, summary, wording

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Result = Mapping[str, Any]

CAP = 900_000  # bytes: a summary a little below GitHub's 1 MiB can vanish without a word
_LIMITS = (None, 1000, 100, 10, 1)  # entries of each list: the first at which the page keeps below the cap
_LONGEST_NAME, _LONGEST_TEXT = 200, 1000
_SIGNS = {
    "pass": "✅",
    "passed": "✅",
    "warn": "⚠️",
    "warned": "⚠️",
    "inconclusive": "❓",
    "fail": "❌",
    "failed": "❌",
    "error": "🛑",
    "waived": "🏷️",
    "not_evaluated": "⏭️",
}
_URL = re.compile(r"https?://[^\s<>]+")


def render(document: Mapping[str, Any]) -> str:
    """Render the evidence as GitHub's Markdown.

    Args:
        document: The evidence.

    Returns:
        At most 900 kB of UTF-8 that end with a newline; where a list was cut, it says so.
    """
    for limit in _LIMITS:
        page = _page(document, limit)
        if len(page.encode()) <= CAP:
            break
    return page


def _page(document: Mapping[str, Any], limit: int | None) -> str:
    results = summary.worst_first(document)
    blocks = [
        *_head(document),
        _table("rule", [result for result in results if result["slice"] is None], limit),
        *_slices(results, limit),
        *_explanations(document, results, limit),
        _origin(document),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _head(document: Mapping[str, Any]) -> list[str]:
    status, path = document["status"], document["policy"]["path"]
    basis = f"Policy {_code(summary.policy_name(document))} ({_code(path)}), probe {_code(document['probe']['uri'])}"
    return [
        f"### {_SIGNS[status]} {status.upper()}: {_text(summary.headline(document))}",
        "<!-- geometry-gate -->",
        f"{_text(summary.tally(document))}. {basis}, {summary.rows(document)}.",
        *(f"> ⚠️ {_text(note)}" for note in summary.notes(document)),
    ]


def _table(title: str, results: Sequence[Result], limit: int | None) -> str:
    if not results:
        return ""
    shown, more = _cut(results, limit)
    rows = [*map(_row, shown), *([(more, "", "", "")] if more else [])]
    return markup.table((title, "value with interval", "required", "outcome"), rows)


def _row(result: Result) -> tuple[str, str, str, str]:
    what = f"<sub>{_code(result['metric'])} of {_code(result['layer'])}</sub>"
    outcome = f"{_SIGNS[result['status']]} {wording.outcome(result)}"
    return f"**{_name(result)}**<br>{what}", _value(result), wording.required(result), outcome


def _value(result: Result) -> str:
    reason = result["reason"]
    return _text(reason, _LONGEST_NAME) if result["value"] is None and reason else wording.measured(result)


def _slices(results: Sequence[Result], limit: int | None) -> list[str]:
    """For each rule with slices, its slices under one line that counts their outcomes."""
    rules: dict[str, list[Result]] = {}
    for result in results:
        if result["slice"] is not None:
            rules.setdefault(result["rule"], []).append(result)
    shown, more = _cut(list(rules.items()), limit)
    details = [
        markup.folded(f"{rule}: {_outcomes(found)}", _table("slice", found, limit), _LONGEST_TEXT)
        for rule, found in shown
    ]
    return [*details, *([more] if more else [])]


def _outcomes(results: Sequence[Result]) -> str:
    found = [result["status"] for result in results]
    counted = [f"{found.count(status)} {status.replace('_', ' ')}" for status in dict.fromkeys(found)]
    return f"{len(found)} {'slice' if len(found) == 1 else 'slices'}, {', '.join(counted)}"


def _explanations(document: Mapping[str, Any], results: Sequence[Result], limit: int | None) -> list[str]:
    """What did not pass, each rule once: where it is written, what was found, and what its author says of it."""
    rules: dict[str, list[Result]] = {}
    for result in results:
        told_in_table = result["status"] == "not_evaluated" and result["value"] is None
        if result["status"] != "pass" and not told_in_table:
            rules.setdefault(result["rule"], []).append(result)
    shown, more = _cut(list(rules.values()), limit)
    blocks = [_explanation(document, found, limit) for found in shown]
    return [*(["#### What did not pass"] if rules else []), *blocks, *([more] if more else [])]


def _explanation(document: Mapping[str, Any], results: Sequence[Result], limit: int | None) -> str:
    shown, more = _cut(results, limit)
    lines = [f"**{_text(results[0]['rule'], _LONGEST_NAME)}** at {_code(wording.place(document, results[0]))}", ""]
    for result in shown:
        lines.append(f"- {_SIGNS[result['status']]} {_text(result['message'])}")
        lines += [f"  - *{label}:* {_text(text)}" for label, text in wording.particulars(result)]
    lines += [f"- {more}"] if more else []
    return "\n".join([*lines, *(f"- *{label}:* {_linked(text)}" for label, text in wording.advice(results[0]))])


def _origin(document: Mapping[str, Any]) -> str:
    model, policy, probe, run = (document[key] for key in ("model", "policy", "probe", "run"))
    facts = {
        "model": f"{_code(model['resolved'])} {_code(model['digest'])}",
        **({"kept": _text(kept)} if (kept := summary.kept(model)) else {}),
        "policy": f"{_code(summary.policy_name(document))} {_code(policy['digest'])}",
        "probe": f"{_code(probe['uri'])} {_code(probe['digest'])}",
        **({"expectations": _text(expected)} if (expected := summary.expected(probe)) else {}),
        "baseline": _text(summary.baseline(document)),
        "run": _text(f"gate {run['version']}, {run['device']}, seed {run['seed']}, {run['started']}"),
        "exit code": str(document["exit_code"]),
    }
    return markup.folded("Where this comes from", markup.table(("what", "which"), facts.items()))


def _cut(entries: Sequence[Any], limit: int | None) -> tuple[Sequence[Any], str]:
    """The entries that there is room for, and a line on the others."""
    more = 0 if limit is None else len(entries) - limit
    return (entries, "") if more <= 0 else (entries[:limit], f"… and {more} more, which the evidence holds in full")


def _name(result: Result) -> str:
    return _text(wording.finding_name(result), _LONGEST_NAME)


def _code(text: str | None) -> str:
    return "" if text is None else markup.code(text, _LONGEST_NAME)


def _linked(text: str) -> str:
    return f"<{text}>" if _URL.fullmatch(text) and len(text) <= _LONGEST_TEXT else _text(text)


def _text(text: str, longest: int = _LONGEST_TEXT) -> str:
    return markup.escaped(text, longest)
