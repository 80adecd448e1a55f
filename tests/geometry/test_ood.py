"""Distance to the training classes: known values, peers' faults, the reference that is the probe, errors, refusals."""

from __future__ import annotations

import itertools
from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from gate.estimate import Estimate
from gate.geometry.methods.reference_distance import kth_neighbour, mahalanobis, shrunk
from gate.geometry.statistics import Batch, ReferenceClasses, ReferenceSample
from gate.measurement import measure
from tests.geometry import data, inputs

NAME = "mahalanobis_ood_auroc"
READOUTS = (NAME, f"{NAME}.fpr95", f"{NAME}.knn", f"{NAME}.rejection_worst_class")


def ask(address: str, **given: Any) -> Estimate:
    return measure(metrics=[address], **given)[address]


def value(address: str, **given: Any) -> float:
    found = ask(address, **given)
    assert found.status == "ok", found.reason
    assert found.value is not None
    return found.value


def drawn(n: int, c: int, g: torch.Generator, d: int = 8) -> tuple[Tensor, Tensor]:
    """Four classes of unequal spread."""
    labels = torch.randint(0, c, (n,), generator=g)
    means = 2 * torch.randn(c, d, generator=data.generator(5))
    return means[labels] + torch.randn(n, d, generator=g) * (1 + 0.2 * labels[:, None]), labels


def scene(seed: int, shift: float = 1.5, n: int = 800, reference: int = 1000, c: int = 4) -> dict[str, Any]:
    g = data.generator(seed * 7919 + 1)
    rows, labels = drawn(n, c, g)
    fitted, fitted_labels = drawn(reference, c, g)
    strange, _ = drawn(600, c, g)
    return {
        "features": rows,
        "labels": labels,
        "reference": {"features": fitted, "labels": fitted_labels},
        "ood": strange + shift * torch.randn(600, 8, generator=g),
    }


def reference_of(rows: Tensor, labels: Any) -> tuple[ReferenceSample, ReferenceClasses]:
    batch = Batch.of(rows, ids=[str(row) for row in range(len(rows))], labels=labels, split="reference")
    return ReferenceSample.of(batch), ReferenceClasses.of(batch)


def squared(rows: Tensor, labels: Any) -> Tensor:
    """Squared distances of rows to the classes that were fitted to them."""
    return mahalanobis(rows, *reference_of(rows, labels)).values.square()


def test_a_wider_cloud_is_told_apart_as_often_as_the_f_distribution_says() -> None:
    reference = {"features": data.isotropic(20_000, 16, 1), "labels": ["all"] * 20_000}
    given = {"features": data.isotropic(8000, 16, 2), "reference": reference}
    wider = value(NAME, ood=2**0.5 * data.isotropic(8000, 16, 3), **given)
    assert wider == pytest.approx(float(stats.f.sf(0.5, 16, 16)), abs=0.01)
    assert wider == pytest.approx(0.9118, abs=0.01)
    assert value(NAME, ood=data.isotropic(8000, 16, 4), **given) == pytest.approx(0.5, abs=0.01)


