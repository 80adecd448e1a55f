"""The GitHub Action `check`, run as GitHub would: the real gate, on vectors, and nothing from the network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gate.cli.outputs import FORMATS
from tests.action.runner import Done, load, run

ACTION = Path(__file__).parents[2] / ".github" / "actions" / "check"
POLICY = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: vectors, version: "1"}
probe: {uri: rows.npz, columns: {input: x, id: id}}
rules:
  - {id: rank, metric: effective_rank, layer: output, min: BOUND}
  - {id: cosine, metric: mean_cosine, layer: output, max: 0.5}
"""
# What the runner finds as python3: the install is written down, and leads to the environment of this session.
PYTHON3 = f"""\
#!/usr/bin/env bash
case "$*" in
"-m venv "*)
    mkdir -p "${{@: -1}}/bin"
    cp "$TOOLS/python" "${{@: -1}}/bin/python"
    ;;
*) exec {sys.executable} "$@" ;;
esac
"""
PYTHON = f"""\
#!/usr/bin/env bash
if [ "$2" = pip ]; then
    echo "::error::said by pip"
    printf "%s\\n" "$@" >"$RUNNER_TEMP/pip"
    exit "${{PIP_FAILS:-0}}"
fi
printf %s "$GATE_ATTESTATION" >"$RUNNER_TEMP/attestation"
exec {sys.executable} "$@"
"""
NOTHING = dict.fromkeys(("model-digest", "policy-digest", "json", "junit", "sarif", "attestation"), "")


