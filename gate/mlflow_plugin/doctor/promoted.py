"""Whether a server would promote again what is promoted: a registry may have champions before it is guarded.

Whatever lies under a promotion goes through the decision of the server, files excepted, which nobody reads here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from gate.attestation.deciding import require_promotable
from gate.attestation.names import FROZEN, canonical
from gate.errors import RegistryError, UsageError, VerificationError
from gate.mlflow_plugin.doctor.points import Point, note, ok, wrong
from gate.mlflow_plugin.locations import in_store
from gate.mlflow_plugin.signing import subject
from gate.mlflow_plugin.tags import recorded
from gate.models.quiet import quiet_mlflow
from gate.models.registry import failures, is_absent, reason
from gate.models.versions import MARKED, rows
from gate.verification.asking import is_server
from gate.verification.registered import asked
from gate.verification.server import Server

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.tracking._model_registry.client import ModelRegistryClient

    from gate.server_policy import Protection

_ABOUT = "promoted"
_SHOWN = 10  # promotions that are named
_PAGE = 100  # rows at once: each may hold signed statements of 40 kB


class _Way(NamedTuple):
    """How a version is promoted, what takes that back, and for which aliases its evidence must count."""

    told: str
    undo: str
    aliases: Collection[str]
    by_name: bool = False


@dataclass(frozen=True)
class _Model:
    """What a registered model says of its versions: whether they may be prompts, and those that it promotes."""

    may_hold_prompts: bool = False
    promotes: dict[str, list[_Way]] = field(default_factory=dict)


def promoted(uri: str, protection: Protection) -> list[Point]:
    """Each promotion that the server would refuse today, or that all of them hold, in every workspace.

    Args:
        uri: Of the registry server.
        protection: Of its server policy.
    """
    unreadable: tuple[type[Exception], ...] = (RegistryError, *failures())
    try:
        with quiet_mlflow():
            return _told(_everywhere(uri, protection))
    except unreadable as error:
        found = f"whether what is promoted has evidence is not known: {reason(error)}"
        return [wrong(_ABOUT, found, "ask with the login of somebody who may read all registered models")]


def unknown() -> Point:
    """Where no server is named: MLflow's store might change the tables of a database that it opens."""
    return note(_ABOUT, "not looked at in a database", "name its server in MLFLOW_REGISTRY_URI")


def _told(decided: Iterable[Point | None]) -> list[Point]:
    count, faults, shown = 0, 0, list[Point]()
    for fault in decided:
        count += 1
        if fault is not None:
            faults += 1
            shown += [fault] if faults <= _SHOWN else []
    if faults > _SHOWN:
        shown.append(wrong(_ABOUT, f"{faults - _SHOWN} more promotions do not hold", "mend these, and look again"))
    each = (
        "the one promotion that this login sees has" if count == 1 else f"{count} promotions that this login sees have"
    )
    return shown or [ok(_ABOUT, f"{each} evidence" if count else "nothing that this login sees is promoted")]


def _everywhere(uri: str, protection: Protection) -> Iterator[Point | None]:
    """Every promotion in every workspace: what is wrong with it, None where nothing is."""
    from mlflow.utils.workspace_context import WorkspaceContext

    names = _workspaces(uri)
    if names is None:
        yield from _decided(uri, protection)
    for name in names or ():
        with WorkspaceContext(name):
            for fault in _decided(uri, protection):
                yield fault and replace(fault, found=f"workspace {name!r}: {fault.found}")


def _workspaces(uri: str) -> list[str] | None:
    """Those of a server that this login sees; None where it has none."""
    from mlflow.tracking._workspace.client import WorkspaceProviderClient

    if not is_server(uri):
        return None
    server = Server(uri)
    about = server.ask("GET", "api/3.0/mlflow/server-info")
    if about.status != 200:
        raise RegistryError(f"{server.root} does not say whether it has workspaces: {about.said}")
    if not about.document.get("workspaces_enabled"):
        return None
    return [each.name for each in WorkspaceProviderClient(uri).list_workspaces()]


