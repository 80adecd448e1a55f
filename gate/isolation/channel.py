"""Messages between judge and worker: JSON behind its length, over a socket that only these two hold.

Nothing here is imported from outside the standard library: the worker reads its order before it is confined.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_BYTES = 1 << 20
_LENGTH = struct.Struct(">I")


class ClosedError(Exception):
    """The other side has gone."""


class MessageError(Exception):
    """The other side sent something that is not accepted; says what, as the end of a sentence."""


class Channel:
    """One end of the conversation.

    Args:
        connection: A stream socket; closed with the channel.
        most_bytes: Of a message that it receives.
    """

    def __init__(self, connection: socket.socket, most_bytes: int = MOST_BYTES) -> None:
        self._connection, self._most_bytes = connection, most_bytes

    def send(self, message: Mapping[str, object], *files: int) -> None:
        """One message, with open files beside it.

        Raises:
            ClosedError: The other side has gone.
        """
        body = json.dumps(message, allow_nan=False).encode()
        head = _LENGTH.pack(len(body))
        try:
            if files:
                sent = socket.send_fds(self._connection, [head], list(files))
                head = head[sent:]
            self._connection.sendall(head + body)
        except OSError as error:
            raise ClosedError from error

    def receive(self) -> dict[str, object]:
        """The next message; files that come with it are dropped by the kernel.

        Raises:
            ClosedError: The other side has gone.
            MessageError: What came is too long or is no JSON object.
        """
        return self._body(self._exactly(_LENGTH.size))

    def receive_with_file(self) -> tuple[dict[str, object], int | None]:
        """The next message, and the open file that came with it; for the worker, which trusts the judge.

        Raises:
            ClosedError: The other side has gone.
            MessageError: What came is too long or is no JSON object.
        """
        try:
            head, files, _, _ = socket.recv_fds(self._connection, _LENGTH.size, 1)
        except OSError as error:
            raise ClosedError from error
        if not head:
            raise ClosedError
        return self._body(head + self._exactly(_LENGTH.size - len(head))), files[0] if files else None

    def shut(self) -> None:
        """Wake whoever waits on this end; what has come already can still be received."""
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # closed already, by this side or the other
            return

    def close(self) -> None:
        """Give the socket back."""
        self._connection.close()

    def _body(self, head: bytes) -> dict[str, object]:
        (length,) = _LENGTH.unpack(head)
        if length > self._most_bytes:
            raise MessageError(f"a message of {length} bytes, expected at most {self._most_bytes}")
        return _parsed(self._exactly(length))

    def _exactly(self, length: int) -> bytes:
        parts = bytearray()
        while len(parts) < length:
            try:
                part = self._connection.recv(length - len(parts))
            except OSError as error:
                raise ClosedError from error
            if not part:
                raise ClosedError
            parts += part
        return bytes(parts)


def _parsed(body: bytes) -> dict[str, object]:
    try:
        message = json.loads(body.decode("utf-8"))
        # A lone surrogate is a text that no file can take.
        json.dumps(message, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise MessageError(f"a message that is no JSON of plain numbers and texts ({type(error).__name__})") from error
    if not isinstance(message, dict):
        raise MessageError(f"a message that is a {type(message).__name__}, expected an object")
    return message
