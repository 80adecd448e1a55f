"""A model that runs, whatever library it was made with: what the rest of the gate needs of it, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from torch import Tensor

    from gate.inputs import Inputs

MOST_WIDE = 1 << 15  # features: covariances of more fit into no memory
BUILT_IN = ("input", "output")  # what every program calls a layer
Precision = Literal["float32", "bfloat16", "autocast"]


@dataclass(frozen=True)
class Outputs:
    """What a model gave on one batch.

    Attributes:
        given: Layer → what it gave, once for each time that it ran; under "output" what the model gave, under "input"
            what it was shown, where that is an array.
        mask: (b, t), true for a real token; None where every token is real or there are none.
    """

    given: Mapping[str, Sequence[object]]
    mask: Tensor | None = None


class Program(Protocol):
    """A model in memory.

    Attributes:
        layers: What can be named besides "input" and "output"; empty where the format keeps no layers.
        closed: Why there are no layers, as the end of a sentence; empty where there are.
        batch_size: The only number of rows that it takes; None when any number will do.
        at_once: Rows that it is shown at once where nobody says; halved while memory runs out.
        rounding: Unit of rounding of what it computes in (2^-24 for float32), relative.
    """

    layers: Collection[str]
    closed: str
    batch_size: int | None
    at_once: int
    rounding: float

    def run(self, inputs: Inputs, paths: Collection[str]) -> Outputs:
        """One forward pass in evaluation mode, without gradients.

        Args:
            inputs: Of b rows, b >= 1.
            paths: The layers that are wanted, each among `layers`, or "input" or "output".

        Raises:
            ModelError: The model does not run on these inputs.
        """

    def shapes(self, inputs: Inputs) -> Mapping[str, str]:
        """Layer → what it gives on this batch ("(8, 64)"), of every layer that runs, and of "input" and "output"."""

    def weights_of(self, path: str) -> Mapping[str, Tensor]:
        """Weight (C, d) and, where there is one, bias (C,) of a linear layer, by these names.

        Raises:
            LayerError: There is no such layer, or it has no weight (C, d).
        """
