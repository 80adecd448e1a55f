"""Groups and sites: closed forms, an independent probe, nulls, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from gate.estimate import Estimate
from gate.geometry.statistics import Batch, CellMoments, hash_numbers
from gate.measurement import measure
from tests.geometry import data

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def ask(address: str, rows: Tensor, **columns: object) -> Estimate:
    return measure(rows, metrics=[address], **columns)[address]  # type: ignore[arg-type]


def value(address: str, rows: Tensor, **columns: object) -> float:
    found = ask(address, rows, **columns)
    assert found.status == "ok", found.reason
    assert found.value is not None
    return found.value


def sites(n: int = 900, d: int = 6, shift: float = 1.0, seed: int = 0) -> tuple[Tensor, list[int], list[int]]:
    """Three sites, unevenly crossed with two classes, each with an offset of its own."""
    g = data.generator(seed)
    groups = torch.randint(0, 3, (n,), generator=g)
    labels = (torch.rand(n, generator=g) < torch.tensor([0.3, 0.5, 0.7])[groups]).long()
    means = torch.randn(3, d, generator=data.generator(5), dtype=torch.float64) * shift
    rows = torch.randn(n, d, generator=g, dtype=torch.float64) + means[groups]
    rows[:, 0] += 4 * labels
    return rows, labels.tolist(), groups.tolist()


def two_groups() -> tuple[Tensor, list[str]]:
    """Groups at +-e_1 with exactly isotropic noise."""
    noise = torch.cat([data.orthonormal_columns(500, torch.ones(16).double(), seed) for seed in (1, 2)])
    noise[:500, 0] += 1
    noise[500:, 0] -= 1
    return noise, ["left"] * 500 + ["right"] * 500


def test_groups_at_plus_and_minus_one_own_a_seventeenth_of_the_variance() -> None:
    rows, groups = two_groups()
    assert value("group_variance_share.raw", rows, groups=groups) == pytest.approx(1 / 17, abs=1e-9)
    assert value("group_variance_share", rows, groups=groups) == pytest.approx(0.057826, abs=1e-5)
    shares = measure(rows, attributes={"side": groups}, metrics=["group_variance_share"])
    assert shares["group_variance_share.attribute"].value == pytest.approx(0.057826, abs=1e-5)


def test_class_means_are_no_share_of_the_group() -> None:
    """Classes ten apart, each with as many rows of either group: only the offset of the group counts."""
    rows, groups = two_groups()
    labels = [row % 2 for row in range(1000)]
    rows[:, 1] += 10 * torch.tensor(labels)
    found = value("group_variance_share", rows, groups=groups, labels=labels)
    assert found == pytest.approx(0.0578, abs=0.002)


def test_the_share_is_unbiased_where_classes_and_groups_overlap_unevenly() -> None:
    draws: dict[str, list[float]] = {"value": [], "raw": []}
    for seed in range(60):
        rows, labels, groups = sites(n=150, shift=0.0, seed=seed)
        found = measure(rows, labels=labels, groups=groups, metrics=["group_variance_share"])
        for name, address in (("value", "group_variance_share"), ("raw", "group_variance_share.raw")):
            estimate = found[address].value
            assert estimate is not None
            draws[name].append(estimate)
    assert np.mean(draws["value"]) == pytest.approx(0, abs=float(3 * np.std(draws["value"])) / math.sqrt(60))
    assert np.mean(draws["raw"]) == pytest.approx(2 / 149, abs=0.003)
    assert np.mean(draws["raw"]) > 5 * np.std(draws["raw"]) / math.sqrt(60)


def brute_share(rows: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """Residual rows by a loop, the null of their group means by the trace of projections."""
    n = len(rows)
    by_class = np.stack([labels == label for label in np.unique(labels)], axis=1).astype(float)
    projector = np.eye(n) - by_class @ np.linalg.inv(by_class.T @ by_class) @ by_class.T
    left = projector @ rows
    between, null, within = 0.0, 0.0, 0.0
    spreads = np.zeros(n)
    for group in np.unique(groups):
        member = (groups == group).astype(float)
        picked = member == 1
        residual = left[picked] - left[picked].mean(axis=0)
        averaged = projector @ member / member.sum()
        freedom = np.trace(projector[np.ix_(picked, picked)]) - member.sum() * (averaged @ averaged)
        spreads[picked] = (residual**2).sum() / freedom
    for group in np.unique(groups):
        member = (groups == group).astype(float)
        averaged = projector @ member / member.sum()
        between += member.sum() / n * (left[groups == group].mean(axis=0) ** 2).sum()
        null += member.sum() / n * (averaged**2 @ spreads)
        within += member.sum() / n * spreads[groups == group][0]
    return (between - null) / (between - null + within)


def test_the_share_is_that_of_explicit_projections() -> None:
    rows, labels, groups = sites(n=120)
    expected = brute_share(rows.numpy(), np.array(labels), np.array(groups))
    assert value("group_variance_share", rows, labels=labels, groups=groups) == pytest.approx(expected, rel=1e-9)


def brute_probe(rows: np.ndarray, labels: np.ndarray | None, groups: np.ndarray) -> float:
    """The probe with sklearn's ridge, fold by fold, class means of the training rows taken out."""
    which = hash_numbers(torch.arange(len(rows))).numpy() % 10
    classes = np.zeros(len(rows), dtype=int) if labels is None else labels

    def scores(train: np.ndarray, test: np.ndarray, penalty: float) -> np.ndarray:
        means = np.stack([rows[train & (classes == c)].mean(axis=0) for c in range(classes.max() + 1)])
        left = rows - means[classes]
        size = (left[train] ** 2).sum() / left.shape[1]
        targets = np.eye(groups.max() + 1)[groups]
        model = Ridge(alpha=penalty * size, fit_intercept=False, solver="svd")
        shares = targets[train].mean(axis=0)
        found: np.ndarray = model.fit(left[train], targets[train] - shares).predict(left[test])
        return np.asarray(found + targets.mean(axis=0))

    def accuracy(found: np.ndarray, test: np.ndarray) -> float:
        right = found.argmax(axis=1) == groups[test]
        return float(np.mean([right[groups[test] == g].mean() for g in np.unique(groups[test])]))

    guesses = np.zeros((len(rows), groups.max() + 1))
    for fold in range(10):
        inner = which == (fold ^ 1)
        tuning = (which != fold) & ~inner
        best = max(PENALTIES, key=lambda each: (round(accuracy(scores(tuning, inner, each), inner), 12), each))
        guesses[which == fold] = scores(which != fold, which == fold, best)
    return accuracy(guesses, np.ones(len(rows), dtype=bool))


