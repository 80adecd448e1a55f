"""Facts about the rows of a probe set, faults and all: one pass in which nothing is refused.

`ProbeSet.batches` stops at the first fault; whoever is to mend a probe set wants to know of all of them. What the first
rows at fault are called is read again once there is a fault.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from gate.probes.columns import SPLITS
from gate.probes.validating.cells import cells_of, fingerprints_of
from gate.probes.validating.facts import Facts, Unsuited
from gate.probes.validating.values import NUMBERS, hashes_of, repeated, values_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    import pyarrow as pa

    from gate.probes.probe_set import ProbeSet
    from gate.probes.validating.cells import Cells
    from gate.probes.validating.checks import Expectations
    from gate.probes.validating.facts import Array

_TEXT_ROLES = ("id", "label", "group", "cluster", "sublabel", "split")
_COUNTED = ("label", "group", "split")
_ROWS_AT_ONCE = 4096


def read_facts(probe: ProbeSet, expected: Expectations, further: Sequence[str] = ()) -> Facts:
    """One pass over the rows, at about 20 bytes a row, and 8 more for each column that must be unique.

    Args:
        probe: The probe set.
        expected: What is asked of it.
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
    reading = _Reading(probe, expected, roles)
    for record in _records(probe, tuple(dict.fromkeys((*columns.all, *roles)))):
        reading.add(record)
    return reading.facts()


def read_values(probe: ProbeSet, facts: Facts, columns: Sequence[str]) -> dict[str, Any]:
    """All values of some columns that hold no vectors, as pandas has them; none of them is unsuited."""
    import pyarrow as pa

    kept: dict[str, list[pa.Array]] = {column: [] for column in columns}
    for record in _records(probe, tuple(columns)) if columns else ():
        for column, parts in kept.items():
            parts.append(values_of(record.column(column), facts.roles[column]))
    return {column: pa.chunked_array(parts).to_pandas() for column, parts in kept.items()}


def read_ids(probe: ProbeSet, facts: Facts, places: Collection[int]) -> dict[int, str]:
    """What some rows are called; nothing of those that have no id."""
    column = facts.column("id")
    if column not in facts.read or not places:
        return {}
    start = 0
    found: dict[int, str | None] = {}
    for record in _records(probe, (column,)):
        here = [place for place in places if start <= place < start + record.num_rows]
        ids = values_of(record.column(column), "id") if here else None
        found |= {} if ids is None else {place: ids[place - start].as_py() for place in here}
        start += record.num_rows
    return {place: name for place, name in found.items() if name is not None}


def read_places(probe: ProbeSet, facts: Facts, role: str, names: Collection[str]) -> Array:
    """The numbers of all measured rows of some classes or groups."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    column, split = str(facts.column(role)), facts.column("split")
    split = split if split in facts.read else None
    found = []
    for record in _records(probe, (column, *([] if split is None else [split]))):
        wanted = pc.is_in(values_of(record.column(column), role), pa.array(names, pa.string()))
        used = 0 if split is None else _uses(values_of(record.column(split), "split"))
        found.append(wanted.to_numpy(zero_copy_only=False) & (np.equal(used, 0)))
    return np.flatnonzero(np.concatenate(found))


def _records(probe: ProbeSet, names: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    return probe.table.batches(names, _ROWS_AT_ONCE, probe.texts)


def _uses(splits: pa.Array | None) -> Array:
    """(b,), 0 where a row is measured, 1 of a reference row, 2 out of distribution."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    places = pc.index_in(splits, pa.array(SPLITS)).fill_null(0)  # what is unknown is measured, and a fault
    return np.asarray(places.to_numpy(zero_copy_only=False), dtype=np.int8)


