"""Policies as people break them: every fault of a file at once, each with its place and what to do about it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gate.cli import main
from gate.errors import PolicyError
from gate.policy import load_policy

BROKEN = Path(__file__).with_name("broken")
NAMES = sorted(path.stem for path in BROKEN.glob("*.yaml"))
FAULT = re.compile(r"^(\S+\.yaml):(\d+):(\d+): error\[policy\]: (?P<message>.+)$")
ONE_AT_A_TIME = {"several-documents", "tabs", "unquoted-signs"}  # what is no YAML has no keys to look at


@pytest.fixture(autouse=True)
def _there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BROKEN)


def expected(name: str) -> list[str]:
    return Path(f"{name}.expected").read_text(encoding="utf-8").splitlines()


def test_there_are_many_and_each_has_several_faults() -> None:
    assert len(NAMES) >= 20
    assert {path.stem for path in BROKEN.glob("*.expected")} == set(NAMES)
    assert {name for name in NAMES if len(expected(name)) < 3} == ONE_AT_A_TIME


@pytest.mark.parametrize("name", NAMES)
def test_all_faults_of_a_policy_come_at_once_and_no_others(name: str) -> None:
    with pytest.raises(PolicyError) as raised:
        load_policy(f"{name}.yaml")
    assert str(raised.value).splitlines() == expected(name)


@pytest.mark.parametrize("name", NAMES)
def test_gate_policy_validate_prints_them_and_exits_with_2(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "validate", f"{name}.yaml"]) == 2
    stdout, stderr = capsys.readouterr()
    assert (stdout, stderr.splitlines()) == ("", expected(name))


def test_a_process_exits_with_2_for_all_of_them() -> None:
    command = [sys.executable, "-m", "gate", "policy", "validate", *(f"{name}.yaml" for name in NAMES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [line for name in NAMES for line in expected(name)]


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_is_at_a_place_of_a_file_and_in_words_for_people(name: str) -> None:
    for line in expected(name):
        found = FAULT.match(line)
        assert found is not None, line
        text = Path(found[1]).read_text(encoding="utf-8").splitlines()[int(found[2]) - 1]
        assert 1 <= int(found[3]) <= len(text) + 1, line
        assert not text[int(found[3]) - 1 :][:1].isspace() or "a tab" in line, line
        assert not re.search(
            r"Input should|Extra inputs|valid (string|number|tuple)|Value error|Field required", line
        ), line
        assert re.search(r"should|is required|needs|did you mean|there is no|;|\. ", found["message"], re.IGNORECASE), (
            line
        )


def test_the_policy_that_some_of_them_extend_is_good() -> None:
    assert [rule.id for rule in load_policy("bases/company.yaml").policy.rules] == ["rank", "languages"]


def test_numbers_and_words_that_look_broken_are_read_as_they_are_written() -> None:
    lines = Path("not-a-number.yaml").read_text(encoding="utf-8").splitlines()
    assert "1e-3" in lines[6]
    assert not [line for line in expected("not-a-number") if ":7:" in line]
    words = Path("words-for-switches.yaml").read_text(encoding="utf-8").splitlines()
    assert "name: no" in words[3]
    assert not [line for line in expected("words-for-switches") if ":4:" in line]
