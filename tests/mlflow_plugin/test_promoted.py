"""What `gate doctor` says of versions that were promoted before, or past, a guarded server."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.prompt.constants import IS_PROMPT_TAG_KEY
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import create_engine, text

from gate.mlflow_plugin.doctor import promoted
from gate.mlflow_plugin.doctor.points import Point
from gate.models import versions
from gate.server_policy import load
from tests.cli.registries import POLICY, Registry, deployment

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

Look = Callable[..., list[Point]]
ANYWHERE = POLICY.replace("audit:", "artifacts: anywhere\naudit:")
UNSIGNED = "there is no signed statement of policy 'classifier' on models:/"


@pytest.fixture
def registry(template: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry that nobody guards yet."""
    (tmp_path / "mlflow.db").write_bytes(template)
    found = Registry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", found.uri)
    deployment(tmp_path, ANYWHERE)
    return found


@pytest.fixture
def look(registry: Registry) -> Look:
    """The point under a server policy that is changed somewhere."""

    def found(old: str = "", new: str = "") -> list[Point]:
        assert old in ANYWHERE
        (registry.home / "server.yaml").write_text(ANYWHERE.replace(old, new), encoding="utf-8")
        return promoted.promoted(registry.uri, load(registry.home / "server.yaml"))

    return found


def said(points: list[Point]) -> list[str]:
    assert {point.state for point in points} == {"wrong"}
    return [point.found for point in points]


def test_what_is_promoted_with_evidence_is_well(registry: Registry, look: Look) -> None:
    assert [(each.state, each.found) for each in look()] == [("ok", "nothing that this login sees is promoted")]
    registry.register("enc")
    registry.client.set_registered_model_alias("enc", "challenger", "1")  # is not protected
    registry.client.set_registered_model_alias("enc", "champion", registry.signed("enc"))
    registry.client.set_model_version_tag("enc", "2", "Validation_Status", "approved")
    registry.client.set_registered_model_tag("enc", "production_version", "2")
    registry.client.transition_model_version_stage("enc", "2", "Production")
    assert [(each.state, each.found) for each in look()] == [("ok", "4 promotions that this login sees have evidence")]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"verdict": "failed", "run": "903b8e0a" * 4},
            "the verdict of policy 'classifier' is FAILED; run: gate explain",
        ),
        ({"verdict": "inconclusive"}, "the verdict of policy 'classifier' is INCONCLUSIVE"),
        ({"age": timedelta(days=400)}, "the statement expired at "),
    ],
)
def test_a_champion_that_did_not_pass_is_wrong(
    registry: Registry, look: Look, changed: dict[str, object], expected: str
) -> None:
    registry.client.set_registered_model_alias("enc", "champion", registry.signed("enc", **changed))
    (point,) = look()
    assert said([point])[0].startswith(f"models:/enc/1 holds @champion: {expected}")
    assert point.do == "check it with gate check models:/enc/1 -p POLICY --signing-key KEY, or remove the alias"


def test_every_way_to_be_promoted_is_looked_at(registry: Registry, look: Look) -> None:
    client = registry.client
    for name in ("a", "b", "c", "d", "prod.e"):
        registry.register(name)
    client.set_registered_model_alias("a", "ÇHámpion", "1")
    client.transition_model_version_stage("b", "1", "Production")
    client.set_model_version_tag("c", "1", "Deployment.Status", "live")
    client.set_registered_model_tag("d", "Production_Version", "1")
    found = look()
    assert said(found) == [
        f"models:/{name}/1 {way}: {UNSIGNED}{name}/1; run: gate check models:/{name}/1 -p POLICY --signing-key KEY"
        for name, way in (
            ("a", "holds @ÇHámpion"),
            ("b", "is in stage 'Production'"),
            ("c", "carries the tag 'Deployment.Status'"),
            ("d", "is named by the tag 'Production_Version' of its model"),
            ("prod.e", "lies under a protected name"),
        )
    ]
    undone = [str(each.do).rpartition(", or ")[2] for each in found]
    assert undone == ["remove the alias", "archive it", "remove the tag", "remove the tag", "delete it"]


def test_what_is_more_than_an_alias_needs_a_policy_that_opens_them_all(registry: Registry, look: Look) -> None:
    client, version = registry.client, registry.signed("enc")
    client.set_registered_model_alias("enc", "champion", version)
    client.transition_model_version_stage("enc", version, "Production")
    found = look("names:", "aliases: [live]\n  names:")
    assert said(found) == [
        "models:/enc/1 is in stage 'Production': no policy in force is for 'enc' at @champion, @live"
    ]


