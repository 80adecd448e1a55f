"""Intervals cover: 95 % of them hold what they are an interval of.

The target of a read-out is the mean of its estimator over the draws (for one that is unbiased, the population value;
for a raw one, what it reads on average at this n). Extremes over classes or pairs are judged at a Bonferroni level and
counts cannot be 95 % certain: they must cover at least as often.
"""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from torch import Tensor

from gate.geometry.registry import metrics
from gate.measurement import measure
from tests.geometry import data

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DRAWS, N, D, C = 400, 1000, 12, 4
ROUNDING = 1e-9
BIAS_CORRECTED = (
    "participation_ratio",
    "vci",
    "cdnv",
    "within_between_ratio",
    "within_between_ratio.between_share",
    "mean_cosine",
)
CONSERVATIVE = (
    "dead_unit_share",
    "dead_unit_share.never",
    "near_duplicate_share",
    "near_duplicate_share.exact",
    "mean_cosine.per_class",
    "mean_cosine.per_class_kappa",
    "cdnv.max",
    "ncc_accuracy.per_class",
    "ncc_accuracy.env_gap",
    "ridge_probe_accuracy.worst_class",
    "knn_label_agreement.worst_class",
    "within_between_ratio.contamination",
    "outlier_channel_ratio",
    "outlier_channel_ratio.count6",
    "outlier_channel_ratio.range_index",
)
INPUTS_MISSING = ["heat_k", "before_after", "per_layer", "null_space_shift", "r2", "task_ladder", "pretext", "fine"]
INPUTS_MISSING += ["coarse", "cross"]


def draw(seed: int, n: int = N) -> tuple[Tensor, Tensor, Tensor]:
    """A cloud with one loud, heavy-tailed channel, a dead one and some repeated rows."""
    rows, labels = data.structured(n, D, C, seed, signal=0.45)
    g = data.generator(seed + 10_000)
    rows[:, 0] = 4 * rows[:, 0] * (1 + 0.5 * torch.rand(n, generator=g))
    rows[:, D - 1] *= 1e-4
    repeated = torch.rand(n, generator=g) < 0.02
    rows[repeated] = torch.linspace(-1, 1, D)
    labels[repeated] = 0
    return rows, labels, torch.randint(0, 2, (n,), generator=g)


@pytest.fixture(scope="module")
def draws() -> dict[str, Tensor]:
    """Value, low and high end of every read-out in every draw, (draws, 3)."""
    rows_of: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for seed in range(DRAWS):
        rows, labels, groups = draw(seed)
        for address, found in measure(rows, labels=labels, groups=groups, seed=seed).items():
            if found.status == "ok" and found.value is not None and found.interval is not None:
                rows_of[address].append((found.value, *found.interval))
    return {address: torch.tensor(rows, dtype=torch.float64) for address, rows in rows_of.items()}


def coverage(intervals: Tensor, target: float) -> float:
    held = (intervals[:, 1] <= target + ROUNDING) & (target - ROUNDING <= intervals[:, 2])
    return held.double().mean().item()


def addresses() -> list[str]:
    every = [address for metric in metrics().values() for address in metric.addresses()]
    return [address for address in every if address.partition(".")[2] not in INPUTS_MISSING]


@pytest.mark.parametrize("address", addresses())
def test_intervals_cover(draws: dict[str, Tensor], address: str) -> None:
    intervals = draws[address]
    assert len(intervals) == DRAWS
    share = coverage(intervals, intervals[:, 0].mean().item())
    assert share >= 0.92, f"{address}: {share:.3f}"
    assert share <= 0.98 or address in CONSERVATIVE, f"{address}: {share:.3f}"


@pytest.mark.parametrize("address", BIAS_CORRECTED)
def test_intervals_of_corrected_values_cover_the_population(draws: dict[str, Tensor], address: str) -> None:
    rows, labels, _ = draw(999_999, n=300_000)
    population = measure(rows, labels=labels, metrics=[address])[address].value
    assert population is not None
    assert 0.92 <= coverage(draws[address], population) <= 0.98
