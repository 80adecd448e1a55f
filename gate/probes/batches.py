"""A batch of rows and its digests, from columns as they are in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gate.errors import ProbeError
from gate.probes import digests, rows
from gate.probes.batch import ProbeBatch
from gate.probes.columns import SPLITS
from gate.probes.views import View, Viewer, kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from gate.inputs import Inputs
    from gate.probes.columns import Columns
    from gate.probes.transforms import Transform

    Texts = tuple[str, ...]


class Digested(NamedTuple):
    """16 bytes a row: of all that has a role, and the same with what the rows are only cut by, empty without it."""

    own: bytes
    with_cuts: bytes


class Reader:
    """Makes batches of record batches.

    Args:
        uri: Of the probe set, for messages.
        columns: Which columns mean what.
        shape: What the input of each row is reshaped to, None for as it is.
        transform: What is done to the pictures of the input, None for nothing.
        keep: Whether the pixels of pictures are wanted.
    """

    def __init__(
        self,
        uri: str,
        columns: Columns,
        shape: tuple[int, ...] | None,
        transform: Transform | None,
        *,
        keep: bool = True,
    ) -> None:
        self._uri = uri
        self._columns = columns
        self._transform = transform
        self._input = Viewer(uri, "input", shape, transform, keep)
        self._pair = Viewer(uri, "pair", shape, transform, keep)

    def batch(self, record: pa.RecordBatch, start: int) -> tuple[ProbeBatch, Digested]:
        """Some rows, and the digests of each.

        Args:
            record: The columns of the rows.
            start: Number of its first row in the probe set.

        Raises:
            ProbeError: A value is missing or is not what its role needs.
        """
        import numpy as np

        columns, ids = self._columns, self._ids(record, start)
        view = self._input.view(record, columns.input, ids)
        pair = self._second_view(record, view, ids)
        targets = [self._numbers(record, "target", name, ids) for name in columns.targets]
        lengths = None if columns.length is None else self._numbers(record, "length", columns.length, ids)
        batch = ProbeBatch(
            inputs=view.inputs,
            ids=ids,
            labels=self._texts(record, "label", ids),
            groups=self._texts(record, "group", ids),
            lengths=lengths,
            fingerprints=digests.fingerprints(view.digests),
            clusters=self._texts(record, "cluster", ids),
            sublabels=self._texts(record, "sublabel", ids),
            targets=np.column_stack(targets) if targets else None,
            tags=self.tags(record, ids),
            pairs=None if pair is None else self._named_like(view.inputs, pair.inputs),
            splits=self._splits(record, ids),
            tasks={task: self._named(record, f"task {task!r}", name, ids) for task, name in columns.tasks.items()},
            attributes={name: self._named(record, "attribute", name, ids) for name in columns.attributes},
            cues=self._texts(record, "cue", ids),
            pretext=self._texts(record, "pretext", ids),
        )
        return batch, self._digested(batch, view, pair)

    def tags(self, record: pa.RecordBatch, ids: Texts | None) -> dict[str, Texts]:
        """The columns that the rows are cut by."""
        return {name: self._named(record, "slices by", name, ids) for name in self._columns.tags}

    def _digested(self, batch: ProbeBatch, view: View, pair: View | None) -> Digested:
        later: dict[str, Any] = {"cluster": batch.clusters, "sublabel": batch.sublabels}
        if batch.targets is not None:
            later |= {f"target{place}": each.tolist() for place, each in enumerate(batch.targets.T)}
        later["pair"] = None if pair is None else digests.split(pair.digests)
        later |= {"split": batch.splits, "cue": batch.cues, "pretext": batch.pretext}
        later |= _by_name("task", batch.tasks) | _by_name("attribute", batch.attributes)
        if self._transform is not None:
            later["transform"] = [self._transform.canonical()] * len(batch.ids)
        own = digests.row_digests(view.digests, batch.labels, batch.groups, batch.lengths, batch.ids, **later)
        cuts = {name: each for name, each in batch.tags.items() if name not in self._columns.named}
        return Digested(own, digests.row_digests(own, **cuts) if cuts else b"")

    def _second_view(self, record: pa.RecordBatch, first: View, ids: Texts) -> View | None:
        if self._columns.pair is None:
            return None
        alone = isinstance(self._columns.input, str)
        second = self._pair.view(record, self._columns.pairs[0] if alone else self._columns.pairs, ids)
        found, expected = kind(second.inputs), kind(first.inputs)
        if found != expected:
            names = ", ".join(map(repr, self._columns.pairs))
            raise ProbeError(
                f"{self._uri}: pair {names} holds {found}, and the input {expected}; both views must be of one kind"
            )
        return second

    def _named_like(self, first: Inputs, second: Inputs) -> Inputs:
        """The second view under the names of the first, by which the model knows its inputs."""
        if isinstance(first, dict) and isinstance(second, dict):
            return dict(zip(first, second.values(), strict=True))
        return second

    def _ids(self, record: pa.RecordBatch, start: int) -> Texts:
        name = self._columns.id
        if name is None:
            return tuple(map(str, range(start, start + record.num_rows)))
        return rows.texts(record.column(name), self._what("id", name), None, start)

    def _splits(self, record: pa.RecordBatch, ids: Texts) -> Texts | None:
        splits = self._texts(record, "split", ids)
        for position, split in enumerate(splits or ()):
            if split not in SPLITS:
                raise ProbeError(
                    f"{self._what('split', str(self._columns.split))}: is {split!r} in "
                    f"{rows.in_row(ids, 0, position)}, expected one of {', '.join(SPLITS)}"
                )
        return splits

    def _texts(self, record: pa.RecordBatch, role: str, ids: Texts) -> Texts | None:
        name = getattr(self._columns, role)
        return None if name is None else self._named(record, role, name, ids)

    def _named(self, record: pa.RecordBatch, role: str, name: str, ids: Texts | None) -> Texts:
        return rows.texts(record.column(name), self._what(role, name), ids, 0)

    def _numbers(self, record: pa.RecordBatch, role: str, name: str, ids: Texts) -> tuple[float, ...]:
        return rows.numbers(record.column(name), self._what(role, name), ids)

    def _what(self, role: str, name: str) -> str:
        return f"{self._uri}: {role} {name!r}"


def _by_name(role: str, columns: Mapping[str, Texts]) -> dict[str, Texts]:
    """Columns with their names beside the values, so that no name can be read as a value."""
    found: dict[str, Texts] = {}
    for place, name in enumerate(sorted(columns)):
        found |= {f"{role}{place}": columns[name], f"{role}{place} name": (name,) * len(columns[name])}
    return found
