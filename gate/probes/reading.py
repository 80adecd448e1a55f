"""Files and folders of rows as tables, whatever the format and the place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gate.errors import ProbeError
from gate.probes.arrays import Npy, Npz, Safetensors
from gate.probes.files import Csv, JsonLines, Parquet
from gate.probes.folders import open_folder
from gate.probes.places import Place, find, readable
from gate.probes.streams import Table

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Table", "open_table"]

_FORMATS: dict[str, Callable[[Place], Table]] = {
    ".parquet": Parquet,
    ".csv": Csv,
    ".jsonl": JsonLines,
    ".npz": Npz,
    ".npy": Npy,
    ".safetensors": Safetensors,
}


def open_table(place: Path | Place | str) -> Table:
    """Open a file by its suffix, or a folder of pictures.

    Args:
        place: A .parquet, .csv, .jsonl, .npz, .npy or .safetensors file, or a folder of pictures. The one array of a
            .npy file has the name "features".

    Raises:
        ProbeError: There is no such file, its format is unknown, or it is damaged.
    """
    found = place if isinstance(place, Place) else find(str(place))
    with readable(found.shown):
        reader = _FORMATS.get(found.suffix)
        if (found.local is not None or reader is None) and found.is_folder():
            return open_folder(found)
        if found.local is not None and not found.is_file():
            where = "" if found.local.is_absolute() else f" in the working folder, {Path.cwd()}"
            raise ProbeError(f"{found}: there is no such file{where}; check probe.uri")
        if reader is None:
            raise ProbeError(
                f"{found}: the suffix is {found.suffix!r}, expected one of {', '.join(_FORMATS)}, or a folder "
                "of pictures"
            )
        return reader(found)
