"""The version that a candidate is compared with, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gate.errors import AbsentError, SameVersionError, UsageError
from gate.models.finding import found

if TYPE_CHECKING:
    from pathlib import Path

    from gate.models.finding import FoundModel
    from gate.models.mlmodel import Permissions


@dataclass(frozen=True)
class Absent:
    """There is nothing to compare with.

    Attributes:
        reason: Why.
        asked: The URI that was looked for; None where nothing was.
    """

    reason: str
    asked: str | None = None


def in_full(uri: str, name: str | None) -> str:
    """The URI of a baseline, where `@ALIAS` is that of the candidate's own registered model.

    Args:
        uri: As a policy has it.
        name: Of the candidate's registered model.
    """
    return f"models:/{name}{uri}" if uri.startswith("@") else uri


def find(
    uri: str,
    candidate: FoundModel,
    *,
    when_absent: Literal["error", "skip_relative"],
    directory: Path,
    permissions: Permissions,
) -> FoundModel | Absent:
    """Find the baseline of a candidate.

    Args:
        uri: Of a model, or `@ALIAS` for the version of the candidate's own registered model.
        candidate: That is judged.
        when_absent: What to do where there is no such version, or it is the candidate itself.
        directory: Where to download to.
        permissions: What the policy lets it do when it is loaded.

    Raises:
        UsageError: `@ALIAS` of a model outside of a registry.
        AbsentError: There is no such version, and that is an error; a SameVersionError where it is the candidate.
        GateError: It cannot be had, or may not be loaded.
    """
    if uri.startswith("@") and candidate.name is None:
        raise UsageError(
            f"baseline {uri!r} is an alias of the candidate's own model, but {candidate.uri} is no registered "
            "model; name the baseline in full: --baseline URI"
        )
    uri = in_full(uri, candidate.name)
    try:
        earlier = found(uri, directory=directory, permissions=permissions)
    except AbsentError as error:
        if "@" not in uri:
            raise AbsentError(f"baseline {error}; a version that is named must be there") from None
        if when_absent == "error":
            raise AbsentError(
                f"baseline {error}; `when_absent: skip_relative` lets a first version do without"
            ) from None
        return Absent(f"there is no baseline {uri}", uri)
    if earlier.digest == candidate.digest:
        reason = f"the baseline {earlier.resolved} is the candidate itself"
        if when_absent == "error":
            raise SameVersionError(f"{reason}, so nothing can be compared; name another one: --baseline URI")
        return Absent(reason, uri)
    return earlier
