"""`gate calibrate` from the command line: where the policy and the report go, and how it exits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gate.calibration.writing import FIRST_LINE
from gate.cli import main
from gate.policy.loading import load_policy
from tests.calibration import versions
from tests.conftest import Demo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("versions")


@pytest.fixture(scope="module")
def probe(folder: Path) -> str:
    return str(versions.probe(folder))


@pytest.fixture(scope="module")
def good(folder: Path) -> list[str]:
    return [versions.good(folder, seed) for seed in range(5)]


def gate(*arguments: str, registry: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("gate")), "calibrate", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "GATE_"))}
    environment |= {"MLFLOW_TRACKING_URI": registry}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_stdout_is_the_policy_and_nothing_else(
    good: list[str], probe: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = versions.bad(folder, 0)
    assert main(["calibrate", *good, "--bad", bad, "--probe", probe, "--name", "clouds"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(FIRST_LINE)
    path = tmp_path / "p.yaml"
    path.write_text(out, encoding="utf-8")
    assert load_policy(path).policy.metadata.name == "clouds"
    assert err.startswith("clouds: 5 good versions and 1 bad of the model, 300 probe rows, ")
    assert re.search(r"the whole policy +failed", err)
    assert main(["check", bad, "-p", str(path)]) == 1
    assert main(["check", good[0], "-p", str(path)]) == 0


def test_quiet_says_nothing_and_a_file_takes_the_policy(
    good: list[str], probe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "p.yaml"
    assert main(["calibrate", *good[:1], "--probe", probe, "-o", str(path), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert "TOO THIN" in path.read_text(encoding="utf-8")
    assert main(["calibrate", *good[:2], "--probe", probe, "-o", str(path)]) == 0  # its own file it writes anew
    out, err = capsys.readouterr()
    assert out == ""
    assert f"wrote {path}" in err
    assert "warning: TOO THIN: 2 good versions" in err


def test_the_probe_set_may_come_from_the_environment(
    good: list[str], probe: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATE_PROBE", probe)
    assert main(["calibrate", *good[:3]]) == 0
    assert capsys.readouterr().out.startswith(FIRST_LINE)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["models:/digits"], 2, "error[usage]: 'models:/digits' names no version"),
        (["GOOD", "--layer", "embedding"], 2, "--layer 'embedding': expected NAME=PATH or NAME=PATH:POOLING"),
        (["GOOD", "--reads", "logits="], 2, "--reads 'logits=': expected NAME=PATH or NAME=PATH:POOLING"),
        (["GOOD", "--layer", "a=output", "--layer", "a=input"], 2, "--layer 'a=input': 'a' is given twice"),
        (["GOOD", "--false-alarm", "0.9"], 2, "the false-alarm rate must lie between 0 and 0.5"),
        (["GOOD", "-o", "FOLDER"], 2, "is a folder, expected the name of a file"),
        (["GOOD", "-o", "PROBE"], 2, "is an input of this command and would be overwritten"),
        (["GOOD", "-o", "FOREIGN"], 2, "is no policy of `gate calibrate`; name another file, or remove it yourself"),
        (["GOOD", "-o", "GOOD_FILE/p.yaml"], 3, "cannot be written"),
        (["features:nowhere.npz"], 3, "nowhere.npz"),
        (["GOOD", "--layer", "a=hidden"], 3, "has no layer 'hidden'"),
        (
            ["GOOD", "GOOD_2", "--like", "LIKE"],
            5,
            "error[nothing-evaluated]: no rule can be bounded by 2 good versions",
        ),
    ],
)
def test_what_goes_wrong_has_a_code_and_a_message(
    arguments: list[str],
    code: int,
    message: str,
    good: list[str],
    probe: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    foreign, like = tmp_path / "mine.yaml", tmp_path / "like.yaml"
    foreign.write_text("rules: []\n", encoding="utf-8")
    head = "apiVersion: gate/v1\nkind: Policy\nmetadata: {name: mine, version: '3.0'}\n"
    like.write_text(f"{head}rules:\n  - {{id: flat, metric: dead_unit_share, max: 1}}\n", encoding="utf-8")
    words = {
        "GOOD": good[0],
        "GOOD_2": good[1],
        "FOLDER": str(tmp_path),
        "PROBE": probe,
        "FOREIGN": str(foreign),
        "LIKE": str(like),
        "GOOD_FILE/p.yaml": f"{good[0].removeprefix('features:')}/p.yaml",
    }
    assert main(["calibrate", *(words.get(each, each) for each in arguments), "--probe", probe]) == code
    out, err = capsys.readouterr()
    assert out == "" or code == 3
    assert message in err
    assert foreign.read_text(encoding="utf-8") == "rules: []\n"


def test_a_registered_model_that_nobody_says_where_to_read_lists_its_layers(demo: Demo) -> None:
    registry = f"sqlite:///{demo.folder / 'mlflow.db'}"
    done = gate("models:/digits", "--good", "1", "--probe", str(demo.folder / "probe.yaml"), registry=registry)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "error[usage]: say where to read: --layer NAME=PATH" in done.stderr
    assert re.search(r"its layers are: backbone, .*, embedding, .*, head, output", done.stderr)


def test_registered_versions_are_calibrated_by_their_numbers(demo: Demo, tmp_path: Path) -> None:
    registry = f"sqlite:///{demo.folder / 'mlflow.db'}"
    path = tmp_path / "p.yaml"
    options = ["--like", "classifier", "--probe", str(demo.folder / "probe.yaml"), "-o", str(path)]
    done = gate("models:/digits", "--good", "1", "--bad", "2", *options, registry=registry)
    assert (done.returncode, done.stdout) == (0, "")
    policy = load_policy(path).policy
    pack = load_policy("classifier").policy
    assert policy.metadata.name == "digits"
    assert {rule.id: rule.why for rule in policy.rules}.items() <= {rule.id: rule.why for rule in pack.rules}.items()
    assert policy.layers == pack.layers
    assert "warning: TOO THIN: one good version" in done.stderr
    assert re.search(r"^  rule +2$", done.stderr, flags=re.MULTILINE)
    assert re.search(r"^  collapse +caught$", done.stderr, flags=re.MULTILINE)
