"""What goes wrong when files of models are read."""

from __future__ import annotations

import json
import pickle
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gate.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# What torch, pickle, safetensors and the libraries of models raise on a damaged file, a missing class or a device that
# is not there.
UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    json.JSONDecodeError,
    zipfile.BadZipFile,
)


def first_line(error: BaseException) -> str:
    """The first line of what an exception says."""
    return (str(error).strip().splitlines() or ["no further reason given"])[0][:300]


@contextmanager
def readable(path: Path, what: str, *also: type[Exception]) -> Iterator[None]:
    """What goes wrong inside the block becomes a ModelError that names the file.

    Args:
        path: Of the file or the folder.
        what: It should be ("the ONNX graph").
        also: Further exceptions of a library.

    Raises:
        ModelError: It cannot be read here.
    """
    expected: tuple[type[Exception], ...] = (*UNREADABLE, *also)
    try:
        yield
    except expected as error:
        raise ModelError(
            f"{path}: {what} cannot be loaded here: {type(error).__name__}: {first_line(error)}"
        ) from error


@contextmanager
def installed(package: str, flavour: str) -> Iterator[None]:
    """A package that is not there becomes a ModelError that says how to get it.

    Raises:
        ModelError: An import failed.
    """
    try:
        yield
    except ImportError as error:
        raise ModelError(
            f"a model of the flavour {flavour} needs the package {package!r}, which cannot be imported here "
            f"({first_line(error)}); install it: pip install {package}"
        ) from error


def quiet_transformers() -> None:
    """No bars and no warnings of transformers on stderr."""
    from transformers.utils import logging

    library: Any = logging
    library.disable_progress_bar()
    library.set_verbosity_error()


def require_all_weights(path: Path, report: Mapping[str, Any]) -> None:
    """Refuses a model whose file lacks weights: transformers would draw them by chance, other ones each time.

    Args:
        path: Of its files.
        report: What `from_pretrained(..., output_loading_info=True)` says.

    Raises:
        ModelError: Weights are missing, or have another shape.
    """
    lacking = sorted(map(str, (*report.get("missing_keys", ()), *report.get("mismatched_keys", ()))))
    if lacking:
        raise ModelError(
            f"{path}: {len(lacking)} of the weights of the model are not in its files, or have another shape "
            f"({', '.join(lacking[:3])}); they would be drawn by chance: log the model again, in the class that it has"
        )
