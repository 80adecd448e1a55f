"""Started by a test: forks a child that records a check, or promotes, and kills it at one place after another.

A place is a request to a server or a statement to a database, once before and once after it was sent. After each kill
the registry is looked at by a process that was not killed, and the work is done again and must come to its end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.request import OpenerDirector

import requests
import sqlalchemy
from mlflow import MlflowClient
from sqlalchemy import event

from gate.attestation.deciding import Trust, require_promotable
from gate.attestation.keys import keyring, signing_key
from gate.attestation.names import STATEMENTS
from gate.cli import main as gate
from gate.errors import VerificationError
from gate.evidence import bundle
from gate.mlflow_plugin import recorder
from gate.mlflow_plugin.signing import Signer, subject
from gate.mlflow_plugin.tags import recorded

PASSED = ("passed", "warned")
ALIAS = "champion"


@dataclass(frozen=True)
class Deed:
    """What is broken off; each part is told the number of the attempt.

    Attributes:
        work: What is killed, and done again.
        wrong: What may not be in the registry at any time.
        done: Whether the registry has what the work is for.
    """

    work: Callable[[int], None]
    wrong: Callable[[int], str | None]
    done: Callable[[int], bool]


@contextmanager
def counted(tick: Callable[[], None]) -> Iterator[None]:
    """Calls `tick` before and after everything that leaves this process."""

    def ticking(send: Callable[..., Any]) -> Callable[..., Any]:
        def sent(*args: Any, **options: Any) -> Any:
            tick()
            answer = send(*args, **options)
            tick()
            return answer

        return sent

    def executed(*_: object) -> None:
        tick()

    requests.Session.send = ticking(requests.Session.send)  # type: ignore[method-assign] # of the child alone
    OpenerDirector.open = ticking(OpenerDirector.open)  # type: ignore[method-assign] # of the child alone
    for name in ("before_cursor_execute", "after_cursor_execute"):
        event.listen(sqlalchemy.engine.Engine, name, executed)
    event.listen(sqlalchemy.engine.Engine, "commit", executed)
    yield


def in_child(work: Callable[[], None], at: int | None) -> tuple[bool, int]:
    """Does the work in a fork that is killed at the place `at`; whether it ended, and how many places it saw."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        places = 0

        def tick() -> None:
            nonlocal places
            places += 1
            if places == at:
                os.kill(os.getpid(), signal.SIGKILL)

        code = 1
        try:
            with counted(tick):
                work()
            os.write(writer, str(places).encode())
            code = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(code)
    os.close(writer)
    told = os.read(reader, 100)
    os.close(reader)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"the child that should end at place {at} broke off by itself")
    return bool(told), int(told or 0)


def pretends(client: MlflowClient, name: str, version: str) -> str | None:
    """What is wrong with a version that reads as passed: its run, its evidence or its statement; None if nothing is."""
    tags = client.get_model_version(name, version).tags
    passing = [each for key, each in recorded(tags).items() if each.verdict in PASSED]
    if tags.get("gate") not in ("PASS", "WARN") and not passing:
        return None
    runs = [str(each.run) for each in passing] or [
        run.info.run_id
        for run in client.search_runs([each.experiment_id for each in client.search_experiments()])
        if run.info.run_id.startswith(tags["gate.run"])
    ]
    for run_id in runs:
        run = client.get_run(run_id)
        if run.info.status != "FINISHED":
            return f"its run is {run.info.status}"
        evidence = Path(client.download_artifacts(run_id, "gate/evidence.json")).read_bytes()
        if bundle.loads(evidence)["status"] not in PASSED:
            return "its evidence did not pass"
        for each in passing:
            if each.evidence != f"sha256:{sha256(evidence).hexdigest()}":
                return "its statement is about other evidence"
    return None


def unfounded(client: MlflowClient, name: str, keys: Path) -> str | None:
    """What is wrong with the version that has the alias: no passing statement of its own; None if nothing is."""
    found = client.search_registered_models(f"name='{name}'")
    number = client.get_registered_model(name).aliases.get(ALIAS) if found else None
    if number is None:
        return None
    row = client.get_model_version(name, str(number))
    try:
        require_promotable(row.tags, subject(row), {ALIAS}, Trust(keyring([keys])), datetime.now(UTC))
    except VerificationError as error:
        return str(error)
    return None


def recording(uri: str, document: dict[str, Any], key: str) -> Deed:
    """`gate check --record`."""
    name, version = document["model"]["name"], document["model"]["version"]

    def work(_: int) -> None:
        signer = Signer(document, signing_key(Path(key))) if key else None
        recorder.record(document, "<html>", signer=signer, tracking_uri=uri, registry_uri=uri)

    def done(_: int) -> bool:
        tags = MlflowClient(uri, uri).get_model_version(name, version).tags
        signed = [each.verdict for tag, each in recorded(tags).items() if tag.startswith(STATEMENTS)]
        return tags["gate"] == "PASS" and signed == (["passed"] if key else [])

    return Deed(work, lambda _: pretends(MlflowClient(uri, uri), name, version), done)


def promoting(uri: str, document: dict[str, Any], key: str, *, copy: bool) -> Deed:
    """`gate promote`, of a version that was recorded, or of a copy under a name of its own for each attempt."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    name, version, keys = document["model"]["name"], document["model"]["version"], Path(key).with_name("keys")
    in_child(lambda: recording(uri, document, key).work(0), None)

    def target(attempt: int) -> str:
        return f"copy{attempt}-{name}" if copy else name

    def work(attempt: int) -> None:
        if not copy and MlflowClient(uri, uri).get_registered_model(name).aliases:
            MlflowClient(uri, uri).delete_registered_model_alias(name, ALIAS)
        to = ["--copy-to", target(attempt), "--signing-key", key] if copy else []
        if gate(["promote", f"models:/{name}/{version}", ALIAS, "--public-key", str(keys), *to]) != 0:
            raise SystemExit("it did not come to its end")

    def done(attempt: int) -> bool:
        row = MlflowClient(uri, uri).get_model_version_by_alias(target(attempt), ALIAS)
        return row.source == f"models:/{name}/{version}" if copy else str(row.version) == version

    return Deed(work, lambda attempt: unfounded(MlflowClient(uri, uri), target(attempt), keys), done)


def main() -> None:
    uri, evidence, key, step, what = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
    document = json.loads(evidence.read_text(encoding="utf-8"))
    deed = recording(uri, document, key) if what == "check" else promoting(uri, document, key, copy=what == "copy")
    told = evidence.with_suffix(".look")

    def look(at: int) -> None:
        told.write_text(deed.wrong(at) or "", encoding="utf-8")

    def finish(at: int) -> None:
        deed.work(at)
        if not deed.done(at):
            os._exit(2)

    _, places = in_child(lambda: deed.work(0), None)
    killed, wrong, unfinished = 0, [], []
    for at in range(1, places + 1, step):
        ended, _ = in_child(partial(deed.work, at), at)
        killed += not ended
        in_child(partial(look, at), None)
        if found := told.read_text(encoding="utf-8"):
            wrong.append([at, found])

        try:
            in_child(partial(finish, at), None)
        except SystemExit:
            unfinished.append(at)
    outcome = {"places": places, "killed": killed, "wrong": wrong, "unfinished": unfinished}
    sys.stdout.write(json.dumps(outcome) + "\n")


if __name__ == "__main__":
    main()
