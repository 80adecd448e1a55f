"""Folders of pictures, as the imagefolder of Hugging Face has them: with a table of metadata, or with class folders."""

from __future__ import annotations

from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from gate.errors import ProbeError
from gate.probes.files import Csv, JsonLines, Parquet
from gate.probes.places import readable
from gate.probes.streams import rebatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

    from gate.probes.places import Place
    from gate.probes.streams import Table

    Opener = Callable[[Place], Table]

FILE = "file_name"
_LABEL = "label"
_METADATA: dict[str, Opener] = {"metadata.csv": Csv, "metadata.jsonl": JsonLines, "metadata.parquet": Parquet}
_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_MOST_BYTES = 256 << 20  # of one file


def open_folder(place: Place) -> Table:
    """A folder of pictures as a table.

    Args:
        place: With one file metadata.csv, .jsonl or .parquet that has a column `file_name`; or with nothing but class
            folders of pictures, or pictures: then the columns are `file_name` and, of class folders, `label`.

    Raises:
        ProbeError: It is neither.
    """
    found = [name for name in _METADATA if place.child(name).is_file()]
    if len(found) > 1:
        raise ProbeError(f"{place}: holds {' and '.join(found)}, so that either could be meant; leave one of them")
    if not found:
        return _Tree(place)
    table = _METADATA[found[0]](place.child(found[0]))
    if FILE not in table.columns:
        raise ProbeError(
            f"{place.child(found[0])}: has no column {FILE!r} with the path of each picture in the folder; "
            f"there are: {', '.join(table.columns)}"
        )
    return _Listed(place, table)


class _Listed:
    """Pictures in the order of a table of metadata."""

    def __init__(self, place: Place, table: Table) -> None:
        self._place = place
        self._table = table
        self.columns: tuple[str, ...] = table.columns

    def batches(self, names: tuple[str, ...], size: int, text: frozenset[str]) -> Iterator[pa.RecordBatch]:
        """See Table; the column `file_name` holds the pictures, unless it is wanted as text."""
        for batch in self._table.batches(names, size, text | {FILE}):
            yield _with_pictures(self._place, batch) if FILE in names and FILE not in text else batch


class _Tree:
    """Pictures in class folders, or in one folder without classes, sorted by their path."""

    def __init__(self, place: Place) -> None:
        self._place = place
        entries = [(name, folder) for name, folder in place.names() if not name.startswith(".")]
        self._classes = [name for name, folder in entries if folder]
        files = [name for name, folder in entries if not folder]
        if self._classes and files:
            raise ProbeError(
                f"{place}: holds {files[0]!r} beside the class folder {self._classes[0]!r}; put every picture into the "
                "folder of its class, or write metadata.csv with the columns file_name and label"
            )
        if not entries:
            raise ProbeError(f"{place}: is an empty folder, expected pictures")
        if not self._classes:
            self._require_pictures(place, entries)
        self.columns: tuple[str, ...] = (FILE, _LABEL) if self._classes else (FILE,)

    def batches(self, names: tuple[str, ...], size: int, text: frozenset[str]) -> Iterator[pa.RecordBatch]:
        """See Table; the column `file_name` holds the pictures, unless it is wanted as text."""
        for batch in rebatch(self._listed(size), size):
            wanted = batch.select(list(names))
            yield _with_pictures(self._place, wanted) if FILE in names and FILE not in text else wanted

    def _listed(self, size: int) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for label in self._classes or (None,):
            files = self._files(label)
            while piece := list(islice(files, size)):
                columns = {FILE: pa.array(piece, pa.string())}
                labels = {} if label is None else {_LABEL: pa.array([label] * len(piece), pa.string())}
                yield pa.record_batch(columns | labels)

    def _files(self, label: str | None) -> Iterator[str]:
        folder = self._place if label is None else self._place.child(label)
        with readable(folder.shown):
            entries = [(name, inner) for name, inner in folder.names() if not name.startswith(".")]
        self._require_pictures(folder, entries)
        for name, _ in entries:
            yield name if label is None else f"{label}/{name}"

    def _require_pictures(self, folder: Place, entries: list[tuple[str, bool]]) -> None:
        for name, inner in entries:
            if inner or not name.lower().endswith(_ENDINGS):
                raise ProbeError(
                    f"{folder.child(name)}: is {'a folder' if inner else 'no picture by its name'}, expected only "
                    f"pictures there ({', '.join(_ENDINGS)}); move it away, or list the pictures in metadata.csv"
                )


def _with_pictures(place: Place, batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with the file of each picture beside its path; of one that is not there, with the reason."""
    import pyarrow as pa

    paths = batch.column(FILE).cast(pa.string())
    found = [_content(place, path) for path in paths.to_pylist()]
    content = pa.array([None if isinstance(each, str) else each for each in found], pa.large_binary())
    fields = {"bytes": content, "path": paths}
    if content.null_count:
        fields["why"] = pa.array([each if isinstance(each, str) else None for each in found], pa.string())
    column = pa.StructArray.from_arrays(list(fields.values()), names=list(fields))
    columns = {name: column if name == FILE else batch.column(name) for name in batch.schema.names}
    return pa.record_batch(columns)


def _content(place: Place, path: str | None) -> bytes | str:
    """The file, or why there is none.

    Raises:
        ProbeError: The path leads out of the folder, or the file cannot be read.
    """
    if not path:
        raise ProbeError(f"{place}: a row has no {FILE}; every row needs the path of its picture")
    steps = PurePosixPath(path)
    if steps.is_absolute() or ".." in steps.parts or "\\" in path or ":" in path or "\0" in path:
        raise ProbeError(f"{place}: {FILE} {path!r} leads out of the folder; write paths within it, with /")
    file = place.child(path)
    _require_inside(place, file, path)
    if file.local is not None and not file.local.is_file():
        return f"{FILE} {path!r} is not there, or no file; expected a picture"
    with readable(file.shown), file.open() as stream:
        content = stream.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ProbeError(f"{file}: is larger than {_MOST_BYTES} bytes, which no picture for a model is")
    return content


def _require_inside(place: Place, file: Place, path: str) -> None:
    """Links may lead to other pictures of the folder, and nowhere else."""
    if place.local is None or file.local is None:
        return
    if not file.local.resolve().is_relative_to(Path(place.path).resolve()):
        raise ProbeError(f"{place}: {FILE} {path!r} is a link out of the folder; copy the picture into it")
