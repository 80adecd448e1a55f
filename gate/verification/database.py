"""A registry in an SQLite file, read without MLflow."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gate.attestation.statement import Version
from gate.errors import AbsentError, RegistryError
from gate.verification.registered import Registered, workspace

if TYPE_CHECKING:
    from gate.verification.registered import Asked

SCHEME = "sqlite:///"
_DELETED = "Deleted_Internal"  # the stage of a version that MLflow has deleted and still keeps


def registered(uri: str, wanted: Asked) -> Registered:
    """The version that is asked for.

    Args:
        uri: Of the database, `sqlite:///FILE`.
        wanted: The version.

    Raises:
        AbsentError: There is none.
        RegistryError: The file cannot be read, or is no registry.
    """
    path = uri.removeprefix(SCHEME).partition("?")[0]
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return _registered(connection, wanted)
    except sqlite3.Error as error:
        raise RegistryError(
            f"the registry {uri!r} cannot be read: {error}; check MLFLOW_REGISTRY_URI and MLFLOW_TRACKING_URI"
        ) from None


def _registered(connection: sqlite3.Connection, wanted: Asked) -> Registered:
    number = wanted.version
    if wanted.alias is not None:
        aliases = _rows(connection, "registered_model_aliases", name=wanted.name, alias=wanted.alias)
        number = str(aliases[0]["version"]) if aliases else None
    rows = [] if number is None else _rows(connection, "model_versions", name=wanted.name, version=int(number))
    if not rows or rows[0]["current_stage"] == _DELETED:
        raise AbsentError(f"the registry has no {wanted.uri}")
    row = rows[0]
    tags = _rows(connection, "model_version_tags", name=wanted.name, version=row["version"])
    version = Version.of(row["name"], row["version"], row["creation_time"], row["source"], workspace())
    location = row.get("storage_location") or version.source
    return Registered(version, {tag["key"]: tag["value"] or "" for tag in tags}, location)


def _rows(connection: sqlite3.Connection, table: str, **where: str | int) -> list[dict[str, Any]]:
    """Rows of this workspace; registries of before there were any have no such column."""
    columns = " AND ".join(f"{column} = ?" for column in where)
    found = connection.execute(f"SELECT * FROM {table} WHERE {columns}", tuple(where.values()))  # noqa: S608 - our own names
    return [row for row in map(dict, found) if row.get("workspace", "default") == workspace()]
