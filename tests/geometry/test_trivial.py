"""The model against features that know nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gate.estimate import Estimate
from gate.measurement import measure
from tests.geometry import data


def ask(rows: Tensor, **columns: object) -> dict[str, Estimate]:
    return measure(rows, metrics=["trivial_margin"], **columns)  # type: ignore[arg-type]


def test_far_classes_beat_chance_by_all_of_it_and_random_labels_by_nothing() -> None:
    rows, labels = data.far_clusters(2000, 4, 16)
    far = ask(rows, labels=labels)["trivial_margin"]
    assert far.value == pytest.approx(0.75, abs=0.05)
    assert far.breakdown is not None
    best = max(far.breakdown["constant"], far.breakdown["permuted labels"])
    assert far.value == pytest.approx(far.breakdown["features"] - best)
    draws = []
    for seed in range(20):
        noise = torch.randint(0, 4, (600,), generator=data.generator(seed)).tolist()
        found = ask(data.isotropic(600, 8, seed), labels=noise)["trivial_margin"].value
        assert found is not None
        draws.append(found)
    assert -0.03 < np.mean(draws) < 0.01


def test_features_of_an_untrained_network_are_not_beaten_by_themselves() -> None:
    rows, labels = data.structured(1000, 12, 4, 0, signal=0.5)
    random = rows.double() @ data.rotation(12, 3)
    found = ask(rows.double(), labels=labels, trivial={"random weights": random})["trivial_margin"]
    assert found.value == pytest.approx(0, abs=1e-9)
    assert found.detail == "best trivial features: 'random weights'"
    assert found.interval is not None
    assert found.interval[0] < 0 < found.interval[1]


def test_a_backbone_is_reported_and_not_subtracted() -> None:
    rows, labels = data.structured(1000, 12, 4, 0, signal=0.3)
    best = torch.nn.functional.one_hot(labels, 4).double() + 0.01 * data.isotropic(1000, 4)
    plain = ask(rows, labels=labels)["trivial_margin"]
    found = ask(rows, labels=labels, trivial={"public Backbone": best})["trivial_margin"]
    assert found.value == plain.value
    assert found.breakdown is not None
    assert found.breakdown["public Backbone"] > 0.99
    beaten = ask(rows, labels=labels, trivial={"raw": best})["trivial_margin"]
    assert beaten.value is not None
    assert beaten.value < 0


def test_the_margin_is_also_told_in_units_of_its_error() -> None:
    rows, labels = data.structured(1000, 12, 4, 0, signal=0.3)
    clusters = (torch.arange(1000) // 2).tolist()
    for columns in ({}, {"clusters": clusters}):
        found = ask(rows, labels=labels, trivial={"raw": data.isotropic(1000, 6)}, **columns)
        margin, units = found["trivial_margin"], found["trivial_margin.in_errors"]
        assert margin.value is not None
        assert margin.standard_error is not None
        assert units.value == pytest.approx(margin.value / margin.standard_error)
        assert units.standard_error is not None
        assert units.standard_error > 1  # 1 for the margin, and more for its error


def test_the_error_of_the_margin_is_an_estimate_as_well() -> None:
    """Without that it would say 1 where 24 draws differ by 6."""
    found = []
    for seed in range(24):
        rows, labels = data.two_classes(2.0, 600, 8, seed)
        units = ask(rows, labels=labels)["trivial_margin.in_errors"]
        assert units.interval is not None
        assert units.value is not None
        found.append((units.value, *units.interval))
    values, low, high = np.array(found).T
    assert values.std() > 3
    assert ((low < values.mean()) & (values.mean() < high)).mean() >= 0.9


def test_a_trivial_column_that_is_constant_is_the_constant() -> None:
    rows, labels = data.structured(600, 6, 3, 0)
    found = ask(rows, labels=labels, trivial={"black images": torch.zeros(600, 5)})["trivial_margin"]
    assert found.status == "ok"
    assert found.breakdown is not None
    assert sorted(found.breakdown) == ["constant", "features", "permuted labels"]


def test_every_one_trains_on_the_sampled_rows_alone() -> None:
    rows, labels = data.two_classes(2.0, 9000, 4)
    found = ask(rows, labels=labels, trivial={"same": rows})["trivial_margin"]
    assert found.value == 0
    assert found.influence is not None
    assert len(found.influence.ids) == 8192


def test_the_interval_holds_for_all_trivial_features_at_once() -> None:
    rows, labels = data.structured(800, 8, 4, 1, signal=0.3)
    more = {f"noise {place}": data.isotropic(800, 3, place) for place in range(5)}
    for columns, quantile in (({}, 2.2414), ({"trivial": more}, 2.6901)):
        found = ask(rows, labels=labels, **columns)
        margin, units = found["trivial_margin"], found["trivial_margin.in_errors"]
        assert margin.interval is not None
        assert margin.standard_error is not None
        assert margin.interval[1] - margin.interval[0] == pytest.approx(2 * quantile * margin.standard_error, rel=1e-3)
        assert units.interval is not None
        assert math.isfinite(units.interval[1])
        assert units.interval[1] - units.interval[0] > 2 * quantile


def test_small_classes_and_repeated_rows_are_inconclusive() -> None:
    rows = data.isotropic(400, 4)
    few = ask(rows, labels=[int(row < 15) for row in range(400)])["trivial_margin"]
    assert str(few.reason).startswith("small_class: class '1' has 15 rows; each class needs at least 20")
    labels = [row % 2 for row in range(400)]
    twice = ask(rows[:200].repeat(2, 1), labels=labels)["trivial_margin"]
    assert str(twice.reason).startswith("duplicates: only 0 of 400")
    assert ask(torch.ones(400, 4), labels=labels)["trivial_margin"].status == "error"
    assert ask(rows)["trivial_margin"].reason == "missing_input: it needs labels"
