"""`gate policy diff` from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gate.cli import main

SAMPLES = Path(__file__).parents[1] / "evidence" / "v1"
OLD = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "1.0.0"}
layers: {embedding: {path: backbone.4}}
rules:
  - {id: rank, metric: effective_rank, layer: embedding, min: 9}
  - {id: cone, metric: mean_cosine, layer: embedding, max: 0.5}
  - {id: gone, metric: participation_ratio, layer: embedding, min: 1}
"""
NEW = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "1.1.0"}
layers: {embedding: {path: backbone.4}}
rules:
  - {id: rank, metric: effective_rank, layer: embedding, min: 50}
  - {id: cone, metric: mean_cosine, layer: embedding, max: 0.6}
  - {id: come, metric: collapse_index, layer: embedding, max: 0.9}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "old.yaml").write_text(OLD, encoding="utf-8")
    (tmp_path / "new.yaml").write_text(NEW, encoding="utf-8")
    (tmp_path / "evidence").mkdir()
    shutil.copy(SAMPLES / "passed.json", tmp_path / "evidence")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def diff(*more: str) -> int:
    return main(["policy", "diff", "old.yaml", "new.yaml", *more])


@pytest.mark.usefixtures("folder")
def test_rules_are_told_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert diff() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "POLICY DIFF  encoder@1.0.0 (old.yaml) → encoder@1.1.0 (new.yaml)"
    assert lines[1] == "1 removed, 1 loosened, 1 tightened, 1 added"
    assert [line for line in lines[2:] if line and not line.startswith(" ")] == [
        "removed rule gone",
        "loosened rule cone",
        "tightened rule rank",
        "added rule come",
    ]
    assert "  min: 9 → 50 (tightened)" in lines


@pytest.mark.usefixtures("folder")
def test_versions_whose_verdict_changes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert diff("--against", "evidence", "--date", "2026-11-21") == 0
    out = capsys.readouterr().out
    assert "on 2026-11-21, 1 version: 1 with another verdict, 0 with the same, 0 cannot be replayed" in out
    assert "models:/digits/1  passed      failed      rank, come, gone" in out
    assert "  rank: pass → fail: effective_rank of layer 'embedding' is 41.9 " in out
    assert main(["policy", "diff", "old.yaml", "old.yaml", "--against", "evidence"]) == 0
    assert "0 with another verdict, 1 with the same" in capsys.readouterr().out


def test_a_version_that_cannot_be_replayed_is_3(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "new.yaml").write_text(NEW.replace("backbone.4", "backbone.5"), encoding="utf-8")
    assert diff("--against", "evidence/passed.json") == 3
    assert "not replayed: layer 'embedding' was read at 'backbone.4'" in capsys.readouterr().out
    (folder / "new.yaml").write_text(NEW, encoding="utf-8")
    (folder / "evidence" / "passed.json").write_text("{", encoding="utf-8")
    assert diff("--against", "evidence/passed.json") == 3


def test_nothing_to_replay_is_no_agreement(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "evidence" / "passed.json").unlink()
    assert diff("--against", "evidence") == 5
    assert diff("--against", "nowhere") == 2
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("folder")
def test_json_and_markdown_hold_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert diff("--against", "evidence", "-o", "json", "-o", "markdown=diff.md", "-o", "text=diff.txt") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "gate.policy-diff/v1"
    assert document["kinds"] == {"removed": 1, "loosened": 1, "changed": 0, "tightened": 1, "added": 1, "reworded": 0}
    assert document["counts"] == {"versions": 1, "changed": 1, "unchanged": 0, "not_replayed": 0}
    page = Path("diff.md").read_text(encoding="utf-8")
    assert page.startswith("### Policy encoder@1.0.0 (old.yaml) → encoder@1.1.0 (new.yaml)\n\n<!-- geometry-gate -->\n")
    assert "| rule rank | tightened | min: 9 → 50 (tightened) |" in page
    assert "| models:/digits/1 | passed | failed |" in page
    assert diff("-o", "markdown=diff.md", "-o", "text=diff.txt") == 0  # over those of before


@pytest.mark.parametrize("output", ["junit", "text=old.yaml", "json=evidence/passed.json", "markdown=new.yaml"])
def test_nothing_else_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str], output: str) -> None:
    assert diff("--against", "evidence/passed.json", "-o", output) == 2
    assert "error[usage]" in capsys.readouterr().err
    assert (folder / "old.yaml").read_text(encoding="utf-8") == OLD


def test_a_policy_with_faults_is_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "new.yaml").write_text(NEW.replace("min: 50", "min: .nan"), encoding="utf-8")
    assert diff() == 2
    assert "new.yaml:6:58: error[policy]: rules.0.min" in capsys.readouterr().err
    assert diff("--date", "2027-02-30") == 2
