"""Some rows of a probe set, as everything behind it reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from gate.inputs import Inputs


@dataclass(frozen=True)
class ProbeBatch:
    """Some rows of a probe set.

    Attributes:
        inputs: What the model is shown of b rows: (b, ...), float32 or int64, may be read-only; b texts; b pictures
            (height, width, 3), uint8; or some of these by the name of their column, a column of numbers as (b,).
        ids: b names, unique in the probe set.
        labels: b texts, None without such a column.
        groups: b texts, None without such a column.
        lengths: b finite numbers, None without such a column.
        fingerprints: (b,), int64; equal for equal inputs.
        clusters: b texts, None without such a column.
        sublabels: b texts, None without such a column.
        targets: (b, q), float64 and finite, None without such columns.
        tags: Column → b texts, of the columns that rows are cut by.
        pairs: A second view of the inputs, of the same kind and under the same names; None without such a column.
        splits: b times "probe", "reference" or "ood", None without such a column.
        tasks: Task → b texts; empty without such columns.
        attributes: Column → b texts; empty without such columns.
        cues: b texts, None without such a column.
        pretext: b texts, None without such a column.
    """

    inputs: Inputs
    ids: tuple[str, ...]
    labels: tuple[str, ...] | None
    groups: tuple[str, ...] | None
    lengths: tuple[float, ...] | None
    fingerprints: np.ndarray[Any, Any]
    clusters: tuple[str, ...] | None = None
    sublabels: tuple[str, ...] | None = None
    targets: np.ndarray[Any, Any] | None = None
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pairs: Inputs | None = None
    splits: tuple[str, ...] | None = None
    tasks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cues: tuple[str, ...] | None = None
    pretext: tuple[str, ...] | None = None
