"""The versions that a registry holds, page by page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gate.errors import RegistryError
from gate.models.quiet import quiet_mlflow
from gate.models.registry import failures, reason, require_database, without_passwords

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PAGE = 500
_ORDER = ["creation_timestamp ASC", "name ASC", "version_number ASC"]  # what is new comes last and moves no page


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
    """All versions of the registry that MLflow's own settings name, the oldest first; a page in memory at a time.

    MLflow is quiet only while a page is fetched. Not for several threads at once.

    Raises:
        RegistryError: The registry cannot be reached, or refuses.
    """
    token: str | None = None
    while token is None or token:
        page, token = _page(token)
        yield page


def _page(token: str | None) -> tuple[list[RegisteredVersion], str]:
    with quiet_mlflow():
        from mlflow import MlflowClient, get_registry_uri

        try:
            require_database("models:/")
            found = MlflowClient().search_model_versions(max_results=_PAGE, order_by=_ORDER, page_token=token)
        except failures() as error:
            where = f"the registry {without_passwords(get_registry_uri())!r}"
            raise RegistryError(f"the versions of {where} cannot be listed: {reason(error)}") from error
    return [
        RegisteredVersion(each.name, str(each.version), int(each.creation_timestamp), str(each.source), dict(each.tags))
        for each in found
    ], found.token or ""
