"""`gate verify`: hold signed statements against the registry and the files."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gate.cli import outputs
from gate.errors import UsageError
from gate.evidence.wording import printable

if TYPE_CHECKING:
    from gate.attestation.deciding import Trust
    from gate.verification.verifying import Verified

ModelUri = Annotated[
    str,
    typer.Argument(
        metavar="MODEL_URI",
        help="models:/NAME/VERSION, models:/NAME@ALIAS, or a folder of files with --attestation.",
        show_default=False,
    ),
]
PublicKeys = Annotated[
    list[Path] | None,
    typer.Option(
        "--public-key", metavar="FILE|FOLDER", help="Key whose signature counts, or a folder of .pub files. Repeatable."
    ),
]
Policies = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        "-p",
        metavar="FILE|PACK|sha256:…",
        help="Policy that must have judged the version; two of one name are alternatives. Repeatable. Default: any.",
    ),
]
MaxAge = Annotated[
    str | None, typer.Option(metavar="AGE", help="Oldest statement that counts, such as 7d, 12h or 90m.")
]
Alias = Annotated[
    str | None, typer.Option(metavar="ALIAS", help="Verify as for promotion to it. Default: that of MODEL_URI.")
]
Files = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Hash what was downloaded there, in place of the store's files.")
]
Attestations = Annotated[
    list[Path] | None,
    typer.Option("--attestation", metavar="FILE", help="Signed statement in place of the version's tags. Repeatable."),
]
ServerPolicyFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The registry server's own: its keys, policies and age, where not given here."),
]
Requests = Annotated[list[str] | None, outputs.option("text or json")]

EPILOG = "The registry is that of MLFLOW_REGISTRY_URI or MLFLOW_TRACKING_URI. Exits with 0 if all holds, with 7 if not."
_BEGINNINGS = {"text": "VERIFIED  ", "json": '{\n "schema": "gate.verification/v'}


def verify(  # noqa: PLR0913 - one parameter for every option of the command
    model_uri: ModelUri,
    *,
    public_key: PublicKeys = None,
    policy: Policies = None,
    max_age: MaxAge = None,
    alias: Alias = None,
    files: Files = None,
    attestation: Attestations = None,
    server_policy: ServerPolicyFile = None,
    output: Requests = None,
) -> None:
    """Verify that a version is what was judged: signature, binding, verdict, policy, age and every file."""
    targets = outputs.parse(output or (), tuple(_BEGINNINGS))
    read = [*(public_key or ()), *(attestation or ()), *map(Path, policy or ())]
    outputs.remove_stale(targets, inputs=read, model_uri=str(files or model_uri), recognised=_is_verification)
    from datetime import UTC, datetime

    from gate.verification.verifying import Question, verify

    question = Question(model_uri, policy or (), alias, files, attestation or ())
    found = verify(question, trusted(public_key, max_age, server_policy), datetime.now(UTC))
    outputs.write_rendered(targets, partial(_rendered, found), recognised=_is_verification)


def trusted(keys: list[Path] | None, max_age: str | None, file: Path | None) -> Trust:
    """What the options say, and where they are silent the file of the server.

    Args:
        keys: Of --public-key.
        max_age: Of --max-age.
        file: Of --server-policy.

    Raises:
        UsageError: No key is given, or one cannot be read.
    """
    from gate.attestation.deciding import Trust
    from gate.attestation.keys import keyring

    trust = Trust({})
    if file is not None:
        from gate.server_policy import load

        trust = load(file).trust
    if keys:
        trust = replace(trust, keys=keyring(keys))
    if not trust.keys:
        raise UsageError("no public key is given, so no signature can be verified; give --public-key FILE|FOLDER")
    if max_age is not None:
        from gate.server_policy import age

        trust = replace(trust, max_age=age(max_age))
    return trust


def _is_verification(text: str, format_: str) -> bool:
    """Whether a file that begins so is an earlier verification, or empty."""
    return not text or text.startswith(_BEGINNINGS[format_])


def _rendered(found: Verified, format_: str, color: bool) -> str:  # noqa: ARG001, FBT001 - as it is called
    import json

    from gate.verification import rendering

    if format_ == "json":
        return json.dumps(rendering.document(found), ensure_ascii=False, indent=1)
    return "\n".join(map(printable, rendering.lines(found)))
