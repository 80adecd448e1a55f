"""Workers of the models beside this file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gate.isolation import Isolated, Limits

HERE = Path(__file__).parent


def isolated(target: str, job: dict[str, Any] | None = None, *readable: Path, **more: Any) -> Isolated:
    """A worker that opens "module:function" of this folder, and gives one kind of features, "rows"."""
    options: dict[str, Any] = {
        "features": ["rows"],
        "weights": ["head.weight", "head.bias"],
        "limits": Limits(seconds=120),
        **more,
    }
    return Isolated(job or {}, readable, modules=[HERE], target=target, **options)


def alive(process: int) -> bool:
    """Whether a process is there, be it only as a zombie."""
    return Path(f"/proc/{process}").exists()


def open_files() -> set[tuple[str, str]]:
    """Number and target of every open file of this process."""
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        try:
            found.add((each.name, str(each.readlink())))
        except FileNotFoundError:  # the one that listed them
            continue
    return found
