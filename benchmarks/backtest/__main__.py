"""Times `gate backtest` over many recorded checks, start-up included, on one core: `python -m benchmarks.backtest`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.backtest.store import NAME, fill

RESULTS = Path(__file__).with_name("RESULTS.md")


class Taken(NamedTuple):
    """Seconds on the clock, and of the processor."""

    wall: float
    cpu: float


def timed(uri: str, policy: Path) -> Taken:
    """One `gate backtest` in a process of its own, held to one core where the system can do that.

    Args:
        uri: Of the tracking store.
        policy: That is replayed.
    """
    command = [sys.executable, "-m", "gate", "backtest", str(policy), "--model", NAME, "-o", "json"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"}
    started, before = time.perf_counter(), os.times()
    done = subprocess.run(  # noqa: S603 - our own command line
        command, env=environment, stdout=subprocess.PIPE, check=False, preexec_fn=_on_one_core
    )
    after = os.times()
    if done.returncode:
        raise SystemExit(f"the backtest ended with {done.returncode}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Taken(time.perf_counter() - started, cpu)


def _on_one_core() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def main() -> None:
    """Records, replays and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", type=int, default=500)
    parser.add_argument("--times", type=int, default=15)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        uri, policy = fill(Path(folder), options.checks)
        recording = time.perf_counter() - started
        size = sum(path.stat().st_size for path in Path(folder).rglob("evidence.json")) / 1e6
        taken = [timed(uri, policy) for _ in range(options.times)]
    RESULTS.write_text(_page(options.checks, size, recording, taken), encoding="utf-8")


def _page(checks: int, size: float, recording: float, taken: list[Taken]) -> str:
    ranked = sorted(taken)
    rows = {"quickest": ranked[0], "median": ranked[len(ranked) // 2], "slowest": ranked[-1]}
    lines = [
        "# Backtest",
        "",
        f"`python -m benchmarks.backtest --checks {checks} --times {len(taken)}`: `gate backtest POLICY --model NAME`",
        f"over the recorded checks of {checks} versions, from the start of the process to its end, held to one core.",
        f"They lie in SQLite and in artifacts on disk: {size:.0f} MB of evidence, recorded in {recording:.0f} s.",
        "What else the machine does meanwhile lengthens the slower runs.",
        "",
        f"| of {len(taken)} runs | seconds on the clock | seconds of the processor |",
        "|---|---:|---:|",
        *(f"| {name} | {each.wall:.2f} | {each.cpu:.2f} |" for name, each in rows.items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