def _decided(uri: str, protection: Protection) -> Iterator[Point | None]:
    from mlflow.tracking._model_registry.client import ModelRegistryClient

    client = ModelRegistryClient(uri, uri)
    models = {each.name: _model(each, protection) for each in _models(client)}
    now = datetime.now(UTC)
    for row in (each for page in rows(uri) for each in page):
        model = models.get(row.name, _Model())
        ways = [*model.promotes.pop(str(row.version), ()), *_ways(row, protection)]
        for way in ways if not _is_prompt(model, row) else ():
            yield _fault(client, row, way, protection, now)
    for name, model in models.items():
        for number, ways in model.promotes.items():
            for way in ways:
                yield wrong(_ABOUT, f"models:/{name}/{number} {way.told}: there is no such version", way.undo)


def _fault(
    client: ModelRegistryClient, row: ModelVersion, way: _Way, protection: Protection, now: datetime
) -> Point | None:
    judged = _original(client, row) if way.by_name else row
    try:
        require_promotable(judged.tags, subject(judged), way.aliases, protection.trust, now)
        if protection.artifacts == "frozen":
            _require_frozen(client, judged)
    except VerificationError as error:
        uri = f"models:/{row.name}/{row.version}"
        check = f"check it with gate check {uri} -p POLICY --signing-key KEY, or {way.undo}"
        return wrong(_ABOUT, f"{uri} {way.told}: {error}", check)
    return None


def _require_frozen(client: ModelRegistryClient, row: ModelVersion) -> None:
    location = client.get_model_version_download_uri(row.name, row.version)
    if row.tags.get(FROZEN) != in_store(location, subject(row).workspace):
        raise VerificationError("its files are not frozen on this server")


def _original(client: ModelRegistryClient, row: ModelVersion) -> ModelVersion:
    """Whose evidence let a version under a protected name, where it has none of its own: what it is a copy of.

    That must have the same files: something else may have been registered there meanwhile.
    """
    if any(each.subject == subject(row) for each in recorded(row.tags).values()):
        return row
    try:
        source = asked(str(row.source))
        found: ModelVersion = client.get_model_version(source.name, str(source.version))
    except UsageError:
        return row
    except failures() as error:
        if not is_absent(error):
            raise
        return row
    locations = {client.get_model_version_download_uri(each.name, each.version) for each in (row, found)}
    return found if len(locations) == 1 else row


def _model(model: RegisteredModel, protection: Protection) -> _Model:
    found = _Model(model._is_prompt())  # noqa: SLF001 - the public tags hide it
    for alias, number in model.aliases.items():
        if protection.protects_alias(alias):
            way = _Way(f"holds @{alias}", "remove the alias", {canonical(alias)})
            found.promotes.setdefault(str(number), []).append(way)
    for key, number in model.tags.items():
        if canonical(key) in protection.model_tags:
            way = _Way(f"is named by the tag {key!r} of its model", "remove the tag", protection.aliases)
            found.promotes.setdefault(str(number), []).append(way)
    return found


def _ways(row: ModelVersion, protection: Protection) -> Iterator[_Way]:
    """How a version is promoted by what is written on itself."""
    if canonical(str(row.current_stage)) in protection.stages:
        yield _Way(f"is in stage {row.current_stage!r}", "archive it", protection.aliases)
    for key in row.tags:
        if canonical(key) in protection.version_tags:
            yield _Way(f"carries the tag {key!r}", "remove the tag", protection.aliases)
    if protection.protects_name(row.name):
        yield _Way("lies under a protected name", "delete it", protection.aliases, by_name=True)


def _models(client: ModelRegistryClient) -> Iterator[RegisteredModel]:
    """All of them: a search finds those that are marked as prompts, or the others."""
    for wanted in ("", MARKED):
        token = None
        while True:
            page = client.search_registered_models(wanted, _PAGE, ["name ASC"], token)
            yield from page
            token = page.token
            if not token:
                break


def _is_prompt(model: _Model, row: ModelVersion) -> bool:
    """Whether a version is text and no model, as the server decides it."""
    from mlflow.prompt.constants import _PROMPT_SOURCE_PLACEHOLDERS

    return model.may_hold_prompts and row.source in _PROMPT_SOURCE_PLACEHOLDERS
