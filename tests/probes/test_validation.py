# ruff: noqa: E501 - a table of messages, each in one line
"""A probe set with a fault is refused before any model sees it; every fault is told with its column and first rows."""

from __future__ import annotations

import ast
import datetime as dt
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gate.errors import ProbeError, RefusedProbeError
from gate.policy.expectations import Expectations as Block
from gate.policy.kinds import Margin
from gate.probes.probe_set import Columns, ProbeSet, open_probe
from gate.probes.validating import checks, engine, suites
from gate.probes.validating.cells import cells_of
from gate.probes.validating.checks import Check
from gate.probes.validation import Expectations, Finding, validate, validated

ROOT = Path(__file__).parents[2]
ROWS = 60
Data = dict[str, Any]
Change = Callable[[Data], object]


@dataclass(frozen=True)
class Split(Columns):
    """Columns of a probe set that holds reference rows too."""

    split: str | None = "part"

    @property
    def texts(self) -> frozenset[str]:
        return super().texts | {str(self.split)}

    @property
    def all(self) -> tuple[str, ...]:
        return (*super().all, str(self.split))


COLUMNS = Split("x", label="topic", group="site", length="tokens", id="name")
ASKED = Expectations(
    min_rows=40,
    min_classes=2,
    min_rows_per_class=5,
    max_class_share=0.85,
    min_rows_per_group=4,
    max_duplicates=Margin(2, percent=True),
    max_leakage=Margin(0, percent=False),
    length=(1, 512),
    unique=("url",),
    not_null=("note",),
)


def good() -> Data:
    """Sixty rows without a fault: fifty to measure, ten for reference."""
    x = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
    return {
        "x": [row.tolist() for row in x],
        "topic": [f"topic {row % 3}" for row in range(ROWS)],
        "site": [f"site {row % 2}" for row in range(ROWS)],
        "tokens": [1.0 + row for row in range(ROWS)],
        "name": [f"r{row}" for row in range(ROWS)],
        "part": ["probe"] * 50 + ["reference"] * 10,
        "url": [f"u{row}" for row in range(ROWS)],
        "note": ["fine"] * ROWS,
    }


def probe_of(folder: Path, data: Data, columns: Columns = COLUMNS) -> ProbeSet:
    path = folder / "probe.parquet"
    pq.write_table(pa.table(data), path, row_group_size=7)
    return open_probe(str(path), columns=columns)


def put(column: str, **values: Any) -> Change:
    """Other values in some rows: `put("topic", r3=None)`."""
    return lambda data: [data[column].__setitem__(int(row[1:]), value) for row, value in values.items()]


def every(column: str, value: Any) -> Change:
    return lambda data: data.update({column: [value] * len(data[column])})


def only(rows: int) -> Change:
    return lambda data: data.update({column: values[:rows] for column, values in data.items()})


def one_class_is_large(data: Data) -> None:
    data["topic"] = ["a" if row < 44 else "b" for row in range(ROWS)]


def copied(data: Data) -> None:
    for row in (20, 21, 22):
        data["x"][row] = data["x"][3]


def leaking(data: Data) -> None:
    data["x"][55], data["x"][56] = data["x"][2], data["x"][7]


