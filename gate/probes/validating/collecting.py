"""Facts about the rows of a probe set, faults and all: one pass in which nothing is refused.

`ProbeSet.batches` stops at the first fault; whoever is to mend a probe set wants to know of all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gate.probes.validating.cells import cells_of
from gate.probes.validating.facts import Facts, Unsuited

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from gate.probes.probe_set import ProbeSet
    from gate.probes.validating.cells import Cells
    from gate.probes.validating.facts import Array

_TEXT_ROLES = ("id", "label", "group", "cluster", "sublabel", "split")
_ROWS_AT_ONCE = 4096
_MISSING = (None, "", "nan")


def read_facts(probe: ProbeSet, further: Sequence[str] = ()) -> Facts:
    """One pass over the rows, at about 200 bytes a row.

    Args:
        probe: The probe set.
        further: Columns without a role that are of interest, each of them in the file.

    Raises:
        ProbeError: The file is damaged.
    """
    columns = probe.columns
    roles = dict.fromkeys(columns.inputs, "input") | dict.fromkeys(columns.targets, "target")
    roles |= dict.fromkeys(columns.tags, "slices by") | {name: "" for name in further if name not in columns.all}
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
        missing, nonfinite, width, fingerprints = joined
        return Facts(
            rows=self.rows,
            roles=self.roles,
            values={column: self.values.get(column, []) for column in self.roles if self._is_read(column)},
            unsuited=tuple(self.unsuited.values()),
            missing=missing,
            nonfinite=nonfinite,
            width=width,
            fingerprints=fingerprints,
            at_fault={fact: frozenset(columns) for fact, columns in self.at_fault.items()},
            splits=None if split is None or split in self.unsuited else self.values.get(split, []),
            wanted_width=self.wanted_width,
        )

    def _is_read(self, column: str) -> bool:
        return self.roles[column] != "input" and column not in self.unsuited


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
    content = b"".join(each if len(digests) == 1 else hashlib.blake2b(each, digest_size=8).digest() for each in joined)
    return np.frombuffer(content, dtype="<i8").astype(np.int64)
