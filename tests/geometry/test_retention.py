"""Subclasses inside classes: are they still there."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gate.estimate import Estimate
from gate.estimation import estimate
from gate.geometry.registry import metrics
from gate.geometry.statistics import Batch, Collection
from gate.measurement import measure
from tests.geometry import data


def ask(address: str, rows: Tensor, **columns: object) -> Estimate:
    return measure(rows, metrics=[address], **columns)[address]  # type: ignore[arg-type]


def value(address: str, rows: Tensor, **columns: object) -> float:
    found = ask(address, rows, **columns)
    assert found.status == "ok", found.reason
    assert found.value is not None
    return found.value


def nested(
    n: int = 1200, d: int = 8, apart: float = 4.0, subs: int = 2, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Three far classes of `subs` subclasses each, `apart` from one another."""
    g = data.generator(seed)
    labels = torch.arange(n) % 3
    sublabels = subs * labels + torch.randint(0, subs, (n,), generator=g)
    means = 8 * data.rotation(d, 1)[:3]
    inside = apart / math.sqrt(2) * data.rotation(d, 2)[:subs]
    return means[labels] + inside[sublabels % subs] + data.isotropic(n, d, seed), labels, sublabels


def test_far_subclasses_read_one_and_random_ones_zero() -> None:
    rows, labels, sublabels = nested(apart=20)
    assert value("subclass_retention", rows, labels=labels, sublabels=sublabels) == pytest.approx(1, abs=0.02)
    draws = []
    for seed in range(20):
        rows, labels, sublabels = nested(apart=0, subs=3, n=600, seed=seed)
        draws.append(value("subclass_retention", rows, labels=labels, sublabels=sublabels))
    assert np.mean(draws) == pytest.approx(0, abs=float(3 * np.std(draws)) / math.sqrt(20))


def test_only_retention_sees_that_subclasses_are_merged() -> None:
    healthy, labels, sublabels = nested()
    merged, _, _ = nested(apart=0)
    names = ["subclass_retention", "ridge_probe_accuracy", "ncc_accuracy", "mean_cosine", "effective_rank"]
    before = measure(healthy, labels=labels, sublabels=sublabels, metrics=names)
    after = measure(merged, labels=labels, sublabels=sublabels, metrics=names)
    change = {name: (before[name].value or 0) - (after[name].value or 0) for name in names}
    assert change["subclass_retention"] > 0.9
    assert abs(change["ridge_probe_accuracy"]) < 0.01
    assert abs(change["ncc_accuracy"]) < 0.01
    assert abs(change["mean_cosine"]) < 0.1


def test_two_gaussian_subclasses_are_told_apart_as_often_as_theory_allows() -> None:
    rows, labels, sublabels = nested(n=6000, apart=2.0)
    expected = 2 * data.PHI_1 - 1
    assert value("subclass_retention", rows, labels=labels, sublabels=sublabels) == pytest.approx(expected, abs=0.03)


def test_the_worst_class_is_the_one_whose_subclasses_merged() -> None:
    rows, labels, sublabels = nested(apart=6)
    other, _, _ = nested(apart=0)
    rows[labels == 1] = other[labels == 1]
    found = measure(rows, labels=labels, sublabels=sublabels, metrics=["subclass_retention"])
    worst, mean = found["subclass_retention.worst"], found["subclass_retention"]
    assert worst.detail == "worst class '1'"
    assert worst.value == pytest.approx(0, abs=0.15)
    assert worst.breakdown is not None
    assert mean.value == pytest.approx(sum(worst.breakdown.values()) / 3)
    assert worst.breakdown["0"] > 0.95


def test_classes_may_have_different_numbers_of_subclasses_or_none() -> None:
    rows, labels, sublabels = nested(n=1500, apart=20, subs=3)
    sublabels = torch.where((labels == 0) & (sublabels == 2), 1, sublabels)
    sublabels = torch.where(labels == 2, 100, sublabels)
    found = ask("subclass_retention", rows, labels=labels, sublabels=sublabels)
    assert found.value == pytest.approx(1, abs=0.02)
    assert found.detail == "2 of 3 classes have subclasses"
    assert found.c == 2


def test_a_class_that_is_a_point_keeps_nothing() -> None:
    """Inputs differ, features do not: nothing is repeated, and nothing is left to be read off."""
    _, labels, sublabels = nested(n=300)
    points = torch.eye(8, dtype=torch.float64)[labels]
    ids = [str(row) for row in range(300)]
    batch = Batch.of(points, ids=ids, labels=labels, sublabels=sublabels, fingerprints=torch.arange(300))
    found = estimate(metrics()["subclass_retention"], Collection.of(batch, ()))
    assert found["subclass_retention"].value == pytest.approx(0, abs=1e-12)
    assert found["subclass_retention"].interval is not None
    assert found["subclass_retention"].interval[1] < 0.2
    assert str(found["subclass_retention.vci_sub"].reason).startswith(
        "no_class_signal: all rows of class '0' are equal"
    )


