"""The registry store `gate+SCHEME`: MLflow's own store for the scheme, with a guard over it.

MLflow loads this module in every process that uses a registry, so it imports nothing heavy.
"""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from gate.attestation.names import SCHEME
from gate.errors import GateError, UsageError
from gate.mlflow_plugin.starting import options, require_guardable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gate.server_policy import Protection

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
    require_guardable(guard, uri)
    store = _over_rest(uri, guard) if uri.startswith(("http://", "https://")) else _over_database(uri, guard)
    store.guarded_by(guard, Audit(guard.audit))
    if options():
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
