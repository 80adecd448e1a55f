"""`gate backtest` from the command line, over files and over what checks recorded in MLflow."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.backtest.__main__ import timed
from benchmarks.backtest.store import NAME, fill
from gate.cli import main

SAMPLES = Path(__file__).parents[1] / "evidence" / "v1"
POLICY = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "2.0.0"}
layers: {embedding: {path: backbone.4}}
rules:
  - {id: rank, metric: effective_rank, layer: embedding, min: 50}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "evidence").mkdir()
    for name in ("passed", "sample"):
        shutil.copy(SAMPLES / f"{name}.json", tmp_path / "evidence")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Six recorded checks, and a policy with another bound."""
    return fill(tmp_path_factory.mktemp("store"), 6)


@pytest.mark.usefixtures("folder")
def test_every_version_has_a_line_and_every_change_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backtest", "policy.yaml", "--evidence", "evidence", "--date", "2026-11-21"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "BACKTEST  encoder@2.0.0 (policy.yaml) on 2026-11-21"
    assert lines[1] == "2 versions: 1 with another verdict, 1 with the same, 0 cannot be replayed"
    assert lines[2].startswith("note: 2 different probe sets, whose numbers cannot be set against each other: ")
    assert lines[4].split() == ["version", "recorded", "replayed", "rules", "that", "change"]
    assert lines[5].startswith("models:/digits/1  passed    failed    rank, collapse, cone")
    assert lines[6].startswith("models:/digits/2  failed    failed    collapse")
    assert "  rank: pass → fail: effective_rank of layer 'embedding' is 41.9 [41.3, 42.4], must be at least 50" in lines
    assert err == ""


def test_what_cannot_be_replayed_is_3_and_says_what_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "policy.yaml").write_text(POLICY.replace("backbone.4", "backbone.5"), encoding="utf-8")
    assert main(["backtest", "policy.yaml", "--evidence", "evidence"]) == 3
    out = capsys.readouterr().out
    assert "2 versions: 0 with another verdict, 0 with the same, 2 cannot be replayed" in out
    assert "  not replayed: layer 'embedding' was read at 'backbone.4'" in out
    assert "  = gate check models:/digits/1 -p policy.yaml" in out


def test_what_cannot_be_read_is_3_beside_what_can(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "evidence" / "passed.json"
    path.write_text(path.read_text(encoding="utf-8")[:5000], encoding="utf-8")
    assert main(["backtest", "policy.yaml", "--evidence", "evidence"]) == 3
    out = capsys.readouterr().out
    assert "1 with the same, 1 cannot be replayed" in out
    assert "evidence/passed.json  unknown   unknown" in out


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give --model NAME, --evidence PATH or both"),
        (["--model", "models:/encoder"], 2, "--model takes the name of a registered model"),
        (["--model", ""], 2, "without version or alias; found ''"),
        (["--evidence", "nowhere"], 2, "there is no file or folder 'nowhere'"),
        (["--evidence", "evidence", "--date", "soon"], 2, "--date should be a day such as 2027-01-31, found 'soon'"),
        (["--evidence", "evidence", "-o", "junit"], 2, "There are: text, json, markdown."),
        (["--evidence", "evidence", "-o", "text=policy.yaml"], 2, "is an input of this command"),
        (["--evidence", "evidence", "-o", "json=evidence/passed.json"], 2, "is no json report of the gate"),
        (["--evidence", "empty"], 5, "no evidence was found, so nothing was replayed"),
    ],
)
def test_bad_usage_is_2_and_nothing_to_replay_is_5(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    Path("empty").mkdir()
    assert main(["backtest", "policy.yaml", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert Path("policy.yaml").read_text(encoding="utf-8") == POLICY


@pytest.mark.parametrize(
    ("text", "code"), [(POLICY.replace("min: 50", "min: .nan"), 2), (POLICY.partition("rules")[0], 5)]
)
def test_a_bad_policy_is_2_and_an_empty_one_5(
    folder: Path, capsys: pytest.CaptureFixture[str], text: str, code: int
) -> None:
    (folder / "policy.yaml").write_text(text, encoding="utf-8")
    assert main(["backtest", "policy.yaml", "--evidence", "evidence"]) == code
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("folder")
def test_every_format_is_written_over_that_of_before(capsys: pytest.CaptureFixture[str]) -> None:
    targets = ["-o", "markdown=out/b.md", "-o", "text=out/b.txt", "-o", "json"]
    for _ in range(2):
        assert main(["backtest", "policy.yaml", "--evidence", "evidence", *targets]) == 0
        document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "gate.backtest/v1"
    assert [(each["before"]["status"], each["after"]["status"], each["changed"]) for each in document["versions"]] == [
        ("passed", "failed", True),
        ("failed", "failed", False),
    ]
    page = Path("out/b.md").read_text(encoding="utf-8")
    assert "| models:/digits/1 | passed | failed | rank: pass → fail: effective\\_rank of layer" in page


def test_an_old_report_does_not_outlive_a_backtest_that_stops(folder: Path) -> None:
    report = folder / "b.txt"
    arguments = ["backtest", "policy.yaml", "--evidence", "evidence", "-o", f"text={report}"]
    assert main(arguments) == 0
    (folder / "policy.yaml").write_text("rules: [", encoding="utf-8")
    assert main(arguments) == 2
    assert not report.exists()


def test_what_checks_recorded_is_replayed(
    store: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uri, policy = store
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert main(["backtest", str(policy), "--model", NAME, "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [each["model"] for each in document["versions"]] == [f"models:/{NAME}/{number}" for number in range(1, 7)]
    assert {each["before"]["status"] for each in document["versions"]} == {"passed", "failed"}
    changes = [[change["finding"] for change in each["changes"]] for each in document["versions"]]
    assert changes == [[], ["directions"]] * 3
    run = document["versions"][1]["source"].removeprefix("run ")
    assert main(["report", run, "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["model"]["resolved"] == f"models:/{NAME}/2"
    assert main(["report", f"runs:/{run}"]) == 1
    assert main(["policy", "diff", str(policy), str(policy), "--model", NAME]) == 0
    assert "0 with another verdict, 6 with the same" in capsys.readouterr().out
    assert main(["backtest", str(policy), "--model", "nobody"]) == 5
    assert main(["report", "f" * 32]) == 3


def test_no_model_is_run_and_torch_is_not_imported(store: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    uri, policy = store
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    code = (
        f"import sys; from gate.cli import main; code = main(['backtest', {str(policy)!r}, '--model', {NAME!r}]); "
        "print(code, {'torch', 'great_expectations', 'matplotlib', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "0 set()", done.stderr


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("arguments", [["--evidence", "evidence"], []])
def test_the_collector_of_garbage_is_back_on(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(["backtest", "policy.yaml", *arguments]) == (0 if arguments else 2)
    assert capsys.readouterr() != ("", "")
    assert gc.isenabled()


def test_files_are_replayed_without_mlflow(folder: Path) -> None:
    code = (
        "import sys; from gate.cli import main; code = main(['backtest', 'policy.yaml', '--evidence', 'evidence']); "
        "print(code, {'torch', 'mlflow', 'great_expectations', 'pandas', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "0 set()", done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_hundred_checks_are_replayed_in_seconds(tmp_path: Path) -> None:
    uri, policy = fill(tmp_path, 500)
    taken = min(timed(uri, policy) for _ in range(2))
    assert taken.wall < 20  # 5 on a core of its own: benchmarks/backtest/RESULTS.md
