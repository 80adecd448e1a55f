"""Connections that are ended when nothing comes of them, so that nobody can hold the relay by keeping many open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

MOST = 512  # below the 1024 files that a process may commonly have open
_HEAD = 5  # seconds until the head of a request is complete
_REQUEST = 30  # seconds from there until its answer is taken; a body has less of its own


class Connection(H11Protocol):
    """One of at most `MOST`; beyond that the one that was waited for longest gives way to the newest.

    Uvicorn bounds the time between two requests alone, until the first byte of the next.
    """

    since = 0.0
    """When it began to wait for what it waits for, by the clock of the loop."""
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(transport)
        self._wait(_HEAD)
        if len(self.connections) > MOST:
            longest = min(
                (each for each in self.connections if isinstance(each, Connection)), key=lambda each: each.since
            )
            self.connections.discard(longest)
            longest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Give a request that begins the time for its answer."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._wait_on()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it was sent along."""
        super().on_response_complete()
        self._wait_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        super().connection_lost(exc)
        if self._timer:
            self._timer.cancel()

    def _wait_on(self) -> None:
        self._wait(_HEAD if self.cycle.response_complete else _REQUEST)

    def _wait(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        self.since = self.loop.time()
        self._timer = self.loop.call_later(seconds, self.transport.abort)
