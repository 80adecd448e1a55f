"""Some feature rows with what is known of each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.statistics.columns import HASH_BITS, Codes, hash_ids, read_columns, working

Split = Literal["probe", "reference", "ood", "shifted"]
_HALF = 1e-6  # rounding units above it are those of half precision
_SMALLEST = 1e-38  # length of which the inverse still fits into float32
IN_CACHE = 256  # rows of a tile that is read several times


def row_fingerprints(rows: Tensor) -> Tensor:
    """A hash of the bytes of each row, (n,) int64: equal rows have equal ones, and two others collide by luck alone."""
    words = -(-rows.shape[1] * rows.element_size() // 8)
    generator = torch.Generator().manual_seed(0x5EED)
    odd = (torch.randint(-(2**62), 2**62, (words,), generator=generator, dtype=torch.int64) * 2 + 1).to(rows.device)
    return _mix(by_tile(lambda tile: (_mix(_words(tile)) * odd).sum(dim=1), rows))


def _words(rows: Tensor) -> Tensor:
    plain = rows + 0.0  # makes -0.0 and 0.0 one
    if plain.element_size() < 8 and plain.shape[1] % 2:
        plain = torch.nn.functional.pad(plain, (0, 1))
    return plain.view(torch.int64)


def hash_numbers(numbers: Tensor, seed: int = 0) -> Tensor:
    """A hash of each row number, (n,) int64 in [0, 2^62), for rows that have no ids of their own."""
    start = int(hash_ids([""], seed)[0])
    return _mix(numbers.to(torch.int64) + start) & ((1 << HASH_BITS) - 1)


def _mix(words: Tensor) -> Tensor:
    """Spreads every bit over the word (two rounds of a multiply and a shift, wrapping)."""
    mixed = words
    for factor, shift in ((-0x61C8864680B583EB, 29), (-0x40A7B892E31B1A47, 32)):
        mixed = (mixed ^ (mixed >> shift)).mul_(factor)
    return mixed ^ (mixed >> 31)


@dataclass(frozen=True, eq=False)
class Batch:
    """Feature rows (n, d) of one layer, float32 or float64, with what is known of each row.

    Attributes:
        features: (n, d).
        resolution: Spread, relative to the mean, at or below which rows of the original precision are rounding noise.
        ids: n sample ids.
        hashes: (n,) int64, `hash_ids` of the ids.
        columns: Name → codes, or a tensor (n, ...): see `COLUMNS`.
        split: What the rows are for: the probe set, the reference rows (of the training set), rows out of distribution,
            or the probe set under a shift.
        given_fingerprints: (n,) int64 of the inputs, None where features come without inputs.
        outputs: Names of the classes that the columns of `logits` stand for.
        weights: Tensors of the model itself by name, such as "head.weight" (C, d) and "head.bias" (C,), "codebook".
    """

    features: Tensor
    resolution: float
    ids: tuple[str, ...]
    hashes: Tensor
    columns: Mapping[str, Codes | Tensor] = field(default_factory=dict)
    split: Split = "probe"
    given_fingerprints: Tensor | None = None
    outputs: tuple[str, ...] | None = None
    weights: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        features: Tensor,
        *,
        ids: Sequence[str],
        split: Split = "probe",
        hashes: Tensor | None = None,
        fingerprints: Tensor | None = None,
        outputs: Sequence[str] | None = None,
        weights: Mapping[str, Tensor] | None = None,
        seed: int = 0,
        **columns: object,
    ) -> Self:
        """Rows with their columns, in float32 or, where that would lose digits, in float64.

        Raises:
            MetricError: The features are not real rows (n, d) with n and d of at least one, or too large or small to be
                squared, or a column is unknown, has another length or a gap.
        """
        if features.ndim != 2 or 0 in features.shape:
            raise MetricError(
                f"features must be rows (n, d) with at least one of each, found shape {tuple(features.shape)}"
            )
        if len(ids) != len(features):
            raise MetricError(f"ids must have one entry for each of the {len(features)} rows, found {len(ids)}")
        rows = working(features.detach())
        device = rows.device
        return cls(
            rows,
            _resolution(features.dtype),
            tuple(ids),
            (hash_ids(ids, seed) if hashes is None else hashes).to(device),
            read_columns(columns, len(rows), device),
            split,
            None if fingerprints is None else fingerprints.to(device),
            None if outputs is None else tuple(outputs),
            {name: tensor.to(device) for name, tensor in (weights or {}).items()},
        )

    def rows(self, index: Tensor) -> Self:
        """Some of the rows."""
        return replace(
            self,
            features=self.features.index_select(0, index),
            ids=tuple(self.ids[i] for i in index.tolist()),
            hashes=self.hashes[index],
            columns={
                name: column.rows(index) if isinstance(column, Codes) else column.index_select(0, index)
                for name, column in self.columns.items()
            },
            given_fingerprints=None if self.given_fingerprints is None else self.given_fingerprints[index],
        )

    def join(self, other: Self) -> Self:
        """Both below each other.

        Raises:
            MetricError: The rows come with different columns.
        """
        if self.columns.keys() != other.columns.keys():
            odd = sorted(self.columns.keys() ^ other.columns.keys())
            raise MetricError(f"some rows have {', '.join(odd)} and others have none")
        columns: dict[str, Codes | Tensor] = {}
        for name, first in self.columns.items():
            second = other.columns[name]
            if isinstance(first, Codes) and isinstance(second, Codes):
                columns[name] = first.join(second)
            elif isinstance(first, Tensor) and isinstance(second, Tensor):
                columns[name] = torch.cat([first, second])
        return replace(
            self,
            features=torch.cat([self.features, other.features]),
            resolution=max(self.resolution, other.resolution),
            ids=self.ids + other.ids,
            hashes=torch.cat([self.hashes, other.hashes]),
            columns=columns,
            given_fingerprints=None
            if self.given_fingerprints is None or other.given_fingerprints is None
            else torch.cat([self.given_fingerprints, other.given_fingerprints]),
        )

    @property
    def fingerprints(self) -> Tensor:
        """(n,) int64, equal for rows whose inputs are equal; features that come without are their own inputs."""
        return row_fingerprints(self.features) if self.given_fingerprints is None else self.given_fingerprints

    @property
    def folds(self) -> Tensor:
        """(n,) int64 hash that picks a row's fold: rows of one cluster share it."""
        clusters = self.columns.get("clusters")
        return _mix(clusters) & ((1 << HASH_BITS) - 1) if isinstance(clusters, Tensor) else self.hashes

    @property
    def labels(self) -> Codes | None:
        """Class of each row."""
        return self.codes("labels")

    @property
    def groups(self) -> Codes | None:
        """Group of each row."""
        return self.codes("groups")

    def has(self, needs: Iterable[str]) -> bool:
        """Whether the rows come with all of these columns and weights."""
        return not self.missing(needs)

    def missing(self, needs: Iterable[str]) -> list[str]:
        """Those of these columns and weights that the rows do not come with."""
        present = {*self.columns, *(name.partition(".")[0] for name in (*self.columns, *self.weights)), "features"}
        return [need for need in needs if need not in present]

    def codes(self, name: str) -> Codes | None:
        """A categorical column."""
        column = self.columns.get(name)
        return column if isinstance(column, Codes) else None

    def numbers(self, name: str) -> Tensor:
        """The features, or a column of numbers, where a statistic cannot do without.

        Raises:
            MetricError: The rows have no such column.
        """
        column = self.features if name == "features" else self.columns.get(name)
        if not isinstance(column, Tensor):
            raise MetricError(f"these feature rows have no {name}")
        return column

    def named(self, name: str) -> dict[str, Codes | Tensor]:
        """The parts of a column of several, by their own names."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): column for key, column in self.columns.items() if key.startswith(prefix)}

    def class_codes(self, name: str = "labels") -> Codes:
        """A categorical column, where a statistic cannot do without.

        Raises:
            MetricError: The rows have none.
        """
        found = self.codes(name)
        if found is None:
            raise MetricError(f"these feature rows have no {name}")
        return found


def _resolution(dtype: torch.dtype) -> float:
    """A few units in the last place, and one of half precision, where more would hide what a model means."""
    epsilon = torch.finfo(dtype if dtype.is_floating_point else torch.float64).eps
    return 8 * epsilon if epsilon < _HALF else epsilon


def row_lengths(rows: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Length of each row (n,), summed in their own precision or in another.

    Written in place: small results between large temporaries would keep the memory of all of these.
    """
    lengths = torch.empty(len(rows), dtype=dtype or rows.dtype, device=rows.device)
    for tile, part in zip(rows.split(IN_CACHE), lengths.split(IN_CACHE), strict=True):
        torch.linalg.vector_norm(tile, dim=1, dtype=dtype, out=part)
    return lengths


