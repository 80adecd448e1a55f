"""Whether signed statements let a version go where it is wanted; pure, the time is an argument."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from math import ceil
from typing import TYPE_CHECKING

from gate.attestation.envelope import opened, unverified
from gate.attestation.names import STATEMENTS, canonical, statement_key
from gate.attestation.statement import Statement, Version, read
from gate.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from gate.attestation.keys import Keyring

CLOCKS = timedelta(minutes=5)
"""How far the clocks of two machines may be apart."""


@dataclass(frozen=True)
class Accepted:
    """A policy whose verdict counts.

    Attributes:
        name: Of the policy.
        digest: Of its text, with all that it extends.
        models: Patterns of registered models that it is for.
        aliases: Those that it opens, canonical; None for everything that is protected.
    """

    name: str
    digest: str
    models: tuple[str, ...] = ("*",)
    aliases: frozenset[str] | None = None

    def opens(self, name: str, aliases: Collection[str]) -> bool:
        """Whether it is in force for a model at all of these aliases."""
        return any(fnmatchcase(name, pattern) for pattern in self.models) and (
            self.aliases is None or set(aliases) <= self.aliases
        )


@dataclass(frozen=True)
class Trust:
    """What whoever verifies believes.

    Attributes:
        keys: Public keys whose signatures count.
        policies: Whose verdicts count; None for any.
        max_age: The oldest that a statement may be, None for as old as it says itself.
        isolated: Whether a model must have run apart from the gate, where it could not reach the key that signs.
    """

    keys: Keyring
    policies: Sequence[Accepted] | None = None
    max_age: timedelta | None = None
    isolated: bool = False

    def counts(self, found: Statement) -> bool:
        """Whether the verdict of a statement's policy opens anything for its model."""
        about, policy = found.subject.name, found.policy
        return self.policies is None or any(
            each.digest == policy.digest and canonical(each.name) == canonical(policy.name) and each.opens(about, ())
            for each in self.policies
        )


def statement(text: str, keys: Keyring, version: Version) -> Statement:
    """The statement of an envelope: signed by a known key, and about this very version.

    Args:
        text: The envelope.
        keys: Those that are trusted.
        version: As the registry has it now.

    Raises:
        VerificationError: It is not.
    """
    found = read(opened(text, keys))
    about = found.subject
    if about.uri != version.uri:
        raise VerificationError(f"the statement belongs to {about.uri}, not to {version.uri}")
    for what, theirs, ours in (
        ("created", about.created, version.created),
        ("source", about.source, version.source),
        ("workspace", about.workspace, version.workspace),
    ):
        if theirs != ours:
            raise VerificationError(
                f"the statement was issued for another version {version.uri} ({what}: {theirs} != {ours}); "
                "check this one"
            )
    return found


def of_tag(key: str, text: str, keys: Keyring, version: Version) -> Statement:
    """The statement of a tag, which holds as `statement` has it, and stands under the name of its own policy.

    Args:
        key: Of the tag.
        text: The envelope.
        keys: Those that are trusted.
        version: As the registry has it now.

    Raises:
        VerificationError: It does not hold, or belongs under another tag.
    """
    found = statement(text, keys, version)
    if key != statement_key(found.policy.name):
        raise VerificationError(f"the tag {key!r} holds a statement of policy {found.policy.name!r}")
    return found


def require_newer(found: Statement, recorded: str | None, now: datetime) -> None:
    """Refuses a statement that may not take the place of the one that is recorded, so that no old verdict comes back.

    Args:
        found: The new one.
        recorded: The envelope that is there; its signature was looked at when it came.
        now: The time.

    Raises:
        VerificationError: The one that is there is as new or newer, or the new one is of the future.
    """
    if found.issued > now + CLOCKS:
        raise VerificationError(_of_the_future(found))
    try:
        before = None if recorded is None else issued(recorded)
    except VerificationError:  # what stands there is no statement, and lets nothing pass
        before = None
    if before is not None and found.issued <= before:
        raise VerificationError(
            f"the statement of {found.issued:%Y-%m-%d %H:%M:%S} UTC is older than the one recorded, of "
            f"{before:%Y-%m-%d %H:%M:%S} UTC; check the version again"
        )


def issued(text: str) -> datetime:
    """When the statement of an envelope was issued, by its own word.

    Raises:
        VerificationError: It is no statement.
    """
    return read(unverified(text)).issued


