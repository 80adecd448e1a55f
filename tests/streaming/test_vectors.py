"""Precomputed vectors in the place of a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gate.errors import LayerError, ProbeError
from tests.streaming.made import outputs, plan, probe


def test_vectors_of_the_probe_file_itself_are_its_inputs(rows: Path) -> None:
    batches = outputs(rows, probe(rows, input="x", label="y", id="id"))
    assert [len(batch.ids) for batch in batches] == [4, 4, 2]
    assert torch.cat([batch.features for batch in batches]).flatten().tolist() == list(range(30))
    assert batches[0].class_codes().names == ("0", "1")


def test_vectors_of_another_file_stand_beside_the_rows(rows: Path, tmp_path: Path) -> None:
    vectors = tmp_path / "v.npy"
    np.save(vectors, np.ones((10, 5), dtype=np.float32))
    batches = outputs(vectors, probe(rows, input="x", label="y", id="id"))
    assert {tuple(batch.features.shape[1:]) for batch in batches} == {(5,)}
    assert sum((batch.ids for batch in batches), ()) == tuple(f"r{i}" for i in range(10))


@pytest.mark.parametrize("count", [9, 11])
def test_another_number_of_vectors_than_rows_is_refused(rows: Path, tmp_path: Path, count: int) -> None:
    vectors = tmp_path / "v.npy"
    np.save(vectors, np.ones((count, 5), dtype=np.float32))
    with pytest.raises(ProbeError, match="differ in their number of rows"):
        outputs(vectors, probe(rows, input="x", id="id"))


def test_vectors_in_another_order_are_refused_by_their_ids(rows: Path, tmp_path: Path) -> None:
    vectors = tmp_path / "v.npz"
    np.savez(vectors, features=np.ones((10, 5), dtype=np.float32), id=np.array([f"r{i}" for i in reversed(range(10))]))
    with pytest.raises(ProbeError, match=r"vector of id 'r9' stands where the probe set .* has 'r0'"):
        outputs(vectors, probe(rows, input="x", id="id"))


VECTORS = np.ones((10, 5), dtype=np.float32)
IDS = np.array([f"r{i}" for i in range(10)])


def test_vectors_stand_in_the_column_features_of_a_file_with_the_same_ids(rows: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", features=VECTORS, id=IDS)
    batches = outputs(tmp_path / "v.npz", probe(rows, input="x", id="id"))
    assert torch.equal(torch.cat([batch.features for batch in batches]), torch.from_numpy(VECTORS))


@pytest.mark.parametrize("columns", [["features"], ["x"]])
def test_a_file_of_nothing_but_vectors_is_matched_by_order(rows: Path, tmp_path: Path, columns: list[str]) -> None:
    np.savez(tmp_path / "v.npz", **dict.fromkeys(columns, VECTORS))  # type: ignore[arg-type]
    batches = outputs(tmp_path / "v.npz", probe(rows, input="x", id="id"))
    assert {tuple(batch.features.shape[1:]) for batch in batches} == {(5,)}


def test_a_file_with_features_and_the_inputs_of_the_probe_set_is_refused(rows: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", features=VECTORS, x=VECTORS, id=IDS)
    with pytest.raises(ProbeError, match=r"holds both 'features' and what the probe set takes as its input \(x\)"):
        outputs(tmp_path / "v.npz", probe(rows, input="x", id="id"))


def test_a_probe_set_whose_input_is_named_features_is_not_ambiguous(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", features=np.arange(30).reshape(10, 3), id=IDS)
    np.savez(tmp_path / "v.npz", features=VECTORS, id=IDS)
    assert outputs(tmp_path / "v.npz", probe(tmp_path / "p.npz", input="features", id="id"))[0].features.shape == (4, 5)


@pytest.mark.parametrize("column", ["features", "x"])
def test_vectors_beside_other_columns_than_the_id_of_the_probe_set_are_refused(
    rows: Path, tmp_path: Path, column: str
) -> None:
    np.savez(tmp_path / "v.npz", **{column: VECTORS, "key": IDS[::-1]})  # type: ignore[arg-type]
    with pytest.raises(ProbeError, match=rf"has no column 'id', the id of the probe set .* there are: {column}, key"):
        outputs(tmp_path / "v.npz", probe(rows, input="x", id="id"))


def test_without_an_id_in_the_probe_set_vectors_are_matched_by_order(rows: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", features=VECTORS, key=IDS)
    assert len(outputs(tmp_path / "v.npz", probe(rows, input="x"))) == 3


def test_a_file_without_vectors_is_refused_by_the_missing_column(rows: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", embedding=VECTORS)
    with pytest.raises(ProbeError, match="there is no column 'features'"):
        outputs(tmp_path / "v.npz", probe(rows, input="x", id="id"))


def test_vectors_have_no_inner_layers(rows: Path) -> None:
    asked = plan({"metric": "effective_rank", "min": 1, "layer": "e"}, layers={"e": {"path": "encoder.1"}})
    with pytest.raises(LayerError, match=r"no layer 'encoder\.1': precomputed vectors have only 'input' and 'output'"):
        outputs(rows, probe(rows, input="x", id="id"), asked=asked)


def test_vectors_that_are_no_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, x=np.ones((4, 2, 3), dtype=np.float32))
    with pytest.raises(ProbeError, match=r"must be rows \(n, d\)"):
        outputs(path, probe(path, input="x"))
