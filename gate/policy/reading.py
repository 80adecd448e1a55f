"""YAML 1.2 text to plain values, each with its line and column; the faults that only the text shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StreamMark
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from gate.policy.kinds import Location

Position = tuple[int, int]
Positions = Mapping[Location, Position]

At = TypeVar("At", bound=tuple[object, ...])

MOST_VALUES = 100_000  # a few nested aliases can stand for billions of values
_STANDARD_TAG = "tag:yaml.org,2002:"
_OLD_VERSION = re.compile(r"^\ufeff*%YAML[ \t]+(?!1\.2\s*$).*$", re.MULTILINE)
_OTHER_LINE_END = re.compile(r"\r(?!\n)|[\x85\u2028\u2029]")  # ruamel ends lines there, most editors do not


@dataclass(frozen=True)
class Problem:
    """One fault of the text; `location` is where it sits in the tree."""

    location: Location
    position: Position
    message: str


@dataclass(frozen=True)
class Tree:
    """What the text says; line and column of every key and list item, counted from 1."""

    value: object
    positions: Positions
    problems: tuple[Problem, ...]


def nearest(positions: Mapping[Location, At], location: Location) -> At:
    """Where `location` is written, or the nearest thing around it."""
    while location not in positions and location:
        location = location[:-1]
    return positions[location]


def read(text: str) -> Tree:
    """Read one YAML 1.2 document.

    Returns:
        Plain dicts, lists and scalars. A text that is no YAML has the value None and one problem. Duplicate keys (the
        first one is kept), empty values, merge keys and keys that are not text are problems, all of them listed.
    """
    if misread := _misread(text):
        return misread
    yaml = YAML(typ="safe", pure=True)
    walk = _Walk(yaml)
    try:
        root = yaml.compose(text)
        if root is None:
            return _nothing((1, 1), "the file is empty, expected keys with values")
        value = walk.value(root, ())
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return _nothing(_mark(mark), f"not valid YAML: {error.problem or error.context}")
    except ReaderError as error:
        return _nothing(
            _place(text, error.position), f"not valid YAML: the character {chr(error.character)!r} is not allowed"
        )
    except RecursionError:
        return _nothing((1, 1), "values are nested too deeply, or an alias contains itself")
    return Tree(value, walk.positions, tuple(walk.problems))


def _nothing(position: Position, message: str) -> Tree:
    return Tree(None, {(): position}, (Problem((), position, message),))


def _misread(text: str) -> Tree | None:
    """What reads as one thing in an editor, and as another here."""
    if other := _OTHER_LINE_END.search(text):
        position = _place(text, other.start())
        return _nothing(position, f"the character {other.group()!r} may end a line, or not; end lines with a line feed")
    if old := _OLD_VERSION.search(text):
        found = old.group().strip("\ufeff \r")
        return _nothing(_place(text, old.start()), f"{found!r}: policies are YAML 1.2; remove this line")
    return None


def _place(text: str, index: int) -> Position:
    return (text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index))


def _mark(mark: StreamMark | None) -> Position:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


@dataclass
class _Walk:
    yaml: YAML
    positions: dict[Location, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def value(self, node: Node, location: Location) -> object:
        self.positions.setdefault(location, _mark(node.start_mark))
        if len(self.positions) > MOST_VALUES:
            raise MarkedYAMLError(problem=f"more than {MOST_VALUES} values", problem_mark=node.start_mark)
        if isinstance(node, MappingNode) and node.tag == _STANDARD_TAG + "map":
            return self.mapping(node, location)
        if isinstance(node, SequenceNode) and node.tag == _STANDARD_TAG + "seq":
            return [self.value(item, (*location, index)) for index, item in enumerate(node.value)]
        if not isinstance(node, ScalarNode) or not str(node.tag).startswith(_STANDARD_TAG):
            raise MarkedYAMLError(problem=f"the tag {node.tag!r} is not allowed", problem_mark=node.start_mark)
        return self.scalar(node, location)

    def mapping(self, node: MappingNode, location: Location) -> dict[str, object]:
        values: dict[str, object] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            line, column = _mark(key.start_mark)
            if key.tag != _STANDARD_TAG + "str":
                self.problem(location, (line, column), _key_fault(key))
            elif key.value in values:
                message = f"`{key.value}` is given twice, first on line {lines[key.value]}"
                self.problem((*location, key.value), (line, column), message)
            else:
                lines[key.value] = line
                self.positions[(*location, key.value)] = (line, column)
                values[key.value] = self.value(value, (*location, key.value))
        return values

    def scalar(self, node: ScalarNode, location: Location) -> object:
        try:
            value = self.yaml.constructor.construct_object(node)
        except ValueError as error:
            raise MarkedYAMLError(problem=f"{node.value!r}: {error}", problem_mark=node.start_mark) from error
        if value is None:
            self.problem(location, self.positions[location], "has no value; write one, or remove the key")
        return value

    def problem(self, location: Location, position: Position, message: str) -> None:
        self.problems.append(Problem(location, position, message))


def _key_fault(key: Node) -> str:
    if key.tag == _STANDARD_TAG + "merge":
        return "merge keys (`<<`) are not supported; write the keys out"
    found = repr(key.value) if isinstance(key, ScalarNode) else "a list or mapping"
    return f"a key should be text, found {found}; write it in quotes"
