"""Whether a document is evidence that we can read, and says one thing only."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from gate.errors import GateError, UsageError
from gate.verdict import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = "gate.evidence/v1"
_STATUS_BY_WORST = {"error": "error", "fail": "failed", "inconclusive": "inconclusive", "warn": "warned"}
_KEYS = {
    "": "schema status exit_code counts model policy probe baseline baseline_reason run layers estimates results",
    "model": "uri resolved name version digest flavour serialization run_id model_id",
    "policy": "name version path digest text",
    "probe": "uri digest rows columns",
    "run": "version python torch mlflow platform device precision seed confidence git started seconds",
}
_RESULT = (
    "rule metric layer slice status severity value interval min max margin n d c method n_needed "
    "policy_line policy_column message reason why fix docs waiver rows"
)


def validate(content: object) -> None:
    """Check that a document is evidence of a version we know and does not contradict itself.

    Args:
        content: What was read from a file, or is about to be written.

    Raises:
        UsageError: It is not a `gate.evidence/v1` document, or lacks a key.
        GateError: Status, counts and results contradict each other, or a passing result has no finite number.
    """
    found = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(content, dict) or found != SCHEMA:
        raise UsageError(
            f"its schema is {found!r}, expected {SCHEMA!r}; read it with the version of gate that wrote it"
        )
    for part, keys in _KEYS.items():
        _check_keys(content[part] if part else content, keys, part or "the document")
    for number, result in enumerate(content["results"]):
        _check_keys(result, _RESULT, f"results[{number}]")
        _check_pass(result)
    _check_counts(content)


def _check_keys(found: object, keys: str, where: str) -> None:
    missing = set(keys.split()) - set(found if isinstance(found, dict) else ())
    if missing:
        raise UsageError(f"{where} lacks {', '.join(sorted(missing))}; write it again with `gate check -o json=PATH`")


def _check_pass(result: Mapping[str, Any]) -> None:
    numbers = (result["value"], *(result["interval"] or (None,)))
    if result["status"] == "pass" and not all(_is_finite(number) for number in numbers):
        raise GateError(f"rule {result['rule']!r} passed without a finite value and interval; do not trust it")


def _is_finite(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)


def _check_counts(content: Mapping[str, Any]) -> None:
    found = Counter(result["status"] for result in content["results"])
    if {**dict.fromkeys(OUTCOMES, 0), **found} != content["counts"]:
        raise GateError(f"it counts {content['counts']!r}, but its results are {dict(found)!r}; do not trust it")
    worst = next((status for outcome, status in _STATUS_BY_WORST.items() if found[outcome]), "passed")
    expected = worst if found.keys() - {"not_evaluated"} else "error"
    if content["status"] != expected:
        raise GateError(f"it says {content['status']!r}, but its results add up to {expected!r}; do not trust it")
