"""What is asked of two versions: every applicable metric of every layer, as rules that nobody judges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gate.errors import UsageError
from gate.policy.kinds import Margin
from gate.policy.made import addresses, made
from gate.policy.references import (
    BUILT_IN_LAYERS,
    OF_THE_BASELINE,
    OF_THE_MODEL,
    OF_THE_PROBE,
    Given,
    input_fault,
    needs_baseline,
)
from gate.policy.rules import Relative, Rule
from gate.policy.schema import Baseline, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from gate.geometry.catalogue import Entry
    from gate.policy.schema import Policy

_DEFAULT_LAYER = "output"
_ANY_CHANGE = Relative(max_drop=Margin(0.0, percent=False))


@dataclass(frozen=True)
class Asked:
    """What to read and to measure.

    Attributes:
        policy: Probe set, layers and outputs to read; its rules are the questions.
        lacking: Metric or read-out → why it cannot be asked: what the probe set and the models do not give.
        source: Name and version of the policy that layers, probe set and parameters come from, if any.
    """

    policy: Policy
    lacking: Mapping[str, str]
    source: str | None


def asked(
    baseline: str,
    *,
    probe: str | None,
    layers: Mapping[str, str],
    reads: Mapping[str, str],
    policy: str | Path | None,
    long: bool,
) -> Asked:
    """Settle what is compared.

    Args:
        baseline: URI of the version that the other one is compared with.
        probe: Probe set or probe spec, over that of the policy.
        layers: Name → `PATH` or `PATH:POOLING`, in place of those of the policy.
        reads: Key of a policy's `reads` → `PATH`, over those of the policy.
        policy: Whose layers, reads, probe set and parameters are taken; its rules are not judged.
        long: Whether every read-out is asked for, or the value of each metric.

    Raises:
        UsageError: There is no probe set, or a layer or read makes no sense.
        PolicyError: The policy or the probe spec has faults.
    """
    from gate.policy.loading import load_policy
    from gate.streaming import resolved_probe

    given = made("comparison", layers=addresses(layers), reads=addresses(reads))
    known = given if policy is None else load_policy(policy).policy
    if probe is None and known.probe is None:
        raise UsageError("there are no rows to compare on; name a probe spec, --probe SPEC.yaml, or a policy with one")
    others = {} if known.baseline is None else known.baseline.layers
    base = known.model_copy(
        update={
            "probe": resolved_probe(known.probe, probe),
            "layers": given.layers or known.layers,
            "reads": known.reads.model_copy(update={name: each for name, each in given.reads if each is not None}),
            "scope": Scope(),
            "baseline": Baseline(uri=baseline, layers={} if given.layers else others),
        }
    )
    names = tuple(given.layers) or _layers_of(known)
    questions = _questions(base, names, long=long)
    source = None if policy is None else f"{known.metadata.name}@{known.metadata.version}"
    return Asked(base.model_copy(update={"rules": tuple(questions)}), _lacking(base, long=long), source)


def _layers_of(policy: Policy) -> tuple[str, ...]:
    """All that a policy names, and what its rules read besides; the output of the model where that is nothing."""
    built_in = (rule.layer for rule in policy.rules if rule.layer in BUILT_IN_LAYERS)
    return tuple(dict.fromkeys((*policy.layers, *built_in))) or (_DEFAULT_LAYER,)


def _lacking(policy: Policy, *, long: bool) -> dict[str, str]:
    """The metrics that cannot be asked at all, and the single numbers of others."""
    from gate.geometry import catalogue

    given = _given(policy)
    reasons: dict[str, str] = {}
    for name, entry in catalogue.load().items():
        missing = {name: list(_missing(entry.required, given))}
        if not missing[name]:
            missing = {
                each: list(_missing(entry.needed_by(readout), given)) for each, readout in _numbers(entry, long=long)
            }
        reasons |= {each: f"missing_input: it needs {_listed(some)}" for each, some in missing.items() if some}
    return reasons


def _numbers(entry: Entry, *, long: bool) -> Iterator[tuple[str, str]]:
    """Address and read-out of what is asked of a metric: its value, or every number."""
    yield entry.name, "value"
    if long:
        yield from ((f"{entry.name}.{readout}", readout) for readout in entry.readouts)


def _given(policy: Policy) -> Given:
    columns = policy.probe.columns.given if policy.probe else ()
    return Given(columns, policy.reads.named, baseline=True)


def _missing(required: Iterable[str], given: Given) -> Iterator[str]:
    """What is not given of some inputs, each as people know it: a column of the probe set, an output of the model."""
    for name in required:
        if name in OF_THE_PROBE:
            if not set(OF_THE_PROBE[name]) <= set(given.columns or ()):
                yield name
        elif name in OF_THE_MODEL:
            if OF_THE_MODEL[name] not in given.reads:
                yield name
        elif name in OF_THE_BASELINE:
            yield from (key for key in OF_THE_BASELINE[name] if key not in given.reads)
        else:
            yield name


def _listed(names: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(names))


def _questions(policy: Policy, layers: Iterable[str], *, long: bool) -> Iterator[Rule]:
    from gate.geometry import catalogue

    given, number = _given(policy), 0
    for layer in layers:
        for name, entry in catalogue.load().items():
            asked = [address for address, _ in _numbers(entry, long=long) if input_fault(address, given) is None]
            for params in _params(policy, name, layer):
                for address in asked:
                    number += 1
                    yield _question(f"q{number}", address, layer, params)


def _params(policy: Policy, metric: str, layer: str) -> list[dict[str, Any]]:
    """The settings of a metric that the rules of a policy use at a layer; its defaults where no rule is about it."""
    found: list[dict[str, Any]] = []
    for rule in policy.rules:
        if (rule.metric.partition(".")[0], rule.layer) == (metric, layer) and rule.params not in found:
            found.append(rule.params)
    return found or [{}]


def _question(name: str, address: str, layer: str, params: Mapping[str, Any]) -> Rule:
    """A rule whose bound nobody looks at: it has the difference measured, or the number of two versions."""
    bound: dict[str, Any] = {"min": 0.0} if needs_baseline(address) else {"relative": _ANY_CHANGE}
    return Rule(id=name, metric=address, layer=layer, params=dict(params), **bound)
