"""What the relay answers to: POST /webhook, GET /health, GET /metrics."""

from __future__ import annotations

import math
import sqlite3
import time
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from gate.relay import delivery
from gate.relay.bodies import Bodies, Unread
from gate.relay.journal import tell
from gate.relay.selection import ignored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from gate.relay.queue import Queue, State
    from gate.relay.working import Work

_EXAMPLE = "example_model"  # what MLflow's own test of a webhook tells of
_LATER = 5  # seconds after which a body that gave way is welcome
# By the reason, or by the decision where that needs none; anything else is 200. MLflow sends again after 503.
_STATUS = {
    "queued": 202,
    "headers": 400,
    "malformed": 400,
    "signature": 401,
    "time": 401,
    "unread": 408,
    "size": 413,
    "busy": 503,
    "full": 503,
}


class Receiver:
    """Takes deliveries, and tells how things are.

    Args:
        queue: That versions are put into.
        work: That goes on as long as this serves.
        secrets: Any of them may have signed a delivery.
        patterns: Of the names that concern the relay.
    """

    def __init__(self, queue: Queue, work: Work, secrets: Sequence[bytes], patterns: Sequence[str]) -> None:
        self._queue, self._work, self._secrets, self._patterns = queue, work, secrets, patterns
        self._bodies = Bodies()
        self._answered: Counter[tuple[str, str]] = Counter()

    def app(self) -> Starlette:
        """As an ASGI application, which does the work, too."""
        routes = [
            Route("/webhook", self.webhook, methods=["POST"]),
            Route("/health", self.health),
            Route("/metrics", self.metrics),
        ]
        return Starlette(routes=routes, lifespan=self._working, exception_handlers={sqlite3.Error: _unwritable})

    @asynccontextmanager
    async def _working(self, _: Starlette) -> AsyncIterator[None]:
        self._work.start()
        try:
            yield
        finally:
            await self._work.end()

    async def webhook(self, request: Request) -> Response:
        """Answer a delivery: 202 when its version is on the disk, 200 when there is nothing to do."""
        identity = model = version = None
        try:
            heard = delivery.read(request.headers, await self._bodies.read(request), self._secrets, time.time())
            identity = heard.id
            decision, reason = "ignored", "event"
            if heard.version is not None:
                model, version = heard.version.name, heard.version.version
                decision, reason = await run_in_threadpool(self._decide, heard, heard.version)
        except (delivery.RefusedDelivery, Unread) as refused:
            decision, reason = "refused", str(refused)
        self._answered[decision, reason] += 1
        tell("delivery", decision=decision, reason=reason or None, id=identity, model=model, version=version)
        status = _STATUS.get(reason or decision, 200)
        later = {"Retry-After": str(_LATER)} if reason == "busy" else None
        return JSONResponse({"decision": decision, "reason": reason or None}, status, later)

    def _decide(self, heard: delivery.Delivery, version: delivery.NewVersion) -> tuple[str, str]:
        why = "example" if version.name == _EXAMPLE else ignored(version.name, version.source, self._patterns)
        if why:
            return "ignored", why
        received = self._queue.receive(heard, version, time.time())
        if received == "full":
            return "refused", "full"
        return ("queued", "") if received == "queued" else ("duplicate", received)

    async def health(self, _: Request) -> Response:
        """200 while versions are taken and handed on; what else is wrong stands in `error`."""
        fault = self._work.dead()
        counts: Mapping[State, int] = {}
        try:
            await run_in_threadpool(self._queue.prove)
            counts = await run_in_threadpool(self._queue.counts)
        except (sqlite3.Error, OSError) as error:
            fault = fault or f"the queue cannot be written: {error}"
        reconciled = self._work.reconciled
        answer: dict[str, str | int | None] = {
            "status": "failing" if fault else "ok",
            **{str(state): number for state, number in counts.items()},
            "last_reconcile": datetime.fromtimestamp(reconciled, UTC).isoformat("T", "seconds") if reconciled else None,
            "error": fault or self._work.registry_fault,
        }
        return JSONResponse(answer, 503 if fault else 200)

    async def metrics(self, _: Request) -> Response:
        """The numbers in the text format of Prometheus."""
        counts = await run_in_threadpool(self._queue.counts)
        codes = await run_in_threadpool(self._queue.exit_codes)
        lines = [
            "# TYPE gate_relay_deliveries_total counter",
            *(
                f'gate_relay_deliveries_total{{decision="{decision}",reason="{reason}"}} {number}'
                for (decision, reason), number in sorted(self._answered.items())
            ),
            "# TYPE gate_relay_versions gauge",
            *(f'gate_relay_versions{{state="{state}"}} {number}' for state, number in counts.items()),
            "# TYPE gate_relay_checks_total counter",
            *(
                f'gate_relay_checks_total{{exit_code="{"unseen" if code is None else code}"}} {number}'
                for code, number in codes.items()
            ),
            "# TYPE gate_relay_up gauge",
            f"gate_relay_up {int(self._work.dead() is None)}",
            "# TYPE gate_relay_reconcile_timestamp_seconds gauge",
            f"gate_relay_reconcile_timestamp_seconds {self._work.reconciled or math.nan}",
            "# TYPE gate_relay_reconcile_duration_seconds gauge",
            f"gate_relay_reconcile_duration_seconds {self._work.took:.3f}",
        ]
        return PlainTextResponse("\n".join([*lines, ""]), media_type="text/plain; version=0.0.4")


def _unwritable(_: Request, error: Exception) -> Response:
    tell("relay", decision="cannot use the queue", reason=str(error))
    return JSONResponse({"decision": "refused", "reason": "queue"}, 503)
