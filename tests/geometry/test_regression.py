"""Regression collapse: known values, independent computations, the Cholesky trap, refusals, intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import linalg, optimize
from sklearn.decomposition import PCA
from torch import Tensor

from gate.errors import MetricError
from gate.estimate import Estimate
from gate.geometry.statistics import Batch, Weights
from gate.measurement import measure
from tests.geometry import data, inputs

MIX = torch.tensor([[1.0, 0.0], [0.6, 0.5]], dtype=torch.float64)


def ask(address: str, **given: Any) -> Estimate:
    return measure(metrics=[address], **given)[address]


def value(address: str, **given: Any) -> float:
    found = ask(address, **given)
    assert found.status == "ok", found.reason
    assert found.value is not None
    return found.value


def regression(seed: int, n: int = 800, d: int = 12, strength: float = 2.0) -> dict[str, Any]:
    """Features that hold two correlated targets in noise of a decaying spectrum, and a head that does not fit."""
    hidden = data.isotropic(n, 2, seed)
    carried = torch.cat([torch.eye(2), 0.3 * torch.ones(2, d - 2)], dim=1).double()
    noise = data.isotropic(n, d, seed + 50_000) * torch.linspace(1, 0.3, d)
    return {
        "features": strength * hidden @ carried + noise + 3,
        "targets": hidden @ MIX.T,
        "weights": {"head.weight": data.isotropic(2, d, 1)},
    }


def test_the_variance_beyond_the_leading_directions_is_known() -> None:
    rows = data.orthonormal_columns(400, torch.tensor([4.0, 3, 1, 1, 1]).double()) @ data.rotation(5)
    targets = data.isotropic(400, 2)
    assert value("nrc1", features=rows, targets=targets) == pytest.approx(0.3, abs=1e-9)
    assert value("nrc1", features=rows + 100, targets=targets) == pytest.approx(0.3, abs=1e-9)
    assert value("nrc1", features=rows, targets=targets[:, 0]) == pytest.approx(0.6, abs=1e-9)


def test_a_cone_is_no_regression_collapse() -> None:
    rows = data.isotropic(2000, 8) + 50
    assert value("nrc1", features=rows, targets=data.isotropic(2000, 1, 1)) > 0.8
    assert value("nrc1.rows", features=rows, targets=data.isotropic(2000, 1, 1)) > 0.8


def test_isotropic_rows_read_the_null() -> None:
    n, d, q = 400, 40, 3
    found = [
        value("nrc1", features=data.isotropic(n, d, seed), targets=data.isotropic(n, q, seed + 99))
        for seed in range(20)
    ]
    assert np.mean(found) == pytest.approx(1 - q * (1 + (d / (n - 1)) ** 0.5) ** 2 / d, abs=0.02)


def test_the_form_on_unit_rows_is_that_of_principal_components() -> None:
    given = regression(0)
    rows = given["features"].numpy()
    centred = rows - rows.mean(axis=0)
    units = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    axes = PCA(2).fit(rows).components_
    expected = np.mean(np.linalg.norm(units - units @ axes.T @ axes, axis=1) ** 2)
    assert value("nrc1.rows", **given) == pytest.approx(expected, abs=1e-9)
    head = given["weights"]["head.weight"].numpy()
    along = head.T @ np.linalg.pinv(head.T)
    expected = np.mean(np.linalg.norm(units - units @ along, axis=1) ** 2)
    assert value("nrc1.nrc2", **given) == pytest.approx(expected, abs=1e-9)


def brute_nrc3(head: np.ndarray[Any, Any], root: np.ndarray[Any, Any], top: float) -> float:
    product = head @ head.T
    product = product / np.linalg.norm(product)

    def distance(multiple: float) -> float:
        lowered = root - multiple * np.eye(len(root))
        return float(np.linalg.norm(product - lowered / np.linalg.norm(lowered)) ** 2)

    tried = np.linspace(0, top, 2001)[:-1]
    best = tried[np.argmin([distance(multiple) for multiple in tried])]
    step = tried[1]
    found = optimize.minimize_scalar(
        distance, bounds=(max(best - step, 0), min(best + step, top)), method="bounded", options={"xatol": 1e-12}
    )
    return min(float(found.fun), distance(best))


@pytest.mark.parametrize("seed", range(6))
def test_the_third_property_is_minimised_with_the_symmetric_root_and_not_a_cholesky_factor(seed: int) -> None:
    targets = data.isotropic(500, 3, seed) @ data.isotropic(3, 3, seed + 5)
    head = data.isotropic(3, 16, seed + 9) * torch.tensor([[0.3], [1.0], [2.0]])
    covariance = np.cov(targets.numpy().T, bias=True)
    smallest = float(np.sqrt(np.linalg.eigvalsh(covariance)[0]))
    found = value("nrc1.nrc3", features=data.isotropic(500, 16, seed), targets=targets, weights={"head.weight": head})
    assert found == pytest.approx(brute_nrc3(head.numpy(), np.real(linalg.sqrtm(covariance)), smallest), abs=1e-6)
    factor = brute_nrc3(head.numpy(), np.linalg.cholesky(covariance), smallest)
    assert abs(found - factor) > 0.01


def test_a_head_as_the_theory_predicts_reads_zero() -> None:
    targets = data.orthonormal_columns(500, torch.tensor([1.0, 4.0, 9.0]).double()) @ data.rotation(3).T
    root = data.rotation(3) @ torch.diag(torch.tensor([1.0, 2.0, 3.0]).double()) @ data.rotation(3).T
    head = torch.linalg.cholesky(root - 0.4 * torch.eye(3)) @ torch.eye(3, 16).double()
    given = {"features": data.isotropic(500, 16), "targets": targets, "weights": {"head.weight": 7 * head}}
    found = ask("nrc1.nrc3", **given)
    assert found.value == pytest.approx(0, abs=1e-9)
    assert found.detail == "multiple of the identity: 0.4"


def test_equal_targets_have_a_root_that_is_a_multiple_of_the_identity() -> None:
    targets = data.orthonormal_columns(500, torch.ones(2).double())
    weights = {"head.weight": torch.eye(2, 16).double()}
    found = ask("nrc1.nrc3", features=data.isotropic(500, 16), targets=targets, weights=weights)
    assert found.value == pytest.approx(0, abs=1e-9)
    assert found.influence is not None
    assert torch.isfinite(found.influence.values).all()


def test_features_in_the_span_of_the_head_leave_nothing_outside() -> None:
    head = data.isotropic(2, 12, 3)
    rows = data.isotropic(300, 2) @ head + 1e-9 * data.isotropic(300, 12, 4)
    given = {"features": rows, "targets": data.isotropic(300, 2), "weights": {"head.weight": head}}
    assert value("nrc1.nrc2", **given) == pytest.approx(0, abs=1e-9)
    assert value("nrc1.rows", **given) == pytest.approx(0, abs=1e-9)
    assert value("nrc1", **given) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("address", ["nrc1", "nrc1.rows", "nrc1.nrc2", "nrc1.nrc3"])
def test_influence_predicts_what_leaving_rows_out_does(address: str) -> None:
    given = regression(3)
    found = ask(address, ids=range(800), **given)
    assert found.influence is not None
    order = found.influence.values.argsort(descending=True)[:16]
    gone = {int(found.influence.ids[place]) for place in order}
    kept = [row for row in range(800) if row not in gone]
    change = value(address, ids=kept, **inputs.taken(given, kept)) - (found.value or 0)
    predicted = -float(found.influence.values[order].sum()) / len(kept)
    assert change == pytest.approx(predicted, rel=0.15)


def coverage(address: str, draws: int = 200) -> float:
    found = [ask(address, **regression(seed)) for seed in range(draws)]
    centre = float(np.mean([each.value for each in found if each.value is not None]))
    ends = [each.interval for each in found if each.interval is not None]
    assert len(ends) == draws
    return float(np.mean([low <= centre <= high for low, high in ends]))


@pytest.mark.slow
@pytest.mark.parametrize("address", ["nrc1", "nrc1.rows", "nrc1.nrc2", "nrc1.nrc3"])
def test_intervals_cover(address: str) -> None:
    assert 0.915 <= coverage(address) <= 0.985


@pytest.mark.parametrize(
    ("address", "n", "d", "q", "head", "status", "reason"),
    [
        ("nrc1", 199, 20, 2, None, "inconclusive", "n_over_d: 199 rows of dimension 20; it needs at least 200"),
        ("nrc1.rows", 199, 20, 2, None, "inconclusive", "n_over_d"),
        ("nrc1", 200, 20, 10, None, "not_applicable", "subspace_too_large: 10 targets for features of dimension 20"),
        ("nrc1.nrc2", 200, 20, 2, None, "not_applicable", "missing_input: it needs head.weight"),
        ("nrc1.nrc3", 200, 20, 2, None, "not_applicable", "missing_input: it needs head.weight"),
        ("nrc1.nrc2", 200, 20, 2, (2, 19), "not_applicable", "dim_mismatch: head.weight has 19 columns, the features"),
        ("nrc1.nrc2", 200, 20, 2, (10, 20), "not_applicable", "subspace_too_large: the head spans 10 of 20"),
        ("nrc1.nrc2", 29, 20, 2, (2, 20), "inconclusive", "few_rows: 29 rows; it needs at least 30"),
        ("nrc1.nrc3", 29, 20, 2, (2, 20), "inconclusive", "few_rows: 29 rows; it needs at least 30"),
        ("nrc1.nrc3", 200, 20, 2, (3, 20), "not_applicable", "dim_mismatch: head.weight has 3 rows for 2 targets"),
        ("nrc1.nrc3", 200, 20, 1, (1, 20), "not_applicable", "missing_input: it needs two targets or more"),
    ],
)
def test_outside_its_domain_it_refuses(
    address: str, n: int, d: int, q: int, head: tuple[int, int] | None, status: str, reason: str
) -> None:
    weights = {} if head is None else {"head.weight": data.isotropic(*head)}
    found = ask(address, features=data.isotropic(n, d), targets=data.isotropic(n, q, 1), weights=weights)
    assert (found.status, found.value) == (status, None)
    assert found.reason is not None
    assert found.reason.startswith(reason)


def test_without_targets_it_is_not_applicable() -> None:
    found = ask("nrc1", features=data.isotropic(200, 4))
    assert (found.status, found.reason) == ("not_applicable", "missing_input: it needs targets")


def test_targets_that_depend_on_each_other_have_no_third_property() -> None:
    one = data.isotropic(200, 1)
    weights = {"head.weight": data.isotropic(2, 8)}
    found = ask("nrc1.nrc3", features=data.isotropic(200, 8), targets=torch.cat([one, 2 * one], 1), weights=weights)
    assert found.reason == "ill_conditioned: the 2 targets are linearly dependent"
    zero = {"head.weight": torch.zeros(2, 8)}
    found = ask("nrc1.nrc3", features=data.isotropic(200, 8), targets=data.isotropic(200, 2), weights=zero)
    assert found.reason == "ill_conditioned: head.weight is zero"
    found = ask("nrc1.nrc2", features=data.isotropic(200, 8), targets=data.isotropic(200, 2), weights=zero)
    assert found.reason == "ill_conditioned: head.weight is zero"


@pytest.mark.parametrize(
    ("features", "targets", "message"),
    [
        (torch.ones(100, 4), torch.randn(100, 1), "all 100 feature rows are equal"),
        (torch.randn(100, 4), torch.full((100, 1), 7.0), "all 100 targets are equal"),
        (torch.randn(100, 4), torch.full((100, 1), torch.nan), "nonfinite_rows: 100 of 100 rows of targets"),
    ],
)
def test_features_and_targets_that_admit_no_value_are_errors(features: Tensor, targets: Tensor, message: str) -> None:
    found = ask("nrc1", features=features, targets=targets)
    assert found.status == "error"
    assert found.reason is not None
    assert message in found.reason


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (torch.ones(4), r"shape_mismatch: head.weight must be a matrix, found shape \(4,\)"),
        (torch.full((1, 4), torch.inf), "nonfinite_weights: head.weight holds NaN or infinity"),
    ],
)
def test_weights_that_are_no_matrix_of_numbers_are_refused(head: Tensor, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        Weights({"head.weight": head}).matrix("head.weight")


def weights_of(**tensors: Tensor) -> Weights:
    return Weights.of(Batch.of(torch.ones(1, 1), ids=["a"], weights=tensors))


def test_weights_of_two_models_do_not_merge() -> None:
    first, same, other = weights_of(a=torch.ones(2)), weights_of(a=torch.ones(2)), weights_of(a=torch.zeros(2))
    assert torch.equal(first.merge(same).tensors["a"], torch.ones(2))
    with pytest.raises(MetricError, match="one model, found two versions of a"):
        first.merge(other)
    with pytest.raises(MetricError, match="one model, found two versions of a, b"):
        other.merge(weights_of(b=torch.ones(1)))
