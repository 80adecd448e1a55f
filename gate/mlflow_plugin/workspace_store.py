"""The workspace store `gate+SCHEME`: MLflow's own store for the scheme, with a guard over it.

MLflow loads this module in every process that uses workspaces, so it imports nothing heavy.
"""

from __future__ import annotations

from typing import Any

from gate.attestation.names import SCHEME
from gate.errors import GateError


def build(workspace_uri: str) -> Any:  # noqa: ANN401 - a class that is made on the way
    """The guarded workspace store of a URI.

    Args:
        workspace_uri: Such as `gate+sqlite:///mlflow.db`.

    Raises:
        MlflowException: There is no server policy, or it, a key or the audit log cannot be used, or this MLflow can
            change workspaces in ways that gate does not know.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.store.workspace.sqlalchemy_store import SqlAlchemyStore

    from gate.mlflow_plugin.audit import Audit
    from gate.mlflow_plugin.coverage import unknown_of_workspaces
    from gate.mlflow_plugin.registry_store import protection, require_known
    from gate.mlflow_plugin.workspaces import GuardedWorkspaces

    try:
        guard = protection()
        require_known(unknown_of_workspaces(SqlAlchemyStore), guard)
        made: Any = type("GuardedWorkspaceStore", (GuardedWorkspaces, SqlAlchemyStore), {})
        store = made(workspace_uri.removeprefix(SCHEME))
        store.guarded_by(Audit(guard.audit))
    except GateError as error:
        raise MlflowException(f"the workspaces {SCHEME}… do not start: {error}") from error
    return store