def unit_scale(rows: Tensor) -> tuple[Tensor, Tensor]:
    """1 / |x| of each row (n,), and which rows (n,) bool have a direction at all; the others are zero rows."""
    lengths = row_lengths(rows, torch.float64)
    return lengths.clamp_min(_SMALLEST).reciprocal().to(rows.dtype), lengths >= _SMALLEST


def with_direction(rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """The rows that have a direction, 1 / |x| of each, and where they are; the latter None when all have one."""
    scale, alive = unit_scale(rows)
    if bool(alive.all()):
        return rows, scale, None
    index = alive.nonzero()[:, 0]
    return rows.index_select(0, index), scale[index], index


def unit_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of length one, and which rows (n,) bool have a direction at all; the others are zero rows."""
    scale, alive = unit_scale(rows)
    return rows * scale[:, None], alive


def by_tile(function: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """A function of each row, tile by tile: what lies between stays in the cache."""
    return torch.cat([function(*tiles) for tiles in zip(*(each.split(IN_CACHE) for each in rows), strict=True)])


def per_live_row(influence: Tensor, alive: Tensor) -> Tensor:
    """Influence on a mean over live rows alone: a zero row moves nothing, and each of the others the more."""
    return influence * alive / alive.double().mean().clamp_min(1 / len(alive))
