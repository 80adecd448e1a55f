"""Whether anybody is told of new versions: webhooks of the registry, and a relay."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gate.mlflow_plugin.doctor.points import Point, note, ok, wrong
from gate.models.registry import without_passwords

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gate.verification.server import Answer, Server

_TIMES = 8  # every worker of a server should have answered by then
_PATIENCE = 20  # seconds
_CREATED = {"entity": "MODEL_VERSION", "action": "CREATED"}
_FERNET = 'python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'


def webhooks(server: Server, *, relayed: bool) -> Iterator[Point]:
    """Whether every worker knows the webhooks, and whether there is one for new versions.

    Args:
        server: Of the registry.
        relayed: Whether there should be one.
    """
    answers = [server.ask("GET", "api/2.0/mlflow/webhooks?max_results=1000") for _ in range(_TIMES)]
    if answers[0].status in (401, 403):
        yield note("webhooks", f"this login may not list them: {answers[0].status} {answers[0].said}")
    elif len({(answer.status, answer.text) for answer in answers}) > 1 or answers[0].status != 200:
        yield _differing(answers)
    else:
        yield from _listed(answers[0].document.get("webhooks", []), relayed=relayed)


def relay(address: str) -> Point:
    """Whether a relay is well.

    Args:
        address: Its URL; no password of the registry is sent there.
    """
    import requests

    shown = without_passwords(address.rstrip("/"))
    try:
        found = requests.get(f"{address.rstrip('/')}/health", timeout=_PATIENCE, allow_redirects=False)
        health = found.json()
        status, fault = health["status"], health["error"]
    except requests.RequestException as error:
        return wrong("relay", f"{shown}: no relay answers there: {type(error).__name__}", "start it: gate relay --help")
    except (ValueError, TypeError, KeyError):
        return wrong("relay", f"{shown} answers {found.status_code} and what no relay does")
    if found.status_code != 200 or status != "ok" or fault:
        return wrong("relay", f"{shown} is {status}: {fault}", f"look at {shown}/health and at its log")
    return ok("relay", f"{shown} is well, it looked at the registry last at {health.get('last_reconcile')}")


def _differing(answers: Sequence[Answer]) -> Point:
    failed = [answer for answer in answers if answer.status != 200]
    found = f"{len(failed)} of {_TIMES} requests failed: {failed[0].status} {failed[0].said}" if failed else ""
    return wrong(
        "webhooks",
        found or f"the server lists others each time that it is asked, {_TIMES} times",
        f"give all workers one MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY, made by: {_FERNET}",
    )


def _listed(found: Sequence[Mapping[str, Any]], *, relayed: bool) -> Iterator[Point]:
    active = [each for each in found if each.get("status") == "ACTIVE" and _CREATED in each.get("events", [])]
    if not active:
        there = f"none of the {len(found)} is active and told of new versions" if found else "there is none"
        do = "make one for model_version.created that leads to gate relay"
        yield (
            wrong("webhooks", there, do)
            if relayed
            else note("webhooks", f"{there}: versions are checked by hand or by CI")
        )
    for each in active:
        name, url = json.dumps(each.get("name")), str(each.get("url"))
        shown = without_passwords(url.partition("?")[0])
        if url.startswith("https://"):
            yield ok("webhooks", f"{name} tells {shown} of new versions")
        else:
            yield note("webhooks", f"{name} tells {shown} of new versions, readable on the way", "prefer https://")
