"""The ways in which people run a server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from mlflow.prompt.constants import IS_PROMPT_TAG_KEY
from sqlalchemy import create_engine, text

from gate.mlflow_plugin.doctor.promoted import promoted
from gate.server_policy import load
from tests.enforcement import servers
from tests.enforcement.servers import Place, Server

GUARDED = "--workspace-store-uri"
NONE_YET = "there is no signed statement of policy 'geometry'"


def guards(server: Server) -> None:
    """Whether promotions and files are guarded, whichever worker answers."""
    version = server.version()
    for _ in range(6):
        server.refuses(lambda: server.promote(version), NONE_YET)
    assert server.record(version).status_code == 200
    for _ in range(6):
        server.refuses(lambda: server.put(f"{server.folder(version)}/data/weights"), "are frozen")
        server.refuses(
            lambda: server.raw("DELETE", f"/api/2.0/mlflow-artifacts/artifacts/{server.folder(version)}"), "are frozen"
        )
    assert server.promote(version).status_code == 200
    assert server.alias(version.name) == "1"


@pytest.mark.parametrize(
    ("options", "workers"), [(("--gunicorn-opts", "--timeout 60"), 2), ((), 4)], ids=["gunicorn", "uvicorn"]
)
def test_every_worker_guards(template: Path, tmp_path: Path, options: tuple[str, ...], workers: int) -> None:
    place = servers.place(tmp_path, servers.copied(template, tmp_path))
    with servers.guarded(place, *options, workers=workers) as server, ThreadPoolExecutor(8) as crowd:
        list(crowd.map(lambda _: server.client.search_registered_models(), range(16)))  # wakes every worker
        guards(server)


# With users


@pytest.fixture(scope="module")
def users(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with an administrator, and a user who may edit."""
    folder = tmp_path_factory.mktemp("users")
    (folder / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = EDIT\nadmin_username = admin\nadmin_password = correct horse battery\n"
        f"database_uri = sqlite:///{folder / 'users.db'}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
        encoding="utf-8",
    )
    place = servers.place(folder, servers.copied(template, folder))
    env = {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "none"}
    with servers.guarded(place, "--app-name", "basic-auth", workers=1, **env) as server:
        admin = replace(server, auth=("admin", "correct horse battery"))
        body = {"username": "ada", "password": "correct horse battery"}
        assert admin.ask("POST", "users/create", body).status_code == 200
        yield admin


def registered(server: Server) -> str:
    """A model with a version without evidence."""
    name = f"users{len(server.decisions())}"
    assert server.ask("POST", "registered-models/create", {"name": name}).status_code == 200
    run = server.ask("POST", "runs/create", {"experiment_id": "0"}).json()["run"]["info"]
    body = {"name": name, "source": f"{run['artifact_uri']}/model", "run_id": run["run_id"]}
    assert server.ask("POST", "model-versions/create", body).status_code == 200
    return name


@pytest.mark.parametrize("user", ["ada", "admin"])
def test_neither_a_user_nor_the_administrator_promotes_without_evidence(users: Server, user: str) -> None:
    name = registered(users)
    own = replace(users, auth=(user, "correct horse battery"))
    body = {"name": name, "alias": "champion", "version": "1"}
    own.refuses(lambda: own.ask("POST", "registered-models/alias", body), NONE_YET)
    assert own.decisions()[-1]["who"] == f"{user} from 127.0.0.1"


def test_who_does_not_log_in_gets_nowhere(users: Server) -> None:
    name, decided = registered(users), len(users.decisions())
    body = {"name": name, "alias": "champion", "version": "1"}
    answer = requests.post(f"{users.url}/api/2.0/mlflow/registered-models/alias", json=body, timeout=60)
    assert answer.status_code == 401
    assert len(users.decisions()) == decided


# With workspaces


