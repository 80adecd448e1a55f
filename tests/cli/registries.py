"""Real registries: a guarded server and plain ones, with a model that was judged and signed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from mlflow import MlflowClient

from gate.attestation import keys
from gate.attestation.envelope import sealed
from gate.attestation.issuing import issue
from gate.attestation.names import statement_key
from gate.mlflow_plugin.signing import publish, stored_files, subject
from gate.models.digest import digest_of, digest_of_names

PASSED = json.loads((Path(__file__).parents[1] / "evidence" / "v1" / "passed.json").read_text(encoding="utf-8"))
POLICY = f"""apiVersion: gate/v1
kind: ServerPolicy
keys: [keys]
policies:
  - {{name: classifier, digest: "{PASSED["policy"]["digest"]}", aliases: [champion]}}
protected:
  names: [prod.]
audit: audit.jsonl
"""


def deployment(home: Path, policy: str = POLICY) -> Path:
    """A server policy with its key; the private key is `ci`, outside of what the server reads."""
    (home / "keys").mkdir()
    keys.create(home / "ci").rename(home / "keys" / "ci.pub")
    file = home / "server.yaml"
    file.write_text(policy, encoding="utf-8")
    return file


@contextmanager
def served(home: Path, policy: Path | None = None, **environment: str) -> Iterator[str]:
    """A real server, guarded where there is a policy; the address is known at once, and answers after `answering`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    database, prefix = f"sqlite:///{home / 'server.db'}", "gate+" if policy else ""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database, "--registry-store-uri", f"{prefix}{database}"]
    command += ["--artifacts-destination", f"{prefix}file://{home / 'artifacts'}"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "GATE_"))}
    kept |= environment | ({"GATE_SERVER_POLICY": str(policy)} if policy else {})
    with (home / "log").open("wb") as log:
        running = subprocess.Popen(command, cwd=home, env=kept, stdout=log, stderr=log, start_new_session=True)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait(30)


def answering(uri: str) -> str:
    """The address, once the server answers."""
    ends = time.monotonic() + 120
    while True:
        try:
            if requests.get(f"{uri}/health", timeout=5).ok:
                return uri
        except requests.ConnectionError:
            pass
        assert time.monotonic() < ends, "the server does not start"
        time.sleep(0.2)


@dataclass(frozen=True)
class Registry:
    """A registry, and the key that signs for it."""

    uri: str
    home: Path

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.uri, self.uri)

    @property
    def key(self) -> Path:
        return self.home / "ci"

    def register(self, name: str, *, weights: bytes = b"weights") -> str:
        """A version with files behind the server, or in a folder beside a plain database."""
        folder = self.home / "made"
        folder.mkdir(exist_ok=True)
        (folder / "MLmodel").write_text("flavors: {}\n", encoding="utf-8")
        (folder / "weights.bin").write_bytes(weights)
        client = self.client
        found = client.get_experiment_by_name("models")
        beside = None if self.uri.startswith("http") else (self.home / "files").as_uri()
        experiment = found.experiment_id if found else client.create_experiment("models", beside)
        model = client.create_logged_model(experiment)
        client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, "READY")
        if not client.search_registered_models(f"name='{name}'"):
            client.create_registered_model(name)
        version = client.create_model_version(name, f"models:/{model.model_id}", model_id=model.model_id)
        return str(version.version)

    def sign(
        self, name: str, version: str, *, key: Path | None = None, age: timedelta = timedelta(), **changed: Any
    ) -> None:
        """What `gate check --record` leaves, `age` ago: first that nothing is decided, then the verdict."""
        client = self.client
        row, files = client.get_model_version(name, version), stored_files(client, name, version)
        document = json.loads(json.dumps(PASSED))
        document["model"] |= {"digest": digest_of(files), "names_digest": digest_of_names(files)}
        document["model"] |= {"trust": "code-free", "isolation": {"mode": "process"}}
        document["run"] |= {"enforcement": "block", "overrides": []}
        made = issue(document, subject(row), files, now=datetime.now(UTC) - age).model_copy(update=changed)
        undecided = made.model_copy(update={"verdict": "error", "issued": made.issued - timedelta(milliseconds=1)})
        for each in (undecided, made):
            envelope = sealed(each.payload, keys.signing_key(key or self.key))
            publish(client, name, version, {statement_key(each.policy.name): envelope})

    def signed(self, name: str, **changed: Any) -> str:
        """A new version with a statement."""
        version = self.register(name)
        self.sign(name, version, **changed)
        return version

    def holder(self, name: str, alias: str = "champion") -> str | None:
        """The version that has an alias."""
        found = self.client.get_registered_model(name).aliases.get(alias)
        return None if found is None else str(found)

    def folder(self, name: str, version: str) -> Path:
        """Where the files of a version lie on the disk, past every server."""
        where = self.client.get_model_version_download_uri(name, version)
        if where.startswith("mlflow-artifacts:"):
            return self.home / "artifacts" / where.removeprefix("mlflow-artifacts:").lstrip("/")
        return Path(where.removeprefix("file://"))
