"""The relay beside a real MLflow server, with a real webhook and a real model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
import torch
from cryptography.fernet import Fernet
from mlflow.tracking._model_registry.client import ModelRegistryClient
from torch import nn

from gate.errors import RegistryError
from gate.models import versions
from gate.models.quiet import quiet_mlflow
from tests.relay.playing import SECRET, GitHub, Relay, free_port, told, until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

POLICY = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "1.0.0"}
probe: {uri: PROBE, columns: {input: x}}
run: {isolation: none}
layers: {embedding: {path: "0"}}
rules:
  - {id: rank, metric: effective_rank, layer: embedding, min: 2}
"""


@dataclass(frozen=True)
class Server:
    """A real MLflow server; `client` speaks to it."""

    url: str
    folder: Path

    @property
    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self.url, self.url)

    def hook(self, relay: Relay, name: str, *, secret: str = SECRET) -> Any:
        """As docs/relay.md has it."""
        events = ["model_version.created", "model_version_tag.set", "model_version_alias.created"]
        url = f"http://127.0.0.1:{relay.port}/webhook"
        return self.client.create_webhook(name=name, url=url, events=events, secret=secret)

    def register(self, name: str) -> str:
        """A version without files, which is enough to be told of."""
        client = self.client
        experiment = client.get_experiment_by_name("Default").experiment_id
        run = client.create_run(experiment).info
        with suppress(Exception):
            client.create_registered_model(name)
        return str(client.create_model_version(name, f"{run.artifact_uri}/model", run.run_id).version)

    def mark(self, name: str) -> str:
        """A version that MLflow takes for a prompt, which anybody may put among those of a model."""
        tag = {"key": "mlflow.prompt.is_prompt", "value": "true"}
        body: Any = {"name": name, "source": "dummy-source", "tags": [tag]}
        answer = requests.post(f"{self.url}/api/2.0/mlflow/model-versions/create", json=body, timeout=60)
        return str(answer.json()["model_version"]["version"])

    def again(self, name: str) -> str:
        """The real model of the server as a version of another name."""
        with suppress(Exception):
            self.client.create_registered_model(name)
        known = self.client.get_model_version("real", "1")
        model_id = known.source.removeprefix("models:/")
        return str(self.client.create_model_version(name, known.source, known.run_id, model_id=model_id).version)

    def tags(self, name: str, version: str) -> dict[str, str]:
        return dict(self.client.get_model_version(name, version).tags)

    def checks(self, name: str) -> list[tuple[str, str | None]]:
        """Status and verdict of the recorded checks of a model, the oldest first."""
        client = self.client
        everywhere = [each.experiment_id for each in client.search_experiments()]
        found = client.search_runs(everywhere, f"attributes.run_name LIKE 'gate check of {name} %'")
        return [(run.info.status, run.data.tags.get("gate")) for run in reversed(found)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GATE_", "MLFLOW_"))}
    environment |= {
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "MLFLOW_WEBHOOK_CACHE_TTL": "1",
        "MLFLOW_WEBHOOK_REQUEST_MAX_RETRIES": "0",  # a delivery that nobody takes is lost at once
    }
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "art")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    until(lambda: answers(f"{url}/health"), "the server does not start", 120)
    with quiet_mlflow():
        made = Server(url, folder)
        log_model(made)
        yield made
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)


def answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - of this test
        return bool(answer.status == 200)
    return False


Start = Callable[..., Relay]


@pytest.fixture
def start(tmp_path: Path, server: Server) -> Iterator[Start]:
    """Starts relays beside the server."""
    begun = []

    def make(*options: str) -> Relay:
        made = Relay(tmp_path, *options, MLFLOW_TRACKING_URI=server.url)
        begun.append(made)
        return made.start()

    yield make
    for each in begun:
        each.kill()


def log_model(server: Server) -> None:
    """A real model, registered through the server as real/1."""
    import mlflow
    import mlflow.pytorch

    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4))
    with torch.no_grad():
        for weights in network.parameters():
            weights.copy_(torch.randn(weights.shape, generator=generator))
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(server.url)
    try:
        with mlflow.start_run():
            mlflow.pytorch.log_model(
                network.eval(),
                name="model",
                registered_model_name="real",
                input_example=np.zeros((2, 4), np.float32),
                serialization_format="pt2",
                pip_requirements=["torch"],
            )
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    rows = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    pq.write_table(pa.table({"x": list(rows)}), tmp_path / "probe.parquet")
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.replace("PROBE", str(tmp_path / "probe.parquet")), encoding="utf-8")
    return path


