from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from gate.errors import ProbeError
from gate.probes.probe_set import Columns, ProbeSet, open_probe

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 23
FORMER = Columns(input="x", label="topic", group="site", length="tokens", id="name")
ALL = replace(FORMER, cluster="patient", sublabel="kind", target=("dose", "score"))
WIDE = replace(ALL, input=("x0", "x1"))


def table(rows: int = ROWS) -> dict[str, Any]:
    x = np.random.default_rng(0).normal(size=(rows, 2)).astype(np.float32)
    return {
        "x": x,
        "x0": x[:, 0].copy(),
        "x1": x[:, 1].copy(),
        "topic": np.array([f"0{row % 3}" for row in range(rows)]),
        "site": np.array([f"site {row % 2}" for row in range(rows)]),
        "tokens": np.arange(rows),
        "name": np.array([f"row-{row}" for row in range(rows)]),
        "patient": np.arange(rows) // 4,
        "kind": np.array([f"0{row % 6}" for row in range(rows)]),
        "dose": np.arange(rows) % 5,
        "score": np.arange(rows) / 8,
    }


def arrow(data: dict[str, Any]) -> pa.Table:
    return pa.table({name: list(value) if value.ndim > 1 else value for name, value in data.items()})


def write_parquet(path: Path, data: dict[str, Any], **options: Any) -> str:
    pq.write_table(data if isinstance(data, pa.Table) else arrow(data), path, **options)
    return str(path)


def write_csv(path: Path, data: dict[str, Any]) -> str:
    pyarrow.csv.write_csv(arrow({name: value for name, value in data.items() if value.ndim == 1}), path)
    return str(path)


def write_npz(path: Path, data: dict[str, Any]) -> str:
    np.savez_compressed(path, **data)
    return str(path)


def probe_of(
    path: Path, data: dict[str, Any], columns: Columns = ALL, shape: tuple[int, ...] | None = None
) -> ProbeSet:
    writer = {".parquet": write_parquet, ".csv": write_csv, ".npz": write_npz}[path.suffix]
    return open_probe(writer(path, data), columns=columns, shape=shape)


def read(probe: ProbeSet, size: int = 7) -> list[Any]:
    return list(probe.batches(size))


def digest(probe: ProbeSet, size: int = 7) -> str:
    read(probe, size)
    return probe.digest


