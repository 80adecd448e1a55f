"""Whether what the rules of a policy refer to exists: metrics, their parameters and inputs, layers, ids."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from types import UnionType

    from gate.geometry.catalogue import Entry
    from gate.policy.reading import Location

BUILT_IN_LAYERS = ("input", "output")
IN_A_POLICY = {
    "labels": "label",
    "sublabels": "sublabel",
    "groups": "group",
    "clusters": "cluster",
    "lengths": "length",
    "targets": "target",
}  # input of a metric → key of `probe.columns`; a policy can give no other input yet


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


def input_fault(metric: str, columns: Collection[str] | None) -> str | None:
    """What a policy lacks of the inputs without which a metric is not applicable; None when nothing is.

    Args:
        metric: An id of the catalogue or `id.readout`; whatever else it is, is left to `metric_fault`.
        columns: The keys of `probe.columns` that are given, None when the policy has no probe block.
    """
    from gate.geometry import catalogue

    entry = catalogue.load().get(metric.partition(".")[0])
    if entry is None:
        return None
    if beyond := _beyond(entry.required):
        return f"a policy cannot give {_quoted(beyond)} yet; use gate.measure for {metric!r}"
    keys = [IN_A_POLICY[name] for name in entry.required]
    lacking = [] if columns is None else [key for key in keys if key not in columns]
    if not lacking:
        return None
    lines = ", ".join(f"{key}: NAME" for key in lacking)
    return f"{metric!r} needs {_quoted(lacking)} of the probe set; add `{lines}` to `probe.columns`"


def in_a_policy(entry: Entry) -> str:
    """Whether a rule of a policy can be about a metric, in words: `yes`, or `not yet` and for want of what."""
    if beyond := _beyond(entry.required):
        return f"not yet: it cannot give {_quoted(beyond)}"
    beyond = _beyond(entry.optional)
    return f"yes; not yet what it reads from {_quoted(beyond)}" if beyond else "yes"


def _beyond(inputs: Iterable[str]) -> list[str]:
    return [name for name in inputs if name not in IN_A_POLICY]


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


def input_faults(columns: Collection[str] | None, metrics: Iterable[object]) -> list[tuple[Location, str]]:
    """Rules on metrics that lack an input.

    Args:
        columns: The keys of `probe.columns` that are given, None when the policy has no probe block.
        metrics: The `metric` of every rule, in order; whatever is not text is left to other checks.

    Returns:
        Where and what.
    """
    faults = [input_fault(metric, columns) if isinstance(metric, str) else None for metric in metrics]
    return [(("rules", index, "metric"), fault) for index, fault in enumerate(faults) if fault]


def conflicts(layers: Iterable[object], rules: Iterable[tuple[object, object]]) -> list[tuple[Location, str]]:
    """Faults that only the whole policy shows.

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
