"""Probe sets that lie elsewhere: on object stores, web servers, and wherever fsspec reaches."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from gate.errors import ProbeError
from gate.probes.places import masked
from gate.probes.probe_set import Columns, open_probe
from tests.probes.test_pictures import NAMES, PIXELS, WHOLE, folder, listed, shown
from tests.probes.test_views import digest

ROWS = 300
X = np.random.default_rng(0).normal(size=(ROWS, 2)).astype(np.float32)
COLUMNS = Columns(("a", "b"), label="topic", id="id")
FORMATS = ("parquet", "csv", "jsonl", "npz")


def write(path: Path) -> None:
    """The same rows in every format."""
    data: dict[str, Any] = {
        "a": X[:, 0],
        "b": X[:, 1],
        "topic": np.array([f"0{row % 3}" for row in range(ROWS)]),
        "id": np.array([f"row {row}" for row in range(ROWS)]),
    }
    table = pa.table(data)
    pq.write_table(table, path / "p.parquet", row_group_size=100)
    pyarrow.csv.write_csv(table, path / "p.csv")
    (path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    np.savez_compressed(path / "p.npz", **data)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[str]:
    """The URL of a folder in memory that holds them, and pictures."""
    write(tmp_path)
    folder(tmp_path / "pictures")
    files = fsspec.filesystem("memory")
    files.put(f"{tmp_path}/", "/probes/", recursive=True)
    yield "memory://probes"
    files.store.clear()
    files.pseudo_dirs[:] = [""]


class Quiet(SimpleHTTPRequestHandler):
    """A server of files; of those below /whole it sends no ranges, as the server of Python does not."""

    asked: list[tuple[str, str | None]] = []  # noqa: RUF012 - what tests look at

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.asked.append((self.path, asked))
        if self.path.startswith("/closed"):
            self.send_error(403)
        elif asked is None or self.path.startswith("/whole"):
            self.path = self.path.removeprefix("/whole")
            super().do_GET()
        else:
            self._send_range(asked)

    def do_HEAD(self) -> None:
        if self.path.startswith("/closed"):
            self.send_error(403)
        else:
            self.path = self.path.removeprefix("/whole")
            super().do_HEAD()

    def _send_range(self, asked: str) -> None:
        content = Path(self.translate_path(self.path)).read_bytes()
        start, end = (int(each) if each else len(content) - 1 for each in asked.removeprefix("bytes=").split("-"))
        piece = content[start : end + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(piece)))
        self.send_header("Content-Range", f"bytes {start}-{start + len(piece) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(piece)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    write(tmp_path)
    Quiet.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_the_digest_is_that_of_the_local_file_wherever_a_probe_set_lies(memory: str, tmp_path: Path) -> None:
    found = {digest(str(tmp_path / f"p.{ending}"), columns=COLUMNS) for ending in FORMATS}
    found |= {digest(f"{memory}/p.{ending}", columns=COLUMNS, size=7) for ending in FORMATS}
    found |= {digest(f"file://{tmp_path}/p.{ending}", columns=COLUMNS) for ending in FORMATS}
    assert len(found) == 1


def test_the_uri_of_a_probe_set_is_what_was_asked_for(memory: str) -> None:
    assert open_probe(f"{memory}/p.npz", columns=COLUMNS).uri == f"{memory}/p.npz"


def test_a_folder_of_pictures_may_lie_elsewhere(memory: str, tmp_path: Path) -> None:
    uri = f"{memory}/pictures"
    np.testing.assert_array_equal(shown(open_probe(uri, columns=WHOLE)), PIXELS)
    assert digest(uri, columns=WHOLE) == digest(str(tmp_path / "pictures"), columns=WHOLE)
    listed(tmp_path, NAMES)
    fsspec.filesystem("memory").put(str(tmp_path / "metadata.csv"), "/probes/pictures/metadata.csv")
    assert digest(uri, columns=WHOLE) == digest(str(tmp_path / "pictures"), columns=WHOLE)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("path", ["", "/whole"])
def test_a_web_server_serves_probe_sets_with_and_without_ranges(
    server: str, tmp_path: Path, ending: str, path: str
) -> None:
    found = digest(f"http://{server}{path}/p.{ending}", columns=COLUMNS)
    assert found == digest(str(tmp_path / f"p.{ending}"), columns=COLUMNS)


def test_passwords_and_signatures_reach_the_server_and_no_message(server: str) -> None:
    uri = f"http://me:secret@{server}/p.parquet?signature=hush"
    probe = open_probe(uri, columns=COLUMNS)
    assert len(list(probe.batches(1000))) == 1
    assert probe.uri == f"http://***@{server}/p.parquet?***"
    assert any("signature=hush" in path for path, _ in Quiet.asked)
    messages = []
    for uri in (
        f"http://me:secret@{server}/closed/p.parquet?signature=hush",
        f"http://me:secret@{server}/none.parquet?signature=hush",
        "http://me:secret@127.0.0.1:1/p.parquet?signature=hush",
    ):
        with pytest.raises(ProbeError) as refusal:
            open_probe(uri, columns=COLUMNS)
        messages.append(str(refusal.value))
    with pytest.raises(ProbeError) as refusal:
        open_probe(f"http://me:secret@{server}/p.parquet?signature=hush", columns=Columns("z"))
    messages.append(str(refusal.value))
    assert not [each for each in messages if "secret" in each or "hush" in each]
    assert "may not be read: 403" in messages[0]
    assert "there is no such file or folder; check probe.uri" in messages[1]
    assert "cannot be read: Cannot connect to host" in messages[2]
    assert "there is no column 'z'" in messages[3]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://key:secret@bucket/p.csv", "s3://***@bucket/p.csv"),
        ("sftp://me@host/a@b.csv", "sftp://***@host/a@b.csv"),
        ("http://me:p@ss@host/x y http://a/b?c=d", "http://***@host/x y http://a/b?***"),
        ("s3://bucket/p.csv", "s3://bucket/p.csv"),
        ("probes/p.csv", "probes/p.csv"),
    ],
)
def test_the_user_part_and_the_query_of_urls_are_masked(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("memory://probes/none.parquet", "memory://probes/none.parquet: there is no such file or folder; check"),
        ("memory://probes/none.jsonl", "there is no such file or folder; check"),
        ("memory://probes/none", "the suffix is '', expected one of .parquet"),
        ("memory://probes/p.txt", "the suffix is '.txt', expected one of .parquet"),
        ("file:///none/p.csv", "file:///none/p.csv: there is no such file; check"),
        ("nope://host/p.csv", "nope://host/p.csv: names no place that can be read: Protocol not known: nope; check"),
        ("runs:/1/a.parquet", "is a place of MLflow; fetch its files first"),
    ],
)
def test_a_place_that_holds_no_probe_set_is_refused(memory: str, uri: str, message: str) -> None:
    assert memory
    with pytest.raises(ProbeError, match=message):
        open_probe(uri, columns=COLUMNS)


def test_the_package_that_a_place_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.registry import known_implementations

    known = {"class": "no_such_package.Files", "err": "Please install no-such-package to access it"}
    monkeypatch.setitem(known_implementations, "shelf", known)
    with pytest.raises(
        ProbeError, match=r"reads shelf:// is not installed: Please install no-such-package to access it"
    ):
        open_probe("shelf://me:secret@bucket/p.parquet", columns=COLUMNS)


@pytest.mark.parametrize("ending", FORMATS)
def test_a_remote_file_that_is_cut_off_is_refused(memory: str, ending: str) -> None:
    files = fsspec.filesystem("memory")
    content = files.cat_file(f"/probes/p.{ending}")
    files.pipe_file(f"/probes/q.{ending}", content[: len(content) - 25])
    with pytest.raises(ProbeError, match=f"{memory}/q.{ending}: cannot be read: "):
        digest(f"{memory}/q.{ending}", columns=COLUMNS)


class Closed(MemoryFileSystem):  # type: ignore[misc]  # the package has no types
    """Files that this user may not read."""

    protocol = "closed"

    def _open(self, *_: object, **__: object) -> None:
        raise PermissionError("Forbidden: key SECRET")


def test_a_place_that_may_not_be_read_is_refused_with_what_to_check() -> None:
    fsspec.register_implementation("closed", Closed, clobber=True)
    with pytest.raises(
        ProbeError, match=r"may not be read: Forbidden.*check the rights of this user, or its credentials"
    ):
        open_probe("closed://bucket/p.parquet", columns=COLUMNS)


def test_of_remote_parquet_only_the_columns_that_are_wanted_are_read(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = np.random.default_rng(1).normal(size=(4000, 500))
    table = pa.table({"x": np.arange(4000.0), "rest": list(wide)})
    pq.write_table(table, tmp_path / "wide.parquet", compression="none")
    read = 0

    def counted(file: MemoryFile, size: int = -1) -> bytes:
        nonlocal read
        content = io.BytesIO.read(file, size)
        read += len(content)
        return content

    monkeypatch.setattr(MemoryFile, "read", counted, raising=False)
    fsspec.filesystem("memory").put(str(tmp_path / "wide.parquet"), "/probes/wide.parquet")
    size = (tmp_path / "wide.parquet").stat().st_size
    assert len(list(open_probe(f"{memory}/wide.parquet", columns=Columns("x")).batches(1000))) == 4
    assert 4000 * 8 < read < size / 10