@pytest.mark.parametrize(
    ("name", "columns"), [("p.parquet", ALL), ("p.parquet", WIDE), ("p.csv", WIDE), ("p.npz", ALL), ("p.npz", WIDE)]
)
def test_rows_come_as_they_are_in_the_file(tmp_path: Path, name: str, columns: Columns) -> None:
    data = table()
    probe = probe_of(tmp_path / name, data, columns)
    batches = read(probe)
    assert [len(batch.ids) for batch in batches] == [7, 7, 7, 2]
    np.testing.assert_array_equal(np.concatenate([batch.inputs for batch in batches]), data["x"])
    assert batches[0].inputs.dtype == np.float32
    assert [name for batch in batches for name in batch.ids] == data["name"].tolist()
    assert [label for batch in batches for label in batch.labels] == data["topic"].tolist()
    assert [group for batch in batches for group in batch.groups] == data["site"].tolist()
    assert [length for batch in batches for length in batch.lengths] == data["tokens"].tolist()
    assert [cluster for batch in batches for cluster in batch.clusters] == [str(row // 4) for row in range(ROWS)]
    assert [sublabel for batch in batches for sublabel in batch.sublabels] == data["kind"].tolist()
    targets = np.concatenate([batch.targets for batch in batches])
    assert targets.dtype == np.float64
    np.testing.assert_allclose(targets, np.column_stack([data["dose"], data["score"]]), rtol=1e-6)
    assert probe.rows == ROWS


def test_the_digest_does_not_depend_on_format_batches_row_groups_compression_or_order(tmp_path: Path) -> None:
    data = table()
    order = np.random.default_rng(1).permutation(ROWS)
    shuffled = {name: value[order] for name, value in data.items()}
    fixed = arrow(data).set_column(0, "x", pa.FixedSizeListArray.from_arrays(pa.array(data["x"].reshape(-1)), 2))
    probes = [
        probe_of(tmp_path / "a.parquet", data),
        probe_of(tmp_path / "b.parquet", data, WIDE),
        probe_of(tmp_path / "c.csv", data, WIDE),
        probe_of(tmp_path / "d.npz", data),
        probe_of(tmp_path / "e.npz", shuffled),
        open_probe(write_parquet(tmp_path / "f.parquet", data, row_group_size=4, compression="zstd"), columns=ALL),
        open_probe(write_parquet(tmp_path / "g.parquet", fixed), columns=ALL),
        probe_of(tmp_path / "h.parquet", data, shape=(1, 2, 1)),
    ]
    digests = {digest(probe, size) for probe, size in zip(probes, (1, 3, 7, 8, 22, 23, 24, 99), strict=True)}
    assert len(digests) == 1
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", digests.pop())


@pytest.mark.parametrize("name", ["x", "topic", "site", "tokens", "name", "patient", "kind", "dose", "score"])
@pytest.mark.parametrize("row", [0, ROWS - 1])
def test_the_digest_depends_on_every_value_of_every_row(tmp_path: Path, name: str, row: int) -> None:
    data, changed = table(), table()
    changed[name] = changed[name].copy()
    changed[name][row] = {"topic": "9", "site": "z", "name": "z", "kind": "9"}.get(name, -1)
    assert digest(probe_of(tmp_path / "a.npz", data)) != digest(probe_of(tmp_path / "b.npz", changed))


def test_the_digest_depends_on_the_number_of_rows_and_on_which_columns_are_read(tmp_path: Path) -> None:
    probes = [
        probe_of(tmp_path / "a.npz", table()),
        probe_of(tmp_path / "b.npz", {name: value[:-1] for name, value in table().items()}),
        probe_of(tmp_path / "c.npz", table(), Columns(input="x", id="name")),
        probe_of(tmp_path / "d.npz", table(), Columns(input="x", label="name", id="name")),
        probe_of(tmp_path / "e.npz", table(), Columns(input="x", group="name", id="name")),
        probe_of(tmp_path / "f.npz", table() | {"x": table()["x"].astype(np.int64)}),
        probe_of(tmp_path / "g.npz", table(), Columns(input="x", cluster="name", id="name")),
        probe_of(tmp_path / "h.npz", table(), Columns(input="x", sublabel="name", id="name")),
        probe_of(tmp_path / "i.npz", table(), Columns(input="x", target="dose", id="name")),
        probe_of(tmp_path / "j.npz", table(), Columns(input="x", target=("dose", "score"), id="name")),
        probe_of(tmp_path / "k.npz", table(), Columns(input="x", target=("score", "dose"), id="name")),
    ]
    assert len({digest(probe) for probe in probes}) == len(probes)


def test_a_digest_that_was_pinned_before_there_were_clusters_still_holds(tmp_path: Path) -> None:
    whole = {"x": np.arange(6).reshape(3, 2), "topic": np.array(["a", "b", "a"]), "site": np.array(["s", "t", "s"])}
    probe = probe_of(
        tmp_path / "a.npz", whole | {"tokens": np.arange(3), "name": np.array(["p", "q", "r"])}, columns=FORMER
    )
    assert digest(probe) == "sha256:b70d25cc54847eba53109ed5eb821eeb5fdd98d1e2f5eef92f66971e2ab0c530"


def test_texts_cannot_move_from_one_column_to_the_next_unseen(tmp_path: Path) -> None:
    first = table() | {"topic": np.array(["ab"] * ROWS), "site": np.array(["c"] * ROWS)}
    second = table() | {"topic": np.array(["a"] * ROWS), "site": np.array(["bc"] * ROWS)}
    assert digest(probe_of(tmp_path / "a.npz", first)) != digest(probe_of(tmp_path / "b.npz", second))


def test_rows_and_digest_are_unknown_before_a_complete_pass(tmp_path: Path) -> None:
    probe = probe_of(tmp_path / "a.npz", table())
    next(probe.batches(5))
    with pytest.raises(ProbeError, match="number of rows is known after one complete pass"):
        _ = probe.rows
    with pytest.raises(ProbeError, match="digest is known after one complete pass"):
        _ = probe.digest


def test_a_second_pass_gives_the_same(tmp_path: Path) -> None:
    probe = probe_of(tmp_path / "a.parquet", table())
    assert digest(probe) == digest(probe, 5)


def test_rows_without_an_id_column_are_named_by_their_number(tmp_path: Path) -> None:
    batches = read(probe_of(tmp_path / "a.npz", table(), Columns(input="x")))
    assert [name for batch in batches for name in batch.ids] == [str(row) for row in range(ROWS)]
    assert (batches[0].labels, batches[0].groups, batches[0].lengths) == (None, None, None)
    assert (batches[0].clusters, batches[0].sublabels, batches[0].targets) == (None, None, None)


def test_only_rows_to_measure_name_the_classes(tmp_path: Path) -> None:
    data = table() | {"part": np.array(["probe", "reference", "ood"] * (ROWS // 3 + 1))[:ROWS]}
    data["topic"] = np.where(data["part"] == "probe", data["topic"], "strange")
    path = tmp_path / "a.parquet"
    columns = Columns("x", label="topic", split="part")
    assert probe_of(path, data, columns).read_labels(4) == set(data["topic"]) - {"strange"}
    assert probe_of(path, data, replace(columns, split=None)).read_labels(4) == set(data["topic"])


def test_equal_inputs_have_equal_fingerprints(tmp_path: Path) -> None:
    data = table()
    data["x"][5] = data["x"][17]
    batches = read(probe_of(tmp_path / "a.npz", data))
    prints = np.concatenate([batch.fingerprints for batch in batches])
    assert prints.dtype == np.int64
    assert prints[5] == prints[17]
    assert len(set(prints.tolist())) == ROWS - 1


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.arange(4, dtype=np.uint8), np.int64),
        (np.arange(4.0), np.float32),
        (np.arange(4, dtype=np.float16), np.float32),
        (np.array([1e300, -np.inf, np.nan]), np.float32),
    ],
)
def test_inputs_are_float32_or_int64(tmp_path: Path, values: np.ndarray[Any, Any], dtype: type) -> None:
    inputs = read(probe_of(tmp_path / "a.npz", {"x": values}, Columns(input="x")))[0].inputs
    assert inputs.dtype == dtype
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(inputs[:, 0], values.astype(dtype))


def test_several_columns_of_different_types_become_float32(tmp_path: Path) -> None:
    data = table() | {"x1": np.arange(ROWS)}
    assert read(probe_of(tmp_path / "a.parquet", data, WIDE))[0].inputs.dtype == np.float32


def test_a_stated_shape_is_given_to_each_row(tmp_path: Path) -> None:
    assert read(probe_of(tmp_path / "a.parquet", table(), shape=(1, 2)))[0].inputs.shape == (7, 1, 2)


def test_images_and_nested_lists_keep_their_shape(tmp_path: Path) -> None:
    images = np.random.default_rng(2).normal(size=(9, 2, 3, 4)).astype(np.float32)
    nested = pa.table({"x": images.tolist()}, schema=pa.schema({"x": pa.list_(pa.list_(pa.list_(pa.float32())))}))
    probes = [
        probe_of(tmp_path / "a.npz", {"x": images}, Columns(input="x")),
        open_probe(write_parquet(tmp_path / "a.parquet", nested), columns=Columns(input="x")),
    ]
    for probe in probes:
        np.testing.assert_array_equal(np.concatenate([batch.inputs for batch in read(probe, 4)]), images)
    assert probes[0].digest == probes[1].digest


def test_one_array_in_a_file_of_its_own_has_the_name_features(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", table()["x"])
    probe = open_probe(str(tmp_path / "a.npy"), columns=Columns(input="features"))
    assert digest(probe) == digest(probe_of(tmp_path / "b.npz", table(), Columns(input="x")))


@pytest.mark.parametrize("role", ["label", "group", "cluster", "sublabel"])
def test_names_in_csv_are_what_is_written_there(tmp_path: Path, role: str) -> None:
    columns: Any = {role: "y"}
    (tmp_path / "a.csv").write_text("x,y\n1.5,007\nnan,012\n")
    batch = read(open_probe(str(tmp_path / "a.csv"), columns=Columns(input="x", **columns)))[0]
    assert getattr(batch, f"{role}s") == ("007", "012")
    assert np.isnan(batch.inputs[1, 0])


# Columns to cut by.


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.npz"])
def test_columns_to_cut_by_are_texts_whatever_they_look_like(tmp_path: Path, name: str) -> None:
    columns = Columns(input=("x0", "x1"), label="topic", id="name", tags=("patient", "kind", "topic"))
    batches = read(probe_of(tmp_path / name, table(), columns))
    assert [text for batch in batches for text in batch.tags["patient"]] == [str(row // 4) for row in range(ROWS)]
    for tag, column in (("kind", "kind"), ("topic", "topic")):
        assert [text for batch in batches for text in batch.tags[tag]] == table()[column].tolist()
    assert [text for batch in batches for text in batch.labels] == table()["topic"].tolist()


def test_columns_that_only_cut_the_rows_have_a_digest_of_their_own(tmp_path: Path) -> None:
    def both(data: dict[str, Any], columns: Columns) -> tuple[str, str | None]:
        probe = probe_of(tmp_path / "a.npz", data, columns)
        return digest(probe), probe.slices_digest

    plain = replace(FORMER, group=None)
    named, tagged = replace(plain, tags=("topic",)), replace(plain, tags=("site",))
    found = [both(table(), columns) for columns in (plain, named, tagged)]
    assert len({own for own, _ in found}) == 1
    assert [cut is None for _, cut in found] == [True, True, False]
    changed = table() | {"site": np.roll(table()["site"], 1)}
    assert both(changed, plain) == found[0]
    assert both(changed, tagged)[0] == found[2][0]
    assert both(changed, tagged)[1] != found[2][1]
    assert both(table(), replace(plain, group="site"))[0] != found[0][0]


def test_a_column_to_cut_by_with_a_gap_is_refused_with_its_row(tmp_path: Path) -> None:
    data = table() | {"site": np.where(np.arange(ROWS) == 5, "", table()["site"])}
    with pytest.raises(ProbeError, match="slices by 'site': is missing in row 'row-5'"):
        read(probe_of(tmp_path / "a.npz", data, replace(FORMER, group=None, tags=("site",))))


# What is refused.


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.npz"])
def test_a_missing_column_is_refused_with_those_there_are_nearest_first(tmp_path: Path, name: str) -> None:
    columns = Columns(input="x0", label="topics")
    with pytest.raises(ProbeError, match=r"there is no column 'topics'; of \d+ columns, nearest first: topic, tokens"):
        probe_of(tmp_path / name, table(), columns)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("nowhere.parquet", None, "there is no such file; check probe.uri"),
        (
            "a.txt",
            b"x",
            r"the suffix is '.txt', expected one of .parquet, .csv, .jsonl, .npz, .npy, .safetensors, or a folder",
        ),
        ("a.parquet", b"no parquet", "cannot be read: "),
        ("a.npz", b"no archive", "cannot be read: File is not a zip file"),
        ("a.csv", b"", "cannot be read: Empty CSV file"),
        ("a.csv", b"x,y,x\n1,2,3\n", "2 columns have the name 'x'"),
    ],
)
def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path, name: str, content: Any, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ProbeError, match=message):
        open_probe(str(tmp_path / name), columns=Columns(input="x"))


def test_no_input_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match=r"columns.input names no column"):
        probe_of(tmp_path / "a.npz", table(), Columns(input=()))
    with pytest.raises(ProbeError, match=r"columns.target names no column"):
        probe_of(tmp_path / "a.npz", table(), Columns(input="x", target=()))


def test_a_batch_of_no_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="a batch of 0 rows was asked for"):
        read(probe_of(tmp_path / "a.npz", table()), 0)


