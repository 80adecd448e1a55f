"""The gate inside of `mlflow.models.evaluate`: asked, it judges as the command does; unasked, it is not there."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pytorch
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import EvaluationResult
from mlflow.models.evaluation.base import resolve_evaluators_and_configs
from torch import nn

from gate import check
from gate.mlflow_plugin import metrics, recordings
from gate.mlflow_plugin.evaluator import EXIT_CODE, GateEvaluator
from gate.models.quiet import quiet_mlflow

# MLflow's own calls in these tests warn of MLflow's own matters.
pytestmark = pytest.mark.filterwarnings("ignore")
POLICY = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "1.0.0"}
scope: {models: [SCOPE]}
run: {isolation: none}
probe:
  uri: PROBE
  digest: DIGEST
  columns: {input: pixels, label: label, id: id}
layers:
  embedding: {path: embedding}
rules:
  - {id: collapse, metric: collapse_index, layer: embedding, max: 0.8}
  - {id: rank, metric: effective_rank, layer: embedding, min: 3}
  - {id: neighbours, metric: knn_label_agreement, layer: embedding, min: 0.1}
"""


def network(*, collapsed: bool) -> nn.Module:
    """A random encoder into 8 channels; the collapsed one into one direction."""
    layers = OrderedDict(hidden=nn.Linear(16, 12), active=nn.Tanh(), embedding=nn.Linear(12, 8))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in (each for layer in layers.values() for each in layer.parameters()):
            weights.copy_(torch.randn(weights.shape, generator=generator) / 4)
        if collapsed:
            line = torch.randn(8, 1, generator=generator) @ torch.randn(1, 12, generator=generator)
            layers["embedding"].weight.mul_(0.01).add_(line)  # type: ignore[operator]
    return nn.Sequential(layers).eval()


@dataclass(frozen=True)
class Registry:
    """A real store: encoder/1 is healthy, encoder/2 collapsed; runs and logged models of both."""

    folder: Path
    probe: pd.DataFrame
    runs: tuple[str, ...]
    models: tuple[str, ...]

    @property
    def policy(self) -> Path:
        return self.written()

    def written(self, *changes: tuple[str, str]) -> Path:
        text = POLICY.replace("PROBE", str(self.folder / "probe.parquet"))
        for old, new in (*changes, ("SCOPE", '"*"'), ("  digest: DIGEST\n", "")):
            text = text.replace(old, new)
        path = self.folder / f"policy-{len(list(self.folder.glob('policy-*')))}.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    def uri(self, kind: str, version: int = 1) -> str:
        """One model as a version, as a logged model, or as an artifact of a run."""
        at = version - 1
        return {
            "version": f"models:/encoder/{version}",
            "logged model": f"models:/{self.models[at]}",
            "run": f"runs:/{self.runs[at]}/model",
        }[kind]

    def evaluate(self, given: Any, **config: Any) -> EvaluationResult:
        config = {"policy": self.policy} | config
        found: EvaluationResult = mlflow.models.evaluate(
            given, self.probe, model_type="gate", evaluators="gate", evaluator_config=config
        )
        return found

    def of_model(self, version: int, run_id: str) -> list[Any]:
        """The metrics of a logged model that come from a run."""
        found = MlflowClient().get_logged_model(self.models[version - 1]).metrics or ()
        return [each for each in found if each.run_id == run_id]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("registry")
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=240)
    pixels = (rng.normal(size=(240, 16)) + labels[:, None]).astype(np.float32)
    probe = pd.DataFrame({"pixels": list(pixels), "label": labels.astype(str), "id": [f"row-{i}" for i in range(240)]})
    probe.to_parquet(folder / "probe.parquet", index=False)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    runs, models = [], []
    with quiet_mlflow():
        mlflow.create_experiment("evaluations", artifact_location=(folder / "evaluations").as_uri())
        training = mlflow.create_experiment("training", artifact_location=(folder / "training").as_uri())
        patch = pytest.MonkeyPatch()  # mlflow.set_experiment would stay in the environment of all later tests
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "evaluations")
        for collapsed in (False, True):
            with mlflow.start_run(experiment_id=training) as run:
                made = mlflow.pytorch.log_model(
                    network(collapsed=collapsed),
                    name="model",
                    registered_model_name="encoder",
                    input_example=pixels[:2],
                    pip_requirements=["torch"],
                )
            runs.append(run.info.run_id)
            models.append(made.model_id)
    yield Registry(folder, probe, tuple(runs), tuple(models))
    patch.undo()
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def blocked(registry: Registry) -> EvaluationResult:
    """The collapsed version, which was given as a version."""
    return registry.evaluate("models:/encoder/2")


