"""The versions that were heard of and what became of them, in one SQLite file."""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from gate.attestation.names import NOT_IN_FORCE
from gate.errors import UsageError
from gate.relay.delivery import WINDOW

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gate.models.versions import RegisteredVersion
    from gate.relay.delivery import Delivery, NewVersion

Received = Literal["queued", "duplicate", "known", "full"]
State = Literal["queued", "running", "dispatched", "checked", "failed"]

_APPLICATION = 0x67617465  # "gate": what tells this file from another database
_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION};
CREATE TABLE IF NOT EXISTS versions (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    created INTEGER,                        -- milliseconds, by the registry; NULL until it was asked
    sent INTEGER,                           -- seconds, when MLflow signed the delivery; NULL where there was none
    run TEXT,                               -- the tag gate.run that it carried when it was queued
    state TEXT NOT NULL DEFAULT 'queued',
    interrupted INTEGER NOT NULL DEFAULT 0, -- 1: a check was broken off, and may have recorded
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0,            -- seconds; not to be taken before
    exit_code INTEGER,
    note TEXT NOT NULL DEFAULT ''           -- the last of what the target said
);
CREATE INDEX IF NOT EXISTS versions_by_name ON versions (name, version);
CREATE INDEX IF NOT EXISTS versions_by_state ON versions (state, interrupted, due);
CREATE TABLE IF NOT EXISTS deliveries (id TEXT PRIMARY KEY, sent INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS deliveries_by_time ON deliveries (sent);
"""


@dataclass(frozen=True)
class Taken:
    """A version that a worker has taken; `attempt` counts from 1."""

    id: int
    name: str
    version: str
    attempt: int


class Queue:
    """The file, and all that is done to it; safe for several threads of one process.

    Whatever a method changed is on the disk when it returns. Everything may raise `sqlite3.Error`: the file is locked
    by someone else, the disk is full, the file is damaged.

    Args:
        path: Of the file; made if missing. `PATH.lock` beside it keeps a second relay away.
        limit: How many versions may wait.

    Raises:
        UsageError: The file cannot be used, is another database, or belongs to another relay.
    """

    def __init__(self, path: Path, *, limit: int) -> None:
        self._path, self._limit, self._guard = path, limit, threading.Lock()
        self._lock = _locked(path)
        try:
            self._file = _opened(path)
        except sqlite3.Error as error:
            self._lock.close()
            raise UsageError(f"the queue {str(path)!r} cannot be used: {error}; see --queue") from None
        self._inode = path.stat().st_ino

    def resume(self, *, recording: bool) -> None:
        """Take up what an earlier relay left: what was running, and what failed.

        Args:
            recording: Whether the target is a check, which may have recorded before it was broken off: such a version
                waits until `meet_all` was called.
        """
        self.release()
        with self._writing() as file:
            file.execute("UPDATE versions SET state = 'queued', attempts = 0, due = 0 WHERE state = 'failed'")
            if not recording:
                file.execute("UPDATE versions SET interrupted = 0")

    def release(self) -> None:
        """Put back into the queue what is running; its target was broken off."""
        with self._writing() as file:
            file.execute("UPDATE versions SET state = 'queued', interrupted = 1 WHERE state = 'running'")

    def receive(self, delivery: Delivery, version: NewVersion, now: float) -> Received:
        """Keep what a delivery tells, once.

        A delivery does not say when its version was made. One about a name and number that are known tells nothing:
        when they were deleted and given again, the reconciler will see it.

        Args:
            delivery: That was believed.
            version: That it is about.
            now: Seconds since 1970.

        Returns:
            "full" leaves no trace: the same delivery is welcome again.
        """
        with self._writing() as file:
            # What is older than this is refused by its time alone; twice, should the clock be set back meanwhile.
            file.execute("DELETE FROM deliveries WHERE sent < ?", (int(now) - 2 * WINDOW,))
            if _one(file, "SELECT 1 FROM deliveries WHERE id = ?", delivery.id):
                return "duplicate"
            known = _one(file, "SELECT 1 FROM versions WHERE name = ? AND version = ?", version.name, version.version)
            if not known and not self._has_room(file):
                return "full"
            file.execute("INSERT INTO deliveries VALUES (?, ?)", (delivery.id, delivery.sent))
            if known:
                return "known"
            file.execute(
                "INSERT INTO versions (name, version, sent, run) VALUES (?, ?, ?, ?)",
                (version.name, version.version, delivery.sent, version.run),
            )
            return "queued"

    def meet(self, found: Iterable[RegisteredVersion]) -> tuple[list[RegisteredVersion], bool]:
        """Hold versions of the registry against the table.

        Args:
            found: Versions as they are now; of what concerns the relay.

        Returns:
            Those that were queued: they have no row and no tag `gate`; and whether all of those had room.
        """
        queued, room = [], True
        with self._writing() as file:
            for each in found:
                if _is_known(file, each) or "gate" in each.tags:
                    continue
                room = room and self._has_room(file)
                if room:
                    file.execute(
                        "INSERT INTO versions (name, version, created, run) VALUES (?, ?, ?, ?)",
                        (each.name, each.version, each.created, each.tags.get("gate.run")),
                    )
                    queued.append(each)
        return queued, room

    def meet_all(self) -> None:
        """The whole registry was met: what was broken off, and has not recorded, may be taken."""
        with self._writing() as file:
            file.execute("UPDATE versions SET interrupted = 0 WHERE state = 'queued'")

    def take(self, now: float) -> Taken | None:
        """The version that was tried least and has waited longest, now running; None where none is due."""
        with self._writing() as file:
            row = _one(
                file,
                "SELECT id, name, version, attempts + 1 FROM versions "
                "WHERE state = 'queued' AND interrupted = 0 AND due <= ? ORDER BY attempts, id LIMIT 1",
                now,
            )
            if row is None:
                return None
            file.execute("UPDATE versions SET state = 'running', attempts = attempts + 1 WHERE id = ?", (row[0],))
            return Taken(*row)

    def settle(self, taken: Taken, state: State, *, exit_code: int | None, note: str, due: float = 0) -> None:
        """Write down what became of a version that was taken; "queued" is another attempt, at `due`."""
        with self._writing() as file:
            file.execute(
                "UPDATE versions SET state = ?, exit_code = ?, note = ?, due = ? WHERE id = ?",
                (state, exit_code, note, due, taken.id),
            )

    def counts(self) -> dict[State, int]:
        """State → number of versions."""
        counted: dict[State, int] = dict.fromkeys(("queued", "running", "dispatched", "checked", "failed"), 0)
        with self._guard:
            counted |= dict(self._file.execute("SELECT state, count(*) FROM versions GROUP BY state").fetchall())
        return counted

    def exit_codes(self) -> dict[int | None, int]:
        """Exit code → number of checks; None where a check had recorded before the relay could see its end."""
        with self._guard:
            found = self._file.execute(
                "SELECT exit_code, count(*) FROM versions WHERE state = 'checked' GROUP BY exit_code"
            )
            return dict(found.fetchall())

    def prove(self) -> None:
        """Write to the file, and see that it still lies where it was.

        Raises:
            sqlite3.Error: It cannot be written.
            OSError: It is not there.
        """
        with self._writing() as file:
            file.execute(f"PRAGMA application_id = {_APPLICATION}")
        if self._path.stat().st_ino != self._inode:
            raise OSError(f"another file was put in the place of {str(self._path)!r}")

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
        self._lock.close()

    def _has_room(self, file: sqlite3.Connection) -> bool:
        waiting = _one(file, "SELECT count(*) FROM versions WHERE state IN ('queued', 'running')")
        return waiting is not None and waiting[0] < self._limit

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._guard:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield self._file
                self._file.execute("COMMIT")
            except BaseException:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")
                raise


def _locked(path: Path) -> IO[str]:
    try:
        lock = Path(f"{path}.lock").open("w")  # noqa: SIM115 - as long as the queue
    except OSError as error:
        raise UsageError(f"the queue {str(path)!r} cannot be made: {error.strerror}; see --queue") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise UsageError(
            f"the queue {str(path)!r} belongs to a relay that is running; end that one, or name another --queue"
        ) from None
    return lock


def _opened(path: Path) -> sqlite3.Connection:
    file = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False)
    try:
        application, tables = _one(file, "PRAGMA application_id"), _one(file, "SELECT count(*) FROM sqlite_master")
        if tables != (0,) and application != (_APPLICATION,):
            raise sqlite3.DatabaseError("it is the database of something else")
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = FULL")
        file.executescript(_SCHEMA)
    except sqlite3.Error:
        file.close()
        raise
    return file


def _is_known(file: sqlite3.Connection, found: RegisteredVersion) -> bool:
    """Whether a version has a row, which gets the time of its creation here, and is settled where it was broken off."""
    row = _one(
        file,
        # A delivery is signed after its version was made, by the same clock, in whole seconds.
        "SELECT id, interrupted, run FROM versions WHERE name = ? AND version = ? "
        "AND (created = ? OR (created IS NULL AND (sent + 1) * 1000 > ?))",
        *(found.name, found.version, found.created, found.created),
    )
    if row is None:
        return False
    identity, interrupted, before = row
    file.execute("UPDATE versions SET created = ? WHERE id = ?", (found.created, identity))
    verdict, run = found.tags.get("gate", "ERROR"), found.tags.get("gate.run")
    if interrupted and verdict.removeprefix(NOT_IN_FORCE) != "ERROR" and run not in (None, before):
        file.execute(
            "UPDATE versions SET state = 'checked', interrupted = 0, note = ? WHERE id = ?",
            (f"{verdict} was recorded by run {run}, before the relay had seen the end of the check", identity),
        )
    return True


def _one(file: sqlite3.Connection, query: str, *values: str | float | None) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = file.execute(query, values).fetchone()
    return row