FAULTS: dict[str, tuple[Change, tuple[str, str, int, tuple[str, ...], str]]] = {
    "too few rows": (
        lambda data: data.update(part=["probe"] * 12 + ["reference"] * 48),
        ("min_rows", "", 0, (), "12 rows to measure, expected at least 40; add rows"),
    ),
    "no row": (only(0), ("rows", "", 0, (), "the probe set holds no row; add rows")),
    "an id twice": (
        put("name", r8="r7", r9="r7"),
        ("unique", "name", 3, ("r7", "r7", "r7"), "id 'name' is not unique in 3 of 60 rows ('r7'); no value may"),
    ),
    "no id": (
        put("name", r4=None),
        ("not_null", "name", 1, ("4",), "id 'name' is missing in 1 of 60 rows (number 4); every row needs one"),
    ),
    "no label": (
        put("topic", r3=None, r11="", r40=None),
        ("not_null", "topic", 3, ("r3", "r11", "r40"), "label 'topic' is missing in 3 of 60 rows ('r3', 'r11', 'r40')"),
    ),
    "no group": (
        put("site", r5=None),
        ("not_null", "site", 1, ("r5",), "group 'site' is missing in 1 of 60 rows ('r5'); every row needs one"),
    ),
    "no label at all": (
        every("topic", None),
        ("not_null", "topic", 60, ("r0", "r1", "r2", "r3", "r4"), "label 'topic' is missing in 60 of 60 rows ('r0', "),
    ),
    "an input that is not finite": (
        put("x", r6=[1.0, float("nan"), 2.0, 3.0], r7=[1.0, 2.0, float("-inf"), 1e300]),
        ("finite", "x", 2, ("r6", "r7"), "input 'x' is not finite in 2 of 60 rows ('r6', 'r7'); every row needs finite"),
    ),
    "no input": (
        put("x", r9=None),
        ("not_null", "x", 1, ("r9",), "input 'x' is missing in 1 of 60 rows ('r9'); every row needs one, whole"),
    ),
    "a value missing in an input": (
        put("x", r9=[1.0, None, 2.0, 3.0]),
        ("not_null", "x", 1, ("r9",), "input 'x' is missing in 1 of 60 rows ('r9')"),
    ),
    "the same input everywhere": (
        every("x", [1.0, 2.0, 3.0, 4.0]),
        ("constant", "x", 0, (), "input is the same in all 50 rows to measure, which says nothing; check columns.input, or add rows with"),
    ),
    "the same input in every row to measure": (
        lambda data: data.update(x=[[1.0, 2.0, 3.0, 4.0]] * 50 + data["x"][50:]),
        ("constant", "x", 0, (), "input is the same in all 50 rows to measure"),
    ),
    "a shorter input": (
        put("x", r30=[1.0, 2.0]),
        ("width", "x", 1, ("r30",), "input does not have 4 values in 1 of 60 rows ('r30'); every row needs as many"),
    ),
    "a small class": (
        put("topic", r1="rare", r2="rare"),
        ("min_rows_per_class", "topic", 2, ("r1", "r2"), "too few rows of 'rare' (2), expected at least 5 of each class"),
    ),
    "one class": (
        every("topic", "a"),
        ("min_classes", "topic", 0, (), "label 'topic' has 1 classes, expected at least 2"),
    ),
    "a dominating class": (
        one_class_is_large,
        ("max_class_share", "topic", 44, ("r0", "r1"), "is mostly 'a' (88.0%), expected at most 0.85 of the rows in one"),
    ),
    "a small group": (
        put("site", r1="lab", r44="lab"),
        ("min_rows_per_group", "site", 2, ("r1", "r44"), "too few rows of 'lab' (2), expected at least 4 of each group"),
    ),
    "a length that is not finite": (
        put("tokens", r12=float("inf")),
        ("finite", "tokens", 1, ("r12",), "length 'tokens' is not finite in 1 of 60 rows ('r12'); every row needs a"),
    ),
    "a length that is no number": (
        put("tokens", r12=float("nan")),
        ("not_null", "tokens", 1, ("r12",), "length 'tokens' is missing in 1 of 60 rows ('r12')"),
    ),
    "a length out of range": (
        put("tokens", r13=0.0, r14=513.0),
        ("length", "tokens", 2, ("r13", "r14"), "lies outside in 2 of 60 rows ('r13', 'r14'), expected at least 1 and at most 512"),
    ),
    "lengths that are texts": (
        every("tokens", "many"),
        ("type", "tokens", 0, (), "length 'tokens' holds string, expected numbers"),
    ),
    "inputs that are dates": (
        lambda data: data.update(x=pa.array(range(ROWS), pa.date32())),
        ("type", "x", 0, (), "input 'x' holds date32[day], expected numbers, lists of numbers, texts or pictures"),
    ),
    "copies": (
        copied,
        ("max_duplicates", "x", 3, ("r20", "r21", "r22"), "3 of 60 rows ('r20', 'r21', 'r22') have the input of an earlier row, expected at most 2%"),
    ),
    "reference rows among the rows": (
        leaking,
        ("max_leakage", "x", 2, ("r2", "r7"), "the input of 2 of 60 rows ('r2', 'r7') is that of a reference row too, expected at most 0"),
    ),
    "an unknown split": (
        put("part", r17="train"),
        ("split", "part", 1, ("r17",), "split 'part' is none of probe, reference, ood in 1 of 60 rows ('r17')"),
    ),
    "a value twice": (
        put("url", r3="u2"),
        ("unique", "url", 2, ("r2", "r3"), "column 'url' is not unique in 2 of 60 rows ('r2', 'r3')"),
    ),
    "a value that is missing": (
        put("note", r3=None),
        ("not_null", "note", 1, ("r3",), "column 'note' is missing in 1 of 60 rows ('r3'); every row needs one"),
    ),
}  # fmt: skip


def findings(
    folder: Path, change: Change, asked: Expectations = ASKED, columns: Columns = COLUMNS
) -> tuple[Finding, ...]:
    data = good()
    change(data)
    if not len(data["x"]):
        return validate(probe_of(folder, {name: pa.array([], pa.string()) for name in data}, columns), asked).findings
    return validate(probe_of(folder, data, columns), asked).findings


def test_a_probe_set_without_a_fault_passes(tmp_path: Path) -> None:
    validation = validated(probe_of(tmp_path, good()), ASKED)
    assert validation.status == "passed"
    assert not validation.findings
    assert len(validation.checks) > 20
    assert validation.document["splits"] == {"probe": 50, "reference": 10}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_named(tmp_path: Path, fault: str) -> None:
    change, (name, column, rows, ids, message) = FAULTS[fault]
    found = [each for each in findings(tmp_path, change) if (each.fault, each.column) == (name, column)]
    assert len(found) == 1
    assert message in found[0].message
    assert (found[0].rows, found[0].ids[: len(ids)]) == (rows, ids)
    assert len(found[0].ids) <= 5
    assert found[0].severity == "critical"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_refuses_the_probe_set(tmp_path: Path, fault: str) -> None:
    data = good()
    FAULTS[fault][0](data)
    name, _, _, _, message = FAULTS[fault][1]
    if not len(data["x"]):
        data = {name: pa.array([], pa.string()) for name in data}
    probe = probe_of(tmp_path, data)
    with pytest.raises(RefusedProbeError) as raised:
        validated(probe, ASKED)
    assert any(line.startswith(f"{probe.uri}: {name}: ") and message in line for line in raised.value.faults)
    assert raised.value.exit_code == 3


