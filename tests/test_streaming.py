from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

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
    assert streaming.resolved_device("cpu") == "cpu"
    if not torch.cuda.is_available():
        assert streaming.resolved_device("auto") == "cpu"
        with pytest.raises(UsageError, match="torch finds no GPU here"):
            streaming.resolved_device("cuda")
