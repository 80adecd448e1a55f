"""Copies, renamed models and names that were somebody else's."""

from __future__ import annotations

from functools import partial

import pytest
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from gate.attestation.names import FROZEN
from tests.enforcement.servers import Server

NONE_YET = "there is no signed statement of policy 'geometry'"
CREATE, RENAME = "model-versions/create", "registered-models/rename"


def copied(server: Server, version: ModelVersion, name: str) -> ModelVersion:
    return server.client.copy_model_version(f"models:/{version.name}/{version.version}", name)


def test_a_copy_keeps_tags_of_the_team_and_loses_those_of_the_gate(server: Server) -> None:
    version = server.passed()
    server.client.set_model_version_tag(version.name, "1", "team", "search")
    copy = copied(server, version, f"{version.name}-copy")
    assert server.tags(copy) == {"team": "search"}
    server.refuses(lambda: server.promote(copy), NONE_YET)


def test_a_copy_of_a_promoted_version_loses_its_promotion(server: Server) -> None:
    version = server.champion()
    server.client.set_model_version_tag(version.name, "1", "deployment.status", "live")
    copy = copied(server, version, f"{version.name}-copy")
    assert server.tags(copy) == {}
    assert server.client.get_registered_model(copy.name).aliases == {}


def test_a_copy_is_promoted_with_evidence_of_its_own(server: Server) -> None:
    copy = copied(server, server.passed(), server.name())
    assert server.record(copy).status_code == 200
    assert server.promote(copy).status_code == 200


def test_a_protected_name_takes_no_copy_without_evidence(server: Server) -> None:
    name, version = server.name("prod."), server.version()
    body = {"name": name, "source": f"models:/{version.name}/1"}
    server.refuses(lambda: server.ask("POST", CREATE, body), NONE_YET)


def test_a_protected_name_takes_a_copy_with_evidence(server: Server) -> None:
    copy = copied(server, server.passed(), server.name("prod."))
    assert copy.version == "1"
    assert server.decisions()[-1]["what"] == "registration"
    server.refuses(lambda: server.promote(copy), NONE_YET)


def test_what_a_protected_name_has_taken_stays_frozen_when_the_version_it_came_from_is_deleted(server: Server) -> None:
    version = server.passed()
    copy = copied(server, version, server.name("prod."))
    server.client.delete_registered_model(version.name)
    server.refuses(lambda: server.put(f"{server.folder(copy)}/data/weights"), "are frozen")
    assert server.tags(copy)[FROZEN] == server.folder(copy)


def test_a_version_that_is_deleted_leaves_its_copy_frozen(server: Server) -> None:
    version = server.passed()
    copy = copied(server, version, server.name())
    assert server.record(copy).status_code == 200
    server.client.delete_model_version(version.name, version.version)
    server.refuses(lambda: server.put(f"{server.folder(copy)}/data/weights"), "are frozen")


@pytest.mark.parametrize(
    "source",
    ["models:/{model}", "models:/{name}@dev", "models:/{name}/latest", "models:///{name}/1", "models:/{name}/01"],
)
@pytest.mark.parametrize("prefix", ["prod.", "Prod.", "ＰROD."])
def test_nothing_is_registered_in_a_protected_name_directly(server: Server, source: str, prefix: str) -> None:
    name, model = server.name(prefix), server.model()
    version = server.version(model=model)
    assert server.promote(version, "dev").status_code == 200
    body = {"name": name, "source": source.format(model=model.model_id, name=version.name)}
    if "{model}" in source:
        body["model_id"] = model.model_id
    before = server.registry()
    answer = server.ask("POST", CREATE, body)
    assert answer.status_code in {400, 403, 404}, answer.text
    assert server.registry() == before
    if answer.status_code == 403:
        server.refuses(lambda: server.ask("POST", CREATE, body), "")


def test_files_of_a_run_are_not_registered_in_a_protected_name(server: Server) -> None:
    run = server.client.create_run("0").info
    for source in (f"runs:/{run.run_id}/model", f"{run.artifact_uri}/model"):
        body = {"name": server.name("prod."), "source": source, "run_id": run.run_id}
        server.refuses(partial(server.ask, "POST", CREATE, body), "only takes copies of versions with evidence")


def test_the_button_that_promotes_a_model_leaves_a_clear_message(server: Server) -> None:
    version = server.version()
    with pytest.raises(
        MlflowException, match="PERMISSION_DENIED: Refused by gate: registration of models:/prod"
    ) as caught:
        copied(server, version, f"prod.{version.name}")
    assert NONE_YET in str(caught.value)


