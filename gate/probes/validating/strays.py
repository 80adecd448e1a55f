"""Texts in a column of numbers: a reader of CSV makes a column of texts of it, which a model could be shown as such."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gate.probes.rows import are_texts, decoded, is_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from gate.probes.validating.facts import Array

_SHOWN = 3
_NUMBER = r"^\s*[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|nan|inf|infinity)\s*$"


@dataclass(frozen=True)
class Strays:
    """The values of one column that are no numbers, where nearly all of what stands beside them is.

    Attributes:
        column: Of the input, or of its second view.
        places: The numbers of their rows, ascending.
        values: The first of them, each once.
        among: How many columns of numbers there are beside it.
    """

    column: str
    places: Array
    values: tuple[str, ...]
    among: int


@dataclass
class _Texts:
    """A column of texts, as far as it was read."""

    numbers: int = 0
    places: list[Array] = field(default_factory=list)
    values: dict[str, None] = field(default_factory=dict)

    @property
    def others(self) -> int:
        return sum(map(len, self.places))


class StraysAmong:
    """Looks for them in columns that are shown together.

    Args:
        columns: Their names.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        # Of one column by itself nobody can tell which of its texts were meant to be numbers.
        self._columns = columns if len(columns) > 1 else ()
        self._numbers: set[str] = set()
        self._texts: dict[str, _Texts] = {}
        self._is_one_row = True  # as far as can be told: of numbers, and of texts that most often are numbers

    def add(self, record: pa.RecordBatch, start: int) -> None:
        """Some more rows, the first of which has this number."""
        for name in self._columns if self._is_one_row else ():
            column = decoded(record.column(name))
            if are_texts(column.type):
                texts = self._texts.setdefault(name, _Texts())
                _look(texts, column, start)
                self._is_one_row &= texts.others <= texts.numbers
            elif is_number(column.type):
                self._numbers.add(name)
            else:
                self._is_one_row = False

    def found(self) -> Iterator[Strays]:
        """After the last row: the columns of numbers that hold texts; none where a column is one of texts."""
        import numpy as np

        for name, texts in self._texts.items() if self._is_one_row and self._numbers else ():
            if texts.others:
                yield Strays(name, np.concatenate(texts.places), tuple(texts.values), len(self._numbers))


def _look(texts: _Texts, column: pa.Array, start: int) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    is_filled = pc.greater(pc.binary_length(column), 0).fill_null(fill_value=False)
    reads = pc.match_substring_regex(column, _NUMBER, ignore_case=True).fill_null(fill_value=False)
    others = pc.and_(is_filled, pc.invert(reads))
    places = np.flatnonzero(others.to_numpy(zero_copy_only=False))
    texts.numbers += pc.sum(reads).as_py() or 0
    texts.places.append(places + start)
    if len(texts.values) < _SHOWN:
        more = column.take(pa.array(places[:_SHOWN])).to_pylist()
        texts.values |= dict.fromkeys([*texts.values, *more][:_SHOWN])
