"""What a server must be like so that it can be guarded: nothing that it decides with is in the hands of its users."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gate.attestation.names import SCHEME
from gate.errors import UsageError
from gate.mlflow_plugin.locations import BACKEND, DESTINATION, LOCAL, ROOT, lies_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gate.server_policy import Protection

_OPTIONS = {BACKEND: "backend_store_uri", ROOT: "default_artifact_root", DESTINATION: "artifacts_destination"}


def require_guardable(guard: Protection, uri: str) -> None:
    """Refuses a server whose users could decide in its place; a client has nothing to refuse.

    Args:
        guard: What the server policy says.
        uri: Of the registry, without `gate+`.

    Raises:
        UsageError: It cannot be guarded as it is started.
    """
    _require_frozen(guard)
    _require_database()
    _require_apart(guard, uri)
    _require_no_code()


def options() -> Mapping[str, Any]:
    """Those of `mlflow server` while it is about to start, whose processes are not told yet; none anywhere else."""
    from click import get_current_context

    context = get_current_context(silent=True)
    return context.params if context is not None and "artifacts_destination" in context.params else {}


def _require_frozen(guard: Protection) -> None:
    """The artifact store is guarded, where files must be frozen."""
    destination = _option(DESTINATION)
    if guard.artifacts == "frozen" and destination is not None and not destination.startswith(SCHEME):
        raise UsageError(
            f"the artifact store {destination!r} is not guarded: start the server with --artifacts-destination "
            f"{SCHEME}{destination}, or write `artifacts: anywhere` in the server policy"
        )


def _require_database() -> None:
    """The backend store is a database, because a folder is no artifact repository and nobody guards it."""
    backend = _option(BACKEND)
    if backend is not None and urlsplit(backend).scheme in LOCAL:
        raise UsageError(
            f"the backend store {backend!r} is a folder, for which MLflow takes the id of a trace for a path: any user "
            "could remove the keys; start the server with --backend-store-uri sqlite:///FILE or another database"
        )


def _require_apart(guard: Protection, uri: str) -> None:
    """What the server decides with does not lie among the files that its users write."""
    stores = [store for store in (_option(DESTINATION), _option(ROOT)) if store]
    for file in (*guard.read, guard.audit, *_databases(uri)):
        for store in stores:
            if lies_in(store, file):
                raise UsageError(
                    f"{str(file)!r} lies in the artifact store {store!r}, where whoever uploads a file could replace "
                    "it; keep it in another folder"
                )


def _databases(uri: str) -> Iterator[Path]:
    from mlflow.environment_variables import MLFLOW_WORKSPACE_STORE_URI
    from sqlalchemy.engine import make_url

    for each in (uri, _option(BACKEND), MLFLOW_WORKSPACE_STORE_URI.get()):
        bare = (each or "").removeprefix(SCHEME)
        file = make_url(bare).database if bare.lower().startswith("sqlite") else None
        if file:
            yield Path(file.removeprefix("file:"))


def _require_no_code() -> None:
    """No job of a server that is about to start runs what a user sends."""
    from mlflow.environment_variables import MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS, MLFLOW_SERVER_ENABLE_JOB_EXECUTION

    if not _starts() or not MLFLOW_SERVER_ENABLE_JOB_EXECUTION.get():
        return
    if MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS.get():
        raise UsageError(
            "custom scorers run the code of any user on this server, past the gate; start it without "
            "MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS"
        )
    if find_spec("gepa") is not None:
        raise UsageError(
            "gepa is installed, and MLflow's jobs let any user have it write and unpickle files of this machine, past "
            "the gate; start the server with MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false, or uninstall gepa"
        )


def _option(variable: str) -> str | None:
    """What a server was started with, in its processes and where it is about to start."""
    from mlflow.tracking._tracking_service.utils import _get_default_tracking_uri

    found: str | None = os.environ.get(variable) or options().get(_OPTIONS[variable])
    return _get_default_tracking_uri() if not found and variable == BACKEND and _starts() else found


def _starts() -> bool:
    return "host" in options()  # `mlflow gc` and others know the store as well
