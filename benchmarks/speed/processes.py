"""Contenders in processes of their own, within limits of time and memory."""

from __future__ import annotations

import json
import os
import select
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_ROOT = Path(__file__).parents[2]
_LOADING = 300.0  # seconds for imports and features


@dataclass(frozen=True)
class Limits:
    """What a contender may take.

    Attributes:
        seconds: Of one call, and of all calls before the last one begins.
        gigabytes: Of memory that it allocates, 0 for no limit.
        threads: Of every library.
        device: For those that know devices.
    """

    seconds: float
    gigabytes: float
    threads: int
    device: str


@dataclass
class Contender:
    """A call that is repeated in its own process.

    Attributes:
        name: In the table.
        seconds: Of each call.
        peak: Largest memory of a call beyond what was there before, in bytes.
        failed: Why there is no number.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    peak: int = 0
    failed: str | None = None
    process: subprocess.Popen[str] | None = None

    @property
    def median(self) -> float | None:
        """Seconds of the calls after the first, which warms up, unless it was the only one; None where it failed."""
        return median(self.seconds[1:] or self.seconds) if self.seconds else None

    def start(self, python: Path, folder: Path, limits: Limits, paths: Iterable[str]) -> Self:
        """Has it import its package and load the features, in the background."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(limits.threads))
        environment = os.environ | threads | {"PYTHONPATH": os.pathsep.join([str(_ROOT), *paths])}
        memory = str(int(limits.gigabytes * 2**30))
        self.process = subprocess.Popen(  # noqa: S603 - the worker beside this file
            [
                str(python),
                "-W",
                "ignore",
                "-m",
                "benchmarks.speed.worker",
                self.name,
                str(folder),
                limits.device,
                memory,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        return self

    def wait(self) -> Self:
        """Until it has loaded everything."""
        self._answer(_LOADING)
        return self

    def run(self, limits: Limits) -> None:
        """One more call, unless it failed before or has had its time."""
        if self.process is None or self.process.stdin is None or sum(self.seconds) > limits.seconds:
            return
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self._answer(limits.seconds)

    def stop(self) -> None:
        """Ends its process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _answer(self, seconds: float) -> None:
        process = self.process
        if process is None or process.stdout is None:
            return
        ready = select.select([process.stdout], [], [], seconds)[0]
        line = process.stdout.readline() if ready else ""
        if not ready:
            self._fail(f"more than {seconds:.0f} s")
        elif not line:
            self._fail("ended by the system, most likely for its memory")
        else:
            found = json.loads(line)
            if "failed" in found:
                self._fail(found["failed"])
            elif "seconds" in found:
                self.seconds.append(found["seconds"])
                self.peak = max(self.peak, found["bytes"])

    def _fail(self, reason: str) -> None:
        self.failed, self.seconds = reason, []
        self.stop()


def interleave(contenders: list[Contender], rounds: int, limits: Limits, tell: Callable[[str], object]) -> None:
    """Runs every contender once a round, so that a busy moment of the machine meets all of them alike."""
    for contender in contenders:
        contender.wait()
    for number in range(rounds):
        for contender in contenders:
            contender.run(limits)
        tell(f"  round {number + 1} of {rounds}\n")