def once_everywhere(registry: Registry, result: EvaluationResult, version: int) -> list[Any]:
    """The metrics of the logged model, after each was seen once there, once in the run, and nowhere else."""
    client = MlflowClient()
    in_run = {
        name: [each.value for each in client.get_metric_history(result.run_id, name)]
        for name in client.get_run(result.run_id).data.metrics
    }
    assert in_run == {name: [value] for name, value in result.metrics.items()}
    on_model = registry.of_model(version, result.run_id)
    assert Counter(each.key for each in on_model) == dict.fromkeys(result.metrics, 1)
    assert registry.of_model(3 - version, result.run_id) == []
    inputs = client.get_run(result.run_id).inputs
    assert inputs is not None
    assert {each.model_id for each in inputs.model_inputs} == {registry.models[version - 1]}
    return on_model


@pytest.mark.parametrize("kind", ["logged model", "run"])
def test_each_metric_is_once_in_the_run_and_once_on_the_logged_model(registry: Registry, kind: str) -> None:
    result = registry.evaluate(registry.uri(kind))
    on_model = once_everywhere(registry, result, 1)
    assert {(each.dataset_name, len(each.dataset_digest)) for each in on_model} == {("dataset", 8)}
    assert result.metrics[EXIT_CODE] == 0
    assert result.artifacts["gate/evidence.json"].content["model"]["resolved"] == "models:/encoder/1"


def test_a_version_finds_the_logged_model_that_it_was_made_from(registry: Registry, blocked: EvaluationResult) -> None:
    on_model = once_everywhere(registry, blocked, 2)
    assert {each.dataset_name for each in on_model} == {"dataset"}


def test_a_blocked_model_is_a_result_with_the_numbers_of_the_command(
    registry: Registry, blocked: EvaluationResult
) -> None:
    evidence = check("models:/encoder/2", policy=registry.policy).document
    assert blocked.metrics == {EXIT_CODE: 1.0, **metrics.numbers(evidence)}
    assert blocked.metrics["rules/fail"] > 0
    assert all(math.isfinite(value) for value in blocked.metrics.values())
    judged = blocked.artifacts["gate/evidence.json"].content
    assert judged["probe"]["digest"] == evidence["probe"]["digest"]
    assert judged["probe"]["uri"] == f"dataset:/{blocked.run_id}/dataset"
    assert "data.parquet" not in str(judged)
    assert blocked.artifacts["gate/summary.txt"].content.startswith("FAILED  models:/encoder/2 is blocked")


def test_the_run_holds_the_evidence_and_the_version_is_left_as_it_is(blocked: EvaluationResult) -> None:
    assert blocked.artifacts["gate/evidence.json"].content["status"] == "failed"
    assert b'"status": "failed"' in recordings.of_run(blocked.run_id)
    assert list(recordings.of_model("encoder", every=True)) == []
    assert dict(MlflowClient().get_model_version("encoder", "2").tags) == {}


def test_a_result_is_saved_and_loaded_and_read_from_the_run(blocked: EvaluationResult, tmp_path: Path) -> None:
    blocked.save(str(tmp_path))
    loaded = EvaluationResult.load(str(tmp_path))
    assert loaded.metrics == blocked.metrics
    for path, artifact in blocked.artifacts.items():
        assert loaded.artifacts[path].content == artifact.content
        assert type(artifact)(artifact.uri).content == artifact.content


