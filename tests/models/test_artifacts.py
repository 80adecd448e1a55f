"""Probe sets that MLflow keeps."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow.data import numpy_dataset
from mlflow.data.code_dataset_source import CodeDatasetSource

from gate import streaming
from gate.errors import ProbeError, RegistryError
from gate.models import artifacts
from gate.models.artifacts import fetched
from gate.models.quiet import quiet_mlflow
from gate.policy.schema import Probe
from tests.models.conftest import Registry

TABLE = pa.table({"x": [1.5, 2.5, 3.5], "id": ["p", "q", "r"]})
COLUMNS = {"input": "x", "id": "id"}


def probe(uri: str) -> Probe:
    return Probe.model_validate({"uri": uri, "columns": COLUMNS})


def ids(rows: Any) -> tuple[str, ...]:
    return tuple(name for batch in rows.batches(2) for name in batch.ids)


@pytest.fixture(scope="module")
def run(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run that keeps a probe set as an artifact, and whose inputs are datasets of several sources."""

    del registry  # it is there
    path = tmp_path_factory.mktemp("probes") / "p.parquet"
    pq.write_table(TABLE, path)
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("probes", artifact_location=(path.parent / "kept").as_uri())
    with quiet_mlflow(), mlflow.start_run(experiment_id=experiment) as started:
        mlflow.log_artifact(str(path), "probes")
        mlflow.log_input(numpy_dataset.from_numpy(np.ones(1), source=str(path), name="wiki"))
        mlflow.log_input(numpy_dataset.from_numpy(np.ones(1), source=str(path.with_name("gone.parquet")), name="gone"))
        mlflow.log_input(numpy_dataset.from_numpy(np.ones(1), name="code", source=CodeDatasetSource({})))
        for size in (2, 3):
            mlflow.log_input(numpy_dataset.from_numpy(np.ones(size), source=str(path), name="twice"))
    return str(started.info.run_id)


@pytest.mark.parametrize("form", ["runs:/{}/probes/p.parquet", "dataset:/{}/wiki"])
def test_a_probe_set_of_a_run_is_read_under_the_uri_that_was_asked_for(form: str, run: str, tmp_path: Path) -> None:
    uri = form.format(run)
    rows = streaming.open_rows(probe(uri), directory=tmp_path / "new")
    assert ids(rows) == ("p", "q", "r")
    assert rows.uri == uri
    pq.write_table(TABLE, tmp_path / "same.parquet")
    same = streaming.open_rows(probe(str(tmp_path / "same.parquet")))
    assert ids(same) == ids(rows)
    assert same.digest == rows.digest
    assert list((tmp_path / "new").rglob("p.parquet"))


def test_a_probe_set_of_a_run_takes_the_place_of_the_policys_own(run: str) -> None:
    block = probe("a.npz")
    spec = streaming.resolved_probe(block, f"runs:/{run}/probes/p.parquet")
    assert spec.columns == block.columns
    assert ids(streaming.open_rows(spec)) == ("p", "q", "r")


def test_files_that_were_fetched_last_as_long_as_the_probe_set(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    rows = streaming.open_rows(probe(f"runs:/{run}/probes/p.parquet"))
    assert ids(rows) == ("p", "q", "r")
    assert list(tmp_path.rglob("p.parquet"))
    del rows
    gc.collect()
    assert not list(tmp_path.iterdir())
    with pytest.raises(ProbeError, match="there is no column 'y'"):
        streaming.open_rows(Probe.model_validate({"uri": f"runs:/{run}/probes/p.parquet", "columns": {"input": "y"}}))
    assert not list(tmp_path.iterdir())


def test_a_folder_of_a_run_is_a_folder_of_pictures(run: str, tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match=r"runs:/.*/probes/p\.parquet: is no picture by its name"):
        streaming.open_rows(probe(f"runs:/{run}/probes"), directory=tmp_path)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("runs:/{}", r"expected runs:/RUN_ID/path/to/p\.parquet"),
        ("dataset:/{}/", "expected dataset:/RUN_ID/NAME"),
        ("runs:/{}/none.parquet", "its files cannot be downloaded .*; the run holds: probes; check probe.uri"),
        ("runs:/0000/none.parquet", r"runs:/0000/none\.parquet: its files cannot be downloaded"),
        ("dataset:/0000/wiki", "dataset:/0000/wiki: the run cannot be looked up: .*0000.*; check probe.uri"),
        ("dataset:/{}/wikis", "the run has no dataset 'wikis' among its inputs; there are: code, gone, twice, wiki"),
        ("dataset:/{}/code", "the source of the dataset is CodeDatasetSource, which names no file; log it with"),
        ("dataset:/{}/gone", "the source of the dataset cannot be fetched: "),
        ("dataset:/{}/twice", "the run has 2 datasets 'twice'; log each under a name of its own"),
    ],
)
def test_what_a_run_does_not_keep_is_refused(form: str, message: str, run: str, tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match=message):
        fetched(form.format(run), tmp_path)


def test_a_source_that_cannot_be_told_is_refused(run: str) -> None:
    found = mlflow.MlflowClient().get_run(run)
    assert found.inputs is not None
    for each in found.inputs.dataset_inputs:
        each.dataset._source = json.dumps({"none": 1})
        each.dataset._source_type = "nowhere"
    with pytest.raises(ProbeError, match="the source of the dataset cannot be read"):
        artifacts._dataset(f"dataset:/{run}/wiki", found)


@pytest.mark.usefixtures("registry")
def test_without_a_tracking_store_there_is_no_run(tmp_path: Path) -> None:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/none.db")
    try:
        with pytest.raises(RegistryError, match="there is no database file"):
            fetched("runs:/1/p.parquet", tmp_path)
    finally:
        mlflow.set_tracking_uri(before)
