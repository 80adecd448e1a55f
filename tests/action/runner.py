"""Runs a composite action as GitHub's runner does: steps in order, inputs as text, what a step says in files."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gate.policy.reading import read

_EXPRESSION = re.compile(r"\$\{\{ *(.*?) *\}\}")


@dataclass(frozen=True)
class Done:
    """What a run of an action left."""

    exit_code: int
    outputs: dict[str, str]
    summary: str
    log: str

    @property
    def commands(self) -> list[str]:
        """The lines that the runner obeys: none between `::stop-commands::TOKEN` and `::TOKEN::`."""
        obeyed, token = [], None
        for line in self.log.splitlines():
            if token is None and line.startswith("::stop-commands::"):
                token = line.removeprefix("::stop-commands::")
            elif token is not None and line == f"::{token}::":
                token = None
            elif token is None and line.startswith("::"):
                obeyed.append(line)
        assert token is None, "commands stay stopped"
        return obeyed


def load(folder: Path) -> dict[str, Any]:
    """The `action.yml` of a folder; a step that is not a script of bash without expressions is refused."""
    action = cast("dict[str, Any]", read((folder / "action.yml").read_text(encoding="utf-8")).value)
    assert action["runs"]["using"] == "composite"
    for step in action["runs"]["steps"]:
        assert "uses" not in step, f"{step['uses']} cannot be run here"
        assert step["shell"] == "bash"
        assert "${{" not in step["run"], "an expression inside of a script runs what it holds"
    return action


def run(folder: Path, given: Mapping[str, str], *, workspace: Path, environment: Mapping[str, str]) -> Done:
    """Run the steps until one fails; outputs are mapped also after a failure."""
    action = load(folder)
    inputs = _inputs(action, given)
    temporary = workspace.parent / "runner-temp"
    temporary.mkdir(exist_ok=True)
    steps: dict[str, dict[str, str]] = {}
    code, summary, log = 0, "", ""
    for number, step in enumerate(action["runs"]["steps"]):
        output, page = (temporary / f"{name}-{number}-{len(list(temporary.iterdir()))}" for name in ("output", "page"))
        said = {"GITHUB_OUTPUT": output, "GITHUB_STEP_SUMMARY": page, "RUNNER_TEMP": temporary}
        places = {"GITHUB_ACTION_PATH": folder, "GITHUB_WORKSPACE": workspace}
        own = {name: _resolved(value, inputs, steps) for name, value in step.get("env", {}).items()}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
            cwd=workspace,
            env={**os.environ, **environment, **{name: str(path) for name, path in (said | places).items()}, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        code, log = done.returncode, log + done.stdout
        steps[step.get("id", str(number))] = _pairs(output)
        summary += page.read_text(encoding="utf-8") if page.exists() else ""
        if code:
            break
    outputs = {name: _resolved(output["value"], inputs, steps) for name, output in action["outputs"].items()}
    return Done(code, outputs, summary, log)


def _inputs(action: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    unknown = set(given) - set(action["inputs"])
    assert not unknown, f"unknown inputs {sorted(unknown)}"
    required = {name for name, entry in action["inputs"].items() if entry.get("required")}
    assert required <= set(given), f"missing inputs {sorted(required - set(given))}"
    return {name: given.get(name, entry.get("default", "")) for name, entry in action["inputs"].items()}


def _resolved(text: str, inputs: Mapping[str, str], steps: Mapping[str, Mapping[str, str]]) -> str:
    def value(expression: re.Match[str]) -> str:
        match expression.group(1).split("."):
            case ["inputs", name]:
                return inputs[name]
            case ["steps", step, "outputs", name]:
                return steps.get(step, {}).get(name, "")
        raise AssertionError(f"{expression.group(0)} is not known here")

    return _EXPRESSION.sub(value, text)


def _pairs(output: Path) -> dict[str, str]:
    lines = output.read_text(encoding="utf-8").splitlines() if output.exists() else []
    assert all("=" in line.partition("<<")[0] for line in lines), lines
    return {name: value for name, _, value in (line.partition("=") for line in lines)}
