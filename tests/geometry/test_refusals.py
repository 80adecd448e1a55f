"""Outside its domain a metric answers with a reason and the rows it would need, never with a number."""

from __future__ import annotations

import math

import pytest
import torch

from gate.errors import MetricError
from gate.geometry.registry import metric
from gate.geometry.statistics import Moments
from gate.measurement import measure
from tests.geometry import data


@pytest.mark.parametrize(
    ("address", "n", "d", "reason", "needed"),
    [
        ("effective_rank", 100, 64, "n_over_d: 100 rows of dimension 64", 256),
        ("effective_rank.iso_ratio", 40, 256, "n_over_d", 64),
        ("wasserstein_uniformity", 100, 64, "n_over_d", 256),
        ("collapse_index", 40, 256, "n_over_d", 64),
        ("participation_ratio", 40, 4, "few_rows", 50),
        ("channel_spread", 99, 4, "few_rows", 100),
        ("mean_cosine", 29, 4, "few_rows", 30),
        ("dead_unit_share", 999, 4, "few_rows", 1000),
        ("outlier_channel_ratio", 499, 4, "few_rows", 500),
    ],
)
def test_too_few_rows_are_inconclusive(address: str, n: int, d: int, reason: str, needed: int) -> None:
    found = measure(data.isotropic(n, d), metrics=[address])[address]
    assert (found.status, found.value, found.interval) == ("inconclusive", None, None)
    assert found.reason is not None
    assert found.reason.startswith(reason)
    assert found.n_needed == needed


@pytest.mark.parametrize(
    ("address", "per_class", "reason"),
    [
        ("within_between_ratio", 4, "small_class: class '0' has 4 rows; each class needs at least 5"),
        ("cdnv", 9, "small_class"),
        ("vci", 9, "small_class"),
        ("ridge_probe_accuracy", 19, "small_class"),
        ("ncc_accuracy", 4, "small_class"),
        ("mean_cosine.per_class", 29, "small_class"),
    ],
)
def test_small_classes_are_inconclusive(address: str, per_class: int, reason: str) -> None:
    labels = [row // per_class for row in range(8 * per_class)]
    found = measure(data.isotropic(8 * per_class, 2), labels=labels, metrics=[address])[address]
    assert found.status == "inconclusive"
    assert found.reason is not None
    assert found.reason.startswith(reason)


def test_vci_below_two_rows_a_dimension_is_inconclusive() -> None:
    rows, labels = data.structured(127, 64, 4, 0)
    found = measure(rows, labels=labels, metrics=["vci"])["vci"]
    assert (found.status, found.n_needed) == ("inconclusive", 128)


def test_random_labels_leave_the_ratio_inconclusive_but_report_the_bounded_share() -> None:
    rows = data.isotropic(2000, 64)
    labels = torch.randint(0, 10, (2000,), generator=data.generator(1))
    found = measure(rows, labels=labels, metrics=["within_between_ratio"])
    assert found["within_between_ratio"].reason is not None
    assert found["within_between_ratio"].reason.startswith("no_class_signal")
    assert found["within_between_ratio.between_share"].status == "ok"


def test_random_labels_read_one_in_vci_at_any_size() -> None:
    for d in (64, 512):
        labels = torch.randint(0, 10, (2000,), generator=data.generator(2))
        found = measure(data.isotropic(2000, d), labels=labels, metrics=["vci"])
        assert found["vci"].value == pytest.approx(1, abs=0.02)


def test_merged_classes_have_an_infinite_cdnv_that_names_the_pair() -> None:
    halves = data.isotropic(400, 8)
    halves[200:, 0] += 8
    codes = ["a", "b"] * 100 + ["c"] * 200
    found = measure(halves, labels=codes, metrics=["cdnv"])
    assert found["cdnv.max"].value == math.inf
    assert found["cdnv.max"].interval is None
    assert found["cdnv"].detail is not None
    assert "'a' and 'b'" in found["cdnv"].detail


@pytest.mark.parametrize(
    "address",
    [
        "ridge_probe_accuracy.r2",
        "ridge_probe_accuracy.task_ladder",
        "ridge_probe_accuracy.pretext",
        "knn_label_agreement.fine",
        "knn_label_agreement.coarse",
        "near_duplicate_share.cross",
        "dead_unit_share.heat_k",
        "mean_cosine.before_after",
        "within_between_ratio.per_layer",
        "within_between_ratio.null_space_shift",
        "ncc_accuracy.env_gap",
    ],
)
def test_readouts_whose_input_is_not_there_are_not_applicable(address: str) -> None:
    rows, labels = data.structured(1200, 8, 3, 0)
    found = measure(rows, labels=labels, metrics=[address])[address]
    assert (found.status, found.value) == ("not_applicable", None)
    assert found.reason is not None
    assert found.reason.startswith("missing_input: it needs ")


@pytest.mark.parametrize("name", ["vci", "cdnv", "within_between_ratio", "ridge_probe_accuracy", "knn_label_agreement"])
def test_class_metrics_without_labels_are_not_applicable(name: str) -> None:
    for found in measure(data.isotropic(1200, 8), metrics=[name]).values():
        assert found.status == "not_applicable"


@pytest.mark.parametrize(
    "name", ["effective_rank", "participation_ratio", "vci", "ridge_probe_accuracy", "ncc_accuracy"]
)
def test_constant_features_are_an_error_where_nothing_is_defined(name: str) -> None:
    rows = torch.ones(1200, 4) * 3.3
    found = measure(rows, labels=[row % 2 for row in range(1200)], metrics=[name])[name]
    assert (found.status, found.value) == ("error", None)
    assert found.reason is not None
    assert "equal" in found.reason


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_a_constant_model_separates_no_classes(kind: torch.dtype) -> None:
    labels = [row % 5 for row in range(2000)]
    for row in (torch.ones(32) * 3.3, data.isotropic(1, 32)[0]):
        for found in measure(row.expand(2000, -1).to(kind), labels=labels, metrics=["within_between_ratio"]).values():
            assert (found.status, found.value) == ("error", None)
            assert found.reason is not None
            assert found.reason.startswith("all 2000 feature rows are equal up to rounding")


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [5, 200])
def test_classes_that_are_points_read_zero_with_the_bound_of_rounding(kind: torch.dtype, classes: int) -> None:
    labels = torch.arange(2000) % classes
    rows = (data.isotropic(classes, 8) / 3 + 1).to(kind)[labels]
    found = measure(rows, labels=labels, metrics=["within_between_ratio"])
    tight = found["within_between_ratio"]
    assert (tight.status, tight.value) == ("ok", 0)
    assert tight.interval is not None
    assert tight.interval[0] == 0
    assert 0 < tight.interval[1] < 1e-10
    assert found["within_between_ratio.between_share"].value == pytest.approx(1)


