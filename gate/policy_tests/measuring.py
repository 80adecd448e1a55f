"""The answers of a test as measurements, such as a check makes of a model."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from math import hypot
from typing import TYPE_CHECKING, Literal

from gate.estimate import Estimate
from gate.policy_tests.references import cut
from gate.verdict import Measurements, Question, question_of

if TYPE_CHECKING:
    from gate.policy.schema import Policy
    from gate.policy_tests.schema import Answer, Answers, Case, Measured
    from gate.verdict import Slice

    Estimates = dict[Question, Estimate]

_AT_ANY_LEVEL = 1.0  # an interval that is written down is that of the level that is asked for


def measurements(case: Case, policy: Policy) -> Measurements:
    """Everything that a test gives, for every rule that asks for it; what it lacks is not there."""
    asked: dict[Question, Measured] = {question_of(rule): case for rule in policy.rules}
    slices: dict[tuple[str, ...], dict[Slice, int]] = defaultdict(dict)
    for name, part in case.slices.items():
        for by, columns in cut(policy, name).items():
            slices[by][columns] = part.rows
            rules = [rule for rule in policy.rules if rule.slices and rule.slices.by == by]
            asked |= {question_of(rule)._replace(slice=columns): part for rule in rules}
    candidate, baseline, changes = (_estimates(asked, key) for key in ("given", "baseline", "change"))
    for question in baseline.keys() & candidate.keys() - changes.keys():
        changes[question] = _difference(candidate[question], baseline[question])
    return Measurements(candidate, baseline, changes, slices, case.no_baseline)


def _estimates(asked: dict[Question, Measured], key: Literal["given", "baseline", "change"]) -> Estimates:
    found: Estimates = {}
    for question, measured in asked.items():
        answers: dict[str, Answers] = getattr(measured, key)
        answer = answers[question.metric].at(question.layer) if question.metric in answers else None
        if answer is not None:
            found[question] = _estimate(answer, question)
    return found


def _estimate(answer: Answer, question: Question) -> Estimate:
    refused = f"{answer.status}: the test gives no reason" if answer.status else None
    return Estimate(
        metric=question.metric,
        status=answer.status or "ok",
        reason=answer.reason or refused,
        value=answer.value,
        interval=answer.interval,
        standard_error=None,
        n=answer.n,
        d=1,
        c=None,
        k=None,
        n_needed=None,
        method="written by hand",
        confidence=_AT_ANY_LEVEL,
        influence=None,
        detail=None,
        breakdown=None,
        params=dict(question.params),
    )


def _difference(candidate: Estimate, baseline: Estimate) -> Estimate:
    """Candidate less baseline, as if the two were independent: wider than a pairing would be as a rule.

    What is no number inside an interval stays what it is: a difference must not make a number of it.
    """
    for each in (candidate, baseline):
        if each.value is None or each.interval is None or not each.interval[0] <= each.value <= each.interval[1]:
            return each
    one, two = candidate, baseline
    if one.value is None or one.interval is None or two.value is None or two.interval is None:
        return one
    difference = one.value - two.value
    down = hypot(one.value - one.interval[0], two.interval[1] - two.value)
    up = hypot(one.interval[1] - one.value, two.value - two.interval[0])
    return replace(one, value=difference, interval=(difference - down, difference + up), method="independent intervals")