def test_a_real_webhook_is_believed_and_a_delivery_that_was_lost_is_healed(
    server: Server, start: Start, github: GitHub
) -> None:
    relay = start("--dispatch=acme/models", f"--github-url={github.url}", "--model=lost*", "--model=example_model")
    until(lambda: relay.health()["last_reconcile"], "the registry was not met")
    hook, wrong = server.hook(relay, "gate"), server.hook(relay, "wrong", secret="another")  # noqa: S106
    tested = server.client.test_webhook(hook.webhook_id)
    assert (tested.success, tested.response_status) == (True, 200)
    assert tested.response_body == '{"decision":"ignored","reason":"example"}'
    tested = server.client.test_webhook(wrong.webhook_id)
    assert (tested.success, tested.response_status) == (False, 401)

    assert server.register("lost-once") == "1"
    until(lambda: github.accepted, "the delivery of MLflow was not believed")
    server.client.set_registered_model_alias("lost-once", "champion", "1")
    server.client.set_model_version_tag("lost-once", "1", "team", "x")
    server.register("foreign")
    server.client.register_prompt("lost-words", "Say {{what}}.")

    def reasons() -> set[object]:
        return {line.get("reason") for line in relay.lines("delivery")}

    until(lambda: {"event", "other model", "signature"} <= reasons(), "MLflow has sent less")
    assert all(line["decision"] != "queued" for line in relay.lines("reconcile"))
    assert relay.end() == 0

    assert server.register("lost-once") == "2"  # nobody listens
    time.sleep(1)
    relay.start()
    until(lambda: ("lost-once", "2") in github.accepted, "it was not healed")
    until(lambda: relay.health()["last_reconcile"], "the registry was not met")
    queued = [line for line in relay.lines("reconcile") if line["decision"] == "queued"]
    assert [(line["model"], line["version"]) for line in queued] == [("lost-once", "2")]
    until(lambda: relay.health()["dispatched"] == 2, "it was not settled")
    assert dict(github.accepted) == {("lost-once", "1"): 1, ("lost-once", "2"): 1}
    for each in (hook, wrong):
        server.client.delete_webhook(each.webhook_id)


def test_a_model_that_was_deleted_and_made_again_is_dispatched_again(
    server: Server, start: Start, github: GitHub
) -> None:
    server.register("reborn")
    start("--dispatch=acme/models", f"--github-url={github.url}", "--model=reborn", "--reconcile=1")
    until(lambda: github.accepted, "it was not dispatched")
    server.client.delete_registered_model("reborn")
    server.register("reborn")
    until(lambda: github.accepted["reborn", "1"] == 2, "the second one was taken for the first")
    time.sleep(2.5)
    assert github.accepted["reborn", "1"] == 2


def test_a_version_is_checked_once_and_tagged_whatever_is_told_or_restarted(
    server: Server, start: Start, policy: Path
) -> None:
    relay = start(f"--check={policy}", "--model=checked")
    until(lambda: relay.health()["last_reconcile"], "the registry was not met")
    hook = server.hook(relay, "check")
    assert server.again("checked") == "1"
    until(lambda: relay.health()["checked"] == 1, "it was not checked", 120)
    tags = server.tags("checked", "1")
    assert (tags["gate"], tags["gate.policy"]) == ("PASS", "encoder@1.0.0")
    assert relay.send(told("checked", "1")) == 200
    assert 'gate_relay_checks_total{exit_code="0"} 1' in relay.get("/metrics")[1]
    assert (relay.end(), relay.start()) == (0, relay)
    until(lambda: relay.health()["last_reconcile"], "the registry was not met")
    assert relay.health()["checked"] == 1
    assert server.checks("checked") == [("FINISHED", "PASS")]
    server.client.delete_webhook(hook.webhook_id)


def child(relay: Relay) -> int:
    """The process of the check that a relay runs, as soon as it is one."""

    def found() -> str:
        return Path(f"/proc/{relay.process.pid}/task/{relay.process.pid}/children").read_text().strip()

    return int(until(found, "no check begins").split()[0])


