"""A command that is over in seconds, without the collector of cyclic garbage."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def without_collector() -> Iterator[None]:
    """For what imports much and reads hundreds of documents: the collector would go through it all again and again.

    Of a backtest over 500 checks that is a third of the time; the memory is the same, for nothing there is in cycles.
    What is left is set aside, so that the end of the process does not go through it either.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.freeze()
            gc.enable()
