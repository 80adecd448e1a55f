"""GitHub, played by a server of the standard library; MLflow's webhook, played by its signature; and a real relay."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SECRET = "the secret of the webhook"  # noqa: S105 - of these tests
PATIENCE = 60


class GitHub(ThreadingHTTPServer):
    """Counts the events that it has accepted, and can be told to answer otherwise or to wait."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.accepted: Counter[tuple[str, str]] = Counter()
        self.answers: list[tuple[int, dict[str, str]]] = []  # the first of them for the next request; then 204
        self.hold_at: int | None = None
        self.held, self.go = threading.Event(), threading.Event()
        self.drop = False  # what was held is not accepted
        self.guard = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A relay that was killed does not wait for its answer."""


class _Answering(BaseHTTPRequestHandler):
    server: GitHub

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.guard:
            self.server.requests.append((self.path, dict(self.headers), body))
            held = len(self.server.requests) == self.server.hold_at
        if held:
            self.server.held.set()
            assert self.server.go.wait(PATIENCE)
        with self.server.guard:
            status, headers = self.server.answers.pop(0) if self.server.answers else (204, {})
            if status == 204 and not (held and self.server.drop):
                self.server.accepted[body["client_payload"]["model"], body["client_payload"]["version"]] += 1
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the standard library has it
        """Nothing."""


@contextmanager
def github() -> Iterator[GitHub]:
    server = GitHub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.go.set()
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass(frozen=True)
class Delivery:
    """What MLflow would send."""

    body: bytes
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    sent: int = field(default_factory=lambda: int(time.time()))
    secret: str = SECRET

    @property
    def headers(self) -> dict[str, str]:
        content = b".".join((self.id.encode(), str(self.sent).encode(), self.body))
        digest = base64.b64encode(hmac.new(self.secret.encode(), content, hashlib.sha256).digest()).decode()
        return {
            "Content-Type": "application/json",
            "X-MLflow-Delivery-Id": self.id,
            "X-MLflow-Timestamp": str(self.sent),
            "X-MLflow-Signature": f"v1,{digest}",
        }

    def again(self, **changes: Any) -> Delivery:
        return replace(self, **changes)


def told(name: str, version: str = "1", *, event: str = "model_version.created", **more: Any) -> Delivery:
    entity, action = event.split(".")
    data: dict[str, Any] = {
        "name": name,
        "version": version,
        "source": "models:/m-1",
        "run_id": None,
        "tags": {},
        "description": None,
    }
    said = {"entity": entity, "action": action, "timestamp": "2026-01-01T00:00:00+00:00", "data": data | more}
    return Delivery(json.dumps(said).encode())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def until(found: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    end = time.monotonic() + patience
    while not (result := found()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return result


class Relay:
    """A relay in a process of its own; `start` after `kill` or `end` is the same one again."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.folder, self.options, self.port = folder, options, free_port()
        self.queue = folder / "queue.db"
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("GATE_", "MLFLOW_", "GITHUB_"))
        }
        own = {"GATE_WEBHOOK_SECRET": SECRET, "GITHUB_TOKEN": "ghp_token", "OMP_NUM_THREADS": "1"}
        nowhere = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/nowhere.db"}
        self.environment = {**kept, **nowhere, **own, **environment}
        self.log = folder / "relay.log"

    def start(self) -> Relay:
        command = [sys.executable, "-m", "gate", "relay", *self.options]
        command += ["--queue", str(self.queue), "--port", str(self.port)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, env=self.environment, stderr=log, cwd=self.folder)
        until(self._answers, "the relay does not start")
        return self

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.get("/health")[0] > 0
        except OSError:
            return False

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", path)
        answer = connection.getresponse()
        result = answer.status, answer.read().decode()
        connection.close()
        return result

    def health(self) -> dict[str, Any]:
        return dict(json.loads(self.get("/health")[1]))

    def send(self, delivery: Delivery, **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("POST", "/webhook", delivery.body, delivery.headers | headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def insist(self, delivery: Delivery) -> int:
        """As MLflow does, again when nobody answers or the answer is 503; only more patient."""
        for _ in range(300):
            try:
                status = self.send(delivery)
            except (OSError, http.client.HTTPException):
                status = 503
            if status != 503:
                return status
            time.sleep(0.1)
        raise AssertionError("nobody takes it")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def resident(self) -> int:
        """Megabytes of memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) // 1024

    def lines(self, event: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in found if line["event"] == event]