def test_a_model_that_only_the_configuration_names_is_judged_on_the_probe_set_that_it_names(
    registry: Registry,
) -> None:
    found = registry.evaluate(None, model="models:/encoder/1", probe=registry.folder / "probe.parquet")
    on_model = once_everywhere(registry, found, 1)
    digest = found.artifacts["gate/evidence.json"].content["probe"]["digest"][:19]
    assert {(each.dataset_name, each.dataset_digest) for each in on_model} == {("probe.parquet", digest)}
    inputs = MlflowClient().get_run(found.run_id).inputs
    assert inputs is not None
    assert [each.dataset.name for each in inputs.dataset_inputs] == ["dataset", "probe.parquet"]


def test_a_logged_model_of_several_versions_is_judged_as_none_of_them(registry: Registry) -> None:
    client = MlflowClient()
    again = client.create_model_version("encoder", f"models:/{registry.models[1]}", model_id=registry.models[1])
    try:
        with pytest.raises(MlflowException, match=r"m-\w+, which is no registered model, is not in the scope"):
            registry.evaluate("models:/encoder/2", policy=registry.written(("SCOPE", "encoder")))
    finally:
        client.delete_model_version("encoder", again.version)


# What is refused, with a sentence.


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"polcy": "a", "seed": 1},
            "evaluator_config of the gate: there is no key 'polcy', 'seed'; it takes policy, m",
        ),
        ({"policy": None}, "evaluator_config of the gate: the key 'policy' is missing"),
        ({"policy": "no-such.yaml"}, "no-such.yaml"),
        ({"device": "tpu"}, "device 'tpu' is unknown; use auto, cpu or cuda"),
        ({"model": "models:/encoder/9"}, "models:/encoder/9"),
        (
            {"model": "models:/encoder/2"},
            r"models:/encoder/2 was judged, which is the logged model 'm-\w+', but MLflow e",
        ),
    ],
)
def test_a_configuration_that_leads_nowhere_is_refused(
    registry: Registry, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(MlflowException, match=message):
        registry.evaluate("models:/encoder/1", **config)


def test_a_model_in_memory_is_refused(registry: Registry) -> None:
    with pytest.raises(MlflowException, match="MLflow does not tell the gate where this model is kept"):
        registry.evaluate(lambda frame: frame["label"])


def test_metrics_that_mlflow_would_show_at_another_model_are_refused(registry: Registry) -> None:
    mlflow.set_active_model(model_id=registry.models[0])
    try:
        with pytest.raises(MlflowException, match=f"but MLflow evaluates '{registry.models[0]}' and would show"):
            registry.evaluate("models:/encoder/2")
    finally:
        mlflow.clear_active_model()
    newest = mlflow.search_runs(experiment_names=["evaluations"], output_format="list")[0]
    assert (newest.info.status, newest.data.metrics) == ("FAILED", {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: rows.drop(columns="label"),
            "^`data`: there is no column 'label'.*; `data` is the probe set where",
        ),
        (lambda rows: rows[:-1], "`data`: what `probe.columns` names there has the digest .*, the policy pins"),
        (lambda rows: rows[["id", "label"]].to_numpy(), "`data` is a ndarray, expected a DataFrame with the columns"),
        (lambda rows: rows.assign(id=[*range(239), "x"]), "`data` cannot be written as a table"),
    ],
)
def test_data_that_are_not_the_probe_set_of_the_policy_are_refused(
    registry: Registry, blocked: EvaluationResult, change: Any, message: str
) -> None:
    pinned = registry.written(("DIGEST", blocked.artifacts["gate/evidence.json"].content["probe"]["digest"]))
    config = {"policy": pinned, "model": "models:/encoder/1"}
    with pytest.raises(MlflowException, match=message):
        mlflow.models.evaluate(
            None, change(registry.probe), model_type="gate", evaluators="gate", evaluator_config=config
        )


