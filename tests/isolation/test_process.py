"""Workers that answer, and workers that end before they do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gate.errors import LayerError, ModelError, UsageError
from gate.isolation import Isolated, Limits
from tests.isolation.workers import HERE, alive, isolated, open_files

ROWS = np.array([[1.0], [2.0]], dtype=np.float32)


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After every test: no file more open, no thread, no child, no folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files, threads = open_files(), threading.active_count()
    yield
    assert {target for _, target in open_files() - files} == set()
    assert threading.active_count() == threads
    assert list(tmp_path.iterdir()) == []
    assert children() == []


def children() -> list[str]:
    """Workers of this process, dead or alive."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    lines = {each: Path(f"/proc/{each}/cmdline").read_bytes() for each in found if alive(int(each))}
    return [each for each, line in lines.items() if b"gate.isolation" in line or not line]


def test_features_are_those_of_the_model() -> None:
    with isolated("models:doubling", {"a": [1, None]}) as worker:
        assert worker.facts["job"] == {"a": [1, None]}
        assert worker.facts["process"] != os.getpid()
        assert torch.equal(worker.weights["head.weight"], torch.eye(2))
        assert torch.equal(worker.weights["head.bias"], torch.tensor([1, 2]))
        for rows in (2, 5000, 1, 100_000):
            inputs = np.random.default_rng(rows).normal(size=(rows, 7))
            assert torch.equal(worker(inputs)["rows"], torch.tensor(2 * inputs))


def test_what_was_returned_stays_as_it_was() -> None:
    with isolated("models:doubling") as worker:
        first = worker(ROWS)["rows"]
        worker(ROWS * 10)
    assert first.tolist() == [[2.0], [4.0]]


SHOWN: dict[str, Any] = {
    "whole numbers": np.arange(6, dtype=np.int64).reshape(2, 3),
    "truth values": np.array([[True], [False]]),
    "half precision": np.ones((2, 2), dtype=np.float16),
    "the other byte order": np.array([[1.5], [2.5]], dtype=">f8"),
    "every second column": np.arange(8, dtype=np.int32).reshape(2, 4)[:, ::2],
    "no columns": np.ones((2, 0), dtype=np.float32),
    "texts": ("", "naïve \N{SNOWMAN} text\nin two lines"),
    "half characters": ("a\udce4b", "\ud800"),
    "pictures": (np.arange(12, dtype=np.uint8).reshape(2, 2, 3), np.zeros((1, 3, 3), dtype=np.uint8)),
    "a turned picture": (np.arange(18, dtype=np.uint8).reshape(2, 3, 3).transpose(1, 0, 2),) * 2,
    "inputs by name": {"x": np.ones((2, 1), dtype=np.float32), "y": ("a", "b"), "z": {"w": np.zeros(2)}},
}  # fmt: skip


def test_inputs_arrive_as_they_were() -> None:
    from tests.isolation.models import _told

    with isolated("models:echoing", {"rows": 2}) as worker:
        for name, inputs in SHOWN.items():
            arrived = json.loads(bytes(worker(inputs)["rows"][0].tolist()))
            assert arrived == json.loads(json.dumps(_told(inputs))), name


@pytest.mark.parametrize(
    "inputs", [np.array([["a"], ["b"]]), np.array([[None], [1]]), (np.ones((2, 2, 3)), np.ones((2, 2, 3)))]
)
def test_inputs_that_are_no_numbers_texts_or_pictures_are_refused(inputs: Any) -> None:
    with pytest.raises(ModelError, match=r"shown .*, found"), isolated("models:doubling") as worker:
        worker(inputs)


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "bfloat16", "int64"])
def test_features_keep_their_type(kind: str) -> None:
    with isolated("models:giving", {"give": [["rows", [2, 3], kind]]}) as worker:
        features = worker(ROWS)["rows"]
    assert features.dtype == getattr(torch, kind)
    assert features.shape == (2, 3)


