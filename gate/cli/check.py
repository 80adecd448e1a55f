"""`gate check`: evaluate one model under one policy."""

from __future__ import annotations

import sys
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gate.cli import outputs
from gate.cli.boundary import evaluating
from gate.cli.progress import rows_done
from gate.errors import UsageError
from gate.evidence.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

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
Requests = Annotated[list[str] | None, outputs.option("text, json, junit, sarif, github, markdown or html")]
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
SigningKey = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Sign the verdict with this private key (gate keys new), and record the signed statement with it.",
    ),
]
Attestation = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="Write the signed statement to this file as well."),
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

_ENVELOPE = b'{"payloadType":'
_NOT_RECORDED = "not recorded in full: do not rely on this verdict, run the check again"
_BESIDE = {
    "text": _NOT_RECORDED,
    "github": f"::error title=gate::{_NOT_RECORDED}",
    "markdown": f"\n**{_NOT_RECORDED}**",
}
EPILOG = "A variable holds several values with spaces between them: GATE_OUTPUT='text html=gate.html'."


def check(  # noqa: PLR0913 - one parameter for every option of the command
    context: typer.Context,
    model_uri: ModelUri,
    *,
    policy: PolicyFile,
    probe: ProbeUri = None,
    baseline: BaselineUri = None,
    output: Requests = None,
    device: Device = "auto",
    record: Record = None,
    signing_key: SigningKey = None,
    attestation: Attestation = None,
    fail_on: FailOn = "inconclusive",
    dry_run: DryRun = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Evaluate a model under a policy; the exit code is the verdict."""
    targets = outputs.parse(output or ())
    if (dry_run or record is False) and _is_written(context, "signing_key"):
        flag = "--dry-run" if dry_run else "--no-record"
        raise UsageError(f"--signing-key signs what is recorded, and with {flag} nothing is; leave out one of them")
    outputs.remove_stale(targets, inputs=[Path(policy), *([Path(probe)] if probe else [])], model_uri=model_uri)
    key = _key(signing_key, attestation)
    shown, what = not (quiet or no_progress), f"evaluating {model_uri}"
    with redirect_stdout(sys.stderr), rows_done(what, shown=shown) as on_progress, evaluating():
        from gate.evaluation import check as evaluate

        evidence = evaluate(
            model_uri, policy=policy, probe=probe, baseline=baseline, device=device, on_progress=on_progress
        )
    outputs.write(targets, evidence.document)
    envelope = None
    if not dry_run and (record or (record is None and evidence.document["model"]["version"])):
        with _told_unless_done(targets):
            envelope = _record(evidence.document, key, quiet=quiet)
        if attestation is not None and envelope is not None:
            attestation.write_text(envelope, encoding="utf-8")
    if key is not None and envelope is None and not quiet:
        typer.echo("not signed: only what is recorded of a registered version is", err=True)
    code = _exit_code(evidence.document, "never" if dry_run else fail_on)
    tell_silenced(evidence.document, code, silencer="--dry-run" if dry_run else f"--fail-on {fail_on}")
    if not quiet:
        _log(evidence.document, targets, code)
    raise typer.Exit(code)


def _is_written(context: typer.Context, option: str) -> bool:
    """Whether an option was given in the command itself: what the environment says holds for other commands too."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


@contextmanager
def _told_unless_done(targets: Sequence[outputs.Output]) -> Iterator[None]:
    """Say beside a verdict on stdout that recording it broke off; what machines read there stays what it is."""
    done = False
    try:
        yield
        done = True
    finally:
        for target in targets:
            if not done and target.path is None and target.format in _BESIDE:
                outputs.to_stdout(_BESIDE[target.format])


def _key(path: Path | None, attestation: Path | None) -> Ed25519PrivateKey | None:
    """The key to sign with, looked at before anything is evaluated; no statement of an earlier run is left."""
    key = None
    if path is not None:
        from gate.attestation.keys import signing_key

        key = signing_key(path)
    if attestation is not None:
        _make_room(attestation)
    return key


def _make_room(attestation: Path) -> None:
    try:
        if attestation.exists() and not attestation.read_bytes().startswith(_ENVELOPE):
            raise UsageError(
                f"{attestation} is no signed statement of an earlier check; give --attestation another path"
            )
        attestation.unlink(missing_ok=True)
        attestation.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{attestation}: the statement cannot be written there: {error.strerror}") from None


def _record(document: Mapping[str, Any], key: Ed25519PrivateKey | None, *, quiet: bool) -> str | None:
    """Record the evidence; the statement on it where it is signed."""
    from gate.evidence import html, summary
    from gate.mlflow_plugin.recorder import has_signed_statement, record, stricter_verdict, tags_before
    from gate.mlflow_plugin.signing import Signer

    signer = Signer(document, key) if key and document["model"]["version"] else None
    tags = {} if signer else tags_before(document)  # what is signed shows the worst verdict of all policies
    before, signed = stricter_verdict(document, tags), has_signed_statement(document, tags)
    with redirect_stdout(sys.stderr):
        run = record(document, html.render(document), signer=signer)
    if before is not None:
        version = f"{document['model']['resolved']} said {before} and now says that it {document['status']}"
        typer.echo(printable(f"note: the tag `gate` of {version} under {summary.policy_name(document)}"), err=True)
    if signed:
        what = f"the signed statement of policy {document['policy']['name']} on {document['model']['resolved']}"
        typer.echo(printable(f"note: {what} still counts; only a check with --signing-key replaces it"), err=True)
    if not quiet:
        typer.echo(f"recorded as MLflow run {run}", err=True)
        if document["status"] != "passed":
            rule = summary.worst_first(document)[0]["rule"]
            typer.echo(printable(f"gate explain {rule} --run {run} says more of what did not pass"), err=True)
    return None if signer is None else signer.envelope


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
