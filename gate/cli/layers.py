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

EPILOG = "Exit codes: 0 the layers are listed, 2 usage or policy, 3 the model could not be loaded or run."


def layers(
    model_uri: ModelUri,
    *,
    policy: PolicyFile = None,
    probe: ProbeSpec = None,
    device: Device = "auto",
    format_: Format = "text",
) -> None:
    """List the layers of a model, what each gives, and how that becomes one row for each sample."""
    with redirect_stdout(sys.stderr), evaluating():
        from gate.layers import layers as listed

        found = listed(model_uri, policy=policy, probe=probe, device=device)
    outputs.to_stdout(_document(found) if format_ == "json" else _text(found))


def _document(found: Layers) -> str:
    layers = [each._asdict() for each in found.found]
    return json.dumps({"model": found.model.resolved, "closed": found.closed, "layers": layers}, indent=1) + "\n"


def _text(found: Layers) -> str:
    rows = [("PATH", "POOLING", f"OUTPUT FOR {found.rows} ROWS")]
    rows += [(each.path, ", ".join(each.poolings) or "-", each.gives) for each in found.found]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    lines = ["  ".join([*(row[i].ljust(widths[i]) for i in range(2)), row[2]]) for row in rows]
    head = f"{found.model.resolved} ({found.model.flavour})"
    tail = [f"\nThere are no others: {found.closed}."] if found.closed else []
    return printable("\n".join([head, "", *lines, *tail, ""]), keep="\n")
