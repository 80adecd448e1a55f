"""`gate report`: every format again, with the exit code of the recorded verdict."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gate.cli import main
from gate.cli.outputs import FORMATS
from gate.evidence import bundle, junit, text
from gate.verdict import FailOn

SAMPLES = Path(__file__).parents[1] / "evidence" / "v1"
RECORDED = sorted(SAMPLES.glob("*.json"))


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_the_format_does_not_change_the_exit_code(capsys: pytest.CaptureFixture[str], path: Path, format_: str) -> None:
    document = bundle.load(path)
    assert main(["report", str(path), "-o", format_]) == document["exit_code"]
    out, err = capsys.readouterr()
    assert err == ""
    rules = {result["rule"] for result in document["results"]}
    named = {rule for rule in rules if rule in out}
    assert named == rules or format_ == "github"  # which tells of the worst ten alone


def test_text_is_what_a_check_prints(capsys: pytest.CaptureFixture[str]) -> None:
    main(["report", str(SAMPLES / "sample.json")])
    assert capsys.readouterr().out == text.render(bundle.load(SAMPLES / "sample.json"))


@pytest.mark.parametrize(
    ("name", "fail_on", "code"),
    [
        ("sample", "never", 0),
        ("sample", "fail", 1),
        ("error", "never", 3),
        ("passed", "warn", 0),
    ],
)
def test_fail_on_silences_what_it_silences_in_a_check(
    capsys: pytest.CaptureFixture[str], name: str, fail_on: FailOn, code: int
) -> None:
    assert main(["report", str(SAMPLES / f"{name}.json"), "--fail-on", fail_on, "-o", "json"]) == code
    printed = capsys.readouterr()
    assert json.loads(printed.out)["status"] == bundle.load(SAMPLES / f"{name}.json")["status"]
    told = "the verdict is failed; with --fail-on never it does not set the exit code\n"
    assert printed.err == (told if (name, fail_on) == ("sample", "never") else "")


def test_several_formats_go_to_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    targets = [f"{format_}={tmp_path}/gate.{format_}" for format_ in FORMATS if format_ != "text"]
    arguments = ["report", str(SAMPLES / "passed.json"), *(each for target in targets for each in ("-o", target))]
    for _ in range(2):
        assert main([*arguments, "-o", "text"]) == 0
    assert capsys.readouterr().out.count("PASSED") == 2
    assert (tmp_path / "gate.junit").read_text(encoding="utf-8") == junit.render(bundle.load(SAMPLES / "passed.json"))


def test_standard_input_is_read() -> None:
    command = [sys.executable, "-m", "gate", "report", "-", "-o", "markdown"]
    content = (SAMPLES / "sample.json").read_bytes()
    done = subprocess.run(command, input=content, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("### ❌ FAILED".encode())
    done = subprocess.run(command, input=b"\xff", capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"standard input: is not evidence in JSON" in done.stderr


def edited(path: Path, edit: dict[str, Any]) -> Path:
    document = json.loads((SAMPLES / "passed.json").read_text(encoding="utf-8"))
    path.write_text(json.dumps(document | edit), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        ({"status": "failed"}, 3),
        ({"exit_code": 1}, 3),
        ({"results": []}, 3),
        ({"schema": "gate.evidence/v2"}, 2),
        ({"estimates": None}, 2),
    ],
)
def test_evidence_that_contradicts_itself_is_not_rendered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], edit: dict[str, Any], code: int
) -> None:
    stale = tmp_path / "report.md"
    stale.write_text("### ✅ PASSED: models:/digits/1 passes: .\n\n<!-- geometry-gate -->\n", encoding="utf-8")
    arguments = ["report", str(edited(tmp_path / "e.json", edit)), "-o", "text", "-o", f"markdown={stale}"]
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(r"e\.json: ", err)
    assert not stale.exists()  # no verdict, and none of before


@pytest.mark.parametrize("result", ["nowhere.json", "f" * 33, ""])
def test_what_is_not_there_is_2(capsys: pytest.CaptureFixture[str], result: str) -> None:
    assert main(["report", result]) == 2
    assert "cannot read evidence" in capsys.readouterr().err


def test_the_evidence_itself_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = edited(tmp_path / "e.json", {})
    before = path.read_bytes()
    assert main(["report", str(path), "-o", f"json={path}"]) == 2
    assert "is an input of this command" in capsys.readouterr().err
    assert path.read_bytes() == before