@dataclass
class _Reading:
    """Facts in the making."""

    probe: ProbeSet
    expected: Expectations
    roles: Mapping[str, str]
    rows: int = 0
    unsuited: dict[str, Unsuited] = field(default_factory=dict)
    at_fault: dict[str, set[str]] = field(default_factory=dict)
    places: dict[str, list[Array]] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    hashes: dict[str, list[Array]] = field(default_factory=dict)
    digests: dict[str, Any] = field(default_factory=dict)
    inputs: list[tuple[Array, Array, Array]] = field(default_factory=list)

    def add(self, record: pa.RecordBatch) -> None:
        import numpy as np

        read = dict(self._suited(record))
        split = next((values for column, values in read.items() if self.roles[column] == "split"), None)
        uses = np.zeros(record.num_rows, dtype=np.int8) if split is None else _uses(split)
        for column, values in read.items():
            self._add_values(column, values, uses == 0)
        self._add_inputs(record, uses)
        self.rows += record.num_rows

    def _suited(self, record: pa.RecordBatch) -> Iterator[tuple[str, pa.Array]]:
        for column, role in self.roles.items():
            if role == "input" or column in self.unsuited:
                continue
            values = values_of(record.column(column), role)
            if values is None:
                expected = "numbers" if role in NUMBERS else "texts or numbers"
                self.unsuited[column] = Unsuited(column, role, str(record.column(column).type), expected)
            else:
                yield column, values

    def _add_values(self, column: str, values: pa.Array, measured: Array) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        role = self.roles[column]
        self._note(f"missing {column}", values.is_null().to_numpy(zero_copy_only=False))
        if role in NUMBERS:
            self._add_numbers(column, values.to_numpy(zero_copy_only=False))
        if role == "split":
            strange = pc.and_(values.is_valid(), pc.invert(pc.is_in(values, pa.array(SPLITS))))
            self._note(f"unknown {column}", strange.to_numpy(zero_copy_only=False))
        if role in _COUNTED:
            counted = values if role == "split" else values.filter(pa.array(measured))
            pairs = pc.value_counts(counted.drop_null()).flatten()
            found = zip(*(each.to_pylist() for each in pairs), strict=True)
            self.counts.setdefault(role, Counter()).update(dict(found))
        hashes = hashes_of(values)
        self._digest(column, hashes)
        if role == "id" or column in self.expected.unique:
            self.hashes.setdefault(column, []).append(hashes)

    def _add_numbers(self, column: str, numbers: Array) -> None:
        import numpy as np

        self._note(f"nonfinite {column}", np.isinf(numbers))
        if self.roles[column] == "length" and self.expected.length is not None:
            low, high = (math.nan if end is None else end for end in self.expected.length)
            self._note(f"outside {column}", (numbers < low) | (numbers > high))

    def _add_inputs(self, record: pa.RecordBatch, uses: Array) -> None:
        import numpy as np

        read: dict[str, Cells] = {}
        for column in (each for each in self.probe.columns.inputs if each not in self.unsuited):
            cells = cells_of(record.column(column))
            if cells is None:
                kind = str(record.column(column).type)
                expected = "numbers, lists of numbers, texts or pictures"
                self.unsuited[column] = Unsuited(column, "input", kind, expected)
            else:
                read[column] = cells
                self._note_columns(column, cells)
        none = np.zeros(record.num_rows, dtype=np.int64)
        missing = sum((cells.missing for cells in read.values()), none)
        nonfinite = sum((cells.nonfinite for cells in read.values()), none)
        widths = [cells.width for cells in read.values()]
        width = np.where(np.any([each < 0 for each in widths], axis=0), -1, sum(widths, none)) if widths else none
        fingerprints = _together([cells.digests for cells in read.values()], self.rows, record.num_rows)
        for fact in (missing, nonfinite, width, fingerprints):
            self._digest("", fact)
        self._note("missing", missing > 0)
        self._note("nonfinite", nonfinite > 0)
        self.inputs.append((width, fingerprints, uses))

    def _note_columns(self, column: str, cells: Cells) -> None:
        for fact, at in (("missing", cells.missing > 0), ("nonfinite", cells.nonfinite > 0)):
            if at.any():
                self.at_fault.setdefault(fact, set()).add(column)

    def _note(self, name: str, at: Array) -> None:
        import numpy as np

        self.places.setdefault(name, []).append(np.flatnonzero(at) + self.rows)

    def _digest(self, column: str, content: Array) -> None:
        self.digests.setdefault(column, hashlib.sha256()).update(content.tobytes())

    def facts(self) -> Facts:
        import numpy as np

        places = {name: np.concatenate(parts) for name, parts in self.places.items()}
        places |= {f"repeated {column}": self._repeated(column, places) for column in tuple(self.hashes)}
        empty = np.zeros(0, dtype=np.int64)
        columns = [np.concatenate(each) for each in zip(*self.inputs, strict=True)] if self.inputs else [empty] * 3
        width, fingerprints, uses = columns
        whole = np.ones(self.rows, dtype=bool)
        whole[places.get("missing", empty)] = False
        usual = _usual(width[whole]) if self.probe.shape is None else math.prod(self.probe.shape)
        width[~whole | (width < 0)] = usual
        widths, counts = np.unique(width, return_counts=True)
        places |= {
            "width": np.flatnonzero(width != usual),
            "copy": _copies(fingerprints, np.flatnonzero(whole & (uses == 0))),
            "leaked": _leaked(fingerprints, np.flatnonzero(whole & (uses == 0)), np.flatnonzero(whole & (uses == 1))),
        }
        return Facts(
            rows=self.rows,
            measured=int(np.count_nonzero(uses == 0)),
            roles=self.roles,
            unsuited=tuple(self.unsuited.values()),
            places=places,
            at_fault={fact: frozenset(columns) for fact, columns in self.at_fault.items()},
            counted=self.counts,
            widths=dict(zip(widths.tolist(), counts.tolist(), strict=True)),
            usual_width=usual,
            different=_different(fingerprints[uses == 0]),
            digest=self._total_digest(),
        )

    def _repeated(self, column: str, places: Mapping[str, Array]) -> Array:
        """Found by hash; a second one tells apart what has the same by chance."""
        import numpy as np

        there = np.delete(np.arange(self.rows), places[f"missing {column}"])
        found: Array = there[repeated(np.concatenate(self.hashes.pop(column))[there])]
        if not len(found):
            return found
        read = (values_of(record.column(column), self.roles[column]) for record in _records(self.probe, (column,)))
        again = np.concatenate([hashes_of(values, second=True) for values in read if values is not None])
        return found[repeated(again[found])]

    def _total_digest(self) -> str:
        columns = {column: digest.hexdigest() for column, digest in self.digests.items()}
        unsuited = [asdict(each) for each in self.unsuited.values()]
        content = [self.rows, self.roles, unsuited, self.probe.shape, columns]
        return f"sha256:{hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()}"


