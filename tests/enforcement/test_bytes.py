"""The files of a version with a statement: what was judged is what stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracing.constant import SpansLocation, TraceTagKey

from tests.enforcement.servers import Server

FROZEN = "are frozen"
ROUTE = "2.0/mlflow-artifacts/artifacts"


@pytest.fixture
def frozen(server: Server) -> ModelVersion:
    return server.passed()


def test_files_are_free_until_a_statement_covers_them(server: Server) -> None:
    version = server.version()
    assert server.put(f"{server.folder(version)}/data/weights", b"other")[0] == 200
    assert server.record(version).status_code == 200
    server.refuses(lambda: server.put(f"{server.folder(version)}/data/weights"), FROZEN)


@pytest.mark.parametrize("verdict", ["failed", "error"])
def test_a_verdict_that_does_not_pass_freezes_as_well(server: Server, verdict: str) -> None:
    version = server.version()
    assert server.record(version, verdict=verdict).status_code == 200
    server.refuses(lambda: server.put(f"{server.folder(version)}/data/weights"), FROZEN)


@pytest.mark.parametrize("api", ["api", "ajax-api"])
@pytest.mark.parametrize("file", ["data/weights", "extra.py", "data/more/extra.py", "MLmodel"])
def test_nothing_is_written_over_or_beside_frozen_files(
    server: Server, frozen: ModelVersion, api: str, file: str
) -> None:
    message = server.refuses(lambda: server.put(f"{server.folder(frozen)}/{file}", api=api), FROZEN)
    assert f"models:/{frozen.name}/1" in message
    assert "register a new version instead" in message


@pytest.mark.parametrize("api", ["api", "ajax-api"])
@pytest.mark.parametrize("above", [0, 1, 2, 3])
def test_nothing_frozen_is_removed_by_itself_or_with_a_folder_above(
    server: Server, frozen: ModelVersion, api: str, above: int
) -> None:
    path = "/".join((server.folder(frozen) + "/data/weights").split("/")[: 6 - above - (above > 0)])
    server.refuses(lambda: server.raw("DELETE", f"/{api}/{ROUTE}/{path}"), FROZEN)


def test_a_frozen_folder_gives_no_way_to_a_file(server: Server, frozen: ModelVersion) -> None:
    for path in (server.folder(frozen), server.folder(frozen).rpartition("/")[0]):
        server.refuses(partial(server.put, path), FROZEN)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "encoded once": lambda path: path.replace("m", "%6d"),
    "encoded twice": lambda path: path.replace("m", "%256d"),
    "encoded thrice": lambda path: path.replace("m", "%25256d"),
    "encoded slashes": lambda path: path.replace("/", "%2f"),
    "twice encoded slashes": lambda path: path.replace("/", "%252F"),
    "double slashes": lambda path: path.replace("/models", "//models"),
    "a leading slash": lambda path: f"/{path}",
    "dots": lambda path: path.replace("/models", "/./models"),
    "encoded dots": lambda path: path.replace("/models", "/%2e/models"),
    "two dots": lambda path: path.replace("/models", "/x/../models"),
    "encoded two dots": lambda path: path.replace("/models", "/x/%2e%2e/models"),
    "backslashes": lambda path: path.replace("/", "\\"),
    "a file URI": lambda path: f"file:{path}",
    "another case": lambda path: path.replace("models", "MODELS"),
    "a query": lambda path: f"{path}?x=1",
    "a fragment": lambda path: f"{path}%23x",
    "a null byte": lambda path: f"{path}%00",
    "a trailing slash": lambda path: f"{path}/",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_no_spelling_of_a_path_changes_a_frozen_file(
    server: Server, frozen: ModelVersion, spelling: str, method: str
) -> None:
    folder = server.folder(frozen)
    path = SPELLINGS[spelling](f"{folder}/data/weights")
    status, text = server.raw(method, f"/api/{ROUTE}/{path}", b"evil")
    assert {name: content for name, content in server.files().items() if name.startswith(folder)} == {
        f"{folder}/MLmodel": b"weights",
        f"{folder}/data/weights": b"weights",
    }
    assert status in {200, 308, 400, 403, 404, 405, 500}, text
    if status == 200:
        assert spelling in {"another case", "backslashes"}


def test_the_files_of_a_copy_are_frozen_with_it(server: Server) -> None:
    version = server.version()
    copy = server.client.copy_model_version(f"models:/{version.name}/1", f"{version.name}-copy")
    assert server.record(copy).status_code == 200
    server.refuses(lambda: server.put(f"{server.folder(version)}/data/weights"), FROZEN)


def old_layout(server: Server) -> tuple[Any, ModelVersion]:
    """A version whose files are artifacts of a run."""
    run = server.client.create_run("0").info
    assert server.put(f"0/{run.run_id}/artifacts/model/MLmodel", b"model")[0] == 200
    body = {"name": server.name(), "source": f"{run.artifact_uri}/model", "run_id": run.run_id}
    assert server.ask("POST", "model-versions/create", body).status_code == 200
    return run, server.client.get_model_version(body["name"], "1")


def uploaded(server: Server, run_id: str, path: str) -> tuple[int, str]:
    """The route by which the UI adds a file to a run."""
    return server.raw("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run_id}&path={path}", b"evil")


def test_files_of_a_run_are_frozen_where_a_version_is_made_of_them(server: Server) -> None:
    run, version = old_layout(server)
    assert server.record(version).status_code == 200
    server.refuses(lambda: server.put(f"0/{run.run_id}/artifacts/model/MLmodel"), FROZEN)
    server.refuses(lambda: uploaded(server, run.run_id, "model/MLmodel"), FROZEN)
    assert server.put(f"0/{run.run_id}/artifacts/notes.md", b"free")[0] == 200
    assert uploaded(server, run.run_id, "more.md")[0] == 200


def test_an_upload_does_not_climb_out_of_its_run(server: Server, frozen: ModelVersion) -> None:
    run = server.client.create_run("0").info
    before = server.files()
    for path in (f"../../../{server.folder(frozen)}/MLmodel", f"%2e%2e/%2e%2e/models/{server.folder(frozen)}/MLmodel"):
        assert uploaded(server, run.run_id, path)[0] == 400
    assert server.files() == before


def test_a_run_that_is_deleted_leaves_its_frozen_files(server: Server) -> None:
    run, version = old_layout(server)
    assert server.record(version).status_code == 200
    server.client.delete_run(run.run_id)
    assert server.files()[f"0/{run.run_id}/artifacts/model/MLmodel"] == b"model"


def test_a_logged_model_that_is_deleted_leaves_its_frozen_files(server: Server) -> None:
    model = server.model()
    version = server.version(model=model)
    assert server.record(version).status_code == 200
    server.client.delete_logged_model(model.model_id)
    assert server.files()[f"{server.folder(version)}/MLmodel"] == b"weights"
    server.refuses(lambda: server.put(f"{server.folder(version)}/MLmodel"), FROZEN)


# A version whose files are elsewhere than they seem


def test_files_under_a_name_that_is_encoded_cannot_be_frozen_so_they_are_not_taken(server: Server) -> None:
    run = server.client.create_run("0").info
    assert server.put(f"0/{run.run_id}/artifacts/model/MLmodel", b"model")[0] == 200
    for name in ("mo%64el", "mo%2564el", "mo%252564el", "mo%2fdel", "model;x", "model?x", "model%3fx", "x;/../model"):
        body = {"name": server.name(), "source": f"{run.artifact_uri}/{name}", "run_id": run.run_id}
        answer = server.ask("POST", "model-versions/create", body)
        if answer.status_code != 200:
            continue
        version = server.client.get_model_version(body["name"], "1")
        server.refuses(partial(server.record, version), "may read in different ways")


@pytest.mark.parametrize(
    "place",
    ["A:b*", "X+y:b*", " *", "* ", "*/mo\x7fdel", "*/mo\x01del", "./*", "*//b", "*/e\N{COMBINING ACUTE ACCENT}"],
)
def test_files_at_a_place_that_the_server_reads_otherwise_are_not_taken(server: Server, place: str) -> None:
    name = server.name()
    experiment = {"name": name, "artifact_location": f"mlflow-artifacts:/{place.replace('*', name)}"}
    number = server.ask("POST", "experiments/create", experiment).json()["experiment_id"]
    version = server.version(name, server.client.create_logged_model(number, name="m"))
    server.refuses(lambda: server.record(version), "may read in different ways")
    server.refuses(lambda: server.promote(version), "there is no signed statement")


@pytest.mark.parametrize("source", ["runs", "s3", "https", "local"])
def test_files_that_the_server_does_not_keep_are_not_taken(server: Server, tmp_path: Path, source: str) -> None:
    run = server.client.create_run("0").info
    uri = {
        "runs": f"runs:/{run.run_id}/model",
        "s3": "s3://bucket/model",
        "https": f"{server.url}/api/{ROUTE}/0/{run.run_id}/artifacts/model",
        "local": tmp_path.as_uri(),
    }[source]
    body = {"name": server.name(), "source": uri, "run_id": run.run_id}
    answer = server.ask("POST", "model-versions/create", body)
    if answer.status_code == 200:
        version = server.client.get_model_version(body["name"], "1")
        server.refuses(lambda: server.record(version), "which this server does not keep")
    else:
        assert answer.status_code == 400


@pytest.mark.parametrize(
    "scheme",
    [
        "file://{}",
        "file:{}",
        "{}",
        "file://localhost{}",
        "gate+file://{}",
        "gate+file:{}",
        "gate+file://{}/.",
        "gate+file:///tmp/..{}",
    ],
)
def test_an_experiment_that_lies_inside_of_frozen_files_takes_no_file(
    server: Server, frozen: ModelVersion, scheme: str
) -> None:
    folder = server.place.artifacts / server.folder(frozen)
    body = {"name": server.name(), "artifact_location": scheme.format(folder)}
    answer = server.ask("POST", "experiments/create", body)
    if answer.status_code != 200:
        return
    run = server.client.create_run(answer.json()["experiment_id"]).info
    before = server.files()
    status, text = uploaded(server, run.run_id, "evil.py")
    assert server.files() == before, (run.artifact_uri, text)
    assert status in {400, 403, 500}


def test_multipart_uploads_are_refused_or_not_there(server: Server, frozen: ModelVersion) -> None:
    body = json.dumps({"path": f"{server.folder(frozen)}/data/weights", "num_parts": 1})
    for what in ("create", "complete", "abort"):
        path = f"/api/2.0/mlflow-artifacts/mpu/{what}/{server.folder(frozen)}/data"
        status, text = server.raw("POST", path, body, **{"Content-Type": "application/json"})
        assert status in {400, 403, 501}, text


@pytest.mark.parametrize("place", ["keys/evil.pub", "audit.jsonl.locks/models-5.lock", "new"])
def test_nobody_makes_a_folder_of_the_servers_machine_outside_of_its_store(server: Server, place: str) -> None:
    body = {"name": server.name(), "artifact_location": f"file://{server.place.folder}/{place}"}
    experiment = server.ask("POST", "experiments/create", body).json()["experiment_id"]
    run, where = server.client.create_run(experiment).info, (server.place.folder / place).parent
    before = sorted(where.rglob("*"))
    server.refuses(
        lambda: uploaded(server, run.run_id, "evil.pub"), "nothing on its machine but what lies in its artifact store"
    )
    parameters = {
        "prompt_parameters": [{"key": "x", "value": "1"}],
        "model_parameters": [],
        "model_output_parameters": [],
    }
    texts = ("run_name", "prompt_template", "model_route", "model_input", "model_output", "user_id", "mlflow_version")
    told = {"experiment_id": experiment, "start_time": "1", "tags": [], **parameters, **dict.fromkeys(texts, "x")}
    decided = len(server.decisions())
    answer = server.ask("POST", "runs/create-promptlab-run", told, api="ajax-api")
    assert answer.json()["run"]["info"]["status"] == "FAILED"
    assert [entry["decision"] for entry in server.decisions()[decided:]] == ["refused"]
    assert sorted(where.rglob("*")) == before


@pytest.mark.parametrize("spelled", ["file://{}", "file:file://{}%3Fx", "{}"])
def test_deleting_a_trace_removes_no_folder_that_it_names(server: Server, frozen: ModelVersion, spelled: str) -> None:
    keys, locks = server.place.policy.parent / "keys", server.place.audit.with_name("audit.jsonl.locks")
    as_json = {"Content-Type": "application/json"}
    for number, folder in enumerate((server.place.artifacts / server.folder(frozen), keys, locks)):
        inside = sorted(folder.rglob("*"))
        trace = f"tr-{spelled.encode().hex()[:24]:0<28}{number:04}"
        tags = {
            TraceTagKey.SPANS_LOCATION: SpansLocation.ARCHIVE_REPO.value,
            TraceTagKey.ARCHIVE_LOCATION: spelled.format(folder),
        }
        where = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}
        told = {"trace_id": trace, "trace_location": where, "request_time": "2026-11-22T20:00:00Z", "tags": tags}
        body = {"trace": {"trace_info": {**told, "state": "OK", "execution_duration": "1s"}}}
        assert server.raw("POST", "/api/3.0/mlflow/traces", json.dumps(body).encode(), **as_json)[0] == 200
        server.ask("POST", "traces/delete-traces", {"experiment_id": "0", "request_ids": [trace]})
        assert sorted(folder.rglob("*")) == inside
        assert inside