def test_under_a_protected_name_lie_copies_of_versions_with_evidence(registry: Registry, look: Look) -> None:
    client = registry.client
    copy = client.copy_model_version(f"models:/enc/{registry.signed('enc')}", "prod.enc")
    assert [each.state for each in look()] == ["ok"]
    registry.sign("prod.enc", copy.version, verdict="failed")
    assert said(look())[0].startswith("models:/prod.enc/1 lies under a protected name: the verdict of policy")
    client.delete_model_version("prod.enc", "1")
    client.copy_model_version(f"models:/enc/{registry.signed('enc', verdict='failed')}", "prod.enc")
    assert said(look())[0].startswith("models:/prod.enc/2 lies under a protected name: the verdict of policy")
    client.delete_model_version("enc", "2")
    assert "the statement belongs to models:/enc/2, not to models:/prod.enc/2" in said(look())[0]


def test_a_copy_is_not_judged_by_what_was_registered_later_in_place_of_its_original(
    registry: Registry, look: Look
) -> None:
    client = registry.client
    registry.register("enc")
    client.copy_model_version("models:/enc/1", "prod.enc")
    client.delete_registered_model("enc")
    other = registry.home / "other"
    shutil.copytree(registry.home / "made", other)
    client.create_registered_model("enc")
    client.create_model_version("enc", other.as_uri())
    registry.sign("enc", "1")
    assert said(look())[0].startswith(f"models:/prod.enc/1 lies under a protected name: {UNSIGNED}prod.enc/1")


def test_files_must_be_frozen_where_the_policy_says_so(registry: Registry, look: Look) -> None:
    registry.client.set_registered_model_alias("enc", "champion", registry.signed("enc"))
    (found,) = said(look("artifacts: anywhere\n", ""))
    assert "which this server does not keep; register models whose files go through the server" in found


def test_a_promotion_of_what_is_not_there_is_wrong(registry: Registry, look: Look) -> None:
    registry.register("enc")
    registry.client.set_registered_model_tag("enc", "production_version", "07")
    (found,) = said(look())
    assert found == "models:/enc/07 is named by the tag 'production_version' of its model: there is no such version"


def test_prompts_are_left_out_and_hide_no_model(registry: Registry, look: Look) -> None:
    store = SqlAlchemyStore(registry.uri)
    tag = ModelVersionTag(IS_PROMPT_TAG_KEY, "true")
    store.create_registered_model("words", [RegisteredModelTag(IS_PROMPT_TAG_KEY, "true")])
    for _ in range(3):
        store.create_model_version("words", "prompt-template", tags=[tag])
    store.set_registered_model_alias("words", "champion", "2")
    store.delete_model_version("words", "1")
    assert [each.state for each in look()] == ["ok"]
    # MLflow's search leaves both out: a model beside a version that is marked as a prompt, and one in a prompt.
    registry.register("enc")
    store.create_model_version("enc", "dummy-source", tags=[tag])
    store.create_model_version("words", (registry.home / "made").as_uri())
    assert not registry.client.search_model_versions("name='enc'")
    store.set_registered_model_alias("enc", "champion", "1")
    store.set_model_version_tag("enc", "1", ModelVersionTag(IS_PROMPT_TAG_KEY, "false"))
    store.set_registered_model_alias("words", "champion", "4")
    assert said(look()) == [
        f"models:/{version} holds @champion: {UNSIGNED}{version}; "
        f"run: gate check models:/{version} -p POLICY --signing-key KEY"
        for version in ("enc/1", "words/4")
    ]


def test_ten_are_named_and_the_rest_is_counted_over_all_pages(
    registry: Registry, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promoted, "_PAGE", 2)
    monkeypatch.setattr(versions, "_PAGE", 2)
    for number in range(13):
        registry.client.create_registered_model(name := f"enc{number:02}")
        registry.client.create_model_version(name, (registry.home / "made").as_uri())
        registry.client.set_registered_model_alias(name, "champion", "1")
    found = said(look())
    assert [each.partition(" ")[0] for each in found[:10]] == [f"models:/enc{number:02}/1" for number in range(10)]
    assert found[10:] == ["3 more promotions do not hold"]


def test_a_registry_that_cannot_be_read_is_wrong(registry: Registry, look: Look) -> None:
    engine = create_engine(registry.uri)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE model_version_tags RENAME COLUMN value TO other"))
    engine.dispose()
    assert said(look())[0].startswith("whether what is promoted has evidence is not known: ")