@pytest.mark.parametrize("name", ["prod.{}", "PROD.{}", "prｏd.{}"])
def test_nothing_is_renamed_into_a_protected_name(server: Server, name: str) -> None:
    version = server.passed()
    body = {"name": version.name, "new_name": name.format(version.name)}
    server.refuses(lambda: server.ask("POST", RENAME, body), "into the protected name")


def test_a_model_with_a_champion_keeps_its_name(server: Server) -> None:
    version = server.champion()
    body = {"name": version.name, "new_name": f"{version.name}b"}
    server.refuses(lambda: server.ask("POST", RENAME, body), "it holds the alias 'champion'")


def test_a_model_with_evidence_keeps_its_name(server: Server) -> None:
    version = server.passed()
    body = {"name": version.name, "new_name": f"{version.name}b"}
    server.refuses(lambda: server.ask("POST", RENAME, body), "has evidence under this name")


def test_a_model_in_production_keeps_its_name(server: Server) -> None:
    version = server.passed()
    server.client.transition_model_version_stage(version.name, "1", "Production")
    body = {"name": version.name, "new_name": f"{version.name}b"}
    server.refuses(lambda: server.ask("POST", RENAME, body), "is in stage 'Production'")


def test_a_model_without_evidence_is_renamed(server: Server) -> None:
    version = server.version()
    body = {"name": version.name, "new_name": f"{version.name}b"}
    assert server.ask("POST", RENAME, body).status_code == 200
    renamed = server.client.get_model_version(f"{version.name}b", "1")
    server.refuses(lambda: server.promote(renamed), NONE_YET)


def test_the_name_of_a_deleted_champion_brings_no_champion(server: Server) -> None:
    good, evil = server.champion(), server.version()
    server.client.delete_registered_model(good.name)
    body = {"name": evil.name, "new_name": good.name}
    assert server.ask("POST", RENAME, body).status_code == 200
    hijacked = server.client.get_model_version(good.name, "1")
    assert server.alias(good.name) is None
    server.refuses(lambda: server.promote(hijacked), NONE_YET)


def test_a_champion_of_another_model_does_not_come_by_renaming_over_a_deleted_name(server: Server) -> None:
    good, evil = server.champion(), server.champion()
    server.client.delete_registered_model(good.name)
    body = {"name": evil.name, "new_name": good.name}
    server.refuses(lambda: server.ask("POST", RENAME, body), "it holds the alias 'champion'")


def test_a_deleted_version_takes_its_alias_along_and_its_number_does_not_come_back(server: Server) -> None:
    version = server.champion()
    server.client.delete_model_version(version.name, "1")
    assert server.alias(version.name) is None
    again = server.version(version.name)
    assert again.version == "2"
    server.refuses(lambda: server.promote(again), NONE_YET)
    assert server.promote(version).status_code == 404


def test_a_deletion_is_written_down(server: Server) -> None:
    version = server.champion()
    server.client.delete_model_version(version.name, "1")
    server.client.delete_registered_model(version.name)
    assert [(each["what"], each["decision"]) for each in server.decisions()[-2:]] == [("deletion", "allowed")] * 2


LINE = "PASS gate - 2/2 rules hold - [report](#/experiments/1/runs/2/artifacts/gate/report.html)"


@pytest.mark.parametrize(
    ("said", "kept"), [(LINE, ""), (f"{LINE}\n\nOf the team.", "Of the team."), ("Ours.", "Ours.")]
)
def test_a_copy_does_not_say_that_its_original_passed(server: Server, said: str, kept: str) -> None:
    version = server.passed()
    server.client.update_model_version(version.name, "1", said)
    copy = copied(server, server.client.get_model_version(version.name, "1"), server.name())
    assert (server.client.get_model_version(copy.name, "1").description or "") == kept


def test_a_name_with_both_quotes_is_looked_at_before_it_is_renamed(server: Server) -> None:
    version = server.passed(server.name("""a" and name="b'"""))
    stage = {"name": version.name, "version": "1", "stage": "Production", "archive_existing_versions": False}
    assert server.ask("POST", "model-versions/transition-stage", stage).status_code == 200
    body = {"name": version.name, "new_name": f"{version.name}-new"}
    server.refuses(lambda: server.ask("POST", RENAME, body), "is in stage 'Production'")
