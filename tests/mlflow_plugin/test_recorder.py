from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from gate.errors import RegistryError
from gate.evidence import bundle, html
from gate.mlflow_plugin import metrics, recorder

# MLflow's own calls in these tests; the recorder itself silences them.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SAMPLES = Path(__file__).parents[1] / "evidence" / "v1"


@dataclass(frozen=True)
class Registry:
    """A real store of its own, with the digits model in two versions."""

    client: MlflowClient
    uri: str
    database: Path
    experiment: str
    run_id: str

    def document(self, sample: str = "sample", **model: Any) -> dict[str, Any]:
        document = bundle.load(SAMPLES / f"{sample}.json")
        document["model"].update({"run_id": self.run_id, "model_id": None, **model})
        return document

    def record(self, document: dict[str, Any]) -> Run:
        run_id = recorder.record(document, html.render(document), tracking_uri=self.uri, registry_uri=self.uri)
        return self.client.get_run(run_id)

    def tags(self, version: str) -> dict[str, str]:
        return dict(self.client.get_model_version("digits", version).tags)

    def gate_runs(self) -> list[Run]:
        found = self.client.search_experiments()
        runs = self.client.search_runs([experiment.experiment_id for experiment in found])
        return [run for run in runs if run.info.run_id != self.run_id]


@pytest.fixture
def registry(template: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.chdir(tmp_path)  # where a store without an artifact root of its own puts its artifacts
    database = tmp_path / "mlflow.db"
    database.write_bytes(template)
    uri = f"sqlite:///{database}"
    client = MlflowClient(uri, uri)
    experiment = client.create_experiment("digits training", artifact_location=(tmp_path / "artifacts").as_uri())
    client.create_experiment("gate", artifact_location=(tmp_path / "gate").as_uri())
    run_id = client.create_run(experiment).info.run_id
    client.create_registered_model("digits")
    for _ in range(2):
        client.create_model_version("digits", (tmp_path / "model").as_uri(), run_id)
    return Registry(client, uri, database, experiment, run_id)


def artifact(registry: Registry, run: Run, path: str) -> str:
    return Path(registry.client.download_artifacts(run.info.run_id, path)).read_text(encoding="utf-8")


def test_a_failed_check_is_a_finished_run_beside_the_model(registry: Registry) -> None:
    run = registry.record(registry.document())
    assert run.info.status == "FINISHED"
    assert run.info.experiment_id == registry.experiment
    assert run.info.run_name == "gate check of digits version 2"
    assert (run.data.tags["gate"], run.data.tags["gate.policy"]) == ("FAIL", "classifier@1.0.0")


def test_a_verdict_that_stands_keeps_its_run_where_the_description_cannot_be_written(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: str) -> None:
        raise MlflowException("no")

    monkeypatch.setattr(MlflowClient, "update_model_version", refused)
    with pytest.raises(RegistryError, match=r"cannot record the check of models:/digits/1 in MLflow at .*: no; mend"):
        registry.record(registry.document("passed"))
    (run,) = registry.client.search_runs([registry.experiment], "tags.gate = 'PASS'")
    assert (run.info.status, registry.tags("1")["gate"]) == ("FINISHED", "PASS")


@pytest.mark.parametrize(
    ("name", "version", "word"), [("sample", "2", "FAIL"), ("passed", "1", "PASS"), ("error", "2", "ERROR")]
)
def test_the_version_carries_three_short_tags(registry: Registry, name: str, version: str, word: str) -> None:
    run = registry.record(registry.document(name))
    expected = {"gate": word, "gate.run": run.info.run_id[:8], "gate.policy": "classifier@1.0.0"}
    assert registry.tags(version) == expected
    assert registry.tags("1" if version == "2" else "2") == {}


def test_the_artifacts_lie_below_gate(registry: Registry) -> None:
    document = registry.document()
    run = registry.record(document)
    paths = {entry.path for entry in registry.client.list_artifacts(run.info.run_id, "gate")}
    assert paths == {"gate/evidence.json", "gate/report.html", "gate/summary.txt"}
    assert json.loads(artifact(registry, run, "gate/evidence.json")) == document
    assert artifact(registry, run, "gate/report.html") == html.render(document)
    assert artifact(registry, run, "gate/summary.txt").startswith("FAILED  models:/digits/2 is blocked")


def test_metrics_hold_the_finite_estimates_and_the_counts(registry: Registry) -> None:
    document = registry.document()
    logged = registry.record(document).data.metrics
    finite = {entry["metric"]: entry["value"] for entry in document["estimates"] if entry["value"] is not None}
    assert len(finite) < len(document["estimates"])
    assert {name: logged[f"embedding/{name}".replace("@", "_")] for name in finite} == finite
    assert (logged["rules/fail"], logged["rules/pass"]) == (3.0, 4.0)
    assert len(logged) == len(finite) + 7


def test_metrics_and_params_take_one_request(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    log_batch = MlflowClient.log_batch

    def counted(self: MlflowClient, run_id: str, **entries: Any) -> Any:
        calls.append(run_id)
        return log_batch(self, run_id, **entries)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    run = registry.record(registry.document())
    assert calls == [run.info.run_id]
    assert run.data.params["policy"] == "classifier@1.0.0"


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, None])
def test_a_number_that_is_not_finite_is_no_metric(value: float | None) -> None:
    document = bundle.load(SAMPLES / "sample.json")
    document["estimates"][0]["value"] = value
    name = f"embedding/{document['estimates'][0]['metric']}"
    found = metrics.numbers(document)
    assert name not in found
    assert len(found) > 10


