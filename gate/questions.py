"""What the rules of a policy ask, and the answers: layers, statistics, estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gate.errors import MetricError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gate.estimate import Estimate
    from gate.features import LayerAddress
    from gate.geometry.statistics import Collection, Statistic
    from gate.policy.schema import Policy, Rule

Question = tuple[str, str, tuple[tuple[str, Any], ...]]  # layer, metric, parameters: rules that share them ask once


def layers_of(policy: Policy) -> dict[str, LayerAddress]:
    """Name → address of every layer that a rule is about: those that the policy defines, and `input` and `output`."""
    from gate.features import LayerAddress

    addresses = {name: LayerAddress(layer.path, layer.pooling) for name, layer in policy.layers.items()}
    return {rule.layer: addresses.get(rule.layer, LayerAddress(rule.layer)) for rule in policy.rules}


def statistics_of(rules: Iterable[Rule]) -> tuple[type[Statistic], ...]:
    """What the rules' metrics read, and what the pictures of a layer are drawn from."""
    from gate.estimate import statistics_for
    from gate.geometry.registry import find
    from gate.geometry.statistics import ClassMoments, Moments

    return tuple(dict.fromkeys((Moments, ClassMoments, *statistics_for(find(rule.metric)[0] for rule in rules))))


def answers(
    rules: Iterable[Rule], collections: Mapping[str, Collection], confidence: float
) -> dict[Question, dict[str, Estimate]]:
    """Question → address → estimate, for every metric that a rule names, with all of its read-outs.

    Raises:
        MetricError: Features of a layer are not finite.
    """
    from gate.estimate import estimate
    from gate.geometry.registry import find

    for name, collection in collections.items():
        try:
            collection.census.require_finite()
        except MetricError as error:
            raise MetricError(f"layer {name!r}: {error}") from None
    questions = dict.fromkeys(question(rule) for rule in rules)
    return {
        (layer, metric, params): estimate(
            find(metric)[0], collections[layer], confidence=confidence, params=dict(params)
        )
        for layer, metric, params in questions
    }


def question(rule: Rule) -> Question:
    """What a rule asks, whatever it makes of the answer."""
    return rule.layer, rule.metric.partition(".")[0], tuple(sorted(rule.params.items()))
