"""Ways in which a number could look better, or more certain, than the features are."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gate.errors import MetricError
from gate.estimation import estimate
from gate.geometry.registry import find, metrics
from gate.geometry.statistics import Batch, Codes, Collection
from gate.measurement import measure
from tests.geometry import data


def live_directions(n: int, live: int, d: int, seed: int = 0) -> Tensor:
    rows = torch.zeros(n, d, dtype=torch.float64)
    rows[:, :live] = data.isotropic(n, live, seed)
    return rows @ data.rotation(d, seed)


@pytest.mark.parametrize("n", [128, 256, 512, 700])
def test_lost_directions_are_not_excused_by_the_null_of_isotropic_rows(n: int) -> None:
    """51 of 512 directions live: dividing by the isotropic null at n < d would read 0.62 in place of 0.90."""
    found = measure(live_directions(n, 51, 512), metrics=["collapse_index", "effective_rank.iso_ratio"])
    for each in found.values():
        if each.value is not None and each.metric == "collapse_index":
            assert each.value > 0.85
        elif each.value is None:
            assert (each.status, each.n_needed) == ("inconclusive", 2048)
    assert found["collapse_index"].status == "inconclusive" or n > 256


def test_with_enough_rows_lost_directions_are_measured() -> None:
    found = measure(live_directions(2048, 51, 512), metrics=["collapse_index"])["collapse_index"]
    assert found.value == pytest.approx(0.90, abs=0.01)


def test_a_majority_of_dead_units_is_not_its_own_yardstick() -> None:
    rows = data.isotropic(2000, 64)
    rows[:, 8:] *= 1e-5
    assert measure(rows, metrics=["dead_unit_share"])["dead_unit_share"].value == pytest.approx(56 / 64)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e4])
def test_neighbours_are_found_in_the_tightest_cone(offset: float) -> None:
    rows, labels = data.far_clusters(1000, 4, 16)
    found = measure(rows * 0.15 / 20 + offset, labels=labels, metrics=["knn_label_agreement.raw"])
    assert found["knn_label_agreement.raw"].value == pytest.approx(1, abs=0.01)


def test_a_small_class_without_errors_is_not_certain() -> None:
    """Twenty rows and two thousand: the interval of the balanced accuracy holds the truth as often as it says."""
    truth = 0.5 * (1 + math.erf(1.75 / math.sqrt(2)))
    held = 0
    for seed in range(100):
        rows = data.isotropic(2020, 8, seed)
        rows[:20, 0] += 3.5
        labels = [1] * 20 + [0] * 2000
        interval = measure(rows, labels=labels, metrics=["ncc_accuracy"], seed=seed)["ncc_accuracy"].interval
        assert interval is not None
        held += interval[0] <= truth <= interval[1]
    assert held >= 90


def test_rows_without_direction_widen_the_interval_of_the_others() -> None:
    values, errors = [], []
    for seed in range(60):
        rows, _ = data.structured(1000, 8, 4, seed)
        rows[:40] = 0
        found = measure(rows, metrics=["wasserstein_uniformity.share"], seed=seed)["wasserstein_uniformity.share"]
        values.append(found.value)
        errors.append(found.standard_error)
    observed = torch.tensor(values, dtype=torch.float64).std().item()
    assert torch.tensor(errors, dtype=torch.float64).mean().item() == pytest.approx(observed, rel=0.3)


@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e18, 1e30])
def test_the_unit_of_the_features_does_not_matter(scale: float) -> None:
    rows, labels = data.structured(1200, 16, 4, 0)
    rows = rows.double()
    expected = measure(rows, labels=labels)
    for address, found in measure(rows * scale, labels=labels).items():
        assert found.status == expected[address].status, address
        if found.value is not None:
            assert found.value == pytest.approx(expected[address].value, rel=1e-6, abs=1e-9), address


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_features_that_cannot_be_squared_are_refused(scale: float) -> None:
    with pytest.raises(MetricError, match="out of range"):
        measure(data.isotropic(100, 4) * scale)


def test_whole_numbers_that_float32_cannot_hold_keep_their_differences() -> None:
    steps = torch.randint(-10, 11, (1200, 8), generator=data.generator(0))
    expected = measure(steps, metrics=["effective_rank"])["effective_rank"].value
    assert measure(steps + 10**9, metrics=["effective_rank"])["effective_rank"].value == pytest.approx(expected)


def test_rounding_noise_on_a_constant_output_is_no_spectrum() -> None:
    rows = 3.3 * (1 + 6e-7 * data.isotropic(1200, 16)).float()
    found = measure(rows, labels=[row % 2 for row in range(1200)], metrics=["effective_rank", "vci"])
    assert {found["effective_rank"].status, found["vci"].status} == {"error"}


def test_half_precision_keeps_its_own_rounding() -> None:
    rows = (8 + 0.05 * data.isotropic(1200, 1) * torch.ones(16)).bfloat16()
    assert measure(rows, metrics=["effective_rank"])["effective_rank"].status == "error"


def test_complex_numbers_and_gaps_in_labels_are_refused() -> None:
    with pytest.raises(MetricError, match="real numbers"):
        measure(torch.ones(4, 2, dtype=torch.complex64))
    with pytest.raises(MetricError, match="row 1 of a column of labels or groups holds None"):
        Codes.of(["a", None])
    with pytest.raises(MetricError, match="row 0 of a column of labels or groups holds nan"):
        Codes.of([float("nan")])
    with pytest.raises(MetricError, match="array or a tensor of numbers"):
        measure([["a", "b"]])  # type: ignore[arg-type]


EXTREMES = [
    ("collapse_index", {"null_share": 1e-9}),
    ("collapse_index", {"null_share": 0}),
    ("collapse_index", {"null_share": -1}),
    ("dead_unit_share", {"tolerance": -1}),
    ("dead_unit_share", {"threshold": 0}),
    ("within_between_ratio", {"tau": -1}),
    ("knn_label_agreement", {"k": 0}),
    ("knn_label_agreement", {"k": 100_000}),
    ("knn_label_agreement", {"k": 2.5}),
    ("knn_label_agreement", {"k": True}),
    ("knn_label_agreement", {"tau": 0}),
    ("knn_label_agreement", {"vote_k": -1}),
    ("knn_label_agreement", {"neighbours": 3}),
]


@pytest.mark.parametrize(("name", "params"), EXTREMES)
def test_parameters_that_switch_a_metric_off_are_an_error(name: str, params: dict[str, float]) -> None:
    rows, labels = data.structured(1200, 16, 4, 0)
    batch = Batch.of(rows, ids=[str(row) for row in range(1200)], labels=labels)
    collection = Collection.of(batch, tuple(find(name)[0].statistics.values()))
    for found in estimate(metrics()[name], collection, params=params).values():
        assert (found.status, found.value) == ("error", None)
        assert name in str(found.reason) or "null_share" in str(found.reason)


def test_two_flawless_models_are_not_told_to_be_equal_by_sixty_rows() -> None:
    rows, labels = data.far_clusters(60, 2, 4)
    found = measure(rows, baseline=rows * 2, labels=labels, metrics=["ncc_accuracy", "knn_label_agreement.vote"])
    for each in found.values():
        if each.status == "ok" and each.change is not None and each.method.startswith("Wilson"):
            assert each.change.interval is not None
            assert each.change.interval[0] < -0.02 < 0.02 < each.change.interval[1], each.metric


def test_counts_are_compared_by_their_intervals() -> None:
    rows = data.isotropic(1200, 16)
    dead = rows.clone()
    dead[:, 0] *= 0.0101
    change = measure(dead, baseline=rows, metrics=["dead_unit_share"])["dead_unit_share"].change
    assert change is not None
    assert change.interval == pytest.approx((0, 1 / 16))


def test_a_difference_to_infinity_is_an_error() -> None:
    rows, labels = data.far_clusters(400, 4, 8)
    change = measure(rows, baseline=data.isotropic(400, 8), labels=labels, metrics=["cdnv"])["cdnv"].change
    assert change is not None
    assert (change.status, change.value) == ("error", None)


def test_neighbours_say_when_rows_have_no_direction() -> None:
    rows, labels = data.far_clusters(1200, 4, 16)
    rows[:30] = 0
    ids = [f"{row}" for row in range(1200)]
    prints = torch.arange(1200)
    batch = Batch.of(rows, ids=ids, labels=labels, fingerprints=prints)
    found = estimate(metrics()["knn_label_agreement"], Collection.of(batch, ()))["knn_label_agreement"]
    assert found.detail == "30 sampled rows repeat an input or have no direction and are left out"
    rows[:540] = 0
    batch = Batch.of(rows, ids=ids, labels=labels, fingerprints=prints)
    found = estimate(metrics()["knn_label_agreement"], Collection.of(batch, ()))["knn_label_agreement"]
    assert found.status == "inconclusive"
    assert str(found.reason).startswith("zero_rows: 45%")