def test_a_member_of_an_archive_that_is_no_array_is_refused(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", table())
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("more", archive.read("x.npy"))
    with pytest.raises(ProbeError, match=r"the member 'more' is no array NAME\.npy; write the file with numpy\.savez"):
        open_probe(str(tmp_path / "a.npz"), columns=Columns(input="more"))


@pytest.mark.parametrize("name", ["a.parquet", "a.npz"])
def test_an_empty_probe_set_is_refused(tmp_path: Path, name: str) -> None:
    empty = {name: value[:0] for name, value in table().items() if name != "x"}
    with pytest.raises(ProbeError, match="the probe set holds no row"):
        read(probe_of(tmp_path / name, empty, WIDE))


def test_a_csv_file_of_nothing_but_a_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n")
    with pytest.raises(ProbeError, match="the probe set holds no row"):
        read(open_probe(str(tmp_path / "a.csv"), columns=Columns(input="x")))


@pytest.mark.parametrize(("first", "second"), [(2, 3), (0, ROWS - 1)])
@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.npz"])
def test_an_id_that_occurs_twice_is_named(tmp_path: Path, name: str, first: int, second: int) -> None:
    data = table()
    data["name"][second] = data["name"][first]
    probe = probe_of(tmp_path / name, data, WIDE)
    with pytest.raises(ProbeError, match=f"id 'row-{first}' occurs more than once; ids must be unique"):
        read(probe)
    with pytest.raises(ProbeError, match="digest is known after one complete pass"):
        _ = probe.digest


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("topic", "label 'topic': is missing in row 'row-9'"),
        ("site", "group 'site': is missing in row 'row-9'"),
        ("name", "id 'name': is missing in row number 9"),
        ("patient", "cluster 'patient': is missing in row 'row-9'"),
        ("kind", "sublabel 'kind': is missing in row 'row-9'"),
    ],
)
@pytest.mark.parametrize("name", ["a.parquet", "a.csv"])
def test_a_missing_text_is_refused_with_its_row(
    tmp_path: Path, name: str, column: str, message: str, value: Any
) -> None:
    data = {key: values for key, values in table().items() if key != "x"}
    values = list(map(str, data[column]))
    values[9] = value
    content = arrow(data).set_column(list(data).index(column), column, pa.array(values, pa.string()))
    if name == "a.csv":
        pyarrow.csv.write_csv(content, tmp_path / name)
    else:
        pq.write_table(content, tmp_path / name)
    with pytest.raises(ProbeError, match=message):
        read(open_probe(str(tmp_path / name), columns=WIDE))


