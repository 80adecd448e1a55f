"""What a guarded workspace store refuses: MLflow moves or drops the models of a workspace past the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from mlflow.entities.workspace import WorkspaceDeletionMode

from gate.errors import VerificationError
from gate.mlflow_plugin.callers import caller
from gate.mlflow_plugin.refusing import refusing
from gate.mlflow_plugin.sessions import JoinedSessions

if TYPE_CHECKING:
    from gate.mlflow_plugin.audit import Audit

    _Store: TypeAlias = Any  # any workspace store of MLflow
else:
    _Store = object


class GuardedWorkspaces(_Store):
    """Decides before the store under it does."""

    ManagedSessionMaker: Any

    def guarded_by(self, audit: Audit) -> None:
        """Take up the guard.

        Args:
            audit: Where every decision is written down.
        """
        self._audit = audit
        self._sessions = JoinedSessions(self.ManagedSessionMaker)
        self.ManagedSessionMaker = self._sessions

    def delete_workspace(
        self, workspace_name: str, mode: WorkspaceDeletionMode = WorkspaceDeletionMode.RESTRICT
    ) -> None:
        """Refused while there are registered models in it, whose promotions and frozen files would go with it."""
        from mlflow.store.model_registry.dbmodels.models import SqlRegisteredModel as Row

        entry = {"who": caller(), "what": "deletion", "model": f"workspace {workspace_name!r}"}
        # Inside as well, because a session of MLflow turns what it does not know into a crash.
        outside, inside = refusing(self._audit, entry), refusing(self._audit, entry)
        with outside, self._sessions.together() as session, inside:
            held = session.query(Row).filter(Row.workspace == workspace_name).count()
            if held:
                models = "a registered model" if held == 1 else f"{held} registered models"
                raise VerificationError(
                    f"it holds {models}, which would go past the gate; delete them one by one first"
                )
            super().delete_workspace(workspace_name, mode)
            self._audit.append({**entry, "decision": "allowed"})
