"""Of which kind a value of a document can be."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from gate.estimate import is_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LARGEST = 2**53  # to which a float counts


class Kind(NamedTuple):
    """Values of one kind.

    Attributes:
        fits: Whether a value is of it.
        expected: What a value is of it, in words.
        sure: Types of which every value fits: a document has thousands of them.
    """

    fits: Callable[[Any], bool]
    expected: str
    sure: frozenset[type] = frozenset()


def or_null(kind: Kind) -> Kind:
    """Values of a kind, and null."""
    sure = kind.sure | {type(None)}
    return Kind(lambda value: value is None or kind.fits(value), f"{kind.expected} or null", sure)


def one_of(*words: str) -> Kind:
    """Some words."""
    return Kind(lambda value: isinstance(value, str) and value in words, f"one of {', '.join(words)}")


def keys_of(what: str, **kinds: Kind) -> Kind:
    """Values under keys, each of its own kind; a key that is not there is null."""

    def fits(value: object) -> bool:
        return isinstance(value, dict) and misfit(value, kinds) is None

    return Kind(fits, what)


def misfit(found: Mapping[str, Any], kinds: Mapping[str, Kind]) -> str | None:
    """The first key whose value is not of its kind."""
    for key, kind in kinds.items():
        value = found.get(key)
        if type(value) not in kind.sure and not kind.fits(value):
            return key
    return None


def list_of(kind: Kind, what: str) -> Kind:
    """Any number of values of a kind."""
    return Kind(lambda value: isinstance(value, list) and all(map(kind.fits, value)), what)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value) is not None
    except ValueError:
        return False


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str) or is_number(value)


def _is_slice(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _are_numbers(value: object, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(map(is_number, value))


def _are_many_numbers(value: object) -> bool:
    """Numbers by the thousand, as pictures have them: nearly always floats, which are looked at all at once."""
    if not isinstance(value, list):
        return False
    return all(map(math.isfinite if set(map(type, value)) == {float} else is_number, value))


def _are_many_texts(value: object) -> bool:
    return isinstance(value, list) and set(map(type, value)) <= {str}


def _is_cosine(value: object) -> bool:
    return value is None or (is_number(value) and -1 <= value <= 1)


def _are_cosines(value: Mapping[str, Any]) -> bool:
    classes, matrix = value.get("classes"), value.get("matrix")
    return (
        _are_many_texts(classes)
        and isinstance(classes, list)
        and isinstance(matrix, list)
        and len(matrix) == len(classes)
        and all(isinstance(row, list) and len(row) == len(classes) and all(map(_is_cosine, row)) for row in matrix)
    )


def _are_points(value: Mapping[str, Any]) -> bool:
    x, y, label = (value.get(key) for key in ("x", "y", "label"))
    columns: list[Any] = [x, y] if label is None else [x, y, label]
    return (
        _are_many_numbers(x)
        and _are_many_numbers(y)
        and (label is None or _are_many_texts(label))
        and len(set(map(len, columns))) == 1
    )


def _is_level(value: object) -> bool:
    return is_number(value) and 0 < value < 1


TEXT = Kind(_is_text, "a text", frozenset({str}))
TIME = Kind(_is_time, "a time")
TRUTH = Kind(lambda value: isinstance(value, bool), "true or false")
NUMBER = Kind(is_number, "a number")
LEVEL = Kind(_is_level, "a level between 0 and 1")
COUNT = Kind(_is_count, "a number of rows")
WHOLE = Kind(_is_count, "a whole number")
LIST = Kind(lambda value: isinstance(value, list), "a list")
COLUMNS = Kind(_is_slice, "columns")
SOME_COLUMNS = Kind(lambda value: bool(value) and _is_slice(value), "columns")
SCALARS = Kind(
    lambda value: isinstance(value, dict) and all(map(_is_scalar, value.values())), "numbers and texts by name"
)
ENDS = Kind(lambda value: _are_numbers(value, 2), "two numbers")
LEVELS = Kind(
    lambda value: isinstance(value, list) and all(_are_numbers(each, 3) and _is_level(each[0]) for each in value),
    "a level and two numbers each",
)
NUMBERS = Kind(_are_many_numbers, "numbers")
COSINES = Kind(
    lambda value: isinstance(value, dict) and _are_cosines(value), "classes, and for each pair a cosine or null"
)
POINTS = Kind(lambda value: isinstance(value, dict) and _are_points(value), "as many x, y and labels, if any")
