"""Checks a version on this machine, by `gate check` in a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process, create_subprocess_exec
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from gate.isolation.kernel import prctl
from gate.relay.target import NOTE, Outcome

_SECRETS = ("GATE_WEBHOOK_SECRET", "GATE_SECRET_FILE", "GITHUB_TOKEN")  # nothing that a model could want
_USAGE = 2
_COULD_NOT_EVALUATE = 3
_NO_REGISTRY = re.compile(r"^error\[registry\]: ", re.MULTILINE)
_PARENT_DEATH = 1  # of linux/prctl.h
_GRACE = 10  # seconds for a check that is told to end


@dataclass(frozen=True)
class Check:
    """Evaluates versions under a policy and records the evidence.

    Attributes:
        policy: File, or name of a pack.
        seconds: That one check may take.
    """

    policy: str
    seconds: float
    records: ClassVar[bool] = True

    async def __call__(self, name: str, version: str) -> Outcome:
        """Run one check to its end; when cancelled, it is told to end as by Ctrl-C, and then killed."""
        uri = f"models:/{name}/{version}"
        options = (f"--policy={self.policy}", "--record", "--no-dry-run", "--no-progress")
        environment = {key: value for key, value in os.environ.items() if key not in _SECRETS}
        try:
            process = await create_subprocess_exec(
                *(sys.executable, "-m", "gate", "check", uri, *options),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                env=environment,
                preexec_fn=_end_with_relay,
            )
        except OSError as error:  # too many processes, or too little memory, for now
            return Outcome("again", f"cannot start a check: {error}")
        try:
            async with asyncio.timeout(self.seconds):
                said = await _last(process)
                code = await process.wait()
        except TimeoutError:
            return Outcome("failed", f"ended after {self.seconds:g} seconds; see --time-limit")
        finally:
            await _end(process)
        return _outcome(code, said)


def _outcome(code: int, said: str) -> Outcome:
    if code == _COULD_NOT_EVALUATE and _NO_REGISTRY.search(said):
        return Outcome("again", said, code)
    # A signal, and what is wrong with the command line or the policy, say nothing of the version.
    return Outcome("failed" if code < 0 or code == _USAGE else "checked", said, code)


async def _last(process: Process) -> str:
    """The end of what a process says until it says no more."""
    kept = b""
    assert process.stdout is not None  # noqa: S101 - it is a pipe, for mypy
    while said := await process.stdout.read(1 << 16):
        kept = (kept + said)[-4 * NOTE :]
    return kept.decode("utf-8", "replace")[-NOTE:]


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError, TimeoutError):
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(_GRACE):
            await _last(process)  # a full pipe would hold it
            await process.wait()
    with suppress(ProcessLookupError):
        if process.returncode is None:
            process.kill()
    await process.wait()


def _end_with_relay() -> None:
    """Ask the kernel to kill this process when the relay dies: the next relay begins another check."""
    with suppress(OSError):
        prctl(_PARENT_DEATH, signal.SIGKILL)
