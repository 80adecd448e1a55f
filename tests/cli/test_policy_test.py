"""`gate policy test` from the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gate.cli import main

POLICY = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "1.0.0"}
rules:
  - {id: rank, metric: effective_rank, min: 30}
"""
TESTS = """\
kind: PolicyTests
policy: policy.yaml
tests:
  - name: a collapsed model is blocked
    given: {effective_rank: {value: 20, interval: [18, 22]}}
    expect: {status: failed, exit_code: 1, fail: [rank]}
  - name: a healthy model passes
    given: {effective_rank: {value: 40, interval: [38, 42]}}
    expect: {status: passed, exit_code: 0, pass: [rank]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "policy.test.yaml").write_text(TESTS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_the_tests_below_the_current_folder_are_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "test"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "ok  2 policy tests: 2 passed, 0 failed"
    assert err == ""


def test_a_test_that_fails_exits_with_1_and_says_why(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "policy.yaml"
    path.write_text(POLICY.replace("30", "41"), encoding="utf-8")
    assert main(["policy", "test", str(folder)]) == 1
    out, _ = capsys.readouterr()
    assert out.splitlines()[0] == "FAILED  2 policy tests: 1 passed, 1 failed"
    assert "status: expected passed, found inconclusive" in out


def test_a_file_with_faults_exits_with_2_and_nothing_is_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "b.test.yaml").write_text(TESTS.replace("expect", "expct"), encoding="utf-8")
    (folder / "c.test.yaml").write_text(TESTS.replace("[rank]", "[rnk]"), encoding="utf-8")
    assert main(["policy", "test"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "b.test.yaml:6:5: error[policy]: tests.0.expct" in err
    assert "c.test.yaml:6:51: error[policy]: tests.0.expect.fail.0: there is no rule 'rnk'" in err


def test_a_policy_with_faults_exits_with_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "policy.yaml").write_text(POLICY.replace("min:", "mni:"), encoding="utf-8")
    assert main(["policy", "test"]) == 2
    assert "policy.yaml:5:40: error[policy]: rules.0.mni" in capsys.readouterr().err


def test_the_example_of_the_help_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "test", "--help"]) == 0
    example = capsys.readouterr().out.partition("Such as:")[2].partition("All keys")[0]
    (folder / "policy.test.yaml").write_text(example, encoding="utf-8")
    assert main(["policy", "test"]) == 0
    assert "1 policy test: 1 passed" in capsys.readouterr().out


def test_no_tests_exit_with_5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["policy", "test"]) == 5
    (tmp_path / "x.test.yaml").write_text("kind: Deployment\n", encoding="utf-8")
    assert main(["policy", "test"]) == 5
    out, err = capsys.readouterr()
    assert out == ""
    assert "left out for their kind: x.test.yaml" in err
    assert main(["policy", "test", "nowhere"]) == 2


def test_a_policy_without_rules_exits_with_5(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "policy.yaml").write_text(POLICY.partition("rules")[0], encoding="utf-8")
    assert main(["policy", "test"]) == 5
    assert "has no rules" in capsys.readouterr().err


def test_files_of_another_kind_are_named_on_stderr(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "x.test.yaml").write_text("kind: Deployment\n", encoding="utf-8")
    assert main(["policy", "test"]) == 0
    assert capsys.readouterr().err == "left out x.test.yaml: it is of another kind\n"


def test_both_formats_at_once_and_over_the_reports_of_before(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["policy", "test", "-o", "junit=out/junit.xml", "-o", "text"]) == 0
    assert capsys.readouterr().out.startswith("ok  2 policy tests")
    assert (folder / "out" / "junit.xml").read_text(encoding="utf-8").count("<testcase ") == 2


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("sarif", "There are: text, junit."),
        ("junit=policy.yaml", "'policy.yaml' is no junit report of the gate"),
        ("text=policy.test.yaml", "'policy.test.yaml' is no text report of the gate"),
    ],
)
def test_nothing_else_is_overwritten(
    folder: Path, capsys: pytest.CaptureFixture[str], output: str, message: str
) -> None:
    assert main(["policy", "test", "-o", output]) == 2
    assert message in capsys.readouterr().err
    assert (folder / "policy.yaml").read_text(encoding="utf-8") == POLICY


def test_nothing_heavy_is_imported(folder: Path) -> None:
    code = (
        "import sys; from gate.cli import main; code = main(['policy', 'test']); "
        "print(code, {'torch', 'mlflow', 'great_expectations', 'pandas', 'numpy', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "0 set()", done.stderr
