"""A process of one contender: it loads the features, then runs its call once for every line that it reads.

It answers with one line of JSON each: seconds and bytes that the call took at most beyond what was there before.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.speed import floor, ours, peers
from benchmarks.speed.features import Data

if TYPE_CHECKING:
    from collections.abc import Callable


def _contender(name: str) -> Callable[[Data], Callable[[], object]]:
    by_name = {peer.name: peer.prepare for peer in peers.PEERS}
    return by_name.get(name) or floor.FLOORS.get(name) or ours.prepare(name)


def _memory(field: str) -> int:
    """Bytes by /proc; the largest so far where there is none."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(status.split(f"{field}:")[1].split()[0]) * 1024


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _on_device(device: str) -> Callable[[], int]:
    """Bytes allocated on a GPU since now at most, 0 without one."""
    if not device.startswith("cuda"):
        return lambda: 0
    import torch

    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    return lambda: torch.cuda.max_memory_allocated() - before


def _timed(call: Callable[[], object], device: str) -> dict[str, Any]:
    _forget_peak()
    before, on_device = _memory("VmRSS"), _on_device(device)
    start = time.perf_counter()
    call()
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "bytes": max(_memory("VmHWM") - before, on_device(), 0)}


def main(name: str, folder: str, device: str, memory: str) -> None:
    """Serves one contender."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a package prints is no answer
    if int(memory):
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
    data = Data(Path(folder), device)

    def answer(work: Callable[[], dict[str, Any]]) -> None:
        try:
            found = work()
        except Exception as error:  # noqa: BLE001 - whatever a package raises is its result
            text = str(error).strip().splitlines() or [""]
            found = {"failed": f"{type(error).__name__}: {text[0][:100]}"}
        answers.write(json.dumps(found) + "\n")
        answers.flush()

    prepared: list[Callable[[], object]] = []

    def prepare() -> dict[str, Any]:
        prepared.append(_contender(name)(data))
        return {}

    answer(prepare)
    for _ in sys.stdin:
        answer(lambda: _timed(prepared[0], device))


if __name__ == "__main__":
    main(*sys.argv[1:])
