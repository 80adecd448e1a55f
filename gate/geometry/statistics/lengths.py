"""Moments of the unit rows of each length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from gate.geometry.statistics.batch import Batch, per_live_row, unit_rows
from gate.geometry.statistics.classes import ClassMoments
from gate.geometry.statistics.columns import Codes, place

if TYPE_CHECKING:
    from gate.geometry.statistics.sample import Sample

STEPS = 8  # bins to a doubling of the length
_OFFSET = 100_000  # makes names of bins, also of lengths below 1, sort as their numbers
UNREAD = "000000"


def length_bins(lengths: Tensor) -> Codes:
    """Bin of each length: from 2^(k/8) up to 2^((k+1)/8), under the number k; the bins are the same for any rows.

    Args:
        lengths: (n,).

    Lengths that are not positive get the name `UNREAD`: whoever reads the bins refuses them.
    """
    numbers = (STEPS * lengths.double().log2() + 1e-9).floor().nan_to_num(neginf=-_OFFSET).to(torch.int64)
    numbers = torch.where(lengths > 0, numbers, -_OFFSET)
    found, places = numbers.unique(return_inverse=True)
    return Codes(tuple(f"{number + _OFFSET:06d}" for number in found.tolist()), places)


def shortest(name: str) -> float:
    """Smallest length of the bin of this name."""
    return float(2.0 ** ((int(name) - _OFFSET) / STEPS))


class LengthMoments(ClassMoments):
    """Class moments of the unit rows x / |x| where the class is the length; zero rows are left out."""

    needs: ClassVar[tuple[str, ...]] = ("lengths",)

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Of one batch.

        Raises:
            MetricError: The batch has no lengths.
        """
        rows, alive = unit_rows(batch.numbers(cls.column))
        bins = length_bins(batch.numbers("lengths"))
        index = alive.nonzero()[:, 0]
        return cls.of_rows(rows[index], bins.rows(index))

    def codes_of(self, batch: Batch) -> Tensor:
        """Index of the bin of each row of a batch, (n,) int64."""
        bins = length_bins(batch.numbers("lengths"))
        return place(bins.names, self.names, bins.values.device)[bins.values]

    def influence(self, gradient: Mapping[str, Tensor], sample: Sample) -> Tensor:
        """As for `ClassMoments`, over the rows that have a direction."""
        rows, alive = unit_rows(sample.rows.numbers(self.column))
        return per_live_row(self._influence(gradient, rows, self.codes_of(sample.rows)), alive)
