"""What a worker is given: folders to read, an environment, a folder to write, limits."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gate.isolation import landlock, permitted, scratch
from gate.isolation.ends import ended
from gate.isolation.environment import environment
from gate.isolation.limits import Limits


def test_modules_are_sought_where_this_process_seeks_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    monkeypatch.setattr(sys, "path", ["", *sys.path, str(tmp_path / "packages"), str(tmp_path / "missing")])
    found = permitted.search_path()
    assert str(tmp_path / "packages") in found
    assert str(tmp_path / "missing") not in found
    assert "" not in found


def test_neither_the_working_folder_nor_a_home_is_a_place_for_modules(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home, work = tmp_path / "home" / "user", tmp_path / "work"
    for folder in (home, work / "src"):
        folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "path", [str(work), str(home), str(home.parent), "/", ".", str(work / "src")])
    assert permitted.search_path() == [str(work / "src")]
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{work}:{work / 'src'}:")
    assert {str(work), str(home), ""} & set(permitted.readable()) == set()
    assert str(work / "src") in permitted.readable()


def test_everything_is_no_place_for_modules_even_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.setattr(sys, "path", ["/"])
    assert permitted.search_path() == []


def test_the_folder_of_the_script_is_no_place_for_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "train.py"))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert str(tmp_path) not in permitted.search_path()


def test_the_gate_itself_can_be_read_and_not_what_lies_beside_it() -> None:
    readable = permitted.readable()
    assert str(Path(permitted.packages(), "gate")) in readable
    assert Path(permitted.packages(), "gate", "errors.py").exists()


def test_the_devices_of_a_gpu_are_there_for_a_gpu_only() -> None:
    assert set(permitted.devices("cpu")) < {
        f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "x")
    }
    assert set(permitted.devices("cuda")) >= set(permitted.devices("cpu"))
    assert all(Path(path).name.startswith(("nvidia", "render")) for path in permitted.devices("cuda:0")[5:])


def test_the_environment_is_built_from_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_TOKEN", "PYTHONPATH", "LD_PRELOAD", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("MKL_NUM_THREADS", "secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "se cret")
    found = environment(tmp_path)
    assert "secret" not in "".join(found.values())
    assert (found["OMP_NUM_THREADS"], found["CUDA_VISIBLE_DEVICES"]) == ("3", "0,1")
    assert "MKL_NUM_THREADS" not in found
    assert "NVIDIA_VISIBLE_DEVICES" not in found
    assert (found["HOME"], found["HF_HUB_OFFLINE"]) == (str(tmp_path), "1")


def test_a_scratch_folder_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    folder = scratch.made()
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").touch()
    (folder / "a" / "link").symlink_to(outside)
    os.mkfifo(folder / "pipe")
    (folder / "a" / "b").chmod(0)
    (folder / "a").chmod(0)
    scratch.removed(folder)
    assert not folder.parent.exists()
    assert (outside / "kept").exists()


def test_limits_that_are_not_given_follow_from_the_machine() -> None:
    present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert present // 100 < Limits().bytes <= present * 7 // 8
    assert Limits(memory=5).bytes == 5
    assert Limits().processor_seconds is None
    assert Limits(seconds=10).processor_seconds == 10 * (os.cpu_count() or 1) + 1
    assert Limits(seconds=10, cpu_seconds=0.1).processor_seconds == 1


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, "ended its process, with code 0, instead of answering"),
        (-11, "crashed with signal 11 (SIGSEGV)"),
        (-40, "crashed with signal 40 (a real-time signal)"),
        (-24, "used more than the 9 seconds of processor time that it may use"),
        (-9, "was killed by signal 9 (SIGKILL): the machine ran out of memory, or someone killed it, or the 9 seconds"),
    ],
)
def test_the_end_of_a_process_is_put_in_words(code: int, expected: str) -> None:
    assert ended(code, Limits(cpu_seconds=9)).startswith(expected)


@pytest.mark.parametrize("code", [1, -6, -11])
def test_a_process_that_ends_where_memory_is_limited_may_have_lacked_it(code: int) -> None:
    """Libraries that get no memory end the process in ways of their own."""
    assert ended(code, Limits(memory=3 << 20)).endswith("(it may hold 3 MiB of memory: run.memory)")
    assert "run.memory" not in ended(code, Limits())


def test_each_version_of_landlock_has_its_rights() -> None:
    known = {0: 0, 1: 13, 2: 14, 3: 15, 4: 15, 5: 16, 6: 16, 9: 16}
    assert {found: landlock.rights(found) for found in known} == {found: (1 << n) - 1 for found, n in known.items()}
