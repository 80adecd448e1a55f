"""What the ridge probe reads off besides classes, and how it shares its work."""

from __future__ import annotations

import itertools
from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.svm import LinearSVC
from torch import Tensor

from gate.estimate import Estimate
from gate.geometry.methods.held_out import HeldOut, balanced
from gate.geometry.methods.probing import nearest_means
from gate.geometry.statistics import (
    AttributeFolds,
    Batch,
    CategoryFolds,
    CellFolds,
    CellMoments,
    ClassFolds,
    ClassMoments,
    Collection,
    GroupFolds,
    MomentFolds,
    Moments,
    PretextFolds,
    Sample,
    TargetFolds,
    TaskFolds,
    hash_numbers,
)
from gate.measurement import measure
from tests.geometry import data
from tests.geometry.test_statistics import assert_same

NAME = "ridge_probe_accuracy"
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def ask(rows: Tensor, readout: str = "", **columns: object) -> Estimate:
    return measure(rows, metrics=[NAME + readout], **columns)[NAME + readout]  # type: ignore[arg-type]


def brute_r2(rows: np.ndarray, targets: np.ndarray) -> float:
    which = hash_numbers(torch.arange(len(rows))).numpy() % 10

    def predicted(train: np.ndarray, test: np.ndarray, penalty: float) -> np.ndarray:
        centred = rows[train] - rows[train].mean(axis=0)
        model = Ridge(alpha=penalty * (centred**2).sum() / rows.shape[1], solver="svd")
        return np.asarray(model.fit(rows[train], targets[train]).predict(rows[test]))

    guesses, means = np.zeros_like(targets), np.zeros_like(targets)
    for fold in range(10):
        inner, test = which == (fold ^ 1), which == fold
        tuning = ~inner & ~test
        size = targets[tuning].var(axis=0)
        errors = {p: (((predicted(tuning, inner, p) - targets[inner]) ** 2) / size).mean() for p in PENALTIES}
        guesses[test] = predicted(~test, test, min(PENALTIES, key=lambda p: (round(errors[p], 12), -p)))
        means[test] = targets[~test].mean(axis=0)
    explained = 1 - ((targets - guesses) ** 2).sum(axis=0) / ((targets - means) ** 2).sum(axis=0)
    return float(explained.mean())