@pytest.mark.parametrize("with_labels", [True, False])
def test_the_probe_is_that_of_scikit_learn_on_residual_rows(with_labels: bool) -> None:
    rows, labels, groups = sites()
    given = {"labels": labels} if with_labels else {}
    accuracy = brute_probe(rows.numpy(), np.array(labels) if with_labels else None, np.array(groups))
    expected = (accuracy - 1 / 3) / (2 / 3)
    assert value("group_probe_bacc", rows, groups=groups, **given) == pytest.approx(expected, abs=1e-12)


def test_raw_rows_leave_the_class_means_in() -> None:
    """Groups that differ in nothing but their mix of classes are read off raw rows and not off residual ones."""
    rows, labels, groups = sites(n=2000, shift=0.0)
    found = measure(rows, labels=labels, groups=groups, metrics=["group_probe_bacc"])
    assert found["group_probe_bacc"].value == pytest.approx(0, abs=0.06)
    raw = found["group_probe_bacc.raw_rows"]
    assert raw.interval is not None
    assert raw.interval[0] > 0.05


def test_four_far_groups_are_read_off_and_isotropic_rows_are_not() -> None:
    rows, groups = data.far_clusters(2000, 4, 16)
    assert value("group_probe_bacc", rows, groups=groups, labels=[0] * 2000) == pytest.approx(1, abs=0.01)
    assert value("group_probe_bacc", rows, groups=groups) == pytest.approx(1, abs=0.01)
    draws = [value("group_probe_bacc", data.isotropic(600, 16, seed), groups=groups[:600]) for seed in range(20)]
    assert np.mean(draws) == pytest.approx(0, abs=float(3 * np.std(draws)) / math.sqrt(20))


