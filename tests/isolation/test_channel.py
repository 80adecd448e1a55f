from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest

from gate.isolation import arena
from gate.isolation.channel import MOST_BYTES, Channel, ClosedError, MessageError


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    mine, theirs = socket.socketpair()
    with mine, theirs:
        yield Channel(mine), theirs


def test_a_message_arrives_as_it_was_sent(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    message = {"kind": "x", "texts": ["naïve", ""], "number": 1.5, "nothing": None}
    Channel(other).send(message)
    assert channel.receive() == message


def test_a_file_comes_with_its_message(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    memory, file = arena.made(10)
    channel.send({"kind": "room"}, file)
    channel.send({"kind": "next"})
    os.close(file)
    message, received = Channel(other).receive_with_file()
    assert message == {"kind": "room"}
    assert received is not None
    memory[:4] = b"word"
    assert arena.mapped(received)[:4] == b"word"
    os.close(received)
    assert Channel(other).receive_with_file() == ({"kind": "next"}, None)


def test_a_file_that_nobody_asked_for_is_dropped(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - as many as there are
    reading, writing = os.pipe()
    Channel(other).send({"kind": "x"}, writing)
    os.close(writing)
    assert channel.receive() == {"kind": "x"}
    assert os.read(reading, 1) == b""
    os.close(reading)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - as above


def test_an_end_that_has_gone_is_told(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.close()
    for act in (channel.receive, channel.receive_with_file, lambda: channel.send({})):
        with pytest.raises(ClosedError):
            act()


def test_half_a_message_is_no_message(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.sendall(struct.pack(">I", 5) + b"{")
    other.close()
    with pytest.raises(ClosedError):
        channel.receive()


def test_a_message_has_a_longest_length(ends: tuple[Channel, socket.socket]) -> None:
    channel, other = ends
    other.sendall(struct.pack(">I", MOST_BYTES + 1))
    with pytest.raises(MessageError, match=f"a message of {MOST_BYTES + 1} bytes, expected at most {MOST_BYTES}"):
        channel.receive()


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"{", b"[" * 50_000, b'{"x": NaN}', b'{"x": -Infinity}', b'{"x": "\\udfff"}', b"1" * 5000]
)
def test_what_is_no_json_is_refused(ends: tuple[Channel, socket.socket], body: bytes) -> None:
    channel, other = ends
    other.sendall(struct.pack(">I", len(body)) + body)
    with pytest.raises(MessageError, match="no JSON of plain numbers and texts"):
        channel.receive()


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"x"'])
def test_what_is_no_object_is_refused(ends: tuple[Channel, socket.socket], body: bytes) -> None:
    channel, other = ends
    other.sendall(struct.pack(">I", len(body)) + body)
    with pytest.raises(MessageError, match="expected an object"):
        channel.receive()


def test_shared_memory_keeps_its_size() -> None:
    memory, file = arena.made(5000)
    for size in (0, 4999, 5001):
        with pytest.raises(PermissionError):
            os.ftruncate(file, size)
    os.close(file)
    assert len(memory) == 5000


def test_shared_memory_has_a_largest_size() -> None:
    with pytest.raises(MessageError, match="bytes for one batch, expected at most"):
        arena.made(arena.MOST_BYTES + 1)


@pytest.mark.parametrize(
    ("wanted", "present", "expected"),
    [(10, 0, 10), (10, 8, 16), (100, 8, 100), (arena.MOST_BYTES, arena.MOST_BYTES - 1, arena.MOST_BYTES)],
)
def test_shared_memory_grows_at_least_twofold(wanted: int, present: int, expected: int) -> None:
    assert arena.grown(wanted, present) == expected
