"""The two tasks beside the receiver: workers, which hand versions to the target, and the reconciler."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from gate.errors import RegistryError
from gate.models import versions
from gate.relay.journal import tell
from gate.relay.selection import ignored

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gate.relay.queue import Queue, Taken
    from gate.relay.target import Outcome, Target

_Result = TypeVar("_Result")
_IDLE = 0.2  # seconds between two looks at the queue
_LONGEST_WAIT = 600


@dataclass(frozen=True)
class Effort:
    """How much is done, and how often.

    Attributes:
        workers: Versions that are handed over at a time.
        attempts: After which a version is given up.
        backoff: Seconds before the second attempt; doubled before each further one, at most 10 minutes.
        reconcile: Seconds between two looks at the registry.
    """

    workers: int = 1
    attempts: int = 8
    backoff: int = 5
    reconcile: int = 300


class Work:
    """What goes on beside the receiver, from `start` to `end`.

    Args:
        queue: That the versions come from.
        target: That they are handed to.
        patterns: Of the names that concern the relay.
        effort: How much is done, and how often.

    Attributes:
        reconciled: When the registry was last met whole, in seconds since 1970; None before.
        took: Seconds that this lasted.
        registry_fault: Why the registry could not be listed the last time.
    """

    def __init__(self, queue: Queue, target: Target, patterns: Sequence[str], effort: Effort) -> None:
        self._queue, self._target, self._patterns, self._effort = queue, target, patterns, effort
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ending = False
        self.reconciled: float | None = None
        self.took = 0.0
        self.registry_fault: str | None = None

    def start(self) -> None:
        """Begin."""
        self._queue.resume(recording=self._target.records)
        self._tasks = {"reconciler": asyncio.create_task(self._reconcile())}
        for number in range(1, self._effort.workers + 1):
            self._tasks[f"worker {number}"] = asyncio.create_task(self._work())

    async def end(self) -> None:
        """Break off what is being done; its version goes back into the queue."""
        self._ending = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._queue.release()

    def dead(self) -> str | None:
        """The first task that ended by itself, as a sentence; None while all live."""
        for name, task in self._tasks.items():
            if task.done():
                cause = None if task.cancelled() else task.exception()
                return f"the {name} has died: {cause!r}; start the relay again"
        return None

    async def _work(self) -> None:
        while not self._ending:
            taken = await _insist(lambda: self._queue.take(time.time()))
            if taken is None:
                await asyncio.sleep(_IDLE)
                continue
            tell("version", decision="begun", model=taken.name, version=taken.version, attempt=taken.attempt)
            await self._settle(taken, await self._target(taken.name, taken.version))

    async def _settle(self, taken: Taken, outcome: Outcome) -> None:
        state = outcome.state if outcome.state != "again" else "queued"
        wait = 0.0
        if state == "queued" and taken.attempt >= self._effort.attempts:
            state = "failed"
        elif state == "queued":
            wait = max(outcome.wait, min(self._effort.backoff * 2 ** (taken.attempt - 1), _LONGEST_WAIT))
        tell(
            "version",
            decision=state,
            model=taken.name,
            version=taken.version,
            attempt=taken.attempt,
            exit_code=outcome.exit_code,
            again_after=wait or None,
            note=None if state in ("dispatched", "checked") else outcome.note,
        )
        due = time.time() + wait
        await _insist(lambda: self._queue.settle(taken, state, exit_code=outcome.exit_code, note=outcome.note, due=due))

    async def _reconcile(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await _insist(self._meet)
                self.reconciled, self.registry_fault = time.time(), None
                self.took = time.monotonic() - began
            except RegistryError as error:
                self.registry_fault = str(error)
                tell("reconcile", decision="failed", reason=self.registry_fault)
            await asyncio.sleep(self._effort.reconcile)

    def _meet(self) -> None:
        """Hold the whole registry against the queue, in a thread."""
        seen: Counter[str] = Counter()
        for page in versions.pages():
            why = [ignored(each.name, each.source, self._patterns) for each in page]
            seen.update(f"ignored: {reason}" for reason in why if reason)
            wanted = [each for each, reason in zip(page, why, strict=True) if reason is None]
            queued, room = self._queue.meet(wanted)
            for each in queued:
                tell("reconcile", decision="queued", model=each.name, version=each.version)
            seen.update({"versions": len(page), "queued": len(queued), "queue full": not room})
        self._queue.meet_all()
        tell("reconcile", decision="done", **seen)


async def _insist(call: Callable[[], _Result]) -> _Result:
    """What a call on the queue returns, in a thread; a file that is locked or full may be fine later.

    Until then /health says what is wrong.
    """
    while True:
        try:
            return await asyncio.to_thread(call)
        except sqlite3.OperationalError as error:
            tell("relay", decision="waits for the queue", reason=str(error))
            await asyncio.sleep(1)
