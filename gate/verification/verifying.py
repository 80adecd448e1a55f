"""The order of a verification: a statement, its signature, what it is bound to, verdict, policy, age, and the files."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gate.attestation.deciding import Accepted, Trust, of_tag, require_promotable
from gate.attestation.envelope import opened, signer, unverified
from gate.attestation.names import STATEMENTS, canonical, statement_key
from gate.attestation.statement import Statement, read
from gate.errors import UsageError, VerificationError
from gate.models.digest import digest_of
from gate.verification import asking, files
from gate.verification.registered import Registered, asked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from gate.attestation.keys import Keyring
    from gate.attestation.statement import Version

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Question:
    """What is to be verified.

    Attributes:
        uri: `models:/NAME/VERSION`, `models:/NAME@ALIAS`, or a folder.
        policies: Files, packs or digests, each of which must have judged it; empty for those of the trust.
        alias: Where it is to go; that of the URI when None.
        files: The folder to hash in place of the store's files.
        attestations: Files of envelopes in place of the version's tags.
    """

    uri: str
    policies: Sequence[str] = ()
    alias: str | None = None
    files: Path | None = None
    attestations: Sequence[Path] = ()


@dataclass(frozen=True)
class Signed:
    """A statement that holds, and the `keyid` of who signed it."""

    statement: Statement
    keyid: str


@dataclass(frozen=True)
class Verified:
    """What holds.

    Attributes:
        version: That the statements are about.
        in_registry: Whether the registry was asked, and has this very version.
        aliases: For which it holds; empty for any.
        any_policy: Whether a verdict of any policy counted.
        signed: The statements.
        digest: Of the files.
        count: Of the files.
        location: Of the files.
        at: When it was verified.
    """

    version: Version
    in_registry: bool
    aliases: frozenset[str]
    any_policy: bool
    signed: tuple[Signed, ...]
    digest: str
    count: int
    location: str
    at: datetime


def verify(question: Question, trust: Trust, now: datetime) -> Verified:
    """Verifies a version, or a folder.

    Args:
        question: What, and for which use.
        trust: Whose keys and policies count, and the greatest age.
        now: The time.

    Raises:
        VerificationError: Something does not hold.
        UsageError: The question makes no sense.
        RegistryError: The registry or the store cannot be asked.
    """
    given = _envelopes(question.attestations)
    local = not question.uri.startswith("models:") and Path(question.uri).is_dir()
    row = _of_folder(question, given, trust.keys) if local else asking.registered(asked(question.uri))
    tags, location = given or row.tags, str(question.files or row.location)
    if question.policies:
        trust = replace(trust, policies=[_accepted(each, row.version, tags, trust.keys) for each in question.policies])
    aliases = _aliases(question, local=local)
    statements = require_promotable(tags, row.version, aliases, trust, now)
    there = files.of_folder(_folder(location)) if question.files or local else files.of_location(location)
    for each in statements:
        files.require_same(there, each)
    return Verified(
        version=row.version,
        in_registry=not local,
        aliases=aliases,
        any_policy=trust.policies is None,
        signed=tuple(Signed(each, signer(tags[statement_key(each.policy.name)], trust.keys)) for each in statements),
        digest=digest_of(there),
        count=len(there),
        location=location,
        at=now,
    )


def _of_folder(question: Question, given: Mapping[str, str], keys: Keyring) -> Registered:
    """In place of a row of the registry, what the statement itself is about."""
    if question.files is not None:
        raise UsageError(f"{question.uri!r} is a folder already; give it or --files, not both")
    if not given:
        raise UsageError(f"{question.uri!r} is a folder, so give the statement on it with --attestation FILE")
    return Registered(read(opened(next(iter(given.values())), keys)).subject, given, question.uri)


def _envelopes(paths: Iterable[Path]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path}: the statement cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise VerificationError(f"{path}: what should be a signed statement is no text") from None
        key = statement_key(read(unverified(text)).policy.name)
        if key in found:
            raise UsageError(f"{path}: there is another statement of the same policy; give one for each policy")
        found[key] = text
    return found


def _accepted(reference: str, version: Version, tags: Mapping[str, str], keys: Keyring) -> Accepted:
    """A policy by its file or pack; one by its digest has the name that a statement gives it which holds.

    Digests of one name are alternatives, so whoever could lend a digest another name could make it do without.
    """
    if not reference.startswith("sha256:"):
        from gate.policy.loading import load_policy

        loaded = load_policy(reference)
        return Accepted(loaded.policy.metadata.name, loaded.digest)
    if not _DIGEST.fullmatch(reference):
        raise UsageError(f"{reference!r} is no digest of a policy: write sha256: and 64 hex digits")
    held, refused = [], []
    for key in sorted(key for key in tags if key.startswith(STATEMENTS)):
        try:
            held.append(of_tag(key, tags[key], keys, version).policy)
        except VerificationError as error:
            refused.append(f"{key}: {error}")
    for policy in held:
        if policy.digest == reference:
            return Accepted(policy.name, reference)
    kinds = {"there are": [f"{policy.name} {policy.digest}" for policy in held], "not believed": refused}
    there = "; ".join(f"{kind}: {', '.join(found)}" for kind, found in kinds.items() if found)
    raise VerificationError(
        f"there is no signed statement of policy {reference} on {version.uri} ({there or 'there is none at all'})"
    )


def _aliases(question: Question, *, local: bool) -> frozenset[str]:
    alias = asked(question.uri).alias if question.alias is None and not local else question.alias
    return frozenset() if alias is None else frozenset([canonical(alias)])


def _folder(path: str) -> Path:
    if not Path(path).is_dir():
        raise UsageError(f"{path!r}: there is no such folder with the files of a model")
    return Path(path)
