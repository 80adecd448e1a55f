"""Prompts are texts and are not gated; a model does not become one."""

from __future__ import annotations

import pytest
from mlflow.prompt.constants import IS_PROMPT_TAG_KEY

from tests.enforcement.servers import Place, Server, guarded

NONE_YET = "there is no signed statement of policy 'geometry'"
PROMPT = {"key": IS_PROMPT_TAG_KEY, "value": "true"}


def prompt(server: Server, name: str) -> None:
    """A prompt with a version, without what MLflow's client goes on writing in the background."""
    assert server.ask("POST", "registered-models/create", {"name": name, "tags": [PROMPT]}).status_code == 200
    body = {"name": name, "source": "prompt-template", "tags": [PROMPT, {"key": "mlflow.prompt.text", "value": "Say."}]}
    assert server.ask("POST", "model-versions/create", body).status_code == 200


def test_a_prompt_takes_any_alias_and_tag(server: Server) -> None:
    name = f"{server.name()}-prompt"
    server.client.register_prompt(name, "Say {{word}}.")
    server.client.set_prompt_alias(name, "champion", 1)
    assert server.client.get_prompt_version(name, "champion").template == "Say {{word}}."
    server.client.set_prompt_version_tag(name, "1", "deployment.status", "live")
    server.client.register_prompt(name, "Shout {{word}}.")
    server.client.set_prompt_alias(name, "champion", 2)
    server.client.delete_prompt_alias(name, "champion")
    server.client.delete_prompt_version(name, "2")


@pytest.mark.parametrize("key", [IS_PROMPT_TAG_KEY, "MLflow.prompt.is_prompt", "mlflow.prómpt.is_prompt"])
def test_a_model_does_not_become_a_prompt_nor_a_prompt_a_model(server: Server, key: str) -> None:
    version = server.version()
    tag = {"name": version.name, "key": key, "value": "true"}
    server.refuses(lambda: server.ask("POST", "registered-models/set-tag", tag), "is set when a prompt is created")
    on_version = {**tag, "version": "1"}
    server.refuses(lambda: server.ask("POST", "model-versions/set-tag", on_version), "is set when a prompt is created")
    prompt(server, f"{version.name}-prompt")
    gone = {"name": f"{version.name}-prompt", "key": key}
    server.refuses(
        lambda: server.ask("DELETE", "registered-models/delete-tag", gone), "is set when a prompt is created"
    )


@pytest.mark.parametrize("copy", [True, False])
def test_a_model_in_the_clothes_of_a_prompt_needs_evidence(server: Server, copy: bool) -> None:
    model = server.model()
    real, name = server.version(model=model), f"{server.name()}-prompt"
    assert server.ask("POST", "registered-models/create", {"name": name, "tags": [PROMPT]}).status_code == 200
    body = {"name": name, "source": f"models:/{real.name}/1"}
    if not copy:
        body = {"name": name, "source": f"models:/{model.model_id}", "model_id": model.model_id}
    assert server.ask("POST", "model-versions/create", body).status_code == 200
    version = server.client.get_model_version(name, "1")
    server.refuses(lambda: server.promote(version), NONE_YET)


def test_a_version_with_the_tag_of_a_prompt_and_files_of_a_model_is_no_request(server: Server) -> None:
    model, name = server.model(), server.name()
    body = {"name": name, "source": f"models:/{model.model_id}", "model_id": model.model_id, "tags": [PROMPT]}
    assert server.ask("POST", "model-versions/create", body).status_code == 400


def test_a_model_takes_no_version_that_hides_the_others_from_searches(server: Server) -> None:
    name = server.name()
    body = {"name": name, "source": "dummy-source", "tags": [PROMPT]}
    server.refuses(lambda: server.ask("POST", "model-versions/create", body), "which is no prompt, cannot carry")


def test_a_version_that_looked_like_a_prompt_before_there_was_a_gate_needs_evidence_and_hides_no_other(
    prepared: Place,
) -> None:
    with guarded(prepared, gate="", workers=1) as plain:
        name = plain.version().name
        body = {"name": name, "source": "dummy-source", "tags": [PROMPT]}
        assert plain.ask("POST", "model-versions/create", body).status_code == 200
        stage = {"name": name, "version": "1", "stage": "Production", "archive_existing_versions": False}
        assert plain.ask("POST", "model-versions/transition-stage", stage).status_code == 200
        assert list(plain.client.search_model_versions(f"name='{name}'")) == []
    with guarded(prepared, workers=1) as server:
        alias = {"name": name, "alias": "champion", "version": "2"}
        server.refuses(lambda: server.ask("POST", "registered-models/alias", alias), NONE_YET)
        rename = {"name": name, "new_name": f"{name}-new"}
        server.refuses(lambda: server.ask("POST", "registered-models/rename", rename), "is in stage 'Production'")


def test_a_prompt_in_a_protected_name_is_allowed_and_a_model_in_it_is_not(server: Server) -> None:
    name = f"prod.{server.name()}"
    prompt(server, name)
    version = server.version()
    body = {"name": name, "source": f"models:/{version.name}/1"}
    server.refuses(lambda: server.ask("POST", "model-versions/create", body), NONE_YET)
