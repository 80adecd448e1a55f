from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gate import streaming
from gate.errors import LayerError, ProbeError, UsageError
from gate.features import LayerAddress
from gate.geometry.statistics import Batch
from gate.models.loading import load
from gate.policy.schema import Probe, Run

OUTPUT = {"output": LayerAddress("output")}


def probe(path: Path, **columns: str) -> Probe:
    return Probe.model_validate({"uri": str(path), "columns": columns})


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A probe set of 10 rows whose inputs are one vector each, with ids and labels."""
    path = tmp_path / "probe.npz"
    x = np.arange(30, dtype=np.float32).reshape(10, 3)
    np.savez(path, x=x, y=np.arange(10) % 2, id=np.array([f"r{i}" for i in range(10)]))
    return path


def stream(
    vectors: Path, spec: Probe, batch_size: int = 4, layers: dict[str, LayerAddress] | None = None
) -> list[Batch]:
    model = load(f"features:{vectors}", directory=vectors.parent)
    found = streaming.batches(
        model, streaming.open_rows(spec), layers or OUTPUT, device="cpu", run=Run(batch_size=batch_size)
    )
    return [batch[name] for batch in found for name in batch]


def test_vectors_of_the_probe_file_itself_are_its_inputs(rows: Path) -> None:
    batches = stream(rows, probe(rows, input="x", label="y", id="id"))
    assert [len(batch.ids) for batch in batches] == [4, 4, 2]
    assert torch.cat([batch.features for batch in batches]).flatten().tolist() == list(range(30))
    assert batches[0].class_codes().names == ("0", "1")


def test_clusters_sublabels_and_targets_reach_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "more.npz"
    x, count = np.ones((10, 3), dtype=np.float32), np.arange(10)
    np.savez(path, x=x, patient=count // 4, fine=count % 3, dose=count / 2, score=count)
    columns: Any = {"input": "x", "cluster": "patient", "sublabel": "fine", "target": ["dose", "score"]}
    batches = stream(path, Probe.model_validate({"uri": str(path), "columns": columns}))
    assert batches[0].class_codes("sublabels").names == ("0", "1", "2")
    assert torch.cat([batch.numbers("targets") for batch in batches])[:, 0].tolist() == [row / 2 for row in range(10)]
    clusters = torch.cat([batch.numbers("clusters") for batch in batches])
    assert clusters.unique_consecutive(return_counts=True)[1].tolist() == [4, 4, 2]  # across the borders of batches


def test_vectors_of_another_file_stand_beside_the_rows(rows: Path, tmp_path: Path) -> None:
    vectors = tmp_path / "v.npy"
    np.save(vectors, np.ones((10, 5), dtype=np.float32))
    batches = stream(vectors, probe(rows, input="x", label="y", id="id"))
    assert {tuple(batch.features.shape[1:]) for batch in batches} == {(5,)}
    assert sum((batch.ids for batch in batches), ()) == tuple(f"r{i}" for i in range(10))


@pytest.mark.parametrize("count", [9, 11])
def test_another_number_of_vectors_than_rows_is_refused(rows: Path, tmp_path: Path, count: int) -> None:
    vectors = tmp_path / "v.npy"
    np.save(vectors, np.ones((count, 5), dtype=np.float32))
    with pytest.raises(ProbeError, match="differ in their number of rows"):
        stream(vectors, probe(rows, input="x", id="id"))


def test_vectors_in_another_order_are_refused_by_their_ids(rows: Path, tmp_path: Path) -> None:
    vectors = tmp_path / "v.npz"
    np.savez(vectors, features=np.ones((10, 5), dtype=np.float32), id=np.array([f"r{i}" for i in reversed(range(10))]))
    with pytest.raises(ProbeError, match=r"vector of id 'r9' stands where the probe set .* has 'r0'"):
        stream(vectors, probe(rows, input="x", id="id"))


VECTORS = np.ones((10, 5), dtype=np.float32)
IDS = np.array([f"r{i}" for i in range(10)])


def test_vectors_stand_in_the_column_features_of_a_file_with_the_same_ids(rows: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", features=VECTORS, id=IDS)
    batches = stream(tmp_path / "v.npz", probe(rows, input="x", id="id"))
    assert torch.equal(torch.cat([batch.features for batch in batches]), torch.from_numpy(VECTORS))


@pytest.mark.parametrize("columns", [["features"], ["x"]])
def test_a_file_of_nothing_but_vectors_is_matched_by_order(rows: Path, tmp_path: Path, columns: list[str]) -> None:
    np.savez(tmp_path / "v.npz", **dict.fromkeys(columns, VECTORS))  # type: ignore[arg-type]
    batches = stream(tmp_path / "v.npz", probe(rows, input="x", id="id"))
    assert {tuple(batch.features.shape[1:]) for batch in batches} == {(5,)}


def test_a_file_with_features_and_the_inputs_of_the_probe_set_is_refused(rows: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", features=VECTORS, x=VECTORS, id=IDS)
    with pytest.raises(ProbeError, match=r"holds both 'features' and what the probe set takes as its input \(x\)"):
        stream(tmp_path / "v.npz", probe(rows, input="x", id="id"))


def test_a_probe_set_whose_input_is_named_features_is_not_ambiguous(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", features=np.arange(30).reshape(10, 3), id=IDS)
    np.savez(tmp_path / "v.npz", features=VECTORS, id=IDS)
    assert stream(tmp_path / "v.npz", probe(tmp_path / "p.npz", input="features", id="id"))[0].features.shape == (4, 5)


@pytest.mark.parametrize("column", ["features", "x"])
def test_vectors_beside_other_columns_than_the_id_of_the_probe_set_are_refused(
    rows: Path, tmp_path: Path, column: str
) -> None:
    np.savez(tmp_path / "v.npz", **{column: VECTORS, "key": IDS[::-1]})  # type: ignore[arg-type]
    with pytest.raises(ProbeError, match=rf"has no column 'id', the id of the probe set .* there are: {column}, key"):
        stream(tmp_path / "v.npz", probe(rows, input="x", id="id"))


def test_without_an_id_in_the_probe_set_vectors_are_matched_by_order(rows: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", features=VECTORS, key=IDS)
    assert len(stream(tmp_path / "v.npz", probe(rows, input="x"))) == 3


def test_a_file_without_vectors_is_refused_by_the_missing_column(rows: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", embedding=VECTORS)
    with pytest.raises(ProbeError, match="there is no column 'features'"):
        stream(tmp_path / "v.npz", probe(rows, input="x", id="id"))


class Tiring(nn.Module):
    """Gives its rows in the first five calls, and one and the same row in all later ones."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return x * (self.calls <= 5)


