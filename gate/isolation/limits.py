"""How much a model may use before it is stopped."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_CONTROL_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Limits:
    """Bounds of one worker.

    Attributes:
        seconds: Of wall time from its start to its end; None leaves it unbounded.
        memory: Bytes; None allows seven eighths of what the machine, or the container, has.
        cpu_seconds: Of all its threads together; None allows `seconds` on every processor.
    """

    seconds: float | None = None
    memory: int | None = None
    cpu_seconds: float | None = None

    @property
    def bytes(self) -> int:
        """Of memory, at most."""
        return _present() * 7 // 8 if self.memory is None else self.memory

    @property
    def processor_seconds(self) -> int | None:
        """Of all threads together, whole and at least 1; None where neither bound is set."""
        if self.cpu_seconds is not None:
            return max(1, round(self.cpu_seconds))
        return None if self.seconds is None else max(1, round(self.seconds * (os.cpu_count() or 1)) + 1)


def _present() -> int:
    """Bytes of memory of the machine, or of the container where that is less."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in _CONTROL_GROUPS:
        try:
            found.append(int(Path(name).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such hierarchy, or "max"
            continue
    return min(found)
