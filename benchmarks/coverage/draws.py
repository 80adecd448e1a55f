"""Draws of one population, measured: value and interval of every read-out in each."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch

from gate.measurement import measure
from tests.geometry import data, inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

N, D = 1000, 12
ROUNDING = 1e-9
# An extreme over classes, pairs or channels is judged at a Bonferroni level, and a count cannot be 95 % certain: their
# intervals must hold at least as often.
AT_LEAST = ("Bonferroni", "count", "block maxima", "Clopper")


def draw(seed: int, n: int = N) -> dict[str, Any]:
    """A model with one loud, heavy-tailed channel, a dead one and some repeated rows, and all that is known of rows."""
    given = inputs.everything(n, D, seed)
    rows, labels = given["features"], given["labels"]
    g = data.generator(seed + 10_000)
    rows[:, 0] = 4 * rows[:, 0] * (1 + 0.5 * torch.rand(n, generator=g, dtype=torch.float64))
    rows[:, D - 1] *= 1e-4
    repeated = torch.rand(n, generator=g) < 0.02
    rows[repeated] = torch.linspace(-1, 1, D, dtype=torch.float64)
    labels[repeated] = 0
    given["sublabels"][repeated] = 0
    return given


def measured(seeds: Sequence[int], metrics: Sequence[str] | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Value, low and high end of every read-out in every draw, (draws, 3), and how its interval came about."""
    rows_of: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    method_of: dict[str, str] = {}
    for seed in seeds:
        for address, found in measure(metrics=metrics, seed=seed, **draw(seed)).items():
            if found.status == "ok" and found.value is not None and found.interval is not None:
                rows_of[address].append((found.value, *found.interval))
                method_of[address] = found.method
    return {address: torch.tensor(rows, dtype=torch.float64) for address, rows in rows_of.items()}, method_of


def coverage(intervals: Tensor, target: float | None = None) -> float:
    """Share of the intervals (draws, 3) that hold the target.

    When None, it is what the estimator reads on average.
    """
    centre = intervals[:, 0].mean().item() if target is None else target
    reach = ROUNDING * max(1.0, abs(centre))
    held = (intervals[:, 1] <= centre + reach) & (centre - reach <= intervals[:, 2])
    return held.double().mean().item()


def fact(intervals: Tensor) -> bool:
    """Whether it is no estimate but a fact about the rows, such as their number: its intervals have no width."""
    return bool((intervals[:, 1] == intervals[:, 2]).all())


def conservative(method: str) -> bool:
    """Whether intervals of this method may hold more often than they say."""
    return any(word in method for word in AT_LEAST)