def test_a_model_that_gives_other_features_after_the_last_batch_than_at_first_is_refused(
    rows: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    flavors = "{pytorch: {model_data: data, code: null}, python_function: {loader_module: mlflow.pytorch}}"
    (tmp_path / "MLmodel").write_text(f"flavors: {flavors}\n")
    program = torch.export.export(Tiring(), (torch.ones(4, 3),), dynamic_shapes=({0: torch.export.Dim("rows")},))
    torch.export.save(program, tmp_path / "data" / "model.pt2")
    model = load(str(tmp_path), directory=tmp_path)
    opened = streaming.open_rows(probe(rows, input="x", id="id"))
    found = streaming.batches(model, opened, OUTPUT, device="cpu", run=Run(batch_size=4))
    assert [len(next(found)["output"].ids) for _ in range(3)] == [4, 4, 2]
    with pytest.raises(LayerError, match="the first batch, run again after the last one, gave other features"):
        next(found)


def test_vectors_have_no_inner_layers(rows: Path) -> None:
    with pytest.raises(LayerError, match=r"no layer 'encoder\.1': precomputed vectors have only 'input' and 'output'"):
        stream(rows, probe(rows, input="x", id="id"), layers={"e": LayerAddress("encoder.1")})


def test_vectors_that_are_no_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, x=np.ones((4, 2, 3), dtype=np.float32))
    with pytest.raises(ProbeError, match=r"must be rows \(n, d\)"):
        stream(path, probe(path, input="x"))


def test_progress_counts_rows(rows: Path) -> None:
    seen: list[int] = []
    model = load(f"features:{rows}", directory=rows.parent)
    spec = probe(rows, input="x", id="id")
    run = Run(batch_size=4)
    found = streaming.batches(model, streaming.open_rows(spec), OUTPUT, device="cpu", run=run, on_progress=seen.append)
    assert len(list(found)) == 3
    assert seen == [4, 8, 10]


def test_another_content_than_the_pinned_one_is_refused(rows: Path) -> None:
    opened = streaming.open_rows(probe(rows, input="x", id="id"))
    list(opened.batches(10))
    streaming.require_pinned(opened, None)
    streaming.require_pinned(opened, opened.digest)
    with pytest.raises(ProbeError, match="the policy pins sha256:0"):
        streaming.require_pinned(opened, "sha256:" + "0" * 64)


def test_the_probe_that_counts_is_the_override_under_the_policys_digest(rows: Path, tmp_path: Path) -> None:
    pinned = Probe.model_validate({"uri": "a.npz", "columns": {"input": "x"}, "digest": "sha256:" + "1" * 64})
    assert streaming.resolved_probe(pinned, None) is pinned
    assert streaming.resolved_probe(pinned, "b.npz") == pinned.model_copy(update={"uri": "b.npz"})
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"uri: {rows}\ncolumns: {{input: x}}\n")
    assert streaming.resolved_probe(pinned, str(spec)).digest == pinned.digest
    assert streaming.resolved_probe(None, str(spec)).uri == str(rows)


def test_without_any_probe_there_is_nothing_to_measure_on() -> None:
    with pytest.raises(UsageError, match="no `probe:` block and no --probe"):
        streaming.resolved_probe(None, None)
    with pytest.raises(UsageError, match="give a probe spec"):
        streaming.resolved_probe(None, "b.npz")


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="device 'tpu' is unknown"):
        streaming.resolved_device("tpu")
    assert streaming.resolved_device("cpu") == "cpu"
    if not torch.cuda.is_available():
        assert streaming.resolved_device("auto") == "cpu"
        with pytest.raises(UsageError, match="torch finds no GPU here"):
            streaming.resolved_device("cuda")
