"""A version of a model, as its registry has it now."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gate.attestation.statement import Version

_URI = re.compile(r"models:/(?P<name>[^/]+?)(?:/(?P<version>[0-9]{1,18})|@(?P<alias>[^/@]+))")


@dataclass(frozen=True)
class Registered:
    """A row of the registry.

    Attributes:
        version: What a statement must be about.
        tags: Of the version.
        location: URI of its files.
    """

    version: Version
    tags: Mapping[str, str]
    location: str


@dataclass(frozen=True)
class Asked:
    """What a model URI asks for: a version by its number or by its alias."""

    name: str
    version: str | None
    alias: str | None

    @property
    def uri(self) -> str:
        """As it is written."""
        return f"models:/{self.name}" + (f"@{self.alias}" if self.alias else f"/{self.version}")


def asked(uri: str) -> Asked:
    """What a URI asks for.

    Raises:
        UsageError: It names no fixed version.
    """
    found = _URI.fullmatch(uri)
    if found is None:
        raise UsageError(
            f"{uri!r} names no version of a model and is no folder: write models:/NAME/VERSION, models:/NAME@ALIAS, or "
            "a folder and --attestation"
        )
    return Asked(**found.groupdict())


def workspace() -> str:
    """Of the registry, as MLflow takes it from the environment."""
    return os.environ.get("MLFLOW_WORKSPACE", "").strip() or "default"