def test_the_worst_pair_is_named() -> None:
    rows = data.isotropic(1500, 6)
    groups = [("near", "nearer", "far")[row % 3] for row in range(1500)]
    rows[:, 0] += torch.tensor([0.0, 0.5, 9.0])[torch.arange(1500) % 3]
    found = ask("group_probe_bacc.worst_pair", rows, groups=groups)
    assert found.value == pytest.approx(1, abs=0.01)
    assert found.detail is not None
    assert "'far'" in found.detail
    assert found.breakdown is not None
    assert found.breakdown["near / nearer"] < 0.5


def test_rows_of_one_patient_never_straddle_folds() -> None:
    """A signature of its own for each patient: a probe that saw other rows of the patient would know the group."""
    g = data.generator(2)
    patients = torch.arange(800) // 8
    signature = 3 * torch.randn(100, 60, generator=g, dtype=torch.float64)
    group_of = torch.randint(0, 2, (100,), generator=g)
    rows = signature[patients] + 0.3 * torch.randn(800, 60, generator=g, dtype=torch.float64)
    groups = group_of[patients].tolist()
    alone = ask("group_probe_bacc", rows, groups=groups)
    together = ask("group_probe_bacc", rows, groups=groups, clusters=patients.tolist())
    assert alone.value is not None
    assert alone.value > 0.5
    assert together.value is not None
    assert together.interval is not None
    assert together.value < 0.35
    assert together.interval[0] < 0 < together.interval[1]


def test_sites_that_hold_whole_classes_are_not_applicable() -> None:
    rows, labels = data.far_clusters(900, 3, 8)
    groups = [min(label, 1) for label in labels]
    for address in ("group_probe_bacc", "group_probe_bacc.worst_pair", "group_variance_share"):
        found = ask(address, rows, labels=labels, groups=groups)
        assert (found.status, found.value) == ("not_applicable", None)
        assert str(found.reason).startswith("group_nested_in_class: the classes of its rows fix who is of group '0'")
    assert ask("group_probe_bacc.raw_rows", rows, labels=labels, groups=groups).status == "ok"


def test_a_few_mixed_rows_do_not_make_a_nested_site_identifiable() -> None:
    rows, labels = data.two_classes(0.0, 2000, 6)
    groups = [label if row % 50 > 1 else 1 - label for row, label in enumerate(labels)]
    rows[:, 1] += 3 * torch.tensor(groups)
    assert ask("group_probe_bacc", rows, labels=labels, groups=groups).status == "not_applicable"


def test_random_groups_are_not_read_off_at_any_width() -> None:
    """On the rows it was trained on a probe of random labels is right in 0.22, 0.64 and all of 2000 rows."""
    groups = torch.randint(0, 10, (2000,), generator=data.generator(1)).tolist()
    for d in (64, 512):
        assert value("group_probe_bacc", data.isotropic(2000, d), groups=groups) == pytest.approx(0, abs=0.03)


def test_repeated_rows_are_not_judged() -> None:
    rows = data.isotropic(500, 32).repeat(2, 1)
    groups = torch.randint(0, 2, (500,), generator=data.generator(3)).repeat(2).tolist()
    found = ask("group_probe_bacc", rows, groups=groups)
    assert found.status == "inconclusive"
    assert str(found.reason).startswith("duplicates: only 0 of 1000")


def test_drawing_rows_with_replacement_does_not_make_noise_readable() -> None:
    picks = torch.randint(0, 800, (800,), generator=data.generator(4))
    rows, groups = data.isotropic(800, 64)[picks], (torch.arange(800) % 2)[picks].tolist()
    found = ask("group_probe_bacc", rows, groups=groups)
    assert found.status == "inconclusive" or (found.value is not None and abs(found.value) < 0.15)


