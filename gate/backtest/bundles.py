"""Recorded evidence: where it is, and the part of it that a policy asks about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import from_json

from gate.errors import GateError, UsageError
from gate.estimate import is_number, level_for
from gate.evidence.recognition import beginning, is_report
from gate.evidence.shape import AGAIN
from gate.evidence.validation import validated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from gate.policy.schema import Policy


class Bundle(NamedTuple):
    """Evidence that has not been read yet.

    Attributes:
        source: Where it is: a file, or a run.
        model: That it is about, as far as is known without reading.
        read: Its bytes; raises a `GateError` where they cannot be had.
    """

    source: str
    model: str | None
    read: Callable[[], bytes]


def below(paths: Iterable[Path]) -> Iterator[Bundle]:
    """Files of evidence, and those that lie below folders, in order.

    A file that is named counts whatever it holds; below a folder count those that begin as evidence does.

    Raises:
        UsageError: There is no such file or folder.
    """
    for path in paths:
        if path.is_dir():
            yield from (_in_file(file) for file in sorted(path.rglob("*.json")) if is_report(beginning(file), "json"))
        elif path.is_file():
            yield _in_file(path)
        else:
            raise UsageError(f"there is no file or folder {str(path)!r}; give an evidence.json, or a folder of them")


def _in_file(path: Path) -> Bundle:
    def read() -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise GateError(f"{path}: cannot be read: {error.strerror}") from None

    return Bundle(str(path), None, read)


class Asked(NamedTuple):
    """What of the evidence some policies ask for: most of it is estimates that they do not.

    Attributes:
        metrics: By their addresses.
        levels: Of confidence, None where that cannot be said beforehand.
    """

    metrics: frozenset[str]
    levels: frozenset[float] | None = None


def asked_by(policies: Iterable[Policy]) -> Asked:
    """What some policies ask for; many decisions at once, and gaps between slices, ask for levels of their own."""
    rules = [rule for policy in policies for rule in policy.rules]
    defaults = [policy.defaults for policy in policies]
    many = any(each.multiplicity != "none" for each in defaults) or any(
        rule.slices is not None and rule.slices.worst_gap is not None for rule in rules
    )
    levels = None if many else frozenset(each.confidence for each in defaults)
    return Asked(frozenset(rule.metric for rule in rules), levels)


def document(content: bytes, asked: Asked) -> dict[str, Any]:
    """The evidence, with the estimates and intervals that are asked for: others are neither checked nor kept.

    Args:
        content: JSON text.
        asked: What is asked for.

    Raises:
        GateError: It is no evidence, or contradicts itself.
    """
    try:
        found = from_json(content, allow_inf_nan=False)  # a third faster than json.loads, over hundreds of documents
    except ValueError as error:
        raise UsageError(f"is not evidence in JSON: {error}; {AGAIN}") from None
    estimates = found.get("estimates") if isinstance(found, dict) else None
    if isinstance(estimates, list):
        levels = None if asked.levels is None else asked.levels | _judged_at(found)
        found["estimates"] = [_narrowed(each, levels) for each in estimates if _is_asked(each, asked.metrics)]
    known = validated(found, asked.metrics)
    if not isinstance(known["probe"]["columns"], dict):
        raise UsageError(f"probe.columns does not say what was read; {AGAIN}")
    return known


def _is_asked(estimate: object, metrics: frozenset[str]) -> bool:
    """Whether an estimate is of one of the metrics; of what is no estimate that cannot be said."""
    metric = estimate.get("metric") if isinstance(estimate, dict) else None
    return metric in metrics if isinstance(metric, str) else True


def _judged_at(found: Mapping[str, Any]) -> frozenset[float]:
    """The levels of the results, at which they are held against their estimates."""
    results = found.get("results")
    levels = [each.get("confidence") for each in results if isinstance(each, dict)] if isinstance(results, list) else []
    return frozenset(filter(is_number, levels))


def _narrowed(estimate: Any, levels: frozenset[float] | None) -> Any:  # noqa: ANN401 - whatever a file held
    """The estimate without the intervals that `Estimate.at` would not choose; what it cannot tell apart, it keeps."""
    if levels is None:
        return estimate
    try:
        intervals = estimate["intervals"]
        known = {each[0]: each for each in intervals}
        answering = [level_for(wanted, known) for wanted in levels]
    except (KeyError, IndexError, TypeError):
        return estimate
    kept = {level for level in answering if level is not None}
    if None in answering or len(known) < len(intervals):
        return estimate
    return {**estimate, "intervals": [known[level] for level in sorted(kept)]}
