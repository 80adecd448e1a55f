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
from gate.probes.pictures import are_pictures, texts_of, unreadable
from gate.probes.validating.cells import cells_of, fingerprints_of
from gate.probes.validating.facts import Facts, Unsuited
from gate.probes.validating.strays import StraysAmong
from gate.probes.validating.values import NUMBERS, hashes_of, own_values, repeated, values_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    import pyarrow as pa

    from gate.probes.probe_set import ProbeSet
    from gate.probes.validating.cells import Cells
    from gate.probes.validating.checks import Expectations
    from gate.probes.validating.facts import Array

_TEXT_ROLES = ("id", "label", "group", "cluster", "sublabel", "split", "cue", "pretext")
_COUNTED = ("label", "group", "split")
_ROWS_AT_ONCE = 4096
_PICTURES_AT_ONCE = 64  # files of them, of which one is decoded at a time


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
    named = {role: name for role in (*_TEXT_ROLES, "length") if (name := getattr(columns, role)) is not None}
    numbers = dict.fromkeys(columns.targets, "target")
    if columns.length is not None:
        numbers[columns.length] = "length"
    uses = [(name, role) for role, name in named.items()] + [*numbers.items()]
    uses += [(name, f"task {task!r}") for task, name in columns.tasks.items()]
    uses += [(name, "attribute") for name in columns.attributes] + [(name, "slices by") for name in columns.tags]
    uses += [(name, "") for name in further if name not in columns.all]
    roles: dict[str, str] = {}
    for name, role in uses:
        roles.setdefault(name, role)  # the first of several counts
    reading = _Reading(probe, expected, roles, named, numbers)
    for record in _records(probe, tuple(dict.fromkeys((*columns.all, *roles)))):
        reading.add(record)
    return reading.facts()


def read_values(probe: ProbeSet, facts: Facts, columns: Sequence[str]) -> dict[str, Any]:
    """All values of some columns that hold no vectors, as pandas has them; none of them is unsuited."""
    import pyarrow as pa

    kept: dict[str, list[pa.Array]] = {column: [] for column in columns}
    for record in _records(probe, tuple(columns)) if columns else ():
        for column, parts in kept.items():
            parts.append(record.column(column))
    first = next(probe.table.batches(tuple(columns), 1, frozenset()), None) if columns else None
    if first is None:
        return {column: [] for column in columns}
    kinds = {column: first.column(column).type for column in columns}
    return {
        column: own_values(pa.chunked_array(parts), facts.roles[column], kinds[column]).to_pandas()
        for column, parts in kept.items()
    }


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


def read_paths(probe: ProbeSet, places: Collection[int]) -> dict[int, str]:
    """The names of the files of the pictures of some rows; of the first column of the input that has such."""
    columns = tuple(dict.fromkeys((*probe.columns.inputs, *probe.columns.pairs)))
    start = 0
    found: dict[int, str] = {}
    for record in probe.table.batches(columns, _PICTURES_AT_ONCE, probe.texts) if places else ():
        pictured = [record.column(name) for name in columns if are_pictures(record.column(name).type)]
        if not pictured:
            return {}
        for place in (each for each in places if start <= each < start + record.num_rows):
            paths = [path for column in pictured for path in texts_of(column.slice(place - start, 1), "path") if path]
            found |= {place: paths[0]} if paths else {}
        start += record.num_rows
    return found


