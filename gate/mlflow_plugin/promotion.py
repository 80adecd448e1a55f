"""Promotion: a version is verified with all its files, and only then gets an alias; copies are verified anew."""

from __future__ import annotations

import hashlib
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gate.attestation.envelope import sealed
from gate.attestation.names import statement_key
from gate.errors import GateError, RegistryError, UsageError, VerificationError
from gate.mlflow_plugin.signing import after, publish, stored_files, subject
from gate.mlflow_plugin.tags import recorded
from gate.models.quiet import quiet_mlflow
from gate.models.registry import failures, reason, refused_by_gate, versions_of
from gate.verification.files import require_same
from gate.verification.verifying import Question, Verified, verify

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from gate.attestation.deciding import Trust
    from gate.attestation.statement import Version

_UNDER_WAY = "the copy is being verified"
_PATIENCE = 5.0  # seconds until what was written can be read
_PAUSE = 0.25


@dataclass(frozen=True)
class Promoted:
    """A version that has an alias now.

    Attributes:
        verified: What held for it.
        alias: The alias.
        before: The version that had the alias until now; None where none had.
    """

    verified: Verified
    alias: str
    before: str | None


def promote(question: Question, alias: str, trust: Trust) -> Promoted:
    """Verify a version for an alias, files included, and give it the alias.

    Args:
        question: Which version, and which policies it must have passed.
        alias: Of its registered model.
        trust: Whose keys and policies count, and the greatest age.

    Raises:
        VerificationError: Something does not hold, here or for the gate of the server; the alias is where it was.
        RegistryError: The registry cannot be asked, or refuses for another reason.
    """
    verified = verify(replace(question, alias=alias), trust, datetime.now(UTC))
    version = verified.version
    if not verified.in_registry:
        raise UsageError(f"{question.uri!r} is a folder, and only a version of the registry can have an alias")
    with quiet_mlflow(), redirect_stdout(sys.stderr):
        try:
            before = _set(_client(), version, alias)
        except failures() as error:
            raise _failure(f"the alias {alias!r} of {version.uri} cannot be set", error) from error
    return Promoted(verified, alias, None if before is None else before.version)


def copy(question: Question, name: str, trust: Trust, key: Ed25519PrivateKey) -> str:
    """Verify a version, copy it to another registered model, verify the files of the copy, and sign statements on it.

    A copy that an earlier attempt has left without a passing statement is used again.

    Args:
        question: Which version, and which policies it must have passed.
        name: Of the registered model that gets the copy; made when there is none.
        trust: Whose keys and policies count, and the greatest age.
        key: That signs for the copy.

    Returns:
        The URI of the copy.

    Raises:
        VerificationError: The version, or its copy, does not hold, here or for the gate of the server.
        RegistryError: The registry cannot be asked, or refuses for another reason.
    """
    source = verify(question, trust, datetime.now(UTC))
    client, uri = _client(), source.version.uri
    with quiet_mlflow(), redirect_stdout(sys.stderr):
        try:
            row = _unfinished(client, uri, name) or client.copy_model_version(uri, name)
            _sign(client, row, source, key)
        except failures() as error:
            raise _failure(f"{uri} cannot be copied to {name!r}", error) from error
    return f"models:/{name}/{row.version}"


def _failure(failed: str, error: Exception) -> GateError:
    """That evidence does not hold where the gate of the server says so, and else that the registry did not do it."""
    said = f"{failed}: {reason(error)}"
    if not refused_by_gate(error):
        return RegistryError(said)
    advice = "the server judges by its own policy, and --server-policy FILE verifies by that beforehand"
    return VerificationError(f"{said.rstrip('.')}; {advice}")


