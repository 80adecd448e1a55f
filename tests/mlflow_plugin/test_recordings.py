"""Recorded checks are found again: the newest of each version, whatever else lies in the tracking store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from gate.attestation.names import statement_key
from gate.cli import main
from gate.errors import GateError, RegistryError, VerificationError
from gate.evidence import bundle
from gate.mlflow_plugin import recorder, recordings
from gate.mlflow_plugin.signing import Signer
from gate.models.digest import digest_of, digest_of_names, listed
from tests.attestation import made

# MLflow's own calls in these tests; what is tested silences them.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SAMPLES = Path(__file__).parents[1] / "evidence" / "v1"


class Store:
    """A tracking store of its own, with checks of registered models."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = f"sqlite:///{folder}/mlflow.db"
        self.client = MlflowClient(self.uri, self.uri)
        self.client.create_experiment("gate", artifact_location=(folder / "gate").as_uri())

    def version(self, name: str) -> str:
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name)
        return str(self.client.create_model_version(name, (self.folder / "model").as_uri()).version)

    def record(self, name: str, version: str, sample: str = "passed", *, signed: bool = False) -> str:
        document = bundle.load(SAMPLES / f"{sample}.json")
        uri = f"models:/{name}/{version}"
        document["model"] |= {"name": name, "version": version, "uri": uri, "resolved": uri}
        document["model"] |= {"run_id": None, "model_id": None}
        signer = self._signer(document) if signed else None
        return recorder.record(document, "<html>", signer=signer, tracking_uri=self.uri, registry_uri=self.uri)

    def _signer(self, document: dict[str, Any]) -> Signer:
        (self.folder / "model").mkdir(exist_ok=True)
        (self.folder / "model" / "MLmodel").write_text("flavors: {}\n", encoding="utf-8")
        files = listed(self.folder / "model")
        document["model"] |= {"digest": digest_of(files), "names_digest": digest_of_names(files), "trust": "code-free"}
        document["run"] |= {"enforcement": "block", "overrides": []}
        return Signer(document, made.key("gate"))

    def file(self, run: str, name: str) -> Path:
        return self.folder / "gate" / run / "artifacts" / "gate" / name