def test_targets_that_mlflow_takes_out_of_the_data_are_put_back(registry: Registry, blocked: EvaluationResult) -> None:
    pinned = registry.written(("DIGEST", blocked.artifacts["gate/evidence.json"].content["probe"]["digest"]))
    config = {"policy": pinned, "model": "models:/encoder/1"}
    found = mlflow.models.evaluate(
        None, registry.probe, targets="label", model_type="gate", evaluators="gate", evaluator_config=config
    )
    assert found.metrics[EXIT_CODE] == 0


# Nothing runs unasked.


FLAT: dict[str, Any] = {"policy": "p.yaml", "probe": "p", "baseline": "b", "device": "cpu", "model": "m"}


@pytest.mark.parametrize("model_type", [None, "classifier", "regressor", "text", "Gate", "gates", ""])
@pytest.mark.parametrize("evaluators", [None, "gate", ["default", "gate"], ["gate"]])
@pytest.mark.parametrize("config", [None, {"policy": "p.yaml"}, FLAT, {"policy": "p", "pos_label": 1}])
def test_no_other_model_type_starts_the_gate(
    model_type: str | None, evaluators: Any, config: dict[str, Any] | None
) -> None:
    for given in (config, config and {"gate": config}):
        if isinstance(evaluators, list) and given is config and config:
            continue  # MLflow refuses it
        resolved = resolve_evaluators_and_configs(evaluators, given, model_type)
        bundles = [each for each in resolved if each.name == "gate"]
        assert len(bundles) == (evaluators is not None)
        for each in bundles:
            assert not each.evaluator.can_evaluate(model_type=model_type, evaluator_config=each.config)


@pytest.mark.parametrize("evaluators", [None, "gate", ["gate"]])
def test_its_own_model_type_starts_the_gate_alone(evaluators: Any) -> None:
    resolved = resolve_evaluators_and_configs(evaluators, {"gate": FLAT}, "gate")
    assert [each.name for each in resolved] == ["gate"]
    assert resolved[0].evaluator.can_evaluate(model_type="gate", evaluator_config={})


def test_an_evaluation_of_somebody_else_is_none_of_our_business(registry: Registry) -> None:
    rows = pd.DataFrame({"y": [1.0, 2.0, 3.0], "guess": [1.0, 2.5, 3.0]})
    found = mlflow.models.evaluate(
        data=rows,
        targets="y",
        predictions="guess",
        model_type="regressor",
        evaluator_config={"policy": registry.policy},
    )
    assert "mean_squared_error" in found.metrics
    assert EXIT_CODE not in found.metrics


def test_whoever_names_the_gate_and_another_model_type_is_told(caplog: pytest.LogCaptureFixture) -> None:
    for config, told in (({"policy": "p"}, 1), ({"policy": "p", "other": 1}, 0), ({}, 0), (None, 0)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert not GateEvaluator.can_evaluate(model_type="classifier", evaluator_config=config)
        assert caplog.text.count("the gate judges nothing: it runs for model_type='gate', and this is 'clas") == told


@pytest.mark.parametrize(
    ("load", "absent"),
    [
        ("import gate.mlflow_plugin.evaluator", ("mlflow", "torch", "pandas", "gate.evaluation", "gate.errors")),
        (
            "import mlflow.models.evaluation.evaluator_registry",
            ("torch", "gate.evaluation", "gate.geometry", "gate.mlflow_plugin.recorder"),
        ),
    ],
)
def test_what_every_evaluation_loads_is_light(load: str, absent: tuple[str, ...]) -> None:
    seen = f"*sorted({set(absent)} & {{*sys.modules}})"
    code = f"import sys\n{load}\nprint('gate.mlflow_plugin.evaluator' in sys.modules, {seen})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, "register model evaluator" in done.stderr) == ("True\n", False)
