"""A model in a process of its own, that is closed to everything but its files and its inputs."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Self, cast

from gate.errors import UsageError
from gate.isolation import permitted
from gate.isolation.channel import MessageError
from gate.isolation.limits import Limits
from gate.program import MOST_WIDE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from torch import Tensor

    from gate.inputs import Inputs
    from gate.isolation.judge import Worker

TARGET = "gate.running:opened"
_CLOSING, _LOADING, _ENDING = "before the model was loaded", "while the model was loaded", "at its end"


class Isolated:
    """Runs a model on batches, in a worker that can neither reach the network nor read more than the model.

    A context manager, used as `gate.features.Extractor` is. Entering it starts the worker and does not wait: the first
    look at `facts`, `weights` or `confinement`, or the first batch, does. A block that ends without an error ends with
    the checks of the model's own `__exit__`; at the end of every block the worker is killed and its files are removed.
    The worker also ends with the thread that started it.

    Args:
        job: What `target` is called with; JSON.
        readable: The folder of the model's files, and whatever else the worker is to read.
        features: Names that each batch gives, neither more nor fewer.
        weights: Names that may be among the weights.
        modules: Folders in which it also looks for modules, and which it reads.
        limits: How much it may use.
        device: Where the model runs ("cpu", "cuda").
        target: "module:function" to be called with the job in the worker; gives a context manager of an
            `gate.isolation.worker.Opened`.
    """

    def __init__(
        self,
        job: Mapping[str, object],
        readable: Sequence[Path],
        *,
        features: Collection[str],
        weights: Collection[str] = (),
        modules: Sequence[Path] = (),
        limits: Limits | None = None,
        device: str = "cpu",
        target: str = TARGET,
    ) -> None:
        self._job, self._target, self._device = dict(job), target, device
        self._readable = [str(path.resolve()) for path in (*readable, *modules)]
        self._modules = [str(path.resolve()) for path in modules]
        self._names, self._weight_names = frozenset(features), frozenset(weights)
        self._limits = limits or Limits()
        self._worker: Worker | None = None
        self._confinement: Mapping[str, object] | None = None
        self._layers: list[str] = []
        self._ready: tuple[Mapping[str, object], Mapping[str, Tensor]] | None = None

    def start(self) -> None:
        """Start the worker and return at once; without effect when it was started before.

        Raises:
            UsageError: This system has no means to close a process.
        """
        if sys.platform != "linux":
            raise UsageError(f"a model can be closed in a process of its own on Linux only, found {sys.platform}")
        from gate.isolation.judge import Worker

        if self._worker is None:
            self._worker = Worker(self._limits)
            self._worker.ask(self._order(self._worker.folder), _CLOSING)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            if kind is None:
                self._end()
        finally:
            self.close()

    def __call__(self, inputs: Inputs) -> dict[str, Tensor]:
        """Features of one batch.

        Args:
            inputs: Of b rows, b >= 1.

        Returns:
            Name → (b, d), in the memory of this process.

        Raises:
            GateError: As the model in the worker refuses the batch.
            ModelError: The worker ended, went beyond its limits or sent what is not accepted.
        """
        from gate.inputs import count, described

        self._loaded()
        worker, when = self._running(), f"while it ran on {described(inputs)}"
        worker.show(inputs, when)
        answer = worker.answer("features", when)
        with worker.accepting(when):
            features = worker.tensors(answer, self._names)
            _require(features, self._names, count(inputs))
        return features

    @property
    def facts(self) -> Mapping[str, object]:
        """What the worker says of the model, which is no more than that: none of it is looked at here.

        Raises:
            GateError: The model could not be loaded.
        """
        return self._loaded()[0]

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """Name → weights of the model, as far as they were asked for and are there.

        Raises:
            GateError: The model could not be loaded.
        """
        return self._loaded()[1]

    @property
    def layers(self) -> list[str]:
        """Names of the layers that the model has, as it says; the first of very many.

        Raises:
            GateError: The model could not be loaded.
        """
        self._loaded()
        return self._layers

    @property
    def confinement(self) -> Mapping[str, object]:
        """How the worker is closed (gate.isolation.confinement.confine), said before any code of the model ran.

        Raises:
            ModelError: The worker could not be closed.
        """
        if self._confinement is None:
            worker = self._running()
            answer = worker.answer("confined", _CLOSING)
            with worker.accepting(_CLOSING):
                self._confinement = _object(answer, "confinement")
        return self._confinement

    def close(self) -> None:
        """Kill the worker, whatever it does, and remove its files; without effect when that has happened."""
        if self._worker is not None:
            self._worker.close()

    def _order(self, folder: Path) -> dict[str, object]:
        permission = {
            "readable": [*self._readable, *permitted.readable()],
            "writable": [str(folder)],
            "devices": permitted.devices(self._device),
            "memory": self._limits.bytes,
            "processor_seconds": self._limits.processor_seconds,
        }
        path = [*self._modules, *permitted.search_path()]
        job = {"target": self._target, "job": self._job}
        return {"permission": permission, "parent": os.getpid(), "path": path, **job}

    def _running(self) -> Worker:
        if self._worker is None:
            raise UsageError("the worker of the model was not started; use it in a `with` block")
        return self._worker

    def _loaded(self) -> tuple[Mapping[str, object], Mapping[str, Tensor]]:
        if self._ready is None:
            _ = self.confinement
            worker = self._running()
            answer = worker.answer("ready", _LOADING)
            with worker.accepting(_LOADING):
                self._ready = _object(answer, "facts"), worker.tensors(answer, self._weight_names)
                self._layers = _names(answer)
        return self._ready

    def _end(self) -> None:
        self._loaded()
        worker = self._running()
        worker.ask({"kind": "end"}, _ENDING)
        answer = worker.answer("ended", _ENDING)
        with worker.accepting(_ENDING):
            self._ready = _object(answer, "facts"), self._loaded()[1]


def _object(message: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = message.get(key)
    if not isinstance(found, dict):
        raise MessageError(f"{key} that are a {type(found).__name__}, expected an object")
    return cast("dict[str, object]", found)


def _names(message: Mapping[str, object]) -> list[str]:
    found = message.get("layers", [])
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise MessageError("layers that are no list of names")
    return found


def _require(features: Mapping[str, Tensor], names: Collection[str], rows: int) -> None:
    """Each name that was asked for, and a row for each row that was shown."""
    if missing := sorted(set(names) - features.keys()):
        raise MessageError(f"no features of {', '.join(missing)}")
    for name, each in features.items():
        if each.ndim != 2 or len(each) != rows or each.shape[1] > MOST_WIDE:
            raise MessageError(
                f"features {name!r} of shape {tuple(each.shape)}, expected ({rows}, d), d of at most {MOST_WIDE}"
            )
