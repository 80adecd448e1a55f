"""Tags by which a version is promoted, tags of the gate, and forged statements."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gate.attestation.envelope import PAYLOAD_TYPE, sealed
from gate.attestation.names import FROZEN
from tests.enforcement.servers import Server, stated

VERSION_TAG, MODEL_TAG = "model-versions/set-tag", "registered-models/set-tag"
NONE_YET = "there is no signed statement of policy 'geometry'"
RESERVED = "is reserved"
OURS = ["gate", "gate.run", "gate.policy", "gate.frozen", "gate.anything", "gate."]
LOOK_ALIKES = [
    "Gate",
    "GATE.frozen",
    "gáte",
    "ｇate",
    "gate.ﬁle",
    " gate",
    "𝗴ate.frozen",
    "gate.Statement.geometry",
    "g\N{CYRILLIC SMALL LETTER A}te",
]


def tagged(server: Server, name: str, key: str, value: str = "PASS", version: str = "1") -> Any:
    return server.ask("POST", VERSION_TAG, {"name": name, "version": version, "key": key, "value": value})


@pytest.mark.parametrize("key", ["deployment.status", "validation_status", "Validation_Status", "déployment.status"])
def test_a_tag_that_promotes_needs_evidence(server: Server, key: str) -> None:
    version = server.version()
    server.refuses(lambda: tagged(server, version.name, key, "approved"), NONE_YET)


def test_a_tag_that_promotes_is_set_with_evidence(server: Server) -> None:
    version = server.passed()
    assert tagged(server, version.name, "deployment.status", "approved").status_code == 200
    assert server.tags(version)["deployment.status"] == "approved"


@pytest.mark.parametrize("key", OURS + LOOK_ALIKES)
def test_nobody_writes_what_reads_like_a_tag_of_the_gate(server: Server, key: str) -> None:
    version = server.version()
    before = server.registry()
    answer = tagged(server, version.name, key)
    if answer.status_code == 400:  # a key that MLflow itself refuses
        assert server.registry() == before
    else:
        server.refuses(lambda: tagged(server, version.name, key), RESERVED)


def test_a_tag_of_another_name_is_anybodys(server: Server) -> None:
    version = server.version()
    for key in ("team", "gates", "gateway.url", "not.gate"):
        assert tagged(server, version.name, key).status_code == 200


@pytest.mark.parametrize("length", [250, 251, 300, 5000])
def test_a_long_key_of_the_gate_is_refused_as_a_short_one_is(server: Server, length: int) -> None:
    version = server.version()
    before = server.registry()
    key = "gate." + "x" * (length - 5)
    assert tagged(server, version.name, key).status_code in {400, 403}
    assert tagged(server, version.name, f"gate.statement.{'x' * length}").status_code in {400, 403}
    assert server.registry() == before


@pytest.mark.parametrize("key", OURS[:4])
def test_nobody_takes_a_tag_of_the_gate_away(server: Server, key: str) -> None:
    version = server.passed()
    body = {"name": version.name, "version": "1", "key": key}
    server.refuses(lambda: server.ask("DELETE", "model-versions/delete-tag", body), RESERVED)


def test_a_statement_stays(server: Server) -> None:
    version = server.passed()
    for key in ("gate.statement.geometry", "gate.statement.Geometry"):
        body = {"name": version.name, "version": "1", "key": key}
        server.refuses(partial(server.ask, "DELETE", "model-versions/delete-tag", body), RESERVED)


# Forged statements


def changed(envelope: str, **changes: Any) -> str:
    return json.dumps({**json.loads(envelope), **changes})


def bit_flipped(envelope: str) -> str:
    payload = bytearray(base64.b64decode(json.loads(envelope)["payload"]))
    payload[payload.index(b"rank")] ^= 1
    return changed(envelope, payload=base64.b64encode(payload).decode())


FORGED: dict[str, tuple[Callable[[str], str], str]] = {
    "an empty text": (lambda _: "", ""),
    "no JSON": (lambda _: "PASS", "is no DSSE envelope"),
    "a JSON list": (lambda _: "[]", "is no DSSE envelope"),
    "deep JSON": (lambda _: "[" * 50_000, "is no DSSE envelope"),
    "no signature": (lambda text: changed(text, signatures=[]), "signed by key none"),
    "another payload type": (lambda text: changed(text, payloadType="text/plain"), "the payload type is 'text/plain'"),
    "a flipped bit": (bit_flipped, "does not hold: something was changed"),
    "no base64": (lambda text: changed(text, payload="%%%"), "not base64"),
    "many foreign signatures": (
        lambda text: changed(text, signatures=[{"keyid": f"{n:064x}", "sig": ""} for n in range(900)]),
        "is not trusted here",
    ),
}


@pytest.mark.parametrize("case", FORGED)
def test_what_is_no_signed_statement_is_refused(server: Server, case: str) -> None:
    version = server.version()
    forge, reason = FORGED[case]
    text = forge(server.envelope(version))
    server.refuses(lambda: server.attach(version, text), reason)
    server.refuses(lambda: server.promote(version), NONE_YET)


@pytest.mark.parametrize("named", [False, True])
def test_a_statement_that_somebody_else_has_signed_is_refused(server: Server, named: bool) -> None:
    version = server.version()
    text = server.envelope(version, key=Ed25519PrivateKey.generate())
    if named:  # as if it were the gate's own key
        own = json.loads(server.envelope(version))["signatures"][0]["keyid"]
        signature = json.loads(text)["signatures"][0]
        text = changed(text, signatures=[{**signature, "keyid": own}])
    reason = "does not hold: something was changed" if named else "is not trusted here"
    server.refuses(lambda: server.attach(version, text), reason)


def test_signed_content_that_is_no_judgement_is_refused(server: Server) -> None:
    version = server.version()
    document = stated(version).document
    document["predicateType"] = "https://slsa.dev/provenance/v1"
    text = sealed(json.dumps(document).encode(), server.place.key)
    server.refuses(lambda: server.attach(version, text), "is no judgement of the gate")


def test_a_statement_that_contradicts_itself_is_refused(server: Server) -> None:
    version = server.version()
    document = stated(version, verdict="failed").document
    document["predicate"]["result"] = "PASSED"
    text = sealed(json.dumps(document).encode(), server.place.key)
    server.refuses(lambda: server.attach(version, text), "contradicts itself")


def test_a_statement_larger_than_a_tag_is_refused(server: Server) -> None:
    version = server.version()
    before = server.registry()
    for size in (100_001, 1_100_000):
        text = changed(server.envelope(version), more="x" * size)
        assert server.attach(version, text).status_code in {400, 403}
    assert server.registry() == before


@pytest.mark.parametrize("policy", ["strict", "geometry2", "Geometry"])
def test_a_statement_stands_under_its_own_policy_alone(server: Server, policy: str) -> None:
    version = server.version()
    text = server.envelope(version, policy=policy)
    if policy == "Geometry":  # the same name to a reader, but a statement of no policy in force
        assert server.attach(version, text).status_code == 200
        assert server.promote(version).status_code == 200
    else:
        server.refuses(lambda: server.attach(version, text), "belongs under another tag")


def test_a_statement_is_accepted_with_what_a_person_reads_and_where_the_files_are(server: Server) -> None:
    version = server.passed()
    tags = server.tags(version)
    assert (tags["gate"], tags["gate.policy"], tags["gate.run"]) == ("PASS", "geometry", "none")
    assert tags[FROZEN] == server.folder(version)
    assert PAYLOAD_TYPE in tags["gate.statement.geometry"]
    assert max(tags) == "gate.statement.geometry"  # MLflow's page of a version sorts by name
    assert server.decisions()[-1]["verdict"] == "passed"


# At creation


@pytest.mark.parametrize("key", ["deployment.status", "Validation_status"])
def test_a_version_is_not_created_with_a_tag_that_promotes(server: Server, key: str) -> None:
    name, model = server.name(), server.model()
    body = {"name": name, "source": f"models:/{model.model_id}", "model_id": model.model_id}
    tags = [{"key": "a", "value": "1"}, {"key": key, "value": "approved"}]
    reason = f"a version cannot be created with the promotion tag {key!r}"
    server.refuses(lambda: server.ask("POST", "model-versions/create", {**body, "tags": tags}), reason)


def test_a_version_is_created_without_the_tags_of_the_gate(server: Server) -> None:
    other = server.passed()
    stolen = {**server.tags(other), FROZEN: "0/models/none", "Gate": "PASS", "team": "a"}
    model = server.model()
    twice = [{"key": "gate", "value": "PASS"}, {"key": "team", "value": "a"}]
    tags = [{"key": key, "value": value} for key, value in stolen.items()] + twice
    body = {"name": other.name, "source": f"models:/{model.model_id}", "model_id": model.model_id, "tags": tags}
    assert server.ask("POST", "model-versions/create", body).status_code == 200
    version = server.client.get_model_version(other.name, "2")
    assert version.tags == {"team": "a"}
    server.refuses(lambda: server.promote(version), NONE_YET)


# Tags of registered models


@pytest.mark.parametrize("key", ["gate", "gate.x", "Gáte"])
def test_a_registered_model_has_no_tag_of_the_gate(server: Server, key: str) -> None:
    name = server.name()
    tag = {"key": key, "value": "PASS"}
    server.refuses(lambda: server.ask("POST", MODEL_TAG, {"name": name, **tag}), RESERVED)
    body = {"name": name, "key": key}
    server.refuses(lambda: server.ask("DELETE", "registered-models/delete-tag", body), RESERVED)
    server.refuses(
        lambda: server.ask("POST", "registered-models/create", {"name": f"{name}b", "tags": [tag]}), RESERVED
    )


def test_a_registered_model_names_a_version_with_evidence_alone_as_its_production(server: Server) -> None:
    version = server.version()
    body = {"name": version.name, "key": "production_version", "value": "1"}
    server.refuses(lambda: server.ask("POST", MODEL_TAG, body), NONE_YET)
    for value in ("", "v1", "01", "1 ", "latest", "１"):
        wrong = {**body, "value": value}
        server.refuses(partial(server.ask, "POST", MODEL_TAG, wrong), "expected the number of a version")
    assert server.record(version).status_code == 200
    assert server.ask("POST", MODEL_TAG, body).status_code == 200
    created = {"name": f"{version.name}b", "tags": [{"key": "Production_version", "value": "1"}]}
    server.refuses(lambda: server.ask("POST", "registered-models/create", created), "cannot be created with a tag")


def test_a_description_changes_no_decision(server: Server) -> None:
    version = server.version()
    body = {
        "name": version.name,
        "version": "1",
        "description": "PASS geometry - 12/12 rules",
        "tags": [],
        "alias": "champion",
    }
    server.ask("PATCH", "model-versions/update", body)
    server.ask("PATCH", "registered-models/update", {"name": version.name, "description": "gate: PASS"})
    assert server.tags(version) == {}
    server.refuses(lambda: server.promote(version), NONE_YET)


def test_a_statement_of_the_future_is_refused(server: Server) -> None:
    version = server.version()
    text = server.envelope(version, issued=datetime.now(UTC) + timedelta(hours=1))
    server.refuses(lambda: server.attach(version, text), "is of the future")


def test_the_verdict_of_a_policy_that_is_not_in_force_says_so(server: Server) -> None:
    version = server.version()
    assert server.record(version, verdict="failed").status_code == 200
    assert server.tags(version)["gate"] == "FAIL"
    assert server.record(version, digest="sha256:" + "0" * 64).status_code == 200
    assert server.tags(version)["gate"] == "not in force: PASS"
    server.refuses(lambda: server.promote(version), "is not in force")
