"""Whether what a policy refers to exists: metrics, their parameters and inputs, layers, ids, rules of waivers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from types import UnionType

    from gate.geometry.catalogue import Entry
    from gate.policy.kinds import Location

BUILT_IN_LAYERS = ("input", "output")
OF_THE_PROBE = {
    "labels": "label",
    "sublabels": "sublabel",
    "groups": "group",
    "clusters": "cluster",
    "lengths": "length",
    "targets": "target",
}  # input of a metric → key of `probe.columns`
IN_A_POLICY = OF_THE_PROBE
OF_THE_MODEL = ("logits", "before", "latent_means", "latent_log_variances", "codes")  # keys of `reads`
OF_THE_BASELINE = {"baseline": (), "baseline_logits": ("logits",)}  # input → what `reads` must name for it


@dataclass(frozen=True)
class Given:
    """What a policy gives to metrics; columns are None where it has no probe block to go by."""

    columns: Collection[str] | None
    reads: Collection[str] = ()
    baseline: bool = False


def did_you_mean(found: str, allowed: Iterable[str]) -> str:
    """The end of a message: `` Did you mean `min`?``, or nothing when no allowed word is near."""
    near = get_close_matches(found, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean `{near[0]}`?" if near else ""


def metric_fault(metric: str) -> str | None:
    """What is wrong with a rule's `metric`, an id of the catalogue or `id.readout`; None when nothing is."""
    from gate.geometry import catalogue

    entries = catalogue.load()
    name, dot, readout = metric.partition(".")
    if name not in entries:
        owners = [f"`{owner}.{name}`" for owner, entry in entries.items() if name in entry.readouts]
        if owners:
            return f"there is no metric {metric!r}. Did you mean {' or '.join(owners)}?"
        return f"there is no metric {metric!r}." + (did_you_mean(name, entries) or f" There are: {', '.join(entries)}.")
    readouts = entries[name].readouts
    if not dot or readout in readouts:
        return None
    near = did_you_mean(metric, [f"{name}.{each}" for each in readouts])
    return f"{name!r} has no read-out {readout!r}." + (near or f" It has: {', '.join(readouts) or 'none'}.")


def input_fault(metric: str, given: Given) -> str | None:
    """What a policy lacks of the inputs without which a metric is not applicable; None when nothing is.

    Args:
        metric: An id of the catalogue or `id.readout`; whatever else it is, is left to `metric_fault`.
        given: What the policy gives.
    """
    from gate.geometry import catalogue

    entry = catalogue.load().get(metric.partition(".")[0])
    if entry is None:
        return None
    if beyond := _beyond(entry.required):
        return f"a policy cannot give {_quoted(beyond)} yet; use gate.measure for {metric!r}"
    if given.columns is not None:
        columns = [OF_THE_PROBE[name] for name in entry.required if name in OF_THE_PROBE]
        if lacking := [key for key in columns if key not in given.columns]:
            lines = ", ".join(f"{key}: NAME" for key in lacking)
            return f"{metric!r} needs {_quoted(lacking)} of the probe set; add `{lines}` to `probe.columns`"
    if lacking := [name for name in _read(entry.required) if name not in given.reads]:
        lines = ", ".join(f"{name}: {{path: PATH}}" for name in lacking)
        return f"{metric!r} needs {_quoted(lacking)} of the model; say where they are: `reads: {{{lines}}}`"
    if needs_baseline(metric) and not given.baseline:
        return f"{metric!r} compares with a baseline; name one: `baseline: {{uri: models:/NAME@ALIAS}}`"
    return None


def needs_baseline(metric: str) -> bool:
    """Whether a metric of the catalogue is one of two versions."""
    from gate.geometry import catalogue

    return any(name in OF_THE_BASELINE for name in catalogue.load()[metric.partition(".")[0]].required)


def in_a_policy(entry: Entry) -> str:
    """Whether a rule of a policy can be about a metric, in words: `yes`, or `not yet` and for want of what."""
    if beyond := _beyond(entry.required):
        return f"not yet: it cannot give {_quoted(beyond)}"
    beyond = _beyond(entry.optional)
    return f"yes; not yet what it reads from {_quoted(beyond)}" if beyond else "yes"


def _read(inputs: Iterable[str]) -> list[str]:
    """The keys of `reads` that some inputs rest on."""
    return list(
        dict.fromkeys(
            key for name in inputs for key in ((name,) if name in OF_THE_MODEL else OF_THE_BASELINE.get(name, ()))
        )
    )


def _beyond(inputs: Iterable[str]) -> list[str]:
    return [name for name in inputs if name not in (*OF_THE_PROBE, *OF_THE_MODEL, *OF_THE_BASELINE)]