def require_passing(found: Statement, trust: Trust, now: datetime) -> None:
    """Refuses a statement that does not pass, or does not count any more.

    Raises:
        VerificationError: The verdict blocks, was asked for otherwise than its policy says, or is too old.
    """
    verdict = found.verdict.upper()
    if not found.passes:
        why = f" ({found.reason})" if found.reason else ""
        more = f"; run: gate explain {found.run[:8]}" if found.run and not found.reason else ""
        raise VerificationError(f"the verdict of policy {found.policy.name!r} is {verdict}{why}{more}")
    if found.policy.enforcement != "block":
        raise VerificationError(
            f"policy {found.policy.name!r} was asked for an alias where it only warns; check {found.subject.uri} itself"
        )
    if found.policy.overrides:
        other, options = (" and ".join(f"{dash}{each}" for each in found.policy.overrides) for dash in ("", "--"))
        raise VerificationError(
            f"policy {found.policy.name!r} was checked with another {other} than it names; check without {options}"
        )
    if trust.isolated and found.isolation not in ("process", None):
        raise VerificationError(
            f"the model ran inside of the gate under policy {found.policy.name!r}, where its code could have reached "
            "the signing key; check it with isolation: process"
        )
    _require_fresh(found, trust.max_age, now)


def require_promotable(
    tags: Mapping[str, str], version: Version, aliases: Collection[str], trust: Trust, now: datetime
) -> list[Statement]:
    """Refuses a version for which not every policy in force has a passing statement that counts.

    Args:
        tags: Of the version.
        version: As the registry has it now.
        aliases: Canonical names of where it is to go; several where it takes a policy that opens all of them.
        trust: Whose keys and policies count.
        now: The time.

    Returns:
        The statements, one for each policy in force.

    Raises:
        VerificationError: One is missing or does not hold; the message says why.
    """
    if trust.policies is None:
        return _all(tags, version, trust, now)
    force = [each for each in trust.policies if each.opens(version.name, aliases)]
    if not force:
        raise VerificationError(f"no policy in force is for {version.name!r} at {_listed(aliases)}")
    names = {canonical(each.name): each.name for each in force}
    return [_of_policy(name, force, tags, version, trust, now) for name in names.values()]


def _all(tags: Mapping[str, str], version: Version, trust: Trust, now: datetime) -> list[Statement]:
    held = [of_tag(key, tags[key], trust.keys, version) for key in sorted(tags) if key.startswith(STATEMENTS)]
    if not held:
        raise VerificationError(_unsigned(version))
    for each in held:
        require_passing(each, trust, now)
    return held


def _of_policy(
    name: str, force: Iterable[Accepted], tags: Mapping[str, str], version: Version, trust: Trust, now: datetime
) -> Statement:
    text = tags.get(statement_key(name))
    if text is None:
        raise VerificationError(_unsigned(version, name))
    found = statement(text, trust.keys, version)
    digests = {each.digest for each in force if canonical(each.name) == canonical(name)}
    if canonical(found.policy.name) != canonical(name) or found.policy.digest not in digests:
        raise VerificationError(
            f"policy {found.policy.name!r} {_short(found.policy.digest)} is not in force for {version.name!r} "
            f"(in force: {', '.join(map(_short, sorted(digests)))})"
        )
    require_passing(found, trust, now)
    return found


def _require_fresh(found: Statement, max_age: timedelta | None, now: datetime) -> None:
    if found.issued > now + CLOCKS:
        raise VerificationError(_of_the_future(found))
    if now >= found.expires:
        raise VerificationError(f"the statement expired at {found.expires:%Y-%m-%d %H:%M} UTC; check the version again")
    if max_age is not None and now - found.issued > max_age:
        raise VerificationError(
            f"the statement was issued at {found.issued:%Y-%m-%d %H:%M} UTC: it is {_spoken(now - found.issued)} old, "
            f"and may be {_spoken(max_age)} old; check the version again"
        )


def _unsigned(version: Version, policy: str | None = None) -> str:
    of = "" if policy is None else f" of policy {policy!r}"
    run = f"gate check {version.uri} -p POLICY --signing-key KEY"
    return f"there is no signed statement{of} on {version.uri}; run: {run}"


def _of_the_future(found: Statement) -> str:
    return f"the statement is of the future, issued at {found.issued:%Y-%m-%d %H:%M:%S} UTC; set the clock right"


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12] + "…"


def _listed(aliases: Collection[str]) -> str:
    return ", ".join(f"@{alias}" for alias in sorted(aliases)) or "any alias"


def _spoken(age: timedelta) -> str:
    """Rounded up to a tenth, so that what is too old never reads as the age that it may have."""
    minutes = age / timedelta(minutes=1)
    unit, length = ("day", 24 * 60) if minutes >= 48 * 60 else ("hour", 60) if minutes >= 120 else ("minute", 1)
    count = ceil(10 * minutes / length) / 10
    return f"{count:.10g} {unit}{'' if count == 1 else 's'}"
