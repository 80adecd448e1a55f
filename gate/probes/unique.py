"""Whether an id occurs twice, however many rows there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gate.errors import ProbeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

    Ids = Callable[[int], Iterator[tuple[str, ...]]]


class SeenIds:
    """Finds an id that occurs twice, at 8 bytes a row: by hash first, then by reading the suspects again.

    Args:
        uri: Of the probe set, for messages.
        again: Reads all ids, so many at a time.
    """

    def __init__(self, uri: str, again: Ids) -> None:
        self._uri = uri
        self._again = again
        self._hashes: list[np.ndarray[Any, Any]] = []

    def add(self, ids: tuple[str, ...]) -> None:
        """Some more ids.

        Raises:
            ProbeError: One occurs twice among them.
        """
        import numpy as np

        self._hashes.append(np.fromiter(map(hash, ids), dtype=np.int64, count=len(ids)))
        if len(set(ids)) < len(ids):
            self._refuse(next(name for position, name in enumerate(ids) if name in ids[:position]))

    def require_unique(self) -> None:
        """After the last of them.

        Raises:
            ProbeError: One occurs twice.
        """
        import numpy as np

        ordered = np.sort(np.concatenate(self._hashes))
        suspects = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
        known: set[str] = set()
        for ids in self._again(len(self._hashes[0])) if suspects else ():
            for name in ids:
                if name in known:
                    self._refuse(name)
                if hash(name) in suspects:
                    known.add(name)

    def _refuse(self, name: str) -> None:
        raise ProbeError(f"{self._uri}: id {name!r} occurs more than once; ids must be unique")
