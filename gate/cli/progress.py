"""How far a check has come, on stderr, for a person at a terminal."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gate.evidence.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gate.streaming.passes import OnProgress


@contextmanager
def rows_done(what: str, *, shown: bool) -> Iterator[OnProgress | None]:
    """A function that takes the number of rows done so far, and of all where it is known; None when nobody looks.

    Args:
        what: Is being evaluated.
        shown: Whether it is wanted; a stderr that is no terminal shows nothing in any case.
    """
    if not (shown and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        SpinnerColumn(),
        TextColumn(escape(printable(what))),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[done]}"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None, done="")

        def update(rows: int, total: int | None) -> None:
            progress.update(task, completed=rows, total=total)
            rate = progress.tasks[0].speed
            of, pace = "" if total is None else f" of {total:,}", f", {rate:,.0f}/s" if rate else ""
            progress.update(task, done=f"{rows:,}{of} rows{pace}")

        yield update
