"""Some feature rows with what is known of each of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from gate.errors import MetricError

_HALF = 1e-6  # rounding units above it are those of half precision
_FLOAT32 = 1e12  # beyond it, and below its inverse, squares and fourth powers leave float32
_LARGEST = 1e35  # and here those of a product leave float64
_HASH_BITS = 62  # of a row-id hash: leaves room for a tie-break and fits a signed 64-bit integer


@dataclass(frozen=True, eq=False)
class Codes:
    """A categorical column: `names` sorted, `values` (n,) int64 indices into them."""

    names: tuple[str, ...]
    values: Tensor

    @classmethod
    def of(cls, column: Sequence[object] | Tensor) -> Self:
        """Codes of a column of any values; two values are one category when their text is equal.

        Raises:
            MetricError: A value is None or NaN.
        """
        items = column.tolist() if isinstance(column, Tensor) else column
        for row, item in enumerate(items):
            if item is None or item != item:  # noqa: PLR0124 - only NaN differs from itself
                raise MetricError(
                    f"row {row} of a column of labels or groups holds {item!r}; name a category or leave it out"
                )
        texts = [str(item) for item in items]
        names = tuple(sorted(set(texts)))
        index = {name: code for code, name in enumerate(names)}
        return cls(names, torch.tensor([index[text] for text in texts], dtype=torch.int64))

    def to(self, device: torch.device) -> Self:
        """The same codes on another device."""
        return type(self)(self.names, self.values.to(device))

    def rows(self, index: Tensor) -> Self:
        """The codes of some rows; the names stay."""
        return type(self)(self.names, self.values[index])

    def join(self, other: Codes) -> Self:
        """Both columns below each other."""
        names = union(self.names, other.names)
        parts = [place(codes.names, names, codes.values.device)[codes.values] for codes in (self, other)]
        return type(self)(names, torch.cat(parts))

    def counts(self) -> Tensor:
        """Rows of each category, (C,) int64."""
        return torch.bincount(self.values, minlength=len(self.names))


def union(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    """Sorted names of both."""
    return first if first == second else tuple(sorted({*first, *second}))


def place(names: tuple[str, ...], among: tuple[str, ...], device: torch.device) -> Tensor:
    """Index of each of `names` in `among`, int64."""
    index = {name: code for code, name in enumerate(among)}
    return torch.tensor([index[name] for name in names], dtype=torch.int64, device=device)


def hash_ids(ids: Sequence[str], seed: int = 0) -> Tensor:
    """A hash of each sample id, (n,) int64 in [0, 2^62): random, yet the same for every model and sharding."""
    salt = hashlib.blake2b(str(seed).encode(), digest_size=16).digest()
    digests = (hashlib.blake2b(text.encode(), digest_size=8, key=salt).digest() for text in ids)
    mask = (1 << _HASH_BITS) - 1
    return torch.tensor([int.from_bytes(digest, "little") & mask for digest in digests], dtype=torch.int64)


def row_fingerprints(rows: Tensor) -> Tensor:
    """A hash of the bytes of each row, (n,) int64: equal rows have equal ones, and two others collide by luck alone."""
    plain = rows + 0.0  # makes -0.0 and 0.0 one
    words = plain.contiguous().view(torch.int64 if plain.element_size() == 8 else torch.int32).to(torch.int64)
    generator = torch.Generator().manual_seed(0x5EED)
    odd = torch.randint(-(2**62), 2**62, (words.shape[1],), generator=generator, dtype=torch.int64) * 2 + 1
    return _mix((_mix(words) * odd.to(words.device)).sum(dim=1))


def _mix(words: Tensor) -> Tensor:
    """Spreads every bit over the word (two rounds of a multiply and a shift, wrapping)."""
    for factor, shift in ((-0x61C8864680B583EB, 29), (-0x40A7B892E31B1A47, 32)):
        words = (words ^ (words >> shift)) * factor
    return words ^ (words >> 31)


@dataclass(frozen=True, eq=False)
class Batch:
    """Feature rows (n, d) of one layer, float32 or float64, with the columns of the probe set.

    Attributes:
        features: (n, d).
        resolution: Spread, relative to the mean, at or below which rows of the original precision are rounding noise.
        ids: n sample ids.
        hashes: (n,) int64, `hash_ids` of the ids.
        labels, groups: categories of each row, or None.
        lengths: (n,) float64, or None.
        fingerprints: (n,) int64, equal for rows whose inputs are equal.
    """

    features: Tensor
    resolution: float
    ids: tuple[str, ...]
    hashes: Tensor
    labels: Codes | None
    groups: Codes | None
    lengths: Tensor | None
    fingerprints: Tensor

    @classmethod
    def of(
        cls,
        features: Tensor,
        *,
        ids: Sequence[str],
        labels: Sequence[object] | Tensor | None = None,
        groups: Sequence[object] | Tensor | None = None,
        lengths: Sequence[float] | Tensor | None = None,
        fingerprints: Tensor | None = None,
        seed: int = 0,
    ) -> Self:
        """Rows with their columns, in float32 or, where that would lose digits, in float64.

        Raises:
            MetricError: The features are not real rows (n, d) with n and d of at least one, or too large or small to be
                squared, or a column has another length or a gap.
        """
        if features.ndim != 2 or 0 in features.shape:
            raise MetricError(
                f"features must be rows (n, d) with at least one of each, found shape {tuple(features.shape)}"
            )
        for name, column in {"ids": ids, "labels": labels, "groups": groups, "lengths": lengths}.items():
            if column is not None and len(column) != len(features):
                raise MetricError(
                    f"{name} must have one entry for each of the {len(features)} rows, found {len(column)}"
                )
        rows = _working(features.detach())
        device = rows.device
        prints = row_fingerprints(rows) if fingerprints is None else fingerprints.to(device)
        return cls(
            rows,
            _resolution(features.dtype),
            tuple(ids),
            hash_ids(ids, seed).to(device),
            None if labels is None else Codes.of(labels).to(device),
            None if groups is None else Codes.of(groups).to(device),
            None if lengths is None else torch.as_tensor(lengths, dtype=torch.float64, device=device),
            prints,
        )

    def rows(self, index: Tensor) -> Self:
        """Some of the rows."""
        return type(self)(
            self.features[index],
            self.resolution,
            tuple(self.ids[i] for i in index.tolist()),
            self.hashes[index],
            None if self.labels is None else self.labels.rows(index),
            None if self.groups is None else self.groups.rows(index),
            None if self.lengths is None else self.lengths[index],
            self.fingerprints[index],
        )

    @property
    def columns(self) -> frozenset[str]:
        """Names of the columns that the rows come with."""
        given = {"labels": self.labels, "groups": self.groups, "lengths": self.lengths}
        return frozenset(name for name, column in given.items() if column is not None)

    def class_codes(self) -> Codes:
        """The labels, where a statistic cannot do without.

        Raises:
            MetricError: The rows have no labels.
        """
        if self.labels is None:
            raise MetricError("these feature rows have no labels")
        return self.labels


def _resolution(dtype: torch.dtype) -> float:
    """A few units in the last place, and one of half precision, where more would hide what a model means."""
    epsilon = torch.finfo(dtype if dtype.is_floating_point else torch.float64).eps
    return 8 * epsilon if epsilon < _HALF else epsilon


def _working(rows: Tensor) -> Tensor:
    """Rows in a precision in which their squares are exact enough."""
    if rows.is_complex():
        raise MetricError(f"features must be real numbers, found {rows.dtype}")
    exact = rows if rows.dtype in (torch.float32, torch.float64) else rows.to(torch.float32)
    if not rows.is_floating_point() and not torch.equal(exact.to(rows.dtype), rows):
        exact = rows.to(torch.float64)
    sizes = exact.abs()
    largest = sizes[torch.isfinite(sizes)].max().item() if bool(torch.isfinite(sizes).any()) else 0.0
    if largest > _LARGEST or 0 < largest < 1 / _LARGEST:
        raise MetricError(
            f"features are out of range: the largest |x| is {largest:.3g}, expected 1e-35 to 1e35; rescale them"
        )
    return exact.to(torch.float64) if largest > _FLOAT32 or 0 < largest < 1 / _FLOAT32 else exact


def unit_rows(features: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of length one, and which rows (n,) bool have a direction at all; the others are zero rows."""
    norms = torch.linalg.vector_norm(features, dim=1, dtype=torch.float64)
    alive = norms > 0
    return (features / norms.clamp_min(torch.finfo(torch.float64).tiny)[:, None]).to(features.dtype), alive


def per_live_row(influence: Tensor, alive: Tensor) -> Tensor:
    """Influence on a mean over live rows alone: a zero row moves nothing, and each of the others the more."""
    return influence * alive / alive.double().mean().clamp_min(1 / len(alive))
