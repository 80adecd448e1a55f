"""`gate keys`: keys that sign statements, and keys that verify them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gate.evidence.wording import printable

app = typer.Typer(name="keys", help="Make and show the keys of signed statements.", no_args_is_help=True)

NewPath = Annotated[
    Path,
    typer.Argument(metavar="PATH", help="File of the private key; the public one is PATH.pub.", show_default=False),
]
KeyPaths = Annotated[
    list[Path],
    typer.Argument(
        metavar="PATH...", help="Keys, or folders of .pub files; of a private key the public half.", show_default=False
    ),
]


@app.command()
def new(path: NewPath) -> None:
    """Make a pair of Ed25519 keys; neither file may be there yet."""
    from gate.attestation import keys

    public = keys.create(path)
    key = keys.keyid(keys.public_key(public))
    for line in (
        f"made key {key}",
        f"  {path}  private, for the gate alone: GATE_SIGNING_KEY={path} gate check --record …",
        f"  {public}  public, for whoever verifies: gate verify --public-key {public} …",
    ):
        typer.echo(printable(line))


@app.command()
def show(paths: KeyPaths) -> None:
    """Show the keyid and the public half of keys."""
    from gate.attestation import keys

    for key, public in keys.public_halves(paths).items():
        typer.echo(f"keyid {key}\n{keys.pem(public).decode()}", nl=False)