@pytest.mark.parametrize("layer", ["a/b", "../..", "blocks[3]", "größe ✓", "", "x" * 400, "100%"])
def test_a_layer_may_be_called_anything(registry: Registry, layer: str) -> None:
    document = registry.document()
    for estimate in document["estimates"]:
        estimate["layer"] = layer
    assert any(name.endswith("/effective_rank") for name in registry.record(document).data.metrics)


def test_more_metrics_than_a_server_takes_at_once_are_all_logged(registry: Registry) -> None:
    document = registry.document()
    finite = next(entry for entry in document["estimates"] if entry["value"] is not None)
    document["estimates"] = [{**finite, "layer": f"layer{i}"} for i in range(1200)]
    assert len(registry.record(document).data.metrics) == 1207


@pytest.mark.parametrize("run_id", [None, "0" * 32])
def test_without_the_run_of_the_model_the_experiment_is_gate(registry: Registry, run_id: str | None) -> None:
    run = registry.record(registry.document(run_id=run_id))
    assert registry.client.get_experiment(run.info.experiment_id).name == "gate"
    assert registry.tags("2")["gate"] == "FAIL"


def test_a_deleted_experiment_of_the_model_is_replaced_by_gate(registry: Registry) -> None:
    registry.client.delete_experiment(registry.experiment)
    run = registry.record(registry.document())
    assert registry.client.get_experiment(run.info.experiment_id).name == "gate"


def test_the_experiment_gate_is_made_when_it_is_missing(registry: Registry) -> None:
    made = registry.client.get_experiment_by_name("gate")
    assert made is not None
    registry.client.rename_experiment(made.experiment_id, "another")
    run = registry.record(registry.document(run_id=None))
    assert registry.client.get_experiment(run.info.experiment_id).name == "gate"


def test_a_deleted_experiment_gate_is_named(registry: Registry) -> None:
    made = registry.client.get_experiment_by_name("gate")
    assert made is not None
    registry.client.delete_experiment(made.experiment_id)
    with pytest.raises(RegistryError, match="the experiment 'gate' was deleted; restore it"):
        registry.record(registry.document(run_id=None))


def test_a_model_outside_the_registry_gets_a_run_and_no_tags(registry: Registry) -> None:
    outside: dict[str, Any] = {"resolved": "features:vectors.npy", "name": None, "version": None, "run_id": None}
    run = registry.record(registry.document(**outside))
    assert run.info.run_name == "gate check of features:vectors.npy"
    assert registry.tags("1") == registry.tags("2") == {}


def test_an_unknown_version_leaves_no_run(registry: Registry) -> None:
    with pytest.raises(RegistryError, match=r"cannot record the check of models:/digits/9 in MLflow at .*not found"):
        registry.record(registry.document(version="9", resolved="models:/digits/9"))
    assert registry.gate_runs() == []


@pytest.mark.parametrize("earlier", [False, True])
def test_a_failure_in_the_middle_leaves_a_failed_run_and_no_pass(
    registry: Registry, tmp_path: Path, earlier: bool
) -> None:
    if earlier:
        registry.record(registry.document("passed"))
        (tmp_path / "artifacts").rename(tmp_path / "moved")
    (tmp_path / "artifacts").write_text("a file where the folder of the artifacts should be")
    with pytest.raises(RegistryError, match="cannot record the check of models:/digits/1 in MLflow"):
        registry.record(registry.document("passed"))
    outcomes = sorted((run.info.status, run.data.tags["gate"]) for run in registry.gate_runs())
    assert outcomes == [("FAILED", "ERROR"), ("FINISHED", "PASS")][: 2 if earlier else 1]
    assert registry.tags("1")["gate"] == "ERROR"


