from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.speed import __main__ as speed
from benchmarks.speed import features, floor, ours
from benchmarks.speed.peers import PEERS
from benchmarks.speed.processes import Contender, Limits, interleave
from gate.geometry import registry

LIMITS = Limits(seconds=60, gigabytes=0, threads=1, device="cpu")
PYTHON = Path(sys.executable)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    features.write(features.SIZES["tiny"], tmp_path)
    return tmp_path


def test_the_suite_is_measured_against_the_floor_of_the_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results.md"
    speed.main(
        ["tiny", "--rounds", "2", "--peers", "nothing", "--threads", "1", "--device", "cpu", f"--output={output}"]
    )
    text = output.read_text(encoding="utf-8")
    assert text == capsys.readouterr().out
    assert "Error" not in text
    assert "## n = 1 200, d = 16, C = 5" in text
    rows = [line for line in text.splitlines() if line.startswith("| ours: all")]
    times = [float(line.split("|")[3]) for line in rows]
    assert len(times) == 2
    assert all(each > 1 for each in times), "nothing is faster than the floor"
    assert str(Path.home()) not in text


def test_a_call_that_takes_too_long_is_ended_and_reported(folder: Path) -> None:
    contender = Contender(ours.VALUES_ONLY).start(PYTHON, folder, LIMITS, ())
    start = time.monotonic()
    interleave([contender], 3, Limits(seconds=0.001, gigabytes=0, threads=1, device="cpu"), str)
    assert time.monotonic() - start < 30
    assert contender.failed == "more than 0 s"
    assert contender.median is None


def test_a_package_that_fails_is_reported_with_its_message(folder: Path) -> None:
    (folder / "labels.npy").unlink()
    contender = Contender(ours.WITH_INTERVALS).start(PYTHON, folder, LIMITS, ()).wait()
    assert contender.failed is not None
    assert contender.failed.startswith("FileNotFoundError")


def test_memory_is_what_a_call_adds(folder: Path) -> None:
    contender = Contender("floor: square product").start(PYTHON, folder, LIMITS, ()).wait()
    contender.run(LIMITS)
    contender.stop()
    assert contender.failed is None
    assert 50e6 < contender.peak < 200e6, "a product of 4096 x 4096 float32 takes 67 MB"


def test_the_floor_counts_half_a_product_for_each_second_moment() -> None:
    size = features.Size(1000, 100, 10)
    seconds = {"floor: square product": 2 * 4096**3 / 1e9, "floor: tall product": 1e9, "floor: read": 1e-9}
    assert floor.floor(seconds | {"floor: eigvalsh": 0.0}, size) == pytest.approx(2 * 1000 * 100**2 / 1e9)
    assert floor.floor(seconds | {"floor: eigvalsh": 5.0}, size) == pytest.approx(15.02)


def test_every_number_of_a_package_stands_for_metrics_that_exist() -> None:
    for name in {metric for peer in PEERS for metric in peer.metrics} - {ours.SEARCH}:
        registry.find(name)
    assert set(ours.MOMENT_AND_CLASS_METRICS) <= set(registry.metrics())


def test_values_alone_are_those_with_intervals(folder: Path) -> None:
    data = features.Data(folder)
    names = ("effective_rank.value", "cdnv.value", "mean_cosine.value")
    plain, sure = (ours.prepare(ours.named(names, intervals=each))(data)() for each in (False, True))
    assert isinstance(plain, dict)
    assert isinstance(sure, dict)
    assert [each.value for each in plain.values()] == [each.value for each in sure.values()]
    assert all(each.interval is None for each in plain.values())
    assert all(each.interval is not None for each in sure.values())


def test_no_class_is_empty_and_features_are_those_of_the_seed(folder: Path) -> None:
    data = features.Data(folder)
    assert np.bincount(data.labels).min() > 0
    assert data.features.shape == data.second.shape == (1200, 16)
    first = data.features.copy()
    features.write(features.SIZES["tiny"], folder)
    assert np.array_equal(first, features.Data(folder).features)


def test_the_command_says_what_it_takes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed", "--help"], capture_output=True, text=True, check=True
    )
    assert "--neural-collapse" in done.stdout
