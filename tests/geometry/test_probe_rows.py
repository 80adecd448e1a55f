"""Duplicates and the size of the probe set."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from gate.estimate import Estimate
from gate.geometry.statistics import Batch, Collection, Fingerprints, GroupCounts, LabelCounts, sample
from gate.geometry.statistics import Sample as Rows
from gate.measurement import measure
from tests.geometry import data
from tests.geometry.test_statistics import assert_same


def ask(rows: Tensor, name: str, **columns: Any) -> Estimate:
    return measure(rows, metrics=[name], **columns)[name]


def value(rows: Tensor, name: str, **columns: Any) -> float:
    found = ask(rows, name, **columns)
    assert found.status == "ok", found.reason
    assert found.value is not None
    return found.value


def test_rows_that_all_come_twice_are_all_duplicates() -> None:
    rows = data.isotropic(1000, 16).repeat(2, 1)
    found = ask(rows, "near_duplicate_share")
    assert found.value == 1
    assert found.interval is not None
    assert found.interval[0] > 0.99
    assert value(data.isotropic(1000, 16), "near_duplicate_share") == 0


def test_duplicates_are_judged_by_the_encoder_and_not_by_the_model() -> None:
    """Trap 40: an over-compressed model maps many rows to one point; the inputs differ all the same."""
    encoded = data.isotropic(600, 32)
    collapsed = torch.eye(8, dtype=torch.float64)[torch.arange(600) % 3]
    assert value(collapsed, "near_duplicate_share") == 1
    assert value(collapsed, "near_duplicate_share", encoded=encoded) == 0
    copied = encoded.clone()
    copied[:30] = encoded[30:60] + 0.05 * data.isotropic(30, 32, 1)
    cosines = torch.corrcoef(torch.cat([copied[:1], copied[30:31]]))
    assert float(cosines[0, 1]) > 0.98
    assert value(data.isotropic(600, 8), "near_duplicate_share", encoded=copied) == pytest.approx(60 / 600)


def test_near_means_a_cosine_above_ninety_eight_hundredths() -> None:
    base = torch.eye(64, dtype=torch.float64)[:32]
    for cosine, expected in ((0.981, 1.0), (0.979, 0.0)):
        turned = cosine * base + math.sqrt(1 - cosine**2) * torch.eye(64, dtype=torch.float64)[32:]
        found = value(data.isotropic(64, 4), "near_duplicate_share", encoded=torch.cat([base, turned]))
        assert found == expected


def test_rows_that_occur_in_the_reference_are_counted() -> None:
    rows, other = data.isotropic(500, 8), data.isotropic(400, 8, 1)
    other[:50] = rows[:50]
    assert value(rows, "near_duplicate_share.cross", reference=other) == pytest.approx(0.1)
    encoded, known = data.isotropic(500, 32, 2), data.isotropic(400, 32, 3)
    known[:100] = 3 * encoded[:100]
    reference = {"features": data.isotropic(400, 8, 4), "encoded": known}
    assert value(rows, "near_duplicate_share.cross", encoded=encoded, reference=reference) == pytest.approx(0.2)
    missing = ask(rows, "near_duplicate_share.cross")
    assert "missing_input: it needs reference rows" in str(missing.reason)
    broken = encoded.clone()
    broken[3] = torch.inf
    assert "rows of encoded hold NaN or infinity" in str(ask(rows, "near_duplicate_share", encoded=broken).reason)


def test_duplicates_that_the_sample_splits_are_weighted_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 of 1000 rows have a double, 500 rows are sampled: half of the doubles of a sampled row are not."""
    monkeypatch.setattr(sample, "CAPACITY", 500)
    encoded = data.isotropic(1000, 32)
    encoded[:100] = encoded[100:200] * 1.5
    seen = [value(data.isotropic(1000, 4), "near_duplicate_share", encoded=encoded, seed=seed) for seed in range(40)]
    mean, spread = torch.tensor(seen).mean().item(), torch.tensor(seen).std().item()
    assert abs(mean - 0.2) < 3.5 * spread / math.sqrt(40)


def test_inputs_that_are_hashed_count_beside_the_encoder() -> None:
    encoded = data.isotropic(100, 32)
    prints = torch.arange(100).clamp_max(89)  # eleven rows of one input, which a noisy encoder does not see
    columns: dict[str, Any] = {"encoded": encoded}
    batch = Batch.of(data.isotropic(100, 4), ids=[str(i) for i in range(100)], fingerprints=prints, **columns)
    from gate.estimation import estimate
    from gate.geometry.registry import metrics

    found = estimate(metrics()["near_duplicate_share"], Collection.of(batch, (Fingerprints, Rows)))
    assert found["near_duplicate_share"].value == pytest.approx(0.11)


