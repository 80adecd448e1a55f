"""Two who want different things at the same moment."""

from __future__ import annotations

import asyncio
import http.client
import io
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from threading import Event

import pytest
from mlflow.entities.model_registry import ModelVersion, ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.server import handlers

from gate.attestation.envelope import sealed
from gate.attestation.names import statement_key
from gate.mlflow_plugin import artifact_store, registry_store
from gate.mlflow_plugin.audit import chain
from gate.mlflow_plugin.locations import DESTINATION
from tests.enforcement import servers
from tests.enforcement.servers import Place, Server, stated

ROUNDS = 12


@pytest.fixture
def crowd() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def test_a_promotion_and_a_fail_at_the_same_moment_end_in_the_order_of_the_log(
    server: Server, crowd: ThreadPoolExecutor
) -> None:
    for _ in range(ROUNDS):
        version = server.passed()
        fail = server.envelope(version, verdict="failed")
        decided = len(server.decisions())
        both = [crowd.submit(server.attach, version, fail), crowd.submit(server.promote, version)]
        failed, promoted = (each.result().status_code for each in both)
        assert failed == 200
        whats = [entry["what"] for entry in server.decisions()[decided:] if entry["decision"] == "allowed"]
        assert promoted in {200, 403}
        if promoted == 200:
            assert whats == ["alias 'champion'", f"tag {statement_key('geometry')!r}"]
        else:
            assert server.alias(version.name) is None


def test_an_overwrite_and_a_statement_at_the_same_moment_never_leave_a_frozen_file_that_was_written_later(
    server: Server, crowd: ThreadPoolExecutor
) -> None:
    for _ in range(ROUNDS):
        version = server.version()
        path = f"{server.folder(version)}/data/weights"
        writes = [crowd.submit(server.put, path, b"evil") for _ in range(3)]
        taken = crowd.submit(server.record, version)
        assert taken.result().status_code == 200
        content = server.files()[path]
        late = [each.result()[0] for each in writes]
        assert set(late) <= {200, 403}
        assert server.files()[path] == content
        assert server.put(path, b"later")[0] == 403


def test_deleting_and_registering_again_while_somebody_promotes_never_promotes_what_has_no_evidence(
    server: Server, crowd: ThreadPoolExecutor
) -> None:
    for _ in range(ROUNDS):
        version = server.passed()
        other = server.model()

        def again(version: ModelVersion = version, other: object = other) -> None:
            server.client.delete_registered_model(version.name)
            server.client.create_registered_model(version.name)
            server.version(version.name, other)

        swapped, promoted = crowd.submit(again), [crowd.submit(server.promote, version) for _ in range(4)]
        swapped.result()
        assert {each.result().status_code for each in promoted} <= {200, 403, 404}
        if server.alias(version.name) is not None:
            pytest.fail(f"{version.name} has a champion without evidence")


def test_two_statements_at_the_same_moment_leave_the_newer(server: Server, crowd: ThreadPoolExecutor) -> None:
    now = datetime.now(UTC)
    for _ in range(ROUNDS):
        version = server.version()
        old = server.envelope(version, issued=now - timedelta(minutes=2))
        new = server.envelope(version, verdict="failed", issued=now - timedelta(minutes=1))
        both = [crowd.submit(server.attach, version, text) for text in (new, old)]
        assert both[0].result().status_code == 200
        assert both[1].result().status_code in {200, 403}
        assert server.tags(version)[statement_key("geometry")] == new
        assert server.tags(version)["gate"] == "FAIL"


class SlowUpload:
    """A file that arrives in two parts, with as much time between them as we like."""

    def __init__(self, server: Server, path: str) -> None:
        self.connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
        self.connection.putrequest("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}")
        self.connection.putheader("Transfer-Encoding", "chunked")
        self.connection.endheaders()
        self.send(b"slow")

    def send(self, part: bytes) -> None:
        self.connection.send(b"%x\r\n%b\r\n" % (len(part), part))

    def end(self) -> int:
        self.send(b" evil")
        self.connection.send(b"0\r\n\r\n")
        status = self.connection.getresponse().status
        self.connection.close()
        return status


def test_an_upload_that_is_not_there_yet_when_its_model_becomes_frozen_never_lands(sqlite_server: Server) -> None:
    server = sqlite_server
    version = server.version()
    before = server.files()
    upload = SlowUpload(server, f"{server.folder(version)}/data/weights")
    time.sleep(1)
    began = time.monotonic()
    assert server.record(version).status_code == 200
    assert time.monotonic() - began < 10
    assert upload.end() == 403
    assert server.files() == before


