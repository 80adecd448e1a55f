"""Whether evidence was measured on what a policy reads: the same columns of the probe set, and outputs of the model."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gate.geometry import catalogue
from gate.policy.reading import read
from gate.policy.references import OF_THE_BASELINE, OF_THE_MODEL, OF_THE_PROBE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from gate.policy.rules import Rule
    from gate.policy.schema import Policy

Where = tuple[str, str]  # path and pooling


def others(policy: Policy, rules: Iterable[Rule], document: Mapping[str, Any]) -> Iterator[str]:
    """What the rules would read elsewhere than the evidence did.

    Args:
        policy: With its probe set and outputs.
        rules: That are judged.
        document: The evidence.
    """
    entries = catalogue.load()
    asked = {name for rule in rules for name in _inputs(entries[rule.metric.partition(".")[0]])}
    yield from _columns(policy, asked, document["probe"]["columns"])
    yield from _outputs(policy, [name for name in OF_THE_MODEL if name in asked], document)


def _inputs(entry: catalogue.Entry) -> Iterator[str]:
    for name in (*entry.required, *entry.optional):
        yield name
        yield from OF_THE_BASELINE.get(name, ())


def _columns(policy: Policy, asked: Collection[str], recorded: Mapping[str, Any]) -> Iterator[str]:
    """Columns of another name, or that are not there; that clusters are not there any more counts for every metric.

    A policy without a probe block says nothing of columns.
    """
    if policy.probe is None:
        return
    keys = ("input", "cluster", *(key for name, key in OF_THE_PROBE.items() if name in asked))
    for key in dict.fromkeys(keys):
        named, found = getattr(policy.probe.columns, key), recorded.get(key)
        if _listed(named) != _listed(found) and (named is not None or key == "cluster"):
            yield f"was measured with {_column(key, found)}, the policy has {_column(key, named)}"


def _listed(names: object) -> object:
    return list(names) if isinstance(names, list | tuple) else names


def _column(key: str, names: object) -> str:
    return f"no column {key}" if names is None else f"the column {key}: {names}"


def _outputs(policy: Policy, names: Iterable[str], document: Mapping[str, Any]) -> Iterator[str]:
    """Outputs read elsewhere; the evidence says where in the texts of its policy alone."""
    texts = tuple(source["text"] for source in document["policy"]["sources"])
    for name in names:
        where = policy.reads.given.get(name)
        if where is None:
            continue
        meant, found = (where.path, where.pooling), _recorded(texts, name)
        if found != {meant}:
            told = " or ".join(map(_place, sorted(found))) or "nowhere"
            yield f"{name} of the model were read {told}; the policy reads them {_place(meant)}"


def _place(where: Where) -> str:
    return f"at {where[0]!r}, pooling {where[1]}"


@lru_cache(maxsize=64)
def _recorded(texts: tuple[str, ...], name: str) -> frozenset[Where]:
    """Where a policy said that an output is, by its own file or else by those that it extends, which may not agree."""
    own, *extended = (_said(text, name) for text in texts)
    return frozenset(where for where in ([own] if own else extended) if where is not None)


@lru_cache(maxsize=64)
def _said(text: str, name: str) -> Where | None:
    value = read(text).value
    reads = value.get("reads") if isinstance(value, dict) else None
    where = reads.get(name) if isinstance(reads, dict) else None
    return (str(where.get("path")), str(where.get("pooling", "none"))) if isinstance(where, dict) else None