@pytest.mark.parametrize(
    ("give", "match"),
    [
        ([["rows", [2, 1], "int32"]], "as 'int32', expected float64, float32"),
        ([["rows", [2, 1], "float32"], ["more", [2, 1], "float32"]], "a tensor 'more', expected only rows"),
        ([], "no features of rows"),
        ([["rows", [1, 1], "float32"]], r"features 'rows' of shape \(1, 1\), expected \(2, d\)"),
        ([["rows", [2], "float32"]], r"features 'rows' of shape \(2,\), expected \(2, d\)"),
        ([["rows", [2, 1, 1], "float32"]], r"features 'rows' of shape \(2, 1, 1\), expected \(2, d\)"),
    ],
)
def test_features_other_than_asked_for_are_refused(give: list[Any], match: str) -> None:
    with pytest.raises(ModelError, match=match), isolated("models:giving", {"give": give}) as worker:
        worker(ROWS)


HOSTILE = {
    "sends no JSON": "no JSON of plain numbers and texts",
    "sends deep JSON": "no JSON of plain numbers and texts",
    "sends NaN": "no JSON of plain numbers and texts",
    "sends a huge number": "no JSON of plain numbers and texts",
    "sends half a character": "no JSON of plain numbers and texts",
    "sends a list": "a message that is a list, expected an object",
    "sends too much": "a message of 2147483648 bytes, expected at most 1048576",
    "sends another message": "'ended', expected 'ready'",
    "sends no kind": "None, expected 'ready'",
    "sends no facts": "facts that are a NoneType",
    "sends facts in a list": "facts that are a list",
    "sends no tensors": "tensors that are a NoneType",
    "sends weights that nobody asked for": "a tensor 'x', expected only head.bias, head.weight",
    "sends an error of its own": "an error 'SystemExit', expected GateError",
    "sends an error without words": "an error 'ModelError', expected",
    "asks for too much room": "1099511627776 bytes for one batch, expected at most",
    "asks for no room": "0 for the memory that it needs",
    "asks for less than no room": "-1 for the memory that it needs",
    "asks for true room": "True for the memory that it needs",
    "asks for huge room": "bytes for one batch, expected at most",
}
MISDESCRIBED = {
    "describes another name": "a tensor 'columns', expected only rows",
    "describes a name that is none": r"a tensor \['rows'\], expected only rows",
    "describes another type": "as 'object', expected float64",
    "describes a type that is none": r"as \{\}, expected float64",
    "describes a negative dimension": "-2 for a size or a place",
    "describes a true dimension": "True for a size or a place",
    "describes half a dimension": "1.0 for a size or a place",
    "describes more than there is": "outside the memory of 4096 bytes",
    "describes an overflow": "expected at most",
    "describes an overflow of nothing": "expected at most",
    "describes fewer bytes": "in 4 bytes",
    "describes more bytes": "in 16 bytes",
    "describes a place outside": "at 4096, outside the memory of 4096 bytes",
    "describes a place across the end": "at 4092, outside the memory",
    "describes a negative place": "-8 for a size or a place",
    "describes a crooked place": "at 2, outside the memory",
    "describes another row": r"of shape \(3, 1\), expected \(2, d\)",
    "describes three dimensions": r"of shape \(2, 1, 1\), expected \(2, d\)",
    "describes one dimension": r"of shape \(2,\), expected \(2, d\)",
    "describes something else": "not described by bytes, dtype, name, offset, shape",
}


@pytest.mark.parametrize("act", HOSTILE)
def test_a_message_that_no_worker_would_send_is_refused(act: str) -> None:
    match = f"sent what is not accepted while the model was loaded: .*{HOSTILE[act]}.*; it printed nothing"
    with pytest.raises(ModelError, match=match), isolated("models:misbehaving", {"act": act}) as worker:
        _ = worker.facts


@pytest.mark.parametrize("act", MISDESCRIBED)
def test_features_described_wrongly_are_refused(act: str) -> None:
    match = rf"sent what is not accepted while it ran on \(2, 1\) float32: .*{MISDESCRIBED[act]}"
    with (
        pytest.raises(ModelError, match=match),
        isolated("models:misbehaving", {"act": act, "late": True}) as worker,
    ):
        worker(ROWS)


