from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from gate.attestation.statement import EXTENSION, PREDICATE, TYPE, read
from gate.errors import VerificationError
from tests.attestation import made


def edited(*path: str | int, value: Any) -> bytes:
    content = json.loads(made.statement().payload)
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(content).encode()


OWN = ("predicate", EXTENSION)


def test_what_is_written_is_read() -> None:
    assert read(made.statement().payload) == made.statement()


def test_the_payload_is_an_in_toto_statement() -> None:
    content = json.loads(made.statement().payload)
    assert (content["_type"], content["predicateType"]) == (TYPE, PREDICATE)
    assert content["subject"] == [
        {"name": "models:/encoder/7", "digest": {"sha256": made.statement().digest.removeprefix("sha256:")}}
    ]
    predicate = content["predicate"]
    assert predicate["result"] == "PASSED"
    assert {each["name"] for each in predicate["configuration"]} == {"policy", "probe"}
    assert predicate["passedTests"] == list(made.statement().outcomes["pass"])
    assert (predicate["warnedTests"], predicate["failedTests"]) == ([], [])


@pytest.mark.parametrize("verdict", ["failed", "inconclusive", "error"])
def test_whatever_does_not_pass_has_failed(verdict: str) -> None:
    found = made.statement(verdict=verdict)
    assert found.document["predicate"]["result"] == "FAILED"
    assert not read(found.payload).passes


@pytest.mark.parametrize(
    "payload",
    [
        edited("predicate", "result", value="FAILED"),
        edited("subject", 0, "name", value="models:/encoder/8"),
        edited("subject", 0, "digest", "sha256", value="0" * 64),
        edited("predicate", "failedTests", value=["rank"]),
        edited("predicate", "configuration", value=[]),
        edited("more", value=1),
        edited(*OWN, "digest", value=f"sha256:{'0' * 64}"),
        edited(*OWN, "verdict", value="failed"),
        edited(*OWN, "outcomes", value={"pass": [], "fail": ["rank"]}),
        edited(*OWN, "subject", "version", value="8"),
    ],
    ids=range(10),
)
def test_a_statement_that_says_one_thing_here_and_another_there_is_refused(payload: bytes) -> None:
    with pytest.raises(VerificationError, match="contradicts itself"):
        read(payload)


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("verdict",), "PASSED", "verdict: Input should be"),
        (("digest",), "sha256:12", "digest: String should match"),
        (("files",), {"a": "12"}, "files.a: String should match"),
        (("subject", "created"), "1", "subject.created: Input should be a valid integer"),
        (("subject", "created"), True, "subject.created: Input should be a valid integer"),
        (("issued",), "2026-11-22T12:00:00", "issued: Input should have timezone"),
        (("policy", "enforcement"), "none", "policy.enforcement: Input should be"),
        (("promote",), True, "promote: Extra inputs are not permitted"),
    ],
)
def test_a_statement_that_cannot_be_read_says_where(path: tuple[str, ...], value: Any, where: str) -> None:
    with pytest.raises(VerificationError, match=f"the signed statement cannot be read: {where}"):
        read(edited(*OWN, *path, value=value))


@pytest.mark.parametrize(
    "payload",
    [
        edited("_type", value="x"),
        edited("predicateType", value="https://slsa.dev/verification_summary/v1"),
        edited("predicate", value=[]),
        edited(*OWN, value="passed"),
        b"{}",
    ],
    ids=range(5),
)
def test_another_kind_of_statement_is_refused(payload: bytes) -> None:
    with pytest.raises(VerificationError, match="no judgement of the gate: its type is"):
        read(payload)


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b"[" * 100_000, b"7"])
def test_what_is_no_object_is_refused(payload: bytes) -> None:
    with pytest.raises(VerificationError, match="not a JSON object"):
        read(payload)


def test_a_lone_surrogate_is_refused_and_does_not_crash() -> None:
    with pytest.raises(VerificationError):
        read(edited(*OWN, "subject", "name", value="\ud800"))


def test_a_time_in_another_zone_is_the_same_moment() -> None:
    assert made.statement().expires - made.statement().issued <= timedelta(days=365)