def test_a_label_that_is_not_a_number_is_missing(tmp_path: Path) -> None:
    data = table() | {"topic": np.where(np.arange(ROWS) == 3, np.nan, 1.0)}
    with pytest.raises(ProbeError, match="label 'topic': is missing in row 'row-3'"):
        read(probe_of(tmp_path / "a.npz", data))


def test_a_label_without_a_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match=r"label 'x': has the type list<.*>, expected texts or numbers"):
        read(probe_of(tmp_path / "a.parquet", table(), Columns(input="x", label="x")))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("role", "name"), [("length", "tokens"), ("target", "dose"), ("target", "score")])
def test_a_number_that_is_not_finite_is_refused(tmp_path: Path, role: str, name: str, value: Any) -> None:
    data = table() | {name: np.where(np.arange(ROWS) == 8, value, 1.0)}
    with pytest.raises(ProbeError, match=rf"{role} '{name}': is {value} in row 'row-8', expected a finite number"):
        read(probe_of(tmp_path / "a.npz", data))


@pytest.mark.parametrize(("role", "name"), [("length", "tokens"), ("target", "dose"), ("target", "score")])
def test_a_missing_number_is_refused_with_its_row(tmp_path: Path, role: str, name: str) -> None:
    data = table()
    values = [None if row == 8 else value for row, value in enumerate(data[name].tolist())]
    content = arrow(data).set_column(list(data).index(name), name, [values])
    with pytest.raises(ProbeError, match=rf"{role} '{name}': is missing in row 'row-8'"):
        read(open_probe(write_parquet(tmp_path / "a.parquet", content), columns=ALL))


