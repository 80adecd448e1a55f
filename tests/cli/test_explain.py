"""`gate explain` from the command line to the page."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gate.cli import main
from gate.evidence import bundle, html
from gate.models.quiet import quiet_mlflow
from tests.evidence import samples

Asked = tuple[int, str, str]
POLICY = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: own, version: "1"}
rules: [{id: width, metric: effective_rank.share, min: 0.2, why: The index needs it.}]
"""


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Asked]:
    """Exit code, stdout and stderr of the command in a folder with evidence and a policy."""
    for name in ("sample", "passed"):
        shutil.copy(Path(samples.__file__).parent / "v1" / f"{name}.json", tmp_path)
    (tmp_path / "policy.yaml").write_text(POLICY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "10000")
    for name in ("FORCE_COLOR", "GATE_POLICY"):
        monkeypatch.delenv(name, raising=False)

    def asked(*arguments: str) -> Asked:
        capsys.readouterr()
        return main(["explain", *arguments]), *capsys.readouterr()

    return asked


def test_a_metric_is_explained_by_its_page(ask: Callable[..., Asked], capsys: pytest.CaptureFixture[str]) -> None:
    for address in ("effective_rank", "effective_rank.share"):
        code, out, err = ask(address)
        assert (code, err) == (0, "")
        main(["metrics", address])
        assert out.strip() == capsys.readouterr().out.strip()


def test_a_metric_is_told_with_what_was_recorded_of_it_and_the_rules_about_it(ask: Callable[..., Asked]) -> None:
    code, out, _ = ask("effective_rank", "--evidence", "sample.json", "-p", "policy.yaml")
    assert code == 0
    assert out.startswith("effective_rank  ")
    assert "\nall that was recorded of effective_rank at layer embedding\n" in out
    assert "\nrules of own about effective_rank\n  width  effective_rank.share of layer 'output'" in out
    assert "recorded of" not in ask("vci", "-p", "policy.yaml")[1]


def test_a_rule_is_explained_by_its_evidence(ask: Callable[..., Asked]) -> None:
    code, out, err = ask("rank", "--evidence", "sample.json")
    assert (code, err) == (0, "")
    assert out.startswith("rule rank: fail\n")
    assert "rows that push rank most to its failing side" in out
    for name in ("rank[language=ja]", "rank (relative)", "rank (worst gap)"):
        assert ask(name, "--evidence", "sample.json") == (0, out, "")


def test_a_rule_is_explained_by_its_policy(ask: Callable[..., Asked]) -> None:
    code, out, err = ask("width", "-p", "policy.yaml")
    assert (code, err) == (0, "")
    assert out.startswith("rule width of policy own@1\n")
    assert "The index needs it." in out


def test_with_both_the_evidence_comes_first_and_the_metric_is_explained_once(ask: Callable[..., Asked]) -> None:
    Path("both.yaml").write_text(POLICY.replace("id: width", "id: rank"))
    code, out, _ = ask("rank", "--evidence", "sample.json", "-p", "both.yaml")
    assert code == 0
    assert 0 == out.index("rule rank: fail\n") < out.index("\n\nrule rank of policy own@1\n")
    assert len(re.findall(r"^what effective_rank\S* is$", out, flags=re.MULTILINE)) == 1


def test_a_file_of_evidence_is_explained_by_what_did_not_pass_and_its_commands_work(ask: Callable[..., Asked]) -> None:
    code, out, err = ask("sample.json")
    assert (code, err) == (0, "")
    assert out.startswith("FAILED  models:/digits/2 is blocked")
    commands = re.findall(r"^  see +gate explain (.*)$", out, flags=re.MULTILINE)
    statuses = {result["rule"]: result["status"] for result in samples.recorded()["results"]}
    assert len(commands) == sum(status != "pass" for status in statuses.values())
    for command in commands:
        code, page, _ = ask(*command.split())
        assert (code, page.splitlines()[0]) == (0, f"rule {command.split()[0]}: {statuses[command.split()[0]]}")
    assert ask("passed.json")[1].startswith("PASSED  ")
    shutil.copy("passed.json", "3" * 32)  # like the id of a run
    assert ask("3" * 32)[1].startswith("PASSED  ")


def test_a_recorded_run_is_explained_by_its_id(
    ask: Callable[..., Asked], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    from gate.mlflow_plugin.recorder import record

    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    try:
        document = samples.recorded()
        document["model"].update(name=None, version=None, model_id=None, run_id=None)
        with quiet_mlflow():
            run = record(document, html.render(document))
        bundle.dump(document, Path("unregistered.json"))
        assert ask("rank", "--run", run)[1] == ask("rank", "--evidence", "unregistered.json")[1]
        for subject in (run, f"runs:/{run}"):
            code, out, _ = ask(subject)
            assert code == 0
            assert f"gate explain rank --run {subject}\n" in out
        code, out, err = ask("rank", "--run", "0" * 32)
        assert (code, out) == (3, "")
        assert "0" * 32 in err
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnk", "--evidence", "sample.json"], "there is no rule and no metric 'rnk'. Did you mean `rank`?"),
        (["zzz", "--evidence", "sample.json"], "The rules are: collapse, rank, "),
        (["widht", "-p", "policy.yaml"], "there is no rule and no metric 'widht'. Did you mean `width`?"),
        (["effectiv_rank"], "there is no metric 'effectiv_rank'. Did you mean `effective_rank`?"),
        (["share"], "Did you mean `effective_rank.share` or "),
        (["rank"], "--evidence PATH or --run ID"),
        (["missing.json"], "missing.json: cannot read evidence"),
        (["rank", "--evidence", "missing.json"], "missing.json: cannot read evidence"),
        (["rank", "--evidence", "policy.yaml"], "policy.yaml: is not evidence in JSON"),
        (["rank", "-p", "missing.yaml"], "'missing.yaml' does not exist"),
        (["rank", "--evidence", "sample.json", "--run", "3f2a"], "give one of them"),
    ],
)
def test_what_cannot_be_explained_is_a_fault_of_usage(
    ask: Callable[..., Asked], arguments: list[str], message: str
) -> None:
    code, out, err = ask(*arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_document_that_contradicts_itself_is_not_explained(ask: Callable[..., Asked], tmp_path: Path) -> None:
    document = samples.recorded()
    document["status"] = "passed"
    (tmp_path / "odd.json").write_text(json.dumps(document))
    code, out, err = ask("rank", "--evidence", "odd.json")
    assert (code, out) == (3, "")
    assert "do not trust it" in err


def test_nothing_heavy_is_imported_and_colour_follows_the_environment(tmp_path: Path) -> None:
    bundle.dump(samples.recorded(), tmp_path / "e.json")
    (tmp_path / "p.yaml").write_text(POLICY)
    root = Path(__file__).parents[2]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GATE_", "FORCE_"))}
    calls = [["e.json"], ["rank", "--evidence", "e.json"], ["width", "-p", "p.yaml"], ["vci"], ["vcii"]]
    heavy = "{'torch', 'mlflow', 'numpy', 'pandas', 'matplotlib', 'great_expectations'} & set(sys.modules)"
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r}); from gate.cli import main\n"
        f"for call in {calls!r}: main(['explain', *call])\nprint(); print({heavy})"
    )

    def said(**further: str) -> str:
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment | further, capture_output=True, text=True, check=True
        )
        return done.stdout

    plain = said()
    assert plain.endswith("\nset()\n")
    assert "\x1b" not in plain
    assert "\x1b[1;31m" in said(FORCE_COLOR="1")
    assert "\x1b" not in said(FORCE_COLOR="1", NO_COLOR="1")