def test_no_other_fault_is_told_than_the_one_that_is_there(tmp_path: Path) -> None:
    several = {
        "no label at all",
        "one class",
        "the same input everywhere",
        "the same input in every row to measure",
        "a length that is not finite",
        "no row",
        "too few rows",
    }
    for fault in sorted(FAULTS.keys() - several):
        assert len(findings(tmp_path, FAULTS[fault][0])) == 1, fault


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    def change(data: Data) -> None:
        for fault in ("an id twice", "no label", "a shorter input", "a length out of range", "copies"):
            FAULTS[fault][0](data)

    names = {each.fault for each in findings(tmp_path, change)}
    assert names == {"length", "unique", "not_null", "width", "max_duplicates"}


def test_of_several_input_columns_those_at_fault_are_named(tmp_path: Path) -> None:
    data = good()
    data |= {f"x{number}": np.arange(ROWS) + number / 3 for number in range(3)}
    data["x1"][4] = np.nan
    (found,) = validate(probe_of(tmp_path, data, replace(COLUMNS, input=("x0", "x1", "x2"))), ASKED).findings
    assert (found.fault, found.column, found.ids) == ("finite", "x1", ("r4",))


@pytest.mark.parametrize("values", [["a" * (row + 1) for row in range(ROWS)], [b"%d" % row for row in range(ROWS)]])
def test_texts_and_pictures_are_inputs_of_any_size(tmp_path: Path, values: list[Any]) -> None:
    assert not validate(probe_of(tmp_path, good() | {"x": values}), ASKED).findings
    values = [*values[:3], values[3][:0], *values[4:]]
    (found,) = validate(probe_of(tmp_path, good() | {"x": values}), ASKED).findings
    assert (found.fault, found.ids) == ("not_null", ("r3",))


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 3), pa.large_list(pa.float64())])
def test_lists_of_every_kind_are_read_alike(kind: pa.DataType) -> None:
    column = pa.array([[0, 0, 0], [1, 2, 3], None, [4, None, 6], [1, 2, 3], [7, np.inf, np.nan], [0, 0, 0]], kind)
    for cells, at in ((cells_of(column), 0), (cells_of(column.slice(1)), 1)):
        assert cells is not None
        assert cells.missing.tolist() == [0, 0, 1, 1, 0, 0, 0][at:]
        assert cells.nonfinite.tolist() == [0, 0, 0, 0, 0, 2, 0][at:]
        assert cells.width.tolist() == [3, 3, 0, 3, 3, 3, 3][at:]
        equal = [digest == cells.digests[1 - at] for digest in cells.digests]
        assert equal == [False, True, False, False, True, False, False][at:]


def test_nested_lists_are_counted_through() -> None:
    column = pa.array([[[1, 2], [3]], [[4], None, [5, None, float("nan")]], None, []], pa.list_(pa.list_(pa.float32())))
    cells = cells_of(column)
    assert cells is not None
    assert cells.missing.tolist() == [0, 2, 1, 0]
    assert cells.nonfinite.tolist() == [0, 1, 0, 0]
    assert cells.width.tolist() == [3, 4, 0, 0]


def test_the_shape_says_how_many_values_an_input_has(tmp_path: Path) -> None:
    path = tmp_path / "probe.parquet"
    pq.write_table(pa.table(good()), path)
    (found,) = validate(open_probe(str(path), columns=COLUMNS, shape=(1, 8)), ASKED).findings
    assert "input does not have 8 values in 60 of 60 rows" in found.message


def test_without_expectations_the_basic_ones_hold(tmp_path: Path) -> None:
    data = good()
    put("topic", r3=None)(data)
    with pytest.raises(RefusedProbeError, match="not_null: label 'topic' is missing in 1 of 60 rows"):
        validated(probe_of(tmp_path, data))


def test_a_bound_that_only_warns_refuses_nothing(tmp_path: Path) -> None:
    data = good()
    one_class_is_large(data)
    validation = validated(probe_of(tmp_path, data), replace(ASKED, warn=frozenset({"max_class_share"})))
    assert validation.status == "warned"
    assert [each.fault for each in validation.warnings] == ["max_class_share"]
    assert validation.document["findings"][0]["severity"] == "warning"


