"""`gate promote` at a real guarded server and at a plain database."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from gate.attestation import keys
from gate.attestation.names import statement_key
from gate.attestation.statement import UnderPolicy
from gate.cli import main
from gate.mlflow_plugin.tags import recorded
from tests.cli.registries import Registry, answering, deployment, served

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

Promote = Callable[..., str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    home = tmp_path_factory.mktemp("guarded")
    with served(home, deployment(home)) as uri:
        yield Registry(answering(uri), home)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    home = tmp_path_factory.mktemp("plain")
    deployment(home)
    return Registry(f"sqlite:///{home / 'mlflow.db'}", home)


@pytest.fixture
def database(file: Registry, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A database without a server; MLflow's store of it looks at the environment, whatever its client was told."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", file.uri)
    return file


@pytest.fixture(params=["server", "database"])
def registry(request: pytest.FixtureRequest) -> Registry:
    found: Registry = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def promote(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Promote:
    """The command; what it said, once its exit code is the one that is expected."""

    def run(registry: Registry, uri: str, *more: object, alias: str = "champion", code: int = 0) -> str:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
        given = more if "--public-key" in more else ("--public-key", registry.home / "keys", *more)
        capsys.readouterr()
        found = main(["promote", uri, alias, *map(str, given)])
        out, err = capsys.readouterr()
        assert (found, out if code else "") == (code, ""), err
        return out + err

    return run


def test_a_version_that_passed_gets_the_alias(registry: Registry, promote: Promote) -> None:
    first, second = registry.signed("passed"), registry.signed("passed")
    said = promote(registry, f"models:/passed/{first}")
    assert re.match(
        rf"PROMOTED  models:/passed/{first} is models:/passed@champion now\npassed under policy classif", said
    )
    assert said.endswith(", 2 files verified\n")
    assert registry.holder("passed") == first
    said = promote(registry, f"models:/passed/{second}", "--server-policy", registry.home / "server.yaml")
    assert f"in place of version {first}" in said
    assert registry.holder("passed") == second
    promote(registry, "models:/passed@champion", alias="live")
    assert registry.holder("passed", "live") == second


def test_whatever_does_not_hold_leaves_the_alias_where_it_was(registry: Registry, promote: Promote) -> None:
    held = registry.signed("held")
    promote(registry, f"models:/held/{held}")
    stranger = registry.home / f"stranger-{registry.uri[:4]}"
    keys.create(stranger)

    def refused(said: str, *more: object, code: int = 7, version: str | None = None, alias: str = "champion") -> None:
        answer = promote(registry, f"models:/held/{version or held}", *more, alias=alias, code=code)
        assert said in answer
        assert registry.holder("held") == held

    refused("the verdict of policy 'classifier' is FAILED", version=registry.signed("held", verdict="failed"))
    refused("there is no signed statement on", version=registry.register("held"))
    old = registry.signed("held", age=timedelta(days=400))
    refused("the statement expired at", version=old)
    refused("may be 24 hours old", "--max-age", "24h", version=registry.signed("held", age=timedelta(hours=30)))
    refused("which is not trusted here", "--public-key", f"{stranger}.pub")
    refused("there is no signed statement of policy 'embedding'", "--policy", "embedding")
    refused("is not in force for 'held'", "--policy", "classifier")
    refused("there is no signed statement of policy sha256:", "--policy", f"sha256:{'0' * 64}")
    refused("cannot be set: ", alias="not/an/alias", code=3)
    refused("cannot be set: ", alias="v1", code=3)
    if registry.uri.startswith("sqlite"):  # a guarded server does not even take the statement
        other = registry.register("held")
        registry.sign("held", other, key=stranger)
        refused("which is not trusted here", version=other)
    else:
        with pytest.raises(MlflowException, match=r"Refused by gate: .* which is not trusted here"):
            registry.sign("held", registry.register("held"), key=stranger)


@pytest.mark.parametrize("uri", ["models:/missing/1", "models:/missing@live"])
def test_what_is_not_there_is_3(registry: Registry, promote: Promote, uri: str) -> None:
    registry.client.search_experiments()  # there is a database
    assert "missing" in promote(registry, uri, code=3)


def test_one_changed_byte_is_found_and_its_file_is_named(registry: Registry, promote: Promote) -> None:
    version = registry.signed("changed")
    file = registry.folder("changed", version) / "weights.bin"
    file.write_bytes(b"Weights")
    assert "not those that were judged: changed: weights.bin" in promote(registry, f"models:/changed/{version}", code=7)
    file.rename(file.with_name("other.bin"))
    said = promote(registry, f"models:/changed/{version}", code=7)
    assert "missing: weights.bin; extra: other.bin" in said
    assert registry.holder("changed") is None


def test_a_folder_and_a_model_without_a_version_are_usage(database: Registry, promote: Promote, tmp_path: Path) -> None:
    version = database.signed("folder")
    folder, tags = database.folder("folder", version), database.client.get_model_version("folder", version).tags
    (tmp_path / "statement.json").write_text(tags[statement_key("classifier")], encoding="utf-8")
    said = promote(database, str(folder), "--attestation", tmp_path / "statement.json", code=2)
    assert "is a folder, and only a version of the registry can have an alias" in said
    assert "names no version" in promote(database, "models:/folder", code=2)
    assert database.holder("folder") is None


def test_options_that_make_no_sense_are_usage(database: Registry, promote: Promote, tmp_path: Path) -> None:
    assert "--copy-to needs --signing-key FILE" in promote(database, "models:/x/1", "--copy-to", "y", code=2)
    assert "no public key" in promote(database, "models:/x/1", "--public-key", tmp_path, code=2)
    assert "key" in promote(database, "models:/x/1", "--copy-to", "y", "--signing-key", tmp_path / "none", code=2)


def test_a_newer_verdict_that_fails_is_refused_by_the_command_and_by_the_server(
    server: Registry, promote: Promote
) -> None:
    version = server.signed("worse")
    promote(server, f"models:/worse/{version}", alias="challenger")
    server.sign("worse", version, age=timedelta(seconds=-2), verdict="failed")
    assert "is FAILED" in promote(server, f"models:/worse/{version}", code=7)
    with pytest.raises(MlflowException, match=r"Refused by gate: alias 'champion' of models:/worse/1: .* is FAILED"):
        server.client.set_registered_model_alias("worse", "champion", version)
    assert server.holder("worse") is None


def test_what_the_server_refuses_is_told_and_the_alias_is_not_set(server: Registry, promote: Promote) -> None:
    """The server judges by its own policies, whatever the command was told."""
    version = server.signed("elsewhere", policy=UnderPolicy(name="other", version=None, digest=f"sha256:{'1' * 64}"))
    said = promote(server, f"models:/elsewhere/{version}", code=7)
    assert "Refused by gate: alias 'champion'" in said
    assert said.endswith("and --server-policy FILE verifies by that beforehand\n")
    assert server.holder("elsewhere") is None


def test_a_copy_that_the_server_refuses_is_no_fault_of_the_registry(server: Registry, promote: Promote) -> None:
    """It believes no key but its own, whatever the command was told."""
    version = server.signed("refused")
    keys.create(server.home / "foreign")
    given = ("--copy-to", "prod.refused", "--signing-key", server.home / "foreign")
    said = promote(server, f"models:/refused/{version}", *given, code=7)
    assert "cannot be copied to 'prod.refused': PERMISSION_DENIED: Refused by gate: " in said
    assert "which is not trusted here" in said
    assert server.holder("prod.refused") is None


def test_a_copy_is_verified_signed_and_promoted(registry: Registry, promote: Promote) -> None:
    """On the guarded server into a protected name, which takes nothing else."""
    version = registry.signed("source")
    given = ("--copy-to", "prod.target", "--signing-key", registry.key)
    said = promote(registry, f"models:/source/{version}", *given)
    assert "PROMOTED  models:/prod.target/1 is models:/prod.target@champion now" in said
    assert f"copied models:/source/{version} to models:/prod.target/1, its files are the same" in said
    row = registry.client.get_model_version("prod.target", "1")
    statement = next(iter(recorded(row.tags).values()))
    assert (row.source, statement.verdict, row.tags["gate"]) == (f"models:/source/{version}", "passed", "PASS")
    assert statement.copied_from
    assert registry.holder("prod.target") == "1"
    promote(registry, f"models:/source/{version}", *given)
    assert registry.holder("prod.target") == "2"


def test_a_copy_of_what_does_not_hold_is_never_made(registry: Registry, promote: Promote) -> None:
    version = registry.signed("bad", verdict="failed")
    promote(registry, f"models:/bad/{version}", "--copy-to", "prod.bad", "--signing-key", registry.key, code=7)
    assert not registry.client.search_registered_models("name='prod.bad'")


def test_a_copy_that_was_broken_off_is_used_again(registry: Registry, promote: Promote) -> None:
    version = registry.signed("broken")
    registry.client.copy_model_version(f"models:/broken/{version}", "again")
    promote(registry, f"models:/broken/{version}", "--copy-to", "again", "--signing-key", registry.key)
    assert [str(each.version) for each in registry.client.search_model_versions("name='again'")] == ["1"]
    assert registry.holder("again") == "1"


def test_a_copy_whose_files_are_others_by_then_is_not_signed(
    database: Registry, promote: Promote, monkeypatch: Any
) -> None:
    version = database.signed("swapped")
    copy = MlflowClient.copy_model_version

    def copied(self: MlflowClient, *given: Any, **more: Any) -> Any:
        row = copy(self, *given, **more)
        (database.folder("swapped", version) / "weights.bin").write_bytes(b"others")
        return row

    monkeypatch.setattr(MlflowClient, "copy_model_version", copied)
    given = ("--copy-to", "target", "--signing-key", database.key)
    assert "changed: weights.bin" in promote(database, f"models:/swapped/{version}", *given, code=7)
    assert not any(each.passes for each in recorded(database.client.get_model_version("target", "1").tags).values())
    assert database.holder("target") is None


class _Meanwhile:
    """Does something in the moment before an alias is set, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, work: Callable[[], object], *, after: bool = False) -> None:
        place = MlflowClient.set_registered_model_alias

        def late(client: MlflowClient, name: str, alias: str, version: str) -> None:
            monkeypatch.setattr(MlflowClient, "set_registered_model_alias", place)
            for each in (place, None) if after else (None, place):
                if each is None:
                    work()
                else:
                    each(client, name, alias, version)

        monkeypatch.setattr(MlflowClient, "set_registered_model_alias", late)


