"""`gate calibrate`: bounds from known-good versions."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gate.cli import outputs
from gate.cli.boundary import evaluating
from gate.cli.check import Device, NoProgress, Quiet  # noqa: TC001 - typer reads annotations when it runs
from gate.cli.progress import rows_done
from gate.errors import GateError, UsageError
from gate.evidence.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from gate.streaming.passes import OnProgress

ModelUris = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL_URI...",
        help="Known-good versions, as for `gate check`; or models:/NAME with --good.",
        show_default=False,
    ),
]
ProbeSpec = Annotated[
    Path | None,
    typer.Option(metavar="SPEC", help="Probe spec (.yaml). Default: that of --like."),
]
Good = Annotated[
    list[str] | None, typer.Option(metavar="3,4,5", help="Version numbers, @ALIAS or URIs that must pass.")
]
Bad = Annotated[
    list[str] | None, typer.Option(metavar="6,7", help="The same of versions that must not pass: what rules must see.")
]
Layer = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=PATH[:POOLING]", help="Where to read features. Repeatable."),
]
Read = Annotated[
    list[str] | None,
    typer.Option(
        "--reads", metavar="NAME=PATH[:POOLING]", help="What metrics read besides, as logits=output. Repeatable."
    ),
]
Like = Annotated[
    str | None,
    typer.Option(
        metavar="POLICY",
        help="Policy or pack whose rules get new bounds. Default: every applicable metric.",
        show_default=False,
    ),
]
FalseAlarm = Annotated[
    float, typer.Option(metavar="RATE", help="Chance that another good version does not pass a whole run.")
]
Assurance = Annotated[
    float, typer.Option(metavar="SHARE", help="Chance that these bounds in particular keep that rate.")
]
KeepBlind = Annotated[bool, typer.Option("--keep-blind", help="Keep rules that tell none of the bad versions apart.")]
PolicyName = Annotated[
    str | None, typer.Option(metavar="NAME", help="Of the policy. Default: that of the model.", show_default=False)
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="The policy. Default: stdout.", show_default=False),
]

EPILOG = (
    "Five good versions or more, trained apart from each other, make bounds to rely on; fewer are warned of. "
    "Exit codes: 0 a policy was written, 2 usage, 3 a version could not be measured, 5 nothing can be bounded."
)


def calibrate(  # noqa: PLR0913 - one parameter for every option of the command
    models: ModelUris,
    *,
    probe: ProbeSpec = None,
    good: Good = None,
    bad: Bad = None,
    layer: Layer = None,
    reads: Read = None,
    like: Like = None,
    false_alarm: FalseAlarm = 0.05,
    assurance: Assurance = 0.9,
    keep_blind: KeepBlind = False,
    name: PolicyName = None,
    output: Output = None,
    device: Device = "auto",
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Write a policy with bounds that known-good versions keep, at a stated rate of false alarms."""
    from gate.calibration.naming import versions_of
    from gate.policy.made import named

    versions = versions_of(models, good or (), bad or ())
    layers, columns = named("--layer", layer or ()), named("--reads", reads or ())
    _require_free(output, [path for path in (probe, Path(like) if like else None) if path])

    def watch(uri: str) -> AbstractContextManager[OnProgress | None]:
        return rows_done(f"measuring {uri}", shown=not (quiet or no_progress))

    with redirect_stdout(sys.stderr), evaluating():
        from gate.calibration import calibrate as calibrated

        found = calibrated(
            versions.good,
            bad=versions.bad,
            probe=probe,
            layers=layers,
            reads=columns,
            like=like,
            false_alarm=false_alarm,
            assurance=assurance,
            keep_blind=keep_blind,
            name=name,
            device=device,
            watch=watch,
        )
        text, report = found.text, found.report
    if output is None:
        outputs.to_stdout(text)
    else:
        _write(text, output)
    if not quiet:
        typer.echo(printable(report, keep="\n"), err=True)
        if output is not None:
            typer.echo(printable(f"wrote {output}"), err=True)


def _require_free(output: Path | None, inputs: Iterable[Path]) -> None:
    """Refuses to write over what this command did not write, before anything is measured."""
    from gate.calibration.writing import FIRST_LINE

    if output is None:
        return
    if output.is_dir():
        raise UsageError(f"{str(output)!r} is a folder, expected the name of a file")
    if output.resolve() in [path.resolve() for path in inputs]:
        raise UsageError(f"{str(output)!r} is an input of this command and would be overwritten; name another file")
    if output.is_file() and not output.read_bytes().startswith(FIRST_LINE.encode()):
        raise UsageError(f"{str(output)!r} is no policy of `gate calibrate`; name another file, or remove it yourself")


def _write(text: str, output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise GateError(f"the policy {str(output)!r} cannot be written: {error.strerror or error}") from error
