"""Real registries with a small model that was judged and signed, and what an attacker would do to them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from gate.attestation import keys
from gate.attestation.envelope import sealed
from gate.attestation.issuing import issue
from gate.attestation.names import statement_key
from gate.attestation.statement import Statement, Version
from gate.models.digest import digest_of, digest_of_names, listed
from tests.attestation import made

NAME = "encoder"


def write_model(folder: Path) -> Path:
    """Files such as MLflow's, in folders as well."""
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n", encoding="utf-8")
    (folder / "data" / "weights.bin").write_bytes(bytes(range(256)) * 40)
    (folder / "data" / "with blank & ümlaut.txt").write_text("x", encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Place:
    """A registry, the folder on this machine that keeps the files of version 1, and a pair of keys."""

    client: MlflowClient
    uri: str
    model: Path
    key: Path

    @property
    def public(self) -> Path:
        return self.key.with_name(self.key.name + keys.PUBLIC)

    def subject(self, version: str = "1", name: str = NAME) -> Version:
        row = self.client.get_model_version(name, version)
        return Version(
            name=row.name,
            version=str(row.version),
            created=row.creation_timestamp,
            source=str(row.source),
            workspace=row.workspace,
        )

    def statement(
        self, *, version: str = "1", name: str = NAME, age: timedelta = timedelta(), **changes: Any
    ) -> Statement:
        """What `gate check` would issue, `age` ago."""
        files, policy = listed(self.model), changes.pop("policy", {})
        document = made.evidence(**policy)
        document["model"] |= {"digest": digest_of(files), "names_digest": digest_of_names(files)}
        now = datetime.now(UTC) - age
        found = issue(document, self.subject(version, name), files, now=now)
        return found.model_copy(update=changes)

    def tag(self, statement: Statement, *, version: str = "1", name: str = NAME, key: Path | None = None) -> None:
        envelope = sealed(statement.payload, keys.signing_key(key or self.key))
        self.client.set_model_version_tag(name, version, statement_key(statement.policy.name), envelope)

    def sign(self, *, version: str = "1", name: str = NAME, **changes: Any) -> None:
        self.tag(self.statement(version=version, name=name, **changes), version=version, name=name)

    def envelope(self, path: Path, **changes: Any) -> Path:
        path.write_text(sealed(self.statement(**changes).payload, keys.signing_key(self.key)), encoding="utf-8")
        return path


def direct(database: Path, sql: str, *values: Any) -> None:
    """What somebody with access to the database does, past any server."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(sql, values)


def alias(database: Path, name: str, version: int) -> None:
    direct(
        database,
        "INSERT INTO registered_model_aliases (workspace, name, alias, version) VALUES ('default', ?, ?, ?)",
        NAME,
        name,
        version,
    )
