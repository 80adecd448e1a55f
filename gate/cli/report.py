"""`gate report`: recorded evidence, rendered again in any format; nothing is evaluated."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gate.cli import outputs
from gate.cli.check import FailOn, Requests  # noqa: TC001 - typer reads annotations when it runs
from gate.errors import GateError, UsageError

Result = Annotated[
    str,
    typer.Argument(
        metavar="RESULT",
        help="File of evidence, - for standard input, or the MLflow run that holds it: its id, or runs:/ID.",
        show_default=False,
    ),
]

_RUN_ID = re.compile(r"[0-9a-f]{32}")

EPILOG = "The exit code is that of the recorded verdict, as gate check would set it, whatever the format."


def report(result: Result, *, output: Requests = None, fail_on: FailOn = "inconclusive") -> None:
    """Render recorded evidence again, in any format; the exit code is its verdict."""
    from gate.verdict import Verdict, exit_code

    targets = outputs.parse(output or ())
    outputs.remove_stale(targets, inputs=[Path(result)], model_uri=result)
    document = _document(result)
    outputs.write(targets, document)
    raise typer.Exit(exit_code(Verdict(document["status"], document["exit_code"], document["counts"]), fail_on))


def _document(result: str) -> dict[str, Any]:
    from gate.evidence import bundle

    if result != "-" and not _is_run(result):
        return bundle.load(Path(result))
    name = "standard input" if result == "-" else result
    try:
        return bundle.loads((sys.stdin.buffer.read() if result == "-" else _recorded(result)).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: is not evidence in JSON: {error}") from None
    except GateError as error:
        raise type(error)(f"{name}: {error}") from None


def _is_run(result: str) -> bool:
    """Whether it is a run; a file of that name goes first."""
    return result.startswith("runs:/") or (_RUN_ID.fullmatch(result) is not None and not Path(result).exists())


def _recorded(run: str) -> bytes:
    from gate.mlflow_plugin.recordings import of_run

    return of_run(run.removeprefix("runs:/").strip("/").partition("/")[0])
