"""Several statistics of the same rows, as one statistic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor

from gate.geometry.statistics.batch import Batch
from gate.geometry.statistics.census import RowCensus
from gate.geometry.statistics.sample import Sample


class Statistic(Protocol):
    """What a metric may ask for by annotation.

    Attributes:
        needs: Columns that the rows must have ("labels").
        leaves: Fields that a metric may differentiate by.
    """

    needs: ClassVar[tuple[str, ...]]
    leaves: ClassVar[tuple[str, ...]]

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""

    def merge(self, other: Any) -> Self:  # noqa: ANN401 - of its own kind, which a protocol cannot say
        """Of the rows of both."""

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """How each sampled row moves a function of this statistic with this gradient, (m,) float64."""


@dataclass(frozen=True, eq=False)
class Collection:
    """The statistics that some metrics ask for, of the same rows."""

    census: RowCensus
    sample: Sample
    parts: Mapping[type[Statistic], Statistic]

    @classmethod
    def of(cls, batch: Batch, kinds: Iterable[type[Statistic]]) -> Self:
        """Of one batch; kinds whose columns the rows do not have are left out."""
        wanted = [kind for kind in kinds if batch.columns.issuperset(kind.needs)]
        return cls(
            RowCensus.of(batch), Sample.of(batch), {kind: kind.of(batch) for kind in wanted if kind is not Sample}
        )

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        parts = {kind: part.merge(other.parts[kind]) for kind, part in self.parts.items()}
        return type(self)(self.census.merge(other.census), self.sample.merge(other.sample), parts)

    def get(self, kind: type[Statistic]) -> Statistic | None:
        """The statistic of a kind, None when the rows do not have what it needs."""
        return self.sample if kind is Sample else self.parts.get(kind)
