"""One policy on top of another: keys are added or replaced, every value keeps the place that it was written at.

Mappings are merged key by key at every depth, rules by their ids; waivers are appended, apart from those that are there
already. Anything else, such as a number or another list, is replaced.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from gate.policy.reading import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gate.policy.kinds import Location

OF_THE_CHILD = ("metadata", "extends", "scope", "apiVersion", "kind")


class Place(NamedTuple):
    """Where something is written; line and column count from 1."""

    path: str
    line: int
    column: int


@dataclass(frozen=True)
class Written:
    """Keys with values, and the place of each of them.

    Attributes:
        value: The keys.
        places: Where each key and list item is written; that of the whole is in the policy's own file.
        entries: File that was merged in → number of the entry of `extends` that names it, or what extends it.
    """

    value: dict[str, Any]
    places: Mapping[Location, Place]
    entries: Mapping[str, int] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The policy's own file."""
        return self.places[()].path

    def place(self, location: Location) -> Place:
        """Where a key or list item is written, or the nearest thing around it."""
        return nearest(self.places, location)

    def anchor(self, location: Location) -> Place:
        """The same inside the policy's own file: for another file's words, the rule here, or the entry of `extends`."""
        place = self.place(location)
        if place.path != self.path and location[:1] == ("rules",):
            place = self.places.get(location[:2], place)
        if place.path != self.path:
            place = self.place(("extends", self.entries.get(place.path, 0)))
        return place


def merged(base: Written, child: Written) -> Written:
    """The keys of both; where both have one, the child's counts. Rules are the same when their ids are equal.

    Of the base's own permissions to loosen nothing is handed down.
    """
    onto = _Merge(dict(base.places), child.places)
    for key in OF_THE_CHILD:
        onto.drop((key,))
    value = {key: each for key, each in onto.without_permissions(base.value).items() if key not in OF_THE_CHILD}
    return Written(onto.keys(value, child.value, (), ()), onto.places)


@dataclass(frozen=True)
class _Merge:
    """Places of the result, and those of the child that it takes over."""

    places: dict[Location, Place]
    of_the_child: Mapping[Location, Place]

    def keys(self, base: dict[str, Any], child: dict[str, Any], here: Location, there: Location) -> dict[str, Any]:
        result = dict(base)
        if "override" in child and _may_permit(here):  # its own reason must be given, too
            result.pop("reason", None)
            self.drop((*here, "reason"))
        for key, value in child.items():
            result[key] = self.value(result.get(key), value, (*here, key), (*there, key))
        self.take_place(here, there)
        return result

    def value(self, base: object, child: Any, here: Location, there: Location) -> Any:  # noqa: ANN401 - read from YAML
        if isinstance(base, dict) and isinstance(child, dict):
            return self.keys(base, child, here, there)
        if isinstance(base, list) and isinstance(child, list) and here in (("rules",), ("waivers",)):
            self.take_place(here, there)
            return self.rules(base, child) if here == ("rules",) else self.appended(base, child, here)
        self.graft(here, there)
        return child

    def rules(self, base: list[Any], child: list[Any]) -> list[Any]:
        result = list(base)
        index_of = {rule["id"]: index for index, rule in enumerate(base)}
        for number, rule in enumerate(child):
            name = rule.get("id") if isinstance(rule, dict) else None
            index = index_of.pop(name, None) if isinstance(name, str) else None  # a second one of that id is a fault
            if index is None:
                self.graft(("rules", len(result)), ("rules", number))
                result.append(rule)
            else:
                result[index] = self.keys(result[index], rule, ("rules", index), ("rules", number))
        return result

    def appended(self, base: list[Any], child: list[Any], here: Location) -> list[Any]:
        result = list(base)
        for number, each in enumerate(child):
            if each not in base:
                self.graft((*here, len(result)), (*here, number))
                result.append(each)
        return result

    def without_permissions(self, base: dict[str, Any]) -> dict[str, Any]:
        result = dict(base)
        for key in ("defaults", "baseline"):
            if key in result:
                result[key] = self.unpermitted(result[key], (key,))
        if "expectations" in result.get("probe", {}):
            asked = self.unpermitted(result["probe"]["expectations"], ("probe", "expectations"))
            result["probe"] = {**result["probe"], "expectations": asked}
        if "rules" in result:
            result["rules"] = [self.unpermitted(rule, ("rules", index)) for index, rule in enumerate(result["rules"])]
        return result

    def unpermitted(self, block: dict[str, Any], here: Location) -> dict[str, Any]:
        self.drop((*here, "override"))
        return {key: value for key, value in block.items() if key != "override"}

    def graft(self, here: Location, there: Location) -> None:
        """Takes over the places of a value with all that is in it."""
        self.drop(here)
        below = [location for location in self.of_the_child if location[: len(there)] == there]
        self.places.update({here + location[len(there) :]: self.of_the_child[location] for location in below})

    def take_place(self, here: Location, there: Location) -> None:
        if there in self.of_the_child:
            self.places[here] = self.of_the_child[there]

    def drop(self, here: Location) -> None:
        if here in self.places:
            for location in [location for location in self.places if location[: len(here)] == here]:
                del self.places[location]


def _may_permit(block: Location) -> bool:
    """Whether `override` in this block lets it be looser."""
    blocks = (("defaults",), ("baseline",), ("probe", "expectations"))
    return block in blocks or (block[:1] == ("rules",) and len(block) == 2)


def combined_digest(digests: list[str]) -> str:
    """The digest of one file, or of several, whose order counts."""
    return digests[0] if len(digests) == 1 else f"sha256:{sha256(''.join(digests).encode()).hexdigest()}"
