"""Whether evidence was measured on what a policy reads: the same columns of the probe set, and outputs of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gate.geometry import catalogue
from gate.policy.references import OF_THE_BASELINE, OF_THE_PROBE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from gate.policy.rules import Rule
    from gate.policy.schema import Policy

Where = tuple[str, str]  # path and pooling
# Which rows are measured, which of them are sampled, and how sure a number is: without them it is another one.
_EVERY_NUMBER = ("id", "cluster", "split")


def others(policy: Policy, rules: Iterable[Rule], document: Mapping[str, Any]) -> Iterator[str]:
    """What the rules would read elsewhere than the evidence did.

    Args:
        policy: With its probe set and outputs.
        rules: That are judged.
        document: The evidence.
    """
    asked = {name for rule in rules for name in _inputs(rule.metric)}
    yield from _columns(policy, asked, document["probe"]["columns"])
    yield from _outputs(policy, asked, document)


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
    keys = ("input", *_EVERY_NUMBER, *(key for name, keys in OF_THE_PROBE.items() if name in asked for key in keys))
    for key in dict.fromkeys(keys):
        named, found = getattr(policy.probe.columns, key), recorded.get(key)
        if _listed(named) != _listed(found):
            yield f"was measured with {_column(key, found)}, the policy has {_column(key, named)}"


def _listed(names: object) -> object:
    return list(names) if isinstance(names, list | tuple) else names


def _column(key: str, names: object) -> str:
    return f"no column {key}" if names is None else f"the column {key}: {names}"


def _outputs(policy: Policy, asked: Collection[str], document: Mapping[str, Any]) -> Iterator[str]:
    """Outputs read elsewhere, or of other classes."""
    meant = {name: place for name, place in _places(policy).items() if _of(name) in asked}
    if document["reads"] is None:
        if meant:
            yield "does not say where outputs of the model were read: it was written by an earlier version of gate"
        return
    read = {name: (place["path"], place["pooling"]) for name, place in document["reads"].items() if _of(name) in asked}
    for name in dict.fromkeys((*meant, *read)):
        found, wanted = read.get(name), meant.get(name)
        if wanted is None and found is not None:
            yield f"{name} of the model were read {_place(found)}; the policy reads none"
        elif wanted is not None and (found is None or not _same(found, wanted)):
            told = "nowhere" if found is None else _place(found)
            yield f"{name} of the model were read {told}; the policy reads them {_place(wanted)}"
    classes = () if policy.reads.logits is None else policy.reads.logits.classes
    recorded = document["reads"].get("logits", {}).get("classes", [])
    if meant.get("logits") == read.get("logits") is not None and list(classes) != recorded:
        yield f"logits of the model are of the classes {recorded}, the policy has {list(classes)}"


def _places(policy: Policy) -> dict[str, Where]:
    weights = {name: (path, "weights") for name, path in policy.reads.weights.items()}
    return {**{name: (place.path, place.pooling) for name, place in policy.reads.places.items()}, **weights}


def _of(name: str) -> str:
    """The input of a metric that a column is, or is one of."""
    return name.partition(".")[0]


def _same(found: Where, wanted: Where) -> bool:
    """Whether they are read alike; tokens with the steps between layers hold those without."""
    return found == wanted or (found[0] == wanted[0] and (found[1], wanted[1]) == ("token_steps", "token_terms"))


def _place(where: Where) -> str:
    return f"at {where[0]!r}, pooling {where[1]}"
