from __future__ import annotations

import os
from pathlib import Path

import mlflow
import pytest
import torch

from gate.demo import digits
from gate.demo.digits import Images
from gate.demo.registering import Registry
from gate.demo.training import HEALTHY, DigitClassifier


@pytest.fixture(scope="module")
def examples() -> Images:
    return digits.load()[1]


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory, examples: Images) -> tuple[Registry, list[str]]:
    registry = Registry(tmp_path_factory.mktemp("demo"))
    model = DigitClassifier().eval()
    return registry, [registry.register(model, HEALTHY, examples, name=f"run {i}", accuracy=0.9) for i in range(2)]


def test_each_model_becomes_the_next_version(registered: tuple[Registry, list[str]]) -> None:
    assert registered[1] == ["models:/digits/1", "models:/digits/2"]


def test_everything_lies_in_the_folder_that_was_named(registered: tuple[Registry, list[str]]) -> None:
    registry, _ = registered
    assert (registry.folder / "mlflow.db").is_file()
    assert len(list((registry.folder / "artifacts").rglob("model.pt2"))) == 2


def test_the_registered_program_takes_any_number_of_rows(registered: tuple[Registry, list[str]]) -> None:
    path = next((registered[0].folder / "artifacts").rglob("model.pt2"))
    program = torch.export.load(path).module()
    assert [tuple(program(torch.zeros(rows, 1, 8, 8)).shape) for rows in (1, 7)] == [(1, 10), (7, 10)]


def test_the_run_keeps_the_recipe_and_the_accuracy(registered: tuple[Registry, list[str]]) -> None:
    client = mlflow.MlflowClient(tracking_uri=registered[0].uri, registry_uri=registered[0].uri)
    version = client.get_model_version("digits", "2")
    assert version.run_id is not None
    run = client.get_run(version.run_id)
    assert run.data.metrics == {"test_accuracy": 0.9}
    assert run.data.params["decorrelation"] == "0.03"


def test_registering_leaves_the_tracking_uri_of_the_process_alone(tmp_path: Path, examples: Images) -> None:
    before = mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")
    Registry(tmp_path).register(DigitClassifier().eval(), HEALTHY, examples, name="run", accuracy=0.9)
    assert (mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")) == before
