"""The evidence that a command is about: a file, standard input, or the MLflow run that holds it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

_RUN_ID = re.compile(r"[0-9a-f]{8,32}")  # or the beginning of one, as the tag `gate.run` has it


def is_run(name: str) -> bool:
    """Whether it is a run, `runs:/ID` or its id; a file of that name goes first."""
    return name.startswith("runs:/") or (_RUN_ID.fullmatch(name) is not None and not Path(name).exists())


def of_file(path: str) -> dict[str, Any]:
    """The evidence in a file; `-` is standard input.

    Raises:
        UsageError: It is not there, or no evidence that this version can read.
        GateError: It contradicts itself.
    """
    from gate.evidence import bundle

    return bundle.read("standard input", sys.stdin.buffer.read()) if path == "-" else bundle.load(Path(path))


def of_run(run: str) -> dict[str, Any]:
    """The evidence that a run holds.

    Raises:
        RegistryError: MLflow cannot be reached, or knows no such run.
        VerificationError: The evidence is not what was signed for the run.
        GateError: The run holds no evidence, or some that contradicts itself.
    """
    from gate.evidence import bundle
    from gate.mlflow_plugin.recordings import of_run as recorded

    return bundle.read(run, recorded(run.removeprefix("runs:/").strip("/").partition("/")[0]))
