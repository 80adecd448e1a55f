"""One policy on top of another: keys are added or replaced, every value keeps the place that it was written at."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gate.policy.kinds import Location

_BY_KEY = ("layers", "defaults", "run", "baseline", "probe", "reads")
_WITHIN_A_RULE = ("relative", "slices", "params")
_OF_THE_CHILD = ("metadata", "extends", "scope", "apiVersion", "kind")
_ABOUT_LOOSENING = ("override", "reason")


class Place(NamedTuple):
    """Where something is written; line and column count from 1."""

    path: str
    line: int
    column: int


@dataclass(frozen=True)
class Written:
    """Keys with values, and the place of each of them."""

    value: dict[str, Any]
    places: Mapping[Location, Place]


def merged(base: Written, child: Written) -> Written:
    """The keys of both; where both have one, the child's counts. Rules are the same when their ids are equal.

    Of the base's own permissions to loosen nothing is handed down.
    """
    result, places = dict(base.value), dict(base.places)
    for key in _OF_THE_CHILD:
        result.pop(key, None)
        _drop(places, (key,))
    for key, value in child.value.items():
        if key in _BY_KEY and isinstance(value, dict) and isinstance(result.get(key), dict):
            kept = {name: each for name, each in result[key].items() if name not in _ABOUT_LOOSENING}
            result[key] = kept | value
            for name in value:
                _graft(places, (key, name), child, (key, name))
            _place(places, (key,), child, (key,))
        elif key == "rules" and isinstance(value, list) and isinstance(result.get(key), list):
            result[key] = _rules(result[key], value, places, child)
        elif key == "waivers" and isinstance(value, list) and isinstance(result.get(key), list):
            for index in range(len(value)):
                _graft(places, (key, len(result[key]) + index), child, (key, index))
            result[key] = [*result[key], *value]
        else:
            result[key] = value
            _graft(places, (key,), child, (key,))
    places[()] = child.places.get((), places[()])
    return Written(result, places)


def _rules(base: list[Any], child: list[Any], places: dict[Location, Place], source: Written) -> list[Any]:
    result = list(base)
    index_of = {rule["id"]: index for index, rule in enumerate(base) if isinstance(rule, dict) and "id" in rule}
    for number, rule in enumerate(child):
        name = rule.get("id") if isinstance(rule, dict) else None
        index = index_of.get(name) if isinstance(name, str) else None
        if index is None:
            _graft(places, ("rules", len(result)), source, ("rules", number))
            result.append(rule)
            continue
        result[index] = _rule(result[index], rule, places, (source, index, number))
    return result


def _rule(
    base: dict[str, Any], child: dict[str, Any], places: dict[Location, Place], at: tuple[Written, int, int]
) -> dict[str, Any]:
    source, index, number = at
    result = {key: value for key, value in base.items() if key not in _ABOUT_LOOSENING}
    for key, value in child.items():
        here, there = ("rules", index, key), ("rules", number, key)
        if key in _WITHIN_A_RULE and isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = result[key] | value
            for name in value:
                _graft(places, (*here, name), source, (*there, name))
            _place(places, here, source, there)
        else:
            result[key] = value
            _graft(places, here, source, there)
    _place(places, ("rules", index), source, ("rules", number))
    return result


def _graft(places: dict[Location, Place], here: Location, source: Written, there: Location) -> None:
    """Takes over the places of a value with all that is in it."""
    _drop(places, here)
    places.update({here + location[len(there) :]: place for location, place in _below(source.places, there)})


def _place(places: dict[Location, Place], here: Location, source: Written, there: Location) -> None:
    if there in source.places:
        places[here] = source.places[there]


def _drop(places: dict[Location, Place], here: Location) -> None:
    for location in [location for location, _ in _below(places, here)]:
        del places[location]


def _below(places: Mapping[Location, Place], top: Location) -> Iterator[tuple[Location, Place]]:
    return ((location, place) for location, place in places.items() if location[: len(top)] == top)


def combined_digest(digests: list[str]) -> str:
    """The digest of one file, or of several, whose order counts."""
    return digests[0] if len(digests) == 1 else f"sha256:{sha256(''.join(digests).encode()).hexdigest()}"
