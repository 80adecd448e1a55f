"""One trained model as it answers for the probe rows: what the rules of a pack judge."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

EVERY = 10  # of the rows is a copy, where there are copies


@dataclass(frozen=True)
class Case:
    """A model, judged once.

    Attributes:
        model: What it is called: "healthy", or what went wrong.
        layers: Features (n, d) by the layer's name in the pack.
        inputs: The probe rows themselves (n, p): duplicates are looked for among inputs.
        columns: What else is known of each row, by the names of `gate.measure`.
        baseline: Features (n, e) of the champion by layer, where the pack compares with one.
        healthy: Whether every blocking rule must pass it.
    """

    model: str
    layers: Mapping[str, Tensor]
    inputs: Tensor
    columns: Mapping[str, Any]
    baseline: Mapping[str, Tensor] = field(default_factory=dict)
    healthy: bool = False


def with_copies(case: Case) -> Case:
    """The same model on a probe set in which every tenth row is a copy of one and the same row."""
    rows = torch.arange(len(case.inputs))
    rows[::EVERY] = 1
    return replace(
        case,
        model="probe with copies",
        layers={name: features[rows] for name, features in case.layers.items()},
        inputs=case.inputs[rows],
        columns={name: column[rows] for name, column in case.columns.items()},
        healthy=False,
    )
