"""Values known in closed form, or from theory that the code does not use."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from gate.estimate import Estimate
from gate.geometry.methods import nulls
from gate.geometry.registry import metrics
from gate.geometry.statistics import Batch, UnitMoments, UnitSpectrum
from gate.geometry.uniformity import collapse_index
from gate.measurement import measure
from tests.geometry import data


def value(rows: torch.Tensor, address: str, **columns: object) -> float:
    found = measure(rows, metrics=[address], **columns)[address]  # type: ignore[arg-type]
    assert found.status == "ok", found.reason
    assert found.value is not None
    return found.value


def test_eight_equal_directions_of_sixty_four_count_as_eight() -> None:
    eigenvalues = torch.cat([torch.ones(8), torch.zeros(56)]).double()
    rows = data.orthonormal_columns(1000, eigenvalues)
    assert value(rows, "effective_rank") == pytest.approx(8, abs=1e-6)
    assert value(rows, "effective_rank.share") == pytest.approx(1 / 8, abs=1e-7)
    assert value(rows, "participation_ratio.raw") == pytest.approx(8, abs=1e-6)
    assert value(rows, "dead_unit_share") == pytest.approx(0.875, abs=1e-6)
    turned = rows @ data.rotation(64)
    share = value(rows, "wasserstein_uniformity.share")
    assert value(turned, "wasserstein_uniformity.share") == pytest.approx(share, abs=1e-6)


def test_a_harmonic_spectrum_has_the_ranks_of_its_entropy() -> None:
    rows = data.orthonormal_columns(1000, 1 / torch.arange(1, 65).double())
    assert value(rows, "participation_ratio.raw") == pytest.approx(13.811268, abs=1e-6)
    assert value(rows, "effective_rank") == pytest.approx(29.117882, abs=1e-6)
    assert value(rows, "effective_rank.sv") == pytest.approx(54.990364, abs=1e-6)


def test_isotropic_rows_read_their_null_and_one_after_correction() -> None:
    rows = data.isotropic(2048, 512).float()
    assert value(rows, "effective_rank") == pytest.approx(451.8, rel=0.01)
    assert value(rows, "effective_rank.sv") == pytest.approx(494.7, rel=0.01)
    assert value(rows, "participation_ratio.raw") == pytest.approx(409.4, rel=0.01)
    assert value(rows, "participation_ratio") == pytest.approx(512, rel=0.01)
    assert value(rows, "wasserstein_uniformity.share") == pytest.approx(0.936, rel=0.01)
    assert value(rows, "effective_rank.iso_ratio") == pytest.approx(1, rel=0.01)
    assert value(rows, "wasserstein_uniformity.iso_ratio") == pytest.approx(1, rel=0.01)
    assert value(rows, "collapse_index") == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(("n", "share"), [(128, 0.231), (512, 0.718), (2048, 0.936), (8192, 0.984)])
def test_the_isotropic_uniformity_share_follows_marchenko_and_pastur(n: int, share: float) -> None:
    rows = data.isotropic(n, 512).float()
    found = measure(rows, metrics=["wasserstein_uniformity.iso_ratio"])["wasserstein_uniformity.iso_ratio"]
    assert found.value == pytest.approx(1, abs=0.01)
    units = UnitMoments.of(Batch.of(rows, ids=[str(row) for row in range(n)]))
    observed = float(torch.linalg.eigvalsh(units.covariance).clamp_min(0).sqrt().sum() ** 2 / 512)
    assert observed == pytest.approx(share, abs=0.002)


@pytest.mark.parametrize(("n", "d", "rank"), [(128, 512, 112.2), (512, 512, 310.2), (2000, 768, 633.8)])
def test_the_isotropic_effective_rank_follows_its_closed_form(n: int, d: int, rank: float) -> None:
    rows = data.isotropic(n, d).float()
    ratio = value(rows, "effective_rank.iso_ratio")
    assert ratio == pytest.approx(1, abs=0.01)
    spectrum = torch.linalg.eigvalsh(torch.cov(rows.T.double(), correction=0)).clamp_min(1e-300)
    share = spectrum / spectrum.sum()
    observed = math.exp(-float((share * share.log()).sum()))
    assert observed / ratio == pytest.approx(rank, rel=1e-3)


def test_rows_on_all_axes_are_spread_perfectly() -> None:
    rows = data.axes(64, 10, 64)
    assert value(rows, "wasserstein_uniformity.share") == pytest.approx(1, abs=1e-9)
    assert value(rows, "channel_spread") == pytest.approx(1, abs=1e-9)
    assert value(rows, "mean_cosine") == pytest.approx(-1 / (len(rows) - 1), abs=1e-9)


def test_rows_on_half_of_the_axes_read_one_half() -> None:
    rows = data.axes(64, 10, 32)
    assert value(rows, "wasserstein_uniformity.share") == pytest.approx(0.5, abs=1e-6)
    assert value(rows, "channel_spread") == pytest.approx(math.sqrt(0.5), abs=1e-6)


@pytest.mark.parametrize(("live", "expected"), [(64, 0.0), (32, 0.5)])
def test_the_collapse_index_of_axes_against_an_exact_null(live: int, expected: float) -> None:
    rows = data.axes(64, 10, live)
    units = UnitMoments.of(Batch.of(rows, ids=[str(row) for row in range(len(rows))]))
    answer = collapse_index(units, UnitSpectrum.of_moments(units), null_share=1.0)["value"]
    assert float(answer.natural) == pytest.approx(expected, abs=1e-6)


def test_a_constant_output_is_fully_collapsed() -> None:
    rows = torch.zeros(1000, 64, dtype=torch.float64)
    rows[:, 0] = 1
    assert value(rows, "collapse_index") == 1
    assert value(rows, "wasserstein_uniformity") == pytest.approx(math.sqrt(2), abs=1e-6)
    assert value(rows, "wasserstein_uniformity.w2") == pytest.approx(math.sqrt(2), abs=1e-6)
    assert value(rows, "mean_cosine") == pytest.approx(1, abs=1e-12)
    assert value(rows, "channel_spread") == 0


def test_the_collapse_index_splits_into_cone_and_spectrum() -> None:
    for offset in (0.0, 1.0, 8.0):
        rows = data.orthonormal_columns(1000, torch.ones(64).double())
        rows[:, 0] += offset
        whole = value(rows, "collapse_index")
        cone, lost = value(rows, "collapse_index.cone"), value(rows, "collapse_index.dimensional")
        mean = (rows / rows.norm(dim=1, keepdim=True)).mean(dim=0)
        assert cone == pytest.approx(float(mean @ mean), abs=1e-9)
        unclipped = 1 - (1 - cone) * (1 - lost)
        assert whole == pytest.approx(max(unclipped, 0), abs=1e-9) or lost == 0


def test_two_orthogonal_points_have_a_mean_cosine_of_one_half() -> None:
    rows = torch.zeros(1000, 4, dtype=torch.float64)
    rows[:500, 0], rows[500:, 1] = 1, 1
    assert value(rows, "mean_cosine") == pytest.approx(499 / 999, abs=1e-9)
    offset = data.orthonormal_columns(1000, torch.ones(64).double())
    offset[:, 0] += 8
    assert value(offset, "mean_cosine") == pytest.approx(0.5, abs=0.01)


def test_a_channel_sixty_times_too_loud_reads_sixty() -> None:
    rows = data.axes(64, 10, 64)
    rows[:, 0] *= 60
    assert value(rows, "outlier_channel_ratio") == pytest.approx(60, abs=1e-9)
    assert value(rows, "outlier_channel_ratio.rms") == pytest.approx(60, abs=1e-9)


def test_gaussian_rows_have_the_outlier_ratio_of_their_extremes() -> None:
    assert 1.2 < value(data.isotropic(2000, 64), "outlier_channel_ratio") < 1.5
    assert value(data.isotropic(2000, 64), "outlier_channel_ratio.count6") == 0
    assert value(data.isotropic(20000, 64), "outlier_channel_ratio.kurt99") == pytest.approx(3, abs=0.15)


def test_gaussian_rows_hold_their_sum_in_the_expected_share_of_channels() -> None:
    assert value(data.isotropic(2000, 512), "dead_unit_share.active") == pytest.approx(0.646, abs=0.005)


def test_a_simplex_of_classes_has_its_closed_forms() -> None:
    rows, labels = data.simplex(10, 200, 64, 4.0)
    expected = {
        "vci.raw": 0.384615,
        "vci": 0.397337,
        "within_between_ratio.raw": 4.444444,
        "within_between_ratio": 4.558405,
        "within_between_ratio.between_share": 0.179908,
        "cdnv.raw": 2.010050,
        "cdnv": 2.051282,
        "cdnv.max": 2.051282,
        "cdnv.median": 2.051282,
    }
    for address, golden in expected.items():
        assert value(rows, address, labels=labels) == pytest.approx(golden, abs=1e-5), address


def test_corrected_class_metrics_hit_the_population_where_raw_ones_do_not() -> None:
    draws: dict[str, list[float]] = {}
    means = 4.0 * torch.eye(64, dtype=torch.float64)[:10]
    for seed in range(30):
        rows = means.repeat_interleave(50, dim=0) + data.isotropic(500, 64, seed)
        found = measure(rows, labels=[row // 50 for row in range(500)], metrics=["vci", "within_between_ratio", "cdnv"])
        for address, each in found.items():
            draws.setdefault(address, []).append(each.value if each.value is not None else math.nan)
    expected = {
        "vci": 0.385,
        "vci.raw": 0.336,
        "within_between_ratio": 4.43,
        "within_between_ratio.raw": 4.02,
        "within_between_ratio.between_share": 0.184,
        "cdnv": 2.00,
        "cdnv.raw": 1.85,
    }
    for address, golden in expected.items():
        assert sum(draws[address]) / 30 == pytest.approx(golden, rel=0.03), address


def test_two_gaussians_are_told_apart_as_often_as_theory_allows() -> None:
    rows, labels = data.two_classes(2.0, 20000, 16, seed=2)
    assert value(rows, "ncc_accuracy", labels=labels) == pytest.approx(data.PHI_1, abs=0.01)
    assert value(rows, "ridge_probe_accuracy", labels=labels) == pytest.approx(data.PHI_1, abs=0.01)


def test_far_clusters_read_one_and_random_labels_read_chance() -> None:
    rows, labels = data.far_clusters(2000, 2, 16)
    noise = torch.randint(0, 2, (2000,), generator=data.generator(3)).tolist()
    assert value(rows, "knn_label_agreement", labels=labels) == pytest.approx(1, abs=0.02)
    assert value(rows, "knn_label_agreement", labels=noise) == pytest.approx(0, abs=0.02)
    assert value(rows, "ridge_probe_accuracy", labels=labels) == pytest.approx(1, abs=0.02)
    assert value(rows, "ridge_probe_accuracy", labels=noise) == pytest.approx(0.5, abs=0.03)


def test_every_row_twice_is_all_duplicates() -> None:
    rows = data.isotropic(1000, 64).repeat(2, 1)
    assert value(rows, "near_duplicate_share") == pytest.approx(1, abs=1e-9)
    assert value(rows, "near_duplicate_share.exact") == pytest.approx(1, abs=1e-9)
    assert value(data.isotropic(1000, 64), "near_duplicate_share") == 0


def test_rank_of_the_features_as_they_are_sees_the_offset() -> None:
    rows = data.orthonormal_columns(2000, torch.ones(16).double())
    singular = torch.linalg.svdvals(rows + 5.0)
    share = singular / singular.sum() + 1e-7
    assert value(rows + 5.0, "effective_rank.rankme") == pytest.approx(math.exp(-float((share * share.log()).sum())))


def test_the_concentration_is_that_of_the_resultant_length() -> None:
    rows, _ = data.structured(4000, 16, 4, 0)
    c, resultant = value(rows, "mean_cosine"), value(rows, "mean_cosine.R")
    assert resultant == pytest.approx(math.sqrt(c))
    expected = resultant * (16 - resultant**2) / (1 - resultant**2)
    assert value(rows, "mean_cosine.kappa") == pytest.approx(expected)


def test_every_metric_is_asked_for_by_name_in_the_tests_of_its_family() -> None:
    """Besides those that loop over the registry."""
    loops = ("test_laws", "test_coverage")
    files = [file for file in Path(__file__).parent.glob("test_*.py") if file.stem not in loops]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    assert [name for name in metrics() if f'"{name}' not in text] == []


def test_estimates_carry_what_no_number_can_be_read_without() -> None:
    rows, labels = data.structured(1200, 16, 4, 0)
    for address, found in measure(rows, labels=labels).items():
        assert isinstance(found, Estimate)
        assert (found.d, found.c) == (16, 4), address
        assert 0 < found.n <= 1200


@pytest.mark.parametrize("gamma", [0.1, 0.9, 1.5, 4.0])
def test_the_null_law_has_mass_one_and_mean_one(gamma: float) -> None:
    assert nulls.marchenko_pastur_mean(torch.ones_like, gamma) == pytest.approx(1, abs=1e-3)
    assert nulls.marchenko_pastur_mean(lambda level: level, gamma) == pytest.approx(1, abs=1e-3)


def test_the_participation_ratio_of_few_isotropic_rows_is_the_dimension_on_average() -> None:
    draws = [value(data.isotropic(50, 20, seed), "participation_ratio") for seed in range(300)]
    assert sum(draws) / 300 == pytest.approx(20, rel=0.008)


def test_units_that_never_move_are_counted_whatever_they_rest_on() -> None:
    rows = data.isotropic(1000, 64)
    rows[:, :16] = -0.170
    rows[:, 16:24] = 0.0
    rows[7, 20] = 1.0
    assert value(rows, "dead_unit_share.never") == pytest.approx(23 / 64)
    found = measure(rows, metrics=["dead_unit_share.never"])["dead_unit_share.never"]
    assert found.detail is not None
    assert "at most 0.003 of all rows" in found.detail


def test_the_load_is_one_when_all_channels_are_equally_loud() -> None:
    rows = data.isotropic(20_000, 8)
    assert value(rows, "dead_unit_share.load") == pytest.approx(1, abs=1e-3)
    rows[:, 4:] = 0
    assert value(rows, "dead_unit_share.load") == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("address", ["ncc_accuracy", "ridge_probe_accuracy"])
def test_random_labels_are_not_read_off_held_out_rows(address: str) -> None:
    """On the rows it was trained on, a nearest mean of 300 rows in 256 dimensions is right nearly always."""
    labels = torch.randint(0, 2, (300,), generator=data.generator(1)).tolist()
    assert value(data.isotropic(300, 256, 5), address, labels=labels) == pytest.approx(0.5, abs=0.09)


def test_contamination_is_the_variance_of_channels_without_class_signal() -> None:
    rows, labels = data.two_classes(10.0, 4000, 4)
    rows[:, 3] *= 2
    found = value(rows, "within_between_ratio.contamination", labels=labels)
    variances = rows.var(dim=0, correction=0)
    assert found == pytest.approx(float(variances[1:].sum() / variances.sum()), rel=1e-3)


def test_the_environment_gap_is_best_less_worst_group() -> None:
    rows, labels = data.two_classes(8.0, 4000, 4)
    flipped = [1 - label if row % 2 and row % 10 < 5 else label for row, label in enumerate(labels)]
    groups = ["noisy" if row % 10 < 5 else "clean" for row in range(4000)]
    wrong = sum(a != b for a, b in zip(labels, flipped, strict=True)) / 2000
    gap = value(rows, "ncc_accuracy.env_gap", labels=flipped, groups=groups)
    assert gap == pytest.approx(wrong, abs=0.01)


def test_the_vote_and_the_recall_are_those_of_scikit_learn() -> None:
    rows, labels = data.structured(1000, 8, 4, 3, signal=0.3)
    unit = normalize(rows.double().numpy())
    index = NearestNeighbors(n_neighbors=201).fit(unit).kneighbors(unit, return_distance=True)
    codes = labels.numpy()
    votes = np.zeros((1000, 4))
    for row, (distances, neighbours) in enumerate(zip(*index, strict=True)):
        np.add.at(votes[row], codes[neighbours[1:]], np.exp((1 - distances[1:] ** 2 / 2) / 0.07))
    expected = (votes.argmax(axis=1) == codes).mean()
    assert value(rows, "knn_label_agreement.vote", labels=labels) == pytest.approx(expected, abs=0.0021)
    raw = (codes[index[1][:, 1:21]] == codes[:, None]).mean()
    assert value(rows, "knn_label_agreement.raw", labels=labels) == pytest.approx(raw, abs=1e-9)
    thornton = (codes[index[1][:, 1]] == codes).mean()
    assert value(rows, "knn_label_agreement.thornton", labels=labels) == pytest.approx(thornton, abs=1e-9)
