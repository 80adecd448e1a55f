"""The judge's side of one worker: starts it, asks it, believes nothing, and says how it ended."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, TYPE_CHECKING, cast

from gate import errors
from gate.errors import ModelError
from gate.isolation import arena, permitted, scratch
from gate.isolation.channel import Channel, ClosedError, MessageError
from gate.isolation.ends import ended
from gate.isolation.environment import environment
from gate.isolation.watch import Watch
from gate.isolation.worker import LONGEST_MESSAGE, PASSED_ON

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from mmap import mmap
    from pathlib import Path

    from torch import Tensor

    from gate.inputs import Inputs
    from gate.isolation.limits import Limits

# Isolated mode: no PYTHON* settings, no user packages, no working folder. `gate` is the one that runs here.
_START = """
import json, sys
place, path, descriptor = json.loads(sys.argv[1])
sys.path.insert(0, place)
import gate
sys.path[:] = path
from gate.isolation.worker import main
main(descriptor)
"""
_GRACE = 2.0


class Worker:
    """A process that was started and waits for its order.

    Args:
        limits: How much it may use.

    Attributes:
        folder: The one that it may write in.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._inputs: mmap | None = None
        self._outputs: mmap | None = None
        self._failure: errors.GateError | None = None
        with ExitStack() as undo:
            self.folder = scratch.made()
            undo.callback(scratch.removed, self.folder)
            mine, theirs = socket.socketpair()
            self._channel = Channel(mine)
            undo.callback(self._channel.close)
            with theirs:
                process = _started(theirs.fileno(), self.folder)
            self._watch = Watch(process, cast("IO[bytes]", process.stdout), limits, self._channel.shut, self.folder)
            undo.callback(self._watch.end)
            self._watch.start()
            self._undo = undo.pop_all()

    def close(self) -> None:
        """Kill it, whatever it does, and remove its files; without effect the second time."""
        self._undo.close()
        for memory in (self._inputs, self._outputs):
            with suppress(BufferError):  # an error that was raised over it still looks at it
                if memory is not None:
                    memory.close()
        self._inputs = self._outputs = None

    def ask(self, message: Mapping[str, object], when: str, *files: int) -> None:
        """Send a message.

        Args:
            message: JSON.
            when: What the worker does at this time, as the end of a sentence.
            files: Open files that go with it.

        Raises:
            ModelError: The worker has ended.
        """
        with self.accepting(when):
            self._channel.send(message, *files)

    def show(self, inputs: Inputs, when: str) -> None:
        """Send a batch.

        Raises:
            ModelError: Something in it is no number, text or picture, or the worker has ended.
        """
        from gate.isolation.packing import Packed

        packed, file = Packed(inputs), None
        try:
            if self._inputs is None or packed.size > len(self._inputs):
                self._inputs, file = self._memory(packed.size, self._inputs)
            packed.write(self._inputs)
            self.ask({"kind": "run", "inputs": packed.described}, when, *(() if file is None else (file,)))
        finally:
            if file is not None:
                os.close(file)

    def answer(self, kind: str, when: str) -> dict[str, object]:
        """The next message, which has to be of this kind; memory that the worker asks for before it is given.

        Raises:
            GateError: The model refuses, as the worker tells it.
            ModelError: The worker has ended, or sent something else.
        """
        with self.accepting(when):
            while True:
                message = self._channel.receive()
                found = message.get("kind")
                if found == kind:
                    return message
                if found == "room":
                    self._give_room(message.get("bytes"), when)
                elif found == "error":
                    raise _told(message)
                else:
                    raise MessageError(f"{found!r:.80}, expected {kind!r}")

    def tensors(self, message: Mapping[str, object], names: Collection[str]) -> dict[str, Tensor]:
        """Copies of the tensors of a message.

        Raises:
            MessageError: They are not as described, or others than those named.
        """
        from gate.isolation.tensors import read

        return read(message.get("tensors"), self._outputs, names)

    @contextmanager
    def accepting(self, when: str) -> Iterator[None]:
        """What the worker sends wrongly, or does not send any more, becomes an error of the model inside the block.

        The first error is the one that is raised again by whatever is tried with this worker later.
        """
        if self._failure is not None:
            raise self._failure
        try:
            yield
        except (ClosedError, MessageError, errors.GateError) as error:
            self._failure = error if isinstance(error, errors.GateError) else self._failed(error, when)
            raise self._failure from None

    def _give_room(self, wanted: object, when: str) -> None:
        if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted <= len(self._outputs or b""):
            raise MessageError(f"{wanted!r:.80} for the memory that it needs, expected more than it has")
        self._outputs, file = self._memory(wanted, self._outputs)
        try:
            self.ask({"kind": "room"}, when, file)
        finally:
            os.close(file)

    @staticmethod
    def _memory(wanted: int, present: mmap | None) -> tuple[mmap, int]:
        return arena.made(arena.grown(wanted, len(present or b"")))

    def _failed(self, error: ClosedError | MessageError, when: str) -> ModelError:
        """What a worker did that is of no use any more; it is killed, if it still runs."""
        by_itself = isinstance(error, ClosedError) and self._watch.ended(_GRACE)
        code = self._watch.end()
        if isinstance(error, MessageError):
            found = f"the model's process sent what is not accepted {when}: {error}"
        elif by_itself:
            found = f"the model {self._watch.reason or ended(code, self._limits)}, {when}"
        else:
            found = f"the model closed its channel to the gate and went on, {when}"
        return ModelError(f"{found}; {self._watch.last_lines()}")


def _started(descriptor: int, folder: Path) -> subprocess.Popen[bytes]:
    told = json.dumps([permitted.packages(), permitted.search_path(), descriptor])
    return subprocess.Popen(  # noqa: S603 - this interpreter, with arguments of our own
        [sys.executable, "-I", "-B", "-u", "-W", "ignore", "-c", _START, told],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        cwd=folder,
        env=environment(folder),
        pass_fds=(descriptor,),
        start_new_session=True,
    )


def _told(message: Mapping[str, object]) -> errors.GateError:
    """An error that the worker names: one of those that a model can have, and never another class."""
    name, text = message.get("class"), message.get("message")
    if name not in PASSED_ON or not isinstance(text, str):
        raise MessageError(f"an error {name!r:.80}, expected {', '.join(PASSED_ON)} and a text")
    kind: type[errors.GateError] = getattr(errors, str(name))
    return kind(text[:LONGEST_MESSAGE])
