"""What the project's own files promise to each other."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEPENDENCIES = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = {name: [Requirement(text) for text in texts] for name, texts in PROJECT["optional-dependencies"].items()}
DEVELOPMENT = [each for some in EXTRAS.values() for each in some if each.name != PROJECT["name"]]

IMPORT_NAMES = {
    "great-expectations": "great_expectations",
    "sentence-transformers": "sentence_transformers",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}
# Declared before it is imported, and what for; a line goes as soon as its import comes.
NOT_YET_IMPORTED = {
    "matplotlib": "draws figures for MLflow; mlflow brings it along, the lower bound is ours",
}


def imported_anywhere() -> set[str]:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "gate").rglob("*.py"))
    return set(re.findall(r"^\s*(?:from|import) (\w+(?:\.\w+)*)", source, flags=re.MULTILINE))


def is_imported(requirement: Requirement) -> bool:
    name = IMPORT_NAMES.get(requirement.name, requirement.name)
    return any(module == name or module.startswith(f"{name}.") for module in imported_anywhere())


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def installed_closure(requirements: list[Requirement]) -> set[str]:
    """Canonical names of what the requirements bring along in this environment."""
    names: set[str] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in names or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        names.add(name)
        waiting += [Requirement(text) for text in metadata.requires(name) or []]
    return names


@pytest.mark.parametrize("requirement", DEPENDENCIES, ids=lambda requirement: requirement.name)
def test_a_dependency_is_imported_or_says_why_not(requirement: Requirement) -> None:
    assert is_imported(requirement) != (requirement.name in NOT_YET_IMPORTED)


@pytest.mark.parametrize("requirement", [*DEPENDENCIES, *DEVELOPMENT], ids=lambda requirement: requirement.name)
def test_the_tested_version_lies_within_the_bounds(requirement: Requirement) -> None:
    assert requirement.specifier.contains(constraints()[canonicalize_name(requirement.name)])


def test_a_dependency_states_a_lower_bound() -> None:
    assert all(">=" in str(requirement.specifier) for requirement in [*DEPENDENCIES, *DEVELOPMENT])


def test_the_constraints_cover_the_dependencies_of_dependencies() -> None:
    assert installed_closure([*DEPENDENCIES, *DEVELOPMENT]) - set(constraints()) == set()


def test_an_extra_is_declared_only_with_something_behind_it() -> None:
    of_flavours = {"text", "onnx", "keras"}
    assert set(EXTRAS) == {"dev", *of_flavours}
    (own,) = [each for each in EXTRAS["dev"] if each.name == PROJECT["name"]]
    assert own.extras == of_flavours
    assert all(is_imported(each) for name in of_flavours for each in EXTRAS[name])


@pytest.mark.parametrize("target", ["demo", "test", "lint", "format"])
def test_make_knows_the_target_and_sets_up_before_it(target: str) -> None:
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    assert f"{target}: $(READY)" in lines
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_make_refuses_an_old_python_with_one_clear_line(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n', encoding="utf-8")
    old.chmod(0o755)
    command = ["make", f"PYTHON={old}", "READY=never-made", "test"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert re.search(r"error: Python 3\.11 or newer is needed, .* is Python 3\.9\.2; name another one", done.stderr)
    assert not (ROOT / "never-made").exists()


def test_ci_runs_lint_and_the_test_command_from_nothing() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    lines = script.read_text(encoding="utf-8").splitlines()
    assert "set -euo pipefail" in lines
    assert lines[-3:] == ["rm -rf .venv", "make --no-print-directory lint", "make --no-print-directory test"]


def test_the_changelog_names_the_version_and_what_changes_verdicts() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{PROJECT['version']}]" in changelog
    assert "### Verdicts" in changelog


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt", "Makefile", ".ci/run"])
def test_no_package_index_is_named(name: str) -> None:
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", (ROOT / name).read_text(encoding="utf-8"))
