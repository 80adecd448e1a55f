"""Where a model URI leads: an alias becomes a version, and the files come down once."""

from __future__ import annotations

import difflib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from gate.attestation.names import REFUSED
from gate.errors import AbsentError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient

_SHOWN = 10
_LONGEST = 300  # characters of a reason that is not our own
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow calls it when there is no such model, version or alias."""


@dataclass(frozen=True)
class Location:
    """What a model URI stands for today.

    Attributes:
        resolved: The URI with an alias replaced by the version that it names now.
        name: Of the registered model; None outside the registry.
        version: Of the registered model; None outside the registry.
        run_id: The run that made the model, where the registry knows it.
        model_id: The logged model ("m-…"), where the URI or the registry names it.
    """

    resolved: str
    name: str | None = None
    version: str | None = None
    run_id: str | None = None
    model_id: str | None = None


def resolve(uri: str) -> Location:
    """Find out what a `models:/` or `runs:/` URI stands for; nothing is downloaded.

    Args:
        uri: "models:/name/version", "models:/name@alias", "models:/m-…" or "runs:/run/path".

    Raises:
        AbsentError: The registry does not know the model, the version or the alias.
        RegistryError: The registry cannot be reached, or the URI names no fixed version.
    """
    require_database(uri)
    if ".." in unquote(uri).split("/"):
        raise RegistryError(f"{uri!r} leads out of the place that it names; write it without '..'")
    if uri.startswith("runs:/"):
        return Location(uri, run_id=uri.removeprefix("runs:/").strip("/").split("/")[0])
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.utils.models import _parse_model_uri

    try:
        parsed = _parse_model_uri(uri)
    except MlflowException as error:
        raise RegistryError(f"{uri!r} is not a model URI: write models:/name/version or models:/name@alias") from error
    if parsed.model_id is not None:
        return _logged_model(uri, parsed.model_id)
    if parsed.version is None and parsed.alias is None:
        raise RegistryError(
            f"{uri!r} names no fixed version, and what it names changes under the gate: "
            f"write models:/{parsed.name}/<version> or models:/{parsed.name}@<alias>"
        )
    return _registered(uri, str(parsed.name), parsed.version, str(parsed.alias))


def download(location: Location, directory: Path) -> Path:
    """Bring the files of a model into a new folder below `directory`.

    Returns:
        The folder that holds the MLmodel file.

    Raises:
        RegistryError: The files cannot be had.
    """
    import mlflow.artifacts

    directory.mkdir(parents=True, exist_ok=True)
    target = tempfile.mkdtemp(prefix="model-", dir=directory)
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=location.resolved, dst_path=target))
    except failures() as error:
        raise RegistryError(_sentence(location.resolved, error, "its files cannot be downloaded")) from error


def require_database(uri: str) -> None:
    """MLflow would make an empty registry where a database file is missing, and retry for minutes where it cannot."""
    from sqlalchemy.engine import make_url

    store = _store(uri)
    path = make_url(store).database if store.startswith("sqlite:") else None
    if path and path != ":memory:" and not path.startswith("file:") and not Path(path).is_file():
        raise RegistryError(
            f"{uri}: there is no database file {path!r}, so there is no registry {store!r}; "
            "check MLFLOW_REGISTRY_URI or MLFLOW_TRACKING_URI"
        )


def _logged_model(uri: str, model_id: str) -> Location:
    if not model_id.startswith("m-"):
        raise RegistryError(
            f"{uri!r} names no version: write models:/{model_id}/<version> or models:/{model_id}@<alias>"
        )
    return Location(uri, model_id=model_id)


def _registered(uri: str, name: str, version: str | None, alias: str) -> Location:
    from mlflow import MlflowClient

    try:
        client = MlflowClient()
        found = client.get_model_version(name, version) if version else client.get_model_version_by_alias(name, alias)
        source = str(found.source)
    except failures() as error:
        kind = AbsentError if is_absent(error) and is_registered(name) else RegistryError
        raise kind(_sentence(uri, error, "it cannot be looked up") + _known(error, name)) from error
    if found.status != "READY":
        raise RegistryError(f"{uri}: this version is {found.status!r}, expected 'READY'; register it again")
    # The open-source store keeps no model_id with a version, only the source that it was registered from.
    source_id = source.removeprefix("models:/") if source.startswith("models:/m-") else None
    return Location(f"models:/{name}/{found.version}", name, str(found.version), found.run_id, source_id)


def failures() -> tuple[type[Exception], ...]:
    """What MLflow raises when a store is down or refuses, or when its driver is not installed."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, RequestException, SQLAlchemyError, OSError, ImportError)


