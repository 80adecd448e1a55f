"""Where a probe set lies: on this machine, or wherever fsspec reaches; passwords in its address are never shown."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from gate.errors import ProbeError

if TYPE_CHECKING:
    from collections.abc import Iterator

_READ_AHEAD = 64 << 10  # beside what was asked for, where a reader has buffers of its own
# What the packages behind fsspec raise besides OSError; looked up where they are loaded.
_OF_PACKAGES = {
    "aiohttp": "ClientError",
    "azure.core.exceptions": "AzureError",
    "botocore.exceptions": "BotoCoreError",
    "gcsfs.retry": "HttpError",
    "google.auth.exceptions": "GoogleAuthError",
}


@dataclass(frozen=True)
class Place:
    """A file or a folder.

    Attributes:
        shown: How messages call it.
        path: As its file system knows it.
        filesystem: Of fsspec; None on this machine.
    """

    shown: str
    path: str
    filesystem: Any = None

    def __str__(self) -> str:
        return self.shown

    @property
    def suffix(self) -> str:
        """Of its name, in lower case, with the dot."""
        return PurePosixPath(urlsplit(self.path).path if self.filesystem else self.path).suffix.lower()

    @property
    def local(self) -> Path | None:
        """Its path on this machine; None elsewhere."""
        return Path(self.path) if self.filesystem is None else None

    def is_folder(self) -> bool:
        """Whether it is one; a web server has files only."""
        if self.filesystem is None:
            return Path(self.path).is_dir()
        return not self.path.startswith(("http://", "https://")) and bool(self.filesystem.isdir(self.path))

    def is_file(self) -> bool:
        """Whether there is such a file."""
        return Path(self.path).is_file() if self.filesystem is None else bool(self.filesystem.isfile(self.path))

    def open(self, *, buffered: bool = False) -> IO[bytes]:
        """The file, to read and to seek in.

        Args:
            buffered: Whether the reader asks for large pieces in any order, so that little is read ahead.
        """
        if self.filesystem is None:
            return Path(self.path).open("rb")
        options = {"block_size": _READ_AHEAD} if buffered else {}
        file: IO[bytes] = self.filesystem.open(self.path, "rb", **options)
        return file if _can_seek(file) else self._copy()

    def child(self, name: str) -> Place:
        """What has this name, or relative path, within the folder."""
        return Place(f"{self.shown.rstrip('/')}/{name}", f"{self.path.rstrip('/')}/{name}", self.filesystem)

    def names(self) -> list[tuple[str, bool]]:
        """Name of everything in the folder, sorted, and whether it is a folder."""
        if self.filesystem is None:
            return sorted((each.name, each.is_dir()) for each in Path(self.path).iterdir())
        found = self.filesystem.ls(self.path, detail=True)
        return sorted((PurePosixPath(each["name"]).name, each["type"] == "directory") for each in found)

    def _copy(self) -> IO[bytes]:
        """The whole file on disk, of a server that only sends whole files."""
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - its reader closes it
        with self.filesystem.open(self.path, "rb", block_size=0) as stream:
            shutil.copyfileobj(stream, copy, 1 << 20)
        copy.seek(0)
        return cast("IO[bytes]", copy)


def find(uri: str) -> Place:
    """The place that a URI or a path names; nothing is opened.

    Args:
        uri: A path, or a URL of fsspec such as s3://bucket/p.parquet; file:// is this machine.

    Raises:
        ProbeError: Nothing here reads such URLs.
    """
    if "://" not in uri:
        return Place(uri, uri)
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    shown = masked(uri)
    try:
        filesystem, path = url_to_fs(uri)
    except ImportError as error:
        raise ProbeError(
            f"{shown}: the package that reads {uri.partition('://')[0]}:// is not installed: {_reason(error)}; install "
            "it with pip beside the gate"
        ) from error
    except failures() as error:
        raise ProbeError(f"{shown}: names no place that can be read: {_reason(error)}; check probe.uri") from error
    return Place(shown, path) if isinstance(filesystem, LocalFileSystem) else Place(shown, path, filesystem)


def masked(text: str) -> str:
    """The text with the user, the password and the query of every URL in it masked: signed URLs hold keys there."""
    without = re.sub(r"//[^/\s]*@", "//***@", text)
    return re.sub(r"(https?://[^\s?'\"]*)\?[^\s'\"]*", r"\1?***", without)


@contextmanager
def readable(shown: str) -> Iterator[None]:
    """Damage and refusals become a ProbeError that names the place; what the caller of a stream raises passes.

    Args:
        shown: The place, as messages call it.
    """
    try:
        yield
    except failures() as error:
        cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
        status = getattr(cause, "status", None)
        if isinstance(cause, PermissionError) or status in (401, 403):
            raise ProbeError(
                f"{shown}: may not be read: {_reason(cause)}; check the rights of this user, or its credentials there"
            ) from error
        if isinstance(cause, FileNotFoundError) or status in (404, 410):
            raise ProbeError(f"{shown}: there is no such file or folder; check probe.uri") from error
        raise ProbeError(f"{shown}: cannot be read: {_reason(cause)}") from error


def failures() -> tuple[type[Exception], ...]:
    """What reading raises where a file is damaged, or a store is down or refuses."""
    import pyarrow as pa

    found: list[type[Exception]] = [pa.ArrowException, zipfile.BadZipFile, EOFError, OSError, ValueError]
    found += [getattr(sys.modules[module], name) for module, name in _OF_PACKAGES.items() if module in sys.modules]
    return tuple(found)


def _can_seek(file: IO[bytes]) -> bool:
    """Whether it may be read from any position: a server that sends whole files alone says so only when it is asked."""
    if not file.seekable():
        file.close()
        return False
    try:
        file.seek(1)
        file.read(1)
        file.seek(0)
    except ValueError:
        file.close()
        return False
    return True


def _reason(error: BaseException) -> str:
    return masked((str(error).strip().splitlines() or [type(error).__name__])[0][:300])
