"""One transaction around several calls of a registry store: what was looked at still holds when it is written."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gate.attestation.names import FROZEN
from gate.attestation.statement import Version
from gate.models.registry import versions_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from sqlalchemy.orm import Session

_MOST = 200_000  # what MLflow gives at once


class Maker(Protocol):
    """How a store of MLflow opens a session, which commits at its end."""

    def __call__(self, *, read_only: bool = True) -> AbstractContextManager[Session]:
        """A session; one that only reads may be that of a replica."""


class JoinedSessions:
    """Sessions of a store; whatever it opens within `together` is one session on the primary database.

    Args:
        make: The store's own way to open one.
    """

    def __init__(self, make: Maker) -> None:
        self._make = make
        self._joined: ContextVar[Session | None] = ContextVar("joined", default=None)

    @contextmanager
    def __call__(self, read_only: bool = True) -> Iterator[Session]:  # noqa: FBT001, FBT002 - MLflow's own signature
        """The session that is open, or a new one."""
        joined = self._joined.get()
        if joined is not None:
            yield joined
            return
        with self._make(read_only=read_only) as session:
            yield session

    @contextmanager
    def together(self) -> Iterator[Session]:
        """One session for all that this thread does with the store; commits at the end, or rolls everything back."""
        joined = self._joined.get()
        if joined is not None:
            yield joined
            return
        with self._make(read_only=False) as session:
            token = self._joined.set(session)
            try:
                yield session
            finally:
                self._joined.reset(token)


def lock(session: Session, names: tuple[str, ...]) -> None:
    """Let nobody else change these registered models until the session ends.

    An update that changes nothing locks their rows, and in SQLite, which has no locks of rows, the database.
    """
    from mlflow.store.model_registry.dbmodels.models import SqlRegisteredModel as Row
    from sqlalchemy import update

    same: dict[str, Any] = {"last_updated_time": Row.last_updated_time}
    session.execute(update(Row).where(Row.name.in_(names)).values(same).execution_options(synchronize_session=False))


@dataclass(frozen=True)
class Row:
    """What a decision on a version rests on.

    Attributes:
        subject: The version.
        location: Where its files lie.
        tags: Of the version.
    """

    subject: Version
    location: str
    tags: Mapping[str, str]


def row_of(store: Any, name: str, version: str) -> Row:  # noqa: ANN401 - any registry store of MLflow
    """A version as a store has it, read at once with its tags.

    Args:
        store: Of a database, or of another server.
        name: Of the registered model.
        version: Its number.
    """
    if not hasattr(store, "ManagedSessionMaker"):
        entity = store.get_model_version(name, version)
        location = store.get_model_version_download_uri(name, version)
        about = Version.of(entity.name, entity.version, entity.creation_timestamp, entity.source, entity.workspace)
        return Row(about, location, entity.tags)
    with store.ManagedSessionMaker(read_only=False) as session:
        found = store._get_sql_model_version(session, name, version)  # noqa: SLF001 - the public way reads all else too
        tags = {tag.key: tag.value for tag in found.model_version_tags}
        about = Version.of(found.name, found.version, found.creation_time, found.source, found.workspace)
        return Row(about, found.storage_location or found.source, tags)


def all_versions(store: Any, name: str) -> list[Any]:  # noqa: ANN401 - any registry store of MLflow
    """All versions of a registered model, which MLflow's search hides as soon as one of them looks like a prompt.

    Args:
        store: Of a database; of another server only those come that its search shows.
        name: Of the model.
    """
    if not hasattr(store, "ManagedSessionMaker"):
        return list(store.search_model_versions(versions_of(name), max_results=_MOST))
    from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersion

    row: Any = SqlModelVersion
    with store.ManagedSessionMaker(read_only=False) as session:
        found = store._get_query(session, row).filter(row.name == name, row.current_stage != STAGE_DELETED_INTERNAL)  # noqa: SLF001 - the one that knows of workspaces
        return [each.to_mlflow_entity() for each in found]


def frozen_version(session: Session, path: str) -> str | None:
    """The URI of a version whose frozen files are at a path, below it or above it, in any workspace.

    Args:
        session: Open.
        path: From the root of the artifact store; nothing for the root itself.
    """
    from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersion, SqlModelVersionTag
    from sqlalchemy import and_, or_

    versions: Any = SqlModelVersion
    tags: Any = SqlModelVersionTag
    parts = path.split("/") if path else []
    above = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    below = tags.value.startswith(f"{path}/", autoescape=True) if path else tags.value != ""
    same = and_(*(getattr(versions, key) == getattr(tags, key) for key in ("workspace", "name", "version")))
    wanted = (tags.key == FROZEN, versions.current_stage != STAGE_DELETED_INTERNAL, or_(tags.value.in_(above), below))
    found = session.query(tags.name, tags.version).join(versions, same).filter(*wanted).first()
    return None if found is None else f"models:/{found[0]}/{found[1]}"
