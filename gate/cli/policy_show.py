"""`gate policy show`: a policy with all that it extends."""

from __future__ import annotations

from typing import Annotated

import typer

from gate.cli import outputs


def show(
    policy: Annotated[
        str, typer.Argument(metavar="POLICY", help="Policy file, or the name of a pack.", show_default=False)
    ],
    *,
    origin: Annotated[
        bool, typer.Option("--origin/--no-origin", help="Say which file each line comes from, and what it loosens.")
    ] = True,
) -> None:
    """Print a policy with all that it extends, as YAML."""
    from gate.policy.loading import load_policy
    from gate.policy.showing import shown

    outputs.to_stdout(shown(load_policy(policy), origin=origin))
