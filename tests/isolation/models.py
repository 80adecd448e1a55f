"""Models that the workers of these tests open: honest ones, and ones that misbehave in one way each."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gate.errors import LayerError, ModelError, PolicyError, UsageError
from gate.isolation import worker


class Opened:
    """Features by a function of the inputs."""

    def __init__(self, features: Callable[[Any], Any], facts: Mapping[str, object] | None = None) -> None:
        self._features = features
        self.facts: Mapping[str, object] = facts or {}
        self.weights: Mapping[str, Any] = {}

    def __call__(self, inputs: object) -> dict[str, Any]:
        found = self._features(inputs)
        return found if isinstance(found, dict) else {"rows": found}


@contextmanager
def doubling(job: Mapping[str, object]) -> Iterator[Opened]:
    import torch

    model = Opened(lambda inputs: 2 * torch.tensor(inputs), {"job": dict(job), "process": os.getpid()})
    model.weights = {"head.weight": torch.eye(2), "head.bias": torch.tensor([1, 2])}
    yield model


@contextmanager
def echoing(job: Mapping[str, Any]) -> Iterator[Opened]:
    """What arrived, in words: the inputs are compared where they came from."""
    import torch

    def told(inputs: Any) -> torch.Tensor:
        text = json.dumps(_told(inputs)).encode()
        return torch.tensor([list(text)] * job["rows"])

    yield Opened(told)


def _told(inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return {name: _told(each) for name, each in inputs.items()}
    if isinstance(inputs, tuple):
        return [_told(each) for each in inputs]
    return inputs if isinstance(inputs, str) else [str(inputs.dtype), list(inputs.shape), inputs.tolist()]


@contextmanager
def giving(job: Mapping[str, Any]) -> Iterator[Opened]:
    """Zeros under the names and in the shapes and types of the job."""
    import torch

    yield Opened(lambda _: {name: torch.zeros(shape, dtype=getattr(torch, kind)) for name, shape, kind in job["give"]})


@contextmanager
def ending(job: Mapping[str, Any]) -> Iterator[Opened]:
    """Refuses at the end what it gave before, and leaves a mark when its end is reached at all."""
    import torch

    yield Opened(lambda inputs: torch.zeros(len(inputs), 1))
    if job.get("refuse"):
        raise LayerError("layer 'rows': other features for the same rows")


@contextmanager
def misbehaving(job: Mapping[str, Any]) -> Iterator[Opened]:
    """Does it while it is loaded, or on its first batch."""
    act = ACTS[job["act"]]
    if job.get("late"):
        yield Opened(lambda _: act())
    else:
        act()
        yield Opened(lambda _: {}, {"process": os.getpid()})


def descriptor() -> int:
    """The socket, which a hostile model finds as easily."""
    number: int = json.loads(sys.argv[1])[2]
    return number


def sending(body: bytes, length: int | None = None) -> Callable[[], None]:
    def send() -> None:
        os.write(descriptor(), struct.pack(">I", len(body) if length is None else length) + body)
        time.sleep(60)

    return send


def telling(**message: object) -> Callable[[], None]:
    return sending(json.dumps(message).encode())


def describing(**changed: object) -> Callable[[], None]:
    """Two rows of features, described wrongly in one way."""

    def send() -> None:
        place = {"name": "rows", "dtype": "float32", "shape": [2, 1], "offset": 0, "bytes": 8, **changed}
        os.write(descriptor(), _framed({"kind": "room", "bytes": 4096}))
        time.sleep(0.2)
        os.write(descriptor(), _framed({"kind": "features", "tensors": [place]}))
        time.sleep(60)

    return send


def _framed(message: Mapping[str, object]) -> bytes:
    body = json.dumps(message).encode()
    return struct.pack(">I", len(body)) + body


def print_without_end() -> None:
    line = "x" * 4095 + "\n"
    while True:
        sys.stdout.write(line)


def spin() -> None:
    while True:
        pass


def spin_deaf() -> None:
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    spin()


def fill_shared_memory() -> None:
    """Memory that RLIMIT_DATA does not count."""
    memory = mmap.mmap(-1, 1 << 30)
    while True:
        for start in range(0, len(memory), 1 << 20):
            memory[start : start + (1 << 20)] = b"x" * (1 << 20)


def allocate() -> None:
    bytearray(2 << 30)


def allocate_tensor() -> None:
    import torch

    torch.zeros(1 << 29)


def close_and_go_on() -> None:
    socket.socket(fileno=descriptor()).close()
    time.sleep(60)


def bury_folders() -> None:
    for _ in range(1500):
        Path("deeper" * 20).mkdir()
        os.chdir("deeper" * 20)
    Path("closed").mkdir(0)
    Path("file").write_text("x", encoding="utf-8")
    Path("link").symlink_to("/")


@contextmanager
def shrinking(_: Mapping[str, Any]) -> Iterator[Opened]:
    """Tries to take the memory for features away from under the judge; gives how often that worked."""
    import torch

    kept: list[int] = []
    mapped, worked = worker._mapped, 0

    def keeping(file: int | None) -> mmap.mmap | None:
        if file is not None:
            kept.append(os.dup(file))
        return mapped(file)

    def features(_: object) -> torch.Tensor:
        nonlocal worked
        for each in kept:
            for size in (0, 1 << 20):
                with contextlib.suppress(PermissionError):
                    os.ftruncate(each, size)
                    worked += 1
        return torch.tensor([[len(kept), worked]] * 2)

    worker._mapped = keeping
    yield Opened(features)


def fail(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def print_and_crash() -> None:
    sys.stdout.write("one\n\x1b[31mtwo\n")
    sys.stderr.write("three\r\n")
    ctypes.string_at(0)


def print_warnings_and_crash() -> None:
    for each in ("UserWarning: \x1b[33mlong advice\x1b[0m", "FutureWarning: more of it"):
        sys.stderr.write(f"/usr/lib/python3/site-packages/some/module.py:187: {each}\n  color_warning(\n")
        sys.stderr.write("    own words\n")
    ctypes.string_at(0)


def warn_and_crash() -> None:
    sys.stderr.write("/usr/lib/python3/site-packages/some/module.py:187: UserWarning: x\n  color_warning(\n")
    ctypes.string_at(0)


def fail_after(error: BaseException, cause: BaseException) -> Callable[[], None]:
    def act() -> None:
        try:
            raise cause
        except type(cause):
            raise error  # noqa: B904 - as libraries do

    return act


def write_outside() -> None:
    Path("/usr/evil.txt").write_text("x", encoding="utf-8")


def connect() -> None:
    socket.create_connection(("127.0.0.1", 9), timeout=5)


def start_threads() -> None:
    threads = [threading.Thread(target=time.sleep, args=(0.05,)) for _ in range(64)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


ACTS: dict[str, Callable[[], None]] = {
    "exits": lambda: os._exit(3),
    "leaves": lambda: sys.exit(5),
    "crashes": print_and_crash,
    "aborts": os.abort,
    "crashes after warnings": print_warnings_and_crash,
    "crashes after a warning": warn_and_crash,
    "writes outside": write_outside,
    "connects": connect,
    "resolves a name": fail(socket.gaierror(-3, "Temporary failure in name resolution")),
    "hides a refusal": fail_after(RuntimeError("no route"), PermissionError(errno.EACCES, "Permission denied")),
    "wraps a lack of memory": fail_after(ModelError("ran out of memory with 1 row"), MemoryError("no room")),
    "lacks memory of a GPU": fail_after(ModelError("ran out of memory"), MemoryError("CUDA out of memory")),
    "kills itself": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "prints": print_without_end,
    "sleeps": lambda: time.sleep(600),
    "spins": spin,
    "spins on": spin_deaf,
    "shares memory": fill_shared_memory,
    "allocates": allocate,
    "allocates a tensor": allocate_tensor,
    "closes": close_and_go_on,
    "buries": bury_folders,
    "threads": start_threads,
    "refuses": fail(LayerError("layer 'rows': the model has no layer 'x'")),
    "is asked wrongly": fail(UsageError("no such thing")),
    "has a fault of a policy": fail(PolicyError(())),
    "fails": fail(ZeroDivisionError("division by zero")),
    "sends no JSON": sending(b"\xff\xfe"),
    "sends deep JSON": sending(b"[" * 100_000),
    "sends NaN": sending(b'{"kind": "ready", "facts": {"x": NaN}, "tensors": []}'),
    "sends a huge number": sending(b'{"kind": "ready", "facts": {"x": ' + b"9" * 9999 + b'}, "tensors": []}'),
    "sends half a character": sending(b'{"kind": "ready", "facts": {"x": "\\ud800"}, "tensors": []}'),
    "sends a list": sending(b"[]"),
    "sends too much": sending(b"", 1 << 31),
    "sends half a message": sending(b"{", 2),
    "sends another message": telling(kind="ended"),
    "sends no kind": telling(),
    "sends no facts": telling(kind="ready", tensors=[]),
    "sends facts in a list": telling(kind="ready", facts=[], tensors=[]),
    "sends no tensors": telling(kind="ready", facts={}),
    "sends weights that nobody asked for": telling(
        kind="ready", facts={}, tensors=[{"name": "x", "dtype": "float32", "shape": [0], "offset": 0, "bytes": 0}]
    ),
    "sends an error of its own": telling(kind="error", **{"class": "SystemExit"}, message="x"),
    "sends an error without words": telling(kind="error", **{"class": "ModelError"}, message=3),
    "asks for too much room": telling(kind="room", bytes=1 << 40),
    "asks for no room": telling(kind="room", bytes=0),
    "asks for less than no room": telling(kind="room", bytes=-1),
    "asks for true room": telling(kind="room", bytes=True),
    "asks for huge room": telling(kind="room", bytes=10**30),
    "describes another name": describing(name="columns"),
    "describes a name that is none": describing(name=["rows"]),
    "describes another type": describing(dtype="object"),
    "describes a type that is none": describing(dtype={}),
    "describes a negative dimension": describing(shape=[-2, -1]),
    "describes a true dimension": describing(shape=[2, True]),
    "describes half a dimension": describing(shape=[2, 1.0]),
    "describes more than there is": describing(shape=[2, 1 << 20], bytes=8 << 20),
    "describes an overflow": describing(shape=[1 << 32, 1 << 32], bytes=0),
    "describes an overflow of nothing": describing(shape=[0, 1 << 62, 1 << 62], bytes=0),
    "describes fewer bytes": describing(bytes=4),
    "describes more bytes": describing(bytes=16),
    "describes a place outside": describing(offset=4096),
    "describes a place across the end": describing(offset=4092),
    "describes a negative place": describing(offset=-8),
    "describes a crooked place": describing(offset=2),
    "describes another row": describing(shape=[3, 1], bytes=12),
    "describes three dimensions": describing(shape=[2, 1, 1]),
    "describes one dimension": describing(shape=[2]),
    "describes something else": describing(more=1),
}
