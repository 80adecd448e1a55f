from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from gate.errors import GateError, VerificationError
from gate.mlflow_plugin.audit import Audit, chain


def test_every_decision_is_a_line_that_follows_from_the_one_before(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "logs" / "audit.jsonl")
    assert chain(tmp_path / "logs" / "audit.jsonl")[0] == []
    for number in range(3):
        audit.append({"what": f"alias {number}", "decision": "allowed"})
    found = chain(tmp_path / "logs" / "audit.jsonl")[0]
    assert [each["what"] for each in found] == ["alias 0", "alias 1", "alias 2"]
    assert len({str(each["after"]) for each in found}) == 3
    assert all(each["time"] for each in found)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [lines[0].replace("allowed", "refused"), *lines[1:]],
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: lines[1:],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [*lines[:2], "no JSON"],
        lambda lines: [*lines[:2], "[]"],
    ],
)
def test_a_line_that_was_changed_taken_out_or_moved_shows(tmp_path: Path, change: object) -> None:
    path = tmp_path / "audit.jsonl"
    audit = Audit(path)
    for number in range(3):
        audit.append({"what": number, "decision": "allowed"})
    assert callable(change)
    path.write_text("".join(f"{line}\n" for line in change(path.read_text(encoding="utf-8").splitlines())), "utf-8")
    with pytest.raises(VerificationError, match="does not follow from the one before it: the log was changed"):
        chain(path)


def filled(path: Path) -> list[bytes]:
    """The lines of a log of three decisions."""
    audit = Audit(path)
    for number in range(3):
        audit.append({"what": number, "decision": "allowed"})
    return path.read_bytes().splitlines()


@pytest.mark.parametrize(
    "torn", [b"{", b'{"time": "2026-1', b"\0" * 200, b"\xff\r\x85", b"[]", b"x" * 200_000, b"[" * 200_000]
)
def test_a_last_line_that_was_torn_stays_and_the_log_goes_on(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "audit.jsonl"
    first, second, _ = filled(path)
    path.write_bytes(b"\n".join((first, second, torn)))
    with pytest.raises(VerificationError, match="the last line is torn"):
        chain(path)
    Audit(path).append({"what": 3, "decision": "allowed"})
    assert path.read_bytes().startswith(b"\n".join((first, second, torn, b"")))
    found = chain(path)[0]
    assert [each["decision"] for each in found] == ["allowed", "allowed", "recovered", "allowed"]
    assert found[2]["torn"] == sha256(torn).hexdigest()
    assert found[2]["after"] == sha256(second).hexdigest()


def test_the_first_line_can_be_torn_and_so_can_the_one_that_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"time')
    Audit(path)
    path.write_bytes(path.read_bytes()[:-40])
    Audit(path)
    found = chain(path)[0]
    assert [each["decision"] for each in found] == ["recovered"]


def test_a_whole_line_that_lacks_its_newline_is_a_decision_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    lines = filled(path)
    path.write_bytes(b"\n".join(lines))
    assert len(chain(path)[0]) == 3
    Audit(path).append({"what": 3, "decision": "allowed"})
    assert [each["what"] for each in chain(path)[0]] == [0, 1, 2, 3]


def changed(**change: object) -> Callable[[list[bytes]], list[bytes]]:
    """The mending line, the fourth, with other values."""
    return lambda lines: [*lines[:3], json.dumps({**json.loads(lines[3]), **change}).encode(), *lines[4:]]


@pytest.mark.parametrize(
    "change",
    [
        changed(torn="0" * 64),
        changed(after="0" * 64),
        changed(torn=None),
        lambda lines: [*lines[:2], lines[2] + b"x", *lines[3:]],
        lambda lines: [*lines[:2], *lines[3:]],
        lambda lines: [*lines[:3], lines[2], *lines[3:]],
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: [lines[0], b"no JSON", *lines[2:]],
        lambda lines: [lines[0], b"no JSON", lines[3], *lines[1:]],
        lambda lines: lines[:3],
    ],
)
def test_a_torn_line_is_believed_only_with_its_own_mending_right_after_it(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"\n".join(filled(path))[:-30])
    Audit(path).append({"what": 3, "decision": "allowed"})
    lines = path.read_bytes().splitlines()
    assert len(chain(path)[0]) == 4
    path.write_bytes(b"".join(line + b"\n" for line in change(lines)))
    with pytest.raises(VerificationError, match="does not follow from the one before it: the log was changed"):
        chain(path)


def test_a_line_that_is_no_line_of_ours_is_not_mended_where_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"\n".join([*filled(path)[:2], b"no JSON", b""]))
    Audit(path).append({"what": 3, "decision": "allowed"})
    with pytest.raises(VerificationError, match="line 3 does not follow"):
        chain(path)


def test_a_line_longer_than_any_other_is_followed_like_any_other(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit.jsonl")
    for key in ("a", "b" * 200_000, "c"):
        audit.append({"what": key, "decision": "refused"})
    assert len(chain(tmp_path / "audit.jsonl")[0]) == 3


def _write(path: Path) -> None:
    audit = Audit(path)
    for number in range(50):
        audit.append({"what": "é" * number, "decision": "allowed"})


def test_processes_write_one_log_together(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    workers = [multiprocessing.get_context("spawn").Process(target=_write, args=(path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert len(chain(path)[0]) == 150


def test_a_log_that_cannot_be_written_stops_everything(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    with pytest.raises(GateError, match=r"audit\.jsonl cannot be written: Is a directory; mend that first"):
        Audit(tmp_path / "audit.jsonl")
    with pytest.raises(GateError, match=r"none\.jsonl cannot be read: No such file"):
        chain(tmp_path / "none.jsonl")