def test_attributes_are_ranked_and_the_easy_one_is_set_against_the_hard_one() -> None:
    g = data.generator(6)
    easy, hard = (torch.randint(0, 2, (2000,), generator=g) for _ in range(2))
    rows = 0.1 * torch.randn(2000, 8, generator=g, dtype=torch.float64)
    rows[:, 0] += 4 * easy
    rows[:, 1] += 1 * hard
    found = measure(rows, attributes={"easy": easy, "hard": hard}, metrics=["group_variance_share"])
    largest, ratio = found["group_variance_share.attribute"], found["group_variance_share.easy_hard"]
    assert largest.detail == "attribute 'easy'"
    assert ratio.value == pytest.approx(16, rel=0.1)
    assert ratio.interval is not None
    assert ratio.interval[0] < 16 < ratio.interval[1]
    assert largest.breakdown is not None
    assert largest.breakdown["hard"] == pytest.approx(0.25 / (4 + 0.25 + 0.08), rel=0.1)
    assert found["group_variance_share"].reason == "missing_input: it needs groups"


def test_attributes_that_are_read_off_unequally_have_no_ratio() -> None:
    g = data.generator(7)
    easy, hard = (torch.randint(0, 2, (1000,), generator=g) for _ in range(2))
    rows = torch.randn(1000, 4, generator=g, dtype=torch.float64)
    rows[:, 0] += 6 * easy
    rows[:, 1] += 1 * hard
    found = ask("group_variance_share.easy_hard", rows, attributes={"easy": easy, "hard": hard})
    assert found.reason == (
        "missing_input: it needs two attributes that are read off equally well, within 0.05 of each other"
    )
    noise = {name: torch.randint(0, 2, (6000,), generator=g) for name in "ab"}
    found = ask("group_variance_share.easy_hard", data.isotropic(6000, 4), attributes=noise)
    assert str(found.reason).startswith("no_class_signal: the share of attribute")


@pytest.mark.parametrize(
    ("address", "groups", "reason"),
    [
        ("group_probe_bacc", [0] * 785 + [1] * 15, "small_group: group '1' has 15 of the 800 judged rows; each group"),
        ("group_probe_bacc", [0] * 800, "small_group: all rows are of group '0'; it needs two"),
        (
            "group_variance_share",
            [0] * 791 + [1] * 9,
            "small_group: group '1' has 9 rows; each group needs at least 10",
        ),
        ("group_variance_share", [0] * 800, "small_group: all rows are of group '0'"),
    ],
)
def test_small_groups_are_inconclusive(address: str, groups: list[int], reason: str) -> None:
    found = ask(address, data.isotropic(800, 4), groups=groups)
    assert (found.status, found.value) == ("inconclusive", None)
    assert str(found.reason).startswith(reason)
    attribute = ask("group_variance_share.attribute", data.isotropic(800, 4), attributes={"tone": [0] * 795 + [1] * 5})
    assert str(attribute.reason).endswith("(attribute 'tone')")


def test_points_have_no_variance_to_share() -> None:
    rows = torch.eye(4, dtype=torch.float64).repeat(100, 1)
    labels, groups = [row % 4 for row in range(400)], [row // 4 % 2 for row in range(400)]
    found = ask("group_variance_share", rows, labels=labels, groups=groups)
    assert (found.status, found.value) == ("error", None)
    assert "the rows of every class are equal" in str(found.reason)
    assert ask("group_probe_bacc", torch.ones(400, 4), groups=groups).status == "error"


def test_a_cell_knows_its_class_and_group_whatever_their_names() -> None:
    rows = data.isotropic(6, 2)
    batch = Batch.of(
        rows, ids=list("abcdef"), labels=["1:x", "1", "1", "1:x", "", ""], groups=["", ":x", "y", "y", "1", "1"]
    )
    cells = CellMoments.of(batch)
    assert sorted(cells.pairs()) == [("", "1"), ("1", ":x"), ("1", "y"), ("1:x", ""), ("1:x", "y")]
    assert cells.counts.sum() == 6


@pytest.mark.parametrize("name", ["group_probe_bacc", "group_variance_share"])
def test_more_than_the_sampled_rows_count(name: str) -> None:
    """Beyond 8192 rows moments are of all of them and influence of the sampled ones."""
    rows, labels, groups = sites(n=9000)
    found = ask(name, rows, labels=labels, groups=groups)
    assert found.status == "ok"
    assert found.influence is not None
    assert len(found.influence.ids) == 8192
