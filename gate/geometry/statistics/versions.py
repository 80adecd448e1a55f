"""Two versions' features of the same rows, fold by fold, so that a map between them can be judged on held-out rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from itertools import accumulate
from typing import ClassVar, Self

from gate.geometry.statistics.batch import Batch, Split
from gate.geometry.statistics.folds import ClassFolds, fold_count
from gate.geometry.statistics.pairs import (
    BaselineMoments,
    Centred,
    CrossMoments,
    FeatureMoments,
    PairMoments,
    PairSums,
)


@dataclass(frozen=True, eq=False)
class Versions:
    """The second moments of features x and y of the same rows: x with x, y with y, x with y."""

    xx: FeatureMoments
    yy: BaselineMoments
    xy: CrossMoments

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ("baseline",)
    holds: ClassVar[tuple[type, ...]] = (FeatureMoments, BaselineMoments, CrossMoments)

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch, of its features and its baseline: each tile is centred once."""
        x, y = Centred.of(batch.features), Centred.of(batch.numbers("baseline"))
        own, other, pair = PairSums.of(x, x), PairSums.of(y, y), PairSums.of(x, y)
        for u, v in zip(x.tiles(), y.tiles(), strict=True):
            own.add(u, u)
            other.add(v, v)
            pair.add(u, v)
        return cls(
            FeatureMoments.of_sums(own, x, x, batch.resolution),
            BaselineMoments.of_sums(other, y, y, batch.resolution),
            CrossMoments.of_sums(pair, x, y, batch.resolution),
        )

    def held(self, kind: type) -> PairMoments:
        """One of the three."""
        return (self.xx, self.yy, self.xy)[self.holds.index(kind)]

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        return type(self)(self.xx.merge(other.xx), self.yy.merge(other.yy), self.xy.merge(other.xy))

    @property
    def n(self) -> int:
        """Rows."""
        return self.xy.n


@dataclass(frozen=True, eq=False)
class CrossFolds:
    """Moments of the features and of the baseline, fold by fold.

    A row's fold is the hash of its id, or of its cluster where there are clusters, modulo the number of folds.
    """

    parts: tuple[Versions, ...]

    split: ClassVar[Split] = "probe"
    needs: ClassVar[tuple[str, ...]] = ("baseline",)
    holds: ClassVar[tuple[type, ...]] = (*Versions.holds, Versions)

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        folds = fold_count(max(batch.features.shape[1], batch.numbers("baseline").shape[1]))
        which = batch.folds % folds
        parts = [batch.rows((which == fold).nonzero()[:, 0]) for fold in range(folds)]
        return cls(tuple(Versions.of(part) for part in parts))

    def merge(self, other: Self) -> Self:
        """Of the rows of both."""
        return type(self)(tuple(a.merge(b) for a, b in zip(self.parts, other.parts, strict=True)))

    def whole(self) -> Versions:
        """Of all rows."""
        return reduce(Versions.merge, self.parts)

    def held(self, kind: type) -> Versions | PairMoments:
        """The moments over all rows, or those of one kind."""
        return self.whole() if kind is Versions else self.whole().held(kind)

    def splits(self) -> list[tuple[int, Versions, Versions, Versions, Versions]]:
        """For each fold that has rows: its index, all others, all but it and the inner one, the inner one, itself.

        The inner fold is its neighbour, so that runs from either end make every union with 2 merges a fold.

        Raises:
            ValueError: Fewer than three folds have rows.
        """
        kept = [fold for fold, part in enumerate(self.parts) if part.n > 0]
        if len(kept) < 3:
            raise ValueError(f"{len(kept)} folds have rows; an inner and an outer one need three")
        parts = [self.parts[fold] for fold in kept]
        heads = [None, *accumulate(parts, Versions.merge)]
        tails = [None, *accumulate(reversed(parts), Versions.merge)][::-1]
        result = []
        for place, fold in enumerate(kept):
            last = place == len(kept) - 1
            inner = place - 1 if last else place + 1
            low, high = min(place, inner), max(place, inner)
            outer = _union(heads[place], tails[place + 1])
            result.append((fold, outer, _union(heads[low], tails[high + 1]), parts[inner], parts[place]))
        return result


def _union(first: Versions | None, second: Versions | None) -> Versions:
    if first is None or second is None:
        found = first or second
        if found is None:
            raise ValueError("there are no rows")
        return found
    return first.merge(second)


class BaselineClassFolds(ClassFolds):
    """Moments and class moments of the baseline's features, fold by fold."""

    needs: ClassVar[tuple[str, ...]] = ("labels", "baseline")

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch."""
        return super().of(replace(batch, features=batch.numbers("baseline")))