def test_the_block_of_a_policy_is_what_the_rows_are_held_against(tmp_path: Path) -> None:
    block = Block(packs=("classification", "retrieval", "leakage"), min_rows=70)
    asked = Expectations(**block.resolved)
    assert asked.packs == ("basic", "classification", "retrieval", "leakage")
    assert (asked.min_rows, asked.min_rows_per_class, set(asked.warn)) == (70, 5, {"max_class_share"})
    (found,) = validate(probe_of(tmp_path, good()), asked).findings
    assert found.message == "50 rows to measure, expected at least 70; add rows"


@pytest.mark.parametrize("listed", [True, False])
def test_a_zero_is_no_other_input_for_its_sign(tmp_path: Path, listed: bool) -> None:
    data = good()
    values = {3: 0.0, 20: -0.0, 55: -0.0}
    if listed:
        for row, value in values.items():
            data["x"][row] = [value, 1.0, 2.0, 3.0]
    else:
        data["x"] = [values.get(row, row + 1.0) for row in range(ROWS)]
    asked = replace(ASKED, max_duplicates=Margin(0, percent=False))
    found = validate(probe_of(tmp_path, data), asked).findings
    assert {each.fault: each.ids for each in found} == {"max_duplicates": ("r20",), "max_leakage": ("r3", "r20")}


def wide(folder: Path, **columns: list[Any]) -> ProbeSet:
    """Two columns of numbers, and others, as CSV has them."""
    data = {"p0": np.arange(ROWS) / 4, "p1": np.arange(ROWS), **columns, "name": [f"r{row}" for row in range(ROWS)]}
    lines = [",".join(data), *(",".join(map(str, row)) for row in zip(*data.values(), strict=True))]
    (folder / "probe.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return open_probe(str(folder / "probe.csv"), columns=Columns(("p0", "p1", *columns), id="name"))


def test_a_text_in_a_column_of_numbers_is_found(tmp_path: Path) -> None:
    spoiled = [*range(30), "oops", *range(27), "", "n/a"]
    found = validate(wide(tmp_path, p2=spoiled)).findings
    assert {(each.fault, each.column) for each in found} == {("type", "p2"), ("not_null", "p2")}
    (text,) = (each for each in found if each.fault == "type")
    assert (text.column, text.rows, text.ids) == ("p2", 2, ("r30", "r59"))
    assert text.message.startswith(
        "input 'p2' holds text in 2 of 60 rows ('r30', 'r59'): 'oops', 'n/a', among 2 columns of numbers; write a number"
    )


def test_two_columns_with_texts_are_both_found(tmp_path: Path) -> None:
    spoiled = [*range(59), "oops"]
    found = validate(wide(tmp_path, p2=spoiled, p3=spoiled[::-1])).findings
    assert [(each.fault, each.column, each.ids) for each in found] == [
        ("type", "p2", ("r59",)),
        ("type", "p3", ("r0",)),
    ]


@pytest.mark.parametrize(
    "columns",
    [
        {"p2": [f"a red {row}" for row in range(ROWS)]},
        {"p2": ["S", "M", "38"] * 20},
        {"p2": [*range(59), "oops"], "p3": ["a", "b"] * 30},  # beside texts a text may stand
        {"p2": ["-1e3", "NaN", ".5"] * 20},
    ],
)
def test_columns_of_texts_beside_columns_of_numbers_are_no_fault(tmp_path: Path, columns: Data) -> None:
    assert "type" not in {each.fault for each in validate(wide(tmp_path, **columns)).findings}


# Nothing passes by absence.


@pytest.mark.parametrize("asked", [Expectations(), ASKED])
def test_no_rows_never_pass(tmp_path: Path, asked: Expectations) -> None:
    assert [each.fault for each in findings(tmp_path, only(0), asked)] == ["rows"]


def test_a_column_that_a_bound_needs_and_that_is_not_there_never_passes(tmp_path: Path) -> None:
    bare = Columns("x")
    found = findings(tmp_path, lambda _: None, replace(ASKED, warn=frozenset({"min_classes"})), bare)
    assert {(each.fault, each.severity) for each in found} == {
        ("min_classes", "warning"),
        ("min_rows_per_class", "critical"),
        ("max_class_share", "critical"),
        ("min_rows_per_group", "critical"),
        ("max_leakage", "critical"),
        ("length", "critical"),
    }


@pytest.mark.parametrize("column", ["topic", "site", "tokens", "name", "part", "note", "x"])
def test_a_column_without_a_value_never_passes(tmp_path: Path, column: str) -> None:
    found = findings(tmp_path, lambda data: data.update({column: pa.nulls(ROWS)}))
    assert ("not_null", column) in {(each.fault, each.column) for each in found}


NONE = Margin(0, percent=False)


def of_columns(folder: Path, data: Data, asked: Expectations | None = None, **columns: Any) -> set[tuple[str, str]]:
    probe = probe_of(folder, {"x": [[1.0], [2.0], [3.0]]} | data, Columns(**{"input": "x"} | columns))
    return {(each.fault, each.column) for each in validate(probe, asked).findings}


@pytest.mark.parametrize(
    "columns", [{"cue": "bg"}, {"pretext": "bg"}, {"attributes": ("bg",)}, {"tasks": {"t": "bg"}}, {"label": "bg"}]
)
def test_a_column_of_any_role_is_checked(tmp_path: Path, columns: Data) -> None:
    asked = replace(
        suite(tmp_path, expect("column_values_to_not_be_in_set", column="bg", value_set=["a"])), unique=("bg",)
    )
    assert of_columns(tmp_path, {"bg": ["a", "a", "a"]}, asked, **columns) == {("unique", "bg"), ("suite", "bg")}
    assert of_columns(tmp_path, {"bg": ["a", None, "b"]}, **columns) == {("not_null", "bg")}
    assert of_columns(tmp_path, {"bg": pa.nulls(3)}, asked, **columns) >= {("not_null", "bg")}


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ([[1.0], [2.0], None], "not_null"),
        ([[1.0], [2.0], [float("inf")]], "finite"),
        ([[1.0], [2.0], [3.0, 4.0]], "width"),
        ([[1.0, 2.0]] * 3, "width"),
        ([dt.date(2000, 1, 1)] * 3, "type"),
    ],
)
def test_the_second_view_is_held_to_what_the_first_is(tmp_path: Path, values: Any, fault: str) -> None:
    assert of_columns(tmp_path, {"y": [[1.0]] * 3}, pair="y") == set()
    assert of_columns(tmp_path, {"y": values}, pair="y") == {(fault, "y")}


