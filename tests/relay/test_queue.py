"""The law of the queue: once, whatever comes twice or is started again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gate.errors import UsageError
from gate.models.versions import RegisteredVersion
from gate.relay import delivery
from gate.relay.delivery import WINDOW, NewVersion
from gate.relay.queue import Queue

NOW = 1_800_000_000
Open = Callable[..., Queue]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens the queue of the test; opening it again is what a crash and a restart are."""
    held: list[Queue] = []

    def start(*, limit: int = 100, recording: bool = True) -> Queue:
        for each in held:
            each.close()
        held.append(Queue(tmp_path / "queue.db", limit=limit))
        held[-1].resume(recording=recording)
        return held[-1]

    yield start
    held[-1].close()


def tell(queue: Queue, identity: str, version: str = "1", *, sent: int = NOW, run: str | None = None) -> str:
    new = NewVersion("encoder", version, "models:/m-1", run)
    return queue.receive(delivery.Delivery(identity, sent, "model_version.created", new), new, NOW)


def found(version: str = "1", created: int = NOW * 1000 - 500, /, **tags: str) -> RegisteredVersion:
    named = {key.replace("_", "."): value for key, value in tags.items()}
    return RegisteredVersion("encoder", version, created, "models:/m-1", named)


def rows(path: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(path) as file:
        return file.execute("SELECT version, created, state FROM versions").fetchall()


def test_a_version_is_queued_once_however_it_is_told(opened: Open, tmp_path: Path) -> None:
    queue = opened()
    assert [tell(queue, "a"), tell(queue, "a"), tell(queue, "b")] == ["queued", "duplicate", "known"]
    assert queue.meet([found()]) == ([], True)
    assert rows(tmp_path / "queue.db") == [("1", NOW * 1000 - 500, "queued")]


def test_what_the_registry_told_first_is_known_to_a_late_delivery(opened: Open) -> None:
    queue = opened()
    assert queue.meet([found()]) == ([found()], True)
    assert tell(queue, "a") == "known"
    assert queue.counts()["queued"] == 1


def test_a_version_that_was_deleted_and_made_again_is_another_one(opened: Open, tmp_path: Path) -> None:
    queue = opened()
    tell(queue, "a")
    later = found("1", (NOW + 1) * 1000)
    assert tell(queue, "b", sent=NOW + 1) == "known"
    assert queue.meet([later]) == ([later], True)
    assert queue.meet([later]) == ([], True)
    assert rows(tmp_path / "queue.db") == [("1", None, "queued"), ("1", (NOW + 1) * 1000, "queued")]


def test_the_reconciler_leaves_what_has_a_verdict(opened: Open) -> None:
    queue = opened()
    assert queue.meet([found("1", gate="PASS"), found("2", gate="ERROR"), found("3", team="x")]) == (
        [found("3", team="x")],
        True,
    )


def test_a_full_queue_leaves_no_trace_of_what_it_refuses(opened: Open) -> None:
    queue = opened(limit=1)
    assert [tell(queue, "a"), tell(queue, "b", "2"), tell(queue, "c")] == ["queued", "full", "known"]
    assert queue.meet([found("3")]) == ([], False)
    taken = queue.take(NOW)
    assert taken
    assert tell(queue, "b", "2") == "full"
    queue.settle(taken, "checked", exit_code=0, note="")
    assert tell(queue, "b", "2") == "queued"


def test_a_delivery_is_remembered_as_long_as_its_time_would_be_believed(opened: Open, tmp_path: Path) -> None:
    queue = opened()
    tell(queue, "old", sent=NOW - 2 * WINDOW - 1)
    tell(queue, "edge", "2", sent=NOW - WINDOW)
    tell(queue, "ahead", "3", sent=NOW + WINDOW)
    assert tell(queue, "edge", "2", sent=NOW - WINDOW) == "duplicate"
    with sqlite3.connect(tmp_path / "queue.db") as file:
        assert {row[0] for row in file.execute("SELECT id FROM deliveries")} == {"edge", "ahead"}


def test_versions_are_taken_in_their_order_and_the_less_tried_first(opened: Open) -> None:
    queue = opened()
    for version in "123":
        tell(queue, version, version)
    first = queue.take(NOW)
    assert first
    assert (first.version, first.attempt) == ("1", 1)
    queue.settle(first, "queued", exit_code=None, note="503", due=NOW + 10)
    assert [taken.version for _ in range(2) if (taken := queue.take(NOW))] == ["2", "3"]
    assert queue.take(NOW + 9) is None
    again = queue.take(NOW + 10)
    assert again
    assert (again.version, again.attempt) == ("1", 2)


def test_a_dispatch_that_was_broken_off_is_taken_up_at_once(opened: Open) -> None:
    queue = opened(recording=False)
    tell(queue, "a")
    queue.take(NOW)
    again = opened(recording=False).take(NOW)
    assert again
    assert again.attempt == 2


@pytest.mark.parametrize(
    ("tags", "is_run_again"),
    [
        ({}, True),
        ({"gate": "ERROR"}, True),  # the recorder writes this first
        ({"gate": "ERROR", "gate_run": "new"}, True),
        ({"gate": "not in force: ERROR", "gate_run": "none"}, True),  # by a policy that the server does not know
        ({"gate": "not in force: PASS", "gate_run": "new"}, False),
        ({"gate": "PASS", "gate_run": "new"}, False),
        ({"gate": "FAIL", "gate_run": "new"}, False),
        ({"gate": "PASS", "gate_run": "old"}, True),  # a copy was born with it
        ({"gate": "PASS"}, True),
    ],
)
def test_a_check_that_was_broken_off_runs_again_unless_it_had_recorded(
    opened: Open, tags: dict[str, str], is_run_again: bool
) -> None:
    queue = opened()
    tell(queue, "a", run="old")
    queue.take(NOW)
    queue = opened()
    assert queue.take(NOW) is None  # the registry was not asked yet
    queue.meet([found(**tags)])
    queue.meet_all()
    assert (queue.take(NOW) is not None) == is_run_again
    assert queue.counts()["checked"] == (not is_run_again)
    assert queue.exit_codes() == ({} if is_run_again else {None: 1})


def test_a_version_that_is_gone_from_the_registry_is_taken_when_all_of_it_was_met(opened: Open) -> None:
    queue = opened()
    tell(queue, "a")
    queue.take(NOW)
    queue = opened()
    queue.meet([])
    assert queue.take(NOW) is None
    queue.meet_all()
    assert queue.take(NOW)


def test_what_failed_is_taken_up_by_a_restart_and_what_is_done_is_not(opened: Open) -> None:
    queue = opened()
    for version, state in (("1", "failed"), ("2", "checked"), ("3", "dispatched")):
        tell(queue, version, version)
        taken = queue.take(NOW)
        assert taken
        queue.settle(taken, state, exit_code=1, note="")  # type: ignore[arg-type]
    queue = opened()
    again = queue.take(NOW)
    assert again
    assert (again.version, again.attempt, queue.take(NOW)) == ("1", 1, None)


def test_a_queue_has_one_relay(opened: Open, tmp_path: Path) -> None:
    opened()
    with pytest.raises(UsageError, match=r"queue.db' belongs to a relay that is running; end that one"):
        Queue(tmp_path / "queue.db", limit=1)


def test_the_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as file:
        file.execute("CREATE TABLE model_versions (name TEXT)")
    with pytest.raises(UsageError, match="cannot be used: it is the database of something else; see --queue"):
        Queue(tmp_path / "mlflow.db", limit=1)
    with sqlite3.connect(tmp_path / "mlflow.db") as file:
        assert file.execute("SELECT name FROM sqlite_master").fetchall() == [("model_versions",)]


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("my notes\n" * 100)
    with pytest.raises(UsageError, match="file is not a database"):
        Queue(tmp_path / "notes.txt", limit=1)
    assert (tmp_path / "notes.txt").read_text().startswith("my notes")


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be made: No such file or directory"):
        Queue(tmp_path / "nowhere" / "queue.db", limit=1)


def test_a_commit_survives_a_kill(opened: Open, tmp_path: Path) -> None:
    tell(opened(), "a")
    with sqlite3.connect(tmp_path / "queue.db") as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    queue = opened()
    assert queue._file.execute("PRAGMA synchronous").fetchone() == (2,)
    assert queue.counts()["queued"] == 1
