"""Puts a relay together, or says why not, and serves it until it is told to end."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from gate.errors import UsageError
from gate.policy.loading import load_policy
from gate.relay.checking import Check
from gate.relay.connections import Connection
from gate.relay.dispatching import Dispatch
from gate.relay.journal import tell
from gate.relay.queue import Queue
from gate.relay.receiver import Receiver
from gate.relay.working import Effort, Work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from starlette.applications import Starlette

    from gate.relay.target import Target

SECRET = "GATE_WEBHOOK_SECRET"  # noqa: S105 - the name of the variable
_BACKLOG = 256  # connections that may be taken at a time, each with a file, before any of them gives way


@dataclass(frozen=True)
class Place:
    """Where a relay listens and keeps its queue.

    Attributes:
        queue: The file.
        max_queue: Versions that may wait.
        host: Name or address.
        port: 0 takes a free one, which the log names.
    """

    queue: Path
    max_queue: int = 10_000
    host: str = "127.0.0.1"
    port: int = 8787


def secrets(file: Path | None, environment: Mapping[str, str]) -> list[bytes]:
    """The secrets that may have signed a delivery.

    Args:
        file: One secret a line, so that a new one can be brought in before the old one goes; goes over the variable.
        environment: Of the process.

    Raises:
        UsageError: There is none, or the file cannot be read.
    """
    try:
        text = environment.get(SECRET, "") if file is None else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the secret file {str(file)!r} cannot be read: {error}") from None
    found = [line.strip().encode() for line in text.splitlines() if line.strip()]
    if not found:
        where = f"{str(file)!r} is empty" if file else f"neither --secret-file nor the variable {SECRET} is given"
        raise UsageError(
            f"a relay needs the secret of the webhook, and {where}; without one anybody could queue anything"
        )
    return found


def target(
    *, dispatch: str | None, check: str | None, github_url: str, seconds: float, environment: Mapping[str, str]
) -> Target:
    """What versions are handed to.

    Args:
        dispatch: OWNER/REPO, or None.
        check: A policy, or None.
        github_url: Of the API.
        seconds: That a check may take.
        environment: Of the process.

    Raises:
        UsageError: There is not exactly one target, or what it needs is missing.
        PolicyError: The policy has faults.
        NothingEvaluatedError: No rule of the policy is switched on.
    """
    if dispatch and not check:
        return Dispatch(dispatch, github_url, environment.get("GITHUB_TOKEN", "").strip())
    if check and not dispatch:
        load_policy(check)
        return Check(check, seconds)
    found = "both are given" if dispatch else "neither is given"
    raise UsageError(f"a relay has one target, --dispatch OWNER/REPO or --check POLICY, and {found}")


def require_registry(environment: Mapping[str, str]) -> None:
    """Refuses an environment in which MLflow would take a file of the working folder for the registry.

    Args:
        environment: Of the process.

    Raises:
        UsageError: It names no registry.
    """
    if not any(environment.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")):
        raise UsageError("no registry is named; set MLFLOW_TRACKING_URI to the server whose versions are to be checked")


def serve(target: Target, place: Place, secrets: Sequence[bytes], patterns: Sequence[str], effort: Effort) -> None:
    """Serve until SIGTERM or an interrupt.

    Args:
        target: What versions are handed to.
        place: Where it listens and keeps its queue.
        secrets: Any of them may have signed a delivery.
        patterns: Of the names of models that concern it.
        effort: How much is done, and how often.

    Raises:
        UsageError: The address is taken, or the queue cannot be used.
    """
    with _listening(place) as listening, closing(Queue(place.queue, limit=place.max_queue)) as queue:
        work = Work(queue, target, patterns, effort)
        server = _server(Receiver(queue, work, secrets, patterns).app())
        host, port = listening.getsockname()[:2]
        tell("relay", decision="listening", host=host, port=port, queue=str(place.queue), pid=os.getpid())
        server.run(sockets=[listening])
    tell("relay", decision="ended")


def _server(app: Starlette) -> uvicorn.Server:
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it once more when all is done
    config = uvicorn.Config(
        app,
        loop="asyncio",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        http=Connection,
        ws="none",
        backlog=_BACKLOG,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)


def _listening(place: Place) -> socket.socket:
    try:
        family = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((place.host, place.port), family=family)
    except (OSError, OverflowError) as error:
        raise UsageError(f"cannot listen on {place.host}:{place.port}: {error}; see --host and --port") from None
