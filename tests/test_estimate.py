"""Estimates at other levels of confidence, and paired differences."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from math import inf
from typing import Any

import pytest
import torch

from gate.estimate import Estimate, Influence, is_number, qualified
from gate.estimation import estimate, statistics_for
from gate.geometry import registry
from gate.geometry.statistics import Batch, Collection, output_names
from gate.verdict import levels
from tests.geometry import data

METRICS = (
    "effective_rank", "participation_ratio", "collapse_index", "mean_cosine", "wasserstein_uniformity",
    "knn_label_agreement", "ridge_probe_accuracy", "ncc_accuracy", "within_between_ratio", "cdnv", "vci", "ece",
    "worst_class_recall", "dead_unit_share", "near_duplicate_share", "outlier_channel_ratio", "codebook_usage",
)  # fmt: skip


@cache
def collected(n: int = 1200, seed: int = 0, **columns: Any) -> Collection:
    rows, labels = data.structured(n, 12, 4, seed)
    head = torch.randn(12, 4, generator=data.generator(1))
    found = [registry.find(name)[0] for name in METRICS]
    batch = Batch.of(
        rows,
        ids=[str(row) for row in range(n)],
        labels=labels,
        logits=rows @ head,
        codes=(rows[:, :3] * 2).long().clamp(-3, 4) + 3,
        outputs=output_names(4, None),
        **columns,
    )
    return Collection.of(batch, statistics_for(found))


def measured(name: str, collection: Collection, confidence: float, *more: float) -> dict[str, Estimate]:
    params = {"size": 16} if name == "codebook_usage" else {}
    return estimate(registry.find(name)[0], collection, confidence=confidence, params=params, levels=more)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("clusters", [None, tuple(row // 3 for row in range(1200))], ids=["rows", "clusters"])
def test_an_interval_at_another_level_is_the_one_that_this_level_would_have_given(name: str, clusters: Any) -> None:
    collection = collected(clusters=clusters)
    asked = levels(0.95)
    known = measured(name, collection, 0.95, *asked)
    answered = [address for address, each in known.items() if each.status == "ok"]
    assert answered
    for level in asked[::4]:
        directly = measured(name, collection, level)
        for address in answered:
            found = known[address].at(level)
            assert found.confidence == pytest.approx(level, abs=1e-12), address
            assert found.interval == pytest.approx(directly[address].interval, rel=1e-9, abs=1e-12), address
            assert (found.value, found.standard_error) == (known[address].value, known[address].standard_error)


@pytest.mark.parametrize("name", METRICS)
def test_an_interval_at_a_higher_level_is_never_narrower(name: str) -> None:
    for each in measured(name, collected(), 0.95, *levels(0.95)).values():
        ends = [each.at(level).interval for level in levels(0.95)]
        for lower, higher in pairwise(ends):
            assert (lower is None) == (higher is None)
            if lower is not None and higher is not None:
                assert higher[0] <= lower[0] <= lower[1] <= higher[1], each.metric


def some(**changes: Any) -> Estimate:
    known = measured("mean_cosine", collected(), 0.95)["mean_cosine"]
    return replace(known, value=0.5, interval=(0.4, 0.6), **changes)


@pytest.mark.parametrize(
    ("level", "found"),
    [(0.8, (0.9, (0.45, 0.55))), (0.9, (0.9, (0.45, 0.55))), (0.93, (0.95, (0.4, 0.6))), (0.96, (0.99, (0.3, 0.7)))],
)
def test_between_the_levels_that_are_known_the_next_one_above_counts(level: float, found: Any) -> None:
    seen = some(intervals={0.9: (0.45, 0.55), 0.99: (0.3, 0.7)}).at(level)
    assert (seen.confidence, seen.interval, seen.status) == (*found, "ok")


def test_beyond_the_widest_interval_nothing_can_be_decided() -> None:
    seen = some(intervals={0.9: (0.45, 0.55)}).at(0.99)
    assert (seen.status, seen.interval, seen.value) == ("inconclusive", None, 0.5)
    assert seen.reason == "no_interval: an interval of 0.99 is asked for, the widest known is 0.95"


def test_an_interval_without_an_end_is_none_that_is_known() -> None:
    open_ = some(intervals={0.99: (-inf, 0.7), 0.999: (-inf, inf)})
    assert open_.at(0.99).reason == "no_interval: an interval of 0.99 is asked for, the widest known is 0.95"
    assert replace(open_, intervals={0.99: (-inf, 0.7), 0.999: (0.1, 0.9)}).at(0.99).interval == (0.1, 0.9)


@pytest.mark.parametrize("status", ["error", "not_applicable", "inconclusive"])
def test_what_was_refused_is_refused_at_every_level(status: Any) -> None:
    refused = some(intervals={0.99: (0.3, 0.7)}, status=status, reason="few_rows: 3 rows")
    assert refused.at(0.99) == refused


def test_a_difference_has_an_interval_at_every_level_of_the_candidate() -> None:
    asked = levels(0.95)
    one, two = (measured("effective_rank", collected(seed=seed), 0.95, *asked)["effective_rank"] for seed in (0, 1))
    change = one.minus(two)
    assert set(change.intervals) == set(one.intervals)
    assert change.standard_error is not None
    for level in asked:
        directly = [measured("effective_rank", collected(seed=seed), level)["effective_rank"] for seed in (0, 1)]
        assert change.at(level).interval == pytest.approx(directly[0].minus(directly[1]).interval, rel=1e-9)


def test_a_difference_says_when_it_is_the_baseline_that_is_refused() -> None:
    one = some()
    refused = replace(one, status="inconclusive", reason="few_rows: 3 rows", value=None, interval=None, n_needed=90)
    change = one.minus(refused)
    assert (change.status, change.reason, change.n_needed) == ("inconclusive", "few_rows: in the baseline, 3 rows", 90)
    assert refused.minus(one).reason == "few_rows: 3 rows"
    assert refused.minus(refused).reason == "few_rows: 3 rows"


def test_a_difference_of_the_same_rows_is_nothing_at_all() -> None:
    one = measured("effective_rank", collected(), 0.95)["effective_rank"]
    assert one.minus(one).interval == (0.0, 0.0)


Z = 1.959963984540054


def leaning(error: float, lean: float, seed: int, n: int = 400) -> Estimate:
    """An estimate of 10 with independent influences, whose interval leans by so much."""
    influence = torch.randn(n, generator=data.generator(seed), dtype=torch.float64)
    influence = (influence - influence.mean()) / influence.std() * error * n**0.5
    ends = (10 - Z * error + lean, 10 + Z * error + lean)
    known = some(n=n, standard_error=error, intervals={}, influence=Influence(tuple(map(str, range(n))), influence))
    return replace(known, value=10.0, interval=ends)


def test_a_difference_leans_as_the_candidate_does_where_the_baseline_is_certain() -> None:
    change = leaning(1.0, 0.3, 0).minus(leaning(1e-6, 1e-7, 1))
    assert change.interval == pytest.approx((0.3 - Z, 0.3 + Z), abs=1e-4)
    change = leaning(1e-6, 1e-7, 1).minus(leaning(1.0, 0.3, 0))
    assert change.interval == pytest.approx((-0.3 - Z, -0.3 + Z), abs=1e-4)


def test_two_that_lean_alike_have_a_difference_that_does_not() -> None:
    one, two = leaning(1.0, 0.3, 0), leaning(1.0, 0.3, 1)
    low, high = one.minus(two).interval or (0.0, 0.0)
    assert low + high == pytest.approx(0, abs=1e-9)
    assert one.minus(one).interval == (0.0, 0.0)


@pytest.mark.parametrize("error", [0.5, 1.0, 2.0])
def test_each_of_two_independent_ones_leans_by_its_share_of_the_variance(error: float) -> None:
    one, two = leaning(1.0, 0.3, 0), leaning(error, 0.0, 1)
    change = one.minus(two)
    low, high = change.interval or (0.0, 0.0)
    assert change.standard_error == pytest.approx((1 + error**2) ** 0.5, rel=0.1)
    assert (low + high) / 2 == pytest.approx(0.3 / (1 + error**2), rel=0.2)
    assert high - low == pytest.approx(2 * Z * (change.standard_error or 0))


def test_a_difference_stays_inside_of_its_interval_however_it_leans() -> None:
    one, two = leaning(1.0, 5.0, 0), leaning(0.1, 0.0, 1)
    low, high = one.minus(two).interval or (1.0, 1.0)
    assert low == 0 < high


def test_intervals_without_an_end_lean_nowhere() -> None:
    endless = replace(leaning(1.0, 0.0, 0), interval=(9.0, inf))
    low, high = endless.minus(leaning(1e-6, 0.0, 1)).interval or (1.0, 1.0)
    assert (low, high) == pytest.approx((-Z, Z), abs=1e-4)


def test_influence_of_rows_adds_up_by_cluster() -> None:
    values = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    apart = Influence(("a", "b", "c", "d"), values)
    together = replace(apart, clusters=torch.tensor([0, 1, 0, 1]))
    assert together.variance(4) > 1.9 * apart.variance(4)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("few_rows: 3 rows: too few", "few_rows: in the baseline, 3 rows: too few"),
        ("no code here", "no code here"),
        ("", ""),
        (None, None),
    ],
)
def test_a_reason_keeps_its_code_first(reason: str | None, told: str | None) -> None:
    assert qualified(reason, "in the baseline") == told


@pytest.mark.parametrize("value", [float("nan"), inf, -inf, None, True, False, "1", [], 1j])
def test_what_is_no_finite_number(value: object) -> None:
    assert not is_number(value)
    assert all(map(is_number, (0, 1, -1.5, 1e308)))
