"""What a bundle recorded, as measurements that can be judged again without a forward pass."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from gate.estimate import Estimate
from gate.verdict import Measurements, Occasion, Question

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from gate.policy.kinds import Severity
    from gate.verdict import Slice


def measurements(document: Mapping[str, Any]) -> Measurements:
    """The estimates of a bundle; they have no influence, so no rows are to blame.

    Args:
        document: The evidence.
    """
    found: dict[str, dict[Question, Estimate]] = {"candidate": {}, "baseline": {}, "change": {}}
    for each in document["estimates"]:
        found[each["of"]][question_of(each)] = _estimate(each)
    slices: dict[tuple[str, ...], dict[Slice, int]] = defaultdict(dict)
    for cut in document["slices"]:
        slices[tuple(cut["slice"])][as_slice(cut["slice"])] = cut["rows"]
    absent = None if document["baseline"] else document["baseline_reason"] or "none was recorded"
    return Measurements(found["candidate"], found["baseline"], found["change"], slices, absent)


def question_of(estimate: Mapping[str, Any]) -> Question:
    """What an entry of `estimates` answers."""
    params = tuple(sorted(estimate["params"].items()))
    return Question(estimate["layer"], estimate["metric"], params, as_slice(estimate["slice"]))


def occasion(document: Mapping[str, Any], today: date, enforcement: Severity = "block") -> Occasion:
    """The model of a bundle on some day.

    Args:
        document: The evidence.
        today: The date (UTC).
        enforcement: What the policy does at the alias that is meant.
    """
    return Occasion((document["model"]["resolved"], document["model"]["digest"]), today, enforcement)


def as_slice(columns: Mapping[str, str] | None) -> Slice:
    """The columns of a slice as the document has them; none for the whole probe set."""
    return tuple((columns or {}).items())


def _estimate(each: Mapping[str, Any]) -> Estimate:
    return Estimate(
        metric=each["metric"],
        status=each["status"],
        reason=each["reason"],
        value=each["value"],
        interval=None if each["interval"] is None else (each["interval"][0], each["interval"][1]),
        standard_error=each.get("standard_error"),
        n=each["n"],
        d=each["d"],
        c=each["c"],
        k=each.get("k"),
        n_needed=each.get("n_needed"),
        method=each["method"],
        confidence=each["confidence"],
        influence=None,
        detail=each.get("detail"),
        breakdown=each.get("breakdown"),
        params=each["params"],
        intervals={level: (low, high) for level, low, high in each["intervals"]},
    )
