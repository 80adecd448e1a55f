from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from gate.geometry.intervals import count_interval, effective_trials, quantile, ratio_interval, wilson


@pytest.mark.parametrize("share", [0.03, 0.5, 0.9])
def test_wilson_is_the_interval_of_scipy(share: float) -> None:
    expected = stats.binomtest(int(share * 200), 200).proportion_ci(0.95, "wilson")
    assert wilson(share, 200, quantile(0.95), 0.05) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("hits", [0, 50])
def test_all_or_none_have_the_exact_interval(hits: int) -> None:
    expected = stats.binomtest(hits, 50).proportion_ci(0.95, "exact")
    assert wilson(hits / 50, 50, quantile(0.95), 0.05) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_quantiles_are_those_of_the_normal_and_of_student(confidence: float) -> None:
    two_sided = 1 - (1 - confidence) / 2
    assert quantile(confidence) == pytest.approx(stats.norm.ppf(two_sided))
    assert quantile(confidence, degrees=9) == pytest.approx(stats.t.ppf(two_sided, 9), rel=2e-3)
    assert quantile(confidence, comparisons=10) == pytest.approx(stats.norm.ppf(1 - (1 - confidence) / 20))


@pytest.mark.parametrize("z", [1.0, 1.96, 2.9])
def test_a_ratio_is_bounded_where_its_contrast_is_z_errors_from_zero(z: float) -> None:
    top, bottom, variances, covariance = -0.7, 0.06, (6e-4, 4e-4), 2e-4
    low, high = ratio_interval(top, bottom, variances, covariance, reach=1e9)(z)
    assert low < top / bottom < high
    for end in (low, high):
        error = math.sqrt(variances[0] - 2 * end * covariance + end**2 * variances[1])
        assert abs(top - end * bottom) == pytest.approx(z * error)
    assert top / bottom - low > 1.2 * (high - top / bottom)  # long where the denominator is small


def test_a_ratio_to_what_cannot_be_told_from_zero_is_anything_possible() -> None:
    ends = ratio_interval(-0.7, 0.06, (6e-4, 4e-4), 2e-4, reach=1000)
    assert ends(3.1) == (-1000, 1000)
    assert ends(2.9)[0] > -1000


def test_a_count_is_between_what_is_surely_and_what_is_possibly_inside() -> None:
    ends = count_interval(torch.tensor([-5.0, -0.5, 0.5, 5.0]), torch.ones(4))
    assert ends(1.96) == (0.25, 0.75)


def test_effective_trials_give_back_the_variance() -> None:
    assert effective_trials(torch.tensor(0.2), 0.2 * 0.8 / 321, 999) == pytest.approx(321)
    assert effective_trials(torch.tensor(1.0), 0.0, 999) == 999


def test_the_exact_interval_of_no_event_in_n_rows_is_about_three_over_n() -> None:
    assert wilson(0.0, 1000, quantile(0.9), 0.1)[1] == pytest.approx(-math.log(0.05) / 1000, rel=0.01)
