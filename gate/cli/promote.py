"""`gate promote`: verify a version, and give it an alias."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gate.cli.verify import Attestations, Files, MaxAge, Policies, PublicKeys, ServerPolicyFile, trusted
from gate.errors import UsageError
from gate.evidence.wording import printable

ModelUri = Annotated[
    str, typer.Argument(metavar="MODEL_URI", help="models:/NAME/VERSION or models:/NAME@ALIAS.", show_default=False)
]
Alias = Annotated[str, typer.Argument(metavar="ALIAS", help="Such as champion.", show_default=False)]
CopyTo = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Copy the version to this registered model first, verify the copy, sign for it with --signing-key, and "
        "give the alias to the copy.",
    ),
]
SigningKey = Annotated[Path | None, typer.Option(metavar="FILE", help="Private key that signs for a copy.")]

EPILOG = (
    "Verifies as `gate verify` does; if anything does not hold, the alias stays where it is, and the exit code is 7."
)


def promote(  # noqa: PLR0913 - one parameter for every option of the command
    model_uri: ModelUri,
    alias: Alias,
    *,
    copy_to: CopyTo = None,
    signing_key: SigningKey = None,
    public_key: PublicKeys = None,
    policy: Policies = None,
    max_age: MaxAge = None,
    files: Files = None,
    attestation: Attestations = None,
    server_policy: ServerPolicyFile = None,
) -> None:
    """Verify a version with all its files, and set the alias only if everything holds."""
    trust = trusted(public_key, max_age, server_policy)
    if copy_to is not None and signing_key is None:
        raise UsageError("--copy-to needs --signing-key FILE: whoever makes a copy signs for it")
    from gate.mlflow_plugin import promotion
    from gate.verification.verifying import Question

    question = Question(model_uri, policy or (), None, files, attestation or ())
    if copy_to is not None and signing_key is not None:
        from gate.attestation.keys import signing_key as key_of

        copied = promotion.copy(question, copy_to, trust, key_of(signing_key))
        typer.echo(printable(f"copied {model_uri} to {copied}, its files are the same"), err=True)
        question = Question(copied, policy or ())
    done = promotion.promote(question, alias, trust)
    version = done.verified.version
    moved = "" if done.before in (None, version.version) else f", in place of version {done.before}"
    typer.echo(printable(f"PROMOTED  {version.uri} is models:/{version.name}@{done.alias} now{moved}"))
    for signed in done.verified.signed:
        found = signed.statement
        what = f"{found.verdict} under policy {found.policy.name}, signed {found.issued:%Y-%m-%d %H:%M} UTC"
        typer.echo(printable(f"{what} by key {signed.keyid[:16]}, {done.verified.count} files verified"))
