"""The evidence as SARIF 2.1.0, for code scanning: every rule is declared, every finding that did not pass a result."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gate.evidence import summary, wording

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {
    "error": "error",
    "fail": "error",
    "inconclusive": "warning",
    "warn": "warning",
    "waived": "note",
    "not_evaluated": "note",
}
_NOT_EXECUTED = (2, 3, 5)  # exit codes of runs that judged nothing or not all
_LONGEST = 1024  # characters of a description that code scanning takes
_URL = re.compile(r"https?://[^\s<>\"{}|\\^`]+")


def render(document: Mapping[str, Any]) -> str:
    """Render the evidence as SARIF.

    Args:
        document: The evidence.

    Returns:
        JSON that ends with a newline.
    """
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(document)]}
    return json.dumps(log, allow_nan=False, ensure_ascii=False, indent=1) + "\n"


def _run(document: Mapping[str, Any]) -> dict[str, Any]:
    version = document["run"]["version"]
    first = {result["rule"]: result for result in reversed(document["results"])}
    rules = list(dict.fromkeys(result["rule"] for result in document["results"]))
    driver = {
        "name": "geometry-gate",
        "rules": [_rule(first[rule]) for rule in rules],
        **({"version": version} if version else {}),
    }
    return {
        "tool": {"driver": driver},
        # What code scanning takes for one series of uploads: another model must not close this model's alerts.
        "automationDetails": {"id": f"gate/{_plain(document['policy']['name'])}/{_plain(_model(document))}/"},
        "invocations": [_invocation(document)],
        "columnKind": "unicodeCodePoints",
        "results": [_result(document, result, rules) for result in document["results"] if result["status"] in _LEVELS],
    }


def _rule(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a rule says of itself, read from its first finding."""
    short = _plain(f"{result['metric']} of layer {result['layer']!r}: {wording.required(result)}", _LONGEST)
    told = [f"{label}: {text}" for label, text in wording.advice(result)]
    rule = {
        "id": wording.printable(result["rule"]),
        "shortDescription": {"text": short},
        "fullDescription": {"text": _plain(result["why"] or short, _LONGEST)},
        "help": {"text": _unlinked("\n".join(told)) or short},
        "defaultConfiguration": {"level": "error" if result["severity"] == "block" else "warning"},
    }
    return rule | ({"helpUri": result["docs"]} if _URL.fullmatch(result["docs"] or "") else {})


def _invocation(document: Mapping[str, Any]) -> dict[str, Any]:
    code = document["exit_code"]
    notes = [{"level": "warning", "message": {"text": _unlinked(note)}} for note in summary.notes(document)]
    executed = {"executionSuccessful": code not in _NOT_EXECUTED, "exitCode": code}
    return executed | ({"toolConfigurationNotifications": notes} if notes else {})


def _result(document: Mapping[str, Any], result: Mapping[str, Any], rules: Sequence[str]) -> dict[str, Any]:
    name, waived = wording.finding_name(result), wording.waived(result)
    suppression = {"kind": "external", "status": "accepted", "justification": _plain(waived or "")}
    return {
        "ruleId": wording.printable(result["rule"]),
        "ruleIndex": rules.index(result["rule"]),
        "level": _LEVELS[result["status"]],
        "message": {"text": _plain(f"{name}: {result['message']}")},
        "locations": [_location(document, result)],
        # GitHub tells alerts apart by this one key; by the model's name, so that a new version opens no new ones.
        "partialFingerprints": {"primaryLocationLineHash": _fingerprint(_model(document), name)},
        **({"suppressions": [suppression]} if result["status"] == "waived" else {}),
        "properties": {"finding": name, "outcome": result["status"]},
    }


def _location(document: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    path, line, column = wording.anchor(document, result)
    region = {"startLine": line, "startColumn": column, "endLine": line}
    return {"physicalLocation": {"artifactLocation": {"uri": quote(path, errors="replace")}, "region": region}}


def _model(document: Mapping[str, Any]) -> str:
    return str(document["model"]["name"] or document["model"]["uri"])


def _fingerprint(*parts: str) -> str:
    return sha256(json.dumps(parts).encode()).hexdigest()


def _plain(text: str, longest: int | None = None) -> str:
    return wording.one_line(_unlinked(text), longest)


def _unlinked(text: str) -> str:
    """The text without `[words](target)`, which a viewer would make a link of."""
    return text.replace("](", "] (")