@pytest.mark.parametrize("name", ["mean_cosine", "wasserstein_uniformity", "collapse_index", "channel_spread"])
def test_rows_of_zeros_are_an_error_where_directions_are_asked_for(name: str) -> None:
    found = measure(torch.zeros(1200, 4), metrics=[name])[name]
    assert found.status == "error"
    assert found.reason is not None
    assert "zero" in found.reason


def test_features_that_are_not_finite_admit_no_metric() -> None:
    rows = data.isotropic(1200, 8)
    rows[5, 1] = torch.nan
    for found in measure(rows, labels=[row % 2 for row in range(1200)]).values():
        assert (found.status, found.value) == ("error", None)
        assert found.reason is not None
        assert "1 of 1200 feature rows" in found.reason
        assert "'5'" in found.reason


def test_duplicated_rows_do_not_buy_agreement_or_accuracy() -> None:
    """Every row twice: without care 1-NN agreement of random labels is 1 and a probe reads its own training rows."""
    rows = data.isotropic(1000, 64).repeat(2, 1)
    labels = torch.randint(0, 10, (1000,), generator=data.generator(4)).repeat(2)
    found = measure(rows, labels=labels, metrics=["knn_label_agreement", "ridge_probe_accuracy"])
    assert found["knn_label_agreement.thornton"].value == pytest.approx(0.1, abs=0.05)
    assert found["ridge_probe_accuracy"].reason is not None
    assert found["ridge_probe_accuracy"].reason.startswith("duplicates")


def test_random_labels_merge_all_but_a_few_pairs_of_classes() -> None:
    labels = torch.randint(0, 10, (2000,), generator=data.generator(6))
    found = measure(data.isotropic(2000, 64), labels=labels, metrics=["cdnv.max"])["cdnv.max"]
    assert found.detail is not None
    assert int(found.detail.split()[0]) >= 40


def test_k_is_lowered_to_the_smallest_class_and_recorded() -> None:
    rows, _ = data.structured(300, 8, 2, 0)
    found = measure(rows, labels=[int(row < 8) for row in range(300)], metrics=["knn_label_agreement"])
    assert found["knn_label_agreement"].k == 7


def test_unbalanced_classes_are_trained_on_equal_counts() -> None:
    """Nine rows of ten in one class: a probe trained on all of them would answer that class and still look accurate."""
    rows, labels = data.two_classes(1.0, 4000, 8)
    kept = [row for row in range(4000) if labels[row] == 0 or row % 18 == 1]
    found = measure(rows[kept], labels=[labels[row] for row in kept], metrics=["ridge_probe_accuracy"])
    expected = 0.5 * (1 + math.erf(0.5 / math.sqrt(2)))
    assert found["ridge_probe_accuracy"].value == pytest.approx(expected, abs=0.04)
    assert found["ridge_probe_accuracy.worst_class"].value == pytest.approx(expected, abs=0.08)


def test_calls_that_make_no_sense_are_refused() -> None:
    rows = torch.ones(4, 2)
    with pytest.raises(MetricError, match="no metric 'efective_rank'; did you mean 'effective_rank'"):
        measure(rows, metrics=["efective_rank"])
    with pytest.raises(MetricError, match=r"no metric 'effective_rank\.shar'; did you mean 'effective_rank\.share'"):
        measure(rows, metrics=["effective_rank.shar"])
    with pytest.raises(MetricError, match="list of names, found the string 'vci'"):
        measure(rows, metrics="vci")
    with pytest.raises(MetricError, match=r"duplicate_ids: .*'a' occurs more than once"):
        measure(rows, ids=["a", "b", "a", "c"])
    with pytest.raises(MetricError, match=r"found shape \(4,\)"):
        measure(torch.ones(4))
    with pytest.raises(MetricError, match="labels must have one entry for each of the 4 rows, found 3"):
        measure(rows, labels=[1, 2, 3])
    with pytest.raises(MetricError, match="confidence must lie between 0 and 1, found 95"):
        measure(rows, confidence=95)


def test_a_metric_that_is_badly_declared_is_refused() -> None:
    declared = metric(unit="x", greater_is_better=None, invariant_to=set(), paper="none", domain="always")
    with pytest.raises(MetricError, match="'vci' is registered twice"):

        @declared
        def vci(moments: Moments) -> torch.Tensor:
            """Another one."""
            return moments.mean.sum()

    with pytest.raises(MetricError, match="needs a docstring"):

        @declared
        def silent(moments: Moments) -> torch.Tensor:
            return moments.mean.sum()

    with pytest.raises(MetricError, match="annotate parameter 'moments'"):

        @declared
        def bare(moments) -> None:  # type: ignore[no-untyped-def]
            """Without annotation."""
