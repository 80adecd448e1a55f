"""Statements on a version that never was, by keys that are made for one test session."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gate.attestation.envelope import sealed
from gate.attestation.issuing import issue
from gate.attestation.keys import Keyring, keyid
from gate.attestation.names import statement_key
from gate.attestation.statement import Statement, Version
from gate.models.digest import digest_of, digest_of_names
from tests.evidence import samples

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
FILES = {"MLmodel": "1" * 64, "data/model.pt2": "2" * 64}
VERSION = Version(name="encoder", version="7", created=1_700_000_000_000, source="models:/m-1")
RAN = {"trust": "code-free", "isolation": {"mode": "process"}}


@cache
def key(name: str) -> Ed25519PrivateKey:
    del name  # one key for each
    return Ed25519PrivateKey.generate()


def ring(*names: str) -> Keyring:
    return {keyid(public): public for public in (key(name).public_key() for name in names or ("gate",))}


def evidence(document: dict[str, Any] | None = None, **policy: Any) -> dict[str, Any]:
    """A recorded document with the keys that evidence has by now."""
    content = samples.recorded("passed") if document is None else document
    return {
        **content,
        "model": {**content["model"], **RAN, "digest": digest_of(FILES), "names_digest": digest_of_names(FILES)},
        "policy": {**content["policy"], **policy},
        "run": {**content["run"], "enforcement": "block", "overrides": []},
    }


def statement(now: datetime = NOW, subject: Version = VERSION, policy: str = "classifier", **changes: Any) -> Statement:
    made = issue(evidence(name=policy), subject, FILES, now=now)
    return made.model_copy(update=changes)


def under(made: Statement, **changes: Any) -> Statement:
    return made.model_copy(update={"policy": made.policy.model_copy(update=changes)})


def envelope(made: Statement | None = None, by: str = "gate") -> str:
    return sealed((made or statement()).payload, key(by))


def tags(*made: Statement, by: str = "gate") -> dict[str, str]:
    return {statement_key(each.policy.name): envelope(each, by) for each in made or (statement(),)}
