"""Aliases and stages, by every route that leads to them."""

from __future__ import annotations

import json

import pytest
from mlflow.exceptions import MlflowException

from tests.enforcement.servers import Server

ALIAS = "registered-models/alias"
STAGE = "model-versions/transition-stage"
NONE_YET = "there is no signed statement of policy 'geometry'"


@pytest.mark.parametrize("api", ["api", "ajax-api"])
def test_champion_without_evidence_is_refused(server: Server, api: str) -> None:
    version = server.version()
    message = server.refuses(lambda: server.promote(version, api=api), NONE_YET)
    uri = f"models:/{version.name}/1"
    assert message == (
        f"Refused by gate: alias 'champion' of {uri}: {NONE_YET} on {uri}; "
        f"run: gate check {uri} -p POLICY --signing-key KEY"
    )


def test_champion_without_evidence_is_refused_to_the_python_client(server: Server) -> None:
    version = server.version()
    with pytest.raises(MlflowException, match="Refused by gate: alias 'champion'") as caught:
        server.client.set_registered_model_alias(version.name, "champion", version.version)
    assert caught.value.get_http_status_code() == 403
    assert caught.value.error_code == "PERMISSION_DENIED"
    assert server.alias(version.name) is None


def test_champion_without_evidence_is_refused_where_the_body_is_encoded_twice(server: Server) -> None:
    version = server.version()
    body = json.dumps(json.dumps({"name": version.name, "alias": "champion", "version": "1"}))
    headers = {"Content-Type": "application/json"}
    server.refuses(lambda: server.raw("POST", f"/api/2.0/mlflow/{ALIAS}", body, **headers), NONE_YET)


@pytest.mark.parametrize(
    "path", ["//api/2.0/mlflow/{}", "/api/2.0/mlflow//{}", "/api/2.0/mlflow/{}/", "/API/2.0/mlflow/{}"]
)
def test_another_spelling_of_the_route_leads_nowhere(server: Server, path: str) -> None:
    version = server.version()
    body = json.dumps({"name": version.name, "alias": "champion", "version": "1"})
    before = server.registry()
    status, _ = server.raw("POST", path.format(ALIAS), body, **{"Content-Type": "application/json"})
    assert status in {308, 403, 404, 405}
    assert server.registry() == before


def test_a_version_as_a_number_is_no_request(server: Server) -> None:
    version = server.version()
    body = {"name": version.name, "alias": "champion", "version": 1}
    before = server.registry()
    assert server.ask("POST", ALIAS, body).status_code == 400
    assert server.registry() == before


@pytest.mark.parametrize("number", ["01", " 1", "1 ", "+1", "1.0", "１", "1e0", "0x1"])
def test_another_spelling_of_a_version_opens_nothing(server: Server, number: str) -> None:
    version = server.version()
    before = server.registry()
    answer = server.ask("POST", ALIAS, {"name": version.name, "alias": "champion", "version": number})
    assert answer.status_code in {400, 403, 404}
    assert server.registry() == before


@pytest.mark.parametrize("number", ["01", " 2", "２"])
def test_another_spelling_of_a_version_borrows_no_evidence(server: Server, number: str) -> None:
    name = server.passed().name
    server.version(name)
    server.ask("POST", ALIAS, {"name": name, "alias": "champion", "version": number})
    assert server.alias(name) in {None, "1"}


@pytest.mark.parametrize(
    "alias",
    [
        "Champion",
        "CHAMPION",
        "chámpion",
        "cha\u0301mpion",
        "ｃhampion",
        "champion\n",
        "𝐜hampion",
        "champiøn",
        "ćhampıon",
    ],
)
def test_an_alias_that_reads_like_champion_is_champion(server: Server, alias: str) -> None:
    version = server.version()
    before = server.registry()
    answer = server.promote(version, alias)
    assert answer.status_code in {400, 403}, answer.text
    assert answer.status_code == 400 or answer.json()["message"].startswith("Refused by gate: alias")
    assert server.registry() == before


def test_an_alias_that_nobody_protects_is_free(server: Server) -> None:
    version = server.version()
    decided = len(server.decisions())
    assert server.promote(version, "dev").status_code == 200
    assert server.alias(version.name, "dev") == "1"
    assert len(server.decisions()) == decided