@pytest.mark.parametrize("broken", ["NEW.key = 'gate.run'", "NEW.key = 'gate.policy'", "NEW.value = 'PASS'"])
def test_a_failure_among_the_tags_never_reads_as_a_pass(registry: Registry, broken: str) -> None:
    registry.record(registry.document("passed"))
    assert registry.tags("1")["gate"] == "PASS"
    connection = sqlite3.connect(registry.database)
    for moment in ("INSERT", "UPDATE"):
        connection.execute(
            f"CREATE TRIGGER broken_{moment} BEFORE {moment} ON model_version_tags WHEN {broken} "
            "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        )
    connection.close()
    document = registry.document("passed")
    document["policy"]["version"] = "1.0.1"
    with pytest.raises(RegistryError, match="the disk is full"):
        registry.record(document)
    assert registry.tags("1")["gate"] == "ERROR"
    outcomes = sorted((run.info.status, run.data.tags["gate"]) for run in registry.gate_runs())
    assert outcomes == [("FAILED", "ERROR"), ("FINISHED", "PASS")]


def test_a_later_check_replaces_the_tags_of_an_earlier_one(registry: Registry) -> None:
    registry.record(registry.document("passed"))
    run = registry.record(registry.document(version="1", resolved="models:/digits/1"))
    assert registry.tags("1") == {"gate": "FAIL", "gate.run": run.info.run_id[:8], "gate.policy": "classifier@1.0.0"}


def told(what: Callable[..., Any], document: dict[str, Any]) -> Any:
    return what(document, recorder.tags_before(document))


def test_a_milder_verdict_of_another_policy_is_told_before_it_is_written(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
    failed, passed = registry.document(), registry.document("passed", version="2", resolved="models:/digits/2")
    assert told(recorder.stricter_verdict, passed) is None
    registry.record(failed)
    assert told(recorder.stricter_verdict, passed) is None  # the policy is the same
    other = passed | {"policy": passed["policy"] | {"name": "lax"}}
    assert told(recorder.stricter_verdict, other) == "FAIL under classifier@1.0.0"
    assert told(recorder.stricter_verdict, other | {"status": "failed"}) is None
    assert told(recorder.stricter_verdict, other | {"model": other["model"] | {"version": "99"}}) is None
    assert not told(recorder.has_signed_statement, passed)
    registry.client.set_model_version_tag("digits", passed["model"]["version"], "gate.statement.classifier", "signed")
    assert told(recorder.has_signed_statement, passed)
    assert not told(recorder.has_signed_statement, other)


def test_the_logged_model_is_the_input_of_the_run(registry: Registry) -> None:
    logged = registry.client.create_logged_model(registry.experiment, name="digits", source_run_id=registry.run_id)
    run = registry.record(registry.document(model_id=logged.model_id))
    assert run.inputs is not None
    assert [entry.model_id for entry in run.inputs.model_inputs] == [logged.model_id]
    found = registry.client.get_logged_model(logged.model_id).metrics or ()
    assert sorted((metric.key, metric.value) for metric in found) == sorted(run.data.metrics.items())
    shown = {(metric.run_id, metric.dataset_name, metric.dataset_digest) for metric in found}
    assert shown == {(run.info.run_id, "digits.npz", "sha256:832e85b73580")}


@pytest.mark.parametrize(
    ("uri", "name", "source"),
    [
        ("probes/digits.npz", "digits.npz", ("local", {"uri": "probes/digits.npz"})),
        ("s3://probes/digits.parquet", "digits.parquet", ("s3", {"uri": "s3://probes/digits.parquet"})),
        ("https://host/p.csv", "p.csv", ("http", {"url": "https://host/p.csv"})),
        ("runs:/0123/probe/p.npy", "p.npy", ("gate", {"uri": "runs:/0123/probe/p.npy"})),
        ('/"x' + "\n" * 9 + "y" * 600, None, None),
        ("/", "probe", ("local", {"uri": "/"})),
    ],
)
def test_the_probe_set_is_an_input_of_the_run(
    registry: Registry, uri: str, name: str | None, source: tuple[str, dict[str, str]] | None
) -> None:
    document = registry.document()
    document["probe"]["uri"] = uri
    inputs = registry.record(document).inputs
    assert inputs is not None
    (found,) = (each.dataset for each in inputs.dataset_inputs)
    if name is not None:
        assert (found.name, (found.source_type, json.loads(found.source))) == (name, source)
    assert found.digest == "sha256:832e85b73580"
    profile = {"num_rows": document["probe"]["rows"], "digest": document["probe"]["digest"]}
    assert json.loads(str(found.profile)) == profile


def test_a_logged_model_of_another_experiment_is_not_linked(registry: Registry) -> None:
    other = registry.client.create_experiment("other")
    logged = registry.client.create_logged_model(other, name="digits")
    run = registry.record(registry.document(model_id=logged.model_id))
    assert run.inputs is not None
    assert run.inputs.model_inputs == []
    assert registry.record(registry.document(model_id="m-" + "0" * 32)).info.status == "FINISHED"


def test_an_unreachable_server_is_one_clear_message(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    document = registry.document()
    with pytest.raises(RegistryError, match=r"cannot record the check of models:/digits/2 in MLflow at .*127\.0\.0\.1"):
        recorder.record(document, "", tracking_uri="http://127.0.0.1:9", registry_uri="http://127.0.0.1:9")


def test_recording_prints_nothing_on_stdout(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    registry.record(registry.document())
    assert capsys.readouterr().out == ""


# The first line of the description of the version.


def description(registry: Registry, version: str = "2") -> str:
    return registry.client.get_model_version("digits", version).description or ""


def line(run: Run, said: str) -> str:
    return (
        f"{said} - [report](#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/gate/report.html)"
    )


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [
        ("sample", "2", "FAIL gate - 4/10 rules hold"),
        ("passed", "1", "PASS gate - 10/10 rules hold"),
        ("error", "2", "ERROR gate - 4/12 rules hold"),
    ],
)
def test_the_description_begins_with_the_verdict(registry: Registry, name: str, version: str, said: str) -> None:
    run = registry.record(registry.document(name))
    assert description(registry, version) == line(run, said)
    assert description(registry, "1" if version == "2" else "2") == ""


def test_one_rule_holds_only_where_all_of_its_findings_do(registry: Registry) -> None:
    document = registry.document("passed")
    document["results"] = [each | {"rule": "rank"} for each in document["results"]]
    assert description_after(registry, document).startswith("PASS gate - 1/1 rule holds - [")
    document["results"][3]["status"] = "waived"
    assert description_after(registry, document).startswith("PASS gate - 0/1 rule holds - [")


def description_after(registry: Registry, document: dict[str, Any]) -> str:
    registry.record(document)
    return description(registry, "1")


def test_what_people_wrote_stays_under_one_line_of_ours(registry: Registry) -> None:
    for theirs in (
        "Trained by the vision team.",
        "\n\n  two empty lines first\n",
        "FAIL gate - I do not trust it",
        "PASS gate - 12/12 rules hold - [report](https://elsewhere.example/x)",
        "PASS gate - 12/12 rules hold - [report](#/experiments/1/x) and I agree",
        "x" * 4800,
        "Windows\r\nlines",
        "It was:\n\nPASS gate - 12/12 rules hold - [report](#/experiments/1/runs/2/artifacts/gate/report.html)\n\nonce",
    ):
        registry.client.update_model_version("digits", "2", theirs)
        for _ in range(2):
            run = registry.record(registry.document())
            assert description(registry) == line(run, "FAIL gate - 4/10 rules hold") + f"\n\n{theirs}"


def test_a_description_without_room_for_our_line_stays_as_it_is(registry: Registry) -> None:
    registry.record(registry.document("passed"))
    full = description(registry, "1") + "\n\n" + "x" * 4990
    registry.client.update_model_version("digits", "1", full)
    registry.record(registry.document("passed"))
    assert description(registry, "1") == "x" * 4990
    assert registry.tags("1")["gate"] == "PASS"


def test_our_line_is_known_again_after_a_person_edited_the_rest(registry: Registry) -> None:
    for between in ("\n\n", "\n", "\r\n\r\n"):
        run = registry.record(registry.document())
        ours = line(run, "FAIL gate - 4/10 rules hold")
        registry.client.update_model_version("digits", "2", f"{ours}{between}Theirs.")
        again = registry.record(registry.document())
        assert description(registry) == line(again, "FAIL gate - 4/10 rules hold") + "\n\nTheirs."


def test_a_check_that_breaks_off_leaves_no_earlier_verdict_in_the_description(
    registry: Registry, tmp_path: Path
) -> None:
    registry.client.update_model_version("digits", "1", "Theirs.")
    registry.record(registry.document("passed"))
    assert description(registry, "1").startswith("PASS gate")
    (tmp_path / "artifacts").rename(tmp_path / "moved")
    (tmp_path / "artifacts").write_text("a file where the folder of the artifacts should be")
    with pytest.raises(RegistryError):
        registry.record(registry.document("passed"))
    assert description(registry, "1") == "Theirs."
