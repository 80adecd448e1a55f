"""`gate doctor` at real servers; every point of it with the fault that it is there for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from mlflow import MlflowClient

from gate.attestation import keys
from gate.cli import main
from gate.mlflow_plugin.audit import Audit
from tests.cli.registries import PASSED, POLICY, Registry, answering, deployment, served

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

Examine = Callable[..., "dict[str, list[tuple[str, str, str | None]]]"]
SECRET = "of a webhook"  # noqa: S105 - of this test
HOOKS = {"MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, Registry]]:
    """A guarded server and a plain one."""
    homes = [tmp_path_factory.mktemp(name) for name in ("guarded", "plain")]
    key = Fernet.generate_key().decode()
    with ExitStack() as running:
        uris = [
            running.enter_context(served(homes[0], deployment(homes[0]), MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY=key)),
            running.enter_context(served(homes[1], None, **HOOKS)),
        ]
        yield Registry(answering(uris[0]), homes[0]), Registry(answering(uris[1]), homes[1])


@pytest.fixture
def guarded(servers: tuple[Registry, Registry]) -> Registry:
    return servers[0]


@pytest.fixture
def plain(servers: tuple[Registry, Registry]) -> Registry:
    return servers[1]


@pytest.fixture
def examine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Examine:
    """The command on a registry; its points by their name."""
    monkeypatch.chdir(tmp_path)

    def run(uri: str, *arguments: object, code: int) -> dict[str, list[tuple[str, str, str | None]]]:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert main(["doctor", *map(str, arguments), "-o", "json"]) == code
        found = json.loads(capsys.readouterr().out)
        assert found["exit_code"] == code
        points: dict[str, list[tuple[str, str, str | None]]] = {}
        for each in found["points"]:
            points.setdefault(each["about"], []).append((each["state"], each["found"], each["do"]))
        return points

    return run


def states(points: dict[str, list[tuple[str, str, str | None]]]) -> dict[str, list[str]]:
    return {about: [state for state, *_ in found] for about, found in points.items()}


def policy(home: Path, old: str = "", new: str = "") -> Path:
    """A server policy of its own, with one thing changed."""
    home.mkdir()
    return deployment(home, POLICY.replace(old, new))


def test_a_guarded_deployment_is_well(guarded: Registry, examine: Examine) -> None:
    given = ("--server-policy", guarded.home / "server.yaml", "--signing-key", guarded.key)
    found = examine(guarded.uri, *given, code=0)
    assert states(found) == {
        "registry": ["ok"],
        "enforcement": ["ok"],
        "promoted": ["ok"],
        "artifacts": ["ok"],
        "experiments": ["ok"],
        "webhooks": ["note"],
        "server policy": ["ok"],
        "keys": ["ok"],
        "policy": ["note"],
        "protected": ["ok"],
        "audit log": ["ok"],
        "signing key": ["ok"],
    }
    assert re.search(r"answers with MLflow 3\.\d+\.\d+$", found["registry"][0][1])
    key = keys.keyid(keys.public_key(guarded.home / "keys" / "ci.pub"))[:16]
    assert key in found["keys"][0][1]
    assert key in found["signing key"][0][1]
    assert "its digest does not say what it asks" in found["policy"][0][1]
    assert "@champion" in found["protected"][0][1]
    assert "prod.*" in found["protected"][0][1]


def test_a_person_reads_one_line_a_point(
    guarded: Registry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", guarded.uri)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"ok     registry       {guarded.uri} answers with MLflow ")
    assert lines[-1] == f"looked at {len(lines) - 1} points, none of them is wrong"
    assert all(re.match(r"(ok   |note |wrong)  \S", line) for line in lines[:-1])


def test_a_plain_server_is_told_as_what_it_is_and_keeps_all_that_it_has(plain: Registry, examine: Examine) -> None:
    version = plain.register("kept")
    folder = plain.home / "artifacts" / ".gate" / "doctor"
    folder.mkdir(parents=True)
    (folder / "file").write_text("x", encoding="utf-8")
    before = sorted((plain.home / "artifacts").rglob("*"))
    rows = plain.client.get_model_version("kept", version)
    found = examine(plain.uri, code=7)
    assert states(found) | {"webhooks": []} == {
        "registry": ["ok"],
        "enforcement": ["wrong"],
        "artifacts": ["wrong"],
        "experiments": ["ok"],
        "webhooks": [],
        "server policy": ["note"],
        "signing key": ["note"],
    }
    assert "--registry-store-uri gate+" in str(found["enforcement"][0][2])
    assert "--artifacts-destination gate+" in str(found["artifacts"][0][2])
    assert sorted((plain.home / "artifacts").rglob("*")) == before
    assert dict(plain.client.get_model_version("kept", version)) == dict(rows)
    assert not plain.client.search_registered_models("name='gate-doctor'")


def test_a_store_that_freezes_nothing_is_a_note_where_the_policy_says_so(
    plain: Registry, examine: Examine, tmp_path: Path
) -> None:
    file = policy(tmp_path / "own", "audit:", "artifacts: anywhere\naudit:")
    assert states(examine(plain.uri, "--server-policy", file, code=7))["artifacts"] == ["note"]


def test_a_guard_rail_and_a_database_are_no_enforcement(guarded: Registry, examine: Examine, monkeypatch: Any) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"gate+{guarded.uri}")
    found = examine(guarded.uri, code=0)
    assert found["guard rail"][0][0] == "note"
    assert "walks around it" in found["guard rail"][0][1]
    monkeypatch.delenv("MLFLOW_REGISTRY_URI")
    database = f"sqlite:///{guarded.home / 'server.db'}"
    for uri in (database, f"gate+{database}"):
        found = examine(uri, code=7)
        assert states(found)["registry"] == ["ok"]
        assert "whoever has this URI walks around the server" in found["enforcement"][0][1]
        assert "promoted" not in found
    found = examine(database, "--server-policy", guarded.home / "server.yaml", code=7)
    assert "name its server" in str(found["promoted"][0][2])


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:///none.db", "sqlite:///empty.db", "nothing://x"])
def test_a_registry_that_cannot_be_asked_is_3_and_the_rest_is_told(uri: str, examine: Examine, tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    file = policy(tmp_path / "own")
    found = examine(uri, "--server-policy", file, code=3)
    assert states(found)["registry"] == ["wrong"]
    assert states(found)["keys"] == ["ok"]
    assert not (tmp_path / "none.db").exists()
    assert (tmp_path / "empty.db").stat().st_size == 0


@pytest.mark.parametrize(
    ("old", "new", "about", "state", "said"),
    [
        ("kind:", "kinds: x\nkind:", "server policy", "wrong", r"server\.yaml:2:1: .*kinds"),
        ("keys: [keys]", "keys: [gone]", "server policy", "wrong", "gone: the key cannot be read"),
        ("names: [prod.]", "aliases: [live]", "protected", "wrong", "no policy opens @live"),
        ("names: [prod.]", "aliases: [live]", "protected", "note", "stages, tags and names are closed to all"),
        (
            f'name: classifier, digest: "{PASSED["policy"]["digest"]}"',
            "file: classifier",
            "policy",
            "ok",
            "classifier sha256:",
        ),
        ("audit: audit", "audit: ../keys/audit", "audit log", "wrong", "there is no file"),
    ],
)
def test_faults_of_a_server_policy_are_told(
    guarded: Registry, examine: Examine, tmp_path: Path, old: str, new: str, about: str, state: str, said: str
) -> None:
    assert old in POLICY
    file = policy(tmp_path / "own", old, new)
    found = examine(guarded.uri, "--server-policy", file, code=7)  # its audit log is none in every case
    assert any(each[0] == state and re.search(said, each[1]) for each in found[about])


def test_all_faults_of_a_server_policy_are_told_at_once(guarded: Registry, examine: Examine, tmp_path: Path) -> None:
    file = policy(tmp_path / "own", "kind:", "kinds: x\nmore: y\nkind:")
    assert states(examine(guarded.uri, "--server-policy", file, code=7))["server policy"] == ["wrong", "wrong"]


def test_modes_and_private_keys_beside_a_server_are_told(guarded: Registry, examine: Examine, tmp_path: Path) -> None:
    file = policy(tmp_path / "own")
    keys.create(tmp_path / "own" / "keys" / "careless")
    (tmp_path / "own" / "ci").chmod(0o644)
    file.chmod(0o666)
    found = examine(guarded.uri, "--server-policy", file, "--signing-key", tmp_path / "own" / "ci", code=7)
    assert states(found)["server policy"] == ["wrong"]
    assert states(found)["keys"] == ["ok", "wrong"]
    assert "careless is a private key beside the server" in found["keys"][1][1]
    assert str(found["signing key"][0][2]).startswith("chmod 600 ")


def test_a_key_that_the_server_does_not_believe_is_told(guarded: Registry, examine: Examine, tmp_path: Path) -> None:
    keys.create(tmp_path / "other")
    for path, said in (
        (tmp_path / "other", "which the server does not believe"),
        (tmp_path / "none", "cannot be read"),
    ):
        found = examine(guarded.uri, "--server-policy", guarded.home / "server.yaml", "--signing-key", path, code=7)
        assert said in found["signing key"][0][1]


def test_an_audit_log_that_was_changed_or_is_another_is_told(
    guarded: Registry, examine: Examine, tmp_path: Path
) -> None:
    file = (
        Path(shutil.copytree(guarded.home, tmp_path / "copy", ignore=shutil.ignore_patterns("*.db*"))) / "server.yaml"
    )
    log = file.with_name("audit.jsonl")
    examine(guarded.uri, code=0)  # one decision more than the copy has
    assert "it writes another" in examine(guarded.uri, "--server-policy", file, code=7)["audit log"][0][1]
    content = guarded.home.joinpath("audit.jsonl").read_bytes()
    log.write_bytes(content.replace(b'"refused"', b'"allowed"', 1))
    found = examine(guarded.uri, "--server-policy", file, code=7)["audit log"]
    assert "line 2 does not follow" in found[0][1]
    log.chmod(0o666)
    assert "chmod o-w" in str(examine(guarded.uri, "--server-policy", file, code=7)["audit log"][0][2])


def test_a_torn_line_of_the_audit_log_is_told_and_is_no_fault(guarded: Registry, examine: Examine) -> None:
    examine(guarded.uri, code=0)
    log = guarded.home / "audit.jsonl"
    before = log.read_bytes()
    try:
        log.write_bytes(before + b"\xff\r\x85")  # what some take for ends of lines
        Audit(log)
        log.write_bytes(log.read_bytes()[:-40])  # and torn again while it was mended
        found = examine(guarded.uri, "--server-policy", guarded.home / "server.yaml", code=0)["audit log"]
        last = sha256(log.read_bytes().split(b"\n")[-2]).hexdigest()
    finally:
        log.write_bytes(before)
    assert [state for state, *_ in found] == ["note"]
    assert f"the last one is {last}: hold" in found[0][1]
    assert "; a line was torn once, last found at 20" in found[0][1]


def test_the_last_decision_is_told_because_only_a_copy_shows_a_cut_off_end(
    plain: Registry, examine: Examine, tmp_path: Path
) -> None:
    file = policy(tmp_path / "own")
    log, hashes = Audit(tmp_path / "own" / "audit.jsonl"), ["0" * 64]
    path = tmp_path / "own" / "audit.jsonl"

    def told() -> str:
        return examine(plain.uri, "--server-policy", file, code=7)["audit log"][0][1]

    assert told() == f"{path} holds no decision yet"
    for number in (1, 2, 3):
        log.append({"what": f"alias {number}"})
        hashes.append(sha256(path.read_bytes().splitlines()[-1]).hexdigest())
    assert f"holds 3 entries, each of which follows from the one before it; the last one is {hashes[3]}: hold" in told()
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:1]))
    assert f"holds 1 entry; the last one is {hashes[1]}: hold that against your copy" in told()
    log.append({"what": "alias"})
    assert json.loads(path.read_bytes().splitlines()[1])["after"] == hashes[1]


def test_a_champion_of_before_the_guard_is_wrong_until_it_is_checked(guarded: Registry, examine: Examine) -> None:
    given = ("--server-policy", guarded.home / "server.yaml")
    version = guarded.signed("old", verdict="failed")
    database = f"sqlite:///{guarded.home / 'server.db'}"
    MlflowClient(database, database).set_registered_model_alias("old", "champion", version)  # past the server
    (state, found, do), *more = examine(guarded.uri, *given, code=7)["promoted"]
    assert (state, more) == ("wrong", [])
    assert found.startswith("models:/old/1 holds @champion: the verdict of policy 'classifier' is FAILED")
    assert str(do).endswith("or remove the alias")
    assert "promoted" not in examine(guarded.uri, code=0)  # nothing to decide with
    guarded.sign("old", version)
    state, found, _ = examine(guarded.uri, *given, code=0)["promoted"][0]
    assert (state, found) == ("ok", "the one promotion that this login sees has evidence")


def test_experiments_whose_files_nobody_freezes_are_named(plain: Registry, examine: Examine) -> None:
    for number in range(7):
        plain.client.create_experiment(f"own {number}", (plain.home / f"own{number}").as_uri())
    state, found, do = examine(plain.uri, code=7)["experiments"][0]
    assert state == "note"
    assert re.match(r"7 of the \d+ keep files where nobody freezes them: 'own 6', .* and 2 more$", found)
    assert do


def test_webhooks_are_told_and_one_that_a_worker_cannot_read_is_wrong(
    plain: Registry, examine: Examine, monkeypatch: Any
) -> None:
    client = plain.client
    assert states(examine(plain.uri, code=7))["webhooks"] == ["note"]
    client.create_webhook(name="tags", url="https://192.0.2.1/x", events=["model_version_tag.set"])
    assert "none of the 1 is active" in examine(plain.uri, code=7)["webhooks"][0][1]
    client.create_webhook(name="open", url="http://127.0.0.1/x", events=["model_version.created"])
    client.create_webhook(name="safe", url="https://192.0.2.1/x?key=s3cret", events=["model_version.created"])
    found = examine(plain.uri, code=7)["webhooks"]
    assert {(state, said.partition('"')[2][:4]) for state, said, _ in found} == {("note", "open"), ("ok", "safe")}
    assert "s3cret" not in str(found)
    # As another worker would write it, which has made up a key of its own.
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true")
    another = MlflowClient(database := f"sqlite:///{plain.home / 'server.db'}", database)
    another.create_webhook(name="signed", url="https://192.0.2.1/y", events=["model_version.created"], secret=SECRET)
    state, said, do = examine(plain.uri, code=7)["webhooks"][0]
    assert (state, said) == ("wrong", "8 of 8 requests failed: 500 INTERNAL_ERROR")
    command = str(do).partition("made by: python -c ")[2].strip('"')
    made = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout
    Fernet(made.strip())


class _Health(BaseHTTPRequestHandler):
    answer = (200, b"{}")

    def do_GET(self) -> None:
        assert self.path == "/health"
        assert "Authorization" not in self.headers
        self.send_response(self.answer[0])
        self.end_headers()
        self.wfile.write(self.answer[1])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the standard library has it
        """Nothing."""


@pytest.fixture
def relay() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "state"),
    [
        (200, {"status": "ok", "error": None, "last_reconcile": "2026-01-01"}, "ok"),
        (200, {"status": "ok", "error": "the registry is gone"}, "wrong"),
        (503, {"status": "failing", "error": "the queue cannot be written"}, "wrong"),
        (200, {"something": "else"}, "wrong"),
        (200, [1], "wrong"),
    ],
)
def test_a_relay_is_asked_for_its_health(
    guarded: Registry, examine: Examine, relay: str, monkeypatch: Any, status: int, body: Any, state: str
) -> None:
    monkeypatch.setattr(_Health, "answer", (status, json.dumps(body).encode()))
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "somebody")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    found = examine(guarded.uri, "--relay", relay, code=7)
    assert states(found)["relay"] == [state]
    assert states(found)["webhooks"] == ["wrong"]  # nobody tells the relay


def test_a_relay_that_does_not_answer_is_wrong(guarded: Registry, examine: Examine) -> None:
    found = examine(guarded.uri, "--relay", "http://127.0.0.1:9", code=7)
    assert "no relay answers there" in found["relay"][0][1]


def test_a_file_takes_the_points_and_no_other_file_is_written_over(
    guarded: Registry, examine: Examine, tmp_path: Path
) -> None:
    for _ in range(2):
        examine(guarded.uri, "-o", f"text={tmp_path / 'points.txt'}", code=0)
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    assert main(["doctor", "-o", f"text={tmp_path / 'mine.txt'}"]) == 2
