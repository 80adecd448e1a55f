"""What runs in the process of a model: closes it, loads the model, and answers the judge until told to end."""

from __future__ import annotations

import errno
import os
import resource
import socket
import sys
import traceback
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from gate import errors
from gate.isolation.channel import Channel, ClosedError, MessageError
from gate.isolation.confinement import Permission, confine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from mmap import mmap

    from torch import Tensor

    from gate.inputs import Inputs

PASSED_ON = ("GateError", "LayerError", "MetricError", "ModelError")  # all of them exit with 3
LONGEST_MESSAGE = 4000
_LONGEST, _MOST_LAYERS = 200, 2000
_MOST_CAUSES = 20
_REFUSALS = (errno.EPERM, errno.EACCES, errno.EROFS, errno.ENETUNREACH)
_CLOSED = (
    "; the model is closed in a process of its own: it may write to its scratch folder alone, read no more than its "
    "own files and libraries, reach no network and start no process; for a model that you trust, write "
    "`run: {isolation: none}`"
)
_FROM_JUDGE = 1 << 30  # who may describe a table of very many columns


class Opened(Protocol):
    """A model that answers.

    Attributes:
        facts: What the judge is to know of it; plain JSON.
        weights: Name → tensor that the judge is to have.
    """

    facts: Mapping[str, object]
    weights: Mapping[str, Tensor]

    def __call__(self, inputs: Inputs) -> Mapping[str, Tensor]:
        """Name → features of one batch."""


def main(descriptor: int) -> None:
    """Serve the judge at the other end of a socket; does not return.

    Args:
        descriptor: The socket, inherited.
    """
    channel = Channel(socket.socket(fileno=descriptor), _FROM_JUDGE)
    try:
        order: Any
        order, _ = channel.receive_with_file()
        confined = confine(Permission(**order["permission"]), order["parent"])
        channel.send({"kind": "confined", "confinement": confined})
        sys.path[:] = order["path"]
        _serve(_Desk(channel), order["target"], order["job"])
    except ClosedError:  # the judge has gone, and has no use for an answer
        os._exit(1)
    except BaseException as error:  # noqa: BLE001 - the outermost boundary of this process: the judge tells it
        _tell(channel, error)
    # Nothing that a library wants to do at the end of a process matters any more, and it may hang.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _serve(desk: _Desk, target: str, job: Mapping[str, object]) -> None:
    module, _, function = target.partition(":")
    opened: Callable[[Mapping[str, object]], AbstractContextManager[Opened]] = getattr(import_module(module), function)
    with opened(job) as model:
        layers = [str(layer)[:_LONGEST] for layer in getattr(model, "layers", ())][:_MOST_LAYERS]
        desk.answer("ready", dict(model.weights), facts=dict(model.facts), layers=layers)
        while (inputs := desk.inputs()) is not None:
            desk.answer("features", dict(model(inputs)))
    # Once more: a batch that did not fit into memory was made smaller.
    desk.channel.send({"kind": "ended", "facts": dict(model.facts)})


class _Desk:
    """Where inputs arrive and features leave; remembers the memory for both."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._inputs: mmap | None = None
        self._outputs: mmap | None = None

    def inputs(self) -> Inputs | None:
        """The next batch; None when there is no more."""
        from gate.isolation.packing import unpacked

        message, file = self.channel.receive_with_file()
        if message["kind"] == "end":
            return None
        self._inputs = _mapped(file) or self._inputs
        if self._inputs is None:
            raise MessageError("a batch without memory")
        return unpacked(cast("Mapping[str, Any]", message["inputs"]), self._inputs)

    def answer(self, kind: str, tensors: Mapping[str, Tensor], **more: object) -> None:
        """Send tensors, for which the judge is asked for memory where there is too little."""
        from gate.isolation.tensors import placed, write

        places, size = placed(tensors)
        if size > len(self._outputs or b""):
            self.channel.send({"kind": "room", "bytes": size})
            self._outputs = _mapped(self.channel.receive_with_file()[1])
        if self._outputs is not None:
            write(tensors, places, self._outputs)
        self.channel.send({"kind": kind, "tensors": places, **more})


def _mapped(file: int | None) -> mmap | None:
    from gate.isolation.arena import mapped

    if file is None:
        return None
    try:
        return mapped(file)
    finally:
        os.close(file)


def _tell(channel: Channel, error: BaseException) -> None:
    """Errors of the gate go as they are; of any other the judge learns the type, and its output the rest."""
    name, why = type(error).__name__, _why(error)
    if isinstance(error, errors.GateError) and name in PASSED_ON:
        reason = str(error)
    else:
        traceback.print_exception(error)
        reason = f"the model raised {name}: {error}" if str(error) else f"the model raised {name}"
        name = "ModelError"
    try:
        channel.send({"kind": "error", "class": name, "message": reason[: LONGEST_MESSAGE - len(why)] + why})
    except (ClosedError, ValueError):
        os._exit(1)


def _why(error: BaseException) -> str:
    """What of this process explains an error, as the end of its message: that it is closed, or its memory bounded."""
    chain = tuple(_chain(error))
    if any(isinstance(each, socket.gaierror) or getattr(each, "errno", None) in _REFUSALS for each in chain):
        return _CLOSED
    if any(type(each).__name__ == "OutOfMemoryError" or "CUDA" in str(each) for each in chain):  # no limit bounds a GPU
        return ""
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    short = any(isinstance(each, MemoryError) or "allocate memory" in str(each) for each in chain)
    return f" (it may hold {limit >> 20} MiB of memory: run.memory)" if short and limit >= 0 else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came of."""
    for _ in range(_MOST_CAUSES):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
