"""`gate relay`: hears of registered versions from MLflow, and has them checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

EPILOG = (
    "The secret of the webhook is read from --secret-file, one a line, or from the variable GATE_WEBHOOK_SECRET, the "
    "token for --dispatch from GITHUB_TOKEN, and the registry is that of MLFLOW_TRACKING_URI.\n\n"
    "Exit codes: 0 ended by SIGTERM, 2 it could not start, 130 interrupted."
)


def relay(  # noqa: PLR0913 - one parameter for every option of the command
    *,
    dispatch: Annotated[
        str | None,
        typer.Option(metavar="OWNER/REPO", help="Start the workflows of this repository by a repository_dispatch."),
    ] = None,
    check: Annotated[
        str | None, typer.Option(metavar="POLICY", help="Run gate check here, under this policy, and record it.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Names that concern it, such as 'text-*'. Repeatable. Default: all."),
    ] = None,
    secret_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Secrets of the webhook; any of them may have signed.")
    ] = None,
    queue: Annotated[
        Path, typer.Option(metavar="PATH", help="SQLite file of the versions and what became of them.")
    ] = Path("gate-relay.db"),
    max_queue: Annotated[int, typer.Option(min=1, help="Versions that may wait; more are refused with 503.")] = 10_000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Versions that are handed over at a time.")] = 1,
    reconcile: Annotated[int, typer.Option(min=1, help="Seconds between two looks at the registry.")] = 300,
    time_limit: Annotated[int, typer.Option(min=1, help="Seconds that one check may take.")] = 3600,
    attempts: Annotated[int, typer.Option(min=1, help="Attempts to reach GitHub or the registry, per version.")] = 8,
    backoff: Annotated[int, typer.Option(min=0, help="Seconds before a second attempt; then twice as long.")] = 5,
    github_url: Annotated[
        str, typer.Option(metavar="URL", help="Of GitHub's API; https://HOST/api/v3 of an Enterprise server.")
    ] = "https://api.github.com",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8787,
) -> None:
    """Receive the webhooks of a registry; have each new version checked once."""
    from gate.relay import serving
    from gate.relay.working import Effort

    target = serving.target(
        dispatch=dispatch, check=check, github_url=github_url, seconds=time_limit, environment=os.environ
    )
    serving.require_registry(os.environ)
    serving.serve(
        target,
        serving.Place(queue, max_queue, host, port),
        serving.secrets(secret_file, os.environ),
        model or ["*"],
        Effort(workers, attempts, backoff, reconcile),
    )
