from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Things that a model must not reach, each of them there: a key, servers, another process."""
    outside, model = tmp_path_factory.mktemp("outside"), tmp_path_factory.mktemp("model")
    for name in ("key", "empties", "removes"):
        (outside / name).write_text("secret", encoding="utf-8")
    (outside / "key").chmod(0o600)
    (model / "MLmodel").write_text("flavors: {}", encoding="utf-8")
    abstract = f"\0gate-{outside.name}-{id(outside)}"
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        for address, kind in (
            (str(outside / "socket"), socket.SOCK_STREAM),
            (str(outside / "datagrams"), socket.SOCK_DGRAM),
            (abstract, socket.SOCK_STREAM),
        ):
            listening = stack.enter_context(socket.socket(socket.AF_UNIX, kind))
            listening.bind(address)
            if kind == socket.SOCK_STREAM:
                listening.listen(64)
        victim = stack.enter_context(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
        stack.callback(victim.kill)
        yield {
            "port": server.getsockname()[1],
            "abstract": abstract,
            "victim": victim.pid,
            "model": str(model),
            "judge": os.getpid(),
            "own": "",
            **{name: str(outside / name) for name in ("key", "empties", "removes", "socket", "datagrams")},
        }
