"""What a registry answers to requests that a guarded server refuses, and that change nothing on any other."""

from __future__ import annotations

from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from gate.attestation.names import KEY, REFUSED, SCHEME
from gate.errors import RegistryError
from gate.mlflow_plugin.doctor.points import Point, note, ok, wrong
from gate.mlflow_plugin.locations import RESERVED
from gate.models.quiet import quiet_mlflow
from gate.models.registry import failures, reason, without_passwords
from gate.verification.asking import plain

if TYPE_CHECKING:
    from gate.verification.server import Answer, Server

NOBODY = "gate-doctor"
"""Name of a registered model whose version 0 is asked about: no registry has one, versions count from 1."""
_LOGIN = "ask with the login of somebody who may edit registered models and artifacts"
_EXPERIMENTS = 1000  # that are looked at
_SHOWN = 5  # names in a line


def answers(server: Server) -> Point:
    """Whether the registry can be asked, and which MLflow it is.

    Raises:
        RegistryError: It cannot.
    """
    found = server.ask("GET", "api/2.0/mlflow/registered-models/search?max_results=1")
    version = server.ask("GET", "version")
    if found.status != 200 or not found.text.lstrip().startswith("{"):
        raise RegistryError(f"{server.root} answers {found.status} and no registry: {found.said}")
    return ok(
        "registry",
        f"{server.root} answers with MLflow {version.said if version.status == 200 else 'of unknown release'}",
    )


def database(uri: str) -> list[Point]:
    """What a registry is that is no server.

    Args:
        uri: With the prefix of the gate, if it has one.

    Raises:
        RegistryError: It cannot be asked.
    """
    shown = repr(without_passwords(uri))
    try:
        with quiet_mlflow():
            version = _release_beside(plain(uri))
    except failures() as error:
        raise RegistryError(f"the registry {shown} cannot be asked: {reason(error)}") from None
    return [
        ok("registry", f"{shown} can be read, MLflow {version} on this machine"),
        wrong(
            "enforcement",
            "that is the database itself: whoever has this URI walks around the server",
            "keep it on the server alone, and name the server in MLFLOW_REGISTRY_URI",
        ),
        note("server", "none was asked, so nothing more is known of artifacts, experiments and webhooks"),
    ]


def _release_beside(uri: str) -> str:
    """Read with no store of MLflow, which would make tables where there are none."""
    import mlflow
    from sqlalchemy import create_engine, inspect, make_url

    file = make_url(uri).database if uri.startswith("sqlite:") else None
    if file and not Path(file).is_file():
        raise RegistryError(f"there is no database file {file!r}; name the server in MLFLOW_REGISTRY_URI")
    engine = create_engine(uri)
    try:
        if not inspect(engine).has_table("registered_models"):
            raise RegistryError(f"the database {without_passwords(uri)!r} holds no registry of MLflow")
    finally:
        engine.dispose()
    return str(mlflow.__version__)


def enforcement(server: Server) -> Point:
    """Whether the registry store is guarded: only there is the tag `gate` refused before the version is looked for."""
    tag = {"name": NOBODY, "version": "0", "key": KEY, "value": "asked by gate doctor"}
    answer = server.ask("POST", "api/2.0/mlflow/model-versions/set-tag", tag)
    if _is_refused(answer):
        return ok("enforcement", "the server refuses to promote without evidence")
    if answer.code == "RESOURCE_DOES_NOT_EXIST":
        return wrong(
            "enforcement",
            "the server is not guarded: whoever may write can promote anything",
            f"start it with --registry-store-uri {SCHEME}… and GATE_SERVER_POLICY",
        )
    return _unclear("enforcement", answer)


def artifacts(server: Server, *, anywhere: bool) -> Point:
    """Whether the artifact store is guarded; what is to be removed is nowhere, by a name that nobody can guess.

    Args:
        server: That keeps the files.
        anywhere: Whether the server policy leaves files unguarded.
    """
    if anywhere:
        return note("artifacts", "not guarded, as the server policy says (artifacts: anywhere): files can be changed")
    answer = server.ask("DELETE", f"api/2.0/mlflow-artifacts/artifacts/{RESERVED}/{token_hex(16)}")
    if _is_refused(answer):
        return ok("artifacts", "the server keeps files from being changed once they are attested")
    if answer.status in (200, 404):
        return wrong(
            "artifacts",
            "the artifact store is not guarded: files can be changed after their check",
            f"start the server with --artifacts-destination {SCHEME}…",
        )
    return _unclear("artifacts", answer)


def experiments(server: Server) -> Point:
    """Whether models lie where they can be frozen."""
    answer = server.ask("POST", "api/2.0/mlflow/experiments/search", {"max_results": _EXPERIMENTS})
    if answer.status != 200:
        return note("experiments", f"cannot be listed: {answer.status} {answer.said}")
    found = answer.document.get("experiments", [])
    more = "first " if answer.document.get("next_page_token") else ""
    elsewhere = [
        each["name"] for each in found if not str(each.get("artifact_location")).startswith("mlflow-artifacts:")
    ]
    if not elsewhere:
        return ok("experiments", f"the files of the {more}{len(found)} go through the server")
    named = ", ".join(map(repr, elsewhere[:_SHOWN]))
    named += f" and {len(elsewhere) - _SHOWN} more" if len(elsewhere) > _SHOWN else ""
    return note(
        "experiments",
        f"{len(elsewhere)} of the {more}{len(found)} keep files where nobody freezes them: {named}",
        "log models that are to be promoted in experiments without an artifact location of their own",
    )


def _is_refused(answer: Answer) -> bool:
    return answer.status == 403 and answer.said.startswith(REFUSED)


def _unclear(about: str, answer: Answer) -> Point:
    do = _LOGIN if answer.status in (401, 403) else None
    return wrong(about, f"whether the server is guarded is not known, it answers {answer.status}: {answer.said}", do)
