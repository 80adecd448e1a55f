"""A server that could not enforce does not start, and says what to do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

from gate.mlflow_plugin import registry_store
from tests.enforcement import servers
from tests.enforcement.servers import POLICY, Place, Server


def without_policy(place: Place) -> None:
    place.policy.unlink()


def without_key(place: Place) -> None:
    (place.folder / "keys" / "gate.pub").unlink()


def with_private_key(place: Place) -> None:
    place.policy.write_text(POLICY.replace("[keys]", "[private]"), encoding="utf-8")


def with_a_foreign_file_as_key(place: Place) -> None:
    (place.folder / "keys" / "gate.pub").write_text("no key", encoding="utf-8")


def with_the_log_in_a_file(place: Place) -> None:
    place.policy.write_text(POLICY.replace("audit.jsonl", "private/audit.jsonl"), encoding="utf-8")


def with_the_log_as_a_folder(place: Place) -> None:
    (place.folder / "audit.jsonl").mkdir()


def with_an_unknown_key(place: Place) -> None:
    place.policy.write_text(f"{POLICY}artefacts: anywhere\n", encoding="utf-8")


FAULTS = [
    (without_policy, "does not exist, expected a YAML file"),
    (without_key, "no public key was given"),
    (with_private_key, "is a private key; a server verifies with public keys alone"),
    (with_a_foreign_file_as_key, "expected an Ed25519 public key"),
    (with_the_log_in_a_file, "the audit log .* cannot be written"),
    (with_the_log_as_a_folder, "the audit log .* cannot be written"),
    (with_an_unknown_key, "artefacts"),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS, ids=lambda each: getattr(each, "__name__", ""))
def test_a_registry_with_a_fault_in_its_set_up_is_not_built(
    prepared: Place, monkeypatch: pytest.MonkeyPatch, fault: Callable[[Place], None], reason: str
) -> None:
    monkeypatch.setenv("GATE_SERVER_POLICY", str(prepared.policy))
    fault(prepared)
    with pytest.raises(MlflowException, match=rf"(?s)the registry gate\+… does not start: .*{reason}"):
        registry_store.build(f"gate+{prepared.database}")


def test_a_registry_without_a_server_policy_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATE_SERVER_POLICY", raising=False)
    with pytest.raises(MlflowException, match="GATE_SERVER_POLICY is not set; write a server policy"):
        registry_store.build("gate+sqlite://")


def test_a_registry_that_can_do_what_nobody_looked_at_is_not_built(
    prepared: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GATE_SERVER_POLICY", str(prepared.policy))
    monkeypatch.setattr(SqlAlchemyStore, "promote_everything", lambda self: self, raising=False)
    with pytest.raises(MlflowException, match="ways that gate does not know: promote_everything; use an MLflow"):
        registry_store.build(f"gate+{prepared.database}")
    prepared.policy.write_text(f"{POLICY}unknown_methods: warn\n", encoding="utf-8")
    registry_store.build(f"gate+{prepared.database}")
    assert "promote_everything" in caplog.text


def ended(place: Place, *options: str, gate: str = "gate+", **env: str) -> tuple[int, str]:
    """The exit code of a server that does not start, and what it says."""
    line = servers.command(servers.free_port(), place.database, place.artifacts, *options, gate=gate)
    done = subprocess.run(
        line, env=servers.environment(**env), capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


def test_a_server_without_a_server_policy_does_not_start(prepared: Place) -> None:
    code, said = ended(prepared)
    assert code == 1
    assert "Error initializing backend store" in said
    assert "GATE_SERVER_POLICY is not set; write a server policy (docs/server.md)" in said


@pytest.mark.parametrize("options", [(), ("--no-serve-artifacts",)])
def test_a_server_whose_artifact_store_is_not_guarded_does_not_start(prepared: Place, options: tuple[str, ...]) -> None:
    plain = prepared.artifacts.as_uri()
    more = ("--artifacts-destination", plain, *options)
    code, said = ended(prepared, *more, GATE_SERVER_POLICY=str(prepared.policy))
    assert code == 1
    assert f"is not guarded: start the server with --artifacts-destination gate+{plain}" in said


@pytest.mark.parametrize(
    ("within", "found"),
    [("", "server.yaml"), ("keys", "keys"), ("audit.jsonl", "audit.jsonl"), ("mlflow.db", "mlflow.db")],
)
def test_a_server_whose_users_could_replace_what_it_decides_with_does_not_start(
    prepared: Place, within: str, found: str
) -> None:
    store = prepared.folder / within
    store.mkdir() if within == "audit.jsonl" else None
    code, said = ended(
        prepared, "--artifacts-destination", f"gate+{store.as_uri()}", GATE_SERVER_POLICY=str(prepared.policy)
    )
    assert code == 1
    assert f"{str(prepared.folder / found)!r} lies in the artifact store" in said
    assert "whoever uploads a file could replace it; keep it in another folder" in said


def test_a_server_whose_users_could_replace_a_link_to_a_key_or_what_it_leads_to_does_not_start(prepared: Place) -> None:
    kept, link = prepared.artifacts / "team.pub", prepared.folder / "keys" / "team.pub"
    shutil.copy(prepared.folder / "keys" / "gate.pub", kept)
    link.symlink_to(kept)
    code, said = ended(prepared, GATE_SERVER_POLICY=str(prepared.policy))
    assert (code, "keys/team.pub' lies in the artifact store" in said) == (1, True)
    link.unlink()
    kept.unlink()
    kept.symlink_to(prepared.folder / "keys" / "gate.pub")
    prepared.policy.write_text(POLICY.replace("[keys]", "[artifacts/team.pub]"), encoding="utf-8")
    code, said = ended(prepared, GATE_SERVER_POLICY=str(prepared.policy))
    assert (code, "artifacts/team.pub' lies in the artifact store" in said) == (1, True)


def test_a_server_whose_experiments_lie_over_what_it_decides_with_does_not_start(prepared: Place) -> None:
    root = ("--default-artifact-root", prepared.folder.as_uri())
    code, said = ended(prepared, *root, GATE_SERVER_POLICY=str(prepared.policy))
    assert (code, f"server.yaml' lies in the artifact store '{prepared.folder.as_uri()}'" in said) == (1, True)


@pytest.mark.parametrize("backend", ["file:runs", "runs", None])
def test_a_server_whose_runs_lie_in_a_folder_does_not_start(
    prepared: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlruns" / "0").mkdir(parents=True)
    (tmp_path / "mlruns" / "0" / "meta.yaml").touch()  # where MLflow finds this, it is the default
    env = {"MLFLOW_ALLOW_FILE_STORE": "true", "GATE_SERVER_POLICY": str(prepared.policy)}
    if backend is None:
        line = servers.command(servers.free_port(), prepared.database, prepared.artifacts)
        at = line.index("--backend-store-uri")
        monkeypatch.setattr(servers, "command", lambda *_, **__: line[:at] + line[at + 2 :])
    code, said = ended(prepared, *(["--backend-store-uri", backend] if backend else []), **env)
    assert (code, "is a folder, for which MLflow takes the id of a trace for a path" in said) == (1, True)


@pytest.mark.parametrize("uri", ["sqlite:///{}", "sqlite:///file:{}?uri=true"])
def test_a_server_whose_users_could_replace_its_runs_does_not_start(prepared: Place, uri: str) -> None:
    runs = uri.format(prepared.artifacts / "runs.db")
    code, said = ended(prepared, "--backend-store-uri", runs, GATE_SERVER_POLICY=str(prepared.policy))
    assert (code, "runs.db' lies in the artifact store" in said) == (1, True)


def test_a_server_that_runs_what_its_users_send_does_not_start(prepared: Place, tmp_path: Path) -> None:
    jobs = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true", "GATE_SERVER_POLICY": str(prepared.policy)}
    code, said = ended(prepared, MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS="true", **jobs)
    assert (code, "start it without MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS" in said) == (1, True)
    (tmp_path / "more" / "gepa").mkdir(parents=True)
    (tmp_path / "more" / "gepa" / "__init__.py").touch()
    code, said = ended(prepared, PYTHONPATH=str(tmp_path / "more"), **jobs)
    assert (code, "gepa is installed" in said) == (1, True)
    assert "start the server with MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false, or uninstall gepa" in said


def test_without_the_plugin_nothing_of_the_registry_answers(template: Path, tmp_path: Path) -> None:
    place = servers.place(tmp_path, servers.copied(template, tmp_path))
    (tmp_path / "bare").mkdir()
    # Python imports this at its start, and so does every worker: entry points of the gate are no longer found.
    (tmp_path / "bare" / "sitecustomize.py").write_text(
        "import importlib.metadata as m\n"
        "found = m.entry_points\n"
        "def entry_points(**asked):\n"
        "    return m.EntryPoints(e for e in found(**asked) if not e.name.startswith('gate'))\n"
        "m.entry_points = entry_points\n",
        encoding="utf-8",
    )
    port = servers.free_port()
    line = servers.command(port, place.database, place.artifacts, workers=1)
    env = servers.environment(PYTHONPATH=f"{tmp_path / 'bare'}:{':'.join(sys.path)}")
    with servers.running(line, port, tmp_path / "log", env):
        server = servers.Server(f"http://127.0.0.1:{port}", place)
        for method, route in (
            ("POST", "registered-models/create"),
            ("POST", "registered-models/alias"),
            ("POST", "model-versions/create"),
            ("POST", "model-versions/set-tag"),
            ("POST", "model-versions/transition-stage"),
            ("GET", "registered-models/search"),
        ):
            body = {"name": "a", "alias": "champion", "version": "1", "key": "k", "value": "v", "stage": "Production"}
            more = {"archive_existing_versions": False, "source": "s3://a/b"}
            answer = server.ask(method, route, {**body, **more} if method == "POST" else None)
            assert answer.status_code == 400, (route, answer.text)
        status, _ = server.put("0/x")
        assert status >= 400
    assert not list(place.artifacts.rglob("*"))


def test_a_server_that_starts_says_once_what_it_guards(sqlite_server: Server) -> None:
    place = sqlite_server.place
    said = (place.folder / "server.log").read_text(encoding="utf-8")
    (line,) = [line for line in said.splitlines() if " INFO mlflow.gate: " in line]
    assert line.partition("mlflow.gate: ")[2].startswith(f"{place.policy} guards alias")
    assert line.endswith(f", decisions go to {place.folder / 'audit.jsonl'}")


@pytest.mark.parametrize("options", [("--artifacts-destination",), ("--no-serve-artifacts", "--default-artifact-root")])
def test_a_server_that_freezes_no_files_guards_what_it_decides_with(prepared: Place, options: tuple[str, ...]) -> None:
    prepared.policy.write_text(f"{POLICY}artifacts: anywhere\n", encoding="utf-8")
    own, key, port = prepared.folder / "own", prepared.folder / "keys" / "evil.pub", servers.free_port()
    line = servers.command(port, prepared.database, prepared.artifacts, *options, own.as_uri())
    env = servers.environment(GATE_SERVER_POLICY=str(prepared.policy))
    with servers.running(line, port, prepared.folder / "log", env):
        server = Server(f"http://127.0.0.1:{port}", prepared)
        for location, status in ((None, 200), ((own / "1").as_uri(), 200), (key.as_uri(), 403)):
            experiment = server.client.create_experiment(server.name(), artifact_location=location)
            run = server.client.create_run(experiment).info
            route = f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run.run_id}&path=x"
            assert server.raw("POST", route, b"content")[0] == status
    assert len([path for path in own.rglob("x") if path.is_file()]) == 2
    assert [path.name for path in key.parent.iterdir()] == ["gate.pub"]