def _usual(widths: Array) -> int:
    """Number of values that most inputs have; 1 where they have none."""
    import numpy as np

    found, counts = np.unique(widths, return_counts=True)
    return int(found[counts.argmax()]) or 1 if len(found) else 1


def _different(fingerprints: Array) -> int:
    """How many of them there are without the copies; they are sorted in place."""
    import numpy as np

    fingerprints.sort()
    return int(np.count_nonzero(fingerprints[1:] != fingerprints[:-1])) + bool(len(fingerprints))


def _copies(fingerprints: Array, among: Array) -> Array:
    """Of some rows, those whose input equals that of an earlier one of them."""
    import numpy as np

    found = among[repeated(fingerprints[among])]
    return np.delete(found, np.unique(fingerprints[found], return_index=True)[1])


def _leaked(fingerprints: Array, among: Array, reference: Array) -> Array:
    """Of some rows, those whose input is that of a reference row, too."""
    import numpy as np

    if not len(reference):
        return reference
    found: Array = among[np.isin(fingerprints[among], fingerprints[reference])]
    return found


def _together(digests: Sequence[Array], start: int, rows: int) -> Array:
    """(b,), int64, for each row, of the digests of all its columns."""
    import numpy as np

    if len(digests) < 2:
        return digests[0] if digests else np.arange(start, start + rows)
    joined = np.stack(digests, axis=1)
    return fingerprints_of(joined.reshape(-1), np.arange(rows + 1) * len(digests))
