"""What a version is handed to, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

NOTE = 2000  # characters of what a target said that are kept


@dataclass(frozen=True)
class Outcome:
    """What came of one attempt.

    Attributes:
        state: "again" where the way there failed, and not the version.
        note: The last of what the target said.
        exit_code: Of a check.
        wait: Seconds that must pass before another attempt.
    """

    state: Literal["dispatched", "checked", "failed", "again"]
    note: str = ""
    exit_code: int | None = None
    wait: float = 0


class Target(Protocol):
    """Something that takes a version."""

    @property
    def records(self) -> bool:
        """Whether it leaves a verdict in the registry before it returns."""

    async def __call__(self, name: str, version: str) -> Outcome:
        """Hand a version over; when cancelled, break off, or return after all."""
