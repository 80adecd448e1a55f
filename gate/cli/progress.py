"""How far a check has come, on stderr, for a person at a terminal."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gate.evidence.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def rows_done(what: str, *, shown: bool) -> Iterator[Callable[[int], None] | None]:
    """A function that takes the number of rows done so far; None when nobody looks.

    Args:
        what: Is being evaluated.
        shown: Whether it is wanted; a stderr that is no terminal shows nothing in any case.
    """
    if not (shown and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn(escape(printable(what))),
        TextColumn("{task.completed} rows"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)

        def update(rows: int) -> None:
            progress.update(task, completed=rows)

        yield update
