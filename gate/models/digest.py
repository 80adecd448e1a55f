"""The digest of a model: what its files hold, as OpenSSF model-signing computes it."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from gate.errors import ModelError
from gate.models.note import NOTE, require_note

if TYPE_CHECKING:
    from collections.abc import Iterator

Listing: TypeAlias = Mapping[str, str]
"""Every file of a model: its relative path, with slashes → the 64 hex digits of its SHA-256."""


def listed(path: Path) -> dict[str, str]:
    """Digest every file below a folder; only the note of MLflow at the root is left out (gate.models.note).

    Args:
        path: The root folder of the model; may itself be reached through a symbolic link.

    Raises:
        ModelError: The folder is missing or empty, or holds a symbolic link, or something that is not a file, or
            something else in place of the note.
    """
    root = path.resolve()
    if not root.is_dir():
        raise ModelError(f"{path}: this model folder does not exist, so nothing can be digested")
    files = {file.relative_to(root).as_posix(): _sha256(file).hex() for file in _files(root)}
    if not files:
        raise ModelError(f"{path}: this model folder holds no file, so there is nothing to digest")
    return files


def digest_of(listing: Listing) -> str:
    """The digest of a model.

    SHA-256 over the concatenated raw SHA-256 digests of the files, ordered by the components of their
    relative paths ("a/b" before "a-b").

    Returns:
        "sha256:" and 64 hex digits.
    """
    total = hashlib.sha256()
    for name in sorted(listing, key=lambda name: PurePosixPath(name).parts):
        total.update(bytes.fromhex(listing[name]))
    return f"sha256:{total.hexdigest()}"


def digest_of_names(listing: Listing) -> str:
    """A digest over the names as well, which that of model-signing leaves out: a file that is renamed changes it.

    Returns:
        "sha256:" and 64 hex digits.
    """
    written = json.dumps(listing, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(written.encode()).hexdigest()}"


def digest_file(path: Path) -> str:
    """Digest one file.

    Args:
        path: A readable file.

    Returns:
        "sha256:" and 64 hex digits.
    """
    return f"sha256:{_sha256(path).hex()}"


def _files(root: Path) -> list[Path]:
    found = []
    for entry in _entries(root):
        mode = entry.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise ModelError(f"{entry}: a symbolic link inside a model cannot be digested; put the file itself there")
        if stat.S_ISREG(mode):
            found.append(entry)
        elif not stat.S_ISDIR(mode):
            raise ModelError(f"{entry}: neither a file nor a folder, so the model cannot be digested; remove it")
    note = root / NOTE
    if note in found:
        require_note(note)
        found.remove(note)
    return found


def _entries(root: Path) -> Iterator[Path]:
    """All that is below a folder; one that may not be read is no empty one."""

    def refuse(error: OSError) -> NoReturn:
        raise ModelError(f"{error.filename}: this folder of a model cannot be read: {error.strerror}") from error

    for here, folders, names in os.walk(root, onerror=refuse):
        yield from (Path(here, name) for name in (*folders, *names))


def _sha256(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
