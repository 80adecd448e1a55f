"""What a batch of rows shows the model: numbers, texts, pictures, or several of these by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gate.errors import ProbeError
from gate.probes import digests, pictures, rows

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from gate.inputs import Inputs
    from gate.probes.transforms import Transform

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class View:
    """What a batch shows, and the digest of each row of it.

    Attributes:
        inputs: Of b rows.
        digests: 16 b bytes.
    """

    inputs: Inputs
    digests: bytes


@dataclass(frozen=True)
class Viewer:
    """Makes what the model is shown from columns.

    Attributes:
        uri: Of the probe set, for messages.
        role: For messages: input or pair.
        shape: What a row of numbers is reshaped to; None leaves it as the file has it.
        transform: What is done to pictures; None leaves them as they are.
        keep: Whether the pixels of pictures are wanted; without, each is read and let go, and there are none.
    """

    uri: str
    role: str
    shape: tuple[int, ...] | None
    transform: Transform | None
    keep: bool = True

    def view(self, record: pa.RecordBatch, name: str | Sequence[str], ids: Sequence[str]) -> View:
        """What some columns show: one by itself, several numbers as one row, others by name.

        Args:
            record: b rows.
            name: Of one column, or of several.
            ids: Of the b rows.

        Raises:
            ProbeError: A value is missing or is nothing that a model can be shown.
        """
        if isinstance(name, str):
            return self._one(record.column(name), self._what(name), ids, alone=True)
        columns = {each: record.column(each) for each in name}
        if all(rows.is_number(column.type) for column in columns.values()):
            import numpy as np

            stacked = np.column_stack([rows.dense(each, self._what(key), ids) for key, each in columns.items()])
            return self._array(stacked, self._what(", ".join(name)), ids, alone=True)
        self._require_fit(columns)
        views = {key: self._one(column, self._what(key), ids, alone=False) for key, column in columns.items()}
        kinds = {key: (_shape(each.inputs), each.digests) for key, each in views.items()}
        return View({key: each.inputs for key, each in views.items()}, digests.named_digests(kinds))

    def _require_fit(self, columns: Mapping[str, pa.Array]) -> None:
        names = ", ".join(map(repr, columns))
        if self.shape is not None:
            raise ProbeError(
                f"{self.uri}: {self.role} {names}: is shown by name, and probe.shape is for one row of numbers; leave "
                "the shape out, and store each column in its own"
            )
        if self.transform is not None and not any(pictures.are_pictures(each.type) for each in columns.values()):
            raise ProbeError(f"{self.uri}: {self.role} {names}: holds no pictures for probe.transform; leave it out")

    def _one(self, column: pa.Array, what: str, ids: Sequence[str], *, alone: bool) -> View:
        column = rows.decoded(column)
        if pictures.are_pictures(column.type):
            return self._pictures(column, what, ids)
        if rows.are_texts(column.type):
            return self._texts(rows.written(column, what, ids), what, alone=alone)
        return self._array(rows.dense(column, what, ids), what, ids, alone=alone)

    def _pictures(self, column: pa.Array, what: str, ids: Sequence[str]) -> View:
        files = pictures.files(column, what, ids)
        self._require_no_shape(what, "pictures")
        hashed = digests.picture_digests(files)
        places = [f"{what} of {row}" for row in pictures.called(column, ids)]
        if self.transform is not None:
            return View(self.transform.of_files(files, places, keep=self.keep), hashed)
        return View(tuple(map(self._pixels, files, places)), hashed)

    def _pixels(self, file: bytes, where: str) -> Array:
        """Of one picture; none of it where they are not wanted, once it was found that it can be read."""
        found = pictures.pixels(file, where)
        return found if self.keep else found[:0, :0].copy()

    def _texts(self, texts: tuple[str, ...], what: str, *, alone: bool) -> View:
        self._require_no_shape(what, "texts")
        if self.transform is not None and alone:
            raise ProbeError(f"{what}: holds texts, and probe.transform is for pictures; leave it out")
        return View(texts, digests.text_digests(texts))

    def _require_no_shape(self, what: str, kind: str) -> None:
        if self.shape is not None:
            raise ProbeError(f"{what}: holds {kind}, and probe.shape is for rows of numbers; leave the shape out")

    def _array(self, values: Array, what: str, ids: Sequence[str], *, alone: bool) -> View:
        shaped = self._shaped(values, alone=alone)
        numbers = rows.canonical(shaped)
        hashed = digests.array_digests(numbers)
        if self.transform is None or not alone:
            return View(numbers, hashed)
        # What a transform makes of numbers depends on how they stand, which their own digest leaves out.
        kinds = {"": (_shape(numbers), hashed)}
        return View(self.transform.of_arrays(shaped, what, ids), digests.named_digests(kinds))

    def _shaped(self, values: Array, *, alone: bool) -> Array:
        width = math.prod(values.shape[1:])
        if not width:
            raise ProbeError(
                f"{self.uri}: the {self.role} of a row has shape {values.shape[1:]}, expected at least one value"
            )
        if self.shape is None or not alone:
            # A single number column is one feature; under its own name it stays a column of a table.
            return values[:, None] if alone and values.ndim == 1 else values
        if width != math.prod(self.shape):
            raise ProbeError(
                f"{self.uri}: the {self.role} of a row holds {width} values, and the shape {self.shape} needs "
                f"{math.prod(self.shape)}; check probe.shape and columns.{self.role}"
            )
        return values.reshape(len(values), *self.shape)

    def _what(self, name: str) -> str:
        return f"{self.uri}: {self.role} {name!r}"


def row_shape(inputs: Inputs) -> object:
    """What must be equal in all rows: the shape of a row of numbers, also below each name."""
    if isinstance(inputs, Mapping):
        return {name: row_shape(each) for name, each in inputs.items()}
    return None if isinstance(inputs, tuple) else inputs.shape[1:]


def kind(inputs: Inputs) -> str:
    """What a view must share with its second one: texts, pictures, or the type and shape of a row of numbers."""
    if isinstance(inputs, Mapping):
        return ", ".join(kind(each) for each in inputs.values())
    if isinstance(inputs, tuple):
        return "texts" if isinstance(inputs[0], str) else "pictures"
    return f"{inputs.dtype} of shape {inputs.shape[1:]}"


def _shape(inputs: Inputs) -> str:
    return "" if isinstance(inputs, tuple | Mapping) else str(inputs.shape[1:])
