"""What the model is shown: numbers, texts, several inputs by name, and second views."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from gate.errors import ProbeError
from gate.probes.probe_set import Columns, ProbeBatch, Transform, open_probe

TEXTS = ["a cat", "2 dogs", "3"]
NAMES = ["p", "q", "r"]


def parquet(path: Path, **columns: Any) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def npz(path: Path, **columns: Any) -> str:
    arrays: dict[str, Any] = {name: np.array(values) for name, values in columns.items()}
    np.savez(path, **arrays)
    return str(path)


def csv(path: Path, **columns: Any) -> str:
    pyarrow.csv.write_csv(pa.table(columns), path)
    return str(path)


WRITERS = {"parquet": parquet, "npz": npz, "csv": csv}


def batch(uri: str, *, columns: Columns, **options: Any) -> ProbeBatch:
    return next(iter(open_probe(uri, columns=columns, **options).batches(10)))


def digest(uri: str, *, columns: Columns, size: int = 2, **options: Any) -> str:
    probe = open_probe(uri, columns=columns, **options)
    for _ in probe.batches(size):
        pass
    return probe.digest


@pytest.mark.parametrize("ending", WRITERS)
def test_a_column_of_texts_is_shown_as_texts(tmp_path: Path, ending: str) -> None:
    uri = WRITERS[ending](tmp_path / f"a.{ending}", x=TEXTS, id=NAMES)
    found = batch(uri, columns=Columns("x", id="id"))
    assert found.inputs == tuple(TEXTS)
    assert len(set(found.fingerprints.tolist())) == 3


def test_texts_have_one_digest_in_every_format_and_every_character_counts(tmp_path: Path) -> None:
    columns = Columns("x", id="id")
    found = {digest(WRITERS[end](tmp_path / f"a.{end}", x=TEXTS, id=NAMES), columns=columns) for end in WRITERS}
    categories = pa.array(TEXTS).dictionary_encode()
    found.add(digest(parquet(tmp_path / "b.parquet", x=categories, id=NAMES), columns=columns, size=1))
    assert len(found) == 1
    changed = parquet(tmp_path / "c.parquet", x=[*TEXTS[:2], "3 "], id=NAMES)
    assert digest(changed, columns=columns) not in found


def test_a_text_is_not_the_number_that_it_spells(tmp_path: Path) -> None:
    numbers, texts = parquet(tmp_path / "a.parquet", x=[1, 2]), parquet(tmp_path / "b.parquet", x=["1", "2"])
    files = parquet(tmp_path / "c.parquet", x=["12345678"])
    number = parquet(tmp_path / "d.parquet", x=[int.from_bytes(b"12345678", "little")])
    columns = Columns("x")
    assert digest(numbers, columns=columns) != digest(texts, columns=columns)
    assert digest(files, columns=columns) != digest(number, columns=columns)


@pytest.mark.parametrize(("value", "found"), [(None, "missing"), ("", "blank"), (" \n", "blank")])
def test_a_text_that_is_missing_is_refused_with_its_row(tmp_path: Path, value: Any, found: str) -> None:
    uri = parquet(tmp_path / "a.parquet", x=["a", value, "b"], id=NAMES)
    with pytest.raises(ProbeError, match=f"input 'x': is {found} in row 'q'; every row needs a text to be shown"):
        batch(uri, columns=Columns("x", id="id"))


def test_a_shape_or_a_transform_of_texts_is_refused(tmp_path: Path) -> None:
    uri = parquet(tmp_path / "a.parquet", x=TEXTS)
    with pytest.raises(ProbeError, match=r"input 'x': holds texts, and probe\.shape is for rows of numbers"):
        batch(uri, columns=Columns("x"), shape=(1,))
    with pytest.raises(ProbeError, match=r"input 'x': holds texts, and probe\.transform is for pictures"):
        batch(uri, columns=Columns("x"), transform=Transform())


# Several inputs.


def test_inputs_of_several_kinds_are_shown_by_name_in_the_order_of_the_policy(tmp_path: Path) -> None:
    uri = parquet(tmp_path / "a.parquet", age=[1.5, 2.5, 3.5], word=TEXTS, tokens=[[1, 2], [3, 4], [5, 6]])
    found = batch(uri, columns=Columns(("word", "tokens", "age"))).inputs
    assert isinstance(found, dict)
    assert list(found) == ["word", "tokens", "age"]
    assert found["word"] == tuple(TEXTS)
    np.testing.assert_array_equal(found["tokens"], [[1, 2], [3, 4], [5, 6]])
    assert found["tokens"].dtype == np.int64
    np.testing.assert_array_equal(found["age"], np.array([1.5, 2.5, 3.5], np.float32))


def test_a_list_of_one_text_column_is_a_table_of_one_column(tmp_path: Path) -> None:
    uri = parquet(tmp_path / "a.parquet", word=TEXTS)
    assert batch(uri, columns=Columns(("word",))).inputs == {"word": tuple(TEXTS)}


def test_several_columns_of_numbers_remain_one_array(tmp_path: Path) -> None:
    uri = parquet(tmp_path / "a.parquet", a=[1.0, 2.0], b=[3, 4])
    found = batch(uri, columns=Columns(("a", "b"))).inputs
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, [[1, 3], [2, 4]])


def test_the_digest_of_named_inputs_depends_on_values_names_order_and_shape(tmp_path: Path) -> None:
    def of(names: tuple[str, ...], **columns: Any) -> str:
        return digest(parquet(tmp_path / "a.parquet", id=NAMES, **columns), columns=Columns(names, id="id"))

    lists = pa.array([[1, 2]] * 3)
    found = [
        of(("x", "y"), x=TEXTS, y=lists),
        of(("y", "x"), x=TEXTS, y=lists),
        of(("x", "z"), x=TEXTS, z=lists),
        of(("x", "y"), x=[*TEXTS[:2], "4"], y=lists),
        of(("x", "y"), x=TEXTS, y=[[1, 2], [1, 2], [1, 3]]),
        of(("x", "y"), x=TEXTS, y=[[[1], [2]]] * 3),
        of(("x", "y"), x=TEXTS, y=[[1.0, 2.0]] * 3),
        of(("x",), x=TEXTS),
    ]
    assert len(set(found)) == len(found)
    assert of(("x", "y"), x=TEXTS, y=lists) == found[0]


def test_named_inputs_of_another_length_in_a_later_batch_are_refused(tmp_path: Path) -> None:
    uri = parquet(tmp_path / "a.parquet", x=TEXTS, y=[[1], [2], [3, 4]])
    with pytest.raises(ProbeError, match=r"input of row '2' has shape .*'y': \(2,\).*, that of the first row .*\(1,\)"):
        list(open_probe(uri, columns=Columns(("x", "y"))).batches(2))


def test_a_shape_or_a_transform_of_named_inputs_is_refused(tmp_path: Path) -> None:
    uri = parquet(tmp_path / "a.parquet", x=TEXTS, y=[[1], [2], [3]])
    with pytest.raises(ProbeError, match=r"input 'x', 'y': is shown by name, and probe\.shape is for one row"):
        batch(uri, columns=Columns(("x", "y")), shape=(1,))
    with pytest.raises(ProbeError, match=r"input 'x', 'y': holds no pictures for probe\.transform"):
        batch(uri, columns=Columns(("x", "y")), transform=Transform())


# Second views.


def test_a_second_view_is_of_the_kind_of_the_first_and_under_its_names(tmp_path: Path) -> None:
    data: dict[str, Any] = {"x": TEXTS, "x2": TEXTS[::-1], "y": [[1], [2], [3]], "y2": [[4], [5], [6]]}
    uri = parquet(tmp_path / "a.parquet", **data)
    assert batch(uri, columns=Columns("x", pair="x2")).pairs == tuple(TEXTS[::-1])
    np.testing.assert_array_equal(np.asarray(batch(uri, columns=Columns("y", pair="y2")).pairs), [[4], [5], [6]])
    named = batch(uri, columns=Columns(("x", "y"), pair=("x2", "y2"))).pairs
    assert isinstance(named, dict)
    assert list(named) == ["x", "y"]
    np.testing.assert_array_equal(named["y"], [[4], [5], [6]])


def test_a_second_view_of_another_kind_is_refused(tmp_path: Path) -> None:
    uri = parquet(tmp_path / "a.parquet", x=TEXTS, y=[[1], [2], [3]], z=[[1, 2]] * 3)
    for first, second, message in [
        ("x", "y", r"pair 'y' holds int64 of shape \(1,\), and the input texts; both views must be of one kind"),
        ("y", "z", r"pair 'z' holds int64 of shape \(2,\), and the input int64 of shape \(1,\)"),
    ]:
        with pytest.raises(ProbeError, match=message):
            batch(uri, columns=Columns(first, pair=second))


def test_as_many_second_views_as_inputs_are_needed(tmp_path: Path) -> None:
    uri = parquet(tmp_path / "a.parquet", x=TEXTS, y=[[1], [2], [3]])
    with pytest.raises(ProbeError, match=r"columns\.pair names 1 columns and columns\.input 2; name one for each"):
        open_probe(uri, columns=Columns(("x", "y"), pair="x"))
    with pytest.raises(ProbeError, match=r"columns\.pair names no column"):
        open_probe(uri, columns=Columns("x", pair=()))


# What else is known of the rows.

KNOWN: dict[str, Any] = {
    "x": TEXTS,
    "view": TEXTS[::-1],
    "part": ["probe", "reference", "ood"],
    "colour": ["red", "blue", "red"],
    "size": [1, 2, 1],
    "cue": ["sea", "land", "sea"],
    "turned": [0, 90, 180],
    "id": NAMES,
}
WHOLE = Columns(
    "x",
    pair="view",
    split="part",
    tasks={"hue": "colour"},
    attributes=("size", "colour"),
    cue="cue",
    pretext="turned",
    id="id",
)


@pytest.mark.parametrize("ending", WRITERS)
def test_splits_tasks_attributes_cues_and_pretexts_are_texts(tmp_path: Path, ending: str) -> None:
    found = batch(WRITERS[ending](tmp_path / f"a.{ending}", **KNOWN), columns=WHOLE)
    assert found.splits == ("probe", "reference", "ood")
    assert found.tasks == {"hue": ("red", "blue", "red")}
    assert found.attributes == {"size": ("1", "2", "1"), "colour": ("red", "blue", "red")}
    assert (found.cues, found.pretext) == (("sea", "land", "sea"), ("0", "90", "180"))


def test_without_them_there_are_none(tmp_path: Path) -> None:
    found = batch(parquet(tmp_path / "a.parquet", **KNOWN), columns=Columns("x"))
    assert (found.pairs, found.splits, found.cues, found.pretext) == (None,) * 4
    assert (found.tasks, found.attributes) == ({}, {})


def test_the_digest_depends_on_each_of_them_and_on_the_names_of_tasks_and_attributes(tmp_path: Path) -> None:
    def of(columns: Columns = WHOLE, **changed: Any) -> str:
        return digest(parquet(tmp_path / "a.parquet", **(KNOWN | changed)), columns=columns)

    def but(**changed: Any) -> Columns:
        return Columns(**(WHOLE.__dict__ | changed))

    found = [
        of(),
        of(view=TEXTS),
        of(part=["probe", "reference", "probe"]),
        of(colour=["red", "blue", "blue"]),
        of(size=[1, 2, 3]),
        of(cue=["sea", "land", "land"]),
        of(turned=[0, 90, 90]),
        of(but(pair=None)),
        of(but(split=None)),
        of(but(tasks={})),
        of(but(tasks={"tint": "colour"})),
        of(but(attributes=("size",))),
        of(but(cue=None)),
        of(but(pretext=None)),
    ]
    assert len(set(found)) == len(found)
    assert of(but(attributes=("colour", "size"))) == found[0]


def test_a_split_of_another_name_is_refused(tmp_path: Path) -> None:
    uri = parquet(tmp_path / "a.parquet", **(KNOWN | {"part": ["probe", "train", "ood"]}))
    with pytest.raises(ProbeError, match="split 'part': is 'train' in row 'q', expected one of probe, reference, ood"):
        batch(uri, columns=WHOLE)


@pytest.mark.parametrize("name", ["part", "colour", "size", "cue", "turned"])
def test_a_category_with_a_gap_is_refused_with_its_row(tmp_path: Path, name: str) -> None:
    values = [str(value) for value in KNOWN[name]]
    uri = parquet(tmp_path / "a.parquet", **(KNOWN | {name: [values[0], None, values[2]]}))
    with pytest.raises(ProbeError, match=f"'{name}': is missing in row 'q'; every row needs one"):
        batch(uri, columns=WHOLE)


def test_rows_can_be_cut_by_a_column_of_any_name(tmp_path: Path) -> None:
    uri = parquet(tmp_path / "a.parquet", x=TEXTS, inputs=["a", "b", "a"])
    probe = open_probe(uri, columns=Columns("x", tags=("inputs",)))
    assert next(iter(probe.batches(3))).tags == {"inputs": ("a", "b", "a")}


def test_what_was_read_of_a_policy_reaches_the_rows(tmp_path: Path) -> None:
    from gate.policy.loading import load_probe_spec
    from gate.streaming import open_rows

    uri = parquet(tmp_path / "a.parquet", **KNOWN)
    columns = {"input": "x", "pair": "view", "split": "part", "tasks": ["colour"], "attributes": "size"}
    (tmp_path / "spec.yaml").write_text(json.dumps({"uri": uri, "columns": columns}))
    found = next(open_rows(load_probe_spec(tmp_path / "spec.yaml")).batches(5))
    assert found.tasks == {"colour": ("red", "blue", "red")}
    assert found.attributes == {"size": ("1", "2", "1")}
    assert found.splits == ("probe", "reference", "ood")
    assert found.pairs == tuple(TEXTS[::-1])
