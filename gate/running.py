"""One model running in this process: what to run, as data that can be sent to another process, and running it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from gate.features import Extractor, LayerAddress
    from gate.inputs import Inputs
    from gate.program import Precision


@dataclass(frozen=True)
class Job:
    """What to run, and what to read of it.

    Attributes:
        folder: Of the model, with its MLmodel file.
        layers: Name → address.
        device: Where it runs.
        precision: Of its arithmetic.
        batch_size: Rows that it is shown at once, or "auto".
        pickle: Whether it may be a pickle, which runs whatever code it names.
        code: Whether Python files of the model may run.
        columns: Names of the columns that an input of several numbers was made of, in its order.
        weights: Name → layer, of the linear layers whose weights are read ("head").
    """

    folder: Path
    layers: Mapping[str, LayerAddress]
    device: str = "cpu"
    precision: Precision = "float32"
    batch_size: int | Literal["auto"] = "auto"
    pickle: bool = False
    code: bool = False
    columns: tuple[str, ...] = ()
    weights: Mapping[str, str] | None = None

    @property
    def document(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {**asdict(self), "folder": str(self.folder)}


def opened(document: Mapping[str, Any]) -> Extractor:
    """Loads a model, and makes it ready to be shown rows.

    Args:
        document: Of a job.

    Raises:
        GateError: The model may not be loaded, or cannot be, or lacks a layer whose weights are wanted.
    """
    from gate.features import Extractor, LayerAddress
    from gate.models.mlmodel import Permissions
    from gate.models.opening import How
    from gate.models.opening import opened as load

    permissions = Permissions(pickle=bool(document["pickle"]), code=bool(document["code"]))
    program = load(
        Path(document["folder"]),
        How(document["device"], document["precision"], permissions, tuple(document["columns"])),
    )
    layers = {name: LayerAddress(**address) for name, address in document["layers"].items()}
    return Extractor(program, layers, batch_size=document["batch_size"], weights=document["weights"] or {})


class Described:
    """A model that gives no features: when it is shown rows, what it says of its layers is among its facts.

    Args:
        extractor: Of no layer.

    Attributes:
        facts: As gate.features.Extractor.described has them, of the last rows.
    """

    weights: Mapping[str, Tensor] = MappingProxyType({})

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor
        self.facts: Mapping[str, object] = {}

    def __call__(self, inputs: Inputs) -> dict[str, Tensor]:
        """Nothing."""
        self.facts = self._extractor.described(inputs)
        return {}


@contextmanager
def described(document: Mapping[str, Any]) -> Iterator[Described]:
    """Loads a model to be asked about its layers.

    Args:
        document: Of a job.

    Raises:
        GateError: The model may not be loaded, or cannot be.
    """
    yield Described(opened({**document, "layers": {}, "weights": {}}))
