"""The same features measured in another way give the same answer: every read-out of every metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from gate import measurement
from gate.estimate import Estimate
from gate.geometry.registry import metrics
from gate.measurement import measure
from tests.geometry import inputs

N = 1100


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    """Features that are float32 numbers, whatever their type."""
    whole = inputs.everything(N, 16)
    return inputs.changed(whole, lambda rows: rows.float().double())


@pytest.fixture(scope="module")
def plain(given: dict[str, Any]) -> dict[str, Estimate]:
    return measure(**given)


def assert_same(
    found: Mapping[str, Estimate], expected: Mapping[str, Estimate], *, rel: float, of: Callable[[str], bool]
) -> None:
    wrong = {}
    for address, each in expected.items():
        other = found[address]
        if not of(address):
            continue
        if other.status != each.status or (
            each.value is not None and other.value != pytest.approx(each.value, rel=rel, abs=rel * 1e-2, nan_ok=True)
        ):
            wrong[address] = (each.status, each.value, other.status, other.value, other.reason)
    assert not wrong


def every(address: str) -> bool:
    del address
    return True


def test_every_number_is_there_so_that_no_loop_passes_on_nothing(plain: dict[str, Estimate]) -> None:
    """Only what balanced classes, and attributes that are not read off equally well, do not admit is left out."""
    silent = {address for address, each in plain.items() if each.status != "ok"}
    assert silent == {"group_variance_share.easy_hard", "worst_class_recall.head_tail"}


def test_the_size_of_a_batch_does_not_matter(
    given: dict[str, Any], plain: dict[str, Estimate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurement, "_ROWS_AT_ONCE", 97)
    assert_same(measure(**given), plain, rel=1e-7, of=every)


@pytest.mark.slow
def test_batches_of_one_row_agree_with_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    few = inputs.everything(320, 8)
    whole = measure(**few)
    assert sum(each.status == "ok" for each in whole.values()) > 100
    monkeypatch.setattr(measurement, "_ROWS_AT_ONCE", 1)
    assert_same(measure(**few), whole, rel=1e-7, of=every)


def test_single_precision_features_agree_with_double(given: dict[str, Any], plain: dict[str, Estimate]) -> None:
    single = inputs.changed(given, lambda rows: rows.float())
    assert_same(measure(**single), plain, rel=1e-4, of=every)


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_the_unit_of_the_features_does_not_matter(
    given: dict[str, Any], plain: dict[str, Estimate], factor: float
) -> None:
    def scaled(rows: Tensor) -> Tensor:
        return rows * factor

    found = measure(**inputs.changed(given, scaled))
    assert_same(found, plain, rel=1e-5, of=lambda address: declared(address, "scaling"))


def test_an_offset_does_not_matter(given: dict[str, Any], plain: dict[str, Estimate]) -> None:
    found = measure(**inputs.changed(given, lambda rows: rows + 1e4))
    assert_same(found, plain, rel=1e-5, of=lambda address: declared(address, "translation"))


def declared(address: str, change: str) -> bool:
    """Whether the value of a metric declares that a change leaves it as it is; its read-outs may differ."""
    return address in metrics() and change in metrics()[address].invariant_to


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU on this machine")
def test_a_gpu_agrees_with_the_processor(given: dict[str, Any], plain: dict[str, Estimate]) -> None:
    on_gpu = inputs.changed(given, lambda rows: rows.cuda())
    assert_same(measure(**on_gpu), plain, rel=1e-5, of=every)
