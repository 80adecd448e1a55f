from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from gate.calibration import tolerance
from gate.calibration.bounds import Bound, Reading, Side, bound
from gate.calibration.tolerance import factor, scale_of

INF = math.inf


@pytest.mark.parametrize(
    ("versions", "content", "assurance", "published"),
    [  # one-sided tolerance factors, Natrella 1963, table A-7: n, content, confidence
        (5, 0.95, 0.95, 4.203),
        (10, 0.95, 0.95, 2.911),
        (10, 0.99, 0.95, 3.981),
        (20, 0.99, 0.99, 3.832),
        (5, 0.90, 0.90, 2.742),
    ],
)
def test_one_bound_has_the_published_factor(versions: int, content: float, assurance: float, published: float) -> None:
    assert tolerance._one_bound(versions, 1 - content, assurance) == pytest.approx(published, abs=1e-3)


@pytest.mark.parametrize(("versions", "rate", "assurance"), [(3, 0.002, 0.9), (5, 0.0005, 0.9), (50, 0.01, 0.99)])
def test_one_bound_is_exact_by_integration_over_the_spread(versions: int, rate: float, assurance: float) -> None:
    found, degrees, root = tolerance._one_bound(versions, rate, assurance), versions - 1, math.sqrt(versions)

    def kept(spread: float) -> float:
        """With this spread, the chance that the mean is far enough for the share 1 - rate to lie inside."""
        far = stats.norm.cdf(root * (found * spread / math.sqrt(degrees) - stats.norm.isf(rate)))
        return float(far * stats.chi.pdf(spread, degrees))

    assert integrate.quad(kept, 0, 20, limit=400)[0] == pytest.approx(assurance, abs=1e-6)


@pytest.mark.parametrize("versions", [2, 3, 5, 20])
def test_the_next_version_lies_beyond_a_bound_at_the_rate(versions: int) -> None:
    rng = np.random.default_rng(versions)
    draws, rate = 400_000, 0.01
    sample, following = rng.normal(size=(draws, versions)), rng.normal(size=draws)
    floor = sample.mean(axis=1) - tolerance._next_run(versions, rate) * sample.std(axis=1, ddof=1)
    assert (following < floor).mean() == pytest.approx(rate, abs=4 * math.sqrt(rate / draws))


@pytest.mark.parametrize("shared", [0.0, 0.6, 0.95])
@pytest.mark.parametrize("versions", [3, 5, 15])
def test_a_run_keeps_its_rate_with_the_assurance_however_the_bounds_depend(versions: int, shared: float) -> None:
    rng = np.random.default_rng(7)
    bounds, rate, draws = 40, 0.05, 3000
    common, own = rng.normal(size=(draws, versions, 1)), rng.normal(size=(draws, versions, bounds))
    sample = math.sqrt(shared) * common + math.sqrt(1 - shared) * own
    floors = sample.mean(axis=1) - factor(versions, bounds, rate, 0.9) * sample.std(axis=1, ddof=1)
    runs = stats.norm.cdf(floors).sum(axis=1)  # at least the true rate of each calibration
    assert (runs <= rate).mean() >= 0.9 - 0.02
    assert runs.mean() <= rate


def test_more_versions_need_less_room_and_more_bounds_more() -> None:
    found = [factor(versions, 10, 0.05, 0.9) for versions in (2, 3, 4, 5, 10, 30, 300)]
    assert found == sorted(found, reverse=True)
    assert found[-1] > stats.norm.isf(0.005)
    assert factor(5, 40, 0.05, 0.9) > factor(5, 10, 0.05, 0.9) > factor(5, 1, 0.05, 0.9)
    assert factor(5, 10, 0.01, 0.9) > factor(5, 10, 0.05, 0.9)
    assert factor(5, 10, 0.05, 0.99) > factor(5, 10, 0.05, 0.9)


def test_of_one_version_the_spread_is_taken_as_known() -> None:
    z = stats.norm.isf(0.05)
    assert factor(1, 1, 0.05, 0.9) == pytest.approx(z + stats.norm.ppf(0.9))
    assert factor(1, 1, 0.05, 0.6) == pytest.approx(z * math.sqrt(2))
    assert factor(1, 10, 0.05, 0.9) < factor(5, 10, 0.05, 0.9)


@pytest.mark.parametrize("limits", [(0, 1), (-1, 1), (0, INF), (1, INF), (-INF, 1), (-INF, INF)])
def test_a_scale_rises_leads_back_and_never_leaves_the_limits(limits: tuple[float, float]) -> None:
    low, high = limits
    numbers = np.linspace(max(low, -3) + 0.01, min(high, 4) - 0.01, 50).tolist()
    scale = scale_of(limits, numbers)
    points = [scale.to(number) for number in numbers]
    assert points == sorted(points)
    assert [scale.back(point) for point in points] == pytest.approx(numbers)
    for number in numbers:
        slope = (scale.to(number + 1e-6) - scale.to(number - 1e-6)) / 2e-6
        assert scale.slope(number) == pytest.approx(slope, rel=1e-4)
    assert all(low <= scale.back(point) <= high for point in (-1e4, 1e4))


def test_a_number_on_its_limit_keeps_its_scale() -> None:
    assert scale_of((0, 1), [0.0, 0.5]).formula == ""
    assert scale_of((0, 1), [0.2, 0.5]).formula == "log(x / (1 - x))"
    assert scale_of((1, INF), [1.2]).formula == "log(x - 1)"
    assert scale_of((-1, 1), [0.2]).formula == "log((x + 1) / (1 - x))"
    assert scale_of((-INF, 1), [0.2]).formula == "-log(1 - x)"


def readings(values: list[float], half: float = 0.01, step: float = 0.0) -> list[Reading]:
    return [Reading(value, value - half, value + half, step) for value in values]


