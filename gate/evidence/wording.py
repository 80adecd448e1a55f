"""The words and numbers that every rendering of the evidence has for one finding."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_LARGE = 1e7
_CHECKS = {"bound": "", "relative": " (relative)", "worst_gap": " (worst gap)"}
_SHOWN_ROWS = 8


class Anchor(NamedTuple):
    """The place in the root policy file that a finding is shown at."""

    path: str
    line: int
    column: int


def printable(text: str, *, keep: str = "") -> str:
    """The text with its control characters written out as Python writes them.

    Names come from models and data: a control character among them must not reach a terminal or a page.

    Args:
        text: Anything.
        keep: Characters that stay as they are.
    """
    if text.isprintable():
        return text  # most texts are, and a page can hold a million characters
    return "".join(char if char.isprintable() or char in keep else ascii(char)[1:-1] for char in text)


def one_line(text: str, longest: int | None = None) -> str:
    """The text in one line of printable characters.

    Args:
        text: Anything.
        longest: Number of characters that it is cut to, the last of them an ellipsis; None keeps them all.
    """
    line = printable(" ".join(text.split()))
    return line if longest is None or len(line) <= longest else f"{line[: longest - 1]}…"


def number(value: float | None) -> str:
    """A number with four significant digits, or a dash where there is none.

    Args:
        value: Any finite number.
    """
    if value is None:
        return "-"
    return str(round(value)) if abs(value) < _LARGE and value == round(value) else f"{value:.4g}"


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
    """What the rule asks for, such as `at least 96`, or `a drop of at most 0.02` against a baseline.

    Args:
        result: An entry of `results`.
    """
    low, high = result["min"], result["max"]
    if low is None and high is None:
        return number(None)
    if _check(result) == "relative":
        drop = [] if low is None else [f"a drop of at most {number(abs(low))}"]
        return ", ".join(drop if high is None else [*drop, f"a rise of at most {number(abs(high))}"])
    if low is not None and high is not None:
        return f"{number(low)} to {number(high)}"
    return f"at least {number(low)}" if low is not None else f"at most {number(high)}"


def finding_name(result: Mapping[str, Any]) -> str:
    """What a finding is called: no other of its document is, and it is the same in every run.

    Args:
        result: An entry of `results`.

    Returns:
        Such as `rank`, `rank[language=ja]`, `rank (relative)` or `rank (worst gap)`.
    """
    part = "" if result["slice"] is None else f"[{result['slice']}]"
    return printable(f"{result['rule']}{part}{_CHECKS.get(_check(result), '')}")


def outcome(result: Mapping[str, Any]) -> str:
    """The outcome of a finding in words, such as `not evaluated`.

    Args:
        result: An entry of `results`.
    """
    return str(result["status"]).replace("_", " ")


def anchor(document: Mapping[str, Any], result: Mapping[str, Any]) -> Anchor:
    """Where in the root policy file a finding is shown; evidence of before there were packs knows one file only.

    Args:
        document: The evidence.
        result: An entry of its `results`.

    Returns:
        Path as given but without detours such as `./`, line and column from 1.
    """
    fallback = {"path": document["policy"]["path"], "line": result["policy_line"], "column": result["policy_column"]}
    found = result.get("anchor") or fallback
    return Anchor(posixpath.normpath(found["path"]), found["line"] or 1, found["column"] or 1)


def place(document: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Where the rule of a finding is written, such as `policies/encoder.yaml:31:5` or `embedding@1:12:5`.

    Args:
        document: The evidence.
        result: An entry of its `results`.
    """
    return f"{_policy_path(document, result)}:{result['policy_line']}:{result['policy_column']}"


def advice(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the author of the rule tells people, each text with its label: why, fix, paper, docs.

    Args:
        result: An entry of `results`.
    """
    texts = [(label, result.get(label)) for label in ("why", "fix", "paper", "docs")]
    return [(label, one_line(text)) for label, text in texts if text]


def particulars(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What there is to say of one finding beyond its message, each text with its label: baseline, waiver, rows.

    Args:
        result: An entry of `results`.
    """
    compared = result.get("baseline")
    texts = [
        ("baseline", None if compared is None else number(compared)),
        ("waiver", waived(result)),
        ("rows", _driving(result)),
    ]
    return [(label, one_line(text)) for label, text in texts if text]


def explained(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """All that people are told of a finding beyond its message: what it was compared with, the advice, its rows.

    Args:
        result: An entry of `results`.
    """
    own = particulars(result)
    rows_last = [pair for pair in own if pair[0] == "rows"]
    return [*(pair for pair in own if pair not in rows_last), *advice(result), *rows_last]


def waived(result: Mapping[str, Any]) -> str | None:
    """Who waived a finding, until when and why; None when nobody did.

    Args:
        result: An entry of `results`.
    """
    waiver = result["waiver"]
    if waiver is None:
        return None
    ticket = f" ({waiver['ticket']})" if waiver.get("ticket") else ""
    approver = f", approved by {waiver['approver']}" if waiver.get("approver") else ""
    return f"{waiver['reason']} - {waiver['owner']}, until {waiver['expires']}{ticket}{approver}"


def _check(result: Mapping[str, Any]) -> str:
    return str(result.get("check", "bound"))


def _policy_path(document: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    return str(result.get("policy_path") or document["policy"]["path"])


def _driving(result: Mapping[str, Any]) -> str | None:
    ids = [row["id"] for row in result["rows"]]
    more = f" and {len(ids) - _SHOWN_ROWS} more" if len(ids) > _SHOWN_ROWS else ""
    return f"{', '.join(ids[:_SHOWN_ROWS])}{more} push it most to the failing side" if ids else None


def miss(result: Mapping[str, Any], confidence: float) -> str:
    """Why a result is not a pass, in the few words that stand under its bound.

    Args:
        result: An entry of `results` that did not pass.
        confidence: Two-sided level of the run, in (0, 1); with many rules at once a result has a level of its own.
    """
    if result["status"] == "error":
        return "not judged"
    level = f"{100 * (result.get('confidence') or confidence):.4f}".rstrip("0").rstrip(".")
    basis = f"{level}% interval, n = {result['n']}"
    if result["interval"] is None:
        return "not evaluated" if result["status"] == "not_evaluated" else "not decided"
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
    policy = document["policy"]
    others = {source["path"]: source["text"] for source in policy.get("sources", ())}
    texts = others | {policy["path"]: policy["text"]}
    lines = texts.get(_policy_path(document, result), "").splitlines()
    line, column = result["policy_line"], result["policy_column"]
    if not (line and column and line <= len(lines)):
        return None
    text = lines[line - 1].replace("\t", " ")
    part = text[column - 1 :]
    for end in (" #", ",", "}"):
        part = part.split(end)[0]
    return (text, part.rstrip()) if part.strip() else None