@pytest.fixture
def store(template: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    (tmp_path / "mlflow.db").write_bytes(template)
    made = Store(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    monkeypatch.chdir(tmp_path)
    assert mlflow.get_tracking_uri() == made.uri
    return made


def found(name: str, *, every: bool = False) -> dict[str, str | None]:
    """Run → the model of the evidence that it holds."""
    return {
        each.source.removeprefix("run "): json.loads(each.read())["model"]["resolved"]
        for each in recordings.of_model(name, every=every)
    }


def test_the_newest_check_of_each_version_is_found(store: Store) -> None:
    one, two = store.version("digits"), store.version("digits")
    first, second, third = store.record("digits", one), store.record("digits", two), store.record("digits", one)
    assert found("digits") == {second: "models:/digits/2", third: "models:/digits/1"}
    assert set(found("digits", every=True)) == {first, second, third}


def test_checks_of_other_models_and_other_runs_are_left_out(store: Store) -> None:
    ours = store.record("di_its", store.version("di_its"))
    for other in ("digits", "di_its-2", "DI_ITS"):
        store.record(other, store.version(other))
    store.client.create_run(store.client.create_experiment("training"))
    assert list(found("di_its")) == [ours]
    assert found("nobody") == {}


def test_the_name_of_a_model_is_no_filter(store: Store) -> None:
    for name in ("o'neil", 'say "hi"', "both ' and \""):
        store.client.create_registered_model(name)
        version = str(store.client.create_model_version(name, (store.folder / "model").as_uri()).version)
        run = store.record(name, version)
        assert found(name) == {run: f"models:/{name}/{version}"}


def test_a_check_in_the_experiment_of_the_model_is_found(store: Store) -> None:
    elsewhere = store.client.create_experiment("training", artifact_location=(store.folder / "a b%20c").as_uri())
    training = store.client.create_run(elsewhere).info.run_id
    document = bundle.load(SAMPLES / "passed.json")
    store.version("digits")
    document["model"] |= {"name": "digits", "version": "1", "run_id": training, "model_id": None}
    run = recorder.record(document, "<html>", tracking_uri=store.uri, registry_uri=store.uri)
    assert store.client.get_run(run).info.experiment_id == elsewhere
    assert found("digits") == {run: "models:/digits/1"}


def test_more_runs_than_a_page_are_all_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "_PAGE", 2)
    monkeypatch.setattr(recordings, "_IN_MEMORY", 2)
    runs = {store.record("digits", store.version("digits")) for _ in range(5)}
    for number in range(3):
        store.client.create_experiment(f"another {number}")
    assert set(found("digits")) == runs


def test_a_recording_that_broke_off_is_told_and_hides_no_other(store: Store) -> None:
    version = store.version("digits")
    whole, broken = store.record("digits", version), store.record("digits", version)
    store.client.set_terminated(broken, "FAILED")
    assert list(found("digits")) == [whole]
    by_run = {each.source: each for each in recordings.of_model("digits", every=True)}
    with pytest.raises(GateError, match="did not come to its end, it is FAILED"):
        by_run[f"run {broken}"].read()
    store.client.set_terminated(whole, "FAILED")
    (only,) = recordings.of_model("digits")
    assert only.source == f"run {broken}"
    with pytest.raises(GateError, match="did not come to its end"):
        only.read()


def test_a_run_without_its_artifact_is_told(store: Store) -> None:
    run = store.record("digits", store.version("digits"))
    next(store.folder.rglob("evidence.json")).unlink()
    (only,) = recordings.of_model("digits")
    assert only.model == "models:/digits/1"
    with pytest.raises(GateError, match=r"holds no gate/evidence\.json that can be read"):
        only.read()
    with pytest.raises(GateError, match=r"holds no gate/evidence\.json"):
        recordings.of_run(run)


def test_the_evidence_of_one_run_is_found_by_its_id(store: Store) -> None:
    run = store.record("digits", store.version("digits"), "sample")
    assert json.loads(recordings.of_run(run))["status"] == "failed"
    with pytest.raises(RegistryError, match="the run 'none' cannot be looked up in MLflow at"):
        recordings.of_run("none")


def test_the_beginning_of_an_id_is_enough_where_no_other_check_has_it(store: Store) -> None:
    run = store.record("digits", store.version("digits"), "sample")
    assert recordings.of_run(run[:8]) == recordings.of_run(run)
    with pytest.raises(RegistryError, match="no recorded check has an id that begins with '0000ffff'"):
        recordings.of_run("0000ffff")


def test_a_model_that_is_not_there_is_told_with_those_that_are(store: Store) -> None:
    store.version("digits")
    assert recordings.nearest_models("digits") == ""
    assert recordings.nearest_models("digitz") == "; the nearest models are: digits"


def test_artifacts_elsewhere_are_downloaded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = store.record("digits", store.version("digits"))
    read: list[str] = []

    def downloaded(uri: str) -> bytes:
        read.append(uri)
        return original(uri)

    original = recordings._downloaded
    monkeypatch.setattr(recordings, "_downloaded", downloaded)
    monkeypatch.setattr(recordings, "_LOCAL", ("nothing is local:",))
    assert found("digits") == {run: "models:/digits/1"}
    assert read == [f"{(store.folder / 'gate').as_uri()}/{run}/artifacts/gate/evidence.json"]


@pytest.fixture(params=["local", "remote"])
def _at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Artifacts that are read where they lie, or through MLflow."""
    if request.param == "remote":
        monkeypatch.setattr(recordings, "_LOCAL", ("nothing is local:",))


@pytest.mark.usefixtures("_at")
def test_signed_evidence_is_read_as_long_as_it_is_what_was_signed(store: Store) -> None:
    version = store.version("digits")
    old, new = store.record("digits", version, signed=True), store.record("digits", version, "sample", signed=True)
    assert [json.loads(recordings.of_run(run))["status"] for run in (old, new)] == ["passed", "failed"]
    store.client.delete_model_version("digits", version)
    assert json.loads(recordings.of_run(new))["status"] == "failed"


@pytest.mark.usefixtures("_at")
def test_evidence_of_another_run_is_refused(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    passed = store.record("digits", store.version("digits"), signed=True)
    failed = store.record("digits", version := store.version("digits"), "sample", signed=True)
    content = store.file(passed, "evidence.json").read_bytes()
    store.file(failed, "evidence.json").write_bytes(content)
    shutil.copy(store.file(passed, "attestation.json"), store.file(failed, "attestation.json"))
    for command in ("report", "explain"):
        assert main([command, failed[:8]]) == 7
        out, err = capsys.readouterr()
        assert out == ""
        assert f"the evidence in run {failed} is not what was signed for it: it is sha256:" in err
        assert f"the statement on models:/digits/{version} names sha256:" in err
    assert main(["report", passed]) == 0
    with pytest.raises(VerificationError, match="is not what was signed"):
        next(each for each in recordings.of_model("digits") if each.source == f"run {failed}").read()


@pytest.mark.usefixtures("_at")
def test_the_statement_beside_evidence_counts_where_the_version_has_a_newer_one(store: Store) -> None:
    version = store.version("digits")
    failed = store.record("digits", version, "sample", signed=True)
    passed = store.record("digits", version, signed=True)
    content = store.file(failed, "evidence.json").read_bytes()
    store.file(failed, "evidence.json").write_bytes(store.file(passed, "evidence.json").read_bytes())
    with pytest.raises(VerificationError, match=r"the statement beside it names sha256:"):
        recordings.of_run(failed)
    shutil.copy(store.file(passed, "attestation.json"), store.file(failed, "attestation.json"))
    with pytest.raises(VerificationError, match=f"beside the evidence in run {failed} is about run {passed}"):
        recordings.of_run(failed)
    store.file(failed, "evidence.json").write_bytes(content)
    for damaged in (b"{}", b"\xff", b""):
        store.file(failed, "attestation.json").write_bytes(damaged)
        with pytest.raises(VerificationError, match=f"beside the evidence in run {failed} cannot be read: "):
            recordings.of_run(failed)


@pytest.mark.usefixtures("_at")
def test_a_run_that_nobody_signed_is_read_whatever_is_on_its_version(store: Store) -> None:
    unsigned = store.record("digits", version := store.version("digits"), "sample")
    store.record("digits", version, signed=True)
    store.client.set_model_version_tag("digits", version, statement_key("damaged"), "{}")
    assert json.loads(recordings.of_run(unsigned))["status"] == "failed"


def test_a_registry_that_does_not_answer_vouches_for_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = store.record("digits", store.version("digits"), signed=True)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=f"what was signed for run {run} cannot be looked up: no server answers"):
        recordings.of_run(run)


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(RegistryError, match="there is no database file"):
        list(recordings.of_model("digits"))
    with pytest.raises(RegistryError, match="there is no database file"):
        recordings.of_run("x")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match="no server answers there"):
        list(recordings.of_model("digits"))


def test_nothing_is_written(store: Store) -> None:
    store.record("digits", store.version("digits"))
    before = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*") if path.is_file()}
    found("digits", every=True)
    after = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*") if path.is_file()}
    assert before == after


def test_the_runs_say_nothing_that_a_person_has_to_read(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    store.record("digits", store.version("digits"))
    capfd.readouterr()
    found("digits")
    assert capfd.readouterr() == ("", "")
