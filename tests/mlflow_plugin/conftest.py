from __future__ import annotations

import pytest
from mlflow import MlflowClient


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database after MLflow's migrations, which take seconds."""
    database = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowClient(f"sqlite:///{database}").search_experiments()
    return database.read_bytes()
