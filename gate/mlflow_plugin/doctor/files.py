"""The files of a deployment on this machine: the server policy, its keys and policies, the audit log, a private key."""

from __future__ import annotations

import os
import stat
from datetime import datetime
from typing import TYPE_CHECKING

from gate.attestation.keys import is_private, keyid
from gate.attestation.keys import signing_key as private_key
from gate.errors import GateError, PolicyError, UsageError
from gate.mlflow_plugin.audit import chain
from gate.mlflow_plugin.doctor.points import Point, note, ok, wrong
from gate.mlflow_plugin.doctor.registry import NOBODY
from gate.server_policy import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gate.attestation.deciding import Accepted
    from gate.server_policy import Protection

_OTHERS_WRITE = stat.S_IWOTH
_NOT_OWNER = stat.S_IRWXG | stat.S_IRWXO


def server_policy(path: Path | None) -> tuple[Protection | None, list[Point]]:
    """What a server policy protects and whom it believes; None where it cannot be used.

    Args:
        path: Of the file, None where none is given.
    """
    if path is None:
        return None, [note("server policy", "not looked at", "give --server-policy FILE where the server runs")]
    try:
        protection = load(path)
    except PolicyError as error:
        return None, [wrong("server policy", str(fault)) for fault in error.faults]
    except GateError as error:
        return None, [wrong("server policy", str(error))]
    points = [_file(path), *_keys(protection, path.parent), *_policies(protection), *_protected(protection)]
    return protection, points


def audit(protection: Protection | None, *, asked: datetime | None) -> list[Point]:
    """Whether decisions can be written down, and each that was follows from the one before it.

    Args:
        protection: Of the server; None where it is not known.
        asked: Since when the server was asked for what it refused, None where it refused nothing.
    """
    return [] if protection is None else [_audit(protection.audit, asked)]


def signing_key(path: Path | None, protection: Protection | None) -> list[Point]:
    """Whether a key can sign, only for its owner, and the server believes it.

    Args:
        path: Of the private key, None where none is given.
        protection: Of the server; None where it is not known.
    """
    if path is None:
        return [note("signing key", "not looked at", "give --signing-key FILE where gate check runs")]
    try:
        key = keyid(private_key(path).public_key())
    except UsageError as error:
        return [wrong("signing key", str(error))]
    faults = []
    if mode := _mode(path) & _NOT_OWNER:
        faults.append(
            wrong("signing key", f"{path} is open to others than its owner ({mode:03o})", f"chmod 600 {path}")
        )
    if protection is not None and key not in protection.trust.keys:
        add = "put its .pub file among the `keys` of the server policy"
        faults.append(wrong("signing key", f"{path} is key {key[:16]}, which the server does not believe", add))
    believed = "" if protection is None else ", which the server believes"
    return faults or [ok("signing key", f"{path} is key {key[:16]}{believed}")]


def _file(path: Path) -> Point:
    if _mode(path) & _OTHERS_WRITE:
        return wrong("server policy", f"anybody on this machine can write {path}", f"chmod o-w {path}")
    return ok("server policy", f"{path} loads")


def _keys(protection: Protection, folder: Path) -> Iterator[Point]:
    keys = [key[:16] for key in protection.trust.keys]
    yield ok("keys", f"{len(keys)} can verify: {', '.join(keys)}")
    for path in (folder / name for name in protection.written.keys):
        for file in sorted(path.iterdir()) if path.is_dir() else ():
            if file.is_file() and os.access(file, os.R_OK) and is_private(file):
                do = "move it to where gate check runs: the server verifies with public keys alone"
                yield wrong("keys", f"{file} is a private key beside the server, and whoever has it can sign", do)


def _policies(protection: Protection) -> Iterator[Point]:
    for entry, each in zip(protection.written.policies, protection.trust.policies or (), strict=True):
        opened = "all that is protected" if each.aliases is None else _listed(each.aliases)
        told = f"{each.name} {each.digest[:19]}… for {', '.join(each.models)} opens {opened}"
        if entry.file is None:
            yield note("policy", f"{told}, and its digest does not say what it asks", "give its `file` as well")
        else:
            yield ok("policy", told)


def _protected(protection: Protection) -> Iterator[Point]:
    policies = protection.trust.policies or ()
    for alias in sorted(protection.aliases):
        if not any(_opens(each, alias) for each in policies):
            add = "name it under `aliases` of a policy, or take it out of `protected`"
            yield wrong("protected", f"no policy opens @{alias}, so no version ever gets there", add)
    if not any(all(_opens(each, alias) for alias in protection.aliases) for each in policies):
        yield note("protected", "no policy opens every protected alias, so stages, tags and names are closed to all")
    kinds = {
        "stages": protection.stages,
        "tags": protection.version_tags | protection.model_tags,
        "names": frozenset(f"{name}*" for name in protection.names),
    }
    also = "".join(f"; {kind} {', '.join(sorted(names))}" for kind, names in kinds.items() if names)
    yield ok("protected", _listed(protection.aliases) + also)


def _opens(policy: Accepted, alias: str) -> bool:
    return policy.aliases is None or alias in policy.aliases


def _listed(aliases: frozenset[str]) -> str:
    return ", ".join(f"@{alias}" for alias in sorted(aliases))


def _audit(path: Path, asked: datetime | None) -> Point:
    if not path.is_file():
        do = "run gate doctor where the server runs, which makes it when it starts"
        return wrong("audit log", f"there is no file {path}", do)
    if not os.access(path, os.W_OK):
        return wrong("audit log", f"this user cannot append to {path}", "run gate doctor as the user of the server")
    if _mode(path) & _OTHERS_WRITE:
        return wrong("audit log", f"anybody on this machine can write {path}", f"chmod o-w {path}")
    try:
        found, last = chain(path)
    except GateError as error:
        return wrong("audit log", str(error), "compare it with a copy of yours")
    if asked is not None and not any(_is_ours(entry, asked) for entry in found[-1000:]):
        do = "give the server policy that the server runs with"
        return wrong("audit log", f"what the server has just refused is not in {path}: it writes another", do)
    return _whole(path, found, last)


def _whole(path: Path, found: list[dict[str, object]], last: str) -> Point:
    torn = [entry for entry in found if "torn" in entry]
    told = f"{path} holds {_held(len(found), last)}"
    if not torn:
        return ok("audit log", told)
    do = "if no power was lost and no disk was full then, somebody else wrote there: compare it with a copy of yours"
    often = "once" if len(torn) == 1 else f"{len(torn)} times"
    return note("audit log", f"{told}; a line was torn {often}, last found at {torn[-1]['time']}", do)


def _held(count: int, last: str) -> str:
    """The entries of a log that is only appended to, and what a copy must have for the last of them."""
    if not count:
        return "no decision yet"
    chained = "1 entry" if count == 1 else f"{count} entries, each of which follows from the one before it"
    return f"{chained}; the last one is {last}: hold that against your copy, which alone shows a cut off end"


def _is_ours(entry: dict[str, object], asked: datetime) -> bool:
    return entry.get("model") == f"models:/{NOBODY}/0" and datetime.fromisoformat(str(entry["time"])) >= asked


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
