"""The artifact repository `gate+SCHEME`: MLflow's own for the scheme, in which attested files can no longer be written.

MLflow loads this module in every process that touches artifacts, so it imports nothing heavy.
"""

from __future__ import annotations

import os
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gate.attestation.names import SCHEME
from gate.mlflow_plugin.locations import DESTINATION, LOCAL, REGISTRY

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow.store.artifact.artifact_repo import ArtifactRepository


def build(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> ArtifactRepository:
    """The guarded repository of a URI.

    Args:
        artifact_uri: Such as `gate+file:///artifacts` or `gate+s3://bucket/mlflow`.
        tracking_uri: Handed on.
        registry_uri: Handed on.

    Raises:
        MlflowException: MLflow has no repository for the scheme, or one that can write in ways that gate does not know.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository: ArtifactRepository = _guarded(
        get_artifact_repository, artifact_uri.removeprefix(SCHEME), tracking_uri, registry_uri
    )
    return repository


def guard_scheme(scheme: str) -> None:
    """Guard every repository of a scheme in this process.

    Whoever makes an experiment says where it lies, and could say: inside of the store, without the guard.
    """
    from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry as registry

    made: Any = registry.get_registered_artifact_repositories()[scheme]
    registry.register(scheme, update_wrapper(partial(_guarded, made), made, updated=()))  # MLflow looks at its name


def _guarded(
    make: Callable[..., Any], artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> Any:
    """A repository with the guard over it; some are made by functions, so their class is known late."""
    from gate.mlflow_plugin.write_once import WriteOnce

    repository = make(artifact_uri, tracking_uri, registry_uri)
    if not isinstance(repository, WriteOnce):
        repository.__class__ = _over(type(repository))
        repository.place = artifact_uri
    return repository


def _over(base: type) -> type:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INTERNAL_ERROR

    from gate.mlflow_plugin.coverage import unknown_of_artifacts
    from gate.mlflow_plugin.write_once import WriteOnce

    if unknown := unknown_of_artifacts(base):
        raise MlflowException(
            f"this MLflow can write artifacts in ways that gate does not know: {', '.join(unknown)}", INTERNAL_ERROR
        )
    return type(f"Guarded{base.__name__}", (WriteOnce, base), {})


def _guard_server() -> None:
    """In the processes of a guarded server, which MLflow tells of its stores before they load this."""
    destination = os.environ.get(DESTINATION, "")
    own = [urlsplit(destination.removeprefix(SCHEME)).scheme] if destination.startswith(SCHEME) else []
    if own or os.environ.get(REGISTRY, "").startswith(SCHEME):
        for scheme in sorted({*own, *LOCAL}):
            guard_scheme(scheme)


_guard_server()