def test_repeated_rows_buy_no_agreement() -> None:
    """Trap 41: every row twice, labels at random; the share of duplicates is 1, neighbours agree by chance alone."""
    rows = data.isotropic(500, 64).repeat(2, 1)
    labels = torch.randint(0, 10, (500,), generator=data.generator(4)).repeat(2)
    found = measure(rows, labels=labels, metrics=["near_duplicate_share", "knn_label_agreement.thornton"])
    assert found["near_duplicate_share"].value == 1
    assert found["knn_label_agreement.thornton"].value == pytest.approx(0.1, abs=0.06)


def test_power_is_rows_over_dimensions() -> None:
    rows = data.isotropic(2001, 500).float()
    found = ask(rows, "probe_power")
    assert found.value == 4.0
    assert found.interval == (4.0, 4.0)
    assert found.standard_error == 0


def test_the_smallest_class_and_group_are_named() -> None:
    labels = ["a"] * 50 + ["b"] * 30 + ["c"] * 120
    found = measure(data.isotropic(200, 4), labels=labels, groups=[0] * 190 + [1] * 10, metrics=["probe_power"])
    assert found["probe_power.min_class"].value == 30
    assert "'b'" in str(found["probe_power.min_class"].detail)
    assert found["probe_power.min_class"].breakdown == {"a": 50, "b": 30, "c": 120}
    assert found["probe_power.min_group"].value == 10
    assert found["probe_power.label_error"].value == pytest.approx(math.sqrt(4 / 200))


def test_what_the_probe_set_lacks_is_said() -> None:
    rows = data.isotropic(200, 4)
    for name, missing in (
        ("min_class", "labels"),
        ("min_group", "groups"),
        ("label_error", "labels"),
        ("detectable", "labels and logits, or the accuracy"),
    ):
        found = ask(rows, f"probe_power.{name}")
        assert found.status == "not_applicable"
        assert f"missing_input: it needs {missing}" == found.reason
    broken = torch.full((200, 2), torch.nan)
    assert "logits hold NaN" in str(ask(rows, "probe_power.detectable", labels=[0, 1] * 100, logits=broken).reason)
    odd = ask(rows, "probe_power.detectable", labels=[0, 1] * 100, logits=torch.ones(200, 2), outputs=["0"])
    assert "shape_mismatch: 2 outputs have 1 names" in str(odd.reason)


def test_the_detectable_drop_is_detected_four_times_of_five() -> None:
    """Power by the normal approximation of scipy: a one-sided test at 0.05 of two unpaired shares."""
    p, n = 0.8, 2000
    labels = torch.arange(n) % 2
    logits = torch.nn.functional.one_hot(torch.where(torch.arange(n) < p * n, labels, 1 - labels), 2).double() * 4
    found = ask(data.isotropic(n, 4), "probe_power.detectable", labels=labels, logits=logits)
    assert found.value is not None
    drop = found.value
    error = math.sqrt((p * (1 - p) + (p - drop) * (1 - p + drop)) / n)
    assert float(stats.norm.sf(1.645 - drop / error)) == pytest.approx(0.8, abs=0.03)
    assert found.value == pytest.approx(2.5 * math.sqrt(2 * p * (1 - p) / n), rel=2e-3)


def test_a_probe_set_without_errors_does_not_detect_everything() -> None:
    labels = torch.arange(400) % 2
    logits = torch.nn.functional.one_hot(labels, 2).double() * 4
    found = value(data.isotropic(400, 4), "probe_power.detectable", labels=labels, logits=logits)
    assert found == pytest.approx(2.5 * math.sqrt(2 * 401 / 402 / 402 / 400))


def test_the_gated_accuracy_can_be_given() -> None:
    from gate.geometry.probe_rows import probe_power

    rows = Rows.of(Batch.of(data.isotropic(100, 4), ids=[str(row) for row in range(100)]))
    answer = probe_power(rows, accuracy=0.9)["detectable"]
    assert float(answer.natural) == pytest.approx(2.5 * math.sqrt(2 * 0.09 / 100))


@pytest.mark.parametrize("kind", [LabelCounts, GroupCounts])
def test_counts_of_any_split_are_those_of_one_pass(kind: Any) -> None:
    def part(a: int, b: int) -> Batch:
        labels = [f"class {row * row % 7}" for row in range(a, b)]
        ids = [str(row) for row in range(a, b)]
        return Batch.of(data.isotropic(b - a, 2), ids=ids, labels=labels, groups=[row // 40 for row in range(a, b)])

    parts = [kind.of(part(a, b)) for a, b in ((0, 1), (1, 2), (2, 90), (90, 100))]
    whole = kind.of(part(0, 100))
    for merged in (reduce(kind.merge, parts), reduce(kind.merge, reversed(parts))):
        assert merged.names == whole.names
        assert_same(merged, whole)
    assert int(whole.counts.sum()) == 100
