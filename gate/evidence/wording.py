"""The words and numbers that every rendering of the evidence shares."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

COUNTED = {
    "pass": "passed",
    "fail": "failed",
    "inconclusive": "inconclusive",
    "warn": "warned",
    "waived": "waived",
    "not_evaluated": "not evaluated",
    "error": "errors",
}
_LARGE = 1e7
_CLUSTERS = re.compile(r", (\d+) clusters$")  # the end of a method that knows of rows that belong together
_SAMPLED = 8192  # of more rows only a sample is kept, and the clusters counted are those of the sample
_FEW_CLUSTERS = 30
WORST_FIRST = ("error", "fail", "inconclusive", "warn", "not_evaluated", "waived", "pass")


def printable(text: str, *, keep: str = "") -> str:
    """The text with its control characters written out as Python writes them.

    Names come from models and data: a control character among them must not reach a terminal or a page.

    Args:
        text: Anything.
        keep: Characters that stay as they are.
    """
    return "".join(char if char.isprintable() or char in keep else ascii(char)[1:-1] for char in text)


def number(value: float | None) -> str:
    """A number with four significant digits, or a dash where there is none.

    Args:
        value: Any finite number.
    """
    if value is None:
        return "-"
    return str(round(value)) if value == round(value) and abs(value) < _LARGE else f"{value:.4g}"


def measured(result: Mapping[str, Any]) -> str:
    """A value and its interval, such as `62.5 [60.1, 64.8]`.

    Args:
        result: An entry of `results` or `estimates`.
    """
    if result["value"] is None:
        return "no number"
    if result["interval"] is None:
        return number(result["value"])
    low, high = result["interval"]
    return f"{number(result['value'])} [{number(low)}, {number(high)}]"


def required(result: Mapping[str, Any]) -> str:
    """What the rule asks for, such as `at least 96`.

    Args:
        result: An entry of `results`.
    """
    low, high = result["min"], result["max"]
    if low is not None and high is not None:
        return f"{number(low)} to {number(high)}"
    return f"at least {number(low)}" if low is not None else f"at most {number(high)}"


def headline(document: Mapping[str, Any]) -> str:
    """The verdict in one sentence.

    Args:
        document: The evidence.
    """
    counts, total = document["counts"], len(document["results"])
    model, status = document["model"]["resolved"], document["status"]
    if status == "passed":
        return f"{model} passes: {'the one rule' if total == 1 else f'all {total} rules'} held over the whole interval."
    if status == "warned":
        return f"{model} passes with warnings: {counts['warn']} of {_rules(total)} warned."
    if total == 0:
        return f"{model} is blocked: nothing was evaluated, and silence is not a pass."
    blocking = [
        f"{counts[outcome]} {words}"
        for outcome, words in (
            ("error", "could not be evaluated"),
            ("fail", "failed"),
            ("inconclusive", "could not be decided"),
        )
        if counts[outcome]
    ]
    return f"{model} is blocked: of {_rules(total)} {_listed(blocking)}."


def tally(document: Mapping[str, Any]) -> str:
    """The number of rules of every outcome, in one line.

    Args:
        document: The evidence.
    """
    return f"{_rules(len(document['results']))}: {', '.join(counted(document, outcome) for outcome in COUNTED)}"


def counted(document: Mapping[str, Any], outcome: str) -> str:
    """The number of rules of one outcome, such as `3 failed`.

    Args:
        document: The evidence.
        outcome: A key of `counts`.
    """
    count = document["counts"][outcome]
    return "1 error" if (outcome, count) == ("error", 1) else f"{count} {COUNTED[outcome]}"


def worst_first(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The results by severity of their outcome, in the order of the policy within each.

    Args:
        document: The evidence.
    """
    return sorted(document["results"], key=lambda result: WORST_FIRST.index(result["status"]))


def rows(document: Mapping[str, Any]) -> str:
    """The rows that were judged, such as `1797 rows in 150 clusters`.

    Args:
        document: The evidence.
    """
    n, clusters = document["probe"]["rows"], _clusters(document)
    counted_rows = "1 row" if n == 1 else f"{n} rows"
    if clusters is None:
        return counted_rows
    at_least = "at least " if n > _SAMPLED else ""
    return f"{counted_rows} in {at_least}{clusters} cluster{'' if clusters == 1 else 's'}"


def caution(document: Mapping[str, Any]) -> str | None:
    """What to know before reading any interval; None when there is nothing.

    Args:
        document: The evidence.
    """
    clusters = _clusters(document)
    if clusters is None or clusters >= _FEW_CLUSTERS:
        return None
    return f"note: fewer than {_FEW_CLUSTERS} clusters, so intervals are rough; add rows of further clusters"


def _clusters(document: Mapping[str, Any]) -> int | None:
    """Number of clusters, None when rows count as independent."""
    methods = (each["method"] or "" for each in (*document["estimates"], *document["results"]))
    return max((int(found.group(1)) for method in methods if (found := _CLUSTERS.search(method))), default=None)


def policy_name(document: Mapping[str, Any]) -> str:
    """Name and version of the policy, such as `classifier@1.0.0`.

    Args:
        document: The evidence.
    """
    policy = document["policy"]
    return f"{policy['name']}@{policy['version']}" if policy["version"] else str(policy["name"])


def miss(result: Mapping[str, Any], confidence: float) -> str:
    """Why a result is not a pass, in the few words that stand under its bound.

    Args:
        result: An entry of `results` that did not pass.
        confidence: Two-sided level of its interval, in (0, 1).
    """
    if result["status"] == "error":
        return "not judged"
    basis = f"{100 * confidence:g}% interval, n = {result['n']}"
    if result["interval"] is None:
        return "not decided"
    low, high = result["interval"]
    if result["min"] is not None and high < result["min"]:
        return f"short by {result['min'] - result['value']:.3g} ({basis})"
    if result["max"] is not None and low > result["max"]:
        return f"over by {result['value'] - result['max']:.3g} ({basis})"
    return f"inside the interval, not decided ({basis})"


def source_line(document: Mapping[str, Any], result: Mapping[str, Any]) -> tuple[str, str] | None:
    """The policy's line of a result, and the part of it that the result is about.

    Args:
        document: The evidence.
        result: An entry of its `results`.

    Returns:
        The line and the part that begins at the result's column, None when the text has no such place.
    """
    lines = document["policy"]["text"].splitlines()
    line, column = result["policy_line"], result["policy_column"]
    if not (line and column and line <= len(lines)):
        return None
    text = lines[line - 1].replace("\t", " ")
    part = text[column - 1 :]
    for end in (" #", ",", "}"):
        part = part.split(end)[0]
    return (text, part.rstrip()) if part.strip() else None


def _rules(count: int) -> str:
    return "1 rule" if count == 1 else f"{count} rules"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
