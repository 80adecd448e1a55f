"""The hooks for pre-commit: valid keys, the files that are meant, and entries that run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
HOOKS: list[dict[str, Any]] = YAML(typ="safe").load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
BY_ID = {hook["id"]: hook for hook in HOOKS}
# https://pre-commit.com/#creating-new-hooks
KEYS = {
    *("id", "name", "entry", "language", "files", "exclude", "types", "types_or", "exclude_types", "always_run"),
    *("fail_fast", "verbose", "pass_filenames", "require_serial", "description", "language_version"),
    *("minimum_pre_commit_version", "args", "stages"),
}
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
  - {name: low, given: {effective_rank: {value: 20, interval: [18, 22]}}, expect: {fail: [rank]}}
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "policy.test.yaml").write_text(TESTS, encoding="utf-8")
    return tmp_path


def hooked(name: str, repository: Path) -> subprocess.CompletedProcess[str]:
    """One hook as pre-commit runs it: the entry, its arguments, then the files that it is about."""
    hook = BY_ID[name]
    files = [path.name for path in sorted(repository.iterdir()) if is_meant(hook, path.name)]
    program, *arguments = shlex.split(hook["entry"])
    command = [str(Path(sys.executable).with_name(program)), *arguments, *hook.get("args", ())]
    given = files if hook.get("pass_filenames", True) else []
    return subprocess.run([*command, *given], cwd=repository, capture_output=True, text=True, check=False)


def is_meant(hook: dict[str, Any], path: str) -> bool:
    """As pre-commit selects files; `types: [yaml]` is about the ending."""
    exclude = hook.get("exclude", "^$")
    wanted = re.search(hook.get("files", ""), path) and not re.search(exclude, path)
    return bool(wanted) and path.endswith((".yaml", ".yml"))


def test_there_are_two_hooks_with_keys_that_pre_commit_knows() -> None:
    assert list(BY_ID) == ["gate-policy-validate", "gate-policy-test"]
    for hook in HOOKS:
        assert {"id", "name", "entry", "language"} <= hook.keys() <= KEYS
        assert (
            hook["language"] == "system"
        )  # no environment with torch; newer ones call it `unsupported`, and read both
    assert (BY_ID["gate-policy-test"]["pass_filenames"], BY_ID["gate-policy-test"]["require_serial"]) == (False, True)


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("policy.yaml", True),
        ("gate.yaml", True),
        ("models/encoder/policy.yml", True),
        ("policies/encoder.yaml", True),
        ("a/policies/b/encoder.yaml", True),
        ("policies/encoder.test.yaml", False),
        ("policy.test.yml", False),
        ("policies/readme.md", False),
        ("my-policies/encoder.yaml", False),
        ("deploy/values.yaml", False),
    ],
)
def test_policies_are_validated_and_nothing_else(path: str, meant: bool) -> None:
    assert is_meant(BY_ID["gate-policy-validate"], path) == meant


@pytest.mark.parametrize("name", list(BY_ID))
def test_good_files_pass(repository: Path, name: str) -> None:
    done = hooked(name, repository)
    assert done.returncode == 0, done.stderr


def test_a_bad_policy_does_not_pass(repository: Path) -> None:
    (repository / "policy.yaml").write_text(POLICY.replace("min:", "mni:"), encoding="utf-8")
    for name in BY_ID:
        done = hooked(name, repository)
        assert done.returncode == 2
        assert "policy.yaml:5:40: error[policy]: rules.0.mni" in done.stderr


def test_a_policy_that_lets_a_bad_model_pass_does_not_pass(repository: Path) -> None:
    (repository / "policy.yaml").write_text(POLICY.replace("min: 30", "min: 3"), encoding="utf-8")
    assert hooked("gate-policy-validate", repository).returncode == 0
    assert hooked("gate-policy-test", repository).returncode == 1


def test_a_repository_without_tests_does_not_pass(repository: Path) -> None:
    (repository / "policy.test.yaml").unlink()
    assert hooked("gate-policy-test", repository).returncode == 5
