"""What is known of each row besides its features: the columns that metrics can ask for."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Self, cast

import torch
from torch import Tensor

from gate.errors import MetricError

Kind = Literal["category", "number", "vector", "feature", "whole", "identity"]
Source = Literal["probe", "model", "baseline"]
_FLOAT32 = 1e6  # beyond it, and below its inverse, fourth powers and sums of them come near the ends of float32
_LARGEST = 1e35  # and here those of a product leave float64
HASH_BITS = 62  # of a row-id hash: leaves room for a tie-break and fits a signed 64-bit integer


@dataclass(frozen=True)
class Column:
    """A column that rows can come with.

    Attributes:
        meaning: What it holds, for a reader of the metric reference.
        kind: A name for each row, a number, a vector, features of another layer or model, whole numbers (-1 where there
            is none), or an identity of which only equality matters.
        several: Whether it is several columns by name; one of them is then "column.name".
        source: Where it comes from: the probe set, the model that is measured, or its baseline.
    """

    meaning: str
    kind: Kind
    several: bool = False
    source: Source = "probe"


COLUMNS: Mapping[str, Column] = {
    "labels": Column("class of each row", "category"),
    "sublabels": Column("subclass of each row, finer than its class", "category"),
    "groups": Column("site, batch, device or speaker of each row", "category"),
    "clusters": Column("document, patient or user of each row: rows of one are not independent", "identity"),
    "cues": Column("class that a misleading cue of each row points to", "category"),
    "attributes": Column("further tags of each row, by name", "category", several=True),
    "tasks": Column("further label columns, by name", "category", several=True),
    "pretext": Column("a free label of each row, such as its rotation", "category"),
    "lengths": Column("tokens or seconds of each row", "number"),
    "targets": Column("continuous targets (n, q)", "vector"),
    "logits": Column("outputs of the model (n, C)", "vector", source="model"),
    "view_logits": Column(
        "outputs (n, C) for one view or attribute at a time, by name", "vector", several=True, source="model"
    ),
    "baseline": Column("features of the baseline on the same rows (n, e)", "feature", source="baseline"),
    "baseline_logits": Column("outputs of the baseline on the same rows (n, C)", "vector", source="baseline"),
    "earlier": Column(
        "features (n, e) of versions before the baseline, oldest first", "feature", several=True, source="baseline"
    ),
    "history": Column(
        "outputs (n, C) of earlier checkpoints, by name, from first to last", "vector", several=True, source="baseline"
    ),
    "before": Column("features before the layer (n, e)", "feature", source="model"),
    "depths": Column(
        "features of earlier layers (n, e), by name, from shallow to deep", "feature", several=True, source="model"
    ),
    "trivial": Column("features (n, e) of trivial models: raw inputs, random weights", "feature", several=True),
    "encoded": Column("features (n, e) of a fixed reference encoder", "feature"),
    "tokens": Column(
        "token states of each row by layer, as their terms (n, K)", "vector", several=True, source="model"
    ),
    "token_mean": Column("mean token state of each row at the last layer (n, d)", "vector", source="model"),
    "baseline_tokens": Column(
        "token states of the baseline by layer, as their terms (n, K)", "vector", several=True, source="baseline"
    ),
    "attention_filter": Column("norm of the attention of each row less its mean over tokens", "number", source="model"),
    "dirichlet": Column("share of the energy of node states that varies along edges", "number", source="model"),
    "channel_mass": Column("sum of |a| over space of each channel (n, channels)", "vector", source="model"),
    "latent_means": Column("posterior means (n, z)", "vector", source="model"),
    "latent_log_variances": Column("posterior log variances (n, z)", "vector", source="model"),
    "codes": Column("code indices of each row (n, T), -1 where there is none", "whole", source="model"),
}


def declared(name: str) -> Column:
    """The column of a name, or of `column.name` where there are several.

    Raises:
        MetricError: There is none.
    """
    base, dot, _ = name.partition(".")
    if base not in COLUMNS or COLUMNS[base].several != bool(dot):
        raise MetricError(f"rows have no column {name!r}; there are {', '.join(COLUMNS)}")
    return COLUMNS[base]


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
        if isinstance(column, Tensor) and column.ndim != 1:
            raise MetricError(f"a column of labels or groups must be one value a row, found {tuple(column.shape)}")
        if isinstance(column, Tensor) and not column.is_floating_point() and not column.is_complex():
            found, places = column.unique(return_inverse=True)
            return cls._named([str(item) for item in found.tolist()], places)
        texts = [_text(row, item) for row, item in enumerate(column)]
        distinct = list(dict.fromkeys(texts))
        index = {name: code for code, name in enumerate(distinct)}
        return cls._named(distinct, torch.tensor([index[text] for text in texts], dtype=torch.int64))

    @classmethod
    def _named(cls, texts: list[str], places: Tensor) -> Self:
        names = tuple(sorted(texts))
        return cls(names, place(tuple(texts), names, places.device)[places])

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

    def among(self, names: tuple[str, ...]) -> Tensor:
        """Index of the category of each row among `names`, (n,) int64; -1 where it is not one of them."""
        index = {name: code for code, name in enumerate(names)}
        places = torch.tensor([index.get(name, -1) for name in self.names], device=self.values.device)
        return places[self.values] if len(self.names) else self.values

    def __len__(self) -> int:
        return len(self.values)

    def counts(self) -> Tensor:
        """Rows of each category, (C,) int64."""
        return torch.bincount(self.values, minlength=len(self.names))


def _text(row: int, item: object) -> str:
    """The name of a category; 1.0 is 1."""
    plain = item.item() if isinstance(item, Tensor) else item
    if plain is None or isinstance(plain, list | tuple | Mapping) or not _equals_itself(plain):
        raise MetricError(f"row {row} of a column of labels or groups holds {plain!r}; name a category or leave it out")
    return str(int(plain)) if isinstance(plain, float) and plain.is_integer() else str(plain)


def _equals_itself(item: object) -> bool:
    try:
        return bool(item == item)  # noqa: PLR0124 - only NaN and its kind differ from themselves
    except (TypeError, ValueError):  # a missing value of pandas has no truth, an array more than one
        return False


def output_names(width: int, labels: Codes | None) -> tuple[str, ...]:
    """Names of the classes that the columns of `logits` stand for, where nobody says.

    Whole numbers from 0 where the labels are such, else the labels themselves, in order, where there are as many.

    Raises:
        MetricError: The labels leave it open which column is whose.
    """
    numbered = tuple(str(code) for code in range(width))
    if labels is None or (set(labels.names) <= set(numbered) and ("0" in labels.names or width == 1)):
        return numbered
    names = sorted(labels.names, key=_natural)
    whole = all(name.removeprefix("-").isdecimal() for name in names)
    if len(names) == width and (whole or names == sorted(names)):
        return tuple(names)
    shown = ", ".join(map(repr, names[:5]))
    raise MetricError(
        f"the {width} columns of logits cannot be matched with the {len(names)} labels ({shown} ...); "
        "name them in order: outputs=[...], or `reads: {logits: {classes: [...]}}` in a policy"
    )


def _natural(name: str) -> tuple[tuple[int, float, str], ...]:
    """Sorts 2 before 10, alone and inside of a name."""
    parts = re.split(r"(-?\d+)", name) if name.removeprefix("-").isdecimal() else re.split(r"(\d+)", name)
    return tuple((0, float(part), "") if part.lstrip("-").isdecimal() else (1, 0.0, part) for part in parts if part)


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
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8, key=salt).digest() for text in ids)
    words = torch.frombuffer(bytearray(digests), dtype=torch.int64) if digests else torch.empty(0, dtype=torch.int64)
    return words & ((1 << HASH_BITS) - 1)


def read_columns(given: Mapping[str, object], n: int, device: torch.device) -> dict[str, Codes | Tensor]:
    """Columns as codes and tensors; a column of several becomes one entry a name.

    Raises:
        MetricError: A column is unknown, has another length or a gap, or is not what its kind says.
    """
    flat: dict[str, object] = {}
    for name, values in given.items():
        if values is None:
            continue
        if isinstance(values, Mapping):
            flat.update({f"{name}.{part}": each for part, each in values.items()})
        else:
            flat[name] = values
    return {name: _read(name, declared(name), values, n, device) for name, values in flat.items()}


def _read(name: str, column: Column, values: object, n: int, device: torch.device) -> Codes | Tensor:
    found = len(values) if isinstance(values, Sized) else "one value"
    if found != n:
        raise MetricError(f"{name} must have one entry for each of the {n} rows, found {found}")
    if isinstance(values, Codes):
        return values.to(device)
    if column.kind == "category":
        return Codes.of(items_of(values)).to(device)
    if column.kind == "identity":
        return _identities(items_of(values)).to(device)
    return _numbers(name, column.kind, values, device)


def items_of(values: object) -> Sequence[object] | Tensor:
    """A column as a tensor of whole numbers, or as a list of anything."""
    if isinstance(values, Tensor):
        return values
    dtype = getattr(values, "dtype", None)
    if getattr(dtype, "kind", "") in ("i", "u") and hasattr(dtype, "itemsize"):
        with suppress(TypeError, ValueError, RuntimeError):  # a gap in it leaves it to be read value by value
            return torch.as_tensor(values).to(torch.int64)
    if not isinstance(values, Sized):
        raise MetricError(f"a column must have one entry a row, found {values!r}")
    found: list[object] = values.tolist() if hasattr(values, "tolist") else list(cast("Sequence[object]", values))
    return found


def _identities(items: Sequence[object] | Tensor) -> Tensor:
    if isinstance(items, Tensor) and not items.is_floating_point():
        return items.to(torch.int64)
    codes = Codes.of(items)
    return hash_ids(codes.names)[codes.values]


def _numbers(name: str, kind: Kind, values: object, device: torch.device) -> Tensor:
    try:
        numbers = torch.as_tensor(values, device=device).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise MetricError(f"{name} must be numbers: {error}") from None
    if kind == "number":
        if numbers.ndim != 1:
            raise MetricError(f"{name} must be one number a row, found shape {tuple(numbers.shape)}")
        return numbers.double()
    rows = numbers[:, None] if numbers.ndim == 1 else numbers
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise MetricError(f"{name} must be a row of numbers for each row, found shape {tuple(rows.shape)}")
    return _vectors(name, kind, rows)


def _vectors(name: str, kind: Kind, numbers: Tensor) -> Tensor:
    if numbers.is_complex() or (kind == "whole" and numbers.is_floating_point()):
        what = "whole" if kind == "whole" else "real"
        raise MetricError(f"{name} must be {what} numbers, found {numbers.dtype}")
    if kind == "whole":
        return numbers.to(torch.int64)
    if kind == "feature":
        return working(numbers, name)
    return numbers if numbers.dtype in (torch.float32, torch.float64) else numbers.to(torch.float32)


def working(rows: Tensor, name: str = "features") -> Tensor:
    """Rows in a precision in which their squares are exact enough.

    Raises:
        MetricError: They are not real numbers, or too large or small to be squared.
    """
    if rows.is_complex():
        raise MetricError(f"{name} must be real numbers, found {rows.dtype}")
    exact = rows if rows.dtype in (torch.float32, torch.float64) else rows.to(torch.float32)
    if not rows.is_floating_point() and not torch.equal(exact.to(rows.dtype), rows):
        exact = rows.to(torch.float64)
    largest = _largest(exact)
    if largest > _LARGEST or 0 < largest < 1 / _LARGEST:
        raise MetricError(
            f"{name} are out of range: the largest |x| is {largest:.3g}, expected 1e-35 to 1e35; rescale them"
        )
    return exact.to(torch.float64) if largest > _FLOAT32 or 0 < largest < 1 / _FLOAT32 else exact


def _largest(rows: Tensor) -> float:
    """Largest finite |x|, 0 where there is none."""
    low, high = rows.aminmax()
    largest = torch.maximum(high, -low).item()
    return largest if math.isfinite(largest) else rows.nan_to_num(0.0, 0.0, 0.0).abs().max().item()
