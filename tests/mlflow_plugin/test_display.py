"""What a reviewer sees in MLflow's own pages: a real server, a real browser, and no network beside them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from gate.evidence import bundle, html
from gate.mlflow_plugin import recorder
from tests.browsing import CHROMIUM, dumped

SAMPLES = Path(__file__).parents[1] / "evidence" / "v1"

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]


@dataclass(frozen=True)
class Server:
    """With the model digits: version 1 passes, version 2 fails, and somebody wrote a description of both."""

    url: str
    folder: Path
    experiment: str
    model_id: str
    runs: tuple[str, str]

    def page(self, path: str, awaited: str) -> str:
        """The document as the browser has built it, once it says what is awaited."""
        for _ in range(4):
            dom = self._opened(path)
            if awaited in dom:
                break
        return dom

    def _opened(self, path: str) -> str:
        options = ("--window-size=1500,1000", "--virtual-time-budget=30000")
        return dumped(f"{self.url}/#/{path}", self.folder, *options, reaching="127.0.0.1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "art")]
    command = [sys.executable, "-m", "mlflow", "server", *stores, "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("w") as log:
        started = subprocess.Popen(
            [*command, "--workers", "1"], cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/health")
        yield filled(url, folder)
    finally:
        os.killpg(started.pid, signal.SIGKILL)  # its store goes with it, and goodbyes take seconds
        started.wait(30)


def wait_for(url: str) -> None:
    end = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - ours, on this machine
                return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < end, f"no server at {url}"
            time.sleep(0.2)


def filled(url: str, folder: Path) -> Server:
    client = MlflowClient(url, url)
    experiment = client.create_experiment("training")
    run_id = client.create_run(experiment).info.run_id
    model_id = client.create_logged_model(experiment, name="digits", source_run_id=run_id).model_id
    client.finalize_logged_model(model_id, "READY")
    client.create_registered_model("digits")
    runs = []
    for version, sample in (("1", "passed"), ("2", "sample")):
        client.create_model_version(
            "digits", f"models:/{model_id}", run_id, model_id=model_id, description="By the *vision* team."
        )
        document = bundle.load(SAMPLES / f"{sample}.json")
        resolved = f"models:/digits/{version}"
        document["model"] |= {"run_id": run_id, "model_id": model_id, "version": version, "resolved": resolved}
        runs.append(recorder.record(document, html.render(document), tracking_uri=url, registry_uri=url))
    return Server(url, folder, experiment, model_id, (runs[0], runs[1]))


def shown(dom: str) -> str:
    """The text of a page."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", dom))


def test_the_page_of_a_version_begins_with_the_verdict_and_a_link_to_the_report(server: Server) -> None:
    report = f"#/experiments/{server.experiment}/runs/{server.runs[1]}/artifacts/gate/report.html"
    dom = server.page("models/digits/versions/2", f'href="{report}"')
    assert f'FAIL gate - 4/10 rules hold - <a target="_blank" href="{report}">report</a></p>' in dom
    assert "By the <em>vision</em> team." in dom
    target = server.page(report.removeprefix("#/"), "gate/report.html")
    assert "gate check of digits version 2" in shown(target)
    assert f"/{server.runs[1]}/artifacts/gate/report.html" in shown(target)


def test_the_table_of_versions_shows_both_verdicts(server: Server) -> None:
    text = shown(server.page("models/digits", "PASS gate - 10/10"))
    assert text.index("FAIL gate - 4/10 rules") < text.index("PASS gate - 10/10 rules")  # the newest version first
    assert re.search(r"gate\s*:\s*FAIL.*gate\s*:\s*PASS", text)


def test_the_page_of_the_logged_model_shows_each_number_with_its_probe_set_and_its_check(server: Server) -> None:
    text = shown(server.page(f"experiments/{server.experiment}/models/{server.model_id}", "rules/fail"))
    assert "digits.npz (# sha256:832e85b73580 )" in text or "digits.npz (#sha256:832e85b73580)" in text
    assert re.search(r"rules/fail digits\.npz .{0,40}gate check of digits version [12]", text)
    assert "embedding/" in text
