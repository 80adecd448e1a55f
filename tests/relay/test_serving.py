"""Why a relay does not start, and what it says when a part of it has died."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gate.cli import main
from gate.relay.queue import Queue
from gate.relay.receiver import Receiver
from gate.relay.target import Outcome
from gate.relay.working import Effort, Work


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        ([], {}, "a relay has one target, --dispatch OWNER/REPO or --check POLICY, and neither is given"),
        (["--dispatch=a/b", "--check=classifier"], {}, "--dispatch OWNER/REPO or --check POLICY, and both are given"),
        (["--dispatch=a/b"], {"GITHUB_TOKEN": ""}, "--dispatch needs a token in the variable GITHUB_TOKEN"),
        (["--dispatch=ab"], {}, "--dispatch 'ab' is no repository: write OWNER/REPO"),
        (["--dispatch=a/b", "--github-url=http://ghe.example"], {}, "--github-url is no address that a token can be"),
        (["--check=nowhere.yaml"], {}, "policy 'nowhere.yaml' does not exist"),
        (["--check=broken.yaml"], {}, "broken.yaml:1:1: error[policy]: "),
        (
            ["--dispatch=a/b"],
            {"GATE_WEBHOOK_SECRET": " "},
            "neither --secret-file nor the variable GATE_WEBHOOK_SECRET",
        ),
        (["--dispatch=a/b", "--secret-file=nowhere"], {}, "the secret file 'nowhere' cannot be read: "),
        (["--dispatch=a/b", "--secret-file=empty"], {}, "the secret of the webhook, and 'empty' is empty"),
        (["--dispatch=a/b"], {"GATE_SECRET_FILE": "empty"}, "the secret of the webhook, and 'empty' is empty"),
        (
            ["--dispatch=a/b", "--queue=broken.yaml"],
            {},
            "the queue 'broken.yaml' cannot be used: file is not a database",
        ),
        (["--dispatch=a/b", "--queue=nowhere/q.db"], {}, "the queue 'nowhere/q.db' cannot be made: No such file"),
        (["--dispatch=a/b"], {"MLFLOW_TRACKING_URI": ""}, "no registry is named; set MLFLOW_TRACKING_URI"),
        (["--dispatch=a/b", "--port=TAKEN"], {}, "cannot listen on 127.0.0.1:TAKEN: "),
        (["--dispatch=a/b", "--host=256.1.1.1"], {}, "cannot listen on 256.1.1.1:"),
        (["--dispatch=a/b", "--workers=0"], {}, "Invalid value for '--workers'"),
        (["--dispatch=a/b", "--reconcile=nan"], {}, "Invalid value for '--reconcile'"),
    ],
)
def test_a_relay_that_cannot_work_does_not_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    environment: dict[str, str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.yaml").write_text("- no policy\n" * 50)
    Path("empty").write_text("\n\n")
    needed = {"GATE_WEBHOOK_SECRET": "hidden", "GITHUB_TOKEN": "hidden", "MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}
    for name, value in {**needed, **environment}.items():
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["relay", *(each.replace("TAKEN", port) for each in arguments)]) == 2
    out, err = capfd.readouterr()
    assert sentence.replace("TAKEN", port) in err
    assert "error[" in err
    assert "hidden" not in err
    assert "Traceback" not in err
    assert out == ""


class Nobody:
    """A target that nothing is handed to."""

    records = False

    async def __call__(self, name: str, version: str) -> Outcome:
        raise AssertionError(name, version)


@pytest.mark.parametrize("part", ["worker 1", "reconciler"])
def test_health_is_503_when_a_part_has_died(tmp_path: Path, part: str) -> None:
    async def asked() -> tuple[int, bytes, bytes]:
        queue = Queue(tmp_path / "queue.db", limit=1)
        work = Work(queue, Nobody(), ["*"], Effort())
        receiver = Receiver(queue, work, [b"secret"], ["*"])
        work.start()
        work._tasks[part].cancel()
        await asyncio.sleep(0.1)
        answer = await receiver.health(None)  # type: ignore[arg-type]
        metrics = await receiver.metrics(None)  # type: ignore[arg-type]
        await work.end()
        queue.close()
        return answer.status_code, bytes(answer.body), bytes(metrics.body)

    status, body, metrics = asyncio.run(asked())
    assert status == 503
    assert json.loads(body)["error"] == f"the {part} has died: None; start the relay again"
    assert b"\ngate_relay_up 0\n" in metrics


def test_the_package_is_light() -> None:
    code = "import sys, gate.relay.serving; print({'torch', 'mlflow', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
