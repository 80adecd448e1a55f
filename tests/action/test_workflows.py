"""What GitHub would only say after a push: the schema of every file, its security, and what the scripts let through."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gate.policy.reading import read
from tests.action.runner import load

GITHUB = Path(__file__).parents[2] / ".github"
ACTION = GITHUB / "actions" / "check" / "action.yml"
WORKFLOWS = {path.stem: path for path in (GITHUB / "workflows").glob("*.yml")}
DOCS = GITHUB.parent / "docs" / "github-action.md"


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name(name)), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def zizmor(path: Path) -> subprocess.CompletedProcess[str]:
    return tool("zizmor", "--offline", "--pedantic", "--no-progress", "--strict-collection", path)


def workflow(name: str) -> Any:
    return read(WORKFLOWS[name].read_text(encoding="utf-8")).value


def bash(script: str, **environment: str) -> int:
    command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]
    return subprocess.run(command, env={"PATH": "/usr/bin:/bin", **environment}, check=False).returncode


def step(name: str, job: str, title: str) -> str:
    (script,) = [each["run"] for each in workflow(name)["jobs"][job]["steps"] if each["name"] == title]
    return str(script)


@pytest.mark.parametrize(
    ("schema", "paths"),
    [
        ("github-actions", [ACTION]),
        ("github-workflows", sorted(WORKFLOWS.values())),
        ("dependabot", [GITHUB / "dependabot.yml"]),
    ],
)
def test_every_file_is_what_its_schema_asks_for(schema: str, paths: list[Path]) -> None:
    done = tool("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *paths)
    assert done.returncode == 0, done.stdout


def test_zizmor_finds_nothing_in_any_file() -> None:
    done = zizmor(GITHUB)
    assert done.returncode == 0, done.stdout
    for path in (ACTION, *WORKFLOWS.values(), GITHUB / "dependabot.yml"):
        assert str(path.relative_to(GITHUB)) in done.stderr


def test_zizmor_finds_an_input_inside_of_a_script(tmp_path: Path) -> None:
    shutil.copy(ACTION, tmp_path / "action.yml")
    text = ACTION.read_text(encoding="utf-8")
    (tmp_path / "action.yml").write_text(text.replace("rc=$?", "rc=$?; echo ${{ inputs.model }}"), encoding="utf-8")
    done = zizmor(tmp_path / "action.yml")
    assert done.returncode != 0
    assert "template-injection" in done.stdout
    with pytest.raises(AssertionError, match="an expression inside of a script"):
        load(tmp_path)


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_a_workflow_asks_for_nothing_by_default_and_every_job_ends(name: str) -> None:
    assert workflow(name)["permissions"] == {}
    assert all(job["timeout-minutes"] <= 120 for job in workflow(name)["jobs"].values())
    assert "pull_request_target" not in WORKFLOWS[name].read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_whatever_a_workflow_uses_is_one_commit_with_its_version_beside_it(name: str) -> None:
    used = re.findall(r"^\s+(?:- )?uses: (.*)$", WORKFLOWS[name].read_text(encoding="utf-8"), flags=re.MULTILINE)
    foreign = [each for each in used if not each.startswith("$/")]
    assert foreign
    assert [each for each in foreign if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)] == []


@pytest.mark.parametrize(("result", "code"), [("success", 0), ("failure", 1), ("cancelled", 1), ("skipped", 1)])
def test_the_check_to_require_passes_only_when_all_of_the_matrix_did(result: str, code: int) -> None:
    jobs = workflow("ci")["jobs"]
    assert (jobs["ci"]["if"], jobs["ci"]["needs"]) == ("always()", "test")
    assert jobs["test"]["steps"][-1]["run"] == ".ci/run"
    assert bash(step("ci", "ci", "Everything has passed"), RESULT=result) == code


@pytest.mark.parametrize(
    ("name", "version", "uri"),
    [
        ("encoder", "3", "models:/encoder/3"),
        ("text encoder-v2.1", "41", "models:/text encoder-v2.1/41"),
        ("encoder", "champion", None),
        ("encoder", "0", None),
        ("encoder", "3\nstatus=passed", None),
        ("encoder", "", None),
        ("", "3", None),
        ("-encoder", "3", None),
        ("encoder@champion", "3", None),
        ("../encoder", "3", None),
        ("encoder\nuri=models:/other", "3", None),
        ("$(touch PWNED)", "3", None),
    ],
)
def test_a_registration_names_a_model_and_a_number_or_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str, uri: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    script = step("gate-on-registration", "check", "Look at what was registered")
    code = bash(script, NAME=name, VERSION=version, GITHUB_OUTPUT="output")
    assert code == (0 if uri else 2)
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ([f"uri={uri}\n"] if uri else [])


def test_the_reports_of_a_registration_are_uploaded_whatever_the_verdict() -> None:
    steps = {each["name"]: each for each in workflow("gate-on-registration")["jobs"]["check"]["steps"]}
    after = list(steps.values())[list(steps).index("Check the model") + 1 :]
    assert len(after) == 2
    assert all(each["if"].startswith("always()") for each in after)
    assert set(steps["Check the model"]["with"]) <= set(load(ACTION.parent)["inputs"])


def cells(heading: str) -> list[list[str]]:
    section = DOCS.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows]


def test_the_page_lists_every_input_with_its_default_and_every_output() -> None:
    action = load(ACTION.parent)
    inputs = [
        [f"`{name}`", f"`{entry['default']}`" if entry.get("default") else "", entry["description"]]
        for name, entry in action["inputs"].items()
    ]
    assert cells("Inputs") == inputs
    assert cells("Outputs") == [[f"`{name}`", entry["description"]] for name, entry in action["outputs"].items()]


def test_the_example_of_the_page_uses_inputs_and_outputs_that_there_are() -> None:
    text = DOCS.read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    steps: Any = read(example).value
    action = load(ACTION.parent)
    (given,) = [each["with"] for each in steps if "actions/check@" in each["uses"]]
    assert set(given) <= set(action["inputs"])
    assert set(re.findall(r"outputs\.([\w-]+)", example)) <= set(action["outputs"])
