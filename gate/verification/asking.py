"""Which registry and which server the environment names, and what they have."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gate.attestation.names import SCHEME
from gate.errors import UsageError
from gate.verification import database
from gate.verification.registered import Registered

if TYPE_CHECKING:
    from gate.verification.registered import Asked
    from gate.verification.server import Server


def registered(wanted: Asked) -> Registered:
    """The version that is asked for, in the registry that the environment names.

    Raises:
        AbsentError: There is none.
        RegistryError: The registry cannot be asked.
    """
    store = plain(registry_uri())
    if is_server(store):
        from gate.verification.server import Server

        return Server(store).registered(wanted)
    if store.startswith(database.SCHEME):
        return database.registered(store, wanted)
    from gate.models.row import row

    return Registered(*row(store, wanted.name, wanted.version, wanted.alias))


def artifact_server(location: str, host: str) -> Server:
    """The server behind which files with an `mlflow-artifacts:` URI lie.

    Args:
        location: The URI.
        host: That it names; empty where it names none.

    Raises:
        UsageError: The environment names no server, or another one, to which no password is sent.
    """
    from gate.verification.server import Server

    stores = map(plain, (tracking_uri(), os.environ.get("MLFLOW_REGISTRY_URI", "")))
    servers = [Server(store) for store in stores if is_server(store)]
    if not servers:
        raise UsageError(
            f"the files lie behind a tracking server, at {location!r}, and none is named: set MLFLOW_TRACKING_URI to "
            "its address, or download the model and give its folder with --files"
        )
    if host not in ("", servers[0].host):
        raise UsageError(
            f"the files lie behind another server, at {location!r}, than {servers[0].root}: name that one in "
            "MLFLOW_TRACKING_URI, or download the model and give its folder with --files"
        )
    return servers[0]


def plain(uri: str) -> str:
    """A URI without the prefix of the gate."""
    return uri.removeprefix(SCHEME)


def registry_uri() -> str:
    """Of the registry that the environment names, as MLflow reads it."""
    return os.environ.get("MLFLOW_REGISTRY_URI") or tracking_uri() or "sqlite:///mlflow.db"


def tracking_uri() -> str:
    """Of the tracking server that the environment names; empty where it names none."""
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def is_server(uri: str) -> bool:
    """Whether a store is behind a server, and no database or folder."""
    return uri.startswith(("http://", "https://"))
