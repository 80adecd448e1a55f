from __future__ import annotations

import json
import os
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from gate.evidence.environment import environment, in_repository, repository, version


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text("rules: []\n")
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_a_run_is_described_in_plain_json(tmp_path: Path) -> None:
    started = datetime(2026, 11, 21, 18, 30, tzinfo=timezone(timedelta(hours=9)))
    run = environment(
        device="cpu",
        precision="float32",
        seed=7,
        confidence=0.95,
        started=started,
        seconds=1.23456,
        directory=tmp_path,
    )
    assert run == json.loads(json.dumps(run, allow_nan=False))
    assert run["started"] == "2026-11-21T09:30:00+00:00"
    assert run["seconds"] == 1.235
    assert (run["device"], run["precision"], run["seed"], run["confidence"]) == ("cpu", "float32", 7, 0.95)
    assert run["torch"]
    assert run["mlflow"]
    assert run["python"]


def test_a_clean_checkout_has_a_commit_and_no_changes(checkout: Path) -> None:
    found = repository(checkout)
    assert found is not None
    assert len(found["commit"]) == 40
    assert found["dirty"] is False


def test_a_changed_checkout_is_dirty(checkout: Path) -> None:
    (checkout / "policy.yaml").write_text("rules: [1]\n")
    found = repository(checkout)
    assert found is not None
    assert found["dirty"] is True


def test_outside_of_a_repository_there_is_none(tmp_path: Path) -> None:
    assert repository(tmp_path) is None
    assert repository(tmp_path / "missing") is None


def test_without_git_there_is_no_repository(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    assert repository(checkout) is None


def test_a_distribution_that_is_not_installed_has_no_version() -> None:
    assert version("no-such-distribution-anywhere") is None
    assert version("torch") is not None


def test_a_file_is_named_as_its_repository_names_it(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "policies").mkdir()
    (checkout / "policies" / "p.yaml").touch()
    monkeypatch.chdir(checkout / "policies")
    for path in ("p.yaml", "../policies/p.yaml", str(checkout / "policies" / "p.yaml")):
        assert in_repository(path) == "policies/p.yaml"


def test_outside_of_a_repository_a_file_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").touch()
    assert in_repository(str(tmp_path / "p.yaml")) == str(tmp_path / "p.yaml")
    assert in_repository("classifier") == "classifier"