class Workspace:
    """A checkout with a policy and vectors, and what the runner has on its PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work space"
        self.temporary, self._tools = folder / "runner-temp", folder / "tools"
        self.folder.mkdir()
        self._tools.mkdir()
        rows = np.random.default_rng(0).normal(size=(300, 12)).astype(np.float32)
        np.savez(self.folder / "rows.npz", x=rows, id=np.array([f"row-{row}" for row in range(300)]))
        for name, text in {"python3": PYTHON3, "python": PYTHON}.items():
            self._tools.joinpath(name).write_text(text, encoding="utf-8")
            self._tools.joinpath(name).chmod(0o755)

    def policy(self, name: str, text: str) -> str:
        self.folder.joinpath(name).write_text(text, encoding="utf-8")
        return name

    def check(self, inputs: Mapping[str, str], **environment: str) -> Done:
        variables = {"PATH": f"{self._tools}:/usr/bin:/bin", "TOOLS": str(self._tools), **environment}
        given = {"model": "features:rows.npz", **inputs}
        return run(ACTION, given, workspace=self.folder, environment=variables)

    def installed(self) -> str:
        """What pip was asked for."""
        *options, source = (self.temporary / "pip").read_text(encoding="utf-8").splitlines()
        assert options == ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--"]
        return source

    def leave_reports(self) -> set[str]:
        """Reports of an earlier run in every format, and files that are none."""
        names = {*(f"gate.{name}" for name in (*FORMATS, "attestation.json")), "notes.txt", "gate.yaml"}
        (self.folder / "gate-report").mkdir()
        for name in names:
            (self.folder / "gate-report" / name).write_text('{"status": "passed"}', encoding="utf-8")
        return names

    def files(self, folder: str = "gate-report") -> set[str]:
        return {path.name for path in (self.folder / folder).glob("*")}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("action"))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Workspace(tmp_path)


@pytest.fixture(scope="module")
def passed(shared: Workspace) -> Done:
    policy = shared.policy("my policy; touch PWNED.yaml", POLICY.replace("BOUND", "6"))
    return shared.check(
        {"policy": policy, "formats": "json\n  sarif ", "output-dir": "out $(touch PWNED)", "summary": "false"}
    )


@pytest.fixture(scope="module")
def failed(shared: Workspace) -> Done:
    return shared.check({"policy": shared.policy("strict.yaml", POLICY.replace("BOUND", "12"))})


def evidence(workspace: Workspace, done: Done) -> Any:
    return json.loads((workspace.folder / done.outputs["json"]).read_text(encoding="utf-8"))


def test_a_model_that_passes_exits_with_0_and_says_so_in_every_output(shared: Workspace, passed: Done) -> None:
    assert passed.exit_code == 0, passed.log
    found = evidence(shared, passed)
    assert passed.outputs == {
        "status": "passed",
        "exit-code": "0",
        "failed-rules": "[]",
        "model-digest": found["model"]["digest"],
        "policy-digest": found["policy"]["digest"],
        "json": "out $(touch PWNED)/gate.json",
        "junit": "",
        "sarif": "out $(touch PWNED)/gate.sarif",
        "attestation": "",
    }
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", passed.outputs["model-digest"])


def test_only_the_formats_that_were_asked_for_are_written_and_no_summary_unless_wanted(
    shared: Workspace, passed: Done
) -> None:
    assert shared.files("out $(touch PWNED)") == {"gate.json", "gate.sarif"}
    assert passed.summary == ""


def test_names_with_spaces_and_commands_in_them_are_only_names(shared: Workspace, passed: Done) -> None:
    assert evidence(shared, passed)["policy"]["path"] == "my policy; touch PWNED.yaml"
    assert not list(shared.folder.rglob("PWNED"))


def test_a_model_that_fails_exits_with_1_and_leaves_every_report(shared: Workspace, failed: Done) -> None:
    assert (failed.exit_code, failed.outputs["exit-code"], failed.outputs["status"]) == (1, "1", "failed"), failed.log
    assert json.loads(failed.outputs["failed-rules"]) == ["rank"]
    assert shared.files() == {"gate.json", "gate.junit", "gate.sarif", "gate.markdown"}
    assert [failed.outputs[name] for name in ("json", "junit", "sarif")] == [
        "gate-report/gate.json",
        "gate-report/gate.junit",
        "gate-report/gate.sarif",
    ]


def test_what_fails_is_annotated_at_its_line_and_shown_in_the_summary(shared: Workspace, failed: Done) -> None:
    (annotation,) = failed.commands
    assert "::error::said by pip" in failed.log, "which the runner must not obey"
    assert annotation.startswith("::error title=gate (rank),file=strict.yaml,line=6::")
    assert failed.summary == (shared.folder / "gate-report" / "gate.markdown").read_text(encoding="utf-8")
    assert failed.summary.startswith("### ❌ FAILED: ")


def test_gate_is_installed_from_the_checkout_of_the_action(shared: Workspace, failed: Done) -> None:
    assert failed.exit_code == 1
    assert Path(shared.installed()).resolve() == ACTION.parents[2]


def test_an_interval_across_a_bound_exits_with_0_where_only_failures_count_and_still_says_what_it_is(
    workspace: Workspace,
) -> None:
    workspace.policy("gate.yaml", POLICY.replace("BOUND", "11.75"))
    done = workspace.check({"fail-on": "fail", "version": "7.0.1", "formats": ""})
    assert (done.exit_code, done.outputs["exit-code"], done.outputs["status"]) == (0, "0", "inconclusive"), done.log
    assert (done.outputs["failed-rules"], workspace.files()) == ("[]", set())
    assert workspace.installed() == "geometry-gate==7.0.1"


def test_a_model_that_cannot_be_had_is_an_error_and_nothing_of_an_earlier_run_is_taken_for_it(
    workspace: Workspace,
) -> None:
    old = workspace.leave_reports()
    workspace.policy("gate.yaml", POLICY.replace("BOUND", "6"))
    done = workspace.check({"model": "models:/enc/3"}, MLFLOW_TRACKING_URI="sqlite:///none.db")
    assert done.exit_code == 3, done.log
    assert "there is no database file 'none.db'" in done.log
    assert done.outputs == {"status": "error", "exit-code": "3", "failed-rules": "[]", **NOTHING}
    assert workspace.files() == {"notes.txt", "gate.yaml"} < old
    assert done.commands == ["::error title=gate::gate reached no verdict, exit code 3; the log of this step says why"]
    assert done.summary.startswith("### 🛑 ERROR: gate reached no verdict, exit code 3")


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"model": "models:/enc/3; touch PWNED"}, "model is"),
        ({"model": "models:/enc/$(touch PWNED)"}, "model is"),
        ({"model": "models:/enc@champion"}, r"expected models:/NAME/VERSION; what an alias .* can change"),
        ({"model": "models:/enc/Production"}, r"expected models:/NAME/VERSION; what an alias .* can change"),
        ({"model": "models:/enc/latest"}, r"expected models:/NAME/VERSION; what an alias .* can change"),
        ({"model": "models:/enc/3\n::error::forged"}, r"model is \$'models:/enc/3\\n"),
        ({"model": "--help"}, r"model is --help, expected a model URI"),
        ({"model": ""}, r"model is '', expected a model URI"),
        ({"version": "1.2"}, r"version is 1\.2, expected three numbers"),
        ({"version": "1.2.3 --index-url=x"}, "version is"),
        ({"formats": "json=PWNED"}, "formats is"),
        ({"formats": "*"}, "formats is"),
        ({"output-dir": "out\nstatus=passed"}, r"output-dir is \$'out\\nstatus=passed'"),
        ({"output-dir": ""}, "output-dir is ''"),
        ({"summary": "yes"}, "summary is yes, expected true or false"),
    ],
)
def test_an_input_that_means_something_else_is_refused_before_anything_is_installed(
    workspace: Workspace, inputs: dict[str, str], told: str
) -> None:
    workspace.leave_reports()
    done = workspace.check(inputs)
    assert (done.exit_code, done.outputs["status"], done.outputs["exit-code"]) == (2, "error", "2"), done.log
    refusal, no_verdict = done.commands
    assert re.match(f"::error title=gate::.*{told}", refusal)
    assert "no verdict, exit code 2" in no_verdict
    assert {name: done.outputs[name] for name in NOTHING} == NOTHING
    assert not (workspace.temporary / "pip").exists()
    assert not list(workspace.folder.parent.rglob("*PWNED*"))


def test_every_fault_of_the_inputs_is_told_at_once(workspace: Workspace) -> None:
    done = workspace.check({"model": "-", "version": "x", "summary": ""})
    assert [line.split("::")[2].split()[0] for line in done.commands] == ["model", "summary", "version", "gate"]


@pytest.mark.parametrize(
    ("inputs", "code"), [({"fail-on": "often"}, 2), ({"formats": "jason"}, 2), ({"policy": "absent.yaml"}, 2)]
)
def test_what_gate_itself_refuses_is_an_error_too(workspace: Workspace, inputs: dict[str, str], code: int) -> None:
    workspace.leave_reports()
    done = workspace.check(inputs)
    assert (done.exit_code, done.outputs["exit-code"]) == (code, str(code)), done.log
    assert done.outputs == {"status": "error", "exit-code": str(code), "failed-rules": "[]", **NOTHING}


def test_a_policy_that_does_not_ask_about_this_model_exits_with_5(workspace: Workspace) -> None:
    workspace.policy("gate.yaml", POLICY.replace("BOUND", "6") + 'scope: {models: ["text-*"]}\n')
    done = workspace.check({})
    assert done.exit_code == 5, done.log
    assert done.outputs == {"status": "error", "exit-code": "5", "failed-rules": "[]", **NOTHING}


def test_an_installation_that_fails_with_1_does_not_read_as_a_rule_that_failed(workspace: Workspace) -> None:
    done = workspace.check({}, PIP_FAILS="1")
    assert (done.exit_code, done.outputs["exit-code"], done.outputs["status"]) == (3, "3", "error"), done.log


def test_a_file_that_cannot_be_removed_is_never_taken_for_one_of_this_run(workspace: Workspace) -> None:
    (workspace.folder / "gate-report" / "gate.json").mkdir(parents=True)
    done = workspace.check({})
    assert (done.exit_code, done.outputs["status"], done.outputs["json"]) == (3, "error", ""), done.log


def told(
    workspace: Workspace, code: int, folder: Path, reports: str = "gate-report"
) -> tuple[int, dict[str, str], str]:
    """What outputs.py says of an exit code and the files of a run."""
    output, page = folder / "output", folder / "page"
    variables = {"GITHUB_OUTPUT": output, "GITHUB_STEP_SUMMARY": page, "OUTPUT_DIR": reports, "SUMMARY": "true"}
    done = subprocess.run(
        [sys.executable, "-I", str(ACTION / "outputs.py"), str(code), str(folder)],
        cwd=workspace.folder,
        env={name: str(value) for name, value in variables.items()},
        check=False,
        stdout=subprocess.DEVNULL,
    )
    said = dict(line.split("=", 1) for line in output.read_text(encoding="utf-8").splitlines())
    return done.returncode, said, page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("code", "exits", "status"),
    [(1, 0, "failed"), (0, 0, "failed"), (3, 0, "error"), (4, 1, "error"), (137, 0, "error")],
)
def test_evidence_counts_only_where_the_exit_code_comes_from_it(
    shared: Workspace, failed: Done, tmp_path: Path, code: int, exits: int, status: str
) -> None:
    shutil.copy(shared.folder / failed.outputs["json"], tmp_path / "evidence.json")
    (tmp_path / "summary.md").write_text(failed.summary, encoding="utf-8")
    returned, said, page = told(shared, code, tmp_path)
    assert (returned, said["status"], said["exit-code"]) == (exits, status, str(3 if exits else code))
    assert said["failed-rules"] == ('["rank"]' if status == "failed" else "[]")
    assert page.startswith("### ❌ FAILED" if status == "failed" else "### 🛑 ERROR: gate reached no verdict")


@pytest.mark.parametrize("code", [0, 1, 4, 6])
def test_no_exit_code_is_a_verdict_without_evidence(workspace: Workspace, tmp_path: Path, code: int) -> None:
    returned, said, _ = told(workspace, code, tmp_path)
    assert (returned, said["status"], said["exit-code"]) == (1, "error", "3")


def test_a_signed_statement_is_an_output_when_there_is_one(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.folder / "gate-report").mkdir()
    (workspace.folder / "gate-report" / "gate.attestation.json").touch()
    _, said, _ = told(workspace, 3, tmp_path)
    assert said["attestation"] == "gate-report/gate.attestation.json"


def test_a_path_of_two_lines_is_never_an_output(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.folder / "out\nstatus=passed").mkdir()
    (workspace.folder / "out\nstatus=passed" / "gate.json").touch()
    _, said, _ = told(workspace, 3, tmp_path, "out\nstatus=passed")
    assert (said["status"], said["json"]) == ("error", "")


def test_gate_is_told_where_to_put_the_signed_statement(workspace: Workspace) -> None:
    workspace.check({"output-dir": "here", "fail-on": "often"})
    assert (workspace.temporary / "attestation").read_text(encoding="utf-8") == "here/gate.attestation.json"


def test_an_unknown_and_a_missing_input_are_refused(workspace: Workspace) -> None:
    with pytest.raises(AssertionError, match=r"unknown inputs \['modle'\]"):
        workspace.check({"modle": "models:/enc/3"})
    with pytest.raises(AssertionError, match=r"missing inputs \['model'\]"):
        run(ACTION, {}, workspace=workspace.folder, environment={})


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ('run: gate check "${{ inputs.model }}"', "an expression inside of a script"),
        ("uses: actions/cache@v4", "cannot be run here"),
    ],
)
def test_a_script_with_an_expression_and_a_foreign_action_are_not_run(tmp_path: Path, step: str, fault: str) -> None:
    text = (ACTION / "action.yml").read_text(encoding="utf-8")
    (tmp_path / "action.yml").write_text(f"{text}    - shell: bash\n      {step}\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=fault):
        load(tmp_path)