@pytest.mark.parametrize("before", [True, False])
def test_a_version_that_is_registered_anew_meanwhile_does_not_keep_the_alias(
    database: Registry, promote: Promote, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """Nor does the one that had it, which was registered anew as well."""
    name = f"race-{before}"
    held, version = database.signed(name), database.signed(name)
    if before:
        promote(database, f"models:/{name}/{held}")

    def anew() -> None:
        sources = [str(database.client.get_model_version(name, each).source) for each in (held, version)]
        database.client.delete_registered_model(name)
        database.client.create_registered_model(name)
        for source in sources:
            database.client.create_model_version(name, source)

    _Meanwhile(monkeypatch, anew)
    said = promote(database, f"models:/{name}/{version}", code=7)
    assert "was registered anew while it was promoted; it does not keep the alias" in said
    assert database.holder(name) is None


def test_where_only_the_version_is_another_the_alias_goes_back(
    database: Registry, promote: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, version = database.signed("back"), database.signed("back")
    promote(database, f"models:/back/{held}")

    def another() -> None:
        with closing(sqlite3.connect(database.uri.removeprefix("sqlite:///"))) as rows, rows:
            rows.execute("UPDATE model_versions SET source = 'x' WHERE name = 'back' AND version = ?", (version,))

    _Meanwhile(monkeypatch, another)
    assert "was registered anew" in promote(database, f"models:/back/{version}", code=7)
    assert database.holder("back") == held


def test_an_alias_that_somebody_else_moves_meanwhile_is_left_to_them(
    database: Registry, promote: Promote, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, version, other = (database.signed("moved") for _ in range(3))
    promote(database, f"models:/moved/{held}")
    work = partial(database.client.set_registered_model_alias, "moved", "champion", other)
    _Meanwhile(monkeypatch, work, after=True)
    said = promote(database, f"models:/moved/{version}", code=7)
    assert f"somebody else moved the alias 'champion' while models:/moved/{version} was promoted" in said
    assert database.holder("moved") == other


def test_promotion_imports_no_torch(database: Registry) -> None:
    version = database.signed("light")
    code = "import sys; from gate.cli import main; assert main(sys.argv[1:]) == 0; assert 'torch' not in sys.modules"
    command = [sys.executable, "-W", "ignore", "-c", code, "promote", f"models:/light/{version}", "champion"]
    command += ["--public-key", str(database.home / "keys")]
    environment = {"MLFLOW_TRACKING_URI": database.uri, "PATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=database.home)
    assert done.returncode == 0, done.stderr
    assert database.holder("light") == version
