from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from gate.errors import VerificationError
from gate.mlflow_plugin import uploads

MODEL = "1/models/m-1/artifacts"


def test_files_are_not_frozen_while_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_PATIENCE", 0.2)
    with uploads.writing(tmp_path, f"{MODEL}/data/model.pt2"):
        with pytest.raises(VerificationError, match=f"files are being uploaded to '{MODEL}'"), _frozen(tmp_path):
            pass
        other = threading.Thread(target=_write, args=(tmp_path, f"{MODEL}/MLmodel"))
        other.start()
        other.join(10)
        assert not other.is_alive()  # others may write
    with _frozen(tmp_path):
        pass


@pytest.mark.parametrize("path", ["1", "1/models", "", f"{MODEL}/data", "1/models/m-1"])
def test_whatever_is_above_or_below_waits_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(uploads, "_PATIENCE", 0.2)
    with uploads.writing(tmp_path, path), pytest.raises(VerificationError), _frozen(tmp_path):
        pass


def test_a_model_does_not_wait_for_the_uploads_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_PATIENCE", 5.0)
    other = "1/models/m-2/artifacts"
    assert uploads._name(other) != uploads._name(MODEL)
    with uploads.writing(tmp_path, f"{MODEL}/x"):
        waiting = threading.Thread(target=_freeze, args=(tmp_path,))
        waiting.start()
        time.sleep(0.3)
        began = time.monotonic()
        with uploads.freezing(tmp_path, other):
            pass
        assert time.monotonic() - began < 2
        assert waiting.is_alive()
    waiting.join(10)


def test_a_lock_whose_file_was_removed_keeps_nobody_out_of_the_new_one(tmp_path: Path) -> None:
    order: list[str] = []
    written = threading.Event()

    def freeze() -> None:
        with _frozen(tmp_path):
            order.append("frozen")

    def write() -> None:
        with uploads.writing(tmp_path, f"{MODEL}/x"):
            written.wait(10)
            order.append("written")

    with uploads.writing(tmp_path, f"{MODEL}/x"):
        freezing = threading.Thread(target=freeze)
        freezing.start()
        time.sleep(0.3)
        for file in (*tmp_path.glob("*.lock"), *tmp_path.glob("*.turn")):
            file.unlink()
        writing = threading.Thread(target=write)
        writing.start()
        time.sleep(0.3)
    time.sleep(0.3)
    written.set()
    for each in (freezing, writing):
        each.join(10)
    assert order == ["written", "frozen"]


def test_models_of_a_workspace_have_locks_of_their_own() -> None:
    names = {uploads._name(f"workspaces/team/1/models/m-{number}/artifacts") for number in range(100)}
    assert len(names) > 32
    assert uploads._name("workspaces/team/1/models") == uploads._name("1/models") == "above"


def test_freezing_waits_for_an_upload_and_a_write_for_the_freezing(tmp_path: Path) -> None:
    order: list[str] = []
    started = threading.Event()

    def upload() -> None:
        with uploads.writing(tmp_path, f"{MODEL}/x"):
            started.set()
            time.sleep(0.3)
            order.append("uploaded")

    uploading = threading.Thread(target=upload)
    uploading.start()
    started.wait(10)
    with _frozen(tmp_path):
        order.append("frozen")
        later = threading.Thread(target=upload)
        later.start()
        time.sleep(0.2)
        order.append("still frozen")
    later.join(10)
    uploading.join(10)
    assert order == ["uploaded", "frozen", "still frozen", "uploaded"]


@pytest.mark.parametrize("path", [f"{MODEL}/x", "1"])
def test_many_that_write_in_turn_do_not_keep_a_model_from_being_frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(uploads, "_PATIENCE", 5.0)
    over = threading.Event()

    def again_and_again() -> None:
        while not over.is_set():
            _write(tmp_path, path, 0.1)

    crowd = [threading.Thread(target=again_and_again) for _ in range(8)]
    try:
        for each in crowd:
            each.start()
            time.sleep(0.03)  # never is there a moment in which nobody writes
        with _frozen(tmp_path):
            pass
    finally:
        over.set()
        for each in crowd:
            each.join(10)


@pytest.mark.parametrize("path", [MODEL, "1"])
def test_a_folder_that_is_written_file_by_file_does_not_wait_for_who_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(uploads, "_PATIENCE", 5.0)
    order: list[str] = []

    def freeze() -> None:
        with _frozen(tmp_path):
            order.append("frozen")

    with uploads.writing(tmp_path, path):
        waiting = threading.Thread(target=freeze)
        waiting.start()
        time.sleep(0.3)
        with uploads.writing(tmp_path, f"{MODEL}/x"):
            order.append("written")
    waiting.join(10)
    assert order == ["written", "frozen"]


@pytest.mark.parametrize("path", ["zzz", "", "1/models", f"{MODEL}/x"])
def test_a_path_takes_one_lock(tmp_path: Path, path: str) -> None:
    with uploads.writing(tmp_path, path):
        assert len(list(tmp_path.glob("*.lock"))) == 1


def test_what_lies_above_models_is_frozen_with_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_PATIENCE", 0.2)
    with uploads.writing(tmp_path, f"{MODEL}/x"), pytest.raises(VerificationError), uploads.freezing(tmp_path, "1"):
        pass
    with uploads.freezing(tmp_path, "1"):
        pass


def _write(folder: Path, path: str, seconds: float = 0) -> None:
    with uploads.writing(folder, path):
        time.sleep(seconds)


def _freeze(folder: Path) -> None:
    with _frozen(folder):
        pass


def _frozen(folder: Path) -> AbstractContextManager[None]:
    return uploads.freezing(folder, MODEL)