def read_broken(probe: ProbeSet) -> dict[str, dict[int, str]]:
    """Column of the input, or of its second view → number of each row whose picture cannot be read → why.

    Raises:
        ProbeError: The file is damaged.
    """
    columns = tuple(dict.fromkeys((*probe.columns.inputs, *probe.columns.pairs)))
    start = 0
    found: dict[str, dict[int, str]] = {}
    for record in probe.table.batches(columns, _PICTURES_AT_ONCE, probe.texts):
        pictured = [name for name in columns if are_pictures(record.column(name).type)]
        if not pictured:
            return {}
        for name in pictured:
            wrong = {start + place: why for place, why in unreadable(record.column(name)).items()}
            found.setdefault(name, {}).update(wrong)
        start += record.num_rows
    return {name: wrong for name, wrong in found.items() if wrong}


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
    named: Mapping[str, str]
    numbers: Mapping[str, str]
    rows: int = 0
    unsuited: dict[tuple[str, str], Unsuited] = field(default_factory=dict)
    at_fault: dict[str, set[str]] = field(default_factory=dict)
    places: dict[str, list[Array]] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    hashes: dict[str, list[Array]] = field(default_factory=dict)
    digests: dict[str, Any] = field(default_factory=dict)
    inputs: list[tuple[Array, Array, Array]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.strays = [StraysAmong(columns) for columns in (self.probe.columns.inputs, self.probe.columns.pairs)]

    def add(self, record: pa.RecordBatch) -> None:
        import numpy as np

        read = dict(self._suited(record))
        split = self.named.get("split", "")
        splits = read.get((split, self.roles.get(split, "")))
        uses = np.zeros(record.num_rows, dtype=np.int8) if splits is None else _uses(splits)
        for (column, role), values in read.items():
            if role == self.roles[column]:
                self._add_values(column, values, uses == 0)
            if role in NUMBERS:
                self._add_numbers(column, values.to_numpy(zero_copy_only=False))
        self._add_inputs(record, uses)
        for among in self.strays:
            among.add(record, self.rows)
        self.rows += record.num_rows

    def _suited(self, record: pa.RecordBatch) -> Iterator[tuple[tuple[str, str], pa.Array]]:
        for column, role in dict.fromkeys((*self.roles.items(), *self.numbers.items())):
            if (column, role) in self.unsuited:
                continue
            values = values_of(record.column(column), role)
            if values is None:
                expected = "numbers" if role in NUMBERS else "texts or numbers"
                self.unsuited[column, role] = Unsuited(column, role, str(record.column(column).type), expected)
            else:
                yield (column, role), values

    def _add_values(self, column: str, values: pa.Array, measured: Array) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        self._note(f"missing {column}", values.is_null().to_numpy(zero_copy_only=False))
        if column == self.named.get("split"):
            strange = pc.and_(values.is_valid(), pc.invert(pc.is_in(values, pa.array(SPLITS))))
            self._note(f"unknown {column}", strange.to_numpy(zero_copy_only=False))
        for role in (each for each in _COUNTED if column == self.named.get(each)):
            counted = values if role == "split" else values.filter(pa.array(measured))
            pairs = pc.value_counts(counted.drop_null()).flatten()
            found = zip(*(each.to_pylist() for each in pairs), strict=True)
            self.counts.setdefault(role, Counter()).update(dict(found))
        hashes = hashes_of(values)
        self._digest(column, hashes)
        if column == self.named.get("id") or column in self.expected.unique:
            self.hashes.setdefault(column, []).append(hashes)

    def _add_numbers(self, column: str, numbers: Array) -> None:
        import numpy as np

        self._note(f"nonfinite {column}", np.isinf(numbers))
        if self.numbers[column] == "length" and self.expected.length is not None:
            low, high = (math.nan if end is None else end for end in self.expected.length)
            self._note(f"outside {column}", (numbers < low) | (numbers > high))

    def _add_inputs(self, record: pa.RecordBatch, uses: Array) -> None:
        import numpy as np

        read = dict(self._cells(record, self.probe.columns.inputs, "input"))
        second = dict(self._cells(record, self.probe.columns.pairs, "pair"))
        either = read | second
        none = np.zeros(record.num_rows, dtype=np.int64)
        missing = sum((cells.missing for cells in either.values()), none)
        nonfinite = sum((cells.nonfinite for cells in either.values()), none)
        widths = [cells.width for cells in read.values()]
        width = np.where(np.any([each < 0 for each in widths], axis=0), -1, sum(widths, none)) if widths else none
        fingerprints = _together([cells.digests for cells in read.values()], self.rows, record.num_rows)
        for fact in (missing, nonfinite, width, fingerprints, *(cells.digests for cells in second.values())):
            self._digest("", fact)
        self._note_second(read, second, missing == 0)
        for column in (each for each in either if each in self.expected.unique and each not in self.roles):
            self._note(f"missing {column}", either[column].missing > 0)
            self.hashes.setdefault(column, []).append(either[column].digests)
        self._note("missing", missing > 0)
        self._note("nonfinite", nonfinite > 0)
        self.inputs.append((width, fingerprints, uses))

    def _cells(self, record: pa.RecordBatch, columns: Sequence[str], role: str) -> Iterator[tuple[str, Cells]]:
        for column in (each for each in columns if (each, role) not in self.unsuited):
            cells = cells_of(record.column(column))
            if cells is None:
                kind = str(record.column(column).type)
                expected = "numbers, lists of numbers, texts or pictures"
                self.unsuited[column, role] = Unsuited(column, role, kind, expected)
            else:
                yield column, cells
                self._note_columns(column, cells)

    def _note_second(self, first: Mapping[str, Cells], second: Mapping[str, Cells], whole: Array) -> None:
        import numpy as np

        views = zip(self.probe.columns.inputs, self.probe.columns.pairs, strict=False)
        both = [(first[one].width, second[two].width) for one, two in views if one in first and two in second]
        if both:
            self._note("pair width", whole & np.any([one != two for one, two in both], axis=0))

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
        unsuited = {each.column for each in self.unsuited.values()}
        hashed = [column for column in self.hashes if column not in unsuited]
        places |= {f"repeated {column}": self._repeated(column, places) for column in hashed}
        empty = np.zeros(0, dtype=np.int64)
        strays = tuple(each for among in self.strays for each in among.found())
        places |= {f"text {each.column}": each.places for each in strays}
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
            inputs=self.probe.columns.inputs,
            pairs=self.probe.columns.pairs,
            roles=self.roles,
            named=self.named,
            numbers=self.numbers,
            unsuited=tuple(self.unsuited.values()),
            strays=strays,
            places=places,
            at_fault={fact: frozenset(columns) for fact, columns in self.at_fault.items()},
            counted=self.counts,
            widths=dict(zip(widths.tolist(), counts.tolist(), strict=True)),
            usual_width=usual,
            different=_different(fingerprints[uses == 0]),
            digest=self._total_digest(),
        )

    def _repeated(self, column: str, places: Mapping[str, Array]) -> Array:
        """Found by hash; a second one tells apart what has the same by chance, apart from inputs, whose are long."""
        import numpy as np

        there = np.delete(np.arange(self.rows), places[f"missing {column}"])
        found: Array = there[repeated(np.concatenate(self.hashes.pop(column))[there])]
        if not len(found) or column not in self.roles:
            return found
        read = (values_of(record.column(column), self.roles[column]) for record in _records(self.probe, (column,)))
        again = np.concatenate([hashes_of(values, second=True) for values in read if values is not None])
        return found[repeated(again[found])]

    def _total_digest(self) -> str:
        columns = {column: digest.hexdigest() for column, digest in self.digests.items()}
        unsuited = [asdict(each) for each in self.unsuited.values()]
        columns_of = self.probe.columns
        roles = [columns_of.inputs, columns_of.pairs, self.roles, self.named, self.numbers]
        content = [self.rows, roles, unsuited, self.probe.shape, columns]
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
