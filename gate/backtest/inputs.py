"""Whether evidence was measured on what a policy reads: the same columns of the probe set, and outputs of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gate.geometry import catalogue
from gate.policy.references import OF_THE_BASELINE, OF_THE_MODEL, OF_THE_PROBE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from gate.policy.rules import Rule
    from gate.policy.schema import Policy

Where = tuple[str, str]  # path and pooling
_EVERY_NUMBER = ("id", "cluster")  # which rows are sampled, and how sure a number is: without them it is another one


def others(policy: Policy, rules: Iterable[Rule], document: Mapping[str, Any]) -> Iterator[str]:
    """What the rules would read elsewhere than the evidence did.

    Args:
        policy: With its probe set and outputs.
        rules: That are judged.
        document: The evidence.
    """
    asked = {name for rule in rules for name in _inputs(rule.metric)}
    yield from _columns(policy, asked, document["probe"]["columns"])
    yield from _outputs(policy, [name for name in OF_THE_MODEL if name in asked], document)


def _inputs(metric: str) -> Iterator[str]:
    entry, readout = catalogue.find(metric)
    for name in entry.read_by(readout):
        yield name
        yield from OF_THE_BASELINE.get(name, ())


def _columns(policy: Policy, asked: Collection[str], recorded: Mapping[str, Any]) -> Iterator[str]:
    """Columns of another name, that are not there, or that are there beyond what the policy names.

    A policy without a probe block says nothing of columns.
    """
    if policy.probe is None:
        return
    keys = ("input", *_EVERY_NUMBER, *(key for name, key in OF_THE_PROBE.items() if name in asked))
    for key in dict.fromkeys(keys):
        named, found = getattr(policy.probe.columns, key), recorded.get(key)
        if _listed(named) != _listed(found):
            yield f"was measured with {_column(key, found)}, the policy has {_column(key, named)}"


def _listed(names: object) -> object:
    return list(names) if isinstance(names, list | tuple) else names


def _column(key: str, names: object) -> str:
    return f"no column {key}" if names is None else f"the column {key}: {names}"


def _outputs(policy: Policy, names: Iterable[str], document: Mapping[str, Any]) -> Iterator[str]:
    """Outputs read elsewhere, or of other classes."""
    if document["reads"] is None:
        if any(name in policy.reads.given for name in names):
            yield "does not say where outputs of the model were read: it was written by an earlier version of gate"
        return
    for name in names:
        where, found = policy.reads.given.get(name), document["reads"].get(name)
        if where is None:
            if found is not None:
                told = _place((found["path"], found["pooling"]))
                yield f"{name} of the model were read {told}; the policy reads none"
            continue
        meant = (where.path, where.pooling)
        if found is None or (found["path"], found["pooling"]) != meant:
            told = "nowhere" if found is None else _place((found["path"], found["pooling"]))
            yield f"{name} of the model were read {told}; the policy reads them {_place(meant)}"
        elif list(where.classes) != found.get("classes", []):
            yield f"{name} of the model are of the classes {found.get('classes')}, the policy has {list(where.classes)}"


def _place(where: Where) -> str:
    return f"at {where[0]!r}, pooling {where[1]}"
