"""What was verified, for a person and for a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gate.attestation.statement import UnderPolicy
    from gate.verification.verifying import Signed, Verified

SCHEMA = "gate.verification/v1"


def lines(found: Verified) -> Iterator[str]:
    """For a person."""
    where = f" for {_listed(found)}" if found.aliases else ""
    yield f"VERIFIED  {found.version.uri} is what was judged, signed and let pass{where}"
    for each in found.signed:
        yield from _statement(each)
    yield f"  files     {found.count}, none changed, missing or extra, at {found.location}"
    if found.any_policy:
        yield "  note      any policy counts; --policy names those that must have judged it"
    if not found.in_registry:
        yield f"  note      the registry was not asked whether {found.version.uri} is still this version"


def document(found: Verified) -> dict[str, Any]:
    """For a program, as JSON."""
    return {
        "schema": SCHEMA,
        "model": found.version.uri,
        "in_registry": found.in_registry,
        "aliases": sorted(found.aliases),
        "any_policy": found.any_policy,
        "files": {"count": found.count, "digest": found.digest, "location": found.location},
        "statements": [
            {"keyid": each.keyid, **each.statement.model_dump(mode="json", exclude={"files"})} for each in found.signed
        ],
        "verified": found.at.isoformat(timespec="seconds"),
    }


def _statement(signed: Signed) -> Iterator[str]:
    found = signed.statement
    yield f"  verdict   {found.verdict} under {_policy(found.policy)}"
    issued, expires = (f"{time:%Y-%m-%d %H:%M} UTC" for time in (found.issued, found.expires))
    yield f"  signed    by key {signed.keyid[:16]} on {issued}, counts until {expires}"
    yield f"  loading   {found.trust or 'unknown'}, isolation: {found.isolation or 'no model ran'}"


def _policy(policy: UnderPolicy) -> str:
    version = f"@{policy.version}" if policy.version else ""
    return f"{policy.name}{version} ({policy.digest[:19]}…)"


def _listed(found: Verified) -> str:
    return ", ".join(f"@{alias}" for alias in sorted(found.aliases))
