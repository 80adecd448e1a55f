"""Facts about the rows of a probe set, and the small frames of them that expectations are held against."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    Array = np.ndarray[Any, Any]

FrameName = Literal["rows", "inputs", "columns", "classes", "groups"]
Frame: TypeAlias = "Mapping[str, Sequence[Any] | Array]"

_LONGEST = 60  # of an id or a class, in characters
SPLITS = ("probe", "reference", "ood")


@dataclass(frozen=True)
class Unsuited:
    """A column whose values are of a kind that its role cannot have."""

    column: str
    role: str
    found: str
    expected: str


@dataclass(frozen=True)
class Facts:
    """What is known of n rows before a model is shown any of them.

    Attributes:
        rows: n.
        roles: Column → what it is for: input, label, …, or "" where only an expectation names it.
        values: Column → n values of a column that holds no vectors, None where one is missing; not those of `unsuited`.
        unsuited: Columns of the wrong kind.
        missing: (n,), number of missing values in the input.
        nonfinite: (n,), number of values in the input that are not finite in float32.
        width: (n,), number of values in the input; -1 where texts or pictures have any.
        fingerprints: (n,), int64, equal for equal inputs.
        at_fault: Fact about the input ("missing", …) → the columns of it in which there are such values.
        splits: (n,), what each row is for; None without such a column.
        wanted_width: Number of values that each input must have, None for as many as most have.
    """

    rows: int
    roles: Mapping[str, str]
    values: Mapping[str, Sequence[Any]]
    unsuited: tuple[Unsuited, ...]
    missing: Array
    nonfinite: Array
    width: Array
    fingerprints: Array
    at_fault: Mapping[str, frozenset[str]]
    splits: Sequence[str | None] | None
    wanted_width: int | None = None

    def column(self, role: str) -> str | None:
        """The column with a role, None where there is none."""
        return next((column for column, each in self.roles.items() if each == role), None)

    def identity(self, row: int) -> str | int:
        """The id of a row; its number in the file, from 0, where it has none."""
        ids = self.values.get(self.column("id") or "", ())
        return row if row >= len(ids) or ids[row] is None else str(ids[row])

    def name(self, row: int) -> str:
        """A row as a message calls it."""
        found = self.identity(row)
        return f"number {found}" if isinstance(found, int) else shortened(repr(found))

    @cached_property
    def measured(self) -> Array:
        """(n,), whether a row is one that is measured: neither a reference nor out of distribution."""
        import numpy as np

        if self.splits is None:
            return np.ones(self.rows, dtype=bool)
        return np.array([split not in ("reference", "ood") for split in self.splits], dtype=bool)

    @cached_property
    def copies(self) -> Array:
        """(n,), whether the input of a measured row equals that of an earlier one."""
        import numpy as np

        found = np.zeros(self.rows, dtype=bool)
        whole = np.flatnonzero(self.measured & (self.missing == 0))
        first = np.unique(self.fingerprints[whole], return_index=True)[1]
        found[whole] = True
        found[whole[first]] = False
        return found

    @cached_property
    def leaked(self) -> Array:
        """(n,), whether the input of a measured row is that of a reference row, too."""
        import numpy as np

        if self.splits is None:
            return np.zeros(self.rows, dtype=bool)
        reference = np.array([split == "reference" for split in self.splits], dtype=bool) & (self.missing == 0)
        found: Array = self.measured & (self.missing == 0)
        found &= np.isin(self.fingerprints, self.fingerprints[reference])
        return found

    @cached_property
    def usual_width(self) -> int:
        """Number of values in an input: what is wanted, else what most of them have; 1 where they have none."""
        import numpy as np

        if self.wanted_width is not None:
            return self.wanted_width
        widths, counts = np.unique(self.width[self.missing == 0], return_counts=True)
        return int(widths[counts.argmax()]) or 1 if len(widths) else 1

    def counts(self, role: str) -> dict[str, int]:
        """Class or group → measured rows of it; nothing without such a column."""
        column = self.column(role)
        values = self.values.get(column, ()) if column else ()
        pairs = zip(values, self.measured, strict=False)
        return dict(Counter(value for value, measured in pairs if measured and value is not None))


def shortened(text: str) -> str:
    """A text that may be of any length, for a message."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def frames(facts: Facts) -> dict[FrameName, Frame]:
    """The facts as columns of equal length: one row for each row of the probe set, column, class or group of it."""
    import numpy as np

    classes, groups = facts.counts("label"), facts.counts("group")
    unsuited = {each.column for each in facts.unsuited}
    width = np.where((facts.missing > 0) | (facts.width < 0), facts.usual_width, facts.width)
    total = sum(classes.values())
    return {
        "rows": facts.values,
        "inputs": {
            "missing": facts.missing,
            "nonfinite": facts.nonfinite,
            "width": width,
            "fingerprint": facts.fingerprints,
            **{key: getattr(facts, name).astype(np.int64) for key, name in _FLAGS.items()},
        },
        "columns": {
            "column": list(facts.roles),
            "role": list(facts.roles.values()),
            "unsuited": [int(column in unsuited) for column in facts.roles],
        },
        "classes": {
            "class": list(classes),
            "rows": list(classes.values()),
            "share": [count / total for count in classes.values()],
        },
        "groups": {"group": list(groups), "rows": list(groups.values())},
    }


_FLAGS = {"measured": "measured", "copy": "copies", "leaked": "leaked"}
