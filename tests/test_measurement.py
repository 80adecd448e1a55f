from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats

import gate
from gate.errors import MetricError
from gate.estimate import Estimate
from gate.geometry import catalogue
from gate.measurement import measure
from tests.geometry import data, inputs


def cloud(n: int = 1200, d: int = 16, seed: int = 0) -> torch.Tensor:
    return data.structured(n, d, 4, seed)[0]


def test_arrays_and_tensors_of_any_float_type_are_measured_alike() -> None:
    rows = cloud()
    expected = measure(rows, metrics=["collapse_index"])["collapse_index"].value
    for same in (rows.numpy(), np.asfortranarray(rows.numpy()), rows.double(), rows.clone().requires_grad_()):
        assert measure(same, metrics=["collapse_index"])["collapse_index"].value == pytest.approx(expected, abs=1e-6)
    half = measure(rows.half(), metrics=["collapse_index"])["collapse_index"].value
    assert half == pytest.approx(expected, abs=1e-3)


def test_asking_for_a_metric_gives_its_value_and_every_readout() -> None:
    found = measure(cloud(), metrics=["effective_rank"])
    readouts = catalogue.load()["effective_rank"].readouts
    assert list(found) == ["effective_rank", *(f"effective_rank.{readout}" for readout in readouts)]
    assert list(measure(cloud(), metrics=["effective_rank.share"])) == ["effective_rank.share"]


def test_asking_for_nothing_gives_the_whole_catalogue() -> None:
    every = {name for name, entry in catalogue.load().items()}
    assert {address.partition(".")[0] for address in measure(cloud(64, 4))} == every


def test_the_door_of_the_package_is_this_function() -> None:
    assert gate.measure is measure


def test_the_interval_widens_with_the_level_and_shrinks_with_the_rows() -> None:
    def width(n: int, confidence: float) -> float:
        interval = measure(cloud(n), metrics=["effective_rank"], confidence=confidence)["effective_rank"].interval
        assert interval is not None
        return interval[1] - interval[0]

    assert width(1000, 0.99) > width(1000, 0.9) > width(4000, 0.9)


def test_the_standard_error_is_the_spread_of_the_influence() -> None:
    found = measure(cloud(), metrics=["participation_ratio"])["participation_ratio"]
    assert found.influence is not None
    assert found.standard_error == pytest.approx(float(found.influence.values.std()) / math.sqrt(1200))


def test_the_spearman_order_of_influence_is_that_of_leaving_one_row_out() -> None:
    rows = cloud(300, 6)
    found = measure(rows, ids=range(300), metrics=["effective_rank"])["effective_rank"]
    assert found.influence is not None
    assert found.value is not None
    order = [int(name) for name in found.influence.ids]
    left_out = []
    for row in order[:60]:
        kept = [other for other in range(300) if other != row]
        value = measure(rows[kept], ids=kept, metrics=["effective_rank"])["effective_rank"].value
        assert value is not None
        left_out.append((found.value - value) * 299)
    assert stats.spearmanr(left_out, found.influence.values[:60]).statistic > 0.99


def test_a_paired_difference_is_far_narrower_than_two_intervals() -> None:
    rows = cloud()
    baseline = rows + 0.01 * data.isotropic(1200, 16).float()
    found = measure(rows, baseline=baseline, metrics=["effective_rank"])["effective_rank"]
    change = found.change
    assert isinstance(change, Estimate)
    assert change.interval is not None
    assert change.standard_error is not None
    assert found.standard_error is not None
    assert change.standard_error < 0.1 * found.standard_error
    other = measure(baseline, metrics=["effective_rank"])["effective_rank"]
    assert change.value == pytest.approx((found.value or 0) - (other.value or 0))
    assert change.method.startswith("paired difference")


def test_paired_intervals_cover_the_difference() -> None:
    differences, intervals = [], []
    for seed in range(150):
        rows = cloud(600, 8, seed)
        shifted = rows.clone()
        shifted[:, 0] *= 1.5
        change = measure(rows, baseline=shifted, metrics=["effective_rank"])["effective_rank"].change
        assert change is not None
        assert change.interval is not None
        differences.append(change.value)
        intervals.append(change.interval)
    target = np.mean(np.array(differences, dtype=float))
    assert 0.9 <= np.mean([low <= target <= high for low, high in intervals]) <= 0.99


def test_a_difference_to_something_that_was_not_measured_is_not_a_number() -> None:
    rows = cloud()
    change = measure(rows, baseline=torch.ones(1200, 16), metrics=["effective_rank"])["effective_rank"].change
    assert change is not None
    assert (change.status, change.value) == ("error", None)


