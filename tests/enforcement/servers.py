"""Real MLflow servers with a guarded registry, and what an attacker or a tester does to them."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
import sqlalchemy
from mlflow import MlflowClient

from gate.attestation import keys
from gate.attestation.envelope import sealed
from gate.attestation.names import statement_key
from gate.attestation.statement import Statement, UnderPolicy, Version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from mlflow.entities.model_registry import ModelVersion

GEOMETRY, GEOMETRY_BEFORE, STRICT, EARLY = (f"sha256:{digit * 64}" for digit in "abcd")
POLICY = f"""\
apiVersion: gate/v1
kind: ServerPolicy
keys: [keys]
policies:
  - {{name: geometry, digest: "{GEOMETRY}"}}
  - {{name: geometry, digest: "{GEOMETRY_BEFORE}"}}
  - {{name: strict, digest: "{STRICT}", models: ["two.*"]}}
  - {{name: early, digest: "{EARLY}", aliases: [shadow]}}
protected:
  aliases: [champion]
  names: [prod.]
audit: audit.jsonl
"""
START = 120.0  # seconds until a server must answer; two busy cores need 20
_TABLES = (
    "registered_models",
    "model_versions",
    "registered_model_tags",
    "model_version_tags",
    "registered_model_aliases",
)
_numbers = count(1)


@dataclass
class Place:
    """A folder with all that a guarded server needs.

    Attributes:
        folder: Holds it.
        database: URI without `gate+`.
        key: The gate's own private key.
    """

    folder: Path
    database: str
    key: Ed25519PrivateKey

    @property
    def policy(self) -> Path:
        return self.folder / "server.yaml"

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    @property
    def audit(self) -> Path:
        return self.folder / "audit.jsonl"


def place(folder: Path, database: str, *, policy: str = POLICY) -> Place:
    """A place with a pair of keys and a server policy."""
    keys.create(folder / "private")
    (folder / "keys").mkdir()
    (folder / "private.pub").rename(folder / "keys" / "gate.pub")
    (folder / "artifacts").mkdir()
    (folder / "server.yaml").write_text(policy, encoding="utf-8")
    return Place(folder, database, keys.signing_key(folder / "private"))


def environment(**more: str) -> dict[str, str]:
    """That of a server: nothing of the tests' own, no telemetry and no jobs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "_MLFLOW_", "GATE_"))}
    own = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return {**kept, **own, **more}