def found(side: Side, good: list[Reading], limits: tuple[float, float] = (-INF, INF), times: float = 4.0) -> Bound:
    outcome = bound(side, good, limits=limits, factor=times)
    assert isinstance(outcome, Bound)
    return outcome


def test_a_bound_leaves_room_for_the_whole_interval() -> None:
    good = readings([1.0, 1.1, 0.9, 1.05, 0.95], half=0.2)
    spread = np.std([1.0, 1.1, 0.9, 1.05, 0.95], ddof=1)
    floor, ceiling = found("min", good), found("max", good)
    assert floor.edge == pytest.approx(0.8 - 4 * spread)
    assert ceiling.edge == pytest.approx(1.2 + 4 * spread)
    assert floor.number <= floor.edge
    assert ceiling.number >= ceiling.edge
    assert floor.edge - floor.number < 0.05 * (0.8 - floor.edge)


def test_a_bound_is_rounded_away_from_the_good_versions_and_by_little() -> None:
    rng = np.random.default_rng(0)
    for size in (1e-6, 0.02, 1.0, 300.0, 1e9):
        for _ in range(20):
            good = readings((size * (1 + 0.1 * rng.normal(size=5))).tolist(), half=0.05 * size)
            for side in ("min", "max"):
                rule = found(side, good)
                beyond = rule.edge - rule.number if side == "min" else rule.number - rule.edge
                assert -1e-9 * size <= beyond <= 0.05 * abs(rule.edge - np.mean(rule.ends))
                assert rule.number == float(f"{rule.number:.5g}")  # few digits


def test_a_share_never_leaves_its_limits_and_a_bound_on_the_limit_is_none() -> None:
    near_one = readings([0.97, 0.98, 0.985, 0.975, 0.98], half=0.005)
    assert 0 < found("min", near_one, (0, 1), 6).number < 0.97
    assert found("max", near_one, (0, 1), 3).number < 1
    nothing = bound("max", near_one, limits=(0, 1), factor=60)
    assert "leaves out nothing that is possible" in str(nothing)
    plain = bound("min", readings([0.1, 0.3, 0.2], half=0.1), limits=(0, 1), factor=9)
    assert "leaves out nothing that is possible" in str(plain)


def test_a_bound_far_beyond_what_a_version_could_have_is_none_and_only_where_there_is_no_limit() -> None:
    good = readings([1.0, 1.5, 0.7, 1.2, 0.9], half=0.1)
    assert found("max", good, (0, INF), 20).number < 1000 * 1.6
    told = "for 5 good versions max is 1.432e+04, 36 spreads away, which says nothing"
    assert told in str(bound("max", good, limits=(0, INF), factor=36))
    below = [Reading(-each.value, -each.high, -each.low) for each in good]
    assert found("min", below, (-INF, 0), 20).number > -1000 * 1.6
    assert "36 spreads away, which says nothing" in str(bound("min", below, limits=(-INF, 0), factor=36))
    around_zero = readings([-0.004, -0.001, -0.003, -0.002, -0.0025], half=0.0005)
    assert found("max", around_zero, (-1, 1), 8).number > 0


def test_what_is_counted_varies_by_half_a_step_where_the_versions_agree() -> None:
    none_dead = readings([0.0] * 5, half=0.0, step=1 / 64)
    ceiling = found("max", none_dead, (0, 1), 6)
    assert ceiling.edge == pytest.approx(6 / 128)
    assert ceiling.why_spread == "half a step of the count"


def test_what_does_not_vary_and_is_not_counted_has_no_bound() -> None:
    assert "does not vary" in str(bound("max", readings([3.0] * 5), limits=(0, INF), factor=6))


def test_one_version_is_bounded_by_its_sampling_error() -> None:
    half = 1.959964 * 0.1
    only = found("min", readings([2.0], half=half))
    assert only.edge == pytest.approx(2 - half - 4 * 0.1, abs=1e-6)
    assert only.why_spread == "sampling error"


@pytest.mark.parametrize("side", ["min", "max"])
def test_an_interval_is_excluded_only_as_a_whole(side: Side) -> None:
    rule = found(side, readings([1.0, 1.1, 0.9]))
    beyond = rule.number - 1 if side == "min" else rule.number + 1
    far = 2 * beyond - rule.number
    assert rule.excludes(min(beyond, far), max(beyond, far))
    assert not rule.excludes(min(beyond, 1.0), max(beyond, 1.0))
    assert not rule.excludes(*sorted((rule.number, beyond)))
    assert rule.distance(beyond) > 0 > rule.distance(1.0)


@pytest.mark.parametrize("limits", [(-INF, INF), (0, INF)])
def test_a_new_version_passes_with_its_whole_interval_as_often_as_stated(limits: tuple[float, float]) -> None:
    rng = np.random.default_rng(3)
    versions, rate, draws, inside = 5, 0.05, 3000, 0
    times = factor(versions, 2, rate, 0.5)
    for _ in range(draws):
        values = (
            5 * np.exp(0.05 * rng.normal(size=versions + 1)) if limits[0] == 0 else 5 + rng.normal(size=versions + 1)
        )
        halves = 0.3 + 0.02 * rng.normal(size=versions + 1)
        every = [Reading(v, v - h, v + h) for v, h in zip(values.tolist(), halves.tolist(), strict=True)]
        floor, ceiling = found("min", every[:-1], limits, times), found("max", every[:-1], limits, times)
        inside += floor.number <= every[-1].low and every[-1].high <= ceiling.number
    missed = 1 - inside / draws
    assert missed <= rate + 3 * math.sqrt(rate / draws)
    assert missed >= rate / 5  # and the bounds are not far wider than that
