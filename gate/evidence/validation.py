"""Whether a document is evidence that we can read, and says one thing only."""

from __future__ import annotations

import math
from codecs import BOM_UTF8
from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from gate.errors import GateError, NothingEvaluatedError
from gate.estimate import is_number
from gate.evidence.agreement import check_agreement
from gate.evidence.shape import SCHEMA, require_shape
from gate.policy.merging import combined_digest
from gate.verdict import CHECKS, OUTCOMES, Verdict, exit_code

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_STATUS_BY_WORST = {"error": "error", "fail": "failed", "inconclusive": "inconclusive", "warn": "warned"}
_DECIDED = {"pass": "passed", "fail": "failed"}
_UNBOUNDED = ("error", "not_evaluated")  # there may be nothing that could be judged


def validated(content: object, metrics: Collection[str] | None = None) -> dict[str, Any]:
    """A document that was read, with the keys that earlier versions did not write yet; checked like any other.

    Args:
        content: What was read.
        metrics: As for `validate`.

    Raises:
        UsageError: It is not a `gate.evidence/v1` document, or lacks a key.
        GateError: It contradicts itself.
    """
    known = _completed(content) if isinstance(content, dict) and content.get("schema") == SCHEMA else content
    validate(known, metrics)
    return dict(known) if isinstance(known, dict) else {}


def _completed(content: Mapping[str, Any]) -> dict[str, Any]:
    policy, lists = content.get("policy"), ("results", "estimates")
    if not isinstance(policy, dict) or not all(isinstance(content.get(key), list) for key in lists):
        return dict(content)
    own = {key: policy.get(key) for key in ("path", "digest", "text")}
    results = [_with_place(result, own["path"]) for result in content["results"]]
    estimates = [
        {"of": "candidate", "slice": None, "intervals": [], **each} if isinstance(each, dict) else each
        for each in content["estimates"]
    ]
    return {
        **content,
        "notes": content.get("notes", []),
        "waivers": content.get("waivers", []),
        "slices": content.get("slices", []),
        **{key: content.get(key) for key in ("baseline_asked", "reads", "baseline_layers")},
        "policy": {"sources": [own], **policy},
        "results": results,
        "estimates": estimates,
    }


def _with_place(result: object, path: object) -> object:
    if not isinstance(result, dict):
        return result
    place = {"path": path, "line": result.get("policy_line"), "column": result.get("policy_column")}
    added = {"check": "bound", "confidence": None, "baseline": None, "paper": None, "enforce_from": None}
    return {**added, "policy_path": path, "anchor": place, **result}


def validate(content: object, metrics: Collection[str] | None = None) -> None:
    """Check that a document is evidence of a version we know and does not contradict itself.

    Args:
        content: What was read from a file, or is about to be written.
        metrics: Those whose estimates are still in it; None where all of them are.

    Raises:
        UsageError: It is not a `gate.evidence/v1` document, lacks a key, or holds a value of another kind.
        GateError: It contradicts itself: its exit code, status, counts and results, a result's status, value, interval
            and bounds, its results and estimates, or the policy's text and digest.
    """
    document = require_shape(content)
    for result in document["results"]:
        _check_result(result)
    _check_counts(document)
    _check_exit_code(document)
    _check_digest(document["policy"])
    check_agreement(document, metrics)


def _check_result(result: Mapping[str, Any]) -> None:
    if fault := _fault(result):
        raise GateError(f"rule {result['rule']!r} {fault}; do not trust it")


def _fault(result: Mapping[str, Any]) -> str | None:
    """What a result contradicts itself in."""
    status, bounds = result["status"], [bound for bound in (result["min"], result["max"]) if bound is not None]
    for key, known in (("status", OUTCOMES), ("check", CHECKS)):
        if result[key] not in known:
            return f"has the unknown {key} {result[key]!r}"
    if (status == "waived") != (result["waiver"] is not None):
        return f"has the status {status!r} and the waiver {result['waiver']!r}"
    if not all(is_number(bound) for bound in bounds) or not (bounds or status in _UNBOUNDED or _lacks(result)):
        return f"has the bounds {result['min']!r} and {result['max']!r}, expected one number or two"
    if status in _DECIDED and not (is_number(result["value"]) and result["interval"]):
        return f"{_DECIDED[status]} without a finite value and interval"
    if result["value"] is not None and not is_number(result["value"]):
        return f"has the value {result['value']!r}, expected a number or null"
    return None if result["interval"] is None else _interval_fault(result)


def _lacks(result: Mapping[str, Any]) -> bool:
    """Whether there was no number to bound: a margin in percent needs one."""
    return result["status"] != "pass" and result["value"] is None


def _interval_fault(result: Mapping[str, Any]) -> str | None:
    """What is wrong with an interval or with what is said of it; in every comparison NaN is a fault."""
    value, interval = result["value"], result["interval"]
    if not isinstance(interval, list) or len(interval) != 2 or not all(is_number(end) for end in interval):
        return f"has the interval {interval!r}, expected two finite numbers"
    low, high = interval
    if not (is_number(value) and low <= value <= high):
        return f"has the value {value!r} outside its interval {interval!r}"
    floor = -math.inf if result["min"] is None else result["min"]
    ceiling = math.inf if result["max"] is None else result["max"]
    if result["status"] == "pass" and not floor <= low <= high <= ceiling:
        return f"passed with the interval {interval!r} outside its bounds"
    return None


def _check_counts(content: Mapping[str, Any]) -> None:
    found = Counter(result["status"] for result in content["results"])
    if {**dict.fromkeys(OUTCOMES, 0), **found} != content["counts"]:
        raise GateError(f"it counts {content['counts']!r}, but its results are {dict(found)!r}; do not trust it")
    worst = next((status for outcome, status in _STATUS_BY_WORST.items() if found[outcome]), "passed")
    expected = worst if found.keys() - {"not_evaluated"} else "error"
    if content["status"] != expected:
        raise GateError(f"it says {content['status']!r}, but its results add up to {expected!r}; do not trust it")


def _check_exit_code(content: Mapping[str, Any]) -> None:
    status, found = content["status"], content["exit_code"]
    judged = any(result["status"] != "not_evaluated" for result in content["results"])
    code = exit_code(Verdict(status, 0, content["counts"])) if judged else NothingEvaluatedError.exit_code
    if type(found) is not int or found != code:
        raise GateError(f"it says {status!r} with the exit code {found!r}; do not trust it")


def _check_digest(policy: Mapping[str, Any]) -> None:
    """Each digest is that of its file, whose byte order mark is not part of the text; the whole is that of all."""
    sources = policy["sources"]
    if sources[0]["text"] != policy["text"]:
        raise GateError("the policy's text is not that of its first source; do not trust it")
    for source in sources:
        content = str(source["text"]).encode(errors="replace")
        if source["digest"] not in [f"sha256:{sha256(mark + content).hexdigest()}" for mark in (b"", BOM_UTF8)]:
            raise GateError(f"the policy's digest {source['digest']!r} is not that of its text; do not trust it")
    if policy["digest"] != combined_digest([source["digest"] for source in sources]):
        raise GateError(f"the policy's digest {policy['digest']!r} is not that of its sources; do not trust it")