def _sign(client: MlflowClient, row: ModelVersion, source: Verified, key: Ed25519PrivateKey) -> None:
    """First that nothing is decided, which lets a server freeze the files of the copy; then the verdicts.

    All of it is about the copy that is there at first: one that is registered anew meanwhile is another.
    """
    copied, version = subject(row), str(row.version)
    _publish(client, copied, source, key, reason=_UNDER_WAY)
    files = stored_files(client, row.name, version)
    for each in source.signed:
        require_same(files, each.statement.model_copy(update={"subject": copied}))
    _publish(client, copied, source, key)


def _publish(
    client: MlflowClient, copied: Version, source: Verified, key: Ed25519PrivateKey, *, reason: str | None = None
) -> None:
    """The judgements on the original, on its copy; they are as old as those, and count no longer.

    With a `reason` they say that nothing is decided.
    """
    tags = client.get_model_version(copied.name, copied.version).tags
    envelopes = {}
    for original in (each.statement for each in source.signed):
        tag = statement_key(original.policy.name)
        changed = {
            "subject": copied,
            "issued": after(tags.get(tag), original.issued),
            "copied_from": f"sha256:{hashlib.sha256(original.payload).hexdigest()}",
            **({} if reason is None else {"verdict": "error", "reason": reason}),
        }
        envelopes[tag] = sealed(original.model_copy(update=changed).payload, key)
    publish(client, copied.name, copied.version, envelopes)


def _unfinished(client: MlflowClient, uri: str, name: str) -> ModelVersion | None:
    """The newest copy of a version that was broken off; whatever was decided on a copy stays."""
    try:
        found = client.search_model_versions(versions_of(name), order_by=["version_number DESC"])
    except failures():
        return None
    copies = (client.get_model_version(name, each.version) for each in found if each.source == uri)
    return next((row for row in copies if not _is_finished(row)), None)


def _is_finished(row: ModelVersion) -> bool:
    """Whether anything but the beginning of a copy was signed for it; statements on its original come along with it."""
    own = [each for each in recorded(row.tags).values() if each.subject == subject(row)]
    return any(each.reason != _UNDER_WAY for each in own)


def _client() -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient()


def _set(client: MlflowClient, version: Version, alias: str) -> Version | None:
    """Give a version an alias, which a registry takes by its number alone, and see that both are what they should be.

    Returns:
        What had the alias until now.
    """
    before = _holder(client, version.name, alias)
    client.set_registered_model_alias(version.name, alias, version.version)
    try:
        return _confirmed(client, version, alias, before)
    except failures() as error:
        raise RegistryError(
            f"the alias {alias!r} was given to {version.uri}, and could not be looked at again: {reason(error)}; "
            "see where it is, and take it away if it is on another version"
        ) from error


def _confirmed(client: MlflowClient, version: Version, alias: str, before: Version | None) -> Version | None:
    holder = _holder(client, version.name, alias)
    ends = time.monotonic() + _PATIENCE
    while (holder is None or holder == before != version) and time.monotonic() < ends:  # a replica may lag behind
        time.sleep(_PAUSE)
        holder = _holder(client, version.name, alias)
    if holder == version:
        return before
    if holder is None or holder.version != version.version:
        now = "it is gone" if holder is None else f"{holder.uri} has it now"
        raise VerificationError(f"somebody else moved the alias {alias!r} while {version.uri} was promoted: {now}")
    _give_back(client, holder, alias, before)
    raise VerificationError(f"{version.uri} was registered anew while it was promoted; it does not keep the alias")


def _holder(client: MlflowClient, name: str, alias: str) -> Version | None:
    number = client.get_registered_model(name).aliases.get(alias)
    return None if number is None else subject(client.get_model_version(name, str(number)))


def _give_back(client: MlflowClient, holder: Version, alias: str, before: Version | None) -> None:
    """To what had the alias, unless that was registered anew as well, which nobody has verified."""
    if before is not None and subject(client.get_model_version(before.name, before.version)) == before:
        client.set_registered_model_alias(before.name, alias, before.version)
    else:
        client.delete_registered_model_alias(holder.name, alias)
