"""Times what changes a registry on a plain server and on a guarded one, in turns, and writes the table.

python -m benchmarks.enforcement [ROUNDS]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tests.enforcement import servers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from tests.enforcement.servers import Server

RESULTS = Path(__file__).with_name("RESULTS.md")
KINDS = {"": "plain", "gate+": "guarded"}


def main(rounds: int) -> None:
    """Start both servers, time each call on both in turns, and write the table."""
    with ExitStack() as stack:
        both = {kind: stack.enter_context(_server(stack, gate)) for gate, kind in KINDS.items()}
        found = measured(both, rounds)
    RESULTS.write_text(table(found, rounds), encoding="utf-8")


def measured(both: Mapping[str, Server], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of each kind of call on each server.

    Args:
        both: Kind of server → server.
        rounds: How often each call is made.
    """
    calls = {kind: _calls(server) for kind, server in both.items()}
    found: dict[str, dict[str, list[float]]] = {
        what: {kind: [] for kind in both} for what in next(iter(calls.values()))
    }
    for what, times in found.items():
        for number in range(rounds + 5):
            for kind in both:
                began = time.perf_counter()
                status = calls[kind][what]()
                if status != 200:
                    raise SystemExit(f"{what} on the {kind} server: {status}")
                if number >= 5:  # the first ones wake the workers
                    times[kind].append((time.perf_counter() - began) * 1000)
    return found


def _server(stack: ExitStack, gate: str) -> AbstractContextManager[Server]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    place = servers.place(folder, f"sqlite:///{servers.migrated(folder)}")
    return servers.guarded(place, gate=gate)


def _calls(server: Server) -> dict[str, Callable[[], int]]:
    version, model = server.passed(), server.model()
    return {
        "set a protected alias": lambda: server.promote(version).status_code,
        "set another alias": lambda: server.promote(version, "dev").status_code,
        "put a statement on a version": lambda: server.record(version).status_code,
        "upload a file of 7 bytes": lambda: server.put(f"{server.path(model)}/data/weights", b"weights")[0],
    }


def table(found: Mapping[str, Mapping[str, Sequence[float]]], rounds: int) -> str:
    """The results as a page."""
    lines = [
        "# What enforcement costs a registry server",
        "",
        f"Medians of {rounds} calls over HTTP to each of two servers in turns: 2 workers over SQLite.",
        "Every decision is on the disk before it takes effect.",
        "",
        "| Call | Plain, ms | Guarded, ms | More, ms |",
        "|---|---|---|---|",
    ]
    for what, times in found.items():
        plain, guarded = (statistics.median(times[kind]) for kind in KINDS.values())
        lines.append(f"| {what} | {plain:.1f} | {guarded:.1f} | {guarded - plain:+.1f} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 200)
