"""`gate check`: evaluate one model under one policy."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gate.cli import outputs
from gate.cli.boundary import evaluating
from gate.cli.progress import rows_done
from gate.evidence.wording import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ModelUri = Annotated[
    str,
    typer.Argument(
        metavar="MODEL_URI",
        help="models:/NAME/VERSION, models:/NAME@ALIAS, runs:/RUN/PATH, a folder with an MLmodel, or features:PATH.",
        show_default=False,
    ),
]
PolicyFile = Annotated[
    str,
    typer.Option(
        "--policy",
        "-p",
        metavar="FILE|PACK",
        show_default=False,
        help="Policy file, or a ready-made pack such as classifier.",
    ),
]
ProbeUri = Annotated[
    str | None,
    typer.Option(metavar="URI", help="Probe set or probe spec, over the policy's own."),
]
BaselineUri = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        help="Model to compare with on the same rows, over the policy's own; @ALIAS is one of the same model.",
    ),
]
Requests = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FORMAT[=PATH]",
        help="text, json, junit, sarif, github, markdown or html; without a path to stdout. Repeatable. Default: text.",
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(help="auto takes a GPU when there is one."),
]
Record = Annotated[
    bool | None,
    typer.Option(
        "--record/--no-record",
        show_default=False,
        help="Record the evidence in MLflow. Default: when the model is a registered version.",
    ),
]
FailOn = Annotated[
    Literal["error", "fail", "inconclusive", "warn", "never"],
    typer.Option(
        metavar="OUTCOME",
        help="Mildest outcome to exit non-zero on: error, fail, inconclusive, warn or never; an error always does.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run/--no-dry-run", help="Record nothing; exit 0 if evaluated."),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Nothing on stderr but errors, and notes on a verdict that is overruled."),
]
NoProgress = Annotated[
    bool,
    typer.Option("--no-progress", help="No progress on stderr."),
]

EPILOG = "A variable holds several values with spaces between them: GATE_OUTPUT='text html=gate.html'."


def check(  # noqa: PLR0913 - one parameter for every option of the command
    model_uri: ModelUri,
    *,
    policy: PolicyFile,
    probe: ProbeUri = None,
    baseline: BaselineUri = None,
    output: Requests = None,
    device: Device = "auto",
    record: Record = None,
    fail_on: FailOn = "inconclusive",
    dry_run: DryRun = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Evaluate a model under a policy; the exit code is the verdict."""
    targets = outputs.parse(output or ())
    outputs.remove_stale(targets, inputs=[Path(policy), *([Path(probe)] if probe else [])], model_uri=model_uri)
    shown, what = not (quiet or no_progress), f"evaluating {model_uri}"
    with redirect_stdout(sys.stderr), rows_done(what, shown=shown) as on_progress, evaluating():
        from gate.evaluation import check as evaluate

        evidence = evaluate(
            model_uri, policy=policy, probe=probe, baseline=baseline, device=device, on_progress=on_progress
        )
    outputs.write(targets, evidence.document)
    if not dry_run and (record or (record is None and evidence.document["model"]["version"])):
        _record(evidence.document, quiet=quiet)
    code = _exit_code(evidence.document, "never" if dry_run else fail_on)
    tell_silenced(evidence.document, code, silencer="--dry-run" if dry_run else f"--fail-on {fail_on}")
    if not quiet:
        _log(evidence.document, targets, code)
    raise typer.Exit(code)


def _record(document: Mapping[str, Any], *, quiet: bool) -> None:
    from gate.evidence import html, summary
    from gate.mlflow_plugin.recorder import record, stricter_verdict

    before = stricter_verdict(document)
    with redirect_stdout(sys.stderr):
        run = record(document, html.render(document))
    if before is not None:
        version = f"{document['model']['resolved']} said {before} and now says that it {document['status']}"
        typer.echo(printable(f"note: the tag `gate` of {version} under {summary.policy_name(document)}"), err=True)
    if not quiet:
        typer.echo(f"recorded as MLflow run {run}", err=True)
        if document["status"] != "passed":
            typer.echo(f"gate explain {run} says more of what did not pass", err=True)


def _exit_code(document: Mapping[str, Any], fail_on: Literal["error", "fail", "inconclusive", "warn", "never"]) -> int:
    from gate.verdict import Verdict, exit_code

    return exit_code(Verdict(document["status"], document["exit_code"], document["counts"]), fail_on)


def tell_silenced(document: Mapping[str, Any], code: int, *, silencer: str) -> None:
    """Say on stderr that a verdict which exits non-zero by default does not set the exit code here.

    Args:
        document: The evidence.
        code: What the command exits with.
        silencer: The option that makes it so, as it is written.
    """
    if code == 0 != document["exit_code"]:
        typer.echo(f"the verdict is {document['status']}; with {silencer} it does not set the exit code", err=True)


def _log(document: Mapping[str, Any], targets: Sequence[outputs.Output], code: int) -> None:
    for target in targets:
        if target.path is not None:
            typer.echo(printable(f"wrote {target.path}"), err=True)
    if all(target.path is not None for target in targets):
        typer.echo(f"{document['status']}, exit code {code}", err=True)
