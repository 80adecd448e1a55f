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

from gate.policy.indentation import out_of_line
from gate.policy.kinds import Location, shown

Position = tuple[int, int]
Positions = Mapping[Location, Position]

At = TypeVar("At", bound=tuple[object, ...])

MOST_VALUES = 100_000  # a few nested aliases can stand for billions of values
_STANDARD_TAG = "tag:yaml.org,2002:"
_SCALARS = ("str", "int", "float", "bool", "null", "timestamp")
_OLD_VERSION = re.compile(r"^\ufeff*%YAML[ \t]+(?!1\.2\s*$).*$", re.MULTILINE)
_OTHER_LINE_END = re.compile(r"\r(?!\n)|[\x85\u2028\u2029]")  # ruamel ends lines there, most editors do not


@dataclass(frozen=True)
class Problem:
    """One fault of the text.

    Attributes:
        location: Where it sits in the tree.
        position: Its line and column.
        message: What is wrong.
        hides: Whether what else is wrong there, or missing in it, follows from it.
    """

    location: Location
    position: Position
    message: str
    hides: bool = True


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
        return _no_yaml(text, error)
    except ReaderError as error:
        return _nothing(
            _place(text, error.position), f"not valid YAML: the character {chr(error.character)!r} is not allowed"
        )
    except RecursionError:
        return _nothing((1, 1), "values are nested too deeply, or an alias contains itself")
    return Tree(value, walk.positions, tuple(walk.problems))


def _nothing(position: Position, message: str) -> Tree:
    return Tree(None, {(): position}, (Problem((), position, message),))


def _no_yaml(text: str, error: MarkedYAMLError) -> Tree:
    mark, problem = error.problem_mark or error.context_mark, str(error.problem or error.context)
    if mark and (found := out_of_line(text, problem, mark.line, mark.column)):
        column, message = found
        return _nothing((mark.line + 1, column + 1), f"not valid YAML: {message}")
    return _nothing(_mark(mark), f"not valid YAML: {_in_words(problem)}")


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
        if not isinstance(node, ScalarNode) or str(node.tag).removeprefix(_STANDARD_TAG) not in _SCALARS:
            raise MarkedYAMLError(problem=f"the tag {node.tag!r} is not allowed", problem_mark=node.start_mark)
        return self.scalar(node, location)

    def mapping(self, node: MappingNode, location: Location) -> dict[str, object]:
        values: dict[str, object] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            line, column = _mark(key.start_mark)
            if key.tag != _STANDARD_TAG + "str":
                self.problem(location, (line, column), _key_fault(key, value), hides=_is_merge(key))
            elif key.value in values:
                message = f"`{key.value}` is given twice, first on line {lines[key.value]}; keep one of the two"
                self.problem((*location, key.value), (line, column), message, hides=False)
            else:
                lines[key.value] = line
                self.positions[(*location, key.value)] = (line, column)
                values[key.value] = self.value(value, (*location, key.value))
        return values

    def scalar(self, node: ScalarNode, location: Location) -> object:
        try:
            value = self.yaml.constructor.construct_object(node)
        except ValueError as error:
            kind = str(node.tag).removeprefix(_STANDARD_TAG)
            detail = f", {error}" if kind == "timestamp" else ""
            message = f"{shown(node.value)} is no {_KINDS.get(kind, kind)}{detail}; write another value"
            self.problem(location, self.positions[location], message)
            return None
        if value is None:
            self.problem(location, self.positions[location], "has no value; write one, or remove the key")
        return value

    def problem(self, location: Location, position: Position, message: str, *, hides: bool = True) -> None:
        self.problems.append(Problem(location, position, message, hides))


_KINDS = {"timestamp": "day", "int": "whole number", "float": "number"}
_BETTER_WORDS = {
    "but found another document": "a second document begins here; a policy is one document",
    "mapping values are not allowed here": "a key inside a value; put text that holds `: ` in quotes",
    "found character '\\t' that cannot start any token": "a tab; indent with spaces",
}
_RESERVED = re.compile(r"found character '([@`%])' that cannot start any token")
_NO_ANCHOR = re.compile(r"found undefined alias '(.*)'")


def _in_words(problem: str) -> str:
    """What ruamel says, and what to do about it where that is plain."""
    if reserved := _RESERVED.fullmatch(problem):
        return f"a value cannot begin with {reserved.group(1)!r}; put it in quotes"
    if missing := _NO_ANCHOR.fullmatch(problem):
        return f"nothing is named by `&{missing.group(1)}`; put text that begins with `*` in quotes"
    return _BETTER_WORDS.get(problem, problem)


def _is_merge(key: Node) -> bool:
    return str(key.tag) == _STANDARD_TAG + "merge"


def _key_fault(key: Node, value: Node) -> str:
    if _is_merge(key):
        return "merge keys (`<<`) are not supported; write the keys out"
    if not isinstance(key, ScalarNode):
        return "a key should be text, found a list or mapping; write it in quotes"
    if key.tag == _STANDARD_TAG + "int" and value.tag == _STANDARD_TAG + "null":  # {max: 0,15}
        return f"a key should be text, found {key.value!r}; write decimals after a point"
    return f"a key should be text, found {key.value!r}; write it in quotes"
