"""Intervals cover: a sample of the draws of `benchmarks/coverage`, whose table has them all.

A share of few draws is itself uncertain: it fails where 92 % (or 98 %) would give it once in ten thousand times.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats
from torch import Tensor

from benchmarks.coverage.draws import conservative, coverage, draw, fact, measured
from gate.geometry.registry import metrics
from gate.measurement import measure

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DRAWS = 40
RESULTS = Path("benchmarks/coverage/RESULTS.md")
UNBIASED = (
    "participation_ratio",
    "vci",
    "cdnv",
    "within_between_ratio",
    "within_between_ratio.between_share",
    "mean_cosine",
    "class_separation_r2",
    "cka_debiased",
    "group_variance_share",
)


@pytest.fixture(scope="module")
def draws() -> tuple[dict[str, Tensor], dict[str, str]]:
    return measured(range(5000, 5000 + DRAWS))


def test_every_metric_has_intervals_here(draws: tuple[dict[str, Tensor], dict[str, str]]) -> None:
    assert set(metrics()) <= set(draws[0])


def test_intervals_cover(draws: tuple[dict[str, Tensor], dict[str, str]]) -> None:
    intervals, method_of = draws
    low, high = stats.binom.ppf(1e-4, DRAWS, 0.92) / DRAWS, stats.binom.ppf(1 - 1e-4, DRAWS, 0.98) / DRAWS
    wrong = {}
    for address, rows in intervals.items():
        share = coverage(rows)
        if (
            len(rows) == DRAWS
            and not fact(rows)
            and (share < low or (share > high and not conservative(method_of[address])))
        ):
            wrong[address] = share
    assert not wrong


def test_intervals_of_corrected_values_cover_the_population(draws: tuple[dict[str, Tensor], dict[str, str]]) -> None:
    low = stats.binom.ppf(1e-4, DRAWS, 0.92) / DRAWS
    population = measure(metrics=UNBIASED, **draw(999_999, n=100_000))
    for address in UNBIASED:
        assert coverage(draws[0][address], population[address].value) >= low, address


def test_the_table_of_the_benchmark_has_every_readout_that_is_measured(
    draws: tuple[dict[str, Tensor], dict[str, str]],
) -> None:
    table = RESULTS.read_text(encoding="utf-8")
    missing = [address for address, rows in draws[0].items() if not fact(rows) and f"`{address}`" not in table]
    assert missing == []
