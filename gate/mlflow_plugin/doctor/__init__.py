"""Whether a deployment holds: what stands at each point of it, and what to do where that is wrong. Changes nothing.

The one trace that it leaves is a line in the audit log of a guarded server, on the request that was to be refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gate.errors import RegistryError, VerificationError
from gate.mlflow_plugin.doctor import files, promoted, registry, webhooks
from gate.mlflow_plugin.doctor.points import Point, note, wrong
from gate.verification.asking import is_server, plain
from gate.verification.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gate.server_policy import Protection


@dataclass(frozen=True)
class Deployment:
    """What is looked at.

    Attributes:
        registry: Its URI, with the prefix of the gate if it has one.
        tracking: URI of the tracking server; empty where none is named.
        server_policy: File of the registry server.
        signing_key: File of a private key.
        relay: Address of a relay.
    """

    registry: str
    tracking: str = ""
    server_policy: Path | None = None
    signing_key: Path | None = None
    relay: str | None = None


@dataclass(frozen=True)
class Examined:
    """What was found.

    Attributes:
        points: In the order in which they are told.
        reached: Whether the registry could be asked.
    """

    points: tuple[Point, ...]
    reached: bool

    @property
    def exit_code(self) -> int:
        """0 where nothing is wrong."""
        if not self.reached:
            return RegistryError.exit_code
        return VerificationError.exit_code if any(point.state == "wrong" for point in self.points) else 0


def examine(deployment: Deployment) -> Examined:
    """Look at every point of a deployment.

    Args:
        deployment: What is looked at.
    """
    began = datetime.now(UTC)
    protection, local = files.server_policy(deployment.server_policy)
    try:
        asked, reached = list(_of_registry(deployment, protection)), True
    except RegistryError as error:
        asked, reached = [wrong("registry", str(error))], False
    guarded = any(point.about == "enforcement" and point.state == "ok" for point in asked)
    local += files.audit(protection, asked=began if guarded else None)
    local += files.signing_key(deployment.signing_key, protection)
    relay = [] if deployment.relay is None else [webhooks.relay(deployment.relay)]
    return Examined((*asked, *relay, *local), reached)


def _of_registry(deployment: Deployment, protection: Protection | None) -> Iterator[Point]:
    uri = plain(deployment.registry)
    if not is_server(uri):
        yield from registry.database(deployment.registry)
        if protection is not None:
            yield promoted.unknown()
        return
    server, tracking = Server(uri), plain(deployment.tracking or uri)
    yield registry.answers(server)
    if uri != deployment.registry:
        yield note("guard rail", f"gate+ holds this client alone: whoever names {server.root} walks around it")
    yield registry.enforcement(server)
    if protection is not None:
        yield from promoted.promoted(uri, protection)
    if is_server(tracking):
        yield registry.artifacts(
            Server(tracking), anywhere=protection is not None and protection.artifacts == "anywhere"
        )
        yield registry.experiments(Server(tracking))
    else:
        yield note("artifacts", "no tracking server is named in MLFLOW_TRACKING_URI, so nobody freezes files")
    yield from webhooks.webhooks(server, relayed=deployment.relay is not None)