@pytest.fixture(scope="module")
def workspaces(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two workspaces of one server."""
    folder = tmp_path_factory.mktemp("workspaces")
    place = servers.place(folder, servers.copied(template, folder))
    with servers.guarded(place, "--enable-workspaces", GUARDED, f"gate+{place.database}", workers=1) as server:
        yield workspace(server, "team-a"), workspace(server, "team-b")


def workspace(server: Server, name: str, **more: str) -> Server:
    """The server as who works in a new workspace sees it."""
    answer = requests.post(f"{server.url}/api/3.0/mlflow/workspaces", json={"name": name, **more}, timeout=60)
    assert answer.status_code in {200, 201}, answer.text
    return replace(server, headers={"X-MLFLOW-WORKSPACE": name})


def deleted(server: Server, mode: str) -> requests.Response:
    """The workspace of a server, deleted."""
    route = f"{server.url}/api/3.0/mlflow/workspaces/{server.headers['X-MLFLOW-WORKSPACE']}"
    return requests.delete(route, params={"mode": mode}, timeout=60)


class Version:
    """A version as REST tells it, made in a workspace."""

    def __init__(self, server: Server, name: str) -> None:
        experiment = server.ask(
            "POST", "experiments/create", {"name": f"{name}{len(server.registry()['model_versions'])}"}
        )
        self.server, self.experiment = server, experiment.json()["experiment_id"]
        server.ask("POST", "registered-models/create", {"name": name})
        body = {"experiment_id": self.experiment, "name": "m"}
        model = server.ask("POST", "logged-models", body).json()["model"]["info"]
        self.location = model["artifact_uri"].removeprefix("mlflow-artifacts:/")
        assert server.put(f"{self.location}/MLmodel", b"weights")[0] == 200
        body = {"name": name, "source": f"models:/{model['model_id']}", "model_id": model["model_id"]}
        made = server.ask("POST", "model-versions/create", body).json()["model_version"]
        self.name, self.version, self.source = name, made["version"], made["source"]
        self.creation_timestamp, self.workspace = int(made["creation_timestamp"]), server.headers["X-MLFLOW-WORKSPACE"]


def test_workspaces_are_guarded(workspaces: tuple[Server, Server]) -> None:
    team, _ = workspaces
    version = Version(team, "enc")
    team.refuses(lambda: team.promote(version), NONE_YET)  # type: ignore[arg-type]
    body = {"name": "enc", "version": version.version, "stage": "production", "archive_existing_versions": True}
    team.refuses(lambda: team.ask("POST", "model-versions/transition-stage", body), NONE_YET)
    assert team.record(version).status_code == 200  # type: ignore[arg-type]
    assert team.promote(version).status_code == 200  # type: ignore[arg-type]
    assert team.ask("POST", "model-versions/transition-stage", body).status_code == 200


def test_files_of_a_workspace_are_frozen_by_whichever_path(workspaces: tuple[Server, Server]) -> None:
    team, other = workspaces
    version = Version(team, "frozen")
    assert team.record(version).status_code == 200  # type: ignore[arg-type]
    short = version.location.removeprefix("workspaces/team-a/")
    assert short != version.location
    for path in (version.location, short, version.location.replace("m-", "%6d-")):
        team.refuses(partial(team.put, f"{path}/MLmodel"), "are frozen")
    before = team.files()
    status, _ = other.put(f"{version.location}/MLmodel")
    assert status == 400
    assert team.files() == before


def test_a_statement_of_one_workspace_says_nothing_in_another(workspaces: tuple[Server, Server]) -> None:
    team, other = workspaces
    ours, theirs = Version(team, "same"), Version(other, "same")
    assert (ours.name, ours.version) == (theirs.name, theirs.version)
    text = team.envelope(ours)  # type: ignore[arg-type]
    other.refuses(lambda: other.attach(theirs, text), "issued for another version")  # type: ignore[arg-type]
    moved = team.envelope(theirs, workspace="team-a")  # type: ignore[arg-type]
    other.refuses(lambda: other.attach(theirs, moved), "(workspace: team-a != team-b)")  # type: ignore[arg-type]


def test_a_version_of_another_workspace_is_not_there(workspaces: tuple[Server, Server]) -> None:
    team, other = workspaces
    version = Version(team, "mine")
    text = team.envelope(version)  # type: ignore[arg-type]
    assert other.attach(version, text).status_code == 404  # type: ignore[arg-type]
    assert other.promote(version).status_code == 404  # type: ignore[arg-type]


@pytest.mark.parametrize("root", ["mlflow-artifacts:/roots/own", "mlflow-artifacts:/workspaces/rooted/own"])
def test_files_of_a_workspace_with_a_root_of_its_own_are_frozen_where_they_lie(
    workspaces: tuple[Server, Server], root: str
) -> None:
    name = f"rooted{len(root)}"
    team = workspace(workspaces[0], name, default_artifact_root=root.replace("rooted", name))
    version = Version(team, "rooted")
    assert team.record(version).status_code == 200  # type: ignore[arg-type]
    assert team.promote(version).status_code == 200  # type: ignore[arg-type]
    team.refuses(lambda: team.put(f"{version.location}/MLmodel"), "are frozen")


def test_files_of_another_workspace_are_no_files_of_a_version(workspaces: tuple[Server, Server]) -> None:
    team = workspace(workspaces[0], "taker", default_artifact_root="mlflow-artifacts:/workspaces/team-a/taken")
    body = {"name": "taker", "source": "mlflow-artifacts:/workspaces/team-a/taken", "tags": []}
    experiment = team.ask("POST", "experiments/create", {"name": "taker"}).json()["experiment_id"]
    run = team.ask("POST", "runs/create", {"experiment_id": experiment}).json()["run"]["info"]
    assert team.ask("POST", "registered-models/create", {"name": "taker"}).status_code == 200
    body |= {"source": f"{run['artifact_uri']}/model", "run_id": run["run_id"]}
    made = team.ask("POST", "model-versions/create", body).json()["model_version"]
    version = SimpleNamespace(**{**made, "creation_timestamp": int(made["creation_timestamp"]), "workspace": "taker"})
    team.refuses(lambda: team.record(version), "is for another workspace than its own, 'taker'")  # type: ignore[arg-type]


def test_doctor_looks_into_every_workspace(workspaces: tuple[Server, Server]) -> None:
    team, other = workspaces
    good, bad = Version(team, "seen"), Version(other, "unseen")
    assert team.record(good).status_code == 200  # type: ignore[arg-type]
    assert team.promote(good).status_code == 200  # type: ignore[arg-type]
    protection = load(team.place.policy)
    assert [point.state for point in promoted(team.url, protection)] == ["ok"]
    engine = create_engine(team.place.database)
    with engine.begin() as connection:  # past the server
        row = {"workspace": "team-b", "name": "unseen", "alias": "champion", "version": bad.version}
        into = "INSERT INTO registered_model_aliases (workspace, name, alias, version)"
        connection.execute(text(f"{into} VALUES (:workspace, :name, :alias, :version)"), row)
    engine.dispose()
    found = promoted(team.url, protection)
    assert [point.state for point in found] == ["wrong"]
    assert found[0].found.startswith("workspace 'team-b': models:/unseen/1 holds @champion: there is no signed")


@pytest.mark.parametrize("mode", ["SET_DEFAULT", "CASCADE", "RESTRICT"])
def test_a_workspace_with_models_is_not_deleted(workspaces: tuple[Server, Server], mode: str) -> None:
    team = workspace(workspaces[0], f"gone-{mode.lower().replace('_', '-')}")
    version = Version(team, f"gone{mode}")
    assert team.record(version).status_code == 200  # type: ignore[arg-type]
    assert team.promote(version).status_code == 200  # type: ignore[arg-type]
    team.refuses(lambda: deleted(team, mode), "it holds a registered model, which would go past the gate")
    assert team.ask("DELETE", "registered-models/delete", {"name": version.name}).status_code == 200
    assert deleted(team, "CASCADE").status_code == 204
    assert team.decisions()[-1]["model"] == f"workspace {team.headers['X-MLFLOW-WORKSPACE']!r}"


def test_workspaces_that_are_not_guarded_do_not_start(prepared: Place) -> None:
    with pytest.raises(AssertionError, match="the workspaces of this server are not guarded"):  # noqa: SIM117
        with servers.guarded(prepared, "--enable-workspaces", workers=1):
            pass


# With a replica


def test_decisions_do_not_believe_a_replica_that_lags_behind(template: Path, tmp_path: Path) -> None:
    place = servers.place(tmp_path, servers.copied(template, tmp_path))
    with servers.guarded(place, workers=1) as server:
        failed, passed = server.passed(), server.version()
    (tmp_path / "mlflow.db").rename(tmp_path / "kept.db")
    (tmp_path / "replica").mkdir()
    (tmp_path / "replica" / "mlflow.db").write_bytes((tmp_path / "kept.db").read_bytes())
    (tmp_path / "kept.db").rename(tmp_path / "mlflow.db")
    replica = f"sqlite:///{tmp_path / 'replica' / 'mlflow.db'}"
    with servers.guarded(place, "--read-replica-backend-store-uri", replica, workers=1) as server:
        assert server.record(failed, verdict="failed").status_code == 200
        assert server.tags(failed)["gate"] == "PASS"  # what the replica says
        server.refuses(lambda: server.promote(failed), "is FAILED")
        assert server.record(passed).status_code == 200
        server.refuses(lambda: server.put(f"{server.folder(passed)}/MLmodel"), "are frozen")
        assert server.promote(passed).status_code == 200
        tag = {"key": IS_PROMPT_TAG_KEY, "value": "true"}
        assert server.ask("POST", "registered-models/create", {"name": "words", "tags": [tag]}).status_code == 200
        prompt = {"name": "words", "source": "prompt-template", "tags": [tag]}
        assert server.ask("POST", "model-versions/create", prompt).status_code == 200  # the replica knows no such model
