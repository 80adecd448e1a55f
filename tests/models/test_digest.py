from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from gate.errors import ModelError
from gate.models.digest import digest_file, digest_of, listed

if TYPE_CHECKING:
    from pathlib import Path

# In the order of path components: "a" comes before "a-b", so "a/b" comes before "a-b"; as texts it would be after it.
FILES = {
    ".gitignore": b"*",
    "MLmodel": b"flavors",
    "a/b": b"first",
    "a-b": b"second",
    "data/model.pt2": b"\x00" * 70_000,
}


def digest_directory(path: Path) -> str:
    return digest_of(listed(path))


def _write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_the_digest_is_the_one_that_model_signing_computes(tmp_path: Path) -> None:
    leaves = b"".join(hashlib.sha256(content).digest() for content in FILES.values())
    assert digest_directory(_write(tmp_path, FILES)) == "sha256:" + hashlib.sha256(leaves).hexdigest()


def test_only_the_note_that_mlflow_writes_into_a_download_is_left_out(tmp_path: Path) -> None:
    before = digest_directory(_write(tmp_path, FILES))
    note = b"model_name: encoder\nmodel_version: '1'\n"
    assert digest_directory(_write(tmp_path, {"registered_model_meta": note})) == before
    assert digest_directory(_write(tmp_path, {"data/registered_model_meta": b""})) != before


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_file_counts(tmp_path: Path, name: str) -> None:
    before = digest_directory(_write(tmp_path, FILES))
    assert digest_directory(_write(tmp_path, {name: FILES[name] + b"!"})) != before


def test_a_folder_reached_through_a_link_has_the_digest_of_its_files(tmp_path: Path) -> None:
    root = _write(tmp_path / "model", FILES)
    (tmp_path / "link").symlink_to(root)
    assert digest_directory(tmp_path / "link") == digest_directory(root)


@pytest.mark.parametrize("target", ["MLmodel", "a", "nowhere"])
def test_a_link_inside_a_model_is_refused(tmp_path: Path, target: str) -> None:
    (_write(tmp_path, FILES) / "data" / "link").symlink_to(tmp_path / target)
    with pytest.raises(ModelError, match=r"data/link: a symbolic link inside a model cannot be digested"):
        digest_directory(tmp_path)


def test_what_is_neither_file_nor_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(_write(tmp_path, FILES) / "pipe")
    with pytest.raises(ModelError, match=r"pipe: neither a file nor a folder"):
        digest_directory(tmp_path)


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, {"registered_model_meta": b"model_name: encoder\nmodel_version: '1'\n"})
    with pytest.raises(ModelError, match="holds no file"):
        digest_directory(tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        digest_directory(tmp_path / "nowhere")


def test_the_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"abc")
    assert digest_file(tmp_path / "x.npy") == "sha256:" + hashlib.sha256(b"abc").hexdigest()