@pytest.mark.parametrize("path", ["zzz", "0", "0/models"])
def test_unfinished_uploads_above_models_hold_no_model_up(sqlite_server: Server, path: str) -> None:
    server = sqlite_server
    uploads = [SlowUpload(server, path) for _ in range(10)]
    time.sleep(1)
    began = time.monotonic()
    server.passed()
    assert time.monotonic() - began < 10
    for each in uploads:
        each.connection.close()


class InTheMiddle(io.BytesIO):
    """A body in whose middle something happens."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__(b"evil" * 2**20)
        self.happens = happens

    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            self.happens()
        return super().read(size)

    async def parts(self) -> AsyncIterator[bytes]:
        while part := self.read(2**20):
            yield part


@pytest.mark.parametrize("kind", ["a stream", "parts"])
def test_what_is_frozen_before_the_last_part_is_there_stays_as_it_was(
    prepared: Place, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("GATE_SERVER_POLICY", str(prepared.policy))
    monkeypatch.setenv(DESTINATION, f"gate+{prepared.artifacts.as_uri()}")
    registry = registry_store.build(f"gate+{prepared.database}")
    monkeypatch.setattr(handlers, "_model_registry_store", registry)
    store = artifact_store.build(f"gate+{prepared.artifacts.as_uri()}")
    folder = "1/models/m-1/artifacts"

    def write(body: InTheMiddle, name: str) -> None:
        if kind == "a stream":
            store.log_artifact_from_stream(body, name, folder)  # type: ignore[attr-defined]
        else:
            asyncio.run(store.log_artifact_from_async_stream(body.parts(), name, folder))  # type: ignore[attr-defined]

    @cache
    def freeze() -> None:
        registry.create_registered_model("enc")
        version = registry.create_model_version("enc", f"mlflow-artifacts:/{folder}")
        text = sealed(stated(version).payload, prepared.key)
        registry.set_model_version_tag("enc", "1", ModelVersionTag(statement_key("geometry"), text))

    write(InTheMiddle(lambda: None), "MLmodel")
    with pytest.raises(MlflowException, match="its files are frozen"):
        write(InTheMiddle(freeze), "weights")
    [file] = (path for path in prepared.artifacts.rglob("*") if path.is_file())
    assert (file.name, file.read_bytes()) == ("MLmodel", b"evil" * 2**20)


def test_uploads_elsewhere_do_not_wait_for_each_other(sqlite_server: Server) -> None:
    server = sqlite_server
    upload = SlowUpload(server, f"{server.path(server.model())}/slow")
    began = time.monotonic()
    server.passed()
    assert time.monotonic() - began < 15
    assert upload.end() == 200


def test_an_upload_that_its_client_leaves_behind_holds_nothing_up(sqlite_server: Server) -> None:
    server = sqlite_server
    version = server.version()
    upload = SlowUpload(server, f"{server.folder(version)}/data/weights")
    time.sleep(0.5)
    upload.connection.close()
    assert server.record(version).status_code == 200
    assert server.files()[f"{server.folder(version)}/data/weights"] == b"weights"


def test_a_worker_that_is_killed_leaves_no_champion_without_evidence(template: Path, tmp_path: Path) -> None:
    place = servers.place(tmp_path, servers.copied(template, tmp_path))
    with servers.guarded(place) as server, ThreadPoolExecutor(4) as crowd:
        good, bad = server.passed(), server.version()
        stop = Event()

        def hammer(version: ModelVersion) -> None:
            while not stop.is_set():
                with suppress(OSError):
                    server.promote(version)

        tasks = [crowd.submit(hammer, version) for version in (good, bad, good, bad)]
        killed = set()
        try:
            for _ in range(3):
                time.sleep(1)
                for worker in workers_of(server.pid)[:1]:
                    os.kill(worker, signal.SIGKILL)
                    killed.add(worker)
        finally:
            stop.set()
        for task in tasks:
            task.result()
        assert killed
        servers.awaited(server.url)
        assert server.alias(bad.name) is None
        assert server.alias(good.name) == "1"
        assert [entry["model"] for entry in chain(place.audit)[0] if entry["what"] == "alias 'champion'"]


def workers_of(pid: int) -> list[int]:
    """The processes of a server that answer requests."""
    found = []
    with suppress(OSError):  # one may end meanwhile
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split():
            found += workers_of(int(child))
            found += [int(child)] if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes() else []
    return found