def _quoted(names: Iterable[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def params_faults(metric: str, params: Mapping[str, object]) -> list[tuple[Location, str]]:
    """Every parameter that the metric does not take, of another kind than its default, or out of its range."""
    from gate.geometry import catalogue

    entry = catalogue.load()[metric.partition(".")[0]]
    known, ranges = entry.params, entry.ranges
    faults: list[tuple[Location, str]] = []
    for name, value in params.items():
        if name not in known:
            offer = did_you_mean(name, known) or f" It takes: {', '.join(known) or 'none'}."
            faults.append(((name,), f"{metric!r} takes no parameter {name!r}.{offer}"))
        elif not isinstance(value, _kind(known[name])):
            faults.append(((name,), f"should be {_kind_in_words(known[name])}, found {value!r}"))
        elif isinstance(value, int | float) and name in ranges:
            low, high = ranges[name]
            if not low <= value <= high:
                faults.append(((name,), f"should be from {low:g} to {high:g}, found {value!r}"))
    return faults


def _kind(default: object) -> type | UnionType:
    """What a parameter may be, by its default: None stands for a number that the metric chooses itself."""
    return int | float if default is None or isinstance(default, float) else type(default)


def _kind_in_words(default: object) -> str:
    if default is None:
        return "a number"
    return (
        f"a whole number like the default {default!r}" if isinstance(default, int) else f"like the default {default!r}"
    )


def policy_faults(policy: Mapping[str, object]) -> list[tuple[Location, str]]:
    """Faults that only the whole policy shows, by where they are.

    Args:
        policy: Its keys as they are written; whatever is of the wrong kind is left to other checks.
    """
    rules = [(index, rule) for index, rule in enumerate(_rules(policy)) if rule.get("enabled") is not False]
    layers = list(_mapping(policy, "layers"))
    given = Given(_columns(policy), [name for name, where in _mapping(policy, "reads").items() if where is not None])
    given = Given(given.columns, given.reads, baseline=policy.get("baseline") is not None)
    faults = conflicts(layers, [(rule.get("id"), rule.get("layer")) for rule in _rules(policy)])
    for index, rule in rules:
        metric = rule.get("metric")
        if isinstance(metric, str) and (fault := input_fault(metric, given)):
            faults.append((("rules", index, "metric"), fault))
        faults += _without_baseline(index, rule, given)
    for name in _mapping(_mapping(policy, "baseline"), "layers"):
        if name not in layers:
            offer = did_you_mean(name, layers) or f" There are: {', '.join(layers) or 'none'}."
            faults.append((("baseline", "layers", name), f"there is no layer {name!r}.{offer}"))
    return [*faults, *_waiver_faults(policy, dict(rules).values())]


def _without_baseline(index: int, rule: Mapping[str, object], given: Given) -> Iterator[tuple[Location, str]]:
    wanted = "compares with a baseline; name one: `baseline: {uri: models:/NAME@ALIAS}`"
    if not given.baseline:
        if rule.get("relative") is not None:
            yield ("rules", index, "relative"), wanted
        if _mapping(rule, "slices").get("relative") is not None:
            yield ("rules", index, "slices", "relative"), wanted


def _waiver_faults(
    policy: Mapping[str, object], rules: Iterable[Mapping[str, object]]
) -> Iterator[tuple[Location, str]]:
    """Waivers of rules, and of slices, that do not exist: they would never hold, and nobody would know."""
    by_id = {rule["id"]: rule for rule in rules if isinstance(rule.get("id"), str)}
    waivers = policy.get("waivers")
    for index, waiver in enumerate(waivers if isinstance(waivers, list | tuple) else ()):
        rule = waiver.get("rule") if isinstance(waiver, Mapping) else None
        if not isinstance(rule, str):
            continue
        if rule not in by_id:
            offer = did_you_mean(rule, map(str, by_id)) or f" There are: {', '.join(map(str, by_id)) or 'none'}."
            yield ("waivers", index, "rule"), f"there is no rule {rule!r}.{offer}"
            continue
        by = _mapping(by_id[rule], "slices").get("by", ())
        columns = [by] if isinstance(by, str) else list(by) if isinstance(by, list | tuple) else []
        for column in _mapping(waiver, "slices"):
            if column not in columns:
                found = f"by {', '.join(map(str, columns))}" if columns else "not at all"
                yield ("waivers", index, "slices", column), f"the rule {rule!r} is cut {found}, not by {column!r}"


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
    known = [*named, *BUILT_IN_LAYERS]
    built_in = "is the name of a built-in layer; choose another, and use it in the rules"
    faults: list[tuple[Location, str]] = [(("layers", name), built_in) for name in named if name in BUILT_IN_LAYERS]
    first: dict[str, int] = {}
    for index, (rule, layer) in enumerate(rules):
        if isinstance(rule, str) and first.setdefault(rule, index) != index:
            faults.append((("rules", index, "id"), f"{rule!r} is already the id of rules.{first[rule]}"))
        if isinstance(layer, str) and layer not in known:
            offer = did_you_mean(layer, known) or f" There are: {', '.join(known)}."
            faults.append((("rules", index, "layer"), f"there is no layer {layer!r}.{offer}"))
    return faults
