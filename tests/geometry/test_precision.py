from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gate.geometry.statistics import Batch, Collection, Moments
from gate.geometry.statistics.precision import full_precision
from gate.measurement import measure
from tests.geometry import data

BACKENDS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]


def covariance(rows: Tensor) -> Tensor:
    found = Collection.of(Batch.of(rows, ids=[str(row) for row in range(len(rows))]), (Moments,)).get(Moments)
    assert isinstance(found, Moments)
    return found.covariance


@pytest.fixture
def rows() -> Tensor:
    return data.structured(3000, 32, 4, 0)[0]


@pytest.mark.parametrize("precision", ["medium", "high"])
def test_a_coarse_product_of_the_caller_does_not_enter_a_covariance(rows: Tensor, precision: str) -> None:
    expected = covariance(rows)
    torch.set_float32_matmul_precision(precision)
    try:
        assert torch.equal(covariance(rows), expected)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")


def fail_inside() -> None:
    with full_precision():
        raise ValueError([backend.fp32_precision for backend in BACKENDS])


def test_what_was_set_before_is_set_again_even_after_a_fault() -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        before = [backend.fp32_precision for backend in BACKENDS]
        with pytest.raises(ValueError, match=r"\['ieee', 'ieee'\]"):
            fail_inside()
        assert [backend.fp32_precision for backend in BACKENDS] == before
    finally:
        torch.set_float32_matmul_precision("highest")


def test_autocast_would_ruin_a_product_and_does_not(rows: Tensor) -> None:
    exact = rows.double().T @ rows.double()
    expected = covariance(rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(((rows.T @ rows).double() - exact).abs().max() / exact.abs().max()) > 1e-3
        assert torch.equal(covariance(rows), expected)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_the_caller_may_have_gradients_off(rows: Tensor, mode: type[torch.no_grad]) -> None:
    plain = measure(rows, metrics=["effective_rank"])["effective_rank"]
    with mode():
        inside = measure(rows.clone(), metrics=["effective_rank"])["effective_rank"]
    assert inside.value == plain.value
    assert inside.interval == plain.interval


@pytest.mark.parametrize("name", ["effective_rank", "vci", "cdnv", "within_between_ratio", "participation_ratio"])
def test_an_offset_of_a_myriad_that_raw_moments_drown_in_changes_nothing(name: str) -> None:
    rows, labels = data.structured(2000, 16, 4, 1)
    far = rows.double() + 1e4
    near = measure(rows.double(), labels=labels, metrics=[name])[name]
    found = measure(far, labels=labels, metrics=[name])[name]
    assert found.value == pytest.approx(near.value, rel=1e-5)
    assert raw_rank(far.float()) != pytest.approx(raw_rank(rows), rel=1e-2)  # E xx' - E x E x' in float32


def raw_rank(rows: Tensor) -> float:
    """Participation ratio from raw second moments."""
    mean = rows.mean(dim=0)
    spread = rows.T @ rows / len(rows) - torch.outer(mean, mean)
    return float(spread.trace() ** 2 / spread.square().sum())
