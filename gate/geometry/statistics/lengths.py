"""Moments of the unit rows of each length."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from gate.geometry.statistics.batch import Batch
from gate.geometry.statistics.classes import UnitClassMoments
from gate.geometry.statistics.columns import Codes

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


class LengthMoments(UnitClassMoments):
    """Class moments of the unit rows x / |x| where the class is the length; zero rows are left out."""

    needs: ClassVar[tuple[str, ...]] = ("lengths",)

    @classmethod
    def classes_of(cls, batch: Batch) -> Codes:
        """The bin of the length of each row.

        Raises:
            MetricError: The batch has no lengths.
        """
        return length_bins(batch.numbers("lengths"))
