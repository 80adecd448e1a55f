"""Nobody keeps the relay to himself: not by connections, not by what is sent slowly, not by what is not taken."""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request

from gate.relay import bodies, connections
from gate.relay.bodies import Bodies, Unread
from tests.relay.playing import Relay, told, until

Open = Callable[[Relay, int, bytes], list[socket.socket]]
BEGUN = b"POST /webhook HTTP/1.1\r\nHost: relay\r\nContent-Length: 1000\r\n\r\n{"


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens connections, sends the beginning of a request and no more."""
    with ExitStack() as kept:

        def connect(relay: Relay, number: int, said: bytes) -> list[socket.socket]:
            made = [kept.enter_context(socket.create_connection(("127.0.0.1", relay.port))) for _ in range(number)]
            for each in made:
                each.sendall(said)
                each.setblocking(False)
            return made

        yield connect


def is_closed(connection: socket.socket) -> bool:
    with suppress(BlockingIOError):
        try:
            return connection.recv(1) == b""
        except ConnectionResetError:
            return True
    return False


def test_connections_without_a_request_keep_nobody_out_and_are_closed(
    relay: Callable[..., Relay], opened: Open
) -> None:
    running = relay()
    idle = opened(running, 200, b"") + opened(running, 200, b"POST /webhook HTTP/1.1\r\nX-Part: ")
    assert running.get("/health")[0] == 200
    assert running.send(told("encoder")) == 202
    assert not is_closed(idle[-1])
    until(lambda: all(is_closed(each) for each in idle), "they stay", 20)


def test_the_connection_that_was_waited_for_longest_gives_way(relay: Callable[..., Relay], opened: Open) -> None:
    running = relay()
    idle = opened(running, connections.MOST + 50, b"")
    until(lambda: sum(map(is_closed, idle)) >= 50, "all of them are kept", 3)
    assert running.send(told("encoder")) == 202
    assert is_closed(idle[0])
    assert not is_closed(idle[-1])


def test_the_body_that_has_taken_longest_gives_way_and_is_welcome_later(
    relay: Callable[..., Relay], opened: Open
) -> None:
    running = relay()
    slow = opened(running, bodies._AT_ONCE, BEGUN)
    assert running.send(told("encoder")) == 202
    slow[0].settimeout(10)
    answer = http.client.HTTPResponse(slow[0])
    answer.begin()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert answer.read() == b'{"decision":"refused","reason":"busy"}'
    assert all(not is_closed(each) for each in slow[1:])


def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing() -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr(bodies, "_SECONDS", 0.1)
    request = Request({"type": "http", "headers": []}, nothing)
    with pytest.raises(Unread, match="unread"):
        asyncio.run(Bodies().read(request))


Application = Callable[[Any, Any, Any], Awaitable[None]]


async def never(_scope: Any, _receive: Any, _send: Any) -> None:
    """Does not answer in time."""
    await asyncio.sleep(3)


async def much(_scope: Any, _receive: Any, send: Any) -> None:
    """Answers more than the network holds."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % (1 << 26))]})
    await send({"type": "http.response.body", "body": bytes(1 << 26)})


async def short(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@asynccontextmanager
async def served(application: Application) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(application, http=connections.Connection, lifespan="off", log_level="critical")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listening]))
        yield server, listening.getsockname()[1]
        server.should_exit = True
        await serving


@pytest.mark.parametrize(
    ("application", "first", "then"),
    [
        pytest.param(short, b"G", b"E", id="head"),
        pytest.param(short, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"G", id="next head"),
        pytest.param(short, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n", b".", id="body unasked"),
        pytest.param(never, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n", b".", id="no answer"),
        pytest.param(much, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2, b"G", id="answer not taken"),
    ],
)
def test_a_connection_that_goes_on_without_an_end_is_ended(
    monkeypatch: pytest.MonkeyPatch, application: Application, first: bytes, then: bytes
) -> None:
    monkeypatch.setattr(connections, "_HEAD", 0.5)
    monkeypatch.setattr(connections, "_REQUEST", 0.5)

    async def lasted() -> float:
        async with served(application) as (server, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            began = asyncio.get_running_loop().time()
            writer.write(first)
            await asyncio.sleep(0.1)
            with suppress(ConnectionError):
                while server.server_state.connections and asyncio.get_running_loop().time() < began + 5:
                    writer.write(then)
                    await asyncio.sleep(0.1)
            writer.transport.abort()
            return asyncio.get_running_loop().time() - began

    assert 0.4 < asyncio.run(lasted()) < 2


def test_a_connection_may_be_used_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_HEAD", 0.3)
    monkeypatch.setattr(connections, "_REQUEST", 0.3)

    async def answers() -> list[bytes]:
        async with served(short) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            found = []
            for _ in range(5):
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                found.append((await reader.readuntil(b"\r\n\r\n"))[:12])
                await asyncio.sleep(0.2)
            writer.close()
            return found

    assert asyncio.run(answers()) == [b"HTTP/1.1 204"] * 5
