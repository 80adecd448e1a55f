"""Whether what a rule refers to exists: its metric, the metric's parameters, and what the metric reads."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from types import UnionType

    from gate.geometry.catalogue import Entry
    from gate.policy.kinds import Location

BUILT_IN_LAYERS = ("input", "output")
OF_THE_PROBE: Mapping[str, tuple[str, ...]] = {
    "labels": ("label",),
    "sublabels": ("sublabel",),
    "groups": ("group",),
    "clusters": ("cluster",),
    "lengths": ("length",),
    "targets": ("target",),
    "cues": ("cue",),
    "pretext": ("pretext",),
    "attributes": ("attributes",),
    "tasks": ("tasks",),
    "reference": ("split",),
    "reference.labels": ("split", "label"),
    "ood": ("split",),
    "shifted": ("pair",),
}  # input of a metric → keys of `probe.columns`
OF_THE_MODEL: Mapping[str, str] = {
    "logits": "logits",
    "before": "before",
    "latent_means": "latent_means",
    "latent_log_variances": "latent_log_variances",
    "codes": "codes",
    "depths": "depths",
    "tokens": "tokens",
    "token_mean": "tokens",
    "attention_filter": "attention",
    "head": "head",
    "codebook": "codebook",
}  # input of a metric → key of `reads`
_AS_WRITTEN = {"depths": "paths: [PATH, ...]", "tokens": "paths: [PATH, ...]"}
NAME_A_BASELINE = "name one: `baseline: {uri: models:/NAME@ALIAS}`"
# Input → what `reads` must name for it.
OF_THE_BASELINE: Mapping[str, tuple[str, ...]] = {
    "baseline": (),
    "baseline_logits": ("logits",),
    "baseline_tokens": ("tokens",),
}


@dataclass(frozen=True)
class Given:
    """What a policy gives to metrics; columns are None where it has no probe block to go by."""

    columns: Collection[str] | None
    reads: Collection[str] = ()
    baseline: bool = False


def did_you_mean(found: str, allowed: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The end of a message: `` Did you mean `min`?``, with all words that are equally near; nothing when none is."""
    near = get_close_matches(found, list(allowed), cutoff=cutoff)
    nearness = {word: SequenceMatcher(None, word, found).ratio() for word in near}
    best = [f"`{word}`" for word in near if nearness[word] == max(nearness.values())]
    return f" Did you mean {' or '.join(best)}?" if best else ""


def addresses() -> list[str]:
    """Every metric, and METRIC.READOUT for each of its read-outs."""
    from gate.geometry import catalogue

    entries = catalogue.load().values()
    return [
        address for entry in entries for address in (entry.name, *(f"{entry.name}.{each}" for each in entry.readouts))
    ]


def metric_fault(metric: str) -> str | None:
    """What is wrong with a rule's `metric`, an id of the catalogue or `id.readout`; None when nothing is."""
    from gate.geometry import catalogue

    entries = catalogue.load()
    name, dot, readout = metric.partition(".")
    if name not in entries:
        owners = [f"`{owner}.{name}`" for owner, entry in entries.items() if name in entry.readouts]
        if owners:
            return f"there is no metric {metric!r}. Did you mean {' or '.join(owners)}?"
        near = did_you_mean(metric, addresses()) if dot else ""
        near = near or did_you_mean(name, entries)
        return f"there is no metric {metric!r}." + (near or f" There are: {', '.join(entries)}.")
    readouts = entries[name].readouts
    if not dot or readout in readouts:
        return None
    near = did_you_mean(metric, [f"{name}.{each}" for each in readouts])
    return f"{name!r} has no read-out {readout!r}." + (near or f" It has: {', '.join(readouts) or 'none'}.")


def input_fault(metric: str, given: Given) -> str | None:
    """What a policy lacks first of the inputs without which a metric is not applicable; None when nothing is.

    Args:
        metric: An id of the catalogue or `id.readout`; whatever else it is, is left to `metric_fault`.
        given: What the policy gives.
    """
    return next(iter(input_faults(metric, given)), None)


def input_faults(metric: str, given: Given) -> list[str]:
    """Everything that a policy lacks of the inputs without which a metric is not applicable."""
    from gate.geometry import catalogue

    if metric.partition(".")[0] not in catalogue.load():
        return []
    entry, readout = catalogue.find(metric)
    needed = entry.needed_by(readout)
    if beyond := _beyond(needed):
        return [f"a policy cannot give {_quoted(beyond)} yet; use gate.measure for {metric!r}"]
    faults = []
    named = given.columns
    columns = [] if named is None else [key for name in needed for key in OF_THE_PROBE.get(name, ())]
    if lacking := list(dict.fromkeys(key for key in columns if key not in (named or ()))):
        lines = ", ".join(f"{key}: NAME" for key in lacking)
        faults.append(f"{metric!r} needs {_quoted(lacking)} of the probe set; add `{lines}` to `probe.columns`")
    if lacking := [name for name in _read(needed) if name not in given.reads]:
        lines = ", ".join(f"{name}: {{{_AS_WRITTEN.get(name, 'path: PATH')}}}" for name in lacking)
        faults.append(f"{metric!r} needs {_quoted(lacking)} of the model; say where they are: `reads: {{{lines}}}`")
    if needs_baseline(metric) and not given.baseline:
        faults.append(f"{metric!r} compares with a baseline; {NAME_A_BASELINE}")
    return faults


def needs_baseline(metric: str) -> bool:
    """Whether a metric of the catalogue, `id` or `id.readout`, is one of two versions."""
    from gate.geometry import catalogue

    entry, readout = catalogue.find(metric)
    return any(name in OF_THE_BASELINE for name in entry.needed_by(readout))


def in_a_policy(entry: Entry, readout: str | None = None) -> str:
    """Whether a rule of a policy can be about a metric, in words: `yes`, or `not yet` and for want of what.

    Args:
        entry: The metric.
        readout: The one that it is about; None for all of the metric.
    """
    if beyond := _beyond(entry.needed_by(readout or "value")):
        return f"not yet: it cannot give {_quoted(beyond)}"
    beyond = [] if readout else _beyond(entry.optional)
    return f"yes; not yet what it reads from {_quoted(beyond)}" if beyond else "yes"


def _read(inputs: Iterable[str]) -> list[str]:
    """The keys of `reads` that some inputs rest on."""
    return list(
        dict.fromkeys(
            key
            for name in inputs
            for key in ((OF_THE_MODEL[name],) if name in OF_THE_MODEL else OF_THE_BASELINE.get(name, ()))
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
