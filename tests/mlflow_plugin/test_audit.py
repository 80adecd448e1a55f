from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from gate.errors import GateError, VerificationError
from gate.mlflow_plugin.audit import Audit, entries


def test_every_decision_is_a_line_that_follows_from_the_one_before(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "logs" / "audit.jsonl")
    assert list(entries(tmp_path / "logs" / "audit.jsonl")) == []
    for number in range(3):
        audit.append({"what": f"alias {number}", "decision": "allowed"})
    found = list(entries(tmp_path / "logs" / "audit.jsonl"))
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
        list(entries(path))


def test_a_line_longer_than_any_other_is_followed_like_any_other(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit.jsonl")
    for key in ("a", "b" * 200_000, "c"):
        audit.append({"what": key, "decision": "refused"})
    assert len(list(entries(tmp_path / "audit.jsonl"))) == 3


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
    assert len(list(entries(path))) == 150


def test_a_log_that_cannot_be_written_stops_everything(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    with pytest.raises(GateError, match=r"audit\.jsonl cannot be written: Is a directory; mend that first"):
        Audit(tmp_path / "audit.jsonl")
    with pytest.raises(GateError, match=r"none\.jsonl cannot be read: No such file"):
        list(entries(tmp_path / "none.jsonl"))