def test_estimates_of_other_rows_are_not_compared() -> None:
    first = measure(cloud(), ids=range(1200), metrics=["effective_rank"])["effective_rank"]
    second = measure(cloud(), ids=range(1, 1201), metrics=["effective_rank"])["effective_rank"]
    with pytest.raises(MetricError, match="measured on the same rows"):
        first.minus(second)


def test_numbers_without_intervals_are_the_same_and_keep_their_refusals() -> None:
    given = inputs.everything(600, 8, 1)
    sure, plain = measure(**given), measure(**given, intervals=False)
    assert list(plain) == list(sure)
    assert sum(each.status == "ok" for each in plain.values()) > 120
    for address, each in plain.items():
        assert (each.status, each.reason, each.value) == (
            sure[address].status,
            sure[address].reason,
            sure[address].value,
        )
        assert (each.interval, each.standard_error, each.influence, each.change) == (None, None, None, None)
        assert each.method == "none"


def test_a_number_that_needs_a_signal_is_refused_without_intervals_too() -> None:
    found = measure(
        data.isotropic(400, 8),
        labels=[row % 4 for row in range(400)],
        metrics=["within_between_ratio"],
        intervals=False,
    )
    assert "no_class_signal" in str(found["within_between_ratio"].reason)
    assert found["within_between_ratio"].value is None


@pytest.mark.parametrize("intervals", [False, True])
def test_rows_of_one_cluster_are_refused_with_intervals_or_without(intervals: bool) -> None:
    rows = data.isotropic(400, 8)
    found = measure(rows, clusters=[0] * 400, metrics=["effective_rank", "mean_cosine"], intervals=intervals)
    assert all(
        str(each.reason).startswith("few_clusters") for each in found.values() if each.status != "not_applicable"
    )
    assert found["mean_cosine"].status == "inconclusive"


def test_estimates_without_intervals_have_no_difference() -> None:
    first, second = (measure(cloud(seed=seed), metrics=["mean_cosine"], intervals=False) for seed in (0, 1))
    gap = first["mean_cosine"].minus(second["mean_cosine"])
    assert (gap.status, gap.value) == ("error", None)
    assert str(gap.reason).startswith("no_intervals")


def test_zero_rows_are_left_out_of_directions_and_counted() -> None:
    rows = cloud()
    rows[:50] = 0
    found = measure(rows, metrics=["mean_cosine"])["mean_cosine"]
    assert found.detail == "50 zero rows have no direction and are left out"
    alone = measure(rows[50:], metrics=["mean_cosine"])["mean_cosine"]
    assert found.value == pytest.approx(alone.value)
    assert found.standard_error == pytest.approx(alone.standard_error, rel=0.05)


@pytest.mark.parametrize("tiny", [0.0, 1e-15])
def test_many_rows_without_a_direction_are_inconclusive(tiny: float) -> None:
    rows = cloud()
    rows[:100] *= tiny
    for name in ("mean_cosine", "collapse_index", "channel_spread", "wasserstein_uniformity"):
        found = measure(rows, metrics=[name])[name]
        assert found.status == "inconclusive"
        assert str(found.reason).startswith("zero_rows: ")


def test_more_rows_than_the_sample_holds_are_still_all_counted() -> None:
    rows = cloud(20_000, 8)
    found = measure(rows, metrics=["effective_rank"])["effective_rank"]
    assert found.n == 20_000
    assert found.influence is not None
    assert len(found.influence.ids) == 8192
    scale = float(found.influence.values.abs().max())
    assert abs(float(found.influence.values.sum())) < 1e-9 * scale * 8192
    covariance = np.cov(rows.double().numpy().T, bias=True)
    share = np.linalg.eigvalsh(covariance) / np.trace(covariance)
    assert found.value == pytest.approx(math.exp(-np.sum(share * np.log(share))), rel=1e-6)


def test_geometry_needs_torch_and_nothing_else() -> None:
    code = (
        "import sys, gate.measurement, gate.geometry, gate.geometry.registry as r; r.metrics(); "
        "print([m for m in ('mlflow', 'pydantic', 'pandas', 'great_expectations', 'typer') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_catalogue_is_read_without_torch() -> None:
    code = "import sys; from gate.geometry import catalogue; catalogue.load(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU on this machine")
def test_a_gpu_measures_what_the_cpu_measures() -> None:
    rows, labels = data.structured(1200, 16, 4, 0)
    expected = measure(rows, labels=labels)
    for address, found in measure(rows.cuda(), labels=labels.cuda()).items():
        assert found.status == expected[address].status
        if found.value is not None:
            assert found.value == pytest.approx(expected[address].value, rel=1e-4, abs=1e-5), address
