from __future__ import annotations

import contextlib
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Registry:
    """A real MLflow registry.

    encoder/1 (@champion) is pt2, encoder/2 the same as a pickle; single/1 takes one row; noisy/1 is still training.
    """

    database: Path
    network: nn.Module
    inputs: np.ndarray[Any, Any]
    run_id: str
    model_id: str


def make_network() -> nn.Module:
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 6)
    )
    return nn.Sequential(OrderedDict(backbone=backbone, head=nn.Linear(6, 3)))


@pytest.fixture(scope="session")
def _registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("registry")
    with warnings.catch_warnings(), used(folder / "mlflow.db"):
        warnings.simplefilter("ignore")
        return _filled(folder)


@pytest.fixture(scope="module")
def registry(_registry: Registry) -> Iterator[Registry]:
    """That registry, which MLflow uses until the module ends."""
    with used(_registry.database):
        yield _registry


@contextlib.contextmanager
def used(database: Path) -> Iterator[None]:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{database}")
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]


def _filled(folder: Path) -> Registry:
    import mlflow
    import mlflow.pytorch

    experiment = mlflow.MlflowClient().create_experiment("training", artifact_location=(folder / "art").as_uri())
    network, inputs = make_network(), np.random.default_rng(0).normal(size=(5, 1, 6, 6)).astype(np.float32)

    def log(name: str, rows: int, serialization_format: str = "pt2") -> tuple[str, str]:
        with mlflow.start_run(experiment_id=experiment) as run:
            info = mlflow.pytorch.log_model(
                network,
                name="model",
                registered_model_name=name,
                input_example=inputs[:rows],
                serialization_format=serialization_format,
                pip_requirements=["torch"],
            )
        return run.info.run_id, info.model_id

    log("noisy", 3)
    network.eval()
    run_id, model_id = log("encoder", 3)
    log("encoder", 3, "pickle")
    log("single", 1)
    mlflow.MlflowClient().set_registered_model_alias("encoder", "champion", "1")
    return Registry(folder / "mlflow.db", network, inputs, run_id, model_id)