def test_few_rows_of_many_dimensions_are_probed_in_their_leading_components() -> None:
    rows, labels, sublabels = nested(n=600, d=256, apart=12)
    found = ask("subclass_retention", rows, labels=labels, sublabels=sublabels)
    assert found.detail is not None
    assert "probe of 2" in found.detail
    assert found.value == pytest.approx(1, abs=0.03)
    noise = torch.randint(0, 2, (600,), generator=data.generator(9))
    assert value("subclass_retention", rows, labels=labels, sublabels=noise) == pytest.approx(0, abs=0.15)


def test_turning_rows_of_many_dimensions_changes_nothing() -> None:
    rows, labels, sublabels = nested(n=300, d=128, apart=3)
    plain = value("subclass_retention", rows, labels=labels, sublabels=sublabels)
    turned = value("subclass_retention", rows @ data.rotation(128, 5) + 3, labels=labels, sublabels=sublabels)
    assert turned == pytest.approx(plain, abs=1e-9)


def test_the_vci_of_subclasses_is_the_mean_over_classes_of_pillais_trace() -> None:
    rows, labels, sublabels = nested(subs=3, apart=2)
    expected = []
    for label in range(3):
        inside = rows[labels == label].numpy()
        codes = sublabels[labels == label].numpy()
        centred = inside - inside.mean(axis=0)
        between = sum(
            (codes == code).sum() * np.outer(mean, mean)
            for code, mean in ((code, centred[codes == code].mean(axis=0)) for code in np.unique(codes))
        )
        signal = np.trace(np.linalg.inv(centred.T @ centred) @ between) / 2
        null = 1 - 8 / (len(inside) - 1)
        expected.append(1 - (signal - (1 - null)) / null)
    found = value("subclass_retention.vci_sub", rows, labels=labels, sublabels=sublabels)
    assert found == pytest.approx(np.mean(expected), rel=1e-9)


def test_rare_values_that_are_lost_read_zero_against_common_ones() -> None:
    rows, labels, _ = nested(n=3000, apart=0)
    g = data.generator(8)
    rare, common = (torch.rand(3000, generator=g) < 0.12).long(), (torch.rand(3000, generator=g) < 0.4).long()
    names = {"sublabels": labels, "labels": labels}
    kept = rows.clone()
    kept[:, 5] += 10 * common
    lost = ask("subclass_retention.by_frequency", kept, attributes={"rare": rare, "common": common}, **names)
    assert lost.breakdown is not None
    assert lost.breakdown["common"] > 0.4
    assert lost.value is not None
    assert lost.value < 1
    kept[:, 6] += 10 * rare
    equal = ask("subclass_retention.by_frequency", kept, attributes={"rare": rare, "common": common}, **names)
    assert equal.value == pytest.approx(1, abs=0.02)
    assert equal.interval is not None


def test_frequency_bands_need_values_that_differ_in_frequency_and_are_read_off() -> None:
    rows, labels, sublabels = nested(n=600)
    columns = {"labels": labels, "sublabels": sublabels}
    even = {"even": torch.arange(600) // 3 % 2}
    found = ask("subclass_retention.by_frequency", rows, attributes=even, **columns)
    assert str(found.reason).startswith("missing_input: it needs attributes whose values differ in frequency")
    noise = {"noise": (torch.rand(600, generator=data.generator(1)) < 0.3).long()}
    found = ask("subclass_retention.by_frequency", rows, attributes=noise, **columns)
    assert str(found.reason).startswith("no_class_signal: the common values are not read off")
    assert ask("subclass_retention.by_frequency", rows, **columns).reason == "missing_input: it needs attributes"
    few = {"few": (torch.arange(600) < 30).long()}
    found = ask("subclass_retention.by_frequency", rows, attributes=few, **columns)
    assert "attribute 'attributes.few' inside class '0'" in str(found.reason)


def test_small_subclasses_and_repeated_rows_are_inconclusive() -> None:
    rows, labels, sublabels = nested(n=600)
    few = torch.where(torch.arange(600) < 45, 99, sublabels)
    found = ask("subclass_retention", rows, labels=labels, sublabels=few)
    assert found.status == "inconclusive"
    assert str(found.reason).startswith("small_class: class '99' has 15 of the 200 judged rows; each class needs 20")
    assert str(found.reason).endswith("(inside class '0')")
    twice = ask("subclass_retention", rows.repeat(2, 1), labels=labels.repeat(2), sublabels=sublabels.repeat(2))
    assert str(twice.reason).startswith("duplicates: only 0 of 400")
    alone = ask("subclass_retention", rows, labels=labels, sublabels=labels)
    assert alone.reason == "missing_input: it needs a class with two subclasses"
    wide = ask("subclass_retention.vci_sub", data.isotropic(600, 128), labels=labels, sublabels=sublabels)
    assert str(wide.reason).startswith("n_over_d: 200 rows of dimension 128")
