"""`gate doctor`: look at a deployment, and say what is wrong with it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gate.cli import outputs
from gate.evidence.wording import printable

if TYPE_CHECKING:
    from gate.mlflow_plugin.doctor import Examined

ServerPolicyFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The registry server's own, where the server runs.")
]
SigningKey = Annotated[Path | None, typer.Option(metavar="FILE", help="Private key, where gate check signs with it.")]
Relay = Annotated[str | None, typer.Option(metavar="URL", help="Address of gate relay.")]
Requests = Annotated[list[str] | None, outputs.option("text or json")]

EPILOG = (
    "The registry is that of MLFLOW_REGISTRY_URI or MLFLOW_TRACKING_URI. Nothing is changed; a guarded server writes "
    "the request that it refuses into its audit log.\n\n"
    "Exit codes: 0 nothing is wrong, 7 something is, 3 the registry cannot be asked."
)
_BEGINNINGS = {"text": ("ok ", "note ", "wrong "), "json": ('{\n "schema": "gate.doctor/v',)}
_COLORS = {"ok": "green", "note": "yellow", "wrong": "red"}


def doctor(
    *,
    server_policy: ServerPolicyFile = None,
    signing_key: SigningKey = None,
    relay: Relay = None,
    output: Requests = None,
) -> None:
    """Check a deployment: server, plugins, keys, policies, audit log, webhooks; say what is wrong and what to do."""
    targets = outputs.parse(output or (), tuple(_BEGINNINGS))
    read = [path for path in (server_policy, signing_key) if path]
    outputs.remove_stale(targets, inputs=read, recognised=_is_examination)
    from gate.mlflow_plugin.doctor import Deployment, examine
    from gate.verification.asking import registry_uri, tracking_uri

    found = examine(Deployment(registry_uri(), tracking_uri(), server_policy, signing_key, relay))
    outputs.write_rendered(targets, partial(_rendered, found), recognised=_is_examination)
    raise typer.Exit(found.exit_code)


def _is_examination(text: str, format_: str) -> bool:
    """Whether a file that begins so is an earlier examination, or empty."""
    return not text or text.startswith(_BEGINNINGS[format_])


def _rendered(found: Examined, format_: str, color: bool) -> str:  # noqa: FBT001 - as it is called
    import json

    from gate.mlflow_plugin.doctor import points

    if format_ == "json":
        return json.dumps(points.document(found.points, found.exit_code), ensure_ascii=False, indent=1)
    return "\n".join(_line(state, text, color=color) for state, text in points.lines(found.points))


def _line(state: str | None, text: str, *, color: bool) -> str:
    if state is None:
        return printable(text)
    word = f"{state:<5}"
    return f"{typer.style(word, fg=_COLORS[state], bold=True) if color else word}  {printable(text)}"
