"""`gate policy show` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gate.cli import main

CHILD = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: child, version: "1.0.0"}
extends: [embedding@1]
rules:
  - {id: own, metric: effective_rank, layer: embedding, min: 3}
"""


@pytest.fixture
def child(tmp_path: Path) -> Path:
    path = tmp_path / "child.yaml"
    path.write_text(CHILD, encoding="utf-8")
    return path


def test_what_is_shown_is_a_valid_policy(child: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "show", str(child)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "# embedding@1:" in out
    again = child.with_name("again.yaml")
    again.write_text(out, encoding="utf-8")
    assert main(["policy", "validate", str(again)]) == 0
    capsys.readouterr()
    assert main(["policy", "diff", str(child), str(again)]) == 0
    assert "nothing differs that decides anything" in capsys.readouterr().out


def test_without_origin_there_are_no_comments(child: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "show", str(child), "--no-origin"]) == 0
    assert "#" not in capsys.readouterr().out


def test_a_pack_is_shown_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "show", "embedding"]) == 0
    assert "  name: embedding\n" in capsys.readouterr().out


@pytest.mark.parametrize(("change", "code"), [(("min: 3", "mni: 3"), 2), (("embedding@1", "embeding@1"), 2)])
def test_a_policy_with_faults_is_not_shown(
    child: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], code: int
) -> None:
    child.write_text(CHILD.replace(*change), encoding="utf-8")
    assert main(["policy", "show", str(child)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "error[policy]" in err