@pytest.mark.parametrize("target", ["topic", ("dose", "topic")])
def test_a_target_that_is_a_text_is_refused(tmp_path: Path, target: Any) -> None:
    with pytest.raises(ProbeError, match="target 'topic': has the type string, expected numbers"):
        read(probe_of(tmp_path / "a.parquet", table(), Columns(input="x", target=target)))


@pytest.mark.parametrize("role", ["length", "target"])
def test_a_number_that_is_a_list_is_refused(tmp_path: Path, role: str) -> None:
    columns: Any = {role: "x"}
    with pytest.raises(ProbeError, match=rf"{role} 'x': has the type .*, expected one number for each row"):
        read(probe_of(tmp_path / "a.npz", table(), replace(Columns("x", id="name"), **columns)))


BOOLEANS = np.arange(ROWS) % 2 == 0


@pytest.mark.parametrize("ending", ["parquet", "csv", "npz"])
@pytest.mark.parametrize(
    ("role", "columns"),
    [
        ("input", Columns(input="flag")),
        ("input", Columns(input=("dose", "flag"))),
        ("target", Columns(input="dose", target=("score", "flag"))),
        ("length", Columns(input="dose", length="flag")),
    ],
)
def test_truth_is_no_number(tmp_path: Path, ending: str, role: str, columns: Columns) -> None:
    data = {name: each for name, each in table().items() if each.ndim == 1} | {"flag": BOOLEANS}
    found = rf"{role} 'flag': has the type bool, expected numbers .*; write it as float32, 1\.0 for true and 0\.0"
    with pytest.raises(ProbeError, match=found):
        read(probe_of(tmp_path / f"a.{ending}", data, columns))


