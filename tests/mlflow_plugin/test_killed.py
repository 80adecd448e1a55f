from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient

from gate.attestation import keys
from gate.evidence import bundle
from gate.models.digest import digest_of, digest_of_names, listed

# MLflow's own calls in these tests; the recorder itself silences them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.timeout(600),  # dozens of processes and recordings
]
SAMPLES = Path(__file__).parents[1] / "evidence" / "v1"
POLICY = """apiVersion: gate/v1
kind: ServerPolicy
keys: [keys]
policies:
  - {{name: classifier, digest: "{digest}", aliases: [champion]}}
audit: audit.jsonl
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evidence that passed, and a key."""
    folder = tmp_path_factory.mktemp("killed")
    keys.create(folder / "ci")
    (folder / "keys").mkdir()
    (folder / "ci.pub").rename(folder / "keys" / "ci.pub")
    return folder


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[str]:
    """A guarded server."""
    digest = bundle.load(SAMPLES / "passed.json")["policy"]["digest"]
    (home / "server.yaml").write_text(POLICY.format(digest=digest), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    database = f"sqlite:///{home / 'server.db'}"
    command = [str(Path(sys.executable).with_name("mlflow")), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "2", "--backend-store-uri", database, "--registry-store-uri", f"gate+{database}"]
    command += ["--artifacts-destination", f"gate+file://{home / 'artifacts'}"]
    environment = {**os.environ, "GATE_SERVER_POLICY": str(home / "server.yaml")}
    with (home / "log").open("wb") as log:
        running = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    uri, ends = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while not _is_up(uri):
            assert running.poll() is None, (home / "log").read_text(encoding="utf-8")[-3000:]
            assert time.monotonic() < ends
            time.sleep(0.2)
        yield uri
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait(30)


def _is_up(uri: str) -> bool:
    try:
        return requests.get(f"{uri}/health", timeout=5).ok
    except requests.ConnectionError:
        return False


def _checked(uri: str, home: Path, name: str = "digits") -> Path:
    """Evidence on a version that is registered there."""
    client, folder = MlflowClient(uri, uri), home / "model"
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_text("flavors: {}\n", encoding="utf-8")
    client.create_registered_model(name)
    source, model_id = folder.as_uri(), None
    if uri.startswith("http"):  # behind a server the files have to be those that it keeps
        model = client.create_logged_model(client.create_experiment(f"killed {name}"))
        client.log_model_artifacts(model.model_id, str(folder))
        source, model_id = f"models:/{model.model_id}", model.model_id
    version = client.create_model_version(name, source, model_id=model_id)
    document = bundle.load(SAMPLES / "passed.json")
    files = listed(folder)
    uri = f"models:/{name}/{version.version}"
    document["model"] |= {"name": name, "version": str(version.version), "resolved": uri, "run_id": None}
    document["model"] |= {"digest": digest_of(files), "names_digest": digest_of_names(files), "model_id": None}
    document["run"] |= {"enforcement": "block", "overrides": []}
    document["model"] |= {"trust": "code-free", "isolation": {"mode": "process"}}
    path = home / f"{name}.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def _killed(uri: str, evidence: Path, key: str, *, every: int, what: str = "check") -> dict[str, object]:
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("killing.py")), uri, str(evidence), key]
    done = subprocess.run([*command, str(every), what], capture_output=True, text=True, check=False, timeout=580)
    assert done.returncode == 0, done.stderr[-6000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_on_a_guarded_server_a_kill_at_many_requests_leaves_no_pass_without_evidence(server: str, home: Path) -> None:
    found = _killed(server, _checked(server, home), str(home / "ci"), every=5)
    assert (found["wrong"], found["unfinished"]) == ([], [])
    assert int(str(found["killed"])) >= 10


@pytest.mark.parametrize("key", ["ci", ""])
def test_on_a_plain_database_a_kill_at_many_statements_leaves_no_pass_without_evidence(
    home: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = home / f"plain{key}"
    name.mkdir()
    uri = f"sqlite:///{name / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # a store of MLflow looks a model up where the process is told to
    found = _killed(uri, _checked(uri, name), str(home / key) if key else "", every=97)
    assert (found["wrong"], found["unfinished"]) == ([], [])
    assert int(str(found["killed"])) >= 5


@pytest.mark.parametrize(("what", "every"), [("promote", 2), ("copy", 5)])
def test_a_kill_at_the_requests_of_a_promotion_leaves_no_alias_without_evidence(
    server: str, home: Path, what: str, every: int
) -> None:
    """Before one request all is as after the one before it, so that every second place is every one."""
    found = _killed(server, _checked(server, home, what), str(home / "ci"), every=every, what=what)
    assert (found["wrong"], found["unfinished"]) == ([], [])
    assert int(str(found["killed"])) >= 8


@pytest.mark.parametrize(("what", "every"), [("promote", 29), ("copy", 61)])
def test_on_a_plain_database_a_kill_within_a_promotion_leaves_no_alias_without_evidence(
    home: Path, what: str, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = home / f"plain-{what}"
    name.mkdir()
    uri = f"sqlite:///{name / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # a store of MLflow looks a model up where the process is told to
    found = _killed(uri, _checked(uri, name, what), str(home / "ci"), every=every, what=what)
    assert (found["wrong"], found["unfinished"]) == ([], [])
    assert int(str(found["killed"])) >= 3
