"""What this MLflow can do, held against what was looked at."""

from __future__ import annotations

import pytest
from graphene import Schema
from mlflow.protos.model_registry_pb2 import ModelRegistryService
from mlflow.server.handlers import get_endpoints
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository
from mlflow.store.model_registry.rest_store import RestStore
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore
from mlflow.store.workspace.sqlalchemy_store import SqlAlchemyStore as Workspaces

from gate.mlflow_plugin.coverage import unknown_of_artifacts, unknown_of_registry, unknown_of_workspaces
from tests.enforcement.servers import Server

REVIEWED = """
createModelVersion createRegisteredModel deleteModelVersion deleteModelVersionTag deleteRegisteredModel
deleteRegisteredModelAlias deleteRegisteredModelTag getLatestVersions getModelVersion getModelVersionByAlias
getModelVersionDownloadUri getRegisteredModel renameRegisteredModel searchModelVersions searchRegisteredModels
setModelVersionTag setRegisteredModelAlias setRegisteredModelTag transitionModelVersionStage updateModelVersion
updateRegisteredModel
"""
WORDS = {
    "artifact",
    "model-version",
    "model-versions",
    "registered-model",
    "registered-models",
    "workspaces",
    "upload-artifact",
    "mpu",
}


def test_every_method_of_the_registry_service_is_reviewed() -> None:
    assert sorted(each.name for each in ModelRegistryService.DESCRIPTOR.methods) == REVIEWED.split()


def test_every_route_that_names_models_or_artifacts_is_reviewed() -> None:
    routes = {
        (method, path.partition("/2.0/")[2])
        for path, _, methods in get_endpoints()
        for method in methods
        if path.startswith("/api/2.0/") and method != "GET" and WORDS & set(path.split("/"))
    }
    assert {path for _, path in routes} <= {
        *(
            f"mlflow/registered-models/{what}"
            for what in ("create", "rename", "update", "delete", "get-latest-versions")
        ),
        *(f"mlflow/registered-models/{what}" for what in ("set-tag", "delete-tag", "alias")),
        *(f"mlflow/model-versions/{what}" for what in ("create", "update", "delete", "transition-stage")),
        *(f"mlflow/model-versions/{what}" for what in ("set-tag", "delete-tag")),
        *(f"mlflow-artifacts/mpu/{what}/<path:artifact_path>" for what in ("create", "complete", "abort")),
    }


@pytest.mark.parametrize("store", [SqlAlchemyStore, WorkspaceAwareSqlAlchemyStore, RestStore])
def test_every_method_of_a_registry_store_is_reviewed(store: type) -> None:
    assert unknown_of_registry(store) == []
    new = type("New", (store,), {"promote_everything": lambda self: self, "get_nothing": lambda self: self})
    assert unknown_of_registry(new) == ["promote_everything"]


@pytest.mark.parametrize("repository", [LocalArtifactRepository, S3ArtifactRepository])
def test_every_method_of_an_artifact_repository_that_writes_is_reviewed(repository: type) -> None:
    assert unknown_of_artifacts(repository) == []
    assert unknown_of_artifacts(type("New", (repository,), {"move_artifact": lambda self: self})) == ["move_artifact"]


def test_every_method_of_a_workspace_store_that_changes_it_is_reviewed() -> None:
    assert unknown_of_workspaces(Workspaces) == []
    assert unknown_of_workspaces(type("New", (Workspaces,), {"merge_workspaces": lambda self: self})) == [
        "merge_workspaces"
    ]


def test_graphql_promotes_nothing(sqlite_server: Server) -> None:
    query = {"query": "{__schema {mutationType {fields {name}}}}"}
    told = sqlite_server.ask("POST", "", None, api="x").status_code  # a route that is not there
    assert told == 404
    answer = sqlite_server.raw(
        "POST", "/graphql", __import__("json").dumps(query), **{"Content-Type": "application/json"}
    )
    assert answer[0] in {200, 400}, answer
    from mlflow.server.graphql.graphql_schema_extensions import schema

    assert isinstance(schema, Schema)
    assert sorted(schema.graphql_schema.mutation_type.fields) == [
        "mlflowSearchDatasets",
        "mlflowSearchRuns",
        "testMutation",
    ]