def test_images_of_truth_are_no_numbers(tmp_path: Path) -> None:
    data = {"x": np.stack([BOOLEANS, ~BOOLEANS], axis=1)}
    with pytest.raises(ProbeError, match=r"input 'x': has the type bool, .*; write it as float32"):
        read(probe_of(tmp_path / "a.parquet", data, Columns(input="x")))


def test_truth_is_a_class_and_a_group(tmp_path: Path) -> None:
    columns = Columns(input="x", label="flag", group="flag")
    batches = read(probe_of(tmp_path / "a.parquet", table() | {"flag": BOOLEANS}, columns))
    assert batches[0].labels == batches[0].groups
    assert set(batches[0].labels or ()) == {"true", "false"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.0, 2.0], None], "input 'x': is missing in row '1'"),
        ([[1.0, 2.0], [3.0, None]], "input 'x': is missing in row '1'"),
        ([[1.0, 2.0], [3.0]], "input 'x': holds 1 values in row '1' and 2 in the first"),
        ([[[1.0], [2.0]], [[3.0], []]], "input 'x': holds 0 values in row '1' and 1 in the first"),
        (
            pa.array([[], []], pa.list_(pa.float32())),
            r"the input of a row has shape \(0,\), expected at least one value",
        ),
        ([True, False], "input 'x': has the type bool, expected numbers or lists of numbers"),
        (pa.array([1, 2], pa.uint64()), "input 'x': has the type uint64, expected numbers"),
    ],
)
def test_inputs_that_are_no_rows_of_numbers_are_refused(tmp_path: Path, rows: Any, message: str) -> None:
    uri = write_parquet(tmp_path / "a.parquet", pa.table({"x": rows}))
    with pytest.raises(ProbeError, match=message):
        read(open_probe(uri, columns=Columns(input="x")))


