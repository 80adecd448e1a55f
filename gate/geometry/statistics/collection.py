"""Several statistics of the same rows, as one statistic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self, cast, runtime_checkable

from torch import Tensor

from gate.errors import MetricError
from gate.geometry.statistics.batch import Batch, Split
from gate.geometry.statistics.census import RowCensus
from gate.geometry.statistics.classes import LabelledMoments, UnitLabelledMoments
from gate.geometry.statistics.folds import ClassFolds, MomentFolds
from gate.geometry.statistics.moments import Moments
from gate.geometry.statistics.precision import full_precision
from gate.geometry.statistics.sample import Sample
from gate.geometry.statistics.spectrum import Spectrum
from gate.geometry.statistics.versions import CrossFolds, Versions


class Statistic(Protocol):
    """What a metric may ask for by annotation.

    Attributes:
        split: Which rows it is of.
        needs: Columns and weights that the rows must have ("labels").
    """

    split: ClassVar[Split]
    needs: ClassVar[tuple[str, ...]]

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""

    def merge(self, other: Any) -> Self:  # noqa: ANN401 - of its own kind, which a protocol cannot say
        """Of the rows of both."""


@runtime_checkable
class Differentiable(Statistic, Protocol):
    """A statistic by which a metric may be differentiated.

    Attributes:
        leaves: Fields to differentiate by; none where only the metric itself knows the influence of a row.
    """

    leaves: ClassVar[tuple[str, ...]]

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """How each sampled row moves a function of this statistic with this gradient, (m,) float64."""


class Whole(Statistic, Protocol):
    """A statistic from which others of the same rows follow.

    Attributes:
        holds: The kinds that follow from it.
    """

    holds: ClassVar[tuple[type, ...]]

    def held(self, kind: type) -> Any:  # noqa: ANN401 - of that kind
        """The statistic of one of these kinds."""


_TOGETHER: tuple[type[Whole], ...] = (LabelledMoments, UnitLabelledMoments, Versions)  # cheaper than their parts are
_WHOLES: tuple[type[Whole], ...] = (ClassFolds, CrossFolds, MomentFolds, *_TOGETHER)


@dataclass(frozen=True, eq=False)
class Collection:
    """The statistics that some metrics ask for, of the rows of every split.

    Attributes:
        censuses: Counts by split.
        parts: The statistics that were folded; those that follow from another one are derived when asked for.
    """

    censuses: Mapping[Split, RowCensus]
    parts: Mapping[type[Statistic], Statistic]
    derived: dict[type[Statistic], Statistic] = field(default_factory=dict)

    @classmethod
    @full_precision()
    def of(cls, batch: Batch, kinds: Iterable[type[Statistic]]) -> Self:
        """Of one batch; kinds of other rows, and those whose columns the rows do not have, are left out."""
        folded = dict.fromkeys(_source(kind) for kind in kinds)
        wanted = [kind for kind in folded if kind.split == batch.split and batch.has(kind.needs)]
        wanted += [whole for whole in _TOGETHER if set(whole.holds) <= set(wanted)]
        for whole in _WHOLES:
            if whole in wanted:
                wanted = [kind for kind in wanted if kind not in whole.holds]
        if batch.split == Sample.split and Sample not in wanted:
            wanted.append(Sample)
        return cls({batch.split: RowCensus.of(batch)}, {kind: kind.of(batch) for kind in wanted})

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        return type(self)(_merged(self.censuses, other.censuses), _merged(self.parts, other.parts))

    @property
    def census(self) -> RowCensus:
        """Counts of the probe rows.

        Raises:
            MetricError: There are none.
        """
        if Sample.split not in self.censuses:
            raise MetricError("there are no probe rows to measure")
        return self.censuses[Sample.split]

    @property
    def sample(self) -> Sample:
        """The sampled probe rows."""
        return cast("Sample", self.parts[Sample])

    def get(self, kind: type[Statistic]) -> Statistic | None:
        """The statistic of a kind, None when the rows do not have what it needs."""
        if kind in self.parts:
            return self.parts[kind]
        if kind not in self.derived:
            found = self._derive(kind)
            if found is None:
                return None
            self.derived[kind] = found
        return self.derived[kind]

    def _derive(self, kind: type[Statistic]) -> Statistic | None:
        if issubclass(kind, Spectrum):
            moments = self.get(kind.source)
            return kind.of_moments(moments) if isinstance(moments, Moments) else None
        whole = next((each for each in _WHOLES if each in self.parts and kind in each.holds), None)
        return cast("Whole", self.parts[whole]).held(kind) if whole else None


def _source(kind: type[Statistic]) -> type[Statistic]:
    """The statistic that is folded for a kind."""
    return kind.source if issubclass(kind, Spectrum) else kind


def _merged(first: Mapping[Any, Any], second: Mapping[Any, Any]) -> dict[Any, Any]:
    return {
        key: first[key].merge(second[key]) if key in first and key in second else (first.get(key) or second[key])
        for key in dict.fromkeys((*first, *second))
    }
