"""What the rules of a pack say of a model: measured and judged as `gate check` does it."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gate.measurement import measure
from gate.policy.loading import load_policy
from gate.policy.references import needs_baseline
from gate.verdict import Finding, Measurements, Occasion, Question, judge, question_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from benchmarks.packs.case import Case
    from gate.estimate import Estimate
    from gate.policy.rules import Rule
    from gate.policy.schema import Policy

POLICIES = Path(__file__).parents[2] / "policies"
CHILDREN = Path(__file__).with_name("children")
OF_INPUTS = "near_duplicate_share"  # compares the inputs, whatever the layer
ANY_DAY = Occasion(model=(), today=date(2000, 1, 1))


def pack(name: str) -> Policy:
    """A ready-made policy, or what the models of this benchmark need on top of it."""
    child = CHILDREN / f"{name}.yaml"
    return load_policy(child if child.is_file() else POLICIES / f"{name}.yaml").policy


def findings(policy: Policy, case: Case) -> tuple[Finding, ...]:
    """Every finding of every rule on one model; a rule that only warns is judged like one that blocks."""
    rules = [rule.model_copy(update={"severity": "block"}) for rule in policy.rules]
    candidate = _estimates(rules, case)
    baseline = _baseline([rule for rule in rules if rule.relative], case)
    changes = {question: candidate[question].minus(before) for question, before in baseline.items()}
    strict = policy.model_copy(update={"rules": tuple(rules)})
    return judge(strict, Measurements(candidate, baseline, changes), ANY_DAY).findings


def _estimates(rules: Sequence[Rule], case: Case) -> dict[Question, Estimate]:
    """The answer to every rule, with one pass over the features for all rules that read the same."""
    alike: defaultdict[tuple[str, bool], list[Rule]] = defaultdict(list)
    for rule in rules:
        if rule.metric.startswith(OF_INPUTS):
            alike["", False].append(rule)
        else:
            alike[rule.layer, needs_baseline(rule.metric)].append(rule)
    found: dict[Question, Estimate] = {}
    for (layer, two), same in alike.items():
        columns = {name: values for name, values in case.columns.items() if two or not name.startswith("baseline")}
        if two:
            columns["baseline"] = case.baseline[layer]
        found |= _answers(same, case.layers[layer], columns) if layer else _answers(same, case.inputs, {})
    return found


def _baseline(rules: Sequence[Rule], case: Case) -> dict[Question, Estimate]:
    columns = {name: values for name, values in case.columns.items() if name not in ("logits", "baseline_logits")}
    found: dict[Question, Estimate] = {}
    for layer in {rule.layer for rule in rules}:
        found |= _answers([rule for rule in rules if rule.layer == layer], case.baseline[layer], columns)
    return found


def _answers(rules: Sequence[Rule], features: Tensor, columns: dict[str, Any]) -> dict[Question, Estimate]:
    params = {rule.metric.partition(".")[0]: rule.params for rule in rules if rule.params}
    answers = measure(features, metrics=[rule.metric for rule in rules], params=params, **columns)
    return {question_of(rule): answers[rule.metric] for rule in rules}