def test_inputs_of_another_length_in_a_later_batch_are_refused(tmp_path: Path) -> None:
    uri = write_parquet(tmp_path / "a.parquet", pa.table({"x": [[1.0], [2.0], [3.0, 4.0]]}))
    with pytest.raises(ProbeError, match=r"the input of row '2' has shape \(2,\), that of the first row \(1,\)"):
        read(open_probe(uri, columns=Columns(input="x")), 2)


def test_a_shape_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match=r"holds 2 values, and the shape \(1, 3\) needs 3"):
        read(probe_of(tmp_path / "a.npz", table(), shape=(1, 3)))


def test_arrays_of_different_length_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match=r"differ in their number of rows: \{'x': 23, 'topic': 22\}"):
        read(probe_of(tmp_path / "a.npz", table() | {"topic": table()["topic"][1:]}, Columns("x", label="topic")))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([{}], dtype=object), "holds Python objects, which only unpickling could read"),
        (np.asfortranarray(np.ones((2, 3))), r"has shape \(2, 3\) in Fortran order, expected rows first, in C order"),
        (np.array(1.0), r"has shape \(\) in C order, expected rows first"),
    ],
)
def test_arrays_that_are_no_rows_are_refused(tmp_path: Path, values: np.ndarray[Any, Any], message: str) -> None:
    with pytest.raises(ProbeError, match=f"array 'x': {message}"):
        read(probe_of(tmp_path / "a.npz", {"x": values}, Columns(input="x")))


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((9, 2)))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-8])
    with pytest.raises(ProbeError, match="the file is cut off"):
        read(open_probe(str(tmp_path / "a.npy"), columns=Columns(input="features")), 9)


def test_a_csv_column_that_changes_its_type_is_refused(tmp_path: Path) -> None:
    text = "x\n" + "1\n" * 3_000_000 + "1.5\n"
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ProbeError, match=r"cannot be read: In CSV column #0: .*conversion error to int64"):
        read(open_probe(str(tmp_path / "a.csv"), columns=Columns(input="x")), 1_000_000)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, gate.probes.probe_set; print({'torch', 'numpy', 'pyarrow', 'pandas', 'mlflow'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


MEASURE = """
import sys
from pathlib import Path
from gate.probes.probe_set import Columns, open_probe
probe = open_probe(sys.argv[1], columns=Columns(input="x", label="label", id="id"))
for batch in probe.batches(1024):
    pass
lines = Path("/proc/self/status").read_text().splitlines()
print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) // 1024)
"""


def _peak(path: Path, rows: int) -> int:
    """Peak memory in MB of a process that reads so many rows of 256 numbers, all in one row group."""
    values = np.random.default_rng(0).standard_normal((rows, 256), dtype=np.float32)
    columns = {
        "x": pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 256),
        "label": pa.array(["a"] * rows),
        "id": pa.array([f"row {row}" for row in range(rows)]),
    }
    pq.write_table(pa.table(columns), path, row_group_size=rows, use_dictionary=False)
    result = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    return int(result.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory of a process from /proc")
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    small, large = _peak(tmp_path / "small.parquet", 20_000), _peak(tmp_path / "large.parquet", 200_000)
    assert large - small < 40