def test_one_of_several_inputs_and_of_their_second_views_can_be_unique(tmp_path: Path) -> None:
    data = {"x0": [1.0, 1.0, 2.0], "x1": [1.0, 2.0, 3.0], "y0": [1.0, 2.0, 3.0], "y1": [5.0, 4.0, 4.0]}
    asked = Expectations(unique=("x0", "x1", "y0", "y1"))
    found = of_columns(tmp_path, data, asked, input=("x0", "x1"), pair=("y0", "y1"))
    assert found == {("unique", "x0"), ("unique", "y1")}


def test_a_column_that_must_be_unique_needs_values(tmp_path: Path) -> None:
    assert of_columns(tmp_path, {"url": pa.nulls(3)}, Expectations(unique=("url",))) == {("not_null", "url")}


def test_a_column_that_is_for_two_things_is_held_to_both(tmp_path: Path) -> None:
    data = {"a": ["p", "q", "q"], "n": [1.0, 2.0, float("inf")]}
    asked = Expectations(min_classes=3, min_rows_per_group=2, length=(1, 2))
    assert of_columns(tmp_path, data, asked, id="a", label="a", group="a", cue="a", length="n", sublabel="n") == {
        ("unique", "a"),
        ("min_classes", "a"),
        ("min_rows_per_group", "a"),
        ("finite", "n"),
        ("length", "n"),
    }


@pytest.mark.parametrize("columns", [{"cluster": "x"}, {"id": "x"}, {"label": "x"}])
def test_an_input_that_also_names_the_rows_is_held_to_both(tmp_path: Path, columns: Data) -> None:
    copies = {"x": ["a", "b", "b"]}
    assert ("max_duplicates", "x") in of_columns(tmp_path, copies, Expectations(max_duplicates=NONE), **columns)
    assert ("constant", "x") in of_columns(tmp_path, {"x": ["a"] * 3}, **columns)
    assert ("finite", "x") in of_columns(tmp_path, {"x": [1.0, 2.0, float("inf")]}, **columns)
    assert of_columns(tmp_path, {"x": [1.0, 2.0, float("inf")]}, input="x", **columns, target="x") >= {("finite", "x")}


def test_a_column_of_which_nothing_is_asked_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_of_columns", lambda *_: ())
    with pytest.raises(ProbeError, match="column 'topic': nothing would be checked of it"):
        of_columns(tmp_path, {"topic": ["a", "b", "c"]}, label="topic")


@pytest.mark.parametrize("names", [{}, {"id": "file_name"}])
@pytest.mark.parametrize("kept", ["folder", "parquet"])
def test_pictures_are_equal_by_their_bytes_whatever_they_are_called(tmp_path: Path, names: Data, kept: str) -> None:
    pictures = {"p0": b"0", "p1": b"1", "p2": b"1", "r0": b"0", "r1": b"2"}
    parts = ["probe" if name.startswith("p") else "reference" for name in pictures]
    for name, content in pictures.items():
        (tmp_path / name).write_bytes(content)
    pq.write_table(pa.table({"file_name": list(pictures), "part": parts}), tmp_path / "metadata.parquet")
    columns = Columns("file_name", split="part", **names)
    if kept == "folder":
        probe = open_probe(str(tmp_path), columns=columns)
    else:
        held = [{"bytes": content, "path": name} for name, content in pictures.items()]
        probe = probe_of(tmp_path, {"file_name": held, "part": parts}, columns)
    found = validate(probe, Expectations(max_duplicates=NONE, max_leakage=NONE)).findings
    assert {each.fault: each.ids for each in found} == {
        "max_duplicates": ("p2",) if names else ("2",),
        "max_leakage": ("p0",) if names else ("0",),
    }


