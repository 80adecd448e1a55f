"""What a probe set must be before a model is shown it: ready-made packs, bounds of one's own, and a suite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from pydantic import AfterValidator, Field

from gate.policy.kinds import Allowance, AnyNames, Count, Keys, Margin, Permission, Text
from gate.policy.rules import Bounds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from gate.policy.kinds import Location

Pack = Literal["basic", "classification", "retrieval", "leakage"]
Bound = Literal[
    "min_rows",
    "min_classes",
    "min_rows_per_class",
    "max_class_share",
    "min_rows_per_group",
    "max_duplicates",
    "max_leakage",
    "length",
]
Severity = Literal["critical", "warning"]

PACKS: dict[str, dict[str, Any]] = {
    "basic": {"min_rows": 1},
    "classification": {"min_classes": 2, "min_rows_per_class": 5, "max_class_share": 0.9},
    "retrieval": {"min_rows_per_class": 2, "max_duplicates": Margin(1, percent=True)},
    "leakage": {"max_leakage": Margin(0, percent=False)},
}
_ONLY_WARN = ("max_class_share",)  # where a pack asks for it and not the policy
_PORTIONS = ("max_duplicates", "max_leakage")
_KEYS: tuple[str, ...] = get_args(Bound)
_COLUMNS = {
    "min_classes": "label",
    "min_rows_per_class": "label",
    "max_class_share": "label",
    "min_rows_per_group": "group",
    "max_leakage": "split",
    "length": "length",
    "classification": "label",
    "retrieval": "label",
    "leakage": "split",
}  # bound or pack → the key of `probe.columns` that it is about


class Asked(NamedTuple):
    """One bound, and what becomes of a probe set that does not hold it."""

    value: Any
    severity: Severity


class LengthBounds(Bounds):
    """Where the length of every row must lie; both ends are inclusive."""

    some_of: ClassVar[tuple[str, ...]] = ("min", "max")


def _of_rows(allowed: Margin) -> Margin:
    if allowed.percent and allowed.amount > 100:
        raise ValueError(f"should be at most 100%, found {allowed}")
    if not allowed.percent and not allowed.amount.is_integer():
        raise ValueError(f"should be a whole number of rows, or a percentage such as `1%`; found {allowed}")
    return allowed


Portion = Annotated[Allowance, AfterValidator(_of_rows)]


class Expectations(Keys):
    """What a probe set must be; one that is not is refused before anything is measured."""

    packs: tuple[Pack, ...] = ("basic",)
    """Ready-made sets of bounds. `basic` always holds: at least one row, ids that are unique, nothing missing in a
    column that `columns` names, finite numbers, as many values in each input, and not the same input in every row."""
    min_rows: Count | None = None
    """Fewest rows to measure."""
    min_classes: Count | None = None
    """Fewest classes; `classification` has 2."""
    min_rows_per_class: Count | None = None
    """Fewest rows of each class; `classification` has 5, `retrieval` 2."""
    max_class_share: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None
    """Largest share of the rows that one class may have; `classification` has 0.9 and only warns."""
    min_rows_per_group: Count | None = None
    """Fewest rows of each group."""
    unique: AnyNames = ()
    """Columns in which no value comes twice, besides the id."""
    not_null: AnyNames = ()
    """Columns in which no value is missing, besides those that `columns` names."""
    max_duplicates: Portion | None = None
    """Most rows, or share of them, whose input equals that of an earlier row; `retrieval` has `1%`."""
    max_leakage: Portion | None = None
    """Most rows, or share of them, whose input is among the reference rows too; `leakage` has 0."""
    length: LengthBounds | None = None
    """Where the length of every row must lie."""
    suite: Text | None = None
    """A suite of Great Expectations in JSON, of stock expectations about columns that are no vectors; a relative path
    is looked up from the working folder."""
    warn: tuple[Bound, ...] = ()
    """Bounds that only warn."""
    reason: Text | None = None
    """Why it is looser than that of a policy that this one extends; needed with `override`."""
    override: Permission = False
    """Lets it be looser."""

    @property
    def bounds(self) -> dict[str, Asked]:
        """Every bound that holds, of the packs and its own, which goes first."""
        found: dict[str, Asked] = {}
        for pack in dict.fromkeys(("basic", *self.packs)):
            for key, value in PACKS[pack].items():
                if key not in found or value > found[key].value:  # of two packs, of fewest rows
                    found[key] = Asked(value, "warning" if key in _ONLY_WARN else "critical")
        found |= {key: Asked(getattr(self, key), "critical") for key in _KEYS if getattr(self, key) is not None}
        return {key: asked._replace(severity="warning") if key in self.warn else asked for key, asked in found.items()}

    @property
    def written(self) -> dict[str, Any]:
        """The keys that are given, apart from those about loosening, as a file has them."""
        given = self.model_dump(exclude_unset=True, exclude_none=True, exclude={"reason", "override"})
        return {key: _plain(getattr(self, key) if key in _PORTIONS else value) for key, value in given.items()}

    @property
    def resolved(self) -> dict[str, Any]:
        """What `gate.probes.validation.Expectations` is made of."""
        asked = self.bounds
        ends = None if self.length is None else (self.length.min, self.length.max)
        return {
            **{key: bound.value for key, bound in asked.items()},
            "length": ends,
            "packs": tuple(dict.fromkeys(("basic", *self.packs))),
            "unique": self.unique,
            "not_null": self.not_null,
            "suite": self.suite,
            "warn": frozenset(key for key, bound in asked.items() if bound.severity == "warning"),
        }


def _plain(value: object) -> object:
    if isinstance(value, Margin):
        return str(value) if value.percent else int(value.amount)
    return list(value) if isinstance(value, tuple) else value


def expectation_faults(
    expectations: Mapping[str, object], columns: Collection[str] | None
) -> Iterator[tuple[Location, str]]:
    """What is asked of columns that the probe set is not said to have, and warnings about what nobody asks.

    Args:
        expectations: The keys as they are written; whatever is of the wrong kind is left to other checks.
        columns: The keys of `probe.columns` that are given, None where there are none to go by.
    """
    given = [key for key, value in expectations.items() if value is not None]
    packs, warn = (_texts(expectations.get(key)) for key in ("packs", "warn"))
    places: list[tuple[Location, str]] = [(("packs", at), pack) for at, pack in enumerate(packs)]
    for location, name in [*places, *(((key,), key) for key in given)]:
        column = _COLUMNS.get(name)
        if columns is not None and column is not None and column not in columns:
            yield location, f"`{name}` needs `{column}` of the probe set; add `{column}: NAME` to `probe.columns`"
    asked = {*given, *(key for pack in ("basic", *packs) for key in PACKS.get(pack, ()))}
    for at, key in enumerate(warn):
        if key in _KEYS and key not in asked:
            yield (
                ("warn", at),
                f"nothing asks for `{key}`, so nothing can warn; give `{key}`, or remove this",
            )


def _texts(value: object) -> list[str]:
    return [each if isinstance(each, str) else "" for each in value] if isinstance(value, list | tuple) else []
