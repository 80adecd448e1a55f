"""`gate demo`: the quick start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    *,
    directory: Annotated[
        Path,
        typer.Option("--directory", "-d", help="For the registry, the probe set and the reports; made if missing."),
    ] = Path("gate-demo"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    """Train two small classifiers of equal accuracy, one of them collapsed, and gate both."""
    from gate.demo import run

    progress, options = (_silent, ["--quiet"]) if quiet else (_to_stderr, [])
    raise typer.Exit(run(directory=directory, progress=progress, options=options))


def _to_stderr(line: str) -> None:
    typer.echo(line, err=True)


def _silent(line: str) -> None:
    del line