CLOSED = "; the model is closed in a process of its own: it may write to its scratch folder alone, .* `run: {isolation"
ENDS = {
    "exits": "the model ended its process, with code 3, instead of answering",
    "leaves": "the model raised SystemExit: 5",
    "crashes": r"the model crashed with signal 11 \(SIGSEGV\)",
    "aborts": r"the model crashed with signal 6 \(SIGABRT\)",
    "kills itself": r"the model was killed by signal 9 \(SIGKILL\): the machine ran out of memory, or someone",
    "prints": "the model printed without end, more than 64 MiB",
    "sleeps": "the model took longer than the 2 seconds",
    "spins": "the model used more than the 1 seconds of processor time",
    "spins on": "or the 1 seconds of processor time were over",
    "shares memory": r"the model held \d+ MiB of memory, of the 1024 MiB",
    "allocates": r"the model raised MemoryError \(it may hold 1024 MiB of memory: run.memory\)$",
    "allocates a tensor": r"the model raised RuntimeError: .*allocate memory.* \(it may hold 1024 MiB of memory: run",
    "wraps a lack of memory": r"^ran out of memory with 1 row \(it may hold 1024 MiB of memory: run.memory\)$",
    "lacks memory of a GPU": "^ran out of memory$",
    "writes outside": f"PermissionError: .*'/usr/evil.txt'{CLOSED}",
    "connects": f"the model raised PermissionError: .*{CLOSED}",
    "resolves a name": f"the model raised gaierror: .*name resolution{CLOSED}",
    "hides a refusal": f"the model raised RuntimeError: no route{CLOSED}",
    "closes": "the model closed its channel to the gate and went on",
    "fails": "the model raised ZeroDivisionError: division by zero",
    "has a fault of a policy": "the model raised PolicyError",
}
LIMITS = {
    "sleeps": Limits(seconds=2),
    "spins": Limits(seconds=60, cpu_seconds=1),
    "spins on": Limits(seconds=60, cpu_seconds=1),
    **dict.fromkeys(
        ("shares memory", "allocates", "allocates a tensor", "wraps a lack of memory", "lacks memory of a GPU"),
        Limits(seconds=60, memory=1 << 30),
    ),
}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("act", ENDS)
def test_how_a_worker_ends_is_told(act: str, late: bool) -> None:
    limits = LIMITS.get(act, Limits(seconds=60))
    with (
        pytest.raises(ModelError, match=ENDS[act]),
        isolated("models:misbehaving", {"act": act, "late": late}, limits=limits) as worker,
    ):
        worker(ROWS)


def test_what_was_printed_last_is_shown_without_control_characters() -> None:
    match = r"while it ran on \(2, 1\) float32; it printed last: one \| two \| three$"
    with (
        pytest.raises(ModelError, match=match),
        isolated("models:misbehaving", {"act": "crashes", "late": True}) as worker,
    ):
        worker(ROWS)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        ("crashes after warnings", "it printed last: own words | own words"),
        ("crashes after a warning", "it printed nothing but warnings of libraries"),
    ],
)
def test_warnings_of_libraries_are_not_what_was_printed_last(act: str, words: str) -> None:
    with pytest.raises(ModelError) as raised, isolated("models:misbehaving", {"act": act}) as worker:
        _ = worker.facts
    assert str(raised.value).endswith(f"; {words}")


def test_an_error_of_the_gate_keeps_its_class_and_its_words() -> None:
    with (
        pytest.raises(LayerError, match=r"^layer 'rows': the model has no layer 'x'$"),
        isolated("models:misbehaving", {"act": "refuses", "late": True}) as worker,
    ):
        worker(ROWS)
    with (
        pytest.raises(ModelError, match=r"^the model raised UsageError: no such thing"),
        isolated("models:misbehaving", {"act": "is asked wrongly"}),
    ):
        pass


def test_a_worker_that_has_failed_says_the_same_again() -> None:
    worker = isolated("models:misbehaving", {"act": "exits"})
    worker.start()
    for _ in range(2):
        with pytest.raises(ModelError, match="with code 3"):
            worker(ROWS)
    worker.close()
    with pytest.raises(ModelError, match="with code 3"):
        worker(ROWS)


