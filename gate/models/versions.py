"""The versions that a registry holds, page by page."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gate.errors import RegistryError
from gate.models.quiet import quiet_mlflow
from gate.models.registry import failures, is_absent, reason, require_database, without_passwords

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow import MlflowClient

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
    """All versions of the registry that MLflow's own settings name, prompts too; a page in memory at a time.

    As soon as one version of a model is marked as a prompt, which anybody can do, MLflow's search leaves out all of its
    versions. What it shows comes first, oldest first, and then what it hides; what changes meanwhile may come twice.

    MLflow is quiet only while a page is fetched. Not for several threads at once.

    Raises:
        RegistryError: The registry cannot be reached, or refuses.
    """
    yield from _searched(None, _ORDER)
    yield from _hidden()


def _hidden() -> Iterator[list[RegisteredVersion]]:
    """The versions that are marked, and those between and above them, which have to be asked for by their numbers."""
    highest: dict[str, int] = {}
    for page in _searched(MARKED, _BY_NAME):
        yield page
        for each in page:
            if each.name not in highest and len(highest) == _MODELS:
                yield from _above(highest)
                highest.clear()
            before, number = highest.get(each.name, 0), int(each.version)
            yield from _numbered(each.name, range(before + 1, number))
            highest[each.name] = max(before, number)
    if highest:
        yield from _above(highest)


def _above(highest: Mapping[str, int]) -> Iterator[list[RegisteredVersion]]:
    """What has a higher number than the highest that is marked: a true prompt has none, and costs no request."""
    left = dict(highest)
    for last in _last_numbers():
        for name in last.keys() & left:
            yield from _numbered(name, range(left.pop(name) + 1, last[name] + 1))
    for name, before in left.items():  # written otherwise, where a database takes it for the same, or deleted by now
        yield from _numbered(name, range(before + 1, _last_number(name) + 1))


def _searched(wanted: str | None, order: list[str]) -> Iterator[list[RegisteredVersion]]:
    token: str | None = None
    while token is None or token:
        with _registry() as client:
            found = client.search_model_versions(wanted, max_results=_PAGE, order_by=order, page_token=token)
            page, token = [_version(each) for each in found], found.token or ""
        yield page


def _last_numbers() -> Iterator[dict[str, int]]:
    """Name → highest number of its versions, for all models, whether they are marked as prompts or not."""
    for wanted in (None, MARKED):
        token: str | None = None
        while token is None or token:
            with _registry() as client:
                found = client.search_registered_models(wanted, max_results=_PAGE, page_token=token)
                page, token = {each.name: _last(each) for each in found}, found.token or ""
            yield page


def _last_number(name: str) -> int:
    with _registry() as client:
        try:
            return _last(client.get_registered_model(name))
        except failures() as error:
            if is_absent(error):
                return 0
            raise


def _numbered(name: str, numbers: range) -> Iterator[list[RegisteredVersion]]:
    for start in range(0, len(numbers), _PAGE):
        with _registry() as client:
            asked = [_get(client, name, number) for number in numbers[start : start + _PAGE]]
        yield [each for each in asked if each]


def _get(client: MlflowClient, name: str, number: int) -> RegisteredVersion | None:
    try:
        return _version(client.get_model_version(name, str(number)))
    except failures() as error:
        if is_absent(error):
            return None
        raise


@contextmanager
def _registry() -> Iterator[MlflowClient]:
    with quiet_mlflow():
        from mlflow import MlflowClient, get_registry_uri

        try:
            require_database("models:/")
            yield MlflowClient()
        except failures() as error:
            where = f"the registry {without_passwords(get_registry_uri())!r}"
            raise RegistryError(f"the versions of {where} cannot be listed: {reason(error)}") from error


def _version(found: Any) -> RegisteredVersion:  # noqa: ANN401 - MLflow's ModelVersion, which has no types
    created, tags = int(found.creation_timestamp), dict(found.tags)
    return RegisteredVersion(found.name, str(found.version), created, str(found.source), tags)


def _last(model: Any) -> int:  # noqa: ANN401 - MLflow's RegisteredModel, which has no types
    """MLflow names the latest version of each stage."""
    return max((int(each.version) for each in model.latest_versions), default=0)
