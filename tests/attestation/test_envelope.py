from __future__ import annotations

import base64
import json
import re
from hashlib import sha256

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gate.attestation import envelope
from gate.attestation.envelope import PAYLOAD_TYPE, opened, sealed, signer, unverified
from gate.errors import VerificationError
from tests.attestation import made


def changed(**content: object) -> str:
    return json.dumps({**json.loads(made.envelope()), **content})


def test_what_is_signed_is_the_example_of_the_dsse_specification() -> None:
    assert envelope._signed("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_the_lengths_are_of_bytes() -> None:
    assert envelope._signed("é", "ü€".encode()) == b"DSSEv1 2 \xc3\xa9 5 \xc3\xbc\xe2\x82\xac"


def test_what_is_sealed_opens() -> None:
    assert opened(sealed(b"anything", made.key("gate")), made.ring()) == b"anything"
    assert unverified(sealed(b"anything", made.key("gate"))) == b"anything"


def test_an_envelope_verifies_by_cryptography_alone() -> None:
    content = json.loads(made.envelope())
    body = base64.standard_b64decode(content["payload"])
    kind = content["payloadType"].encode()
    signed = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(body)).encode(), body])
    public = made.key("gate").public_key()
    (signature,) = content["signatures"]
    public.verify(base64.standard_b64decode(signature["sig"]), signed)
    assert (
        signature["keyid"] == sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    )
    with pytest.raises(InvalidSignature):
        public.verify(base64.standard_b64decode(signature["sig"]), signed + b" ")


def test_no_bit_of_an_envelope_can_be_flipped_to_say_something_else() -> None:
    text, keys = made.envelope(), made.ring()
    body, whole = opened(text, keys), text.encode()
    refused = 0
    for place in range(len(whole)):
        for bit in (0, 5, place % 8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            try:
                assert opened(flipped.decode("utf-8", "replace"), keys) == body
            except VerificationError:
                refused += 1
    assert refused > 2.9 * len(whole)  # the rest are bits that base64 leaves out, and the like


def test_the_payload_of_one_envelope_does_not_open_with_the_signature_of_another() -> None:
    other = json.loads(made.envelope(made.statement(verdict="failed")))
    with pytest.raises(VerificationError, match="does not hold: something was changed"):
        opened(changed(payload=other["payload"]), made.ring())


def test_keys_take_turns() -> None:
    both = made.ring("old", "new")
    for name in ("old", "new"):
        text = sealed(b"x", made.key(name))
        assert opened(text, both) == b"x"
        assert signer(text, both) == next(iter(made.ring(name)))


def test_one_trusted_signature_among_several_is_enough_and_is_the_one_that_is_named() -> None:
    signatures = [json.loads(made.envelope(by=name))["signatures"][0] for name in ("stranger", "gate")]
    text = changed(signatures=signatures)
    assert opened(text, made.ring()) == made.statement().payload
    assert signer(text, made.ring()) == signatures[1]["keyid"]


def test_a_signature_under_the_name_of_another_key_does_not_hold() -> None:
    stranger = json.loads(made.envelope(by="stranger"))["signatures"][0]
    text = changed(signatures=[{**stranger, "keyid": next(iter(made.ring()))}])
    with pytest.raises(VerificationError, match="does not hold"):
        opened(text, made.ring())


@pytest.mark.parametrize("read", [opened, signer])
@pytest.mark.parametrize("signatures", [[], None])
def test_an_unknown_key_is_named_beside_the_trusted_ones(read: object, signatures: list[object] | None) -> None:
    text = made.envelope(by="stranger") if signatures is None else changed(signatures=signatures)
    theirs = "none" if signatures == [] else next(iter(made.ring("stranger")))[:16]
    ours = next(iter(made.ring()))[:16]
    message = re.escape(f"signed by key {theirs}, which is not trusted here (trusted: {ours})")
    with pytest.raises(VerificationError, match=message):
        read(text, made.ring())  # type: ignore[operator]


def test_another_payload_type_is_refused() -> None:
    with pytest.raises(VerificationError, match="the payload type is 'text/plain', expected"):
        opened(changed(payloadType="text/plain"), made.ring())
    assert PAYLOAD_TYPE == "application/vnd.in-toto+json"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PASS",
        "[]",
        "null",
        "{}",
        "[" * 100_000,
        "9" * 5000,
        changed(payload=1),
        changed(signatures={}),
        changed(signatures=["x"]),
        changed(signatures=[{"keyid": "x"}]),
        changed(signatures=[{"keyid": 1, "sig": ""}]),
        made.envelope() + " " * 1_000_000,
    ],
    ids=range(13),
)
def test_what_is_no_envelope_is_refused(text: str) -> None:
    for read in (lambda: opened(text, made.ring()), lambda: unverified(text), lambda: signer(text, made.ring())):
        with pytest.raises(VerificationError, match="no DSSE envelope"):
            read()


@pytest.mark.parametrize("payload", ["!", "abc", "YQ==\n", "é"])
def test_what_is_no_base64_is_refused(payload: str) -> None:
    with pytest.raises(VerificationError, match="not base64"):
        opened(changed(payload=payload), made.ring())
