"""The flavour pytorch: a program of torch.export, or a pickled module."""

from __future__ import annotations

import zipfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from gate.errors import ModelError
from gate.models.flavours.modules import ModuleProgram
from gate.models.flavours.reading import UNREADABLE, first_line, readable

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Graph, Node

    from gate.models.mlmodel import Declaration
    from gate.models.opening import How

# Operators whose argument of this name makes the output depend on chance or on the other rows of the batch.
_TRAINING_ARGUMENTS = {"train", "training"}
_MOST_UNPACKED = 4


def opened(declared: Declaration, folder: Path, how: How) -> ModuleProgram:
    """A program of torch.export as a tree of modules, or a pickled module.

    Raises:
        ModelError: The file is damaged, holds pickled objects that are not allowed, or was exported in training mode.
    """
    if declared.serialization == "pt2":
        return _exported(declared.weights, declared.input_dtype, how)
    return _pickled(folder, declared.input_dtype, how)


def _exported(path: Path, input_dtype: str | None, how: How) -> ModuleProgram:
    """Unflattened, so that forward hooks fire on its layers."""
    import torch

    program = _read_program(path)
    _refuse_training_mode(path, program)
    examples = _example_inputs(path, program)
    if any(torch.device(how.device).type != example.device.type for example in examples.values()):
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, how.device)
    halves = {str(each.dtype) for each in program.state_dict.values() if each.dtype in (torch.float16, torch.bfloat16)}
    if halves and how.precision != "bfloat16":
        raise ModelError(
            f"{path}: the program was exported in {', '.join(sorted(halves))}, and run.precision is {how.precision!r}; "
            "export it in float32, or write `run: {precision: bfloat16}`"
        )
    first = next(iter(examples.values()))
    rows = first.shape[0] if first.ndim else None
    own = str(first.dtype).removeprefix("torch.") if len(examples) == 1 else None
    return ModuleProgram(
        torch.export.unflatten(program),
        device=how.device,
        precision=how.precision,
        batch_size=rows if isinstance(rows, int) else None,
        input_dtype=own or input_dtype,
        order=tuple(examples),
    )


def _pickled(folder: Path, input_dtype: str | None, how: How) -> ModuleProgram:
    import mlflow.pytorch
    import torch
    from mlflow.exceptions import MlflowException

    with readable(folder, "the pickled model", MlflowException):
        module = mlflow.pytorch.load_model(str(folder), map_location=how.device, weights_only=False)
    if not isinstance(module, torch.nn.Module):
        raise ModelError(f"{folder}: the pickle holds {type(module).__name__!r}, expected a torch.nn.Module")
    return ModuleProgram(module, device=how.device, precision=how.precision, input_dtype=input_dtype)


def _read_program(path: Path) -> ExportedProgram:
    import torch
    from mlflow.exceptions import MlflowException
    from mlflow.pytorch import _validate_pt2_archive_is_pickle_free

    _require_plain_archive(path)
    try:
        # torch.export.load unpickles members of the archive; this is MLflow's own check that none is code.
        _validate_pt2_archive_is_pickle_free(str(path))
        return torch.export.load(path)
    except MlflowException as error:
        raise ModelError(
            f"{path}: the exported program is not free of pickled objects, or damaged, and is not loaded: "
            f"{first_line(error)}"
        ) from error
    except UNREADABLE as error:
        raise ModelError(f"{path}: the exported program cannot be read: {first_line(error)}") from error


def _require_plain_archive(path: Path) -> None:
    """Refuses an archive whose members have paths out of it, or unpack to far more than the file holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except UNREADABLE as error:
        raise ModelError(f"{path}: the exported program cannot be read: {first_line(error)}") from error
    for member in members:
        place = PurePosixPath(member.filename)
        if place.is_absolute() or ".." in place.parts or "\\" in member.filename:
            raise ModelError(f"{path}: the archive holds {member.filename!r}, a path out of it; log the model again")
    unpacked = sum(member.file_size for member in members)
    if unpacked > _MOST_UNPACKED * path.stat().st_size:
        raise ModelError(
            f"{path}: the archive unpacks to {unpacked} bytes, more than {_MOST_UNPACKED} times its size, as no export "
            "of torch does; log the model again"
        )


def _example_inputs(path: Path, program: ExportedProgram) -> dict[str, Tensor]:
    """Name → example of every input; all of them tensors."""
    import torch

    names = tuple(str(name) for name in program.graph_signature.user_inputs)
    values = {
        node.name: node.meta.get("val")
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in names
    }
    if not names or not all(isinstance(values.get(name), torch.Tensor) for name in names):
        raise ModelError(f"{path}: the program takes the inputs {names!r}; the gate feeds tensors, one or more")
    return {name: values[name] for name in names}


def _refuse_training_mode(path: Path, program: ExportedProgram) -> None:
    for graph in _graphs(program):
        for node in graph.nodes:
            if _trains(node):
                raise ModelError(
                    f"{path}: the program was exported in training mode ({node.target} is still training), so its "
                    "outputs are no property of a row; call model.eval() and log the model again"
                )


def _graphs(program: ExportedProgram) -> list[Graph]:
    from torch.fx import GraphModule

    return [module.graph for module in program.graph_module.modules() if isinstance(module, GraphModule)]


def _trains(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return False
    positions = {argument.name: position for position, argument in enumerate(schema.arguments)}
    given = {name: node.args[position] for name, position in positions.items() if position < len(node.args)}
    given |= node.kwargs
    return any(given.get(name) is True for name in _TRAINING_ARGUMENTS) or bool(given.get("dropout_p"))
