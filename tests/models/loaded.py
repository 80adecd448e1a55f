"""Models found by their URI, and opened in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from gate.features import Extractor, LayerAddress
from gate.models.finding import FoundModel, found
from gate.models.flavours.modules import ModuleProgram
from gate.models.mlmodel import Permissions
from gate.models.opening import How, opened
from gate.program import Precision, Program


def find(uri: str, *, directory: Path, allow_pickle: bool = False, allow_code: bool = False) -> FoundModel:
    return found(uri, directory=directory, permissions=Permissions(pickle=allow_pickle, code=allow_code))


def program(
    uri: str, *, directory: Path, allow_pickle: bool = False, allow_code: bool = False, precision: Precision = "float32"
) -> Program:
    model = find(uri, directory=directory, allow_pickle=allow_pickle, allow_code=allow_code)
    return opened(model.path, How("cpu", precision, Permissions(pickle=allow_pickle, code=allow_code)))


def module(uri: str, *, directory: Path, allow_pickle: bool = False) -> ModuleProgram:
    """A program of torch."""
    made = program(uri, directory=directory, allow_pickle=allow_pickle)
    assert isinstance(made, ModuleProgram)
    return made


def extractor(
    made: Program, *, batch_size: int | Literal["auto"] = "auto", weights: Any = None, **layers: LayerAddress
) -> Extractor:
    return Extractor(made, layers, batch_size=batch_size, weights=weights)
