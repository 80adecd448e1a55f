from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from gate.estimate import Estimate
from gate.geometry.behaviour import sign_test
from gate.measurement import measure
from tests.geometry import data, inputs

NAMES = ("function_space_distance", "negative_flip_rate", "max_class_regression")


def ask(address: str, new: Tensor, old: Tensor, **columns: Any) -> Estimate:
    features = torch.arange(len(new), dtype=torch.float64)[:, None]
    return measure(features, logits=new, baseline_logits=old, metrics=[address], **columns)[address]


def value(address: str, new: Tensor, old: Tensor, **columns: Any) -> float:
    found = ask(address, new, old, **columns)
    assert found.status == "ok", found.reason
    assert found.value is not None
    return found.value


def hard(predictions: Any, c: int) -> Tensor:
    """Outputs that are certain of one class."""
    return 2000.0 * torch.nn.functional.one_hot(torch.as_tensor(predictions), c).double()


def rightness(right: Any, labels: Tensor, c: int) -> Tensor:
    """Outputs that are right where they are said to be, and name the next class elsewhere."""
    return hard(torch.where(torch.as_tensor(right).bool(), labels, (labels + 1) % c), c)


def two_versions(n: int, c: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    g = data.generator(seed)
    labels = torch.randint(0, c, (n,), generator=g)
    shared = torch.nn.functional.one_hot(labels, c) + torch.randn(n, c, generator=g, dtype=torch.float64)
    new, old = (shared + 0.6 * torch.randn(n, c, generator=g, dtype=torch.float64) for _ in range(2))
    return new, old, labels


# function_space_distance


def test_the_distance_of_two_known_predictions() -> None:
    old, new = (torch.tensor([row], dtype=torch.float64).log().expand(600, 2) for row in ((0.9, 0.1), (0.6, 0.4)))
    assert value("function_space_distance", new, old) == pytest.approx(0.226289, abs=1e-6)
    assert value("function_space_distance.churn", new, old) == 0
    crossed = -(math.log(0.9) + math.log(0.6)) / 2
    assert value("function_space_distance.sym_ce", new, old) == pytest.approx(crossed)
    gap = math.log(0.9 / 0.1) - math.log(0.6 / 0.4)
    assert value("function_space_distance.l2", new, old) == pytest.approx(gap**2 / 4)


def test_identical_versions_have_no_distance_and_a_common_constant_is_none() -> None:
    new, _, _ = two_versions(600, 5, 0)
    assert value("function_space_distance", new, new) == 0
    assert value("function_space_distance.l2", new, new) == 0
    moved = new + torch.linspace(-3, 5, 600)[:, None]
    assert value("function_space_distance", moved, new) == pytest.approx(0, abs=1e-6)
    assert value("function_space_distance.l2", moved, new) == pytest.approx(0, abs=1e-12)
    share = ask("function_space_distance.top1pct", new, new)
    assert share.status == "inconclusive"
    assert "saturated: both versions predict the same" in str(share.reason)


def test_distances_are_those_of_scipy_row_by_row() -> None:
    new, old, _ = two_versions(800, 6, 1)
    p_old, p_new = old.softmax(dim=1).numpy(), new.softmax(dim=1).numpy()
    divergence = stats.entropy(p_old, p_new, axis=1)
    assert value("function_space_distance", new, old) == pytest.approx(divergence.mean())
    top = np.sort(divergence)[-8:].sum() / divergence.sum()
    assert value("function_space_distance.top1pct", new, old) == pytest.approx(top)
    churn = (p_old.argmax(axis=1) != p_new.argmax(axis=1)).mean()
    assert value("function_space_distance.churn", new, old) == pytest.approx(churn)
    moved = (new - old).numpy()
    squares = ((moved - moved.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    assert value("function_space_distance.l2", new, old) == pytest.approx(squares.mean() / 2)


def test_the_direction_is_from_the_old_to_the_new_version() -> None:
    sharp, flat = (torch.tensor([row], dtype=torch.float64).log().expand(600, 2) for row in ((0.99, 0.01), (0.5, 0.5)))
    forward, back = value("function_space_distance", flat, sharp), value("function_space_distance", sharp, flat)
    assert forward == pytest.approx(stats.entropy([0.99, 0.01], [0.5, 0.5]))
    assert back == pytest.approx(stats.entropy([0.5, 0.5], [0.99, 0.01]))


def test_the_slice_that_changed_is_named() -> None:
    new, _, labels = two_versions(900, 3, 2)
    groups = torch.arange(900) % 3
    old = torch.where(groups[:, None] == 1, new.flip(1), new)
    found = ask("function_space_distance.per_slice", new, old, groups=groups, attributes={"label": labels})
    assert found.detail == "worst slice 'groups=1'"
    inside = groups == 1
    alone = stats.entropy(old[inside].softmax(1).numpy(), new[inside].softmax(1).numpy(), axis=1).mean()
    assert found.value == pytest.approx(alone)
    assert found.breakdown is not None
    assert found.breakdown["groups=0"] == 0
    assert set(found.breakdown) == {*(f"groups={code}" for code in range(3)), *(f"label={code}" for code in range(3))}


@pytest.mark.parametrize("scale", [1e4, 1e30, 1e300])
def test_certain_predictions_do_not_overflow(scale: float) -> None:
    new, old, labels = two_versions(600, 4, 3)
    for address in ("function_space_distance", "function_space_distance.churn", "negative_flip_rate"):
        found = ask(address, scale * new, old, labels=labels)
        assert found.value is not None, found.reason
        assert not math.isnan(found.value)


# negative_flip_rate


def flips(lost: int, won: int, n: int = 1000) -> tuple[Tensor, Tensor, Tensor]:
    labels = torch.arange(n) % 2
    row = torch.arange(n)
    before = (row >= lost + 50 + won) | (row < lost)
    now = (row >= lost + won + 50) | ((row >= lost) & (row < lost + won))
    return rightness(now, labels, 2), rightness(before, labels, 2), labels


def test_flips_of_a_table() -> None:
    new, old, labels = flips(30, 20)
    assert value("negative_flip_rate", new, old, labels=labels) == pytest.approx(0.030, abs=1e-12)
    net = ask("negative_flip_rate.net", new, old, labels=labels)
    assert net.value == pytest.approx(0.010, abs=1e-12)
    assert net.standard_error == pytest.approx(0.00706, abs=1e-5)
    exact = stats.binomtest(30, 50).pvalue
    assert net.detail == f"30 right to wrong, 20 wrong to right, exact McNemar p = {exact:.3g}"


@pytest.mark.parametrize(("first", "second"), [(0, 0), (5, 5), (1, 0), (30, 20), (3, 40), (700, 600)])
def test_the_sign_test_is_that_of_scipy(first: int, second: int) -> None:
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert sign_test(first, second) == pytest.approx(expected, rel=1e-9)


def test_identical_versions_flip_nothing_and_the_interval_says_how_sure_that_is() -> None:
    new, _, labels = two_versions(1000, 4, 0)
    found = ask("negative_flip_rate", new, new, labels=labels)
    assert found.value == 0
    assert found.interval == pytest.approx((0, stats.binomtest(0, 1000).proportion_ci().high))


def test_the_class_that_loses_most_is_judged_with_all_of_them() -> None:
    labels = torch.arange(1000) % 4
    lost = (labels == 2) & (torch.arange(1000) < 200)
    found = ask("negative_flip_rate.per_class", rightness(~lost, labels, 4), hard(labels, 4), labels=labels)
    assert found.value == pytest.approx(50 / 250)
    assert found.detail == "worst class '2'"
    assert found.breakdown == pytest.approx({"2": 0.2, "0": 0, "1": 0, "3": 0})
    assert found.interval is not None
    plain = stats.binomtest(50, 250).proportion_ci(method="wilson")
    assert found.interval[0] < plain.low < 0.2 < plain.high < found.interval[1]


def test_cycles_are_those_counted_along_each_row() -> None:
    g = data.generator(4)
    n = 700
    labels = torch.randint(0, 3, (n,), generator=g)
    right = torch.rand(6, n, generator=g) < 0.6
    history = {f"step {step}": rightness(right[step], labels, 3) for step in range(5)}
    counted = []
    for row in right.T.tolist():
        learnt, cycles = False, 0
        for before, now in itertools.pairwise(row):
            if now and not before:
                learnt = True
            if before and not now and learnt:
                cycles, learnt = cycles + 1, False
        counted.append(cycles)
    new = rightness(right[5], labels, 3)
    found = ask("negative_flip_rate.cycles", new, new, labels=labels, history=history)
    assert found.value == pytest.approx(np.mean(counted))
    assert found.standard_error == pytest.approx(np.std(counted) / math.sqrt(n), rel=0.01)


# max_class_regression


def test_the_drop_of_one_class_of_a_table() -> None:
    labels = torch.arange(300) % 3
    place = torch.arange(300) // 3
    before = torch.where(labels == 1, place < 90, place < 95)
    now = torch.where(labels == 1, place < 60, place < 95)
    new, old = rightness(now, labels, 3), rightness(before, labels, 3)
    found = ask("max_class_regression", new, old, labels=labels)
    assert found.value == pytest.approx(0.3, abs=1e-9)
    assert found.detail == "worst class '1'"
    assert found.standard_error == pytest.approx(math.sqrt((0.3 - 0.09) / 100), rel=0.01)
    which = ask("max_class_regression.which", new, old, labels=labels)
    assert which.value == 1
    assert which.detail == "worse beyond doubt: '1'"


def test_where_every_class_gains_the_largest_drop_is_negative() -> None:
    labels = torch.arange(300) % 3
    place = torch.arange(300) // 3
    gained = torch.tensor([70, 60, 50])[labels]
    found = ask("max_class_regression", hard(labels, 3), rightness(place < gained, labels, 3), labels=labels)
    assert found.value == pytest.approx(-0.3)
    assert found.detail == "worst class '0'"


def test_the_largest_drop_of_two_equal_models_is_above_zero_and_its_interval_holds_zero() -> None:
    largest, held, named = [], 0, 0
    for seed in range(30):
        g = data.generator(seed)
        labels = torch.arange(100).repeat(30)
        old = torch.rand(3000, generator=g) < 0.9
        drawn = torch.rand(3000, generator=g) < 0.1
        new = torch.where(drawn, torch.rand(3000, generator=g) < 0.9, old)
        found = measure(
            torch.ones(3000, 1),
            logits=rightness(new, labels, 100),
            baseline_logits=rightness(old, labels, 100),
            labels=labels,
            metrics=["max_class_regression"],
        )
        estimate = found["max_class_regression"]
        assert estimate.value is not None
        assert estimate.interval is not None
        largest.append(estimate.value)
        held += estimate.interval[0] <= 0 <= estimate.interval[1]
        named += int(found["max_class_regression.which"].value or 0)
    assert 0.04 < np.mean(largest) < 0.09
    assert held >= 28
    assert named <= 1


def test_the_weakest_classes_do_not_gain_by_luck_alone() -> None:
    """Ranked and judged on the same rows the weakest third seems to gain: regression to the mean."""
    fitted, naive = [], []
    for seed in range(25):
        g = data.generator(seed)
        labels = torch.arange(12).repeat(60)
        old, new = (torch.rand(720, generator=g) < 0.7 for _ in range(2))
        found = ask(
            "max_class_regression.poor_rich", rightness(new, labels, 12), rightness(old, labels, 12), labels=labels
        )
        if found.value is not None:
            fitted.append(found.value)
        before, now = (torch.stack([side[labels == code].double().mean() for code in range(12)]) for side in (old, new))
        order = before.argsort()
        naive.append(float((now - before)[order[:4]].mean() - (now - before)[order[-4:]].mean()))
    assert np.mean(naive) > 0.08
    assert np.mean(fitted) == pytest.approx(0, abs=0.03)


def test_the_luck_that_ranks_a_class_in_one_half_is_its_gain_in_the_other() -> None:
    """Equal classes, and a version that is always right: both halves err together, and the error says so."""
    labels = torch.arange(4).repeat(100)
    values, errors = [], []
    for seed in range(150):
        old = torch.rand(400, generator=data.generator(seed)) < 0.6
        found = ask("max_class_regression.poor_rich", hard(labels, 4), rightness(old, labels, 4), labels=labels)
        if found.status == "ok":
            values.append(found.value or 0.0)
            errors.append(found.standard_error or 0.0)
    assert len(values) > 100
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


def test_gains_of_the_weak_and_losses_of_the_strong_are_told_apart() -> None:
    labels = torch.arange(6).repeat(100)
    place = torch.arange(600) // 6 % 100
    hashed = torch.randperm(600, generator=data.generator(0)) % 100
    share = torch.tensor([30, 32, 60, 62, 90, 92])
    before = hashed < share[labels]
    now = hashed < (share + torch.tensor([40, 40, 0, 0, -20, -20]))[labels]
    assert len(place) == len(labels)
    found = ask(
        "max_class_regression.poor_rich", rightness(now, labels, 6), rightness(before, labels, 6), labels=labels
    )
    assert found.value == pytest.approx(0.6, abs=0.1)
    assert found.breakdown is not None
    assert found.breakdown["poor"] == pytest.approx(0.4, abs=0.1)
    assert found.breakdown["rich"] == pytest.approx(-0.2, abs=0.1)


def test_forgetting_is_the_mean_drop_from_the_best_earlier_checkpoint() -> None:
    labels = torch.arange(400) % 2
    place = torch.arange(400) // 2

    def version(first: float, second: float) -> Tensor:
        return rightness(place < torch.where(labels == 0, 200 * first, 200 * second), labels, 2)

    history = {"a": version(0.9, 0.5), "b": version(0.7, 0.8)}
    new = version(0.6, 0.75)
    expected = ((0.9 - 0.6) + (0.8 - 0.75)) / 2
    found = ask("max_class_regression.forgetting", new, history["b"], labels=labels, history=history)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.detail == "over 2 classes and 2 earlier checkpoints"
    halves = (torch.arange(400) < 200).long()
    grouped = ask("max_class_regression.forgetting", new, history["b"], labels=labels, history=history, groups=halves)
    right = {name: (outputs.argmax(1) == labels).double() for name, outputs in {**history, "new": new}.items()}
    drops = [
        max(right["a"][halves == half].mean(), right["b"][halves == half].mean()) - right["new"][halves == half].mean()
        for half in (0, 1)
    ]
    assert grouped.value == pytest.approx(float(sum(drops)) / 2)


# All of them


@pytest.mark.parametrize("name", NAMES)
def test_versions_that_choose_between_other_classes_are_not_compared(name: str) -> None:
    new, _, labels = two_versions(600, 3, 0)
    found = ask(name, new, torch.zeros(600, 4), labels=labels)
    assert found.status == "not_applicable"
    assert "dim_mismatch: baseline_logits has 4 columns, logits have 3" in str(found.reason)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_baseline_there_is_nothing_to_compare(name: str) -> None:
    new, _, labels = two_versions(600, 3, 0)
    found = measure(torch.ones(600, 1), logits=new, labels=labels, metrics=[name])[name]
    assert found.reason == "missing_input: it needs baseline_logits"


@pytest.mark.parametrize("name", NAMES)
def test_outputs_that_are_not_finite_are_an_error(name: str) -> None:
    new, old, labels = two_versions(600, 3, 0)
    old[7, 0] = torch.nan
    found = ask(name, new, old, labels=labels)
    assert found.status == "error"
    assert "nonfinite_rows: 1 of 600 rows of baseline_logits" in str(found.reason)


@pytest.mark.parametrize("address", ["negative_flip_rate.cycles", "max_class_regression.forgetting"])
def test_checkpoints_that_are_not_finite_are_an_error(address: str) -> None:
    new, old, labels = two_versions(600, 3, 0)
    history = {"a": old, "b": torch.full_like(old, torch.inf)}
    found = ask(address, new, old, labels=labels, history=history)
    assert found.status == "error"
    assert "nonfinite_rows: 600 of 600 rows of history.b" in str(found.reason)


@pytest.mark.parametrize("name", NAMES[:2])
def test_fewer_than_five_hundred_rows_do_not_decide(name: str) -> None:
    new, old, labels = two_versions(499, 3, 0)
    found = ask(name, new, old, labels=labels)
    assert (found.status, found.n_needed) == ("inconclusive", 500)
    assert "few_rows: 499 rows; it needs at least 500" in str(found.reason)


def test_what_is_missing_or_too_small_is_named() -> None:
    new, old, labels = two_versions(600, 3, 0)
    assert "history of at least two" in str(ask("negative_flip_rate.cycles", new, old, labels=labels).reason)
    assert "history of earlier" in str(ask("max_class_regression.forgetting", new, old, labels=labels).reason)
    assert "groups or attributes" in str(ask("function_space_distance.per_slice", new, old).reason)
    rare = torch.where(torch.arange(600) < 10, 2, torch.arange(600) % 2)
    for address in ("max_class_regression", "negative_flip_rate.per_class"):
        assert "small_class: class '2' has 10 rows" in str(ask(address, new, old, labels=rare).reason)
    slices = ask("function_space_distance.per_slice", new, old, groups=rare)
    assert "small_group: slice 'groups=2' has 10 rows" in str(slices.reason)
    history = {"a": old}
    forgotten = ask("max_class_regression.forgetting", new, old, labels=labels, groups=rare, history=history)
    assert "small_group: group '2' has 10 rows" in str(forgotten.reason)
    one = ask("max_class_regression", new, old, labels=torch.zeros(600).long())
    assert "all rows are of class '0'; it needs two classes" in str(one.reason)


def test_equal_classes_have_no_weak_and_strong_ones() -> None:
    labels = torch.arange(600) % 3
    found = ask("max_class_regression.poor_rich", hard(labels, 3), hard(labels, 3), labels=labels)
    assert found.status == "inconclusive"
    assert "no_class_signal: classes of the baseline do not differ in recall" in str(found.reason)
    clusters = torch.where(labels == 0, 0, torch.arange(600))
    alone = ask("max_class_regression.poor_rich", hard(labels, 3), hard(labels, 3), labels=labels, clusters=clusters)
    assert "small_class: a class lies in one half of the rows alone" in str(alone.reason)


def test_influence_of_means_predicts_what_leaving_rows_out_does() -> None:
    given = inputs.everything()
    smooth = (
        "function_space_distance", "function_space_distance.l2", "function_space_distance.sym_ce",
        "function_space_distance.churn", "function_space_distance.top1pct", "function_space_distance.per_slice",
        "negative_flip_rate", "negative_flip_rate.net", "negative_flip_rate.per_class", "negative_flip_rate.cycles",
        "max_class_regression.forgetting",
    )  # fmt: skip
    for address in smooth:
        found = measure(metrics=[address], ids=range(1200), **given)[address]
        assert found.influence is not None
        assert found.value is not None
        order = [int(found.influence.ids[place]) for place in found.influence.values.argsort()]
        kept = sorted(order[12:])
        moved = measure(metrics=[address], ids=kept, **inputs.taken(given, kept))[address]
        assert moved.value is not None
        predicted = -float(found.influence.values.sort().values[:12].sum()) / (1200 - 12)
        assert 0.6 < (moved.value - found.value) / predicted < 1.5, address
