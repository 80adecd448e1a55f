"""A file of weights becomes a module whose layers can be hooked."""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gate.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from torch.export import ExportedProgram
    from torch.fx import Graph, Node

# What torch and pickle raise on a damaged file, a missing class or a device that is not there.
_UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
# Operators whose argument of this name makes the output depend on chance or on the other rows of the batch.
_TRAINING_ARGUMENTS = {"train", "training"}


@dataclass(frozen=True)
class Program:
    """A module and what its file says about the one input.

    Attributes:
        module: In evaluation mode, on the device.
        batch_size: The only number of rows that the module takes, None when any number will do.
        input_dtype: Of the input ("float32"), None when the file does not say.
    """

    module: nn.Module
    batch_size: int | None
    input_dtype: str | None


def load_exported(path: Path, *, device: str, allow_pickle: bool) -> Program:
    """Load a program of torch.export as a tree of modules, so that forward hooks fire on its layers.

    Args:
        path: A "model.pt2" file.
        device: Where the module is to run.
        allow_pickle: Whether members of the archive may be pickles of arbitrary objects.

    Raises:
        ModelError: The file is damaged or holds pickled objects, takes other than one input, or was exported in
            training mode.
    """
    import torch

    program = _read_program(path, allow_pickle=allow_pickle)
    _refuse_training_mode(path, program)
    example = _example_input(path, program)
    if torch.device(device).type != example.device.type:
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    module = torch.export.unflatten(program)
    module.eval()
    rows = example.shape[0] if example.ndim else None
    return Program(module, rows if isinstance(rows, int) else None, str(example.dtype).removeprefix("torch."))


def load_pickled(path: Path, *, device: str) -> Program:
    """Load a pickled module; runs the code that the pickle names, so call it only when the policy allows that.

    Args:
        path: The folder of the MLflow model.
        device: Where the module is to run.

    Raises:
        ModelError: The pickle cannot be read here, or holds something else than a module.
    """
    import mlflow.pytorch
    import torch
    from mlflow.exceptions import MlflowException

    try:
        module = mlflow.pytorch.load_model(str(path), map_location=device, weights_only=False)
    except (MlflowException, *_UNREADABLE) as error:
        raise ModelError(
            f"{path}: the pickled model cannot be loaded here: {type(error).__name__}: {_first_line(error)}"
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise ModelError(f"{path}: the pickle holds {type(module).__name__!r}, expected a torch.nn.Module")
    module.eval()
    return Program(module.to(device), None, None)


def _read_program(path: Path, *, allow_pickle: bool) -> ExportedProgram:
    import torch
    from mlflow.exceptions import MlflowException
    from mlflow.pytorch import _validate_pt2_archive_is_pickle_free

    try:
        if not allow_pickle:
            # torch.export.load unpickles members of the archive; this is MLflow's own check that none is code.
            _validate_pt2_archive_is_pickle_free(str(path))
        return torch.export.load(path)
    except MlflowException as error:
        raise ModelError(
            f"{path}: the exported program is not free of pickled objects, or damaged, and is not loaded "
            f"(`run: {{allow_pickle: true}}` in the policy would): {_first_line(error)}"
        ) from error
    except _UNREADABLE as error:
        raise ModelError(f"{path}: the exported program cannot be read: {_first_line(error)}") from error


def _example_input(path: Path, program: ExportedProgram) -> Tensor:
    import torch

    names = program.graph_signature.user_inputs
    values = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(names) != 1 or not isinstance(values[0], torch.Tensor):
        raise ModelError(f"{path}: the program takes the inputs {tuple(names)!r}; the gate feeds exactly one tensor")
    return values[0]


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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no further reason given"])[0][:300]
