"""Reads the bodies of requests within bounds of size, time and number."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from starlette.requests import Request

LARGEST = 1 << 20  # bytes of a body
_SECONDS = 20  # that a body may take to arrive
_AT_ONCE = 64  # with the bound of a body, what requests that nobody has signed can hold in memory


class Unread(Exception):  # noqa: N818 - an outcome of a request, and no fault of ours
    """A body that is too large, or does not come, or had to give way."""

    def __init__(self, reason: Literal["size", "unread", "busy"]) -> None:
        super().__init__(reason)


class Bodies:
    """Those that are being read: where there are too many, the one that has taken longest gives way to the newest.

    Were the newest refused, a few who send slowly could keep everybody out.
    """

    def __init__(self) -> None:
        self._reading: list[asyncio.Timeout] = []

    async def read(self, request: Request) -> bytes:
        """The body as it came; no more than a megabyte of it is ever read.

        Raises:
            Unread: It is larger, does not come, or gave way.
        """
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and len(announced) < 20 and int(announced) > LARGEST:
            raise Unread("size")
        time = asyncio.timeout(_SECONDS)
        try:
            async with time:
                self._begin(time)
                return await _whole(request)
        except (TimeoutError, ClientDisconnect):
            raise Unread("unread" if time in self._reading else "busy") from None
        finally:
            if time in self._reading:
                self._reading.remove(time)

    def _begin(self, time: asyncio.Timeout) -> None:
        if len(self._reading) == _AT_ONCE:
            longest = self._reading.pop(0)
            if not longest.expired():
                longest.reschedule(0)
        self._reading.append(time)


async def _whole(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise Unread("size")
    return bytes(body)
