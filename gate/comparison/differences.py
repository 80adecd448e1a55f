"""What became of every question to two versions: better, worse, just different, no difference, or no answer."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from gate.policy.references import needs_baseline
from gate.verdict.measurements import direction
from gate.verdict.multiplicity import holm
from gate.verdict.readings import reading, why_unsound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from gate.estimate import Estimate
    from gate.verdict import Measurements, Question

    _Pair: TypeAlias = tuple[Estimate, Estimate, Estimate]

Outcome = Literal["worse", "better", "different", "no_difference"]
Answer = TypeVar("Answer")

EVERY_LAYER = ""  # in a question whose answer is the same at all of them
OUTCOMES: tuple[Outcome, ...] = ("worse", "better", "different", "no_difference")


@dataclass(frozen=True)
class Difference:
    """A number of both versions, and how far they differ.

    Attributes:
        question: What was measured.
        a, b: Of either version.
        change: B less A, paired on the same rows.
        outcome: What the interval of the change says.
    """

    question: Question
    a: Estimate
    b: Estimate
    change: Estimate
    outcome: Outcome

    @property
    def strength(self) -> float:
        """The size of the change in its own standard errors, or in half-widths of its interval where it has none."""
        low, high = self.change.interval or (0.0, 0.0)
        size, scale = abs(self.change.value or 0.0), self.change.standard_error or (high - low) / 2
        return size / scale if scale else math.inf if size else 0.0


@dataclass(frozen=True)
class Answers:
    """All that two versions were asked.

    Attributes:
        differences: Worst outcome first, within each what changed most.
        between: Question → number of a metric that compares the two versions itself.
        refused: Question → why there is no difference.
    """

    differences: tuple[Difference, ...]
    between: Mapping[Question, Estimate]
    refused: Mapping[Question, str]


def answered(questions: Sequence[Question], measured: Measurements, confidence: float, *, holm: bool) -> Answers:
    """Sort out what was measured.

    Args:
        questions: That were asked.
        measured: B as the candidate, A as its baseline.
        confidence: Two-sided level at which a difference is one.
        holm: Whether all differences must hold at once at that level (Holm 1979).
    """
    layers = len({question.layer for question in questions})
    measured_pairs, between, refused = _sorted_out(questions, measured)
    pairs = _once(measured_pairs, lambda pair: tuple(map(_numbers, pair)), layers)
    level = _held_at_once([change for _, _, change in pairs.values()], confidence) if holm else confidence
    found = [_difference(question, *pair, level) for question, pair in pairs.items()]
    found.sort(key=lambda each: (OUTCOMES.index(each.outcome), -each.strength))
    return Answers(tuple(found), _once(between, _numbers, layers), _once(refused, str, layers))


def _sorted_out(
    questions: Sequence[Question], measured: Measurements
) -> tuple[dict[Question, _Pair], dict[Question, Estimate], dict[Question, str]]:
    """A, B and their change; numbers of both versions together; and why there is neither."""
    pairs: dict[Question, _Pair] = {}
    between: dict[Question, Estimate] = {}
    refused: dict[Question, str] = {}
    for question in questions:
        b, a = measured.candidate.get(question), measured.baseline.get(question)
        change, itself = measured.changes.get(question), needs_baseline(question.metric)
        if b is None or (not itself and (a is None or change is None)):
            refused[question] = "missing: no estimate was made"
        elif itself and (reason := _unsound(b)):
            refused[question] = reason
        elif itself or a is None or change is None:
            between[question] = b
        elif reason := _unsound(change):
            refused[question] = _whose(a, b, reason)
        else:
            pairs[question] = a, b, change
    return pairs, between, refused


def _once(answers: Mapping[Question, Answer], key: Callable[[Answer], object], layers: int) -> dict[Question, Answer]:
    """The answers, with one in place of those that are the same at every layer: they are not about a layer."""
    groups: dict[object, list[Question]] = defaultdict(list)
    for question, answer in answers.items():
        groups[question.metric, question.params, key(answer)].append(question)
    return {
        question._replace(layer=EVERY_LAYER) if len(same) == layers > 1 else question: answers[question]
        for same in groups.values()
        for question in (same[:1] if len(same) == layers else same)
    }


def _numbers(estimate: Estimate) -> object:
    return estimate.value, estimate.interval


def _unsound(estimate: Estimate) -> str | None:
    """Why an estimate is no finite number inside a finite interval; None when it is one."""
    if estimate.status != "ok":
        return estimate.reason or "unknown: the metric gave no reason"
    return why_unsound(estimate) if reading(estimate) is None else None


def _whose(a: Estimate, b: Estimate, reason: str) -> str:
    """The reason, with the version that it is about where it is one of the two."""
    if (a.status == "ok") == (b.status == "ok"):
        return reason
    return f"{reason} (of {'A' if b.status == 'ok' else 'B'})"


def _difference(question: Question, a: Estimate, b: Estimate, change: Estimate, level: float) -> Difference:
    change = change.at(level)
    return Difference(question, a, b, change, _outcome(change, direction(question.metric)))


def _outcome(change: Estimate, better: str) -> Outcome:
    low, high = change.interval or (-math.inf, math.inf)
    if not (low > 0 or high < 0):  # so that NaN is no difference
        return "no_difference"
    if better == "range":
        return "different"
    return "better" if (low > 0) == (better == "higher") else "worse"


def _held_at_once(changes: Sequence[Estimate], confidence: float) -> float:
    """The level of the last step of Holm's procedure: every interval that is free of 0 at it holds with all others."""
    levels = holm(changes, confidence, lambda change, level: _outcome(change.at(level), "range") != "no_difference")
    return min(levels, default=confidence)
