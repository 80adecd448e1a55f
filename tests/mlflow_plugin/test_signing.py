from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from gate.attestation.deciding import CLOCKS, issued, statement
from gate.attestation.names import statement_key
from gate.errors import ModelError, VerificationError
from gate.mlflow_plugin.signing import Signer, after, subject
from gate.mlflow_plugin.tags import recorded, short
from gate.models.digest import digest_of, digest_of_names, listed
from tests.attestation import made

# MLflow's own calls in these tests; the recorder itself silences them.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
TAG = statement_key("classifier")


@pytest.fixture
def client(template: bytes, tmp_path: Path) -> MlflowClient:
    (tmp_path / "mlflow.db").write_bytes(template)
    return MlflowClient(*[f"sqlite:///{tmp_path / 'mlflow.db'}"] * 2)


def registered(client: MlflowClient, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_text("flavors: {}\n", encoding="utf-8")
    client.create_registered_model("digits")
    client.create_model_version("digits", folder.as_uri())


def evidence(folder: Path) -> dict[str, Any]:
    document, files = made.evidence(), listed(folder)
    digests = {"digest": digest_of(files), "names_digest": digest_of_names(files)}
    document["model"] |= {"name": "digits", "version": "1", "resolved": "models:/digits/1", **digests}
    return document


def test_first_nothing_is_decided_and_then_the_verdict_is(client: MlflowClient, tmp_path: Path) -> None:
    registered(client, tmp_path / "model")
    signer = Signer(evidence(tmp_path / "model"), made.key("gate"))
    signer.begin(client)
    tags = client.get_model_version("digits", "1").tags
    assert (recorded(tags)[TAG].verdict, tags["gate"]) == ("error", "ERROR")
    signer.sign(client, "f" * 32, f"sha256:{'a' * 64}")
    signer.publish(client)
    row = client.get_model_version("digits", "1")
    assert statement(row.tags[TAG], made.ring(), subject(row)).passes
    assert (row.tags["gate"], row.tags["gate.run"]) == ("PASS", "f" * 8)


def test_what_is_registered_anew_during_a_check_is_not_signed_for(client: MlflowClient, tmp_path: Path) -> None:
    registered(client, tmp_path / "model")
    signer = Signer(evidence(tmp_path / "model"), made.key("gate"))
    signer.begin(client)
    client.delete_registered_model("digits")
    registered(client, tmp_path / "model")
    envelope = signer.sign(client, "f" * 32, f"sha256:{'a' * 64}")
    with pytest.raises(VerificationError, match="was issued for another version models:/digits/1"):
        statement(envelope, made.ring(), subject(client.get_model_version("digits", "1")))


@pytest.mark.parametrize("name", ["MLmodel", "extra.bin"])
def test_files_that_changed_during_a_check_are_not_signed_for(client: MlflowClient, tmp_path: Path, name: str) -> None:
    registered(client, tmp_path / "model")
    signer = Signer(evidence(tmp_path / "model"), made.key("gate"))
    signer.begin(client)
    (tmp_path / "model" / name).write_text("changed", encoding="utf-8")
    with pytest.raises(ModelError, match="are no longer those that were checked"):
        signer.sign(client, "f" * 32, f"sha256:{'a' * 64}")
    found = recorded(client.get_model_version("digits", "1").tags)[TAG]
    assert (found.verdict, found.reason) == ("error", "the files of the version changed while it was checked")


def test_a_version_whose_store_has_something_else_in_place_of_mlflows_note_is_not_signed_for(
    client: MlflowClient, tmp_path: Path
) -> None:
    registered(client, tmp_path / "model")
    signer = Signer(evidence(tmp_path / "model"), made.key("gate"))
    signer.begin(client)
    (tmp_path / "model" / "registered_model_meta").write_bytes(b"EVIL WEIGHTS")
    with pytest.raises(ModelError, match=r"^models:/digits/1/registered_model_meta: MLflow writes a file of this name"):
        signer.sign(client, "f" * 32, f"sha256:{'a' * 64}")
    assert recorded(client.get_model_version("digits", "1").tags)[TAG].verdict == "error"


def test_a_statement_comes_after_the_one_that_is_there_but_never_from_a_future_that_somebody_wrote() -> None:
    now = datetime.now(UTC)
    ahead = made.envelope(made.statement(issued=now + timedelta(minutes=2)))
    assert after(ahead) == issued(ahead) + timedelta(microseconds=1)
    for then in (now + 2 * CLOCKS, datetime.max.replace(tzinfo=UTC)):
        assert now <= after(made.envelope(made.statement(issued=then))) < now + CLOCKS
    assert after("no statement", now) == after(None, now) == now


def test_the_short_tags_show_the_worst_verdict_and_leave_out_what_is_no_statement() -> None:
    passed, failed = made.statement(run="a" * 32), made.statement(policy="other", verdict="failed", run="b" * 32)
    tags = {**made.tags(passed, failed), "gate.statement.junk": "no statement", "team": "vision"}
    assert short(recorded(tags)) == {"gate.run": "b" * 8, "gate.policy": "other@1.0.0", "gate": "FAIL"}
