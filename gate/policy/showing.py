"""A policy with all that it extends, as YAML that says of every line where it comes from, and what it loosens."""

from __future__ import annotations

import sys
from contextlib import suppress
from io import StringIO
from typing import TYPE_CHECKING

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from gate.errors import NothingEvaluatedError
from gate.policy.extending import extended, find
from gate.policy.loading import load_policy
from gate.policy.loosening import loosened_baseline, loosened_defaults, loosened_expectations, loosened_rule
from gate.policy.reading import nearest, read
from gate.policy.schema import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gate.policy.kinds import Location
    from gate.policy.loading import LoadedPolicy
    from gate.policy.loosening import Loosened

_TWO_BYTES = 0xFFFF
_FARTHEST = 80  # column at which comments begin, unless their line is longer


def shown(loaded: LoadedPolicy, *, origin: bool = True) -> str:
    """The merged policy as YAML; what it reads back as is the same policy.

    Args:
        loaded: The policy.
        origin: Whether lines of other files say so, and those that loosen one of them say why.
    """
    order = [field.alias or name for name, field in Policy.model_fields.items()]
    value = loaded.written.value
    lines = _dumped({key: value[key] for key in order if key in value}).splitlines()
    if origin:
        comments = _comments(loaded, "\n".join(lines) + "\n")
        column = min(_FARTHEST, max((len(lines[number]) for number in comments), default=0))
        for number, comment in comments.items():
            lines[number] = f"{lines[number].ljust(column)}  # {_one_line(comment)}"
    return "\n".join(lines) + "\n"


def _dumped(value: Mapping[str, object]) -> str:
    """YAML in which every scalar, and every list of scalars, is in one line."""
    yaml = YAML()
    yaml.width = sys.maxsize
    yaml.indent(mapping=2, sequence=4, offset=2)
    stream = StringIO()
    yaml.dump(_node(value), stream)
    return "".join(char if char.isprintable() or char == "\n" else _escape(char) for char in stream.getvalue())


def _escape(char: str) -> str:
    """As YAML writes it between double quotes, which is where every such character stands."""
    return f"\\u{ord(char):04x}" if ord(char) <= _TWO_BYTES else f"\\U{ord(char):08x}"


def _node(value: object) -> object:
    if isinstance(value, dict):
        return CommentedMap((_node(key), _node(each)) for key, each in value.items())
    if isinstance(value, list):
        sequence = CommentedSeq(map(_node, value))
        if not any(isinstance(each, dict | list) for each in value):
            sequence.fa.set_flow_style()
        return sequence
    return DoubleQuotedScalarString(value) if isinstance(value, str) and not value.isprintable() else value


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if line.isprintable() else ascii(line)[1:-1]


def _comments(loaded: LoadedPolicy, text: str) -> dict[int, str]:
    """Number of a line, from 0 → what is to be said of it."""
    positions = read(text).positions
    first: dict[int, Location] = {}  # of each line: what begins leftmost, and of that the innermost
    for location in sorted(positions, key=lambda each: (positions[each], -len(each))):
        if location:
            first.setdefault(positions[location][0] - 1, location)
    places = {line: loaded.written.place(location) for line, location in first.items()}
    comments = {line: f"{place.path}:{place.line}" for line, place in places.items() if place.path != loaded.path}
    return comments | {nearest(positions, location)[0] - 1: said for location, said in _loosenings(loaded)}


def _loosenings(loaded: LoadedPolicy) -> Iterator[tuple[Location, str]]:
    """Where the policy is looser than one that it extends, and why."""
    for base in _bases(loaded):
        for here, there, reason, found in _overridden(base.policy, loaded.policy):
            for location, what in found:
                place = base.position(*there, *location)
                yield (*here, *location), f"looser than {place.path}:{place.line}, {what}: {reason}"


def _overridden(base: Policy, own: Policy) -> Iterator[tuple[Location, Location, str | None, Iterator[Loosened]]]:
    """Every block that may be looser: where it is here, where in the base, the reason, and in what it is looser."""
    if own.defaults.override:
        found = loosened_defaults(base.defaults, own.defaults)
        yield ("defaults",), ("defaults",), own.defaults.reason, found
    if own.baseline and own.baseline.override:
        found = loosened_baseline(base, own)
        yield ("baseline",), ("baseline",), own.baseline.reason, found
    if base.probe and own.probe and own.probe.expectations.override:
        here = ("probe", "expectations")
        found = loosened_expectations(base.probe.expectations, own.probe.expectations)
        yield here, here, own.probe.expectations.reason, found
    ids = [rule.id for rule in own.rules]
    for number, rule in enumerate(base.rules):
        index = ids.index(rule.id)
        if own.rules[index].override:
            found = loosened_rule(rule, own.rules[index])
            yield ("rules", index), ("rules", number), own.rules[index].reason, found


def _bases(loaded: LoadedPolicy) -> Iterator[LoadedPolicy]:
    """What the policy extends, apart from files without a rule that is switched on."""
    for reference in loaded.policy.extends:
        found = extended(reference, (find(loaded.path).file,))
        if not isinstance(found, str):
            with suppress(NothingEvaluatedError):
                yield load_policy(found.name)
