"""The registry store `gate+SCHEME`: MLflow's own store for the scheme, with a guard over it.

MLflow loads this module in every process that uses a registry, so it imports nothing heavy.
"""

from __future__ import annotations

import logging
import os
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gate.attestation.names import SCHEME
from gate.errors import GateError, UsageError
from gate.mlflow_plugin.locations import BACKEND, DESTINATION, LOCAL, ROOT, lies_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gate.server_policy import Protection

_OPTIONS = {BACKEND: "backend_store_uri", ROOT: "default_artifact_root", DESTINATION: "artifacts_destination"}
_server_log = logging.getLogger("mlflow.gate")  # below MLflow's own, which alone its server shows


def build(store_uri: str | None = None, tracking_uri: str | None = None) -> Any:  # noqa: ARG001 - MLflow's own names
    """The guarded registry store of a URI.

    Args:
        store_uri: Such as `gate+sqlite:///mlflow.db` or `gate+https://registry.example`.
        tracking_uri: Not needed.

    Raises:
        MlflowException: There is no server policy, or it, a key or the audit log cannot be used, or this MLflow can
            change a registry in ways that gate does not know.
    """
    from mlflow.exceptions import MlflowException

    try:
        return _built(str(store_uri).removeprefix(SCHEME))
    except GateError as error:
        raise MlflowException(f"the registry {SCHEME}… does not start: {error}") from error


def protection() -> Protection:
    """What GATE_SERVER_POLICY says.

    Raises:
        GateError: The variable is not set, or the file cannot be used.
    """
    from gate.server_policy import VARIABLE, load

    path = os.environ.get(VARIABLE)
    if not path:
        raise UsageError(
            f"{VARIABLE} is not set; write a server policy (docs/server.md) and set it to the path of that file"
        )
    return load(path)


def _built(uri: str) -> Any:
    from gate.mlflow_plugin.audit import Audit

    guard = protection()
    _require_artifacts(guard)
    _require_apart(guard, uri)
    _require_starting()
    store = _over_rest(uri, guard) if uri.startswith(("http://", "https://")) else _over_database(uri, guard)
    store.guarded_by(guard, Audit(guard.audit))
    if _options_of_server():
        _server_log.info("%s", _told(guard))
    return store


def _told(guard: Protection) -> str:
    """What a server that starts enforces, in a line."""
    from gate.server_policy import VARIABLE

    policies, keys = len(guard.trust.policies or ()), len(guard.trust.keys)
    counted = f"{policies} polic{'y' if policies == 1 else 'ies'}, {keys} key{'' if keys == 1 else 's'}"
    aliases = f"alias{'' if len(guard.aliases) == 1 else 'es'} {', '.join(sorted(guard.aliases))}"
    return f"{os.environ[VARIABLE]} guards {aliases} ({counted}), decisions go to {guard.audit}"


def _over_rest(uri: str, guard: Protection) -> Any:
    from mlflow.store.model_registry.rest_store import RestStore
    from mlflow.utils.credentials import get_default_host_creds

    return _guarded(RestStore, guard)(partial(get_default_host_creds, uri))


def _over_database(uri: str, guard: Protection) -> Any:
    """Over the store that MLflow's own server makes."""
    from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES, MLFLOW_WORKSPACE_STORE_URI
    from mlflow.server.constants import READ_REPLICA_BACKEND_STORE_URI_ENV_VAR
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
    from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore

    base = WorkspaceAwareSqlAlchemyStore if MLFLOW_ENABLE_WORKSPACES.get() else SqlAlchemyStore
    if MLFLOW_ENABLE_WORKSPACES.get() and not (MLFLOW_WORKSPACE_STORE_URI.get() or "").startswith(SCHEME):
        raise UsageError(
            "the workspaces of this server are not guarded, and whoever deletes one moves its models; start the server "
            f"with --workspace-store-uri {SCHEME}URI, where URI is that of the database"
        )
    return _guarded(base, guard)(uri, read_db_uri=os.environ.get(READ_REPLICA_BACKEND_STORE_URI_ENV_VAR))


def _guarded(base: type, guard: Protection) -> Any:
    from gate.mlflow_plugin.coverage import unknown_of_registry
    from gate.mlflow_plugin.guard import Guard

    require_known(unknown_of_registry(base), guard)
    return type(f"Guarded{base.__name__}", (Guard, base), {})


def _require_artifacts(guard: Protection) -> None:
    """Refuses a server whose artifact store is not guarded, where files must be frozen."""
    destination = _option(DESTINATION)
    if guard.artifacts == "frozen" and destination is not None and not destination.startswith(SCHEME):
        raise UsageError(
            f"the artifact store {destination!r} is not guarded: start the server with --artifacts-destination "
            f"{SCHEME}{destination}, or write `artifacts: anywhere` in the server policy"
        )


def _require_apart(guard: Protection, uri: str) -> None:
    """Refuses a server that keeps what it decides with among the files that its users write."""
    from sqlalchemy.engine import make_url

    databases = [make_url(each).database for each in (uri, _option(BACKEND) or "") if each.startswith("sqlite")]
    stores = [store for store in (_option(DESTINATION), _option(ROOT)) if store]
    for file in (*guard.read, guard.audit, *(Path(each) for each in databases if each)):
        for store in stores:
            if lies_in(store, file):
                raise UsageError(
                    f"{str(file)!r} lies in the artifact store {store!r}, where whoever uploads a file could replace "
                    "it; keep it in another folder"
                )


def _require_starting() -> None:
    """Refuses to start a server that does what its users send past all of its stores."""
    from mlflow.environment_variables import MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS, MLFLOW_SERVER_ENABLE_JOB_EXECUTION

    if "host" not in _options_of_server():
        return
    if urlsplit(backend := _option(BACKEND) or "sqlite:").scheme in LOCAL:
        raise UsageError(
            f"the backend store {backend!r} is a folder, for which MLflow takes the id of a trace for a path: any user "
            "could remove the keys; start the server with --backend-store-uri sqlite:///FILE or another database"
        )
    if not MLFLOW_SERVER_ENABLE_JOB_EXECUTION.get():
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
    return os.environ.get(variable) or _options_of_server().get(_OPTIONS[variable])


def _options_of_server() -> Mapping[str, Any]:
    """Those of `mlflow server` while it is about to start, whose processes are not told yet; none anywhere else."""
    from click import get_current_context

    context = get_current_context(silent=True)
    return context.params if context is not None and "artifacts_destination" in context.params else {}


def require_known(unknown: Sequence[str], guard: Protection) -> None:
    """Refuses an MLflow with methods that nobody has looked at, or warns, as the server policy says.

    Args:
        unknown: Their names.
        guard: What the server policy says.

    Raises:
        UsageError: There are some, and they are refused.
    """
    if not unknown:
        return
    text = f"this MLflow can change a registry in ways that gate does not know: {', '.join(unknown)}"
    if guard.unknown_methods == "refuse":
        raise UsageError(f"{text}; use an MLflow that it knows, or write `unknown_methods: warn` in the server policy")
    logging.getLogger(__name__).warning("%s", text)
