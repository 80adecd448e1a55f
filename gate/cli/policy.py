"""`gate policy`: look at policy files without any model."""

from __future__ import annotations

from typing import Annotated

import typer

from gate.cli.boundary import USAGE, describe
from gate.errors import GateError

app = typer.Typer(name="policy", help="Look at policy files; no model is loaded.", no_args_is_help=False)


@app.callback()
def _group() -> None:
    """Look at policy files; no model is loaded."""


@app.command()
def validate(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Policy files.", show_default=False)],
) -> None:
    """Check policy files, and list every fault with its line and column."""
    from gate.policy.loading import load_policy

    codes = []
    for file in files:
        try:
            policy = load_policy(file).policy
        except GateError as error:
            typer.echo(describe(error), err=True)
            codes.append(error.exit_code)
        else:
            rules = "1 rule" if len(policy.rules) == 1 else f"{len(policy.rules)} rules"
            typer.echo(f"{file}: ok, {policy.metadata.name}@{policy.metadata.version}, {rules}")
    raise typer.Exit(USAGE if USAGE in codes else max(codes, default=0))


@app.command()
def schema() -> None:
    """Write the JSON Schema of a policy, by which an editor completes and checks one while it is written."""
    from gate.cli import outputs
    from gate.policy import json_schema

    outputs.to_stdout(json_schema.render())
