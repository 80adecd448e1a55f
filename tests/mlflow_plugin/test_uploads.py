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
        with uploads.writing(tmp_path, f"{MODEL}/MLmodel"):  # others may write
            pass
    with _frozen(tmp_path):
        pass


@pytest.mark.parametrize("path", ["1", "1/models", "", f"{MODEL}/data", "1/models/m-1"])
def test_whatever_is_above_or_below_waits_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(uploads, "_PATIENCE", 0.2)
    with uploads.writing(tmp_path, path), pytest.raises(VerificationError), _frozen(tmp_path):
        pass


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


def _frozen(folder: Path) -> AbstractContextManager[None]:
    return uploads.freezing(folder, MODEL)
