"""Looks after a running worker, in a thread of its own: what it prints, how long it takes, how much memory it holds."""

from __future__ import annotations

import os
import re
import select
import signal
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from gate.isolation.limits import Limits

_LOOK = 0.2
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_WARNING = re.compile(r"\S.*/(site|dist)-packages/.*:\d+: \w*Warning: ")
_KEPT = 64 << 10
_MOST_PRINTED = 64 << 20
_MOST_WRITTEN = 2 << 30
_LINES, _CHARACTERS = 5, 500
_RESIDENT = ("RssAnon:", "RssShmem:")


class Watch:
    """Kills a worker that goes beyond its limits.

    Args:
        process: Leads a process group of its own; reaped by nobody else.
        output: What it prints, standard output and errors together; closed at the end.
        limits: How much it may use.
        wake: Called when the worker has ended or was killed, so that nobody waits for it any longer.
        scratch: The folder that it may write to.

    Attributes:
        reason: Why it was killed, as the rest of a sentence about the model; None while it was not.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        output: IO[bytes],
        limits: Limits,
        wake: Callable[[], None],
        scratch: Path,
    ) -> None:
        self._scratch = scratch
        self._thread = threading.Thread(target=self._look, name=f"watch of worker {process.pid}", daemon=True)
        self.reason: str | None = None
        self._process, self._output, self._limits, self._wake = process, output, limits, wake
        self._deadline = None if limits.seconds is None else time.monotonic() + limits.seconds
        self._tail: deque[bytes] = deque()
        self._kept = self._printed = 0
        self._reaping = threading.Lock()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def ended(self, seconds: float) -> bool:
        """Whether the worker ends within some seconds."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _look(self) -> None:
        readable = select.poll()
        readable.register(self._output, select.POLLIN)
        listening = True
        while not self._stopped.is_set() and self._alive():
            if not listening:
                self._stopped.wait(_LOOK)
            elif readable.poll(self._patience() * 1000):
                listening = self._drain()
            self._judge()
        self._wake()

    def end(self) -> int:
        """Kill what still runs, reap it and read what it printed last; always the same `Popen.returncode`."""
        if self._output.closed:
            return self._process.wait()
        self._kill()
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()
        code = self._process.wait()
        os.set_blocking(self._output.fileno(), False)
        with suppress(BlockingIOError):  # someone else still holds the other end
            while self._drain():
                pass
        self._output.close()
        return code

    def last_lines(self) -> str:
        """What it printed last: some lines, printable, as the end of a sentence; warnings of libraries are left out."""
        text = _COLOURS.sub("", b"".join(self._tail).decode("utf-8", "replace")).replace("\r", "\n")
        printed = [line for line in text.splitlines() if line.strip()]
        lines = [line.strip() for line in _without_warnings(printed)]
        if not lines:
            return "it printed nothing but warnings of libraries" if printed else "it printed nothing"
        shown = " | ".join(lines[-_LINES:])[-_CHARACTERS:]
        return "it printed last: " + "".join(
            each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in shown
        )

    def _alive(self) -> bool:
        """Whether it runs; looked at without reaping it, so that its number stays its own."""
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:  # this process reaps its children unseen
            return False

    def _patience(self) -> float:
        if self._deadline is None:
            return _LOOK
        return min(_LOOK, max(0.0, self._deadline - time.monotonic()))

    def _drain(self) -> bool:
        """Take what there is to read; False at its end."""
        part = os.read(self._output.fileno(), _KEPT)
        self._printed += len(part)
        self._kept += len(part)
        self._tail.append(part)
        while self._kept - len(self._tail[0]) >= _KEPT:
            self._kept -= len(self._tail.popleft())
        return bool(part)

    def _judge(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._stop(f"took longer than the {self._limits.seconds:g} seconds that it may take (run.timeout)")
        elif self._printed > _MOST_PRINTED:
            self._stop(f"printed without end, more than {_MOST_PRINTED >> 20} MiB")
        elif (held := _resident(self._process.pid)) > self._limits.bytes:
            self._stop(
                f"held {held >> 20} MiB of memory, of the {self._limits.bytes >> 20} MiB that it may hold (run.memory)"
            )
        elif (written := _written(self._scratch)) > _MOST_WRITTEN:
            self._stop(f"wrote {written >> 20} MiB to its folder, of the {_MOST_WRITTEN >> 20} MiB that it may write")

    def _stop(self, reason: str) -> None:
        if self.reason is None:
            self.reason = reason
        self._kill()

    def _kill(self) -> None:
        with self._reaping, suppress(ProcessLookupError):
            if self._process.returncode is None:
                os.killpg(self._process.pid, signal.SIGKILL)


def _without_warnings(lines: list[str]) -> Iterator[str]:
    """All but warnings that Python prints for a library, each of which its source may follow, indented."""
    warned = False
    for line in lines:
        is_source = warned and line[0].isspace()
        warned = _WARNING.match(line) is not None
        if not (warned or is_source):
            yield line


def _written(folder: Path) -> int:
    """Bytes on the disk of all files below a folder, as far as they can be seen."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # gone again
                total += os.lstat(os.path.join(place, name)).st_blocks * 512  # noqa: PTH118 - many of them
    return total


def _resident(process: int) -> int:
    """Bytes of memory that no file stands behind; 0 when the process has gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(_RESIDENT))
