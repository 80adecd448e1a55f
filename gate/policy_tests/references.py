"""Whether what a test of a policy names is there in the policy: metrics, layers, slices, aliases, rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gate.policy.references import did_you_mean, metric_fault
from gate.policy.rules import slice_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gate.policy.kinds import Location
    from gate.policy.schema import Policy
    from gate.policy_tests.schema import Answers, Case, Measured, PolicyTests
    from gate.verdict import Slice

    Faults = Iterator[tuple[Location, str]]


def cut(policy: Policy, name: str) -> dict[tuple[str, ...], Slice]:
    """What a slice is called in the policy: columns by which a rule cuts → the same slice in their order."""
    cuts = dict.fromkeys(rule.slices.by for rule in policy.rules if rule.slices is not None)
    named = {by: slice_of(by, name) for by in cuts if len(by) > 1 or name.startswith(f"{by[0]}=")}
    return {by: columns for by, columns in named.items() if columns is not None}


def faults_of(file: PolicyTests, policy: Policy) -> Faults:
    """Everything in a file that its policy knows nothing of, by its place."""
    first: dict[str, int] = {}
    for index, case in enumerate(file.tests):
        here: Location = ("tests", index)
        if first.setdefault(case.name, index) != index:
            yield (*here, "name"), f"{case.name!r} is already the name of tests.{first[case.name]}"
        yield from _measured(case, policy, here)
        for name, part in case.slices.items():
            if not cut(policy, name):
                yield (*here, "slices", name), _uncut(policy, name)
            yield from _measured(part, policy, (*here, "slices", name))
        yield from _occasion(case, policy, here)
        yield from _expected(case, policy, here)


def _measured(measured: Measured, policy: Policy, here: Location) -> Faults:
    asked = {rule.metric for rule in policy.rules}
    for key in ("given", "baseline", "change"):
        answers: dict[str, Answers] = getattr(measured, key)
        for metric, answer in answers.items():
            if metric not in asked:
                yield (*here, key, metric), metric_fault(metric) or _unasked(metric, asked)
                continue
            layers = {rule.layer for rule in policy.rules if rule.metric == metric}
            for layer in answer.layers.keys() - layers:
                offer = did_you_mean(layer, layers) or f" They ask at: {', '.join(sorted(layers))}."
                yield (*here, key, metric, "layers", layer), f"no rule asks for {metric!r} at {layer!r}.{offer}"
    for metric in measured.change.keys() - (measured.baseline.keys() & measured.given.keys()):
        yield (*here, "change", metric), f"a change lies between two numbers; give {metric!r} in `given` and `baseline`"


def _unasked(metric: str, asked: Iterable[str]) -> str:
    return f"no rule of the policy asks for {metric!r}.{did_you_mean(metric, asked)}"


def _uncut(policy: Policy, name: str) -> str:
    cuts = dict.fromkeys(", ".join(f"{by}=VALUE" for by in rule.slices.by) for rule in policy.rules if rule.slices)
    expected = f"expected {' or '.join(cuts)}" if cuts else "the policy has no rule with `slices`"
    return f"no rule cuts the probe set into {name!r}, {expected}"


def _occasion(case: Case, policy: Policy, here: Location) -> Faults:
    if case.alias is not None and case.alias not in policy.scope.aliases:
        offer = did_you_mean(case.alias, policy.scope.aliases)
        yield (*here, "alias"), f"the policy says nothing of the alias {case.alias!r}.{offer}"
    dated = any(rule.enforce_from for rule in policy.rules) or (policy.waivers and case.model is not None)
    if dated and case.date is None:
        yield here, "the policy has waivers or dates; say on which day this is tested: `date: 2027-01-31`"


def _expected(case: Case, policy: Policy, here: Location) -> Faults:
    ids = [rule.id for rule in policy.rules]
    for outcome, names in case.expect.lists.items():
        for number, name in enumerate(names):
            rule = name.partition("[")[0].partition(" (")[0]
            if rule not in ids:
                offer = did_you_mean(rule, ids) or f" There are: {', '.join(ids)}."
                yield (*here, "expect", outcome, number), f"there is no rule {rule!r}.{offer}"
