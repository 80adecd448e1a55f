"""Whether the parts of a policy fit together: names of layers and rules, inputs of metrics, waivers and their rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from gate.policy.expectations import expectation_faults
from gate.policy.references import (
    BUILT_IN_LAYERS,
    NAME_A_BASELINE,
    Given,
    did_you_mean,
    input_faults,
    metric_fault,
    needs_baseline,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gate.policy.kinds import Location


def policy_faults(policy: Mapping[str, object], *, partial: bool = False) -> list[tuple[Location, str]]:
    """Faults that only the whole policy shows, by where they are.

    Args:
        policy: Its keys as they are written; whatever is of the wrong kind is left to other checks.
        partial: Whether it is no more than what one file adds to others, in which the rest may be.
    """
    if partial:
        return conflicts(_mapping(policy, "layers"), [(rule.get("id"), None) for rule in _rules(policy)])
    layers, rules = list(_mapping(policy, "layers")), _rules(policy)
    given = Given(_columns(policy), [name for name, where in _mapping(policy, "reads").items() if where is not None])
    given = Given(given.columns, given.reads, baseline=policy.get("baseline") is not None)
    faults = conflicts(layers, [(rule.get("id"), rule.get("layer")) for rule in rules])
    for index, rule in enumerate(rules):
        if rule.get("enabled") is not False:
            faults += _unanswerable(index, rule, given)
        if "extends" in policy and "metric" not in rule and isinstance(rule.get("id"), str):
            faults.append((("rules", index, "id"), _of_no_other_policy(str(rule["id"]), rules)))
    for name in _mapping(_mapping(policy, "baseline"), "layers"):
        if name not in layers:
            offer = did_you_mean(name, layers) or f" There are: {', '.join(layers) or 'none'}."
            faults.append((("baseline", "layers", name), f"there is no layer {name!r}.{offer}"))
    return [*faults, *_waiver_faults(policy, rules), *_within("probe", probe_faults(_mapping(policy, "probe")))]


def probe_faults(probe: Mapping[str, object]) -> Iterator[tuple[Location, str]]:
    """What is asked of a probe set that it cannot be asked, by where that is.

    Args:
        probe: The keys of the block, or of a probe spec, as they are written.
    """
    given = _columns({"probe": probe})
    yield from _within("expectations", expectation_faults(_mapping(probe, "expectations"), given))


def _within(key: str, faults: Iterator[tuple[Location, str]]) -> Iterator[tuple[Location, str]]:
    return (((key, *location), message) for location, message in faults)


def _of_no_other_policy(name: str, rules: Iterable[Mapping[str, object]]) -> str:
    """That a rule adds to none of those of another policy, and which of them may have been meant."""
    others = [str(rule.get("id")) for rule in rules if "metric" in rule]
    near = did_you_mean(name, others)
    return f"no policy that this one extends has a rule {name!r} to add to{f'.{near}' if near else ''}"


def _unanswerable(index: int, rule: Mapping[str, object], given: Given) -> Iterator[tuple[Location, str]]:
    """What a rule asks that the policy gives nothing to answer it with."""
    metric = rule.get("metric")
    for fault in input_faults(metric, given) if isinstance(metric, str) else ():
        yield ("rules", index, "metric"), fault
    of_two_versions = isinstance(metric, str) and metric_fault(metric) is None and needs_baseline(metric)
    for location in (("relative",), ("slices", "relative")):
        block = rule if len(location) == 1 else _mapping(rule, "slices")
        if block.get("relative") is not None and of_two_versions:
            message = f"{metric!r} compares with the baseline itself; bound it by `min` and `max`"
            yield ("rules", index, *location), message
        elif block.get("relative") is not None and not given.baseline:
            yield ("rules", index, *location), f"compares with a baseline; {NAME_A_BASELINE}"


def _waiver_faults(
    policy: Mapping[str, object], rules: Iterable[Mapping[str, object]]
) -> Iterator[tuple[Location, str]]:
    """Waivers of rules, and of slices, that do not exist: they would never hold, and nobody would know."""
    by_id = {str(rule["id"]): rule for rule in rules if isinstance(rule.get("id"), str)}
    waivers = policy.get("waivers")
    for index, waiver in enumerate(waivers if isinstance(waivers, list | tuple) else ()):
        name = waiver.get("rule") if isinstance(waiver, Mapping) else None
        if not isinstance(name, str):
            continue
        if name not in by_id:
            offer = did_you_mean(name, by_id) or f" There are: {', '.join(by_id) or 'none'}."
            yield ("waivers", index, "rule"), f"there is no rule {name!r}.{offer}"
        else:
            by = _columns_of_slices(by_id[name])
            for column in _mapping(waiver, "slices"):
                if column not in by:
                    offer = f"it is cut by {', '.join(by)}" if by else "leave `slices` out to waive all of it"
                    message = f"the rule {name!r} has no slices by {column!r}; {offer}"
                    yield ("waivers", index, "slices", column), message


def _columns_of_slices(rule: Mapping[str, object]) -> list[str]:
    by = _mapping(rule, "slices").get("by", ())
    return [by] if isinstance(by, str) else [str(each) for each in by] if isinstance(by, list | tuple) else []


def _mapping(value: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}


def _rules(policy: Mapping[str, object]) -> list[Mapping[str, object]]:
    """The rules as they are written; what is no rule is one that says nothing."""
    rules = policy.get("rules")
    return [rule if isinstance(rule, Mapping) else {} for rule in rules] if isinstance(rules, list | tuple) else []


def _columns(policy: Mapping[str, object]) -> list[str] | None:
    """The keys of `probe.columns` that are given, None where there are none to go by."""
    columns = _mapping(policy, "probe").get("columns")
    return [key for key, name in columns.items() if name is not None] if isinstance(columns, Mapping) else None


def conflicts(layers: Iterable[object], rules: Iterable[tuple[object, object]]) -> list[tuple[Location, str]]:
    """Faults of names: of layers and rules.

    Args:
        layers: The names under `layers`.
        rules: The `id` and `layer` of every rule, in order; whatever is not text is left to other checks.

    Returns:
        Where and what: layers named like a built-in, rules with the id of an earlier one, layers that do not exist.
    """
    named = [name for name in layers if isinstance(name, str)]
    known = list(dict.fromkeys((*named, *BUILT_IN_LAYERS)))
    built_in = "is the name of a built-in layer; choose another, and use it in the rules"
    faults: list[tuple[Location, str]] = [(("layers", name), built_in) for name in named if name in BUILT_IN_LAYERS]
    first: dict[str, int] = {}
    for index, (rule, layer) in enumerate(rules):
        if isinstance(rule, str) and first.setdefault(rule, index) != index:
            faults.append(
                (("rules", index, "id"), f"{rule!r} is already the id of rules.{first[rule]}; give it another")
            )
        if isinstance(layer, str) and layer not in known:
            offer = did_you_mean(layer, known) or f" There are: {', '.join(known)}."
            faults.append((("rules", index, "layer"), f"there is no layer {layer!r}.{offer}"))
    return faults
