"""A version as its registry has it now, by MLflow itself: for registries that nothing lighter can read."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout

from gate.attestation.statement import Version
from gate.errors import AbsentError, RegistryError
from gate.models.quiet import quiet_mlflow
from gate.models.registry import failures, is_absent, reason, without_passwords


def row(store: str, name: str, version: str | None, alias: str | None) -> tuple[Version, dict[str, str], str]:
    """A version by its number or by its alias.

    Args:
        store: URI of the registry.
        name: Of the registered model.
        version: Its number; None to ask by alias.
        alias: An alias of it.

    Returns:
        The version, its tags, and the URI of its files.

    Raises:
        AbsentError: There is none.
        RegistryError: The registry cannot be asked.
    """
    from mlflow import MlflowClient

    try:
        with quiet_mlflow(), redirect_stdout(sys.stderr):
            client = MlflowClient(registry_uri=store)
            if version is None:
                found = client.get_model_version_by_alias(name, str(alias))
            else:
                found = client.get_model_version(name, version)
            location = client.get_model_version_download_uri(name, found.version)
    except failures() as error:
        kind = AbsentError if is_absent(error) else RegistryError
        raise kind(f"the registry {without_passwords(store)!r} cannot be asked: {reason(error)}") from None
    about = Version.of(found.name, found.version, found.creation_timestamp, found.source, found.workspace)
    return about, dict(found.tags), str(location)
