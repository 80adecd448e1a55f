"""`gate policy`: look at policy files without any model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gate.cli.boundary import USAGE, describe
from gate.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from gate.policy.loading import LoadedPolicy

app = typer.Typer(name="policy", help="Look at policy files; no model is loaded.", no_args_is_help=False)


@app.callback()
def _group() -> None:
    """Look at policy files; no model is loaded."""


@app.command()
def validate(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Policy files.", show_default=False)],
) -> None:
    """Check policy files, and list every fault with its line and column; expired waivers are noted."""
    from datetime import UTC, datetime

    from gate.policy.loading import load_policy

    codes, today = [], datetime.now(UTC).date()
    for file in files:
        try:
            loaded = load_policy(file)
        except GateError as error:
            typer.echo(describe(error), err=True)
            codes.append(error.exit_code)
        else:
            policy = loaded.policy
            rules = "1 rule" if len(policy.rules) == 1 else f"{len(policy.rules)} rules"
            typer.echo(f"{file}: ok, {policy.metadata.name}@{policy.metadata.version}, {rules}")
            for note in _expired(loaded, today):
                typer.echo(note, err=True)
    raise typer.Exit(USAGE if USAGE in codes else max(codes, default=0))


def _expired(loaded: LoadedPolicy, today: date) -> Iterator[str]:
    """A note on every waiver that no longer holds."""
    for index, waiver in enumerate(loaded.policy.waivers):
        if days := max((today - waiver.expires).days, 0):
            place = loaded.position("waivers", index)
            ago = f"{days} day{'' if days == 1 else 's'} ago"
            what = f"the waiver of {waiver.rule!r} for {waiver.model} expired {ago}, on {waiver.expires}"
            yield f"{place.path}:{place.line}:{place.column}: note: {what}; it is ignored"


@app.command()
def schema() -> None:
    """Write the JSON Schema of a policy, by which an editor completes and checks one while it is written."""
    from gate.cli import outputs
    from gate.policy import json_schema

    outputs.to_stdout(json_schema.render())
