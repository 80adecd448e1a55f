"""`gate compare`: two versions of a model side by side, on the same rows."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gate.cli import outputs
from gate.cli.boundary import evaluating
from gate.cli.check import Device, NoProgress, Quiet  # noqa: TC001 - typer reads annotations when it runs
from gate.cli.progress import rows_done
from gate.evidence.wording import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

EarlierUri = Annotated[
    str,
    typer.Argument(metavar="A", help="The version to compare with: any MODEL_URI of gate check.", show_default=False),
]
LaterUri = Annotated[str, typer.Argument(metavar="B", help="The version that is compared.", show_default=False)]
ProbeSpec = Annotated[
    str | None,
    typer.Option(
        "--probe",
        metavar="SPEC",
        help="Probe spec (.yaml); with a policy also a probe set in place of its own.",
    ),
]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        "--layer", metavar="NAME=PATH[:POOLING]", help="Where features are read. Repeatable. Default: the output."
    ),
]
Reads = Annotated[
    list[str] | None,
    typer.Option("--reads", metavar="KEY=PATH", help="What else is read, such as logits=output. Repeatable."),
]
PolicyFile = Annotated[
    str | None,
    typer.Option(
        "--policy",
        "-p",
        metavar="FILE|PACK",
        help="Takes layers, reads, probe and parameters from it; its rules are not judged.",
    ),
]
Long = Annotated[bool, typer.Option("--long", help="Every read-out, not only the value of each metric.")]
Holm = Annotated[bool, typer.Option("--holm", help="Let differences hold for all numbers at once (Holm 1979).")]
Requests = Annotated[list[str] | None, outputs.option("text, json or markdown")]

EPILOG = "The exit code says that both were compared, not which is better: `gate check` judges."
_BEGINNINGS = {
    "text": "COMPARED  B ",
    "json": '{\n "schema": "gate.comparison/v',
    "markdown": "### gate compare: ",
}


def compare(  # noqa: PLR0913 - one parameter for every option of the command
    a: EarlierUri,
    b: LaterUri,
    *,
    probe: ProbeSpec = None,
    layer: Layers = None,
    reads: Reads = None,
    policy: PolicyFile = None,
    long: Long = False,
    holm: Holm = False,
    output: Requests = None,
    device: Device = "auto",
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Compare two versions on the same rows: every applicable metric, and what differs for better or worse."""
    targets = outputs.parse(output or (), tuple(_BEGINNINGS))
    read = [Path(each) for each in (probe, policy) if each is not None]
    for model in (a, b):
        outputs.remove_stale(targets, inputs=read, model_uri=model, recognised=_is_comparison)
    from gate.policy.made import named

    layers, columns = named("--layer", layer or ()), named("--reads", reads or ())
    shown = not (quiet or no_progress)
    with redirect_stdout(sys.stderr), rows_done(f"comparing {b} with {a}", shown=shown) as on_progress, evaluating():
        from gate.comparison.versions import compare as compared

        found = compared(
            a,
            b,
            probe=probe,
            layers=layers,
            reads=columns,
            policy=policy,
            long=long,
            multiplicity="holm" if holm else "none",
            device=device,
            on_progress=on_progress,
        )
    outputs.write_rendered(targets, partial(_rendered, found.document), recognised=_is_comparison)
    for target in targets:
        if target.path is not None and not quiet:
            typer.echo(printable(f"wrote {target.path}"), err=True)


def _is_comparison(text: str, format_: str) -> bool:
    """Whether a file that begins so is an earlier comparison, or empty."""
    return not text or text.startswith(_BEGINNINGS[format_])


def _rendered(document: Mapping[str, Any], format_: str, color: bool) -> str:  # noqa: FBT001 - as it is called
    from gate.comparison import markdown, text
    from gate.evidence import bundle

    if format_ == "json":
        return bundle.dumps(document)
    return markdown.render(document) if format_ == "markdown" else text.render(document, color=color)
