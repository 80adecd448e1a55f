"""JSON lines, tensors and what a reader of CSV must not guess."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from gate.errors import ProbeError
from gate.probes.places import Place
from gate.probes.probe_set import Columns, open_probe
from tests.probes.test_views import batch, digest

ROWS: list[dict[str, Any]] = [
    {"x": [[0.5, 1.5], [2.5, 3.0]], "topic": "007", "tokens": 3, "id": "p"},
    {"x": [[4.5, 5.0], [6.0, 7.0]], "topic": "2024-01-31", "tokens": 4, "id": "q"},
    {"x": [[8.0, 9.0], [1.0, 2.0]], "topic": "a", "tokens": 5, "id": "r"},
]
COLUMNS = Columns("x", label="topic", length="tokens", id="id")


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_the_same_rows_have_one_digest_as_json_lines_parquet_npz_and_tensors(tmp_path: Path) -> None:
    x = np.array([row["x"] for row in ROWS], np.float32)
    texts: dict[str, Any] = {name: np.array([row[name] for row in ROWS]) for name in ("topic", "tokens", "id")}
    np.savez(tmp_path / "a.npz", x=x, **texts)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    whole = [lines(tmp_path / "a.jsonl", ROWS), str(tmp_path / "a.npz"), str(tmp_path / "a.parquet")]
    assert len({digest(uri, columns=COLUMNS) for uri in whole}) == 1
    save_file({"x": x, "tokens": texts["tokens"]}, tmp_path / "a.safetensors")
    some = [*whole, str(tmp_path / "a.safetensors")]
    assert len({digest(uri, columns=Columns("x", length="tokens"), size=size) for size, uri in enumerate(some, 1)}) == 1


def test_a_text_of_json_that_looks_like_a_date_is_what_is_written_there(tmp_path: Path) -> None:
    uri = lines(tmp_path / "a.jsonl", [{"x": "2024-01-31", "y": ["2024-01-31"]}, {"x": "2024-02-01", "y": ["b"]}])
    assert batch(uri, columns=Columns("x", label="x")).inputs == ("2024-01-31", "2024-02-01")
    assert batch(uri, columns=Columns("x", label="x")).labels == ("2024-01-31", "2024-02-01")


def test_a_text_of_csv_that_looks_like_a_date_is_what_is_written_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('x\n2024-01-31\n2024-02-01\n"a\nb"\n')
    assert batch(str(tmp_path / "a.csv"), columns=Columns("x")).inputs == ("2024-01-31", "2024-02-01", "a\nb")


def test_a_field_that_a_line_leaves_out_is_missing(tmp_path: Path) -> None:
    uri = lines(tmp_path / "a.jsonl", [ROWS[0], {key: value for key, value in ROWS[1].items() if key != "topic"}])
    with pytest.raises(ProbeError, match="label 'topic': is missing in row 'q'"):
        batch(uri, columns=COLUMNS)
    uri = lines(tmp_path / "b.jsonl", [ROWS[0], {"id": "q", "topic": "a", "tokens": 1}])
    with pytest.raises(ProbeError, match="input 'x': is missing in row 'q'"):
        batch(uri, columns=COLUMNS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "cannot be read: Empty JSON"),
        ("a.jsonl", b"[1, 2]\n", "cannot be read: JSON parse error"),
        ("a.jsonl", b'{"x": 1}\n{"x":', "cannot be read: JSON parse error"),
        ("a.jsonl", b'{"x": 1}\n{"x": "a"}\n', "changed from number to string in row 1"),
        ("a.jsonl", b'{"x": 1, "x": 2}\n', "was specified twice in row 0"),
        ("a.jsonl", b'{"x": "\xff"}\n', "input 'x': holds bytes that are no UTF-8"),
        ("a.csv", b"x,y\n1,a\n2\n", "cannot be read: CSV parse error: .*Expected 2 columns, got 1: 2"),
        ("a.csv", b"x,y\n1,a\n2,b,c\n", "cannot be read: CSV parse error: .*Expected 2 columns, got 3"),
        ("a.csv", b"x\n\xff\n", "cannot be read: .*invalid UTF8"),
        ("a.safetensors", b"\xff" * 40, "cannot be read: .*; write the file again"),
        ("a.npz", b"PK\x03\x04 and no more", "cannot be read: File is not a zip file"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ProbeError, match=message):
        batch(str(tmp_path / name), columns=Columns("x"))


def test_a_line_of_json_that_changes_a_type_beyond_the_first_block_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("w") as file:
        file.writelines('{"x": 1, "y": "' + "a" * 1000 + '"}\n' for _ in range(20_000))
        file.write('{"x": 1.5}\n')
    with pytest.raises(ProbeError, match=r"cannot be read: .*1\.5"):
        list(open_probe(str(path), columns=Columns("x")).batches(1000))


def test_tensors_that_are_no_rows_of_numbers_are_refused(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file as save_tensors

    path = str(tmp_path / "a.safetensors")
    save_tensors({"half": torch.ones(3, 2, dtype=torch.bfloat16), "one": torch.tensor(1.0)}, path)
    with pytest.raises(ProbeError, match=r"tensor 'half': has the type BF16, .*; save it as float32"):
        batch(path, columns=Columns("half"))
    with pytest.raises(ProbeError, match="tensor 'one': has no dimension, expected rows first"):
        batch(path, columns=Columns("one"))


def test_the_package_that_reads_tensors_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    (tmp_path / "a.safetensors").write_bytes(b"")
    with pytest.raises(ProbeError, match="is not installed: pip install safetensors"):
        open_probe(str(tmp_path / "a.safetensors"), columns=Columns("x"))


def test_an_array_of_negative_size_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((3, 2)))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content.replace(b"(3, 2), }", b"(3, -2),}"))
    with pytest.raises(ProbeError, match=r"has shape \(3, -2\) in C order, expected rows first"):
        batch(str(tmp_path / "a.npy"), columns=Columns("features"))


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_an_array_that_declares_more_than_the_file_holds_is_refused(tmp_path: Path, kind: str) -> None:
    file = io.BytesIO()
    np.save(file, np.ones((2, 5)))
    content = file.getvalue().replace(b"(2, 5), }" + b" " * 12, b"(2, 1000000000000), }")
    assert len(content) == len(file.getvalue())
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.write(tmp_path / "a.npy", "features.npy")
    message = (
        r"declares the shape \(2, 1000000000000\) of float64, which is 16000000000000 bytes, and holds 80: the file is "
        "cut off, or its header is wrong; write it again"
    )
    with pytest.raises(ProbeError, match=message):
        batch(str(tmp_path / f"a.{kind}"), columns=Columns("features"))


def test_a_key_that_is_twice_in_the_header_of_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensor = '"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    header = f"{{{tensor}, {tensor}}}"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + b"\0" * 4)
    with pytest.raises(ProbeError, match="the header gives 'x' twice, so that either could be meant; write the file"):
        batch(str(path), columns=Columns("x"))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_file_of_this_machine_is_read_without_python(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A thread of the reader that waits for Python while it ends takes the exit code with it.
    path = tmp_path / name
    path.write_text("x\n1\n2\n" if name == "a.csv" else '{"x": 1}\n{"x": 2}\n', encoding="utf-8")
    monkeypatch.setattr(Place, "open", lambda *_, **__: pytest.fail("read through Python"))
    np.testing.assert_array_equal(cast("Any", batch(str(path), columns=Columns("x")).inputs), [[1], [2]])
