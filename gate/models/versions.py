"""The versions that a registry holds, page by page, those too that MLflow's search and its public client hide."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gate.errors import RegistryError
from gate.models.quiet import quiet_mlflow
from gate.models.registry import failures, is_absent, reason, require_database, without_passwords

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.tracking._model_registry.client import ModelRegistryClient

_PAGE = 500
_ORDER = ["creation_timestamp ASC", "name ASC", "version_number ASC"]  # what is new comes last and moves no page
_BY_NAME = ["name ASC", "version_number ASC"]
MARKED = "tags.`mlflow.prompt.is_prompt` = 'true'"
"""The filter by which MLflow searches what is marked as a prompt, which it leaves out of all other searches."""
_MODELS = 10_000  # whose marked versions are remembered at a time


@dataclass(frozen=True)
class RegisteredVersion:
    """A version as the registry has it now.

    Attributes:
        name: Of the registered model.
        version: Its number.
        created: When it was made, in milliseconds since 1970 by the clock of the registry.
        source: Where its files came from; a prompt has a placeholder here.
        tags: Key → value.
    """

    name: str
    version: str
    created: int
    source: str
    tags: Mapping[str, str]


def pages() -> Iterator[list[RegisteredVersion]]:
    """All versions of the registry that MLflow's own settings name, as `rows` finds them.

    Raises:
        RegistryError: The registry cannot be reached, or refuses.
    """
    for page in rows():
        yield [_version(each) for each in page]


def rows(uri: str | None = None) -> Iterator[list[ModelVersion]]:
    """All versions of a registry, prompts too; a page in memory at a time.

    As soon as one version of a model is marked as a prompt, which anybody can do, MLflow's search leaves out all of its
    versions. What it shows comes first, oldest first, and then what it hides; what changes meanwhile may come twice.

    MLflow is quiet only while a page is fetched. Not for several threads at once.

    Args:
        uri: Of the registry; that of MLflow's own settings when None.

    Raises:
        RegistryError: The registry cannot be reached, or refuses.
    """
    yield from _searched(uri, None, _ORDER)
    yield from _hidden(uri)


def _hidden(uri: str | None) -> Iterator[list[ModelVersion]]:
    """The versions that are marked, and those between and above them, which have to be asked for by their numbers."""
    highest: dict[str, int] = {}
    for page in _searched(uri, MARKED, _BY_NAME):
        yield page
        for each in page:
            if each.name not in highest and len(highest) == _MODELS:
                yield from _above(uri, highest)
                highest.clear()
            before, number = highest.get(each.name, 0), int(each.version)
            yield from _numbered(uri, each.name, range(before + 1, number))
            highest[each.name] = max(before, number)
    if highest:
        yield from _above(uri, highest)


def _above(uri: str | None, highest: Mapping[str, int]) -> Iterator[list[ModelVersion]]:
    """What has a higher number than the highest that is marked: a true prompt has none, and costs no request."""
    left = dict(highest)
    for last in _last_numbers(uri):
        for name in last.keys() & left:
            yield from _numbered(uri, name, range(left.pop(name) + 1, last[name] + 1))
    for name, before in left.items():  # written otherwise, where a database takes it for the same, or deleted by now
        yield from _numbered(uri, name, range(before + 1, _last_number(uri, name) + 1))


def _searched(uri: str | None, wanted: str | None, order: list[str]) -> Iterator[list[ModelVersion]]:
    token: str | None = None
    while token is None or token:
        with _registry(uri) as client:
            found = client.search_model_versions(wanted, max_results=_PAGE, order_by=order, page_token=token)
            page, token = list(found), found.token or ""
        yield page


def _last_numbers(uri: str | None) -> Iterator[dict[str, int]]:
    """Name → highest number of its versions, for all models, whether they are marked as prompts or not."""
    for wanted in (None, MARKED):
        token: str | None = None
        while token is None or token:
            with _registry(uri) as client:
                found = client.search_registered_models(wanted, max_results=_PAGE, page_token=token)
                page, token = {each.name: _newest(each) for each in found}, found.token or ""
            yield page


def _last_number(uri: str | None, name: str) -> int:
    with _registry(uri) as client:
        try:
            return _newest(client.get_registered_model(name))
        except failures() as error:
            if is_absent(error):
                return 0
            raise


def _numbered(uri: str | None, name: str, numbers: range) -> Iterator[list[ModelVersion]]:
    for start in range(0, len(numbers), _PAGE):
        with _registry(uri) as client:
            asked = [_get(client, name, number) for number in numbers[start : start + _PAGE]]
        yield [each for each in asked if each]


def _get(client: ModelRegistryClient, name: str, number: int) -> ModelVersion | None:
    try:
        found: ModelVersion = client.get_model_version(name, str(number))
    except failures() as error:
        if is_absent(error):
            return None
        raise
    return found


@contextmanager
def _registry(uri: str | None) -> Iterator[ModelRegistryClient]:
    with quiet_mlflow():
        from mlflow import get_registry_uri, get_tracking_uri

        # MLflow's public client takes whatever has the tag of a prompt, with any value, for absent.
        from mlflow.tracking._model_registry.client import ModelRegistryClient

        try:
            if uri is None:
                require_database("models:/")
            yield ModelRegistryClient(uri or get_registry_uri(), uri or get_tracking_uri())
        except failures() as error:
            where = f"the registry {without_passwords(uri or get_registry_uri())!r}"
            raise RegistryError(f"the versions of {where} cannot be listed: {reason(error)}") from error


def _version(found: ModelVersion) -> RegisteredVersion:
    created, tags = int(found.creation_timestamp), dict(found.tags)
    return RegisteredVersion(found.name, str(found.version), created, str(found.source), tags)


def _newest(model: RegisteredModel) -> int:
    """The highest number of its versions, 0 for none."""
    return max((int(each.version) for each in model.latest_versions), default=0)  # the latest of each stage
