"""Facts about the rows of a probe set, faults and all: one pass in which nothing is refused.

`ProbeSet.batches` stops at the first fault; whoever is to mend a probe set wants to know of all of them.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from gate.probes.validating.cells import cells_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import pyarrow as pa

    from gate.probes.validating.cells import Cells
    from gate.probes.probe_set import ProbeSet

    Array = np.ndarray[Any, Any]

FrameName = Literal["rows", "inputs", "columns", "classes", "groups"]
Frame: TypeAlias = "Mapping[str, Sequence[Any] | Array]"

SPLITS = ("probe", "reference", "ood")
_TEXT_ROLES = ("id", "label", "group", "cluster", "sublabel", "split")
_ROWS_AT_ONCE = 4096
_MISSING = (None, "", "nan")


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
        return f"number {found}" if isinstance(found, int) else repr(found)

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
        return self.measured & (self.missing == 0) & np.isin(self.fingerprints, self.fingerprints[reference])

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
        return dict(Counter(value for value, at in zip(values, self.measured, strict=False) if at and value is not None))


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
            "split": [int(role == "split") for role in facts.roles.values()],
        },
        "classes": {
            "class": list(classes),
            "rows": list(classes.values()),
            "share": [count / total for count in classes.values()],
        },
        "groups": {"group": list(groups), "rows": list(groups.values())},
    }


_FLAGS = {"measured": "measured", "copy": "copies", "leaked": "leaked"}


def read_facts(probe: ProbeSet, further: Sequence[str] = ()) -> Facts:
    """One pass over the rows, at about 200 bytes a row.

    Args:
        probe: The probe set.
        further: Columns without a role that are of interest, each of them in the file.

    Raises:
        ProbeError: The file is damaged.
    """
    columns = probe.columns
    roles = {name: "input" for name in columns.inputs} | {name: "target" for name in columns.targets}
    roles |= {name: "slices by" for name in columns.tags} | {name: "" for name in further if name not in columns.all}
    if columns.length:
        roles[columns.length] = "length"
    roles |= {name: role for role in _TEXT_ROLES if (name := getattr(columns, role, None)) is not None}
    reading = _Reading(roles, frozenset(columns.inputs), None if probe.shape is None else math.prod(probe.shape))
    for record in probe.table.batches(tuple(dict.fromkeys((*columns.all, *roles))), _ROWS_AT_ONCE, columns.texts):
        reading.add(record)
    return reading.facts()


@dataclass
class _Reading:
    """Facts in the making."""

    roles: Mapping[str, str]
    inputs: frozenset[str]
    wanted_width: int | None
    rows: int = 0
    values: dict[str, list[Any]] = field(default_factory=dict)
    unsuited: dict[str, Unsuited] = field(default_factory=dict)
    at_fault: dict[str, set[str]] = field(default_factory=dict)
    parts: list[tuple[Array, Array, Array, Array]] = field(default_factory=list)

    def add(self, record: pa.RecordBatch) -> None:
        self.rows += record.num_rows
        for column, role in self.roles.items():
            if role != "input" and column not in self.unsuited:
                self._add_values(column, role, record.column(column))
        self._add_inputs(record)

    def _add_values(self, column: str, role: str, values: pa.Array) -> None:
        found = _numbers(values) if role in ("length", "target") else _texts(values) if role else _plain(values)
        if found is None:
            expected = "numbers" if role in ("length", "target") else "texts or numbers"
            self._refuse(Unsuited(column, role, str(values.type), expected))
        else:
            self.values.setdefault(column, []).extend(found)

    def _add_inputs(self, record: pa.RecordBatch) -> None:
        import numpy as np

        read: dict[str, Cells] = {}
        for column in self.roles:
            if column in self.inputs and column not in self.unsuited:
                cells = cells_of(record.column(column))
                if cells is None:
                    kind = str(record.column(column).type)
                    self._refuse(Unsuited(column, "input", kind, "numbers, lists of numbers, texts or pictures"))
                else:
                    read[column] = cells
                    self._note_faults(column, cells)
        none = np.zeros(record.num_rows, dtype=np.int64)
        widths = [cells.width for cells in read.values()]
        several = np.where(np.any([width < 0 for width in widths], axis=0), -1, sum(widths, none)) if widths else none
        self.parts.append(
            (
                sum((cells.missing for cells in read.values()), none),
                sum((cells.nonfinite for cells in read.values()), none),
                several,
                _fingerprints([cells.digests for cells in read.values()], record.num_rows),
            )
        )

    def _note_faults(self, column: str, cells: Cells) -> None:
        for fact, at in (("missing", cells.missing > 0), ("nonfinite", cells.nonfinite > 0)):
            if at.any():
                self.at_fault.setdefault(fact, set()).add(column)

    def _refuse(self, unsuited: Unsuited) -> None:
        self.unsuited[unsuited.column] = unsuited
        self.values.pop(unsuited.column, None)

    def facts(self) -> Facts:
        import numpy as np

        empty = np.zeros(0, dtype=np.int64)
        joined = [np.concatenate(each) for each in zip(*self.parts, strict=True)] if self.parts else [empty] * 4
        split = next((column for column, role in self.roles.items() if role == "split"), None)
        return Facts(
            self.rows,
            self.roles,
            {column: self.values.get(column, []) for column, role in self.roles.items() if self._is_read(column, role)},
            tuple(self.unsuited.values()),
            *joined,
            at_fault={fact: frozenset(columns) for fact, columns in self.at_fault.items()},
            splits=None if split is None or split in self.unsuited else self.values.get(split, []),
            wanted_width=self.wanted_width,
        )

    def _is_read(self, column: str, role: str) -> bool:
        return role != "input" and column not in self.unsuited


def _texts(column: pa.Array) -> list[str | None] | None:
    import pyarrow as pa

    try:
        values = column.cast(pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    return [None if value in _MISSING else value for value in values]


def _numbers(column: pa.Array) -> list[float | None] | None:
    """Numbers as they are, infinite ones too; NaN is a missing one."""
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        return None
    return [None if value is None or value != value else float(value) for value in column.to_pylist()]  # noqa: PLR0124


def _plain(column: pa.Array) -> list[Any] | None:
    """Values that are no vectors, as Python has them."""
    import pyarrow as pa

    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return None
    return [None if isinstance(value, float) and value != value else value for value in column.to_pylist()]  # noqa: PLR0124


def _fingerprints(digests: Sequence[Sequence[bytes]], rows: int) -> Array:
    """Eight bytes for each row, of the digests of all its columns."""
    import hashlib

    import numpy as np

    if not digests:
        return np.arange(rows)
    joined = digests[0] if len(digests) == 1 else map(b"".join, zip(*digests, strict=True))
    content = b"".join(
        each if len(digests) == 1 else hashlib.blake2b(each, digest_size=8).digest() for each in joined
    )
    return np.frombuffer(content, dtype="<i8").astype(np.int64)