@pytest.mark.parametrize("verdict", ["passed", "warned"])
def test_a_version_that_has_passed_becomes_champion_and_that_is_written_down(server: Server, verdict: str) -> None:
    version = server.version()
    assert server.record(version, verdict=verdict).status_code == 200
    assert server.promote(version).status_code == 200
    assert server.alias(version.name) == "1"
    entry = server.decisions()[-1]
    assert (entry["decision"], entry["what"], entry["model"]) == (
        "allowed",
        "alias 'champion'",
        f"models:/{version.name}/1",
    )
    assert entry["who"] == "anonymous from 127.0.0.1"


def test_the_old_digest_of_a_policy_in_force_counts_as_the_new_one(server: Server) -> None:
    version = server.version()
    assert server.record(version, digest=f"sha256:{'b' * 64}").status_code == 200
    assert server.promote(version).status_code == 200


@pytest.mark.parametrize("verdict", ["failed", "inconclusive", "error"])
def test_a_signed_verdict_that_does_not_pass_is_taken_and_blocks(server: Server, verdict: str) -> None:
    version = server.version()
    assert server.record(version, verdict=verdict).status_code == 200
    server.refuses(lambda: server.promote(version), f"the verdict of policy 'geometry' is {verdict.upper()}")


def test_every_policy_in_force_must_have_passed(server: Server) -> None:
    version = server.passed(server.name("two."))
    server.refuses(lambda: server.promote(version), "there is no signed statement of policy 'strict'")
    assert server.record(version, policy="strict", digest=f"sha256:{'c' * 64}", verdict="failed").status_code == 200
    server.refuses(lambda: server.promote(version), "the verdict of policy 'strict' is FAILED")
    assert server.tags(version)["gate"] == "FAIL"
    assert server.record(version, policy="strict", digest=f"sha256:{'c' * 64}").status_code == 200
    assert server.promote(version).status_code == 200


def test_an_alias_that_a_policy_names_needs_that_policy_as_well(server: Server) -> None:
    version = server.passed()
    server.refuses(lambda: server.promote(version, "shadow"), "there is no signed statement of policy 'early'")
    assert server.record(version, policy="early", digest=f"sha256:{'d' * 64}").status_code == 200
    assert server.promote(version, "Shadow").status_code == 200


def test_removing_champion_is_allowed_and_written_down(server: Server) -> None:
    version = server.champion()
    assert server.ask("DELETE", ALIAS, {"name": version.name, "alias": "champion"}).status_code == 200
    assert server.alias(version.name) is None
    assert server.decisions()[-1]["what"] == "removal of the alias 'champion'"


def test_removing_an_alias_that_a_database_may_take_for_champion_is_written_down(server: Server) -> None:
    version = server.passed()
    for method, done in (("POST", "alias"), ("DELETE", "removal of the alias")):
        body = {"name": version.name, "alias": "χampion", "version": "1"}
        assert server.ask(method, ALIAS, body).status_code == 200
        assert server.decisions()[-1]["what"] == f"{done} 'χampion'"


def test_a_version_that_fails_later_stays_champion_until_somebody_acts_and_does_not_come_back(server: Server) -> None:
    version = server.champion()
    assert server.record(version, verdict="failed").status_code == 200
    assert server.tags(version)["gate"] == "FAIL"
    assert server.ask("DELETE", ALIAS, {"name": version.name, "alias": "champion"}).status_code == 200
    server.refuses(lambda: server.promote(version), "is FAILED")


def test_every_change_of_a_stage_is_written_down(server: Server) -> None:
    version = server.passed()
    for stage in ("Production", "Archived", "Staging"):
        before = len(server.decisions())
        body = {"name": version.name, "version": "1", "stage": stage, "archive_existing_versions": False}
        assert server.ask("POST", STAGE, body).status_code == 200
        assert [each["what"] for each in server.decisions()[before:]] == [f"stage {stage!r}"]


@pytest.mark.parametrize("stage", ["Production", "production", "PRODUCTION"])
@pytest.mark.parametrize("archive", [True, False])
def test_production_without_evidence_is_refused(server: Server, stage: str, archive: bool) -> None:
    version = server.version()
    body = {"name": version.name, "version": "1", "stage": stage, "archive_existing_versions": archive}
    server.refuses(lambda: server.ask("POST", STAGE, body), NONE_YET)


def test_production_with_evidence_and_staging_without_are_allowed(server: Server) -> None:
    for version, stage in ((server.version(), "Staging"), (server.passed(), "production")):
        body = {"name": version.name, "version": "1", "stage": stage, "archive_existing_versions": True}
        assert server.ask("POST", STAGE, body).status_code == 200
        assert server.client.get_model_version(version.name, "1").current_stage == stage.capitalize()
