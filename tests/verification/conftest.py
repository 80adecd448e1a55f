from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from mlflow import MlflowClient

from gate.attestation import keys
from tests.verification.registry import NAME, Place, write_model


@pytest.fixture(autouse=True)
def nobodys_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("MLFLOW_", "GATE_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database after MLflow's migrations, which take seconds."""
    database = tmp_path_factory.mktemp("migrated") / "mlflow.db"
    MlflowClient(f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture
def database(migrated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(migrated, tmp_path / "mlflow.db"))


@pytest.fixture
def place(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A registry in a file, with the files of version 1 in a folder; signed."""
    uri = f"sqlite:///{database}"
    client = MlflowClient(uri, uri)
    model = write_model(tmp_path / "store" / "model")
    client.create_registered_model(NAME)
    client.create_model_version(NAME, model.as_uri())
    keys.create(tmp_path / "gate.key")
    place = Place(client, uri, model, tmp_path / "gate.key")
    place.sign()
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", uri)
    return place


@dataclass(frozen=True)
class Served:
    """A real tracking server that keeps the artifacts of its clients."""

    uri: str
    artifacts: Path
    experiment: str


@pytest.fixture(scope="session")
def served(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("served")
    shutil.copy(migrated, home / "mlflow.db")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}", "--artifacts-destination", str(home / "art")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "GATE_"))}
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=home, env=kept, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}/health", server)
        uri = f"http://127.0.0.1:{port}"
        yield Served(uri, home / "art", MlflowClient(uri, uri).create_experiment("made"))
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(30)


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until and server.poll() is None:
        try:
            with urlopen(url, timeout=5):  # noqa: S310 - our own server
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise AssertionError("the server did not start")


@pytest.fixture
def remote(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A model of its own for each test among the artifacts of the server, registered there; signed."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", served.uri)
    client = MlflowClient(served.uri, served.uri)
    client.create_registered_model(NAME)
    run = client.create_run(served.experiment).info
    folder = write_model(served.artifacts / served.experiment / run.run_id / "artifacts" / "model")
    client.create_model_version(NAME, f"{run.artifact_uri}/model", run.run_id)
    keys.create(tmp_path / "remote.key")
    place = Place(client, served.uri, folder, tmp_path / "remote.key")
    place.sign()
    yield place
    client.delete_registered_model(NAME)
