"""Relative rules keep what they promise, on pairs of versions that are drawn and measured like those of a check.

A sample of the draws of `benchmarks/coverage/noninferiority`, whose table has more metrics and more draws.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.coverage import pairs
from benchmarks.coverage.noninferiority import HEADING, NOMINAL
from benchmarks.coverage.pairs import Kind, at_the_margin, changes, draw, measured, no_worse, outcomes, widening
from gate.verdict import Measurements

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

METRICS = ("ridge_probe_accuracy", "effective_rank.share", "mean_cosine", "within_between_ratio")
DRAWS, LARGE_DRAWS = 320, 50
TOLERANCE = 0.015
RESULTS = Path("benchmarks/coverage/RESULTS.md")


def drawn(kind: Kind, n: int, draws: int) -> list[Measurements]:
    return [measured(draw(kind, n, 10_000 + seed), METRICS) for seed in range(draws)]


@pytest.fixture(scope="module")
def worse() -> list[Measurements]:
    return drawn("slightly worse", 600, DRAWS)


@pytest.fixture(scope="module")
def much_worse() -> list[Measurements]:
    return drawn("worse", 2000, 40)


@pytest.fixture(scope="module")
def equal() -> list[Measurements]:
    return drawn("equal", 5000, LARGE_DRAWS)


@pytest.mark.parametrize("percent", [False, True], ids=["absolute", "percent"])
@pytest.mark.parametrize("metric", METRICS)
def test_a_version_that_is_exactly_at_the_margin_passes_at_most_as_often_as_the_level_says(
    worse: list[Measurements], metric: str, percent: bool
) -> None:
    found = outcomes(worse, metric, at_the_margin(worse, metric, percent=percent))
    assert set(found) <= {"pass", "fail", "inconclusive"}
    assert found.count("pass") / DRAWS <= NOMINAL + TOLERANCE
    assert found.count("fail") / DRAWS <= NOMINAL + TOLERANCE


@pytest.mark.parametrize("metric", METRICS)
def test_a_version_beyond_the_margin_fails_and_one_well_inside_passes(
    much_worse: list[Measurements], metric: str
) -> None:
    ((key, lost),) = at_the_margin(much_worse, metric).items()
    error = max(each.standard_error or 0.0 for each in changes(much_worse, metric))
    assert lost > 6 * error
    assert set(outcomes(much_worse, metric, {key: lost - 6 * error})) == {"fail"}
    assert set(outcomes(much_worse, metric, {key: lost + 6 * error})) == {"pass"}


@pytest.mark.parametrize("metric", METRICS)
def test_versions_that_are_equal_are_told_so_on_five_thousand_rows(equal: list[Measurements], metric: str) -> None:
    found = outcomes(equal, metric, no_worse(metric))
    assert found.count("pass") >= 0.95 * LARGE_DRAWS
    assert "fail" not in found


@pytest.mark.parametrize("metric", METRICS)
def test_the_pairing_makes_the_interval_of_a_change_shorter(
    worse: list[Measurements], equal: list[Measurements], metric: str
) -> None:
    assert widening(worse, metric) > 1
    assert widening(equal, metric) > 1.2


def test_the_table_of_the_benchmark_has_every_metric() -> None:
    _, heading, table = RESULTS.read_text(encoding="utf-8").partition(HEADING)
    assert heading
    assert all(table.count(f"| `{metric}` |") == 4 for metric in pairs.METRICS)
    assert "**" not in table