def test_no_check_never_passes() -> None:
    with pytest.raises(ProbeError, match="nothing is expected of the probe set"):
        engine.evaluate({}, [])


FRAME = {"rows": {"a": [1.0, 2.0], "none": [None, None]}, "inputs": {"a": []}}


@pytest.mark.parametrize(
    ("frame", "kind", "kwargs", "error"),
    [
        ("inputs", "expect_column_values_to_not_be_null", {"column": "a"}, "there is nothing to check"),
        ("inputs", "expect_column_mean_to_be_between", {"column": "a", "min_value": 0}, ""),
        (
            "rows",
            "expect_column_values_to_be_between",
            {"column": "b", "min_value": 0},
            'The column "b" in BatchData does not',
        ),
        ("rows", "expect_column_values_to_match_regex", {"column": "none", "regex": "x"}, "every value is missing"),
    ],
)
def test_what_cannot_be_checked_is_an_error_and_no_pass(frame: Any, kind: str, kwargs: Data, error: str) -> None:
    (outcome,) = engine.evaluate(FRAME, [Check("f", "a", frame, kind, kwargs, "")])  # type: ignore[arg-type]
    assert not outcome.holds
    assert outcome.error is not None
    assert error in outcome.error


@pytest.mark.parametrize(
    ("info", "error"),
    [
        (None, None),
        ({"raised_exception": False, "exception_message": None}, None),
        ({"raised_exception": True, "exception_message": "flat\nmore"}, "flat"),
        ({"MetricConfigurationID(x)": {"raised_exception": True, "exception_message": "keyed"}}, "keyed"),
        ({"raised_exception": True}, "an exception without a message"),
    ],
)
def test_an_exception_is_found_in_both_shapes(info: Data | None, error: str | None) -> None:
    assert engine._raised(info) == error


@pytest.mark.parametrize("values", [[2.5] * 5, [7], [2.5, None, 2.5]])
def test_scores_of_equal_values_cannot_be_checked(values: list[Any]) -> None:
    kwargs = {"column": "a", "threshold": 2, "double_sided": True}
    check = Check("suite", "a", "rows", "expect_column_value_z_scores_to_be_less_than", kwargs, "")
    (outcome,) = engine.evaluate({"rows": {"a": values}}, [check])
    assert (outcome.holds, outcome.error) == (False, "all values are equal, so that none has a z-score")
    (outcome,) = engine.evaluate({"rows": {"a": [1.0, 2.0, 3.0]}}, [check])
    assert outcome.holds


# Suites of a user.


def suite(folder: Path, *expectations: Any, **further: Any) -> Expectations:
    path = folder / "suite.json"
    path.write_text(json.dumps({"name": "mine", "expectations": expectations, **further}), encoding="utf-8")
    return Expectations(suite=str(path))


def expect(kind: str, **kwargs: Any) -> Data:
    return {"type": f"expect_{kind}", "kwargs": kwargs}


def test_a_suite_of_a_user_is_held_against_the_columns_that_are_no_vectors(tmp_path: Path) -> None:
    asked = suite(
        tmp_path,
        expect("column_values_to_match_regex", column="url", regex="^u[0-4]"),
        expect("column_values_to_be_between", column="tokens", max_value=59, mostly=0.9) | {"severity": "critical"},
        expect("column_values_to_be_in_set", column="topic", value_set=["topic 0", "topic 1"])
        | {"severity": "warning"},
        expect("table_row_count_to_equal", value=60),
    )
    found = validate(probe_of(tmp_path, good()), asked).findings
    assert [(each.column, each.severity, each.ids[:1]) for each in found] == [
        ("url", "critical", ("r5",)),
        ("topic", "warning", ("r2",)),
    ]
    assert (
        "expectations[0]: expect_column_values_to_match_regex of 'url' does not hold in 15 of 60 rows"
        in found[0].message
    )
    assert len(validate(probe_of(tmp_path, good()), asked).document["suite"]["digest"]) == 71


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"another")])
def test_the_digest_of_a_suite_is_that_of_what_was_read(tmp_path: Path, change: Callable[[Path], object]) -> None:
    asked = suite(tmp_path, expect("table_row_count_to_equal", value=60))
    path = Path(str(asked.suite))
    wanted = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    validation = validate(probe_of(tmp_path, good()), asked)
    change(path)
    assert validation.document["suite"] == {"path": str(path), "digest": wanted}


def test_a_suite_that_great_expectations_wrote_is_read(tmp_path: Path) -> None:
    import great_expectations as gx
    from great_expectations.expectations.core.expect_column_values_to_be_unique import ExpectColumnValuesToBeUnique

    written = gx.ExpectationSuite(name="s", expectations=[ExpectColumnValuesToBeUnique(column="url")])
    path = tmp_path / "suite.json"
    path.write_text(json.dumps(written.to_json_dict()), encoding="utf-8")
    assert not validate(probe_of(tmp_path, good()), Expectations(suite=str(path))).findings