def _sentence(uri: str, error: Exception, failed: str) -> str:
    return without_passwords(
        f"{uri}: {failed} in the registry {_store(uri)!r} (MLFLOW_REGISTRY_URI or MLFLOW_TRACKING_URI): {reason(error)}"
    )


def _store(uri: str) -> str:
    import mlflow

    return str(mlflow.get_tracking_uri() if uri.startswith("runs:/") else mlflow.get_registry_uri())


def reason(error: Exception) -> str:
    """The first line without passwords, or, where no server answers, what the network said.

    A long one ends at a word, with an ellipsis; what a guarded server says stays whole, as its end says what to do.
    """
    from requests.exceptions import ConnectionError as NoConnection

    chain = tuple(_causes(error))
    network = [each for each in chain if isinstance(each, OSError) and each.strerror]
    if network and any(isinstance(each, NoConnection) for each in chain):
        return f"no server answers there: {network[-1].strerror}"
    line = without_passwords((str(error).strip().splitlines() or [type(error).__name__])[0])
    return line if len(line) <= _LONGEST or REFUSED in line else f"{line[:_LONGEST].rsplit(' ', 1)[0]} …"


def refused_by_gate(error: Exception) -> bool:
    """Whether a guarded server refused, because evidence is missing or does not hold."""
    return getattr(error, "error_code", None) == "PERMISSION_DENIED" and REFUSED in str(error)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def without_passwords(text: str) -> str:
    """The text with the user part of every URI in it masked."""
    return re.sub(r"//[^@/\s]+@", "//***@", text)


def _known(error: Exception, name: str) -> str:
    """What the registry does have, for a URI that it does not know; nothing when it did not answer."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    if not is_absent(error):
        return ""
    try:
        return neighbours(MlflowClient(), name)
    except MlflowException:
        return ""


def is_registered(name: str) -> bool:
    """Whether there is a registered model of this name: without one the name is wrong, and no version is absent."""
    from mlflow import MlflowClient

    try:
        return MlflowClient().get_registered_model(name) is not None
    except failures():
        return False


def is_absent(error: Exception) -> bool:
    """Whether MLflow says that there is no such thing, and not that it cannot say."""
    return getattr(error, "error_code", None) in ABSENT


def versions_of(name: str) -> str:
    """The filter by which MLflow searches the versions of a registered model.

    Args:
        name: Of the model.

    Raises:
        RegistryError: MLflow's language of filters has no way to write the name.
    """
    if "'" in name and '"' in name:
        raise RegistryError(
            f"the name {name!r} holds both kinds of quotes, so its versions cannot be searched; rename it"
        )
    quote = '"' if "'" in name else "'"
    return f"name={quote}{name}{quote}"


def neighbours(client: MlflowClient, name: str) -> str:
    """What there is in place of a version or a model, as the end of a message.

    Args:
        client: Of the registry.
        name: Of the registered model.
    """
    versions = client.search_model_versions(versions_of(name), max_results=_SHOWN)
    if versions:
        aliases = client.get_registered_model(name).aliases
        known = [f"models:/{name}/{version.version}" for version in versions]
        known += [f"models:/{name}@{alias}" for alias in sorted(aliases)]
        return f"; there are: {', '.join(known)}"
    names = [model.name for model in client.search_registered_models(max_results=200)]
    nearest = difflib.get_close_matches(name, names, n=_SHOWN, cutoff=0.0)
    return f"; the nearest models are: {', '.join(nearest)}" if nearest else "; the registry holds no model"
