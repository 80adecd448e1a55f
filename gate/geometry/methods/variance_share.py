"""How much of the variance lies between groups, as an unbiased share with the influence of every row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from gate.geometry.influence import variance_of_mean
from gate.geometry.methods.row_pairs import without_pair_noise
from gate.geometry.statistics import CellMoments, ClassMoments, Sample
from gate.geometry.statistics.columns import place

_PAIRS = 1024  # rows whose pairs estimate the squared size of the covariance


@dataclass(frozen=True, eq=False)
class Table:
    """Groups within classes, cell by cell.

    Attributes:
        classes: C names.
        groups: G names.
        in_class: (K,) class of each cell.
        in_group: (K,) group of each cell.
        counts: (K,) float64 rows of each cell.
        means: (K, d).
        within: (K,) mean squared distance of a row to the mean of its cell.
    """

    classes: tuple[str, ...]
    groups: tuple[str, ...]
    in_class: Tensor
    in_group: Tensor
    counts: Tensor
    means: Tensor
    within: Tensor

    @classmethod
    def of_cells(cls, cells: CellMoments) -> Self:
        """Groups with their classes."""
        pairs = cells.pairs()
        classes = tuple(sorted({name for name, _ in pairs}))
        groups = tuple(sorted({name for _, name in pairs}))
        device = cells.means.device
        in_class = place(tuple(name for name, _ in pairs), classes, device)
        in_group = place(tuple(name for _, name in pairs), groups, device)
        return cls(classes, groups, in_class, in_group, cells.counts.double(), cells.means, cells.within)

    @classmethod
    def of_groups(cls, moments: ClassMoments) -> Self:
        """Groups of rows that are of no class."""
        order = torch.arange(moments.c, device=moments.means.device)
        counts = moments.counts.double()
        return cls(("",), moments.names, torch.zeros_like(order), order, counts, moments.means, moments.within)

    def by_class(self, terms: Tensor) -> Tensor:
        """Sum over the cells of each class."""
        return terms.new_zeros(len(self.classes), *terms.shape[1:]).index_add_(0, self.in_class, terms)

    def by_group(self, terms: Tensor) -> Tensor:
        """Sum over the cells of each group."""
        return terms.new_zeros(len(self.groups), *terms.shape[1:]).index_add_(0, self.in_group, terms)

    def crossing(self) -> Tensor:
        """Share of each group's membership that its classes leave open, (G,): 0 when nested in classes, 1 when even."""
        sizes = self.by_group(self.counts)
        in_classes = self.by_class(self.counts)[self.in_class]
        left: Tensor = 1 - self.by_group(self.counts.square() / (sizes[self.in_group] * in_classes))
        return left / (1 - sizes / sizes.sum()).clamp_min(torch.finfo(torch.float64).tiny)


@dataclass(frozen=True, eq=False)
class Share:
    """A share of the variance.

    Attributes:
        raw: Between / (between + within).
        value: The same of unbiased spreads: 0 on average when groups do not differ.
        influence: (m,) of each sampled row.
        variance: Of the value.
    """

    raw: Tensor
    value: Tensor
    influence: Tensor
    variance: float

    @classmethod
    def of(cls, table: Table, sample: Sample, classes: Tensor, groups: Tensor) -> Self | None:
        """Between groups, of rows about the mean of their class; None when there is no variance.

        With class means mu_c, residual group means r_g, n_cg rows a cell: B = sum_g pi_g |r_g|^2. Its expectation when
        groups do not differ, sum_g sum_h v_h sum_c n_ch ([h = g] - n_cg / n_c)^2 / (n n_g) for group variances v_h, is
        taken out; v_g has as many degrees of freedom as class and group means leave. With one class this is
        B - sum_g (1 - pi_g) v_g / n and n_g - 1. Derived here.

        Args:
            table: All rows by group and class.
            sample: The sampled rows.
            classes: (m,) class of each sampled row.
            groups: (m,) group of each.
        """
        sizes = table.by_group(table.counts)
        in_classes = table.by_class(table.counts)
        n = sizes.sum()
        centres = table.by_class(table.counts[:, None] * table.means) / in_classes[:, None]
        offsets = table.means - centres[table.in_class]
        shifts = table.by_group(table.counts[:, None] * offsets) / sizes[:, None]
        between = (sizes * shifts.square().sum(dim=1)).sum() / n
        squares = table.by_group(table.counts * (table.within + offsets.square().sum(dim=1)))
        total = squares.sum() / n
        if not total.item() > 0:
            return None
        part = table.counts / in_classes[table.in_class]
        open_ = 1 - table.by_group(table.counts * part) / sizes
        spread = (squares - sizes * shifts.square().sum(dim=1)) / (sizes - table.by_group(part) - open_)
        mixed = table.by_class(table.counts * spread[table.in_group])[table.in_class]
        null = table.by_group(table.counts * spread[table.in_group] * (1 - 2 * part) + part.square() * mixed) / sizes
        unbiased, within = between - null.sum() / n, (sizes * spread).sum() / n
        value = unbiased / (unbiased + within)
        own = sample.features.double() - centres[classes]
        drag = table.by_class(part[:, None] * shifts[table.in_group])
        along = 2 * (own * (shifts[groups] - drag[classes])).sum(dim=1) - shifts[groups].square().sum(dim=1)
        influence = (along - between - value * (own.square().sum(dim=1) - total)) / (unbiased + within)
        pairs = open_.sum().item() * _squared_size(own - shifts[groups]) / (n * (unbiased + within)).item() ** 2
        projected = variance_of_mean(influence, int(n))
        return cls(between / total, value, influence, without_pair_noise(projected, pairs))


def _squared_size(rows: Tensor) -> float:
    """Trace of the squared covariance of centred rows, from pairs of different ones: unbiased at any dimension."""
    kept = rows[:_PAIRS]
    products = (kept @ kept.T).square()
    return float(products.sum() - products.diagonal().sum()) / max(len(kept) * (len(kept) - 1), 1)
