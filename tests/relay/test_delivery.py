"""What is believed, and what a delivery says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mlflow.entities.webhook import WebhookEvent
from mlflow.webhooks.delivery import _generate_hmac_signature
from mlflow.webhooks.types import get_example_payload_for_event

from gate.relay.delivery import WINDOW, RefusedDelivery, read
from gate.relay.selection import ignored
from tests.relay.playing import SECRET, Delivery, told

SECRETS = [b"the one before", SECRET.encode()]


def heard(delivery: Delivery, *, late: float = 0, **changes: str | None) -> Any:
    headers = {name.lower(): value for name, value in delivery.headers.items()}
    for name, value in changes.items():
        headers.pop(f"x-mlflow-{name.replace('_', '-')}")
        if value is not None:
            headers[f"x-mlflow-{name.replace('_', '-')}"] = value
    return read(headers, delivery.body, SECRETS, delivery.sent + late)


def refusal(delivery: Delivery, **changes: Any) -> str:
    with pytest.raises(RefusedDelivery) as refused:
        heard(delivery, **changes)
    return refused.value.reason


def test_a_version_is_read_from_what_mlflow_signs() -> None:
    delivery = told("encoder", "12", source="models:/m-7", tags={"gate.run": "0a1b2c3d"})
    signed = _generate_hmac_signature(SECRET, delivery.id, str(delivery.sent), delivery.body.decode())
    assert delivery.headers["X-MLflow-Signature"] == signed
    found = heard(delivery)
    assert (found.id, found.sent, found.event) == (delivery.id, delivery.sent, "model_version.created")
    version = found.version
    assert (version.name, version.version, version.source, version.run) == ("encoder", "12", "models:/m-7", "0a1b2c3d")


@pytest.mark.parametrize("secret", ["the one before", SECRET])
def test_one_of_several_secrets_is_enough(secret: str) -> None:
    assert heard(told("encoder").again(secret=secret)).version.name == "encoder"


def test_one_changed_byte_of_the_body_is_refused() -> None:
    delivery = told("encoder", "12")
    forged = {name.lower(): value for name, value in delivery.headers.items()}
    for body in (delivery.body.replace(b'"12"', b'"13"'), delivery.body + b" ", b""):
        with pytest.raises(RefusedDelivery, match="signature"):
            read(forged, body, SECRETS, delivery.sent)


@pytest.mark.parametrize("signature", ["", "v1,", "v2,abc", "ü", None])
def test_no_signature_is_none(signature: str | None) -> None:
    assert refusal(told("encoder"), signature=signature) == "signature"


def test_another_id_or_time_than_was_signed_is_refused() -> None:
    delivery = told("encoder")
    assert refusal(delivery, delivery_id="another") == "signature"
    assert refusal(delivery, timestamp=str(delivery.sent + 1)) == "signature"


@pytest.mark.parametrize("identity", ["", "a.b", "x" * 101, "ü", "a b"])
def test_an_id_is_a_word_without_dots(identity: str) -> None:
    delivery = told("encoder")
    assert refusal(delivery.again(id=identity) if identity != "ü" else delivery, delivery_id=identity) == "headers"


@pytest.mark.parametrize("moment", ["", "-1", "1e9", "nan", " 1", "9" * 13, "١٢٣"])
def test_a_time_is_whole_seconds(moment: str) -> None:
    assert refusal(told("encoder"), timestamp=moment) == "headers"


@pytest.mark.parametrize("late", [WINDOW + 1, -WINDOW - 1, float("nan"), float("inf")])
def test_a_delivery_out_of_the_window_is_refused(late: float) -> None:
    assert refusal(told("encoder"), late=late) == "time"
    assert heard(told("encoder"), late=WINDOW).version
    assert heard(told("encoder"), late=-WINDOW).version


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        b'{"entity": "model_version"}',
        json.dumps({"entity": "model_version", "action": "created", "data": []}).encode(),
        told("encoder", "latest").body,
        told("encoder", "1/../2").body,
        told("encoder", "0").body,
        told("encoder", "1\n").body,
        told("encoder", tags=[1]).body,
        told("x").body.replace(b'"x"', b'["x"]'),
    ],
    ids=lambda body: str(body[:30]),
)
def test_what_is_signed_and_makes_no_sense_is_refused(body: bytes) -> None:
    assert refusal(Delivery(body)) == "malformed"


@pytest.mark.parametrize(
    "event",
    [
        "registered_model.created",
        "model_version_tag.set",
        "model_version_alias.created",
        "model_version_alias.deleted",
        "prompt.created",
        "prompt_version.created",
    ],
)
def test_other_events_tell_of_no_version(event: str) -> None:
    example = get_example_payload_for_event(WebhookEvent.from_str(event))  # type: ignore[arg-type]
    entity, action = event.split(".")
    found = heard(Delivery(json.dumps({"entity": entity, "action": action, "data": example}).encode()))
    assert (found.event, found.version) == (event, None)


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("text-encoder", "models:/m-1", None),
        ("-rf; $(x) 'ü' @ # %2e ..", "s3://bucket/path", "other model"),
        ("text-encoder", "dummy-source", "prompt"),
        ("text-encoder", "prompt-template", "prompt"),
        ("Text-encoder", "models:/m-1", "other model"),
        ("text-a?b", "models:/m-1", "unusable name"),
        ("text-a\nb", "models:/m-1", "unusable name"),
        ("text-a\x00", "models:/m-1", "unusable name"),
        ("text-\ud800", "models:/m-1", "unusable name"),
        ("text-a/b", "models:/m-1", "unusable name"),
        ("text-" + "a" * 300, "models:/m-1", "unusable name"),
        (" ", "models:/m-1", "unusable name"),
    ],
)
def test_a_version_is_left_alone_for_a_reason(name: str, source: str, expected: str | None) -> None:
    assert ignored(name, source, ["image-*", "text-*"]) == expected


def test_every_name_that_is_taken_is_the_one_that_mlflow_reads_in_its_uri() -> None:
    from mlflow.store.artifact.utils.models import _parse_model_uri

    for name in (f"a{chr(code)}b" for code in range(0x300)):
        if ignored(name, "", ["*"]) is None:
            assert _parse_model_uri(f"models:/{name}/3")[1:3] == (name, "3"), name
