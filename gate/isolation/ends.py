"""How a worker ended that did not answer, in words."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gate.isolation.limits import Limits


def ended(code: int, limits: Limits) -> str:
    """What happened, as the rest of a sentence about the model.

    Args:
        code: As `Popen.returncode`: negative for a signal.
        limits: What it was allowed.
    """
    of = "" if limits.memory is None else f" (it may hold {limits.memory >> 20} MiB of memory: run.memory)"
    if code >= 0:
        return f"ended its process, with code {code}, instead of answering{of}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "a real-time signal"
    seconds = limits.processor_seconds
    if -code == signal.SIGXCPU:
        return f"used more than the {seconds} seconds of processor time that it may use"
    if -code == signal.SIGKILL:
        spent = "" if seconds is None else f", or the {seconds} seconds of processor time were over"
        return f"was killed by signal 9 (SIGKILL): the machine ran out of memory, or someone killed it{spent}"
    return f"crashed with signal {-code} ({name}){of}"
