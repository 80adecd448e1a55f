"""`gate report`: recorded evidence, rendered again in any format; nothing is evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gate.cli import evidence, outputs
from gate.cli.check import FailOn, Requests, tell_silenced

Result = Annotated[
    str,
    typer.Argument(
        metavar="RESULT",
        help="File of evidence, - for standard input, or the MLflow run that holds it: its id, or runs:/ID.",
        show_default=False,
    ),
]

EPILOG = (
    "The exit code is that of the recorded verdict, as gate check would set it, whatever the format; 7 where a "
    "run holds other evidence than was signed for it."
)


def report(result: Result, *, output: Requests = None, fail_on: FailOn = "inconclusive") -> None:
    """Render recorded evidence again, in any format; the exit code is its verdict."""
    from gate.verdict import Verdict, exit_code

    targets = outputs.parse(output or ())
    outputs.remove_stale(targets, inputs=[Path(result)], model_uri=result)
    document = evidence.of_run(result) if evidence.is_run(result) else evidence.of_file(result)
    outputs.write(targets, document)
    code = exit_code(Verdict(document["status"], document["exit_code"], document["counts"]), fail_on)
    tell_silenced(document, code, silencer=f"--fail-on {fail_on}")
    raise typer.Exit(code)
