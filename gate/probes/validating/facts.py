"""Facts about the rows of a probe set, and the small frames of them that expectations are held against."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from gate.probes.validating.strays import Strays

    Array = np.ndarray[Any, Any]

FrameName = Literal["totals", "columns", "widths", "splits", "classes", "groups", "rows"]
Frame: TypeAlias = "Mapping[str, Sequence[Any] | Array]"

_LONGEST = 60  # of an id or a class, in characters


@dataclass(frozen=True)
class Unsuited:
    """A column whose values are of a kind that its role cannot have."""

    column: str
    role: str
    found: str
    expected: str


@dataclass(frozen=True)
class Facts:
    """What is known of n rows before a model is shown any of them; of single rows, only what is wrong with them.

    Attributes:
        rows: n.
        measured: How many of them are neither a reference nor out of distribution.
        inputs: Columns of the input.
        pairs: Columns of its second view.
        roles: Column that names or describes the rows, be it of the input or not → what it is for: label, id, …, or ""
            where only an expectation names it; the first role of several.
        named: Each of `label`, `group`, `length`, … → its column.
        numbers: Column of numbers → length or target.
        unsuited: Columns of the wrong kind.
        strays: Columns of numbers that hold a text in some row.
        places: What is wrong → the numbers of all such rows, ascending. Of the input: `missing`, `nonfinite`, `width`,
            `copy` (of a measured row, equal to that of an earlier one), `leaked` (the same of a reference row),
            `pair width` (of a second view, another than of the first). Of another column, with its name: `missing
            topic`, `nonfinite`, `outside`, `repeated`, `unknown`, `text`.
        at_fault: Fact about the input ("missing", …) → the columns of it, and of its second view, in which there are
            such values.
        counted: `label` or `group` → each of them → measured rows of it; `split` → each → rows.
        widths: Number of values in an input → rows; what is missing, a text or a picture counts as the usual one.
        usual_width: Number of values in an input: what is wanted, else what most of them have; 1 where they have none.
        different: How many different inputs the measured rows have.
        digest: Of every value, as "sha256:…"; equal for the same rows in the same order.
    """

    rows: int
    measured: int
    inputs: tuple[str, ...]
    pairs: tuple[str, ...]
    roles: Mapping[str, str]
    named: Mapping[str, str]
    numbers: Mapping[str, str]
    unsuited: tuple[Unsuited, ...]
    strays: tuple[Strays, ...]
    places: Mapping[str, Array]
    at_fault: Mapping[str, frozenset[str]]
    counted: Mapping[str, Mapping[str, int]]
    widths: Mapping[int, int]
    usual_width: int
    different: int
    digest: str

    @cached_property
    def read(self) -> tuple[str, ...]:
        """The columns with values as their roles have them."""
        return tuple(column for column, role in self.roles.items() if self.is_suited(column, role))

    @property
    def uses(self) -> tuple[tuple[str, str], ...]:
        """Every column, with what it is for; a column that is for several things comes several times."""
        shown = [(column, "input") for column in self.inputs] + [(column, "pair") for column in self.pairs]
        return tuple(dict.fromkeys((*shown, *self.roles.items(), *self.numbers.items())))

    def column(self, role: str) -> str | None:
        """The column with a role, None where there is none."""
        return self.named.get(role)

    def is_suited(self, column: str, role: str) -> bool:
        """Whether the values of a column are of a kind that a role can have."""
        return all((each.column, each.role) != (column, role) for each in self.unsuited)

    def counts(self, role: str) -> Mapping[str, int]:
        """Class or group → measured rows of it, split → rows; nothing without such a column."""
        return self.counted.get(role, {}) if self.column(role) in self.read else {}

    def is_empty(self, column: str) -> bool:
        """Whether a column has no value at all."""
        return self.rows == 0 or len(self.places[f"missing {column}"]) == self.rows


def shortened(text: str) -> str:
    """A text that may be of any length, for a message."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def frames(facts: Facts) -> dict[FrameName, Frame]:
    """The facts as columns of equal length; `totals` is one row: in how many rows of the probe set something is so."""
    classes, groups, splits = (facts.counts(role) for role in ("label", "group", "split"))
    total = sum(classes.values())
    return {
        "totals": {
            "rows": [facts.rows],
            "measured": [facts.measured],
            "different inputs": [facts.different],
            **{name: [len(places)] for name, places in facts.places.items()},
        },
        "columns": {
            "column": [column for column, _ in facts.uses],
            "role": [role for _, role in facts.uses],
            "unsuited": [int(not facts.is_suited(*each)) for each in facts.uses],
        },
        "widths": {"width": list(facts.widths), "rows": list(facts.widths.values())},
        "splits": {"split": list(splits), "rows": list(splits.values())},
        "classes": {
            "class": list(classes),
            "rows": list(classes.values()),
            "share": [count / total for count in classes.values()],
        },
        "groups": {"group": list(groups), "rows": list(groups.values())},
    }
