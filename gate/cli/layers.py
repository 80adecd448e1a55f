"""`gate layers`: what can be named under `layers` of a policy."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gate.cli import outputs
from gate.cli.boundary import evaluating
from gate.cli.check import Device  # noqa: TC001 - typer reads annotations when it runs
from gate.cli.compare import ProbeSpec  # noqa: TC001 - the same
from gate.evidence.wording import printable

if TYPE_CHECKING:
    from gate.layers import Layers

ModelUri = Annotated[
    str, typer.Argument(metavar="MODEL_URI", help="The model: any MODEL_URI of gate check.", show_default=False)
]
PolicyFile = Annotated[
    str | None,
    typer.Option("--policy", "-p", metavar="FILE|PACK", help="Takes probe and run from it; nothing is judged."),
]
Format = Annotated[Literal["text", "json"], typer.Option("--format", help="What is written to stdout.")]

Match = Annotated[
    str, typer.Option("--match", metavar="TEXT", help="Only layers whose path contains this.", show_default=False)
]

_WIDEST = 80  # a column; what is longer stands out of line

EPILOG = "Exit codes: 0 the layers are listed, 2 usage or policy, 3 the model could not be loaded or run."


def layers(
    model_uri: ModelUri,
    *,
    policy: PolicyFile = None,
    probe: ProbeSpec = None,
    device: Device = "auto",
    match: Match = "",
    format_: Format = "text",
) -> None:
    """List the layers of a model, what each gives, and how that becomes one row for each sample."""
    with redirect_stdout(sys.stderr), evaluating():
        from gate.layers import layers as listed

        found = listed(model_uri, policy=policy, probe=probe, device=device, match=match)
    outputs.to_stdout(_document(found) if format_ == "json" else _text(found, match))


def _document(found: Layers) -> str:
    layers = [each._asdict() for each in found.found]
    whole = {"model": found.model.resolved, "closed": found.closed, "layers": layers, "left_out": found.left_out}
    return json.dumps(whole, indent=1) + "\n"


def _text(found: Layers, match: str) -> str:
    head = printable(f"{found.model.resolved} ({found.model.flavour})")
    return "\n".join([head, "", *(_table(found) if found.found else []), *_notes(found, match), ""])


def _table(found: Layers) -> list[str]:
    """The lines of the layers. Each cell is made printable on its own: no name of a model ends a line."""
    rows = [("PATH", "POOLING", f"OUTPUT FOR {found.rows} ROW{'S' if found.rows != 1 else ''}")]
    for each in found.found:
        reads = f"  reads: {each.reads}" if each.reads else ""
        rows.append((printable(each.path), ", ".join(each.poolings) or "-", printable(each.gives) + reads))
    widths = [min(_WIDEST, max(len(row[column]) for row in rows)) for column in range(2)]
    return ["  ".join([*(row[i].ljust(widths[i]) for i in range(2)), row[2]]) for row in rows]


def _notes(found: Layers, match: str) -> list[str]:
    """What is to be said of the layers that are not there."""
    notes = []
    if not found.found:
        notes.append(f"None of its {found.known} layers has {printable(repr(match))} in its path.")
    if found.left_out:
        notes.append(f"\n{found.left_out} more were left out; `--match TEXT` lists those with a text in their path.")
    if found.closed:
        notes.append(f"\nThere are no others: {printable(found.closed)}.")
    return notes
