"""DSSE: a payload, its type and signatures over both.

The format is that of https://github.com/secure-systems-lab/dsse, protocol v1.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature

from gate.attestation.keys import keyid
from gate.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from gate.attestation.keys import Keyring

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_MOST = 1_000_000  # characters of an envelope that is worth a look


def sealed(payload: bytes, key: Ed25519PrivateKey) -> str:
    """The envelope of a payload, as JSON on one line."""
    signature = {"keyid": keyid(key.public_key()), "sig": _base64(key.sign(_signed(PAYLOAD_TYPE, payload)))}
    content = {"payloadType": PAYLOAD_TYPE, "payload": _base64(payload), "signatures": [signature]}
    return json.dumps(content, separators=(",", ":"))


def opened(text: str, keys: Keyring) -> bytes:
    """The payload of an envelope, once a signature of a known key holds for it.

    Args:
        text: The envelope as JSON.
        keys: Those that are trusted.

    Raises:
        VerificationError: It is no envelope, has another type, or no trusted key has signed it.
    """
    content = _read(text)
    if content["payloadType"] != PAYLOAD_TYPE:
        raise VerificationError(f"the payload type is {content['payloadType']!r}, expected {PAYLOAD_TYPE!r}")
    payload, signature = _bytes(content["payload"]), _believed(content, keys)
    try:
        keys[signature["keyid"]].verify(_bytes(signature["sig"]), _signed(PAYLOAD_TYPE, payload))
    except InvalidSignature:
        named = signature["keyid"][:16]
        raise VerificationError(f"the signature of key {named} does not hold: something was changed") from None
    return payload


def signer(text: str, keys: Keyring) -> str:
    """The `keyid` of the key whose signature `opened` looks at.

    Raises:
        VerificationError: It is no envelope, or names no trusted key.
    """
    return _believed(_read(text), keys)["keyid"]


def unverified(text: str) -> bytes:
    """The payload of an envelope that nobody may believe yet.

    Raises:
        VerificationError: It is no envelope.
    """
    return _bytes(_read(text)["payload"])


def _read(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text) if len(text) <= _MOST else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not _is_envelope(content):
        raise VerificationError("what should be a signed statement is no DSSE envelope")
    return content


def _is_envelope(content: dict[str, Any]) -> bool:
    if not isinstance(content.get("signatures"), list):
        return False
    signatures = content["signatures"]
    texts = [content.get("payloadType"), content.get("payload")]
    if not all(isinstance(each, dict) for each in signatures):
        return False
    texts += [each.get(key) for each in signatures for key in ("keyid", "sig")]
    return all(isinstance(text, str) for text in texts)


def _signed(kind: str, payload: bytes) -> bytes:
    """What a signature is over: DSSE's pre-authentication encoding."""
    name = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def _believed(content: Mapping[str, Any], keys: Keyring) -> dict[str, str]:
    """The first signature of a trusted key."""
    signatures: list[dict[str, str]] = content["signatures"]
    for signature in signatures:
        if signature["keyid"] in keys:
            return signature
    named = [signature["keyid"] for signature in signatures]
    signed, trusted = (", ".join(each[:16] for each in some) or "none" for some in (named, keys))
    raise VerificationError(f"signed by key {signed}, which is not trusted here (trusted: {trusted})")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise VerificationError("the envelope holds something that is not base64") from None