def of_suite(folder: Path, values: list[Any], kind: str, *expectations: Data) -> list[str]:
    """The messages of a suite on a label, as Parquet or CSV has it."""
    table = pa.table({"x": [1.0 + row for row in range(len(values))], "kind": values})
    if kind == "parquet":
        pq.write_table(table, folder / "a.parquet")
    else:
        rows = (f"{row}.5,{value}\n" for row, value in enumerate(values))
        (folder / "a.csv").write_text("x,kind\n" + "".join(rows), encoding="utf-8")
    probe = open_probe(str(folder / f"a.{kind}"), columns=Columns("x", label="kind"))
    return [each.message for each in validate(probe, suite(folder, *expectations)).findings]


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("values", [[1, 2, -3, 0], [1.5, 2.0, -3.0, 0.25]])
def test_a_suite_has_numbers_where_the_file_has_numbers(tmp_path: Path, values: list[Any], kind: str) -> None:
    between = expect("column_values_to_be_between", column="kind", min_value=-2, max_value=3)
    (message,) = of_suite(
        tmp_path, values, kind, between, expect("column_max_to_be_between", column="kind", max_value=2)
    )
    assert (
        "expectations[0]: expect_column_values_to_be_between of 'kind' does not hold in 1 of 4 rows (number 2)"
        in message
    )


@pytest.mark.parametrize("kind", ["column_values_to_be_in_set", "column_values_to_not_be_in_set"])
@pytest.mark.parametrize(("values", "asked", "held"), [([1, 2], ["1", "2"], "numbers"), (["a", "b"], [1, 2], "texts")])
def test_a_set_of_another_kind_than_the_values_is_told(
    tmp_path: Path, kind: str, values: list[Any], asked: list[Any], held: str
) -> None:
    (message,) = of_suite(tmp_path, values, "parquet", expect(kind, column="kind", value_set=asked))
    assert message == (
        f"expect_{kind} could not be checked: no value is of the kind of those in value_set; column 'kind' holds {held}: "
        "write the kwargs for such values"
    )


def test_patterns_and_lengths_can_be_asked_of_numbers(tmp_path: Path) -> None:
    asked = [
        expect("column_values_to_match_regex", column="kind", regex="^[0-9]$"),
        expect("column_value_lengths_to_equal", column="kind", value=1),
    ]
    found = of_suite(tmp_path, [1, 2, 33, 4], "parquet", *asked)
    assert [message.endswith("does not hold in 1 of 4 rows (number 2)") for message in found] == [True, True]


@pytest.mark.parametrize(("kind", "values"), [("csv", ["007", "1"]), ("parquet", ["7", "1"]), ("csv", ["7", "b"])])
def test_a_suite_has_texts_where_the_file_has_texts(tmp_path: Path, kind: str, values: list[str]) -> None:
    assert of_suite(tmp_path, values, kind, expect("column_values_to_be_in_set", column="kind", value_set=values)) == []
    (message,) = of_suite(tmp_path, values, kind, expect("column_max_to_be_between", column="kind", max_value=9))
    assert message.startswith("expect_column_max_to_be_between could not be checked: ")
    assert message.endswith("; column 'kind' holds texts: write the kwargs for such values")


def test_expectations_of_one_column_are_told_apart_by_name(tmp_path: Path) -> None:
    entries = [expect("column_values_to_be_in_set", column="url", value_set=[each]) for each in "ab"]
    validation = validate(
        probe_of(tmp_path, good()), suite(tmp_path, *entries, expect("table_row_count_to_equal", value=1))
    )
    assert [check.name for check in validation.checks if check.fault == "suite"] == [
        "suite(url: has a value)",
        "suite(url: [0] column_values_to_be_in_set)",
        "suite(url: [1] column_values_to_be_in_set)",
        "suite([2] table_row_count_to_equal)",
    ]


def test_what_is_supported_is_told_where_an_expectation_is_not(tmp_path: Path) -> None:
    kind = "expect_column_values_to_be_of_type"
    with pytest.raises(RefusedProbeError) as raised:
        validate(
            probe_of(tmp_path, good()), suite(tmp_path, {"type": kind, "kwargs": {"column": "url", "type_": "str"}})
        )
    (fault,) = raised.value.faults
    assert "did you mean" not in fault
    assert all(each in fault for each in suites.KINDS)