def is_alive(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_check_ends_with_the_relay_and_begins_again_unless_it_had_recorded(
    server: Server, start: Start, policy: Path
) -> None:
    server.again("broken")
    relay = start(f"--check={policy}", "--model=broken")
    begun = child(relay)
    assert relay.end() == 0
    assert not is_alive(begun)
    relay.start()
    begun = child(relay)
    relay.kill()
    until(lambda: not is_alive(begun), "the check goes on alone", 20)
    for key, value in (("gate.run", "0a1b2c3d"), ("gate", "PASS")):  # as if it had come that far
        server.client.set_model_version_tag("broken", "1", key, value)
    relay.start()
    until(lambda: relay.health()["checked"] == 1, "it was lost")
    assert 'gate_relay_checks_total{exit_code="unseen"} 1' in relay.get("/metrics")[1]
    assert len([line for line in relay.lines("version") if line["decision"] == "begun"]) == 2
    assert server.checks("broken") == []


def test_a_check_without_a_registry_is_given_up_and_is_no_verdict(tmp_path: Path, policy: Path) -> None:
    relay = Relay(tmp_path, f"--check={policy}", "--attempts=1").start()
    try:
        relay.send(told("encoder"))
        until(lambda: relay.health()["failed"] == 1, "it was not given up")
        attempts = [line for line in relay.lines("version") if line["decision"] != "begun"]
        assert [(line["decision"], line["exit_code"]) for line in attempts] == [("failed", 3)]
        assert "there is no database file" in attempts[-1]["note"]
    finally:
        relay.kill()


def test_a_check_beyond_its_time_is_ended(tmp_path: Path, policy: Path) -> None:
    relay = Relay(tmp_path, f"--check={policy}", "--time-limit=1").start()
    try:
        relay.send(told("encoder"))
        until(lambda: relay.health()["failed"] == 1, "it was not ended")
        assert relay.lines("version")[-1]["note"] == "ended after 1 seconds; see --time-limit"
    finally:
        relay.kill()


def test_the_versions_of_a_registry_come_page_by_page(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        server.register("paged")
    monkeypatch.setattr(versions, "_PAGE", 2)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    pages = list(versions.pages())
    assert all(len(page) <= 2 for page in pages)
    found = [each for page in pages for each in page]
    assert [each.version for each in found if each.name == "paged"] == ["1", "2", "3", "4", "5"]
    assert len({(each.name, each.version) for each in found}) == len(found)
    shown = [each.created for each in found if each.source != "dummy-source"]
    assert shown == sorted(shown)


@pytest.mark.parametrize("models", [1, 10_000])
def test_versions_that_a_prompt_among_them_hides_are_found_by_few_requests(
    server: Server, monkeypatch: pytest.MonkeyPatch, models: int
) -> None:
    name, other = f"hidden-{models}", f"posing-{models}"
    for each in (name, other):
        server.register(each)
        server.mark(each)
        for _ in range(4):
            server.register(each)
        server.client.delete_model_version(each, "4")
        # MLflow's public client now takes this one for absent, as if it were a prompt.
        server.client.set_model_version_tag(each, "3", "mlflow.prompt.is_prompt", "false")
    server.client.set_registered_model_tag(other, "mlflow.prompt.is_prompt", "true")
    for text in "abc":
        server.client.register_prompt(f"words-{models}", f"Say {text}.")
    monkeypatch.setattr(versions, "_PAGE", 2)
    monkeypatch.setattr(versions, "_MODELS", models)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    asked: list[str] = []

    def counting(method: str) -> Any:
        ask = getattr(ModelRegistryClient, method)

        def counted(client: ModelRegistryClient, name: str, *more: str) -> Any:
            asked.append(name)
            return ask(client, name, *more)

        return counted

    for method in ("get_model_version", "get_registered_model"):
        monkeypatch.setattr(ModelRegistryClient, method, counting(method))
    pages = list(versions.pages())
    assert all(len(page) <= 2 for page in pages)
    found = [each for page in pages for each in page]
    assert len({(each.name, each.version) for each in found}) == len(found)
    for each in (name, other):
        assert {found.version for found in found if found.name == each} == {"1", "2", "3", "5", "6"}
        assert asked.count(each) == 5
    assert not [each for each in asked if each.startswith("words")]


def test_a_version_that_is_hidden_in_the_registry_is_dispatched_and_a_prompt_is_not(
    server: Server, start: Start, github: GitHub
) -> None:
    server.register("buried")
    server.mark("buried")
    server.client.register_prompt("buried-words", "Say {{what}}.")
    relay = start("--dispatch=acme/models", f"--github-url={github.url}", "--model=buried*")
    until(lambda: relay.health()["dispatched"], "it is not seen")
    until(lambda: relay.health()["last_reconcile"], "the registry was not met")
    assert dict(github.accepted) == {("buried", "1"): 1}


def test_a_registry_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hidden@127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match="cannot be listed: no server answers there") as refused:
        list(versions.pages())
    assert "hidden" not in str(refused.value)
