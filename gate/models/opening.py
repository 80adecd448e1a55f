"""From the files of a model to a program that runs, by its flavour."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, cast

from gate.models.mlmodel import Permissions, inspect
from gate.models.quiet import quiet_mlflow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gate.models.mlmodel import Declaration
    from gate.program import Precision, Program


_OF_MLFLOW = ("pytorch", "pyfunc")


@dataclass(frozen=True)
class How:
    """How a model is to be loaded and run.

    Attributes:
        device: Where ("cpu", "cuda").
        precision: Of its arithmetic.
        permissions: What it may do when it is loaded.
        columns: Names of the columns that an input of several numbers was made of, in its order.
    """

    device: str = "cpu"
    precision: Precision = "float32"
    permissions: Permissions = field(default_factory=Permissions)
    columns: tuple[str, ...] = ()


def opened(folder: Path, how: How) -> Program:
    """Load a model; with the permissions that pickles and code need, this runs whatever they hold.

    Args:
        folder: Holds the MLmodel file.
        how: To be loaded and run.

    Raises:
        ModelError: The model may not be loaded, or cannot be.
    """
    declared = inspect(folder, how.permissions)
    flavour = import_module(f"gate.models.flavours.{declared.flavour}")
    # MLflow takes a second to import, and most flavours have no need of it.
    with quiet_mlflow() if declared.flavour in _OF_MLFLOW else warnings.catch_warnings(action="ignore"):
        return cast("Callable[[Declaration, Path, How], Program]", flavour.opened)(declared, folder, how)