def test_the_checks_at_the_end_of_the_model_are_made() -> None:
    with isolated("models:ending", {}) as worker:
        worker(ROWS)
    with pytest.raises(LayerError, match="other features"), isolated("models:ending", {"refuse": True}) as worker:
        worker(ROWS)


def test_an_error_inside_the_block_is_not_hidden_by_the_end_of_the_model() -> None:
    with pytest.raises(ZeroDivisionError), isolated("models:ending", {"refuse": True}) as worker:
        _ = worker(ROWS)["rows"] / (1 // 0)


def test_a_model_may_use_threads() -> None:
    with isolated("models:misbehaving", {"act": "threads"}) as worker:
        assert worker.facts


def test_no_memory_can_be_taken_from_under_the_judge() -> None:
    with isolated("models:shrinking") as worker:
        assert worker(ROWS)["rows"].tolist() == [[1, 0]] * 2
        assert worker(ROWS)["rows"].tolist() == [[2, 0]] * 2


def test_folders_buried_deeper_than_a_path_are_removed() -> None:
    with isolated("models:misbehaving", {"act": "buries"}) as worker:
        assert worker.facts


def test_the_start_does_not_wait_for_the_model() -> None:
    start = time.monotonic()
    worker = isolated("models:misbehaving", {"act": "sleeps"})
    worker.start()
    assert time.monotonic() - start < 0.5
    worker.close()


def test_two_workers_run_side_by_side() -> None:
    with isolated("models:doubling") as one, isolated("models:doubling") as two:
        assert one.facts["process"] != two.facts["process"]
        assert torch.equal(one(ROWS)["rows"], two(ROWS)["rows"])


def test_an_interrupt_while_the_model_runs_leaves_nothing() -> None:
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with (
        pytest.raises(KeyboardInterrupt),
        isolated("models:misbehaving", {"act": "sleeps", "late": True}) as worker,
    ):
        worker(ROWS)
    timer.join()


def test_a_worker_ends_with_the_judge() -> None:
    code = f"""
import sys, time
sys.path.insert(0, {str(HERE.parent.parent)!r})
from tests.isolation.workers import isolated
with isolated("models:misbehaving", {{"act": "sleeps"}}) as worker:
    _ = worker.confinement
    print(worker._running()._watch._process.pid, worker._running().folder.parent, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as judge:
        assert judge.stdout is not None
        number, folder = judge.stdout.readline().split()
        assert alive(int(number))
        judge.kill()
    deadline = time.monotonic() + 10
    while alive(int(number)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(int(number))
    Path(folder, "scratch").rmdir()
    Path(folder).rmdir()


def test_a_worker_that_was_not_started_is_no_worker() -> None:
    with pytest.raises(UsageError, match="use it in a `with` block"):
        _ = isolated("models:doubling").facts


def test_closing_twice_is_closing_once() -> None:
    worker = isolated("models:doubling")
    worker.close()
    worker.start()
    worker.start()
    worker.close()
    worker.close()


def test_another_system_has_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UsageError, match="on Linux only, found darwin"):
        isolated("models:doubling").start()


def test_a_message_to_the_worker_may_be_long() -> None:
    """A table of many columns takes as many descriptions."""
    table = {f"column {i}": np.ones(2) for i in range(20_000)}
    with isolated("models:giving", {"give": [["rows", [2, 1], "float32"]]}) as worker:
        assert worker(table)["rows"].shape == (2, 1)


def test_the_package_can_be_imported_where_it_cannot_run() -> None:
    """What only Linux has is imported when a worker is started."""
    code = "import gate.isolation, sys; sys.exit(bool({'fcntl', 'resource', 'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=HERE.parent.parent, check=False).returncode == 0


def test_the_judge_unpickles_nothing() -> None:
    """No module of the package knows how to."""
    folder = Path(sys.modules[Isolated.__module__].__file__ or "").parent
    sources = "".join(each.read_text(encoding="utf-8") for each in folder.glob("*.py"))
    assert not [word for word in ("pickle", "torch.load", "np.load", "marshal", "eval(") if word in sources]
