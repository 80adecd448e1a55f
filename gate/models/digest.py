"""The digest of a model: what its files hold, as OpenSSF model-signing computes it."""

from __future__ import annotations

import hashlib
import stat
from typing import TYPE_CHECKING

from gate.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

REGISTRY_NOTE = "registered_model_meta"
"""MLflow writes this file into every download: it says where a copy came from and is no part of the model."""


def digest_directory(path: Path) -> str:
    """Digest every file below a folder.

    SHA-256 over the concatenated raw SHA-256 digests of the files, ordered by the components of their
    relative paths ("a/b" before "a-b"). Only `registered_model_meta` at the root is left out.

    Args:
        path: The root folder of the model; may itself be reached through a symbolic link.

    Returns:
        "sha256:" and 64 hex digits.

    Raises:
        ModelError: The folder is missing or empty, or holds a symbolic link, or something that is not a file.
    """
    root = path.resolve()
    if not root.is_dir():
        raise ModelError(f"{path}: this model folder does not exist, so nothing can be digested")
    files = sorted(_files(root), key=lambda file: file.relative_to(root).parts)
    if not files:
        raise ModelError(f"{path}: this model folder holds no file, so there is nothing to digest")
    total = hashlib.sha256()
    for file in files:
        total.update(_sha256(file))
    return f"sha256:{total.hexdigest()}"


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
    for entry in root.rglob("*"):
        mode = entry.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise ModelError(f"{entry}: a symbolic link inside a model cannot be digested; put the file itself there")
        if stat.S_ISREG(mode):
            found.append(entry)
        elif not stat.S_ISDIR(mode):
            raise ModelError(f"{entry}: neither a file nor a folder, so the model cannot be digested; remove it")
    return [file for file in found if file != root / REGISTRY_NOTE]


def _sha256(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
