"""A hostile model tries everything once; the same attempts succeed in an ordinary process."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gate.isolation import landlock
from tests.isolation.attempts import ATTEMPTS
from tests.isolation.workers import isolated

SECRET = "GATE_TEST_SECRET"  # noqa: S105 - the name of a variable
# What an attempt needs to be refused: one of these measures, as the worker's own report calls them.
CALLS, FILES, NETWORK, LIMITS = "a filter of system calls", "files", "a network namespace", "limits"
OTHERWISE = {
    **dict.fromkeys(("tcp", "udp"), (CALLS, NETWORK)),
    **dict.fromkeys(
        (
            "read_a_key", "read_a_key_through_a_link", "link_a_key_into_scratch", "list_a_folder",
            "read_the_environment_of_the_judge", "read_the_command_line_of_the_judge", "write_outside",
            "open_the_memory_of_another_process", "write_into_the_model", "add_to_the_model",
            "write_into_the_libraries", "empty_a_file", "remove_a_file", "write_shared_memory",
        ),
        (FILES,),
    ),
    **dict.fromkeys(("large_file", "more_open_files", "core_dump"), (LIMITS,)),
}  # fmt: skip


@dataclass(frozen=True)
class Tried:
    """What one worker tried, found around itself and said of its confinement."""

    facts: Mapping[str, Any]
    confinement: Mapping[str, Any]
    scratch: Path

    def lacks(self, measure: str) -> bool:
        return any(missing.startswith(measure) for missing in self.confinement["missing"])


@pytest.fixture(scope="session")
def tried(world: dict[str, Any]) -> Tried:
    os.environ[SECRET] = "value"
    try:
        with isolated("attempts:everything", world, Path(world["model"])) as worker:
            assert worker._worker is not None
            return Tried(worker.facts, worker.confinement, worker._worker.folder)
    finally:
        del os.environ[SECRET]


@pytest.mark.parametrize("name", [name for name in ATTEMPTS if name != "become_a_program"])
def test_what_a_model_tries_is_refused(name: str, tried: Tried) -> None:
    measures = OTHERWISE.get(name, (CALLS,))
    if all(tried.lacks(measure) for measure in measures):
        pytest.skip(f"this machine has no {' and no '.join(measures)}; the worker says so")
    assert tried.facts["attempts"][name].startswith("refused: ")


def test_a_model_cannot_become_another_program(tried: Tried) -> None:
    if tried.lacks(CALLS):
        pytest.skip(f"this machine has no {CALLS}; the worker says so")
    with isolated("attempts:becoming") as worker:
        assert worker.facts["outcome"] == "refused: [Errno 1] Operation not permitted"


@pytest.mark.parametrize("name", ATTEMPTS)
def test_the_same_would_succeed_outside(name: str, world: dict[str, Any], tmp_path: Path) -> None:
    for each in ("empties", "removes"):
        (tmp_path / each).write_text("x", encoding="utf-8")
    own = {**world, "own": str(tmp_path), "empties": str(tmp_path / "empties"), "removes": str(tmp_path / "removes")}
    command = [sys.executable, str(Path(__file__).with_name("attempts.py")), name, json.dumps(own)]
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    if found != "done" and (os.getuid() != 0 or name in {"more_open_files", "core_dump"}):
        pytest.skip(f"an ordinary process of this user may not do it either: {found}")
    assert found == "done"


def test_nothing_outside_was_changed(world: dict[str, Any], tried: Tried) -> None:
    assert tried.facts["attempts"]
    key = Path(world["key"]).stat()
    assert key.st_mode & 0o777 == 0o600 or tried.lacks(CALLS)
    assert key.st_mtime > 0 or tried.lacks(CALLS)
    assert Path(world["removes"]).exists() or tried.lacks(FILES)
    assert Path(world["empties"]).read_text(encoding="utf-8") == "secret" or tried.lacks(FILES)


def test_the_environment_holds_no_variable_of_the_judge(tried: Tried) -> None:
    environment = tried.facts["environment"]
    assert SECRET not in environment
    assert "value" not in environment.values()
    assert {environment[name] for name in ("HOME", "TMPDIR", "HF_HOME", "XDG_CACHE_HOME")} == {str(tried.scratch)}


def test_no_open_file_is_inherited(tried: Tried) -> None:
    kinds = sorted({each.partition(":")[0] for each in tried.facts["open"]})
    files = [each for each in kinds if each.startswith("/")]
    assert set(kinds) - set(files) == {"pipe", "socket"}
    assert all(each == "/dev/null" or each.startswith("/proc/") for each in files)


def test_the_working_folder_is_scratch_and_no_place_for_modules(tried: Tried) -> None:
    assert tried.facts["folder"] == str(tried.scratch)
    assert {"", str(tried.scratch), str(Path.cwd())} & set(tried.facts["path"]) == set()


def test_the_model_itself_can_be_read(tried: Tried) -> None:
    assert tried.facts["model"] == "flavors: {}" or tried.lacks(FILES)


def test_no_capability_is_left(tried: Tried) -> None:
    if tried.lacks(CALLS):
        pytest.skip("without a filter of system calls the attempt at a namespace of its own succeeded")
    assert {int(line.split()[1], 16) for line in tried.facts["capabilities"]} == {0}


def test_a_worker_leads_a_session_of_its_own(tried: Tried) -> None:
    assert tried.facts["session"] is True


def test_the_report_says_what_is_had_and_what_is_missing(tried: Tried) -> None:
    missing = tried.confinement["missing"]
    assert (landlock.version() == 0) == tried.lacks(FILES) == ("files" not in tried.confinement)
    assert (platform.machine() not in {"x86_64", "aarch64"}) == tried.lacks(CALLS)
    assert "memory" in tried.confinement
    assert all(": " in each for each in missing)


def test_the_scratch_folder_is_gone_afterwards(tried: Tried) -> None:
    assert not tried.scratch.parent.exists()