def linear_targets(n: int, d: int, noise: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    rows = data.isotropic(n, d, seed)
    signal = rows @ data.rotation(d, 9)[:, :2]
    return rows, torch.tensor([1.0, 100.0]) * (signal + noise * data.isotropic(n, 2, seed + 500)) + 7


def test_the_explained_variance_is_that_of_scikit_learn_and_does_not_know_units() -> None:
    rows, targets = linear_targets(600, 12, 1.0)
    found = ask(rows, ".r2", targets=targets)
    assert found.value == pytest.approx(brute_r2(rows.numpy(), targets.numpy()), abs=1e-9)
    assert found.value == pytest.approx(0.5, abs=0.1)
    rescaled = ask(rows, ".r2", targets=targets * torch.tensor([1000.0, 1e-3]))
    assert rescaled.value == pytest.approx(found.value, abs=1e-9)
    assert found.breakdown is not None
    assert len(found.breakdown) == 2


def test_targets_that_features_do_not_hold_read_about_zero_and_held_out_below_it() -> None:
    draws = [ask(data.isotropic(400, 10, s), ".r2", targets=data.isotropic(400, 1, s + 90)).value for s in range(20)]
    assert -0.08 < np.mean([each if each is not None else np.nan for each in draws]) < 0


def test_a_regression_needs_no_labels() -> None:
    rows, targets = linear_targets(400, 6, 0.1)
    found = measure(rows, targets=targets, metrics=[NAME])
    assert found[f"{NAME}.r2"].status == "ok"
    assert found[NAME].reason == "missing_input: it needs labels"
    assert str(ask(rows[:40], ".r2", targets=targets[:40]).reason).startswith("few_rows: 40 judged rows")
    flat = torch.cat([targets, torch.ones(400, 1)], dim=1)
    assert str(ask(rows, ".r2", targets=flat).reason).startswith("constant_target: target 2 does not vary")
    twice = ask(rows[:200].repeat(2, 1), ".r2", targets=targets)
    assert str(twice.reason).startswith("duplicates: only 0 of 400")


def test_a_ladder_is_the_mean_over_tasks_and_ranks_against_other_features() -> None:
    rows, labels = data.structured(1000, 8, 4, 0, signal=0.6)
    rows = rows.double()
    tasks = {"class": labels, "parity": labels % 2, "noise": torch.arange(1000) % 2}
    better = torch.nn.functional.one_hot(labels, 4).double() + 0.01 * data.isotropic(1000, 4)
    ladder = ask(rows, ".task_ladder", tasks=tasks, trivial={"raw": data.isotropic(1000, 3), "oracle": better})
    assert ladder.breakdown is not None
    single = {name: ask(rows, labels=codes).value for name, codes in tasks.items()}
    for name, expected in single.items():
        assert ladder.breakdown[name] == pytest.approx(expected)
    assert ladder.value == pytest.approx(sum(ladder.breakdown.values()) / 3)
    assert ladder.detail is not None
    assert ladder.detail.endswith("of 3, with trivial.raw, trivial.oracle")
    assert 1.6 < float(ladder.detail.removeprefix("mean rank ").split()[0]) < 2.4
    alone = ask(rows, ".task_ladder", tasks=tasks)
    assert alone.detail == "no other features on these rows to be ranked among"
    small = ask(rows, ".task_ladder", tasks={"rare": (torch.arange(1000) < 9).long()})
    assert str(small.reason).startswith("small_class: class '1' has 9 of the 1000 judged rows")
    assert str(small.reason).endswith("(task 'rare')")


def test_free_labels_are_read_off_as_classes_are() -> None:
    rows, labels = data.structured(800, 8, 4, 0, signal=0.6)
    assert ask(rows, ".pretext", pretext=labels).value == ask(rows, labels=labels).value


def test_random_labels_read_chance_on_average_even_in_small_folds() -> None:
    """A fold that holds many of a class leaves few of it to train on: with the training shares it would read lower."""
    draws = []
    for seed in range(100):
        labels = torch.randint(0, 2, (100,), generator=data.generator(seed + 7)).tolist()
        draws.append(ask(data.isotropic(100, 10, seed), labels=labels).value or np.nan)
    assert np.mean(draws) == pytest.approx(0.5, abs=0.015)


def test_an_outlier_channel_ruins_the_nearest_mean_and_not_the_probe() -> None:
    rows = 2.5 * torch.nn.functional.one_hot(torch.arange(2000) % 8, 64).double() * 2 + data.isotropic(2000, 64)
    labels = (torch.arange(2000) % 8).tolist()
    loud = rows.clone()
    loud[:, 63] *= 60
    names = [NAME, "ncc_accuracy"]
    before, after = (measure(each, labels=labels, metrics=names) for each in (rows, loud))
    assert before["ncc_accuracy"].value == pytest.approx(1, abs=0.01)
    assert (after["ncc_accuracy"].value or 1) < 0.4
    assert after[NAME].value == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("d", [64, 512])
def test_random_labels_are_not_read_off_at_any_width(d: int) -> None:
    """On its own training rows the probe would be right in 0.22 of 2000 rows at d = 64, and in 0.64 at 512."""
    labels = torch.randint(0, 10, (2000,), generator=data.generator(5)).tolist()
    found = ask(data.isotropic(2000, d), labels=labels)
    assert found.value == pytest.approx(0.1, abs=0.025)
    assert (found.detail is None) == (d == 64)


def test_separable_random_labels_are_still_chance_on_held_out_rows() -> None:
    """With 1.5 rows a dimension random labels are always separable: fitting them says nothing."""
    separable, held_out = [], []
    for seed in range(20):
        rows = data.isotropic(60, 39, seed)
        labels = torch.arange(60) % 2
        fit = LinearSVC(C=1e4, max_iter=20_000, dual=True, tol=1e-3).fit(rows.numpy(), labels.numpy())
        separable.append(fit.score(rows.numpy(), labels.numpy()))
        held_out.append(ask(rows, labels=labels).value or np.nan)
    assert np.mean(separable) == 1
    assert np.mean(held_out) == pytest.approx(0.5, abs=0.05)


def test_rows_of_one_cluster_train_and_are_judged_together() -> None:
    """Eight copies with a little noise, all in one cluster: a probe that knew a copy would be right."""
    rows = data.isotropic(100, 60).repeat(8, 1) + 0.01 * data.isotropic(800, 60, 1)
    labels = torch.randint(0, 2, (100,), generator=data.generator(1)).repeat(8).tolist()
    clusters = torch.arange(100).repeat(8).tolist()
    assert (ask(rows, labels=labels).value or 0) > 0.7
    assert (ask(rows, labels=labels, clusters=clusters).value or 1) < 0.6


def labelled(start: int, stop: int) -> Batch:
    rows = 1e4 + data.isotropic(400, 5)[start:stop]
    places = torch.arange(start, stop)
    return Batch.of(
        rows,
        ids=[f"row {place}" for place in places.tolist()],
        labels=(places % 3).tolist(),
        groups=[f"site {place % 7}" for place in places.tolist()],
        pretext=(places % 4).tolist(),
        tasks={"a": (places % 2).tolist(), "b": (places % 5).tolist()},
        attributes={"tone": (places % 2).tolist()},
        targets=torch.stack([rows[:, 0] * 2, places.double() + 1e4], dim=1),
    )


FOLDS = [MomentFolds, ClassFolds, CategoryFolds, GroupFolds, PretextFolds, TaskFolds, AttributeFolds, CellFolds]
PARTS = [*FOLDS, CellMoments, TargetFolds]


@pytest.mark.parametrize("kind", PARTS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("cuts", [[200], [1, 2, 3, 350]])
def test_merging_any_split_of_folds_equals_one_pass(kind: Any, cuts: list[int]) -> None:
    edges = [0, *cuts, 400]
    parts = [kind.of(labelled(a, b)) for a, b in itertools.pairwise(edges)]
    whole = kind.of(labelled(0, 400))
    assert_same(flat(reduce(kind.merge, parts)), flat(whole))
    assert_same(flat(reduce(kind.merge, parts[::-1])), flat(whole))


def flat(found: Any) -> Any:
    return tuple(found.parts.values()) if isinstance(found, TaskFolds) else found


def test_targets_far_from_zero_keep_their_covariance() -> None:
    batch = labelled(0, 400)
    found = TargetFolds.of(batch).without()
    rows, targets = batch.features.numpy(), batch.numbers("targets").double().numpy()
    expected = np.cov(np.concatenate([rows, targets], axis=1).T, bias=True)
    np.testing.assert_allclose(found.cross.numpy(), expected[:5, 5:], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.variance.numpy(), np.diag(expected)[5:], rtol=1e-9)


def test_moments_of_all_rows_follow_from_their_folds() -> None:
    batch = labelled(0, 400)
    kinds = (MomentFolds, ClassFolds, Moments, ClassMoments)
    found = Collection.of(batch, kinds)
    assert set(found.parts) >= {ClassFolds}
    assert not {MomentFolds, Moments, ClassMoments} & set(found.parts)
    assert_same(found.get(Moments), Moments.of(batch))
    assert_same(found.get(ClassMoments), ClassMoments.of(batch))
    assert_same(found.get(MomentFolds), MomentFolds.of(batch))
    plain = Collection.of(batch, (MomentFolds, Moments))
    assert Moments not in plain.parts
    assert_same(plain.get(Moments), Moments.of(batch))


def test_axes_are_found_once_for_all_that_is_read_off() -> None:
    folds = MomentFolds.of(labelled(0, 400))
    first = folds.axes_without(2, 3)
    assert folds.axes_without(3, 2) is first
    values = torch.linalg.eigvalsh(folds.without(2, 3).covariance)
    torch.testing.assert_close(first.values, values / values.mean())


def test_how_a_row_moves_nearest_means_is_not_scaled_down() -> None:
    """No fit has made them the best ones: to move them changes the accuracy to first order."""
    rows, labels = data.structured(400, 12, 4, 3, signal=0.7)
    batch = Batch.of(rows, ids=[str(row) for row in range(400)], labels=labels)
    found = nearest_means(ClassFolds.of(batch), Sample.of(batch))
    assert isinstance(found, HeldOut)
    influence = balanced(found).influence
    whole = found.balanced_influence(found.correct) + found.pulled(found.weights())
    assert influence is not None
    torch.testing.assert_close(influence, whole)