def command(
    port: int, database: str, artifacts: Path, *options: str, gate: str = "gate+", workers: int = 2
) -> list[str]:
    """The command line of a server; `gate=""` for one that is not guarded."""
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", str(workers), "--backend-store-uri", database, "--registry-store-uri", f"{gate}{database}"),
        *("--artifacts-destination", f"{gate}{artifacts.as_uri()}", *options),
    ]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running(line: Sequence[str], port: int, log: Path, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A server, from its first answer to the end of the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(line, stdout=out, stderr=subprocess.STDOUT, env=env, start_new_session=True)
        try:
            if not awaited(f"http://127.0.0.1:{port}", process):
                raise AssertionError(f"the server does not answer:\n{log.read_text(encoding='utf-8')[-5000:]}")
            yield process
        finally:
            _end(process)


def awaited(url: str, process: subprocess.Popen[bytes] | None = None) -> bool:
    """Whether a server answers in time; False as soon as its process has ended."""
    ends = time.monotonic() + START
    while time.monotonic() < ends and (process is None or process.poll() is None):
        try:
            if requests.get(f"{url}/health", timeout=5).ok:
                return True
        except (requests.ConnectionError, requests.Timeout):
            time.sleep(0.1)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """The server with its workers, which are a process group of their own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=20)


@dataclass
class Server:
    """A running server, with the hands of an attacker and the eyes of a tester.

    Attributes:
        url: Of the server.
        place: What it stands on.
        pid: Of its first process.
        headers: Of every request.
        auth: User and password of every request.
    """

    url: str
    place: Place
    pid: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    auth: tuple[str, str] | None = None

    @cached_property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.url, registry_uri=self.url)

    def ask(self, method: str, route: str, body: Any = None, *, api: str = "api", **more: Any) -> requests.Response:
        """A request of the REST API, by its route such as `registered-models/alias`."""
        more = {"headers": self.headers, "auth": self.auth, "timeout": 60, "json": body, **more}
        return requests.request(method, f"{self.url}/{api}/2.0/mlflow/{route}", **more)  # noqa: S113 - it is among the rest

    def raw(self, method: str, path: str, body: Any = b"", **headers: str) -> tuple[int, str]:
        """A request whose path goes over the wire as it is written; status and body of the answer."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=60)
        try:
            connection.request(method, path, body, {**self.headers, **headers})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        finally:
            connection.close()

    def put(self, path: str, content: bytes = b"evil", *, api: str = "api") -> tuple[int, str]:
        return self.raw("PUT", f"/{api}/2.0/mlflow-artifacts/artifacts/{path}", content)

    # What is there

    def registry(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of the registry."""
        engine = sqlalchemy.create_engine(self.place.database)
        try:
            with engine.connect() as connection:
                read = {name: connection.execute(sqlalchemy.text(f"SELECT * FROM {name}")) for name in _TABLES}  # noqa: S608 - our own names
                return {name: sorted(map(tuple, rows), key=repr) for name, rows in read.items()}
        finally:
            engine.dispose()

    def files(self) -> dict[str, bytes]:
        """Every file of the artifact store."""
        found = (path for path in self.place.artifacts.rglob("*") if path.is_file())
        return {path.relative_to(self.place.artifacts).as_posix(): path.read_bytes() for path in found}

    def decisions(self) -> list[dict[str, Any]]:
        """What the audit log says."""
        text = self.place.audit.read_text(encoding="utf-8") if self.place.audit.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def tags(self, version: ModelVersion) -> dict[str, str]:
        return dict(self.client.get_model_version(version.name, version.version).tags)

    def alias(self, name: str, alias: str = "champion") -> str | None:
        """The version that an alias points to."""
        found = self.client.get_registered_model(name).aliases.get(alias)
        return None if found is None else str(found)

    # What a user does

    def name(self, prefix: str = "enc") -> str:
        """A registered model with a name that nobody has had."""
        name = f"{prefix}{next(_numbers)}"
        self.client.create_registered_model(name)
        return name

    def model(self, content: bytes = b"weights") -> Any:
        """A logged model with two files, one in a folder."""
        model = self.client.create_logged_model("0", name="m")
        for file in ("MLmodel", "data/weights"):
            assert self.put(f"{self.path(model)}/{file}", content)[0] == 200
        return model

    @staticmethod
    def path(model: Any) -> str:
        """Where the files of a logged model lie in the store."""
        return str(model.artifact_location).partition(":/")[2].lstrip("/")

    def version(self, name: str | None = None, model: Any = None, **more: Any) -> ModelVersion:
        """A new version with files of its own."""
        model = model or self.model()
        return self.client.create_model_version(
            name or self.name(), f"models:/{model.model_id}", model_id=model.model_id, **more
        )

    def folder(self, version: ModelVersion) -> str:
        """Where the files of a version lie in the store."""
        found = self.client.get_model_version_download_uri(version.name, version.version)
        return str(found).partition(":/")[2].lstrip("/")

    def record(self, version: ModelVersion, **changes: Any) -> requests.Response:
        """Put a signed statement on a version."""
        return self.attach(version, self.envelope(version, **changes), changes.get("policy", "geometry"))

    def attach(self, version: ModelVersion, text: str, policy: str = "geometry", **more: Any) -> requests.Response:
        """Put anything where a statement belongs."""
        body = {"name": version.name, "version": version.version, "key": statement_key(policy), "value": text}
        return self.ask("POST", "model-versions/set-tag", body, **more)

    def envelope(self, version: ModelVersion, *, key: Ed25519PrivateKey | None = None, **changes: Any) -> str:
        """A statement on a version, which has passed unless changes say otherwise."""
        return sealed(stated(version, **changes).payload, key or self.place.key)

    def promote(self, version: ModelVersion, alias: str = "champion", **more: Any) -> requests.Response:
        body = {"name": version.name, "alias": alias, "version": version.version}
        return self.ask("POST", "registered-models/alias", body, **more)

    def passed(self, name: str | None = None, **more: Any) -> ModelVersion:
        """A new version that has passed."""
        version = self.version(name, **more)
        assert self.record(version).status_code == 200
        return version

    def champion(self, name: str | None = None) -> ModelVersion:
        """A new version that has passed and is champion."""
        version = self.passed(name)
        assert self.promote(version).status_code == 200
        return version

    # What must come of it

    def refuses(self, attempt: Callable[[], Any], reason: str) -> str:
        """Whether an attempt is answered by 403 with our sentence, is written down, and changes nothing.

        Returns:
            The message.
        """
        rows, files, decided = self.registry(), self.files(), len(self.decisions())
        answer = attempt()
        status, text = answer if isinstance(answer, tuple) else (answer.status_code, answer.text)
        assert status == 403, (status, text)
        told = json.loads(text)
        assert told["error_code"] == "PERMISSION_DENIED"
        assert told["message"].startswith("Refused by gate: ")
        assert reason in told["message"], told["message"]
        assert self.registry() == rows
        assert self.files() == files
        new = self.decisions()[decided:]
        assert [entry["decision"] for entry in new] == ["refused"]
        assert reason in str(new[0]["reason"])
        return str(told["message"])


def stated(
    version: ModelVersion,
    *,
    policy: str = "geometry",
    digest: str = GEOMETRY,
    verdict: str = "passed",
    enforcement: str = "block",
    overrides: tuple[str, ...] = (),
    issued: datetime | None = None,
    valid: timedelta = timedelta(days=30),
    **subject: Any,
) -> Statement:
    """A statement as `gate check` would issue it now."""
    about = {
        "name": version.name,
        "version": str(version.version),
        "created": version.creation_timestamp,
        "source": version.source,
        "workspace": getattr(version, "workspace", None) or "default",
    }
    issued = issued or datetime.now(UTC)
    return Statement(
        subject=Version(**{**about, **subject}),
        digest=f"sha256:{'1' * 64}",
        names=f"sha256:{'2' * 64}",
        files=None,
        verdict=verdict,  # type: ignore[arg-type] # the model looks
        policy=UnderPolicy.model_validate(
            {"name": policy, "version": None, "digest": digest, "enforcement": enforcement, "overrides": overrides}
        ),
        probe=f"sha256:{'3' * 64}",
        baseline=None,
        evidence=None,
        run=None,
        trust="code-free",
        isolation="process",
        issued=issued,
        expires=issued + valid,
        outcomes={"pass": ("rank",)},
    )


def migrated(folder: Path) -> Path:
    """A SQLite database after MLflow's migrations, which take seconds."""
    database = folder / "mlflow.db"
    line = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{database}"]
    subprocess.run(line, check=True, capture_output=True, env=environment(), timeout=120)
    return database


@contextmanager
def guarded(where: Place, *options: str, workers: int = 2, gate: str = "gate+", **env: str) -> Iterator[Server]:
    """A guarded server."""
    port = free_port()
    line = command(port, where.database, where.artifacts, *options, workers=workers, gate=gate)
    more = environment(GATE_SERVER_POLICY=str(where.policy), **env)
    with running(line, port, where.folder / "server.log", more) as process:
        yield Server(f"http://127.0.0.1:{port}", where, process.pid)


def copied(template: Path, folder: Path) -> str:
    """The URI of a copy of a database."""
    return f"sqlite:///{shutil.copy(template, folder / 'mlflow.db')}"