def numpy_scores(given: dict[str, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Mahalanobis distances by an inverse, class by class, with the shrinkage of scikit-learn."""
    fitted = given["reference"]["features"].double().numpy()
    labels = given["reference"]["labels"].numpy()
    means = np.stack([fitted[labels == label].mean(axis=0) for label in np.unique(labels)])
    covariance, _ = ledoit_wolf(fitted - means[labels], assume_centered=True)
    inverse = np.linalg.inv(covariance)
    result = []
    for rows in (given["features"].double().numpy(), given["ood"].double().numpy()):
        gaps = rows[:, None, :] - means[None]
        result.append(np.einsum("ncd,de,nce->nc", gaps, inverse, gaps).min(axis=1))
    return result[0], result[1]


def test_all_readouts_are_those_of_scikit_learn() -> None:
    given = scene(0)
    inside, outside = numpy_scores(given)
    truth = np.r_[np.zeros(len(inside)), np.ones(len(outside))]
    assert value(NAME, **given) == pytest.approx(roc_auc_score(truth, np.r_[inside, outside]), abs=1e-9)
    accepted, kept, _ = roc_curve(1 - truth, -np.r_[inside, outside], drop_intermediate=False)
    assert value(f"{NAME}.fpr95", **given) == pytest.approx(accepted[np.argmax(kept >= 0.95)], abs=2 / 600)
    rejected = inside > np.quantile(inside, 0.95)
    by_class = [rejected[given["labels"].numpy() == label].mean() for label in range(4)]
    worst = ask(f"{NAME}.rejection_worst_class", **given)
    assert worst.value == pytest.approx(max(by_class), abs=1e-9)
    assert worst.detail == "worst class '3'"
    assert worst.breakdown == pytest.approx(dict(zip("0123", by_class, strict=True)))
    near = NearestNeighbors(n_neighbors=10).fit(given["reference"]["features"].double().numpy())
    far = [near.kneighbors(rows.double().numpy())[0][:, 9] for rows in (given["features"], given["ood"])]
    assert value(f"{NAME}.knn", **given) == pytest.approx(roc_auc_score(truth, np.concatenate(far)), abs=1e-9)


def test_the_shrinkage_is_that_of_ledoit_and_wolf() -> None:
    rows = data.isotropic(60, 20) * torch.linspace(0.2, 2, 20)
    rows -= rows.mean(dim=0)
    fourth = rows.square().sum(dim=1).square().mean().item()
    covariance, share = shrunk(rows.T @ rows / 60, fourth, 60)
    expected, expected_share = ledoit_wolf(rows.numpy(), assume_centered=True)
    assert share == pytest.approx(expected_share)
    np.testing.assert_allclose(covariance.numpy(), expected, atol=1e-12)
    assert shrunk(torch.eye(3).double(), 15.0, 9)[1] == 1.0


@pytest.mark.parametrize(("spread", "radius", "offset"), [(0.1, 1.0, 0.0), (1e-4, 10.0, 0.0), (0.1, 1.0, 50.0)])
def test_the_mean_squared_distance_to_the_own_class_is_the_dimension_also_in_deep_collapse(
    spread: float, radius: float, offset: float
) -> None:
    """A scatter that is not divided by n is off by the number of rows, an expansion in float32 by half of the value."""
    d, c = 64, 10
    corners = radius * torch.eye(c, d).double() - radius / c
    labels = torch.arange(c).repeat_interleave(2 * d)
    noise = spread * d**0.5 * torch.cat([torch.eye(d), -torch.eye(d)]).double().repeat(c, 1)
    rows = (corners[labels] @ data.rotation(d) + noise + offset).float()
    assert float(squared(rows, labels).mean()) == pytest.approx(d, rel=1e-3)


def test_far_tight_classes_keep_their_covariance_in_float32() -> None:
    labels = torch.arange(2000) % 4
    noise = 1e-3 * data.isotropic(2000, 6) * torch.linspace(0.5, 2, 6)
    rows = (noise + 30 * data.isotropic(4, 6, 1)[labels]).float()
    _, classes = reference_of(rows, labels)
    centred = (
        rows.double().numpy() - np.stack([rows[labels == c].double().numpy().mean(axis=0) for c in range(4)])[labels]
    )
    np.testing.assert_allclose(classes.pooled.numpy(), np.cov(centred.T, bias=True), rtol=1e-4, atol=1e-11)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_no_absolute_ridge_decides_for_small_features(scale: float) -> None:
    given = scene(1)
    plain = value(NAME, **given)
    assert value(NAME, **inputs.changed(_as_mappings(given), lambda rows: rows * scale)) == pytest.approx(
        plain, abs=1e-5
    )


def _as_mappings(given: dict[str, Any]) -> dict[str, Any]:
    return {**given, "ood": {"features": given["ood"]}}


def test_a_dead_channel_does_not_break_the_inverse() -> None:
    given = _as_mappings(scene(2))
    padded = inputs.changed(given, lambda rows: torch.cat([rows, torch.full((len(rows), 2), 3.0)], dim=1))
    assert value(NAME, **padded) == pytest.approx(value(NAME, **given), abs=0.01)


@pytest.mark.parametrize(("n", "expected"), [(500, 1.00), (2000, 0.86)])
def test_rows_that_were_fitted_look_nearer_than_any_new_row(n: int, expected: float) -> None:
    """Why the reference must not be the probe set: without any shift, new rows seem out of distribution."""
    scales = torch.arange(1, 257).double() ** -0.5  # isotropic rows are shrunk to a multiple of the identity, and safe
    fitted, new = data.isotropic(n, 256) * scales, data.isotropic(1000, 256, 1) * scales
    distances = mahalanobis(torch.cat([fitted, new]), *reference_of(fitted, ["all"] * n)).values.numpy()
    found = roc_auc_score(np.r_[np.zeros(n), np.ones(1000)], distances)
    assert found == pytest.approx(expected, abs=0.02)


def test_a_reference_that_is_the_probe_set_is_refused() -> None:
    given = scene(3)
    given["reference"] = {"features": given["features"], "labels": given["labels"]}
    for address in READOUTS:
        found = ask(address, **given)
        assert (found.status, found.value) == ("not_applicable", None)
        assert found.reason == "duplicates: 800 of 800 sampled probe rows are reference rows too; keep them apart"


def test_probe_rows_that_the_reference_holds_are_left_out_and_counted() -> None:
    given = scene(4)
    mixed = {name: column.clone() for name, column in given["reference"].items()}
    mixed["features"][:300] = given["features"][:300]
    mixed["features"][300:350] = given["ood"][:50]
    apart = {"labels": given["labels"][300:], "reference": mixed, "ood": given["ood"][50:]}
    for address in READOUTS:
        found = ask(address, **{**given, "reference": mixed})
        assert found.value == pytest.approx(value(address, features=given["features"][300:], **apart), abs=1e-12)
        assert found.n == 500
        assert found.detail is not None
        assert "300 probe rows and 50 rows out of distribution are reference rows too and are left out" in found.detail


def test_the_error_is_that_of_delong_when_the_reference_is_large() -> None:
    given = scene(5, reference=20_000)
    inside, outside = numpy_scores(given)
    wins = (outside[None] > inside[:, None]).astype(float)
    expected = wins.mean(axis=1).var(ddof=1) / len(inside) + wins.mean(axis=0).var(ddof=1) / len(outside)
    found = ask(NAME, **given)
    assert found.standard_error == pytest.approx(expected**0.5, rel=0.02)
    assert found.standard_error > expected**0.5


@pytest.mark.parametrize("kind", ["mahalanobis", "neighbour"])
def test_the_error_of_the_reference_is_what_another_reference_would_change(kind: str) -> None:
    given = scene(6, shift=1.0, reference=300)
    rows = torch.cat([given["features"], given["ood"]])
    weights = torch.cat([torch.full((800,), -1 / 800), torch.full((600,), 1 / 600)]).double()
    sums, predicted = [], []
    for seed in range(60):
        fitted, labels = drawn(300, 4, data.generator(seed + 400_000))
        sample, classes = reference_of(fitted, labels)
        distances = mahalanobis(rows, sample, classes) if kind == "mahalanobis" else kth_neighbour(rows, sample, 10)
        sums.append(float(weights @ distances.values))
        predicted.append(distances.variance(weights))
    assert np.mean(predicted) ** 0.5 == pytest.approx(np.std(sums, ddof=1), rel=0.3)


def test_neighbours_of_a_tight_cluster_far_away_are_found_in_float32() -> None:
    rows = (1000 + data.isotropic(400, 4)).float()
    sample, _ = reference_of(rows[:200], [0] * 200)
    near = NearestNeighbors(n_neighbors=5).fit(rows[:200].double().numpy())
    expected = near.kneighbors(rows[200:].double().numpy())[0][:, 4]
    np.testing.assert_allclose(kth_neighbour(rows[200:], sample, 5).values.numpy(), expected, rtol=1e-9)


def test_perfect_detection_is_not_certain() -> None:
    found = ask(NAME, **scene(7, shift=300.0))
    assert found.value == 1
    assert found.interval is not None
    assert found.interval[0] == pytest.approx(0.025 ** (1 / 600))
    none = ask(f"{NAME}.fpr95", **scene(7, shift=300.0))
    assert none.value == 0
    assert none.interval == pytest.approx((0, 1 - 0.025 ** (1 / 600)))


def test_rows_without_any_spread_are_at_chance() -> None:
    """Equal distances tie by half, and no density is made up for them."""
    given = scene(8)
    still, strange = (1e-20 * data.isotropic(300, 8, seed) for seed in (1, 2))  # distinct, and equal up to rounding
    found = ask(NAME, **{**given, "features": still, "labels": [0] * 300, "ood": strange})
    assert found.value == 0.5
    assert ask(f"{NAME}.fpr95", **{**given, "features": still, "labels": None}).status == "ok"


@pytest.mark.parametrize("what", ["probe rows", "rows out of distribution", "reference rows"])
def test_repeated_rows_are_not_rows_of_their_own(what: str) -> None:
    given = scene(14, n=1000)

    def repeated(rows: Tensor, distinct: int) -> Tensor:
        return rows[torch.arange(len(rows)) % distinct]

    def with_repeats(distinct: int) -> Estimate:
        reference = dict(given["reference"])
        changed = {**given, "reference": reference}
        if what == "reference rows":
            reference["features"] = repeated(reference["features"], distinct)
        else:
            name = "features" if what == "probe rows" else "ood"
            changed[name] = repeated(changed[name], distinct)
        return ask(NAME, **changed)

    found = with_repeats(5)
    assert (found.status, found.value) == ("inconclusive", None)
    assert found.reason is not None
    assert found.reason.startswith("duplicates: only 5 of ")
    assert what in found.reason


def test_distinct_rows_are_what_the_domain_counts() -> None:
    given = scene(15)
    strange = given["ood"][:300]
    found = ask(NAME, **{**given, "ood": strange[torch.arange(300) % 180]})
    assert found.reason == "few_rows: 180 distinct rows out of distribution; it needs at least 200"


def test_influence_predicts_what_leaving_rows_out_does() -> None:
    given = scene(9)
    found = ask(NAME, ids=range(800), **given)
    assert found.influence is not None
    order = found.influence.values.argsort(descending=True)[:40]
    gone = {int(found.influence.ids[place]) for place in order}
    kept = [row for row in range(800) if row not in gone]
    left = {"features": given["features"][kept], "labels": given["labels"][kept]}
    change = value(NAME, ids=kept, **{**given, **left}) - (found.value or 0)
    assert change == pytest.approx(-float(found.influence.values[order].sum()) / len(kept), rel=1e-6)


def test_labels_of_the_reference_are_needed_for_classes_and_not_for_neighbours() -> None:
    given = scene(10)
    given["reference"] = given["reference"]["features"]
    found = measure(metrics=[NAME], **given)
    assert found[f"{NAME}.knn"].status == "ok"
    for address in (NAME, f"{NAME}.fpr95", f"{NAME}.rejection_worst_class"):
        assert found[address].reason == "missing_input: it needs labels of the reference rows"


def test_the_worst_class_needs_classes_of_the_probe_rows() -> None:
    worst = f"{NAME}.rejection_worst_class"
    given = scene(11)
    assert ask(worst, **{**given, "labels": None}).reason == "missing_input: it needs labels"
    one = ask(worst, **{**given, "labels": ["same"] * 800})
    assert one.reason == "missing_input: it needs two classes: over all rows the share is 5 % by construction"
    few = ask(worst, **{**given, "labels": [int(row < 19) for row in range(800)]})
    assert few.reason == "small_class: class '1' has 19 of the 800 judged rows; each needs 20"
    assert few.status == "inconclusive"


@pytest.mark.parametrize(
    ("rows", "reference", "strange", "d", "reason"),
    [
        (300, 199, 300, 4, "n_over_d: 199 reference rows of dimension 4; it needs at least 200"),
        (300, 255, 300, 64, "n_over_d: 255 reference rows of dimension 64; it needs at least 256"),
        (199, 300, 300, 4, "few_rows: 199 probe rows; it needs at least 200"),
        (300, 300, 199, 4, "few_rows: 199 rows out of distribution; it needs at least 200"),
    ],
)
def test_too_few_rows_are_inconclusive(rows: int, reference: int, strange: int, d: int, reason: str) -> None:
    fitted = {"features": data.isotropic(reference, d, 1), "labels": [0] * reference}
    found = ask(NAME, features=data.isotropic(rows, d), reference=fitted, ood=data.isotropic(strange, d, 2))
    assert (found.status, found.value) == ("inconclusive", None)
    assert found.reason == reason


def test_missing_rows_are_named() -> None:
    given = scene(12)
    assert "ood rows" in (ask(NAME, **{**given, "ood": None}).reason or "")
    assert "reference rows" in (ask(NAME, **{**given, "reference": None}).reason or "")


def test_rows_that_admit_no_distance_are_errors() -> None:
    given = scene(13)
    found = ask(NAME, **{**given, "ood": torch.randn(300, 5)})
    assert (found.status, found.value) == ("error", None)
    assert found.reason == "shape_mismatch: rows out of distribution have dimension 5, the probe rows have 8"
    tight = {"features": torch.eye(4, 8).repeat(100, 1) + 1e-12 * torch.randn(400, 8), "labels": list(range(4)) * 100}
    found = ask(NAME, **{**given, "reference": tight})
    assert found.reason == "all reference rows of each class are equal up to rounding: they have no covariance"


@pytest.mark.parametrize("cuts", [[500], [1, 2, 3, 990], list(range(1, 12))], ids=["halves", "uneven", "single rows"])
def test_merging_any_split_equals_one_pass(cuts: list[int]) -> None:
    rows, labels = 1e4 + data.isotropic(997, 6), [f"class {row * 7 % 5}" for row in range(997)]
    edges = itertools.pairwise([0, *cuts, 997])
    parts = [
        ReferenceClasses.of(
            Batch.of(rows[a:b], ids=[str(row) for row in range(a, b)], labels=labels[a:b], split="reference")
        )
        for a, b in edges
    ]
    whole = reference_of(rows, labels)[1]
    for found in (reduce(ReferenceClasses.merge, parts), reduce(ReferenceClasses.merge, parts[::-1])):
        assert found.names == whole.names
        assert torch.equal(found.counts, whole.counts)
        torch.testing.assert_close(found.means, whole.means, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(found.pooled, whole.pooled, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_intervals_cover(shift: float) -> None:
    draws: dict[str, list[tuple[float, float, float]]] = {address: [] for address in READOUTS}
    for seed in range(250):
        for address, found in measure(metrics=[NAME], seed=seed, **scene(seed, shift)).items():
            assert found.interval is not None
            draws[address].append((found.value or 0.0, *found.interval))
    for address, rows in draws.items():
        values, low, high = np.array(rows).T
        share = np.mean((low <= values.mean()) & (values.mean() <= high))
        assert share >= 0.92, (address, share)
        assert share <= 0.985 or "worst" in address, (address, share)
