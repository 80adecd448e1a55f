"""The whole command against real registries: 0 only if all holds, 7 with its own sentence for each that does not."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gate.attestation import keys
from gate.attestation.envelope import sealed
from gate.cli import main
from gate.models.row import row
from gate.verification import database as file
from gate.verification.registered import asked
from tests.attestation import made
from tests.verification.registry import NAME, Place, alias, direct

# MLflow's own calls in these tests.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
HEAVY = ("torch", "mlflow", "numpy", "pandas", "sqlalchemy", "great_expectations", "matplotlib", "sklearn")
URI = f"models:/{NAME}/1"
WEIGHTS = "data/weights.bin"
NOTE = "model_name: encoder\nmodel_version: '1'\n"
POLICY = made.statement().policy


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Callable[..., tuple[int, str, str]]:
    where = "remote" if "remote" in request.fixturenames else "place"
    place: Place = request.getfixturevalue(where)

    def run(uri: str = URI, *options: object, key: Path | None = None) -> tuple[int, str, str]:
        code = main(["verify", uri, "--public-key", str(key or place.public), *map(str, options)])
        out, err = capsys.readouterr()
        assert (out == "") == (code != 0)
        return code, out, err.strip()

    return run


Verify = Callable[..., tuple[int, str, str]]


def overwrite(model: Path) -> None:
    content = bytearray((model / WEIGHTS).read_bytes())
    content[1234] ^= 1
    (model / WEIGHTS).write_bytes(content)


def add(model: Path) -> None:
    (model / "data" / "extra.py").write_text("import os", encoding="utf-8")


def remove(model: Path) -> None:
    (model / WEIGHTS).unlink()


def rename(model: Path) -> None:
    (model / WEIGHTS).rename(model / "data" / "weights2.bin")


def note_below(model: Path) -> None:
    (model / "data" / "registered_model_meta").write_text("x", encoding="utf-8")


FILES = [
    (overwrite, "changed: data/weights.bin"),
    (add, "extra: data/extra.py"),
    (remove, "missing: data/weights.bin"),
    (rename, "missing: data/weights.bin; extra: data/weights2.bin"),
    (note_below, "extra: data/registered_model_meta"),
]


# What holds.


def test_a_version_that_was_judged_and_is_unchanged_is_verified(place: Place, verify: Verify) -> None:
    code, out, err = verify()
    assert (code, err) == (0, "")
    issued = place.statement()
    assert out.splitlines() == [
        f"VERIFIED  {URI} is what was judged, signed and let pass",
        f"  verdict   passed under classifier@1.0.0 ({POLICY.digest[:19]}…)",
        f"  signed    by key {keys.keyid(keys.public_key(place.public))[:16]} on {datetime.now(UTC):%Y-%m-%d}"
        + out.splitlines()[2].partition(f"{datetime.now(UTC):%Y-%m-%d}")[2],
        "  loading   code-free, isolation: process",
        f"  files     3, none changed, missing or extra, at {issued.subject.source}",
        "  note      any policy counts; --policy names those that must have judged it",
    ]


def test_json_says_the_same_to_a_program(place: Place, verify: Verify) -> None:
    code, out, _ = verify(URI, "-o", "json")
    found = json.loads(out)
    (statement,) = found["statements"]
    assert (code, found["schema"], found["model"], found["in_registry"]) == (0, "gate.verification/v1", URI, True)
    assert found["files"] == {
        "count": 3,
        "digest": place.statement().digest,
        "location": place.statement().subject.source,
    }
    assert statement["keyid"] == keys.keyid(keys.public_key(place.public))
    assert (statement["verdict"], statement["policy"]["digest"]) == ("passed", POLICY.digest)
    assert (statement["trust"], statement["isolation"]) == ("code-free", "process")


def test_an_alias_is_the_version_that_it_names_now(place: Place, verify: Verify) -> None:
    place.client.set_registered_model_alias(NAME, "champion", "1")
    code, out, _ = verify(f"models:/{NAME}@champion")
    assert code == 0
    assert out.startswith(f"VERIFIED  {URI} is what was judged, signed and let pass for @champion\n")


def test_a_folder_of_keys_verifies_and_a_private_key_is_refused(place: Place, verify: Verify) -> None:
    code, _, err = verify(key=place.key)
    assert (code, f"to verify give the public one, {place.key}.pub" in err) == (2, True)
    assert verify(key=place.key.parent)[0] == 0


def test_the_keys_may_come_from_the_environment(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATE_PUBLIC_KEY", str(place.public))
    assert main(["verify", URI]) == 0
    monkeypatch.setenv("GATE_MAX_AGE", "0d")
    assert main(["verify", URI]) == 2
    assert "'0d' is no age" in capsys.readouterr().err


def test_the_prefix_of_an_enforcing_registry_is_read_through(
    place: Place, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"gate+{place.uri}")
    assert verify()[0] == 0


def test_what_mlflow_writes_into_a_download_is_ignored(place: Place, verify: Verify) -> None:
    (place.model / "registered_model_meta").write_text(NOTE, encoding="utf-8")
    assert verify()[0] == 0


def test_what_is_no_note_of_mlflow_and_lies_in_its_place_is_7_and_named(place: Place, verify: Verify) -> None:
    note = place.model / "registered_model_meta"
    for content in ("EVIL WEIGHTS", f"{NOTE}more: 1\n", NOTE + "#" * 5000):
        note.write_text(content, encoding="utf-8")
        code, _, err = verify()
        assert (code, err.startswith(f"error[verification]: {note}: MLflow writes a file of this name ")) == (7, True)
        assert verify(URI, "--files", place.model)[0] == 7


def test_the_row_is_the_same_however_it_is_read(place: Place) -> None:
    place.client.set_registered_model_alias(NAME, "champion", "1")
    light = file.registered(place.uri, asked(URI))
    assert (light.version, light.tags, light.location) == row(place.uri, NAME, "1", None)
    assert row(place.uri, NAME, None, "champion") == row(place.uri, NAME, "1", None)


# The files.


@pytest.mark.parametrize(("attack", "names"), FILES)
def test_a_file_that_differs_is_7_and_named(
    place: Place, verify: Verify, attack: Callable[[Path], None], names: str
) -> None:
    attack(place.model)
    code, _, err = verify()
    assert (code, err) == (7, f"error[verification]: the files of {URI} are not those that were judged: {names}")


@pytest.mark.parametrize("attack", [overwrite, add, remove, rename])
def test_a_model_of_too_many_files_is_held_against_its_digests(
    place: Place, verify: Verify, attack: Callable[[Path], None]
) -> None:
    place.sign(files=None)
    assert verify()[0] == 0
    attack(place.model)
    code, _, err = verify()
    assert code == 7
    assert re.search(r"their digest is sha256:\w+, signed was sha256:\w+", err)
    assert ("names differ" in err) == (attack is rename)


@pytest.mark.parametrize("target", ["weights.bin", "../data"])
def test_a_symbolic_link_is_7(place: Place, verify: Verify, target: str) -> None:
    (place.model / "data" / "link").symlink_to(target)
    code, _, err = verify()
    assert code == 7
    assert "a symbolic link inside a model" in err


def test_no_file_left_is_7_and_no_folder_left_is_3(place: Place, verify: Verify) -> None:
    shutil.rmtree(place.model)
    assert verify()[0] == 3
    place.model.mkdir()
    assert verify()[0] == 7


def test_files_are_hashed_where_they_were_downloaded(place: Place, verify: Verify, tmp_path: Path) -> None:
    copy = tmp_path / "download"
    shutil.copytree(place.model, copy)
    (copy / "registered_model_meta").write_text(NOTE, encoding="utf-8")
    overwrite(place.model)
    code, out, _ = verify(URI, "--files", copy)
    assert code == 0
    assert f"at {copy}" in out
    overwrite(copy)
    code, _, err = verify(URI, "--files", copy)
    assert code == 7
    assert err.endswith("changed: data/weights.bin")
    assert verify(URI, "--files", tmp_path / "nowhere")[0] == 2


@pytest.mark.parametrize(
    ("location", "code", "advice"),
    [
        ("s3://bucket/model", 2, "download them from there and give their folder with --files"),
        ("runs:/1/model", 2, "give their folder with --files"),
        ("mlflow-artifacts:/1/model", 2, "set MLFLOW_TRACKING_URI to its address"),
        ("/nowhere", 3, "no such folder on this machine"),
    ],
)
def test_files_that_cannot_be_read_from_here_are_no_pass(
    place: Place, database: Path, verify: Verify, location: str, code: int, advice: str
) -> None:
    direct(database, "UPDATE model_versions SET storage_location = ?", location)
    found, _, err = verify()
    assert found == code
    assert advice in err
    assert verify(URI, "--files", place.model)[0] == 0


# What the statement is bound to.


def test_a_statement_of_another_version_or_model_or_of_before_is_7(place: Place, verify: Verify) -> None:
    statement = place.statement()
    place.client.create_model_version(NAME, place.model.as_uri())
    place.tag(statement, version="2")
    code, _, err = verify(f"models:/{NAME}/2")
    assert (code, f"belongs to {URI}, not to models:/{NAME}/2" in err) == (7, True)
    place.client.create_registered_model("other")
    place.client.create_model_version("other", place.model.as_uri())
    place.tag(statement, name="other")
    code, _, err = verify("models:/other/1")
    assert (code, f"belongs to {URI}, not to models:/other/1" in err) == (7, True)
    place.client.delete_registered_model(NAME)
    place.client.create_registered_model(NAME)
    place.client.create_model_version(NAME, place.model.as_uri())
    place.tag(statement)
    code, _, err = verify()
    assert (code, f"issued for another version {URI} (created: " in err) == (7, True)


def test_another_source_behind_the_same_number_is_7(place: Place, database: Path, verify: Verify) -> None:
    direct(database, "UPDATE model_versions SET source = ?, storage_location = ?", "file:///evil", place.model.as_uri())
    code, _, err = verify()
    assert (code, "(source: " in err) == (7, True)


def test_an_alias_set_past_the_server_is_7(place: Place, database: Path, verify: Verify) -> None:
    place.client.create_model_version(NAME, place.model.as_uri())
    alias(database, "champion", 2)
    code, _, err = verify(f"models:/{NAME}@champion")
    assert code == 7
    assert err.startswith(f"error[verification]: there is no signed statement on models:/{NAME}/2; run: gate check ")


# Verdict, policy, age, keys.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "failed"}, "the verdict of policy 'classifier' is FAILED"),
        ({"verdict": "inconclusive"}, "is INCONCLUSIVE"),
        ({"age": timedelta(days=366)}, "expired at "),
        ({"age": -timedelta(hours=1)}, "is of the future"),
    ],
)
def test_a_signed_statement_that_does_not_let_pass_is_7(
    place: Place, verify: Verify, changes: dict[str, Any], message: str
) -> None:
    place.sign(**changes)
    code, _, err = verify()
    assert code == 7
    assert message in err


def test_a_statement_may_be_too_old_for_whoever_verifies(place: Place, verify: Verify) -> None:
    place.sign(age=timedelta(hours=30))
    assert verify(URI, "--max-age", "2d")[0] == 0
    code, _, err = verify(URI, "--max-age", "24h")
    assert (code, "may be 24 hours old" in err) == (7, True)


def test_a_key_that_is_not_trusted_is_7(place: Place, verify: Verify, tmp_path: Path) -> None:
    stranger = keys.create(tmp_path / "stranger.key")
    code, _, err = verify(key=stranger)
    assert (code, "which is not trusted here" in err) == (7, True)
    place.tag(place.statement(), key=tmp_path / "stranger.key")
    assert verify()[0] == 7
    assert verify(URI, "--public-key", stranger)[0] == 0  # keys take turns


def test_a_bit_of_the_tag_that_was_flipped_is_7(place: Place, database: Path, verify: Verify) -> None:
    key = f"gate.statement.{POLICY.name}"
    text = place.client.get_model_version(NAME, "1").tags[key]
    for changed in (
        text.replace('"sig":"', '"sig":"A'),
        text[:60] + ("A" if text[60] != "A" else "B") + text[61:],
        "PASS",
    ):
        direct(database, "UPDATE model_version_tags SET value = ? WHERE key = ?", changed, key)
        assert verify()[0] == 7


@pytest.mark.usefixtures("place")
def test_no_key_is_2_and_never_a_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["verify", URI]) == 2
    assert main(["verify", URI, "--public-key", str(tmp_path / "empty")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("so no signature can be verified") == 2


def policy_file(path: Path, name: str, least: int = 3) -> Path:
    text = f"apiVersion: gate/v1\nkind: Policy\nmetadata: {{name: {name}, version: 1.0.0}}\n"
    rule = f"  - {{id: rank, metric: effective_rank, min: {least}}}\n"
    path.write_text(f"{text}rules:\n{rule}", encoding="utf-8")
    return path


def digest(path: Path) -> str:
    from gate.policy.loading import load_policy

    return load_policy(path).digest


def test_a_policy_that_must_have_judged_is_named_by_file_or_by_digest(
    place: Place, verify: Verify, tmp_path: Path
) -> None:
    mine, other = (policy_file(tmp_path / f"{name}.yaml", name) for name in ("mine", "other"))
    newer = policy_file(tmp_path / "newer.yaml", "mine", least=4)
    place.sign(policy={"name": "mine", "digest": digest(mine)})
    assert verify(URI, "-p", mine)[0] == 0
    assert verify(URI, "-p", digest(mine))[0] == 0
    assert verify(URI, "-p", mine, "-p", newer)[0] == 0  # two texts of one name are alternatives
    code, out, _ = verify(URI, "-p", mine, "-p", POLICY.digest)
    assert (code, out.count("verdict   passed under"), "any policy" in out) == (0, 2, False)
    for options, message in (
        (("-p", newer), "is not in force for 'encoder'"),
        (("-p", other), "there is no signed statement of policy 'other'"),
        (("-p", mine, "-p", other), "there is no signed statement of policy 'other'"),
        (("-p", digest(other)), f"there is no signed statement of policy {digest(other)} on {URI} (there are: "),
        (("-p", digest(mine), "-p", digest(newer)), "there is no signed statement of policy sha256:"),
    ):
        code, _, err = verify(URI, *options)
        assert (code, message in err) == (7, True)
    assert verify(URI, "-p", "sha256:12")[0] == 2
    assert verify(URI, "-p", tmp_path / "nowhere.yaml")[0] == 2


def test_only_a_statement_that_holds_lends_a_digest_its_name(place: Place, verify: Verify, tmp_path: Path) -> None:
    good, bad = POLICY.digest, f"sha256:{'b' * 64}"
    place.sign(policy={"name": "strict", "digest": bad}, verdict="failed")
    lent = place.statement(policy={"name": POLICY.name, "digest": bad})
    keys.create(tmp_path / "stranger.key")
    strangers = sealed(lent.payload, keys.signing_key(tmp_path / "stranger.key"))
    own = keys.signing_key(place.key)
    elsewhere = lent.model_copy(update={"subject": lent.subject.model_copy(update={"version": "2"})})
    for forged in (strangers, sealed(elsewhere.payload, own), sealed(lent.payload, own), "{}"):
        place.client.set_model_version_tag(NAME, "1", "gate.statement.0", forged)  # before those of all policies
        assert verify(URI, "-p", good)[0] == 0
        for options in (("-p", good, "-p", bad), ("-p", bad)):
            code, _, err = verify(URI, *options)
            assert (code, err) == (7, "error[verification]: the verdict of policy 'strict' is FAILED")


def test_a_digest_that_no_statement_carries_which_holds_is_7_and_says_why(
    place: Place, verify: Verify, tmp_path: Path
) -> None:
    stranger = keys.create(tmp_path / "stranger.key")
    code, _, err = verify(URI, "-p", POLICY.digest, key=stranger)
    assert code == 7
    assert f"there is no signed statement of policy {POLICY.digest} on {URI} (not believed: gate.statement." in err
    assert "which is not trusted here" in err
    place.client.delete_model_version_tag(NAME, "1", f"gate.statement.{POLICY.name}")
    code, _, err = verify(URI, "-p", POLICY.digest)
    assert (code, err.endswith("(there is none at all)")) == (7, True)


def test_all_statements_must_hold_and_name_the_same_files(place: Place, verify: Verify) -> None:
    place.sign(policy={"name": "second"})
    assert verify()[0] == 0
    place.sign(policy={"name": "second"}, digest=f"sha256:{'0' * 64}", names=f"sha256:{'0' * 64}", files=None)
    assert verify()[0] == 7
    place.sign(policy={"name": "second"}, verdict="failed")
    code, _, err = verify()
    assert (code, "policy 'second' is FAILED" in err) == (7, True)


def test_what_the_server_believes_is_read_from_its_own_file(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "server.yaml"
    path.write_text(
        "apiVersion: gate/v1\nkind: ServerPolicy\nkeys: [gate.key.pub]\naudit: audit.jsonl\nmax_age: 7d\n"
        f"policies: [{{name: {POLICY.name}, digest: '{POLICY.digest}', aliases: [champion]}}]\n",
        encoding="utf-8",
    )
    place.client.set_registered_model_alias(NAME, "champion", "1")
    champion = ["verify", f"models:/{NAME}@champion", "--server-policy", str(path)]
    assert main(champion) == 0
    assert main([*champion, "--alias", "staging"]) == 7
    assert "no policy in force is for 'encoder' at @staging" in capsys.readouterr().err
    place.sign(age=timedelta(days=8))
    assert main(champion) == 7
    assert main([*champion, "--max-age", "9d"]) == 0
    stranger = keys.create(tmp_path / "stranger.key")
    assert main([*champion, "--max-age", "9d", "--public-key", str(stranger)]) == 7


# A folder, and envelopes in files.


def test_a_folder_is_verified_without_any_registry(
    place: Place, verify: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    envelope = place.envelope(tmp_path / "statement.json")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://127.0.0.1:9")
    code, out, _ = verify(str(place.model), "--attestation", envelope)
    assert code == 0
    assert out.endswith(f"note      the registry was not asked whether {URI} is still this version\n")
    overwrite(place.model)
    assert verify(str(place.model), "--attestation", envelope)[0] == 7
    assert verify(str(place.model))[0] == 2
    assert verify(str(place.model), "--attestation", envelope, "--files", place.model)[0] == 2


def test_an_envelope_of_a_file_stands_in_for_the_tags(place: Place, verify: Verify, tmp_path: Path) -> None:
    place.sign(verdict="failed")
    assert verify(URI, "--attestation", place.envelope(tmp_path / "good.json"))[0] == 0
    bad = place.envelope(tmp_path / "bad.json", verdict="failed")
    assert verify(URI, "--attestation", bad)[0] == 7
    code, _, err = verify(URI, "--attestation", tmp_path / "good.json", "--attestation", bad)
    assert (code, "another statement of the same policy" in err) == (2, True)
    bad.write_bytes(b"\xff")
    assert verify(URI, "--attestation", bad)[0] == 7
    assert verify(URI, "--attestation", tmp_path / "nowhere")[0] == 2


def test_statements_on_two_versions_do_not_verify_one_folder(place: Place, verify: Verify, tmp_path: Path) -> None:
    place.client.create_model_version(NAME, place.model.as_uri())
    first = place.envelope(tmp_path / "first.json")
    second = place.envelope(tmp_path / "second.json", version="2", policy={"name": "second"})
    assert verify(str(place.model), "--attestation", first, "--attestation", second)[0] == 7


# What cannot be looked at.


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        (f"models:/{NAME}/2", 3),
        (f"models:/{NAME}@nobody", 3),
        ("models:/nobody/1", 3),
        (f"models:/{NAME}", 2),
        (f"models:/{NAME}/latest", 2),
        (f"models:/{NAME}/{'9' * 40}", 2),
        ("models:/m-1234", 2),
        ("nowhere", 2),
        ("", 2),
    ],
)
def test_a_version_that_is_not_there_is_no_pass(verify: Verify, uri: str, code: int) -> None:
    assert verify(uri)[0] == code


@pytest.mark.parametrize("registry", ["sqlite:////nowhere/mlflow.db", "http://127.0.0.1:9", "https://127.0.0.1:9"])
def test_a_registry_that_does_not_answer_is_3(verify: Verify, monkeypatch: pytest.MonkeyPatch, registry: str) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", registry)
    code, _, err = verify()
    assert code == 3
    assert "check MLFLOW_REGISTRY_URI and MLFLOW_TRACKING_URI" in err


def test_a_file_that_is_no_registry_is_3_and_stays_as_it_is(
    verify: Verify, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for content in (b"", b"no database at all" * 100):
        (tmp_path / "x.db").write_bytes(content)
        monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{tmp_path / 'x.db'}")
        assert verify()[0] == 3
        assert (tmp_path / "x.db").read_bytes() == content


def test_a_version_that_was_deleted_is_not_there(database: Path, verify: Verify) -> None:
    direct(database, "UPDATE model_versions SET current_stage = 'Deleted_Internal'")
    assert verify()[0] == 3


def test_a_version_of_another_workspace_is_not_there(verify: Verify, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_WORKSPACE", "team")
    assert verify()[0] == 3


def test_an_earlier_verification_does_not_outlive_a_failure(place: Place, tmp_path: Path) -> None:
    assert main(["verify", URI, "--public-key", str(place.public), "-o", f"json={tmp_path}/v.json"]) == 0
    assert json.loads((tmp_path / "v.json").read_text(encoding="utf-8"))["model"] == URI
    overwrite(place.model)
    assert main(["verify", URI, "--public-key", str(place.public), "-o", f"json={tmp_path}/v.json"]) == 7
    assert not (tmp_path / "v.json").exists()


def test_names_of_files_cannot_write_on_a_terminal(place: Place, verify: Verify) -> None:
    (place.model / "a\x1b[2Jb\n").write_text("x", encoding="utf-8")
    code, _, err = verify()
    assert (code, "\x1b" in err, err.count("\n")) == (7, False, 0)


# Its cost.


def command(*arguments: str) -> str:
    seen = "sorted(m for m in sys.modules if m in {*%r} or m.startswith('gate.evidence'))" % (HEAVY,)  # noqa: UP031
    code = f"import sys; from gate.cli import main; print(main(sys.argv[1:]), {seen})"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def test_nothing_heavy_is_imported(place: Place, tmp_path: Path) -> None:
    mine = policy_file(tmp_path / "mine.yaml", "mine")
    place.sign(policy={"name": "mine", "digest": digest(mine)})
    (place.model / "registered_model_meta").write_text(NOTE, encoding="utf-8")
    found = command("verify", URI, "--public-key", str(place.public), "--policy", str(mine), "--max-age", "1d")
    assert found == "0 ['gate.evidence', 'gate.evidence.recognition', 'gate.evidence.wording']"  # those of the CLI


def test_a_small_model_is_verified_in_a_moment(place: Place) -> None:
    arguments = [sys.executable, "-m", "gate", "verify", URI, "--public-key", str(place.public)]
    assert min(seconds(arguments) for _ in range(3)) < 0.8  # 0.35 s where nothing else runs


def seconds(arguments: list[str]) -> float:
    """Of a processor: what else runs on this machine does not count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(arguments, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# A server that keeps the files.


def test_a_server_is_asked_for_the_row_and_for_every_file(remote: Place, verify: Verify) -> None:
    code, out, err = verify()
    assert (code, err) == (0, "")
    assert "  files     3, none changed, missing or extra, at mlflow-artifacts:/" in out
    remote.client.set_registered_model_alias(NAME, "champion", "1")
    assert verify(f"models:/{NAME}@champion")[0] == 0


def test_what_a_client_uploaded_is_found_where_its_run_keeps_it(remote: Place, verify: Verify) -> None:
    run = remote.client.create_run(remote.client.create_experiment("uploads")).info
    remote.client.log_artifacts(run.run_id, str(remote.model), "model")
    remote.client.create_model_version(NAME, f"{run.artifact_uri}/model", run.run_id)
    remote.sign(version="2")
    code, out, _ = verify(f"models:/{NAME}/2")
    assert (code, f"at {run.artifact_uri}/model" in out) == (0, True)


@pytest.mark.parametrize(("attack", "names"), FILES)
def test_a_file_that_differs_in_the_store_of_a_server_is_7(
    remote: Place, verify: Verify, attack: Callable[[Path], None], names: str
) -> None:
    attack(remote.model)
    code, _, err = verify()
    assert code == 7
    assert err.endswith(f"are not those that were judged: {names}")


def test_what_mlflow_writes_at_the_root_is_ignored_behind_a_server(remote: Place, verify: Verify) -> None:
    (remote.model / "registered_model_meta").write_text(NOTE, encoding="utf-8")
    assert verify()[0] == 0
    for content in ("EVIL WEIGHTS", NOTE + "#" * 5000):
        (remote.model / "registered_model_meta").write_text(content, encoding="utf-8")
        code, _, err = verify()
        assert (code, "model/registered_model_meta: MLflow writes a file of this name " in err) == (7, True)


def test_a_server_that_has_no_file_left_is_7(remote: Place, verify: Verify) -> None:
    shutil.rmtree(remote.model)
    code, _, err = verify()
    assert (code, "there is no file at 'mlflow-artifacts:/" in err) == (7, True)


@pytest.mark.parametrize("uri", [f"models:/{NAME}/2", f"models:/{NAME}@nobody", "models:/nobody/1"])
@pytest.mark.usefixtures("remote")
def test_a_version_that_a_server_does_not_know_is_3(verify: Verify, uri: str) -> None:
    code, _, err = verify(uri)
    assert code == 3
    assert re.match(r"error\[absent\]: http://127.0.0.1:\d+ answers 40[04]: .*not found", err)


def test_a_version_without_a_statement_is_7_behind_a_server(remote: Place, verify: Verify) -> None:
    remote.client.delete_model_version_tag(NAME, "1", f"gate.statement.{POLICY.name}")
    code, _, err = verify()
    assert code == 7
    assert err.startswith(f"error[verification]: there is no signed statement on {URI}; run: gate check ")


def test_nothing_heavy_is_imported_to_ask_a_server(remote: Place) -> None:
    assert command("verify", URI, "--public-key", str(remote.public)).startswith("0 ['gate.evidence', ")


def test_a_registry_in_a_file_finds_its_files_behind_a_server(
    place: Place, remote: Place, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = remote.subject().source
    direct(database, "UPDATE model_versions SET source = ?, storage_location = ?", source, source)
    shutil.rmtree(place.model)
    shutil.copytree(remote.model, place.model)
    place.sign()
    assert main(["verify", URI, "--public-key", str(place.public)]) == 0
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert main(["verify", URI, "--public-key", str(place.public)]) == 2
