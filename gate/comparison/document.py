"""The document `gate.comparison/v1`: plain JSON values without NaN, from which every format is rendered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gate.comparison.differences import OUTCOMES
from gate.evidence.bundle import finite
from gate.verdict.measurements import direction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gate.comparison.asking import Asked
    from gate.comparison.differences import Answers, Difference
    from gate.estimate import Estimate
    from gate.models.finding import FoundModel
    from gate.policy.schema import Policy
    from gate.probes.probe_set import ProbeSet
    from gate.verdict import Question

SCHEMA = "gate.comparison/v1"
ROWS_KEPT = 20


def document(
    a: FoundModel,
    b: FoundModel,
    probe: ProbeSet,
    *,
    asked: Asked,
    answers: Answers,
    multiplicity: str,
    run: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe one finished comparison.

    Args:
        a: The version that was compared with.
        b: The version that was compared.
        probe: The rows, after their complete pass.
        asked: What was to be measured, where.
        answers: What came of it.
        multiplicity: `none`, or `holm` where the differences hold all at once.
        run: As `gate.evidence.environment.environment` gives it.
    """
    policy = asked.policy
    refused = [
        *({**_question(question), "reason": reason} for question, reason in answers.refused.items()),
        *({"metric": name, "layer": None, "params": {}, "reason": why} for name, why in asked.lacking.items()),
    ]
    outcomes = [each.outcome for each in answers.differences]
    return {
        "schema": SCHEMA,
        "a": _model(a),
        "b": _model(b),
        "probe": {"uri": probe.uri, "digest": probe.digest, "rows": probe.rows},
        "policy": asked.source,
        "layers": {name: _address(policy, name) for name in dict.fromkeys(rule.layer for rule in policy.rules)},
        "reads": {name: {"path": where.path, "pooling": where.pooling} for name, where in policy.reads.places.items()},
        "multiplicity": multiplicity,
        "counts": {**{each: outcomes.count(each) for each in OUTCOMES}, "not_compared": len(refused)},
        "run": dict(run),
        "differences": [_difference(each) for each in answers.differences],
        "between": [_between(question, each) for question, each in answers.between.items()],
        "not_compared": refused,
    }


def _model(model: FoundModel) -> dict[str, Any]:
    return {key: getattr(model, key) for key in ("uri", "resolved", "name", "version", "digest", "flavour")}


def _address(policy: Policy, name: str) -> dict[str, str]:
    layer = policy.layers.get(name)
    return {"path": name, "pooling": "none"} if layer is None else {"path": layer.path, "pooling": layer.pooling}


def _question(question: Question) -> dict[str, Any]:
    return {"metric": question.metric, "layer": question.layer or None, "params": dict(question.params)}


def _difference(each: Difference) -> dict[str, Any]:
    return {
        **_question(each.question),
        "better": direction(each.question.metric),
        "outcome": each.outcome,
        "a": _number(each.a),
        "b": _number(each.b),
        "difference": _number(each.change),
        "strength": finite(each.strength),
        **_basis(each.change),
        "rows": _rows(each.change),
    }


def _between(question: Question, estimate: Estimate) -> dict[str, Any]:
    number = {**_number(estimate), **_basis(estimate), "detail": estimate.detail}
    return {**_question(question), "better": direction(question.metric), **number}


def _number(estimate: Estimate) -> dict[str, Any]:
    ends = None if estimate.interval is None else [finite(end) for end in estimate.interval]
    return {
        "value": finite(estimate.value),
        "interval": None if ends is None or None in ends else ends,
        "confidence": estimate.confidence,
        "standard_error": finite(estimate.standard_error),
    }


def _basis(estimate: Estimate) -> dict[str, Any]:
    return {key: getattr(estimate, key) for key in ("n", "d", "c", "method")}


def _rows(change: Estimate) -> list[dict[str, Any]]:
    """The rows that push the change most to the side that it went to, the strongest first."""
    if change.influence is None or not change.value:
        return []
    pushed = zip(change.influence.ids, change.influence.values.tolist(), strict=True)
    forward = [(name, push) for name, push in pushed if push * change.value > 0]
    strongest = sorted(forward, key=lambda each: -abs(each[1]))[:ROWS_KEPT]
    return [{"id": name, "influence": finite(push)} for name, push in strongest]
