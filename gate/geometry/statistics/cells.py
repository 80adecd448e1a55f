"""Moments of the rows of each group within each class."""

from __future__ import annotations

from typing import ClassVar

import torch

from gate.geometry.statistics.batch import Batch
from gate.geometry.statistics.classes import ClassMoments
from gate.geometry.statistics.columns import Codes


def crossed(classes: Codes, groups: Codes) -> Codes:
    """The pairs of a class and a group that occur; the name of a pair begins with the length of its class."""
    cells, values = (classes.values * len(groups.names) + groups.values).unique(return_inverse=True)
    pairs = [divmod(cell, len(groups.names)) for cell in cells.tolist()]
    names = [f"{len(classes.names[c])}:{classes.names[c]}{groups.names[g]}" for c, g in pairs]
    order = sorted(range(len(names)), key=names.__getitem__)
    places = torch.empty(len(names), dtype=torch.int64)
    places[order] = torch.arange(len(names))
    return Codes(tuple(names[i] for i in order), places.to(values.device)[values])


class CellMoments(ClassMoments):
    """Moments of the rows of each group within each class; without labels all rows are of one class."""

    needs: ClassVar[tuple[str, ...]] = ("groups",)
    leaves: ClassVar[tuple[str, ...]] = ()
    by: ClassVar[str] = "groups"

    @classmethod
    def classes_of(cls, batch: Batch) -> Codes:
        """The class and the group of each row.

        Raises:
            MetricError: The batch has no groups.
        """
        groups = batch.class_codes(cls.by)
        return crossed(batch.labels or Codes(("",), torch.zeros_like(groups.values)), groups)

    def pairs(self) -> list[tuple[str, str]]:
        """Class and group of each cell."""
        split = ((int(size), rest) for size, _, rest in (name.partition(":") for name in self.names))
        return [(rest[:size], rest[size:]) for size, rest in split]
