"""The head against the nearest class mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gate.estimate import Estimate
from gate.geometry.statistics import hash_numbers
from gate.measurement import measure
from tests.geometry import data

NAME = "ncc_head_disagreement"


def ask(rows: Tensor, readout: str = "", **columns: Any) -> Estimate:
    return measure(rows, metrics=[NAME + readout], **columns)[NAME + readout]


def mean_head(rows: Tensor, labels: list[int], c: int) -> dict[str, Tensor]:
    """The head whose decision is the nearest class mean: rows = means, bias = -|mean|^2 / 2."""
    codes = torch.tensor(labels)
    means = torch.stack([rows[codes == label].mean(dim=0) for label in range(c)])
    return {"head.weight": means, "head.bias": -0.5 * means.square().sum(dim=1)}


def test_a_head_of_class_means_agrees_and_two_swapped_rows_do_not() -> None:
    rows, labels = data.far_clusters(2000, 10, 16)
    head = mean_head(rows, labels, 10)
    assert ask(rows, labels=labels, weights=head).value == pytest.approx(0, abs=1e-9)
    order = [1, 0, *range(2, 10)]
    swapped = {name: tensor[order] for name, tensor in head.items()}
    assert ask(rows, labels=labels, weights=swapped).value == pytest.approx(0.2, abs=1e-9)
    worst = ask(rows, ".per_class", labels=labels, weights=swapped)
    assert worst.value == 1
    assert worst.breakdown is not None
    assert sum(worst.breakdown.values()) == pytest.approx(2)


def test_the_bias_of_the_head_counts() -> None:
    """A bias of +10 on class 0 decides everything for it: three of four classes disagree. Without it none would."""
    rows, labels = data.far_clusters(2000, 4, 16)
    codes = torch.tensor(labels)
    means = torch.stack([rows[codes == label].mean(dim=0) for label in range(4)])
    unit = torch.nn.functional.normalize(means, dim=1) / 20
    bias = torch.tensor([10.0, 0.0, 0.0, 0.0])
    assert ask(rows, labels=labels, weights={"head.weight": unit}).value == pytest.approx(0, abs=1e-9)
    found = ask(rows, labels=labels, weights={"head.weight": unit, "head.bias": bias})
    assert found.value == pytest.approx(0.75, abs=1e-9)


def test_means_hold_no_row_that_they_judge() -> None:
    """By a loop over folds; on means of all rows, each row would sit nearer to its own."""
    rows, labels = data.structured(400, 64, 4, 3, signal=0.2)
    rows, codes = rows.double(), labels.numpy()
    logits = 9 * torch.nn.functional.one_hot(labels, 4).double()
    which = hash_numbers(torch.arange(400)).numpy() % 10
    wrong, wrong_angle, fitted = 0, 0, 0
    for row in range(400):
        train = which != which[row]
        means = np.stack([rows.numpy()[train & (codes == c)].mean(axis=0) for c in range(4)])
        point = rows[row].numpy()
        wrong += ((means - point) ** 2).sum(axis=1).argmin() != codes[row]
        wrong_angle += (means @ point / np.linalg.norm(means, axis=1)).argmax() != codes[row]
        own = np.stack([rows.numpy()[codes == c].mean(axis=0) for c in range(4)])
        fitted += ((own - point) ** 2).sum(axis=1).argmin() != codes[row]
    assert ask(rows, labels=labels, logits=logits).value == pytest.approx(wrong / 400, abs=1e-12)
    assert ask(rows, ".cos", labels=labels, logits=logits).value == pytest.approx(wrong_angle / 400, abs=1e-12)
    assert fitted < 0.8 * wrong


def test_logits_decide_where_there_are_both_and_are_matched_by_name() -> None:
    rows, labels = data.far_clusters(900, 3, 8)
    names = [("cat", "ant", "bee")[label] for label in labels]
    logits = 9 * torch.nn.functional.one_hot(torch.tensor(labels), 3).double()
    useless = {"head.weight": torch.zeros(3, 8), "head.bias": torch.tensor([1.0, 0.0, 0.0])}
    given: dict[str, Any] = {"labels": names, "weights": useless}
    assert ask(rows, logits=logits, outputs=["cat", "ant", "bee"], **given).value == 0
    wide = torch.cat([logits, 9 * torch.ones(900, 1)], dim=1)
    assert ask(rows, logits=wide, outputs=["cat", "ant", "bee", "unseen"], **given).value == 0
    assert ask(rows, **given).value == pytest.approx(2 / 3, abs=1e-9)


def test_marginals_of_prototypes_are_set_against_those_of_the_head() -> None:
    rows, labels = data.far_clusters(900, 3, 8)
    flat = torch.zeros(900, 3, dtype=torch.float64)
    flat[:, 0] = 50.0
    found = ask(rows, ".cos", labels=labels, logits=flat)
    assert found.detail == "class shares of prototypes and head differ by 0.667 in total variation"
    assert found.breakdown is not None
    assert found.breakdown["0"] == pytest.approx(-2 / 3, abs=0.01)


@pytest.mark.parametrize(
    ("columns", "status", "reason"),
    [
        ({}, "not_applicable", "missing_input: it needs logits or head.weight"),
        (
            {"weights": {"head.weight": torch.ones(2, 5)}},
            "not_applicable",
            "dim_mismatch: head.weight reads 5 features",
        ),
        (
            {"logits": torch.ones(400, 3), "outputs": ["0", "a", "b"]},
            "not_applicable",
            "missing_input: it needs an output for class '1'; name them by `outputs`, found ['0', 'a', 'b']",
        ),
    ],
)
def test_a_head_that_is_not_there_or_not_of_these_features_is_not_applicable(
    columns: dict[str, Any], status: str, reason: str
) -> None:
    rows, labels = data.two_classes(2.0, 400, 4)
    found = ask(rows, labels=labels, **columns)
    assert (found.status, found.value) == (status, None)
    assert str(found.reason).startswith(reason)


def test_a_head_of_another_shape_is_refused_and_not_broadcast() -> None:
    rows, labels = data.far_clusters(900, 3, 8)
    for head, shown in (
        ({"head.weight": torch.ones(3, 8), "head.bias": torch.ones(1)}, "head.bias must be (C,) = (3,)"),
        ({"head.weight": torch.ones(8), "head.bias": torch.ones(1)}, "head.weight must be (C, d), found (8,)"),
    ):
        found = ask(rows, labels=labels, weights=head)
        assert found.status == "error"
        assert shown in str(found.reason)
    missing = mean_head(rows, labels, 3)
    missing["head.bias"][1] = torch.nan
    assert "nonfinite_weights: head.bias" in str(ask(rows, labels=labels, weights=missing).reason)


def test_outputs_of_a_head_are_in_natural_order_and_not_guessed() -> None:
    rows, codes = data.far_clusters(2000, 12, 16)
    head = mean_head(rows, codes, 12)
    assert ask(rows, labels=[code + 1 for code in codes], weights=head).value == 0
    found = ask(rows, labels=[f"{code}" if code else "z" for code in codes], weights=head)
    assert found.status == "error"
    assert "cannot be matched" in str(found.reason)


@pytest.mark.parametrize("scale", [2.0**-50, 2.0**-90, 2.0**90])
def test_the_angle_knows_no_scale(scale: float) -> None:
    rows, labels = data.structured(400, 16, 4, 3, signal=0.4)
    logits = 9 * torch.nn.functional.one_hot(labels, 4).double()
    one, other = (ask(each, ".cos", labels=labels, logits=logits) for each in (rows.double(), rows.double() * scale))
    assert one.value == other.value
    assert one.interval is not None
    assert one.interval == pytest.approx(other.interval, rel=1e-12)


def test_means_of_few_rows_and_repeated_rows_are_inconclusive() -> None:
    rows = data.isotropic(400, 4)
    few = ask(rows, labels=[int(row < 10) for row in range(400)], logits=torch.ones(400, 2))
    assert few.status == "inconclusive"
    assert str(few.reason).startswith("small_class: class '1' has ")
    labels = [row % 2 for row in range(400)]
    twice = ask(rows[:200].repeat(2, 1), labels=labels, logits=torch.ones(400, 2))
    assert str(twice.reason).startswith("duplicates: only 0 of 400")
    constant = ask(torch.ones(400, 4), labels=labels, logits=torch.ones(400, 2))
    assert constant.status == "error"
    assert "equal up to rounding" in str(constant.reason)
