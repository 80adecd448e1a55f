"""What to measure of every version: the rules that a bound is wanted for, and where to read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gate.errors import NothingEvaluatedError, UsageError
from gate.policy.made import addresses, made
from gate.policy.references import needs_baseline
from gate.questions import applicable
from gate.verdict.measurements import direction

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gate.calibration.bounds import Side
    from gate.policy.loading import LoadedPolicy
    from gate.policy.rules import Rule
    from gate.policy.schema import Policy, Probe

Keys = dict[str, Any]

# Metrics of the probe set itself say nothing about a model, and are the same for every version on a pinned one.
_OF_THE_PROBE = "probe_rows"
_SIDES: dict[str, tuple[Side, ...]] = {"higher": ("min",), "lower": ("max",), "range": ("min", "max")}
_NO_BOUND = -1e308  # a rule needs one to be a rule; nothing is judged by it
_NOT_COPIED = ("min", "max", "override", "reason", "enabled")
_ABOUT_LOOSENING = ("override", "reason")
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Candidate:
    """A rule that a bound is wanted for.

    Attributes:
        rule: Its metric, layer and parameters.
        sides: Which bounds.
        keys: What else the written rule holds.
    """

    rule: Rule
    sides: tuple[Side, ...]
    keys: Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """Everything that is asked of every version.

    Attributes:
        policy: A policy of all candidates, to be measured and never judged.
        candidates: In the order of the policy, or of the catalogue.
        blocks: Keys of the written policy besides metadata, probe and rules.
        copied: Rules that no bound can be found for: they compare with a baseline, or cut the probe set.
        like: The policy that the rules are from.
    """

    policy: Policy
    candidates: tuple[Candidate, ...]
    blocks: Mapping[str, Any]
    copied: tuple[Mapping[str, Any], ...] = ()
    like: LoadedPolicy | None = field(default=None, repr=False)


def of_the_catalogue(probe: Probe, layers: Mapping[str, str], reads: Mapping[str, str]) -> Asked:
    """Every metric that the probe set suffices for, one number each, at every layer.

    Args:
        probe: With the columns that decide which metrics are applicable.
        layers: Name → `PATH` or `PATH:POOLING`; none stands for the output of the model.
        reads: The same for what metrics read besides.

    Raises:
        UsageError: A name or a pooling that cannot be.
        NothingEvaluatedError: No metric is applicable.
    """
    from gate.geometry import catalogue

    blocks: Keys = {
        "run": {"seed": 0, "precision": "float32"},
        "layers": addresses(layers),
        "reads": addresses(reads),
    }
    blocks = {key: block for key, block in blocks.items() if block}
    blocks["defaults"] = {"confidence": CONFIDENCE, "inconclusive": "block", "severity": "block"}
    entries = catalogue.load()
    metrics = [name for name in applicable(_policy(blocks, (), probe)) if entries[name].family != _OF_THE_PROBE]
    if not metrics:
        raise NothingEvaluatedError("no metric is applicable to what the probe set and --reads give")
    several = len(layers) > 1
    rules = [
        {"id": _id(metric, layer if several else None), "metric": metric, "layer": layer}
        for layer in layers or ["output"]
        for metric in metrics
    ]
    policy = _policy(blocks, rules, probe)
    keys = zip(policy.rules, rules, strict=True)
    return Asked(
        policy, tuple(Candidate(rule, _SIDES[direction(rule.metric)], written) for rule, written in keys), blocks
    )


def of_a_policy(like: LoadedPolicy, probe: Probe, layers: Mapping[str, str], reads: Mapping[str, str]) -> Asked:
    """The rules of a policy, with the bounds that it has.

    Args:
        like: The policy.
        probe: That the versions are measured on.
        layers: Name → `PATH` or `PATH:POOLING`, in place of the policy's own layer of that name.
        reads: What metrics read besides, in place of or besides the policy's own.

    Raises:
        UsageError: A layer that no rule of the policy is about, or a name or a pooling that cannot be.
        NothingEvaluatedError: No rule has a bound that can be set anew.
    """
    used = {rule.layer for rule in like.policy.rules if rule.enabled}
    if strange := [name for name in layers if name not in used]:
        raise UsageError(
            f"--layer {strange[0]}: no rule of {like.path} is about that layer; there are: {', '.join(sorted(used))}"
        )
    blocks = dict(_blocks(like))
    for key, block in (("layers", addresses(layers)), ("reads", addresses(reads))):
        if block:
            blocks[key] = {**blocks.get(key, {}), **block}
    pairs = list(_written_rules(like))
    wanted = [(rule, written) for rule, written in pairs if rule.bounded and not needs_baseline(rule.metric)]
    if not wanted:
        raise NothingEvaluatedError(f"{like.path}: no rule of it has a `min` or a `max` that could be set anew")
    bare = [{**_copied(written, ("relative", "slices"))} for _, written in wanted]
    measured = {key: block for key, block in blocks.items() if key not in ("scope", "baseline")}
    policy = _policy(measured, bare, probe)
    candidates = tuple(
        Candidate(rule, _sides_of(own), _copied(written))
        for rule, (own, written) in zip(policy.rules, wanted, strict=True)
    )
    copied = tuple(_copied(written, keep=("min", "max")) for rule, written in pairs if (rule, written) not in wanted)
    return Asked(policy, candidates, blocks, copied, like)


def _sides_of(rule: Rule) -> tuple[Side, ...]:
    sides: tuple[Side, ...] = ("min", "max")
    return tuple(side for side in sides if getattr(rule, side) is not None)


def _written_rules(like: LoadedPolicy) -> Iterator[tuple[Rule, Keys]]:
    """The rules that are switched on, as they are and as they were written."""
    for rule, written in zip(like.policy.rules, like.written.value["rules"], strict=True):
        if rule.enabled:
            yield rule, written


def _copied(written: Mapping[str, Any], beyond: Sequence[str] = (), keep: Sequence[str] = ()) -> Keys:
    left_out = {*_NOT_COPIED, *beyond} - {*keep}
    return {key: value for key, value in written.items() if key not in left_out}


def _blocks(like: LoadedPolicy) -> Iterator[tuple[str, Keys]]:
    """The keys of a policy that hold for a new one as well; waivers are for its own bounds."""
    for key in ("scope", "run", "layers", "reads", "defaults", "baseline"):
        block = like.written.value.get(key)
        if isinstance(block, dict):
            yield key, {name: value for name, value in block.items() if name not in _ABOUT_LOOSENING}


def _policy(blocks: Mapping[str, Any], rules: Sequence[Keys], probe: Probe) -> Policy:
    bounded = [{**rule, "min": _NO_BOUND} for rule in rules]
    return made("calibration", probe=probe.written, **{**blocks, "rules": bounded})


def _id(metric: str, layer: str | None) -> str:
    name = metric.replace("_", "-").replace(".", "-")
    return name if layer is None else f"{layer}-{name}"
