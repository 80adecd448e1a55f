"""What a request of an MLflow webhook says, and whether it is to be believed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WINDOW = 300  # seconds that the time of a delivery may differ from ours, either way

Refusal = Literal["headers", "signature", "time", "malformed"]

# Neither may hold a dot: the signed text is "{id}.{time}.{body}", and must be read in one way only.
_ID = re.compile(r"[0-9A-Za-z_-]{1,100}", re.ASCII)
_TIME = re.compile(r"[0-9]{1,12}", re.ASCII)
_VERSION = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


class RefusedDelivery(Exception):  # noqa: N818 - an outcome of a request, and no fault of ours
    """A request that is not believed, or not understood; `reason` says which."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Delivery:
    """A believed delivery.

    Attributes:
        id: Of the delivery; what is sent again has the same.
        sent: When it was signed, in seconds since 1970 by the clock of the MLflow server.
        event: Such as "model_version.created".
        version: What was registered, where the event is that; None otherwise.
    """

    id: str
    sent: int
    event: str
    version: NewVersion | None


@dataclass(frozen=True)
class NewVersion:
    """What MLflow says of a version that was just registered.

    Attributes:
        name: Of the registered model.
        version: Its number.
        source: Where its files came from.
        run: The tag `gate.run` that it was born with: a copy has the tags of what it was copied from.
    """

    name: str
    version: str
    source: str
    run: str | None


def read(headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes], now: float) -> Delivery:
    """Believe a request, or refuse it.

    Args:
        headers: Of the request, found by name whatever the case.
        body: As it came over the wire; what was signed.
        secrets: Any of them may have signed it.
        now: Seconds since 1970.

    Raises:
        RefusedDelivery: It is unsigned, signed with another secret, too old or too far ahead, or no event of MLflow.
    """
    identity, sent = headers.get("x-mlflow-delivery-id", ""), headers.get("x-mlflow-timestamp", "")
    if not (_ID.fullmatch(identity) and _TIME.fullmatch(sent)):
        raise RefusedDelivery("headers")
    given = headers.get("x-mlflow-signature", "").encode("latin-1")
    content = b".".join((identity.encode(), sent.encode(), body))
    if not any([hmac.compare_digest(given, signature(secret, content)) for secret in secrets]):  # noqa: C419 - all, always
        raise RefusedDelivery("signature")
    if not abs(now - int(sent)) <= WINDOW:
        raise RefusedDelivery("time")
    try:
        event, version = _event(json.loads(body))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise RefusedDelivery("malformed") from None
    return Delivery(identity, int(sent), event, version)


def signature(secret: bytes, content: bytes) -> bytes:
    """The header that MLflow sends with `{id}.{time}.{body}`."""
    return b"v1," + base64.b64encode(hmac.new(secret, content, hashlib.sha256).digest())


def _event(said: dict[str, Any]) -> tuple[str, NewVersion | None]:
    event = f"{said['entity']}.{said['action']}"
    if event != "model_version.created":
        return event, None
    data: dict[str, Any] = dict(said["data"])
    name, version, tags = data["name"], str(data["version"]), dict(data.get("tags") or {})
    if not (isinstance(name, str) and _VERSION.fullmatch(version)):
        raise ValueError(f"{name!r} {version!r} is no version")
    run = tags.get("gate.run")
    return event, NewVersion(name, version, str(data.get("source") or ""), None if run is None else str(run))