def test_a_column_that_is_null_all_over_holds_no_expectation_of_a_suite(tmp_path: Path) -> None:
    asked = suite(tmp_path, expect("column_distinct_values_to_be_in_set", column="note", value_set=["fine"]))
    data = good() | {"note": pa.nulls(ROWS, pa.string())}
    (found,) = validate(probe_of(tmp_path, data), asked).findings
    assert "column 'note' has no value at all, so the suite asks nothing of it" in found.message


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (expect("column_values_to_be_uniq", column="url"), "expectations[0].type: 'expect_column_values_to_be_uniq' is none of"),
        (expect("column_mean_to_be_between", column="tokens"), "expectations[0].kwargs: has neither min_value nor max_value"),
        (expect("column_values_to_be_unique", column="url", x=1), "expectations[0].kwargs: x: extra fields not permitted"),
        (expect("column_values_to_be_unique"), "expectations[0].kwargs: column: field required"),
        (expect("column_values_to_be_in_set", column="url", value_set=[]), "kwargs.value_set: is empty, so nothing is asked"),
        (expect("column_values_to_be_unique", column="url", mostly=0), "kwargs.mostly: is 0, so nothing is asked"),
        (expect("column_values_to_be_unique", column="url", row_condition="a"), "row_condition: conditions on rows are not"),
        (expect("column_values_to_be_unique", column="nope"), "there is no column 'nope' in"),
        (expect("column_values_to_be_unique", column="x"), "'x' is the input; a suite is about the other columns"),
        (expect("column_values_to_be_unique", column="url") | {"severity": "low"}, "expectations[0].severity: is 'low'"),
        (expect("column_values_to_be_unique", column="url") | {"kwarg": 1}, "expectations[0]: there is no key 'kwarg'"),
        ("unique", "expectations[0]: should hold a type and kwargs"),
        ({"type": "unexpected_rows_expectation", "kwargs": {"unexpected_rows_query": "select"}}, "is none of the expectations"),
    ],
)  # fmt: skip
def test_a_suite_that_is_wrong_or_asks_nothing_is_refused(tmp_path: Path, entry: Any, fault: str) -> None:
    asked = suite(tmp_path, entry)
    with pytest.raises(RefusedProbeError) as raised:
        validate(probe_of(tmp_path, good()), asked)
    assert fault in str(raised.value)
    assert str(raised.value).startswith(str(asked.suite))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"name": "s", "expectations": []}', "the suite holds no expectation, so it asks nothing"),
        ('{"name": "s"}', "should be a suite"),
        ("[1,\n 2", "suite.json:2:3: is no JSON"),
        ('{"name": "s", "expectations": [NaN]}', "NaN is no number of JSON"),
        ('{"expectations": [], "expectations": [1]}', "the key 'expectations' is given twice"),
        ('{"expectations": [1], "expect": 2}', "there is no key 'expect'"),
    ],
)
def test_a_file_that_is_no_suite_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "suite.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RefusedProbeError) as raised:
        validate(probe_of(tmp_path, good()), Expectations(suite=str(path)))
    assert fault in str(raised.value)


def test_a_suite_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedProbeError, match=r"nope\.json: cannot be read: No such file"):
        validate(probe_of(tmp_path, good()), Expectations(suite=str(tmp_path / "nope.json")))


def test_a_column_that_is_not_in_the_file_is_refused(tmp_path: Path) -> None:
    asked = {"unique": replace(ASKED, unique=("nope", "url")), "not_null": replace(ASKED, not_null=("nope",))}
    for key, expected in asked.items():
        with pytest.raises(RefusedProbeError, match=f"{key}: there is no column 'nope'; there are: x, topic, "):
            validate(probe_of(tmp_path, good()), expected)


# What it leaves behind.


def test_the_evidence_stays_small(tmp_path: Path) -> None:
    def change(data: Data) -> None:
        put("name", **{f"r{row}": "id" * 5000 for row in range(50)})(data)
        put("topic", **{f"r{row}": f"class {row}" for row in range(50)})(data)

    data = good()
    change(data)
    text = json.dumps(validate(probe_of(tmp_path, data), ASKED).document, allow_nan=False)
    assert len(text) < 6000
    assert json.loads(text)["facts"].startswith("sha256:")


def test_the_digest_of_the_facts_is_that_of_their_content(tmp_path: Path) -> None:
    digests = [
        validate(probe_of(tmp_path, data)).document["facts"]
        for data in (good(), good(), good() | {"topic": ["b"] * ROWS})
    ]
    assert digests[0] == digests[1] != digests[2]


def test_great_expectations_is_imported_in_one_module_and_inside_functions() -> None:
    importing = set()
    for path in (ROOT / "gate").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {
            name.split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
            )
        }
        if "great_expectations" in names:
            importing.add(path.relative_to(ROOT).as_posix())
            assert not any(
                isinstance(node, ast.Import | ast.ImportFrom) and "great" in ast.unparse(node) for node in tree.body
            )
    assert importing == {"gate/probes/validating/engine.py"}


ALONE = """
import logging, socket, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
logging.getLogger().handlers[0].addFilter(lambda record: record.name.startswith("great_expectations"))
def refuse(*arguments, **named):
    raise SystemExit(f"network: {arguments}")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from gate.probes.probe_set import Columns, open_probe
from gate.probes.validation import validate
found = validate(open_probe(sys.argv[1], columns=Columns("x", label="topic", id="name")))
assert found.status == sys.argv[2], found.findings
"""


@pytest.mark.parametrize(("fault", "status"), [("", "passed"), ("no label", "failed")])
def test_validation_is_silent_and_asks_nothing_of_the_network(tmp_path: Path, fault: str, status: str) -> None:
    data = good()
    if fault:
        FAULTS[fault][0](data)
    uri = probe_of(tmp_path, data).uri
    done = subprocess.run(
        [sys.executable, "-c", ALONE, uri, status], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
