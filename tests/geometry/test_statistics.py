from __future__ import annotations

import dataclasses
import itertools
from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.statistics import (
    Batch,
    Channels,
    ClassFolds,
    ClassMoments,
    ClusterCounts,
    Codes,
    Collection,
    Fingerprints,
    Moments,
    RowCensus,
    Sample,
    UnitClassMoments,
    UnitMoments,
    fold_count,
    hash_ids,
    sample,
)
from gate.geometry.statistics.batch import row_fingerprints, unit_rows
from gate.geometry.statistics.classes import LabelledMoments, UnitLabelledMoments
from tests.geometry import data

N, D = 997, 6
TOGETHER = [LabelledMoments, UnitLabelledMoments]
KINDS = [
    Moments,
    UnitMoments,
    ClassMoments,
    UnitClassMoments,
    *TOGETHER,
    Channels,
    Sample,
    ClassFolds,
    Fingerprints,
    RowCensus,
    ClusterCounts,
]
SPLITS = {"halves": [498], "uneven": [1, 3, 700, 950], "single rows": list(range(1, 12))}


def batch_of(rows: Tensor, start: int = 0) -> Batch:
    ids = [f"row {start + row}" for row in range(len(rows))]
    return Batch.of(
        rows,
        ids=ids,
        labels=[f"class {(start + row) * 7 % 5}" for row in range(len(rows))],
        groups=[(start + row) % 2 for row in range(len(rows))],
        lengths=[1.0] * len(rows),
        clusters=torch.arange(start, start + len(rows)) // 3,
    )


def far_rows() -> Tensor:
    """Mean far above the spread, where raw second moments lose every digit."""
    return 1e4 + data.isotropic(N, D)


def numbers(value: object) -> list[Tensor]:
    """Every number in a statistic, in a fixed order; rows and fingerprints in the order of their hashes."""
    if isinstance(value, Fingerprints):
        return [value.values.sort().values]
    if isinstance(value, Tensor):
        return [value.double()]
    if isinstance(value, int | float):
        return [torch.tensor([float(value)], dtype=torch.float64)]
    if dataclasses.is_dataclass(value):
        return [each for field in dataclasses.fields(value) for each in numbers(getattr(value, field.name))]
    if isinstance(value, tuple):
        return [each for part in value for each in numbers(part)]
    return []


def split(rows: Tensor, cuts: list[int]) -> list[Batch]:
    edges = [0, *cuts, len(rows)]
    return [batch_of(rows[a:b], a) for a, b in itertools.pairwise(edges)]


def assert_same(first: object, second: object) -> None:
    for a, b in zip(numbers(first), numbers(second), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cuts", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_merging_any_split_equals_one_pass(kind: Any, cuts: list[int]) -> None:
    rows = far_rows()
    parts = [kind.of(batch) for batch in split(rows, cuts)]
    assert_same(reduce(kind.merge, parts), kind.of(batch_of(rows)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_merging_is_commutative_and_associative(kind: Any) -> None:
    a, b, c = (kind.of(batch) for batch in split(far_rows(), [100, 130]))
    assert_same(a.merge(b).merge(c), a.merge(b.merge(c)))
    assert_same(a.merge(b), b.merge(a)) if kind is not Fingerprints else None


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("zeros", [0, 5, 9001])
@pytest.mark.parametrize("kind", TOGETHER, ids=lambda kind: kind.__name__)
def test_one_pass_for_rows_and_classes_is_the_two_passes(kind: Any, zeros: int, offset: float) -> None:
    rows = offset + data.isotropic(9001, D)  # more than two tiles
    rows[:zeros] = 0
    for given in (rows, rows[:40]):
        batch = batch_of(given)
        found = kind.of(batch)
        for part, single in zip((found.moments, found.classes), kind.holds, strict=True):
            assert type(part) is single
            assert_same(part, single.of(batch))


def test_moments_are_those_of_numpy_far_from_zero() -> None:
    rows = far_rows()
    found = Moments.of(batch_of(rows))
    np.testing.assert_allclose(found.mean.numpy(), rows.numpy().mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance.numpy(), np.cov(rows.numpy().T, bias=True), rtol=1e-7, atol=1e-9)


def test_moments_of_float32_rows_keep_a_spectrum_below_a_large_offset() -> None:
    eigenvalues = torch.cat([torch.ones(8), torch.full((56,), 1e-6)]).double()
    rows = (data.orthonormal_columns(1000, eigenvalues) + 100).float()
    spectrum = torch.linalg.eigvalsh(Moments.of(Batch.of(rows, ids=[str(i) for i in range(1000)])).covariance)
    assert float(spectrum[-8:].mean()) == pytest.approx(1, rel=1e-4)
    assert float(spectrum[:56].mean()) == pytest.approx(1e-6, rel=0.05)


def test_a_mean_between_two_float32_numbers_does_not_add_variance() -> None:
    steps = torch.randint(-2, 3, (999, 3), generator=data.generator(0)) / 8
    rows = (2**20 + steps).float()
    assert torch.equal(rows.double() - 2**20, steps.double())
    found = Moments.of(Batch.of(rows, ids=[str(row) for row in range(999)]))
    np.testing.assert_allclose(found.covariance.numpy(), np.cov(steps.numpy().T, bias=True), rtol=1e-6, atol=1e-8)


def test_class_moments_are_those_of_numpy() -> None:
    batch = batch_of(data.isotropic(N, D))
    found = ClassMoments.of(batch)
    labels = np.array([batch.class_codes().names[code] for code in batch.class_codes().values])
    for index, name in enumerate(found.names):
        rows = batch.features.numpy()[labels == name]
        assert int(found.counts[index]) == len(rows)
        np.testing.assert_allclose(found.means[index].numpy(), rows.mean(axis=0))
        assert float(found.within[index]) == pytest.approx(rows.var(axis=0).sum())
    pooled = (
        sum(batch.features.numpy()[labels == name].var(axis=0) * (labels == name).sum() for name in found.names) / N
    )
    np.testing.assert_allclose(found.within_channels.numpy(), pooled)
    np.testing.assert_allclose(found.mean.numpy(), batch.features.numpy().mean(axis=0), atol=1e-12)


def test_classes_that_a_shard_has_not_seen_are_merged_by_name() -> None:
    rows = data.isotropic(60, D)
    ids = [str(i) for i in range(60)]
    labels = ["a"] * 20 + ["c"] * 20 + ["b"] * 20
    whole = ClassMoments.of(Batch.of(rows, ids=ids, labels=labels))
    first = ClassMoments.of(Batch.of(rows[:40], ids=ids[:40], labels=labels[:40]))
    second = ClassMoments.of(Batch.of(rows[40:], ids=ids[40:], labels=labels[40:]))
    merged = first.merge(second)
    assert merged.names == ("a", "b", "c")
    assert_same(merged, whole)


def test_channel_moments_are_those_of_scipy() -> None:
    rows = data.isotropic(N, D) ** 3 + 5
    found = Channels.of(batch_of(rows))
    for name, order in (("variance", 2), ("third", 3), ("fourth", 4)):
        expected = stats.moment(rows.numpy(), order=order, axis=0)
        np.testing.assert_allclose(getattr(found, name).numpy(), expected, rtol=1e-9)
    np.testing.assert_allclose(found.max_abs.numpy(), np.abs(rows.numpy()).max(axis=0))


def test_the_sample_is_the_same_rows_under_any_order_and_sharding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "CAPACITY", 50)
    rows = data.isotropic(N, D)
    order = torch.randperm(N, generator=data.generator(1))
    ids = [f"row {row}" for row in range(N)]
    straight = Sample.of(Batch.of(rows, ids=ids))
    shuffled = [Batch.of(rows[part], ids=[ids[row] for row in part]) for part in order.split(90)]
    merged = reduce(Sample.merge, [Sample.of(part) for part in shuffled])
    assert merged.m == 50
    assert merged.n == N
    assert merged.ids == straight.ids
    assert_same(merged, straight)


def test_another_seed_samples_other_rows() -> None:
    assert hash_ids(["a", "b"], 0).tolist() != hash_ids(["a", "b"], 1).tolist()


def test_zero_rows_have_no_direction_and_are_left_out() -> None:
    rows = data.isotropic(100, D)
    rows[:10] = 0
    assert UnitMoments.of(batch_of(rows)).n == 90
    assert not bool(unit_rows(rows)[1][:10].any())
    assert Moments.of(batch_of(rows)).n == 100


def test_equal_rows_have_equal_fingerprints_and_others_do_not() -> None:
    rows = data.isotropic(1000, 64).float()
    rows[500:] = rows[:500]
    rows[3] = 0.0
    rows[503] = -0.0
    prints = row_fingerprints(rows)
    assert torch.equal(prints[:500], prints[500:])
    assert len(prints.unique()) == 500
    near = rows[:500].clone()
    near[:, 0] = torch.nextafter(near[:, 0], torch.tensor(9.0))
    assert not bool(torch.isin(row_fingerprints(near), prints).any())


def test_features_wider_than_1024_have_five_folds() -> None:
    assert (fold_count(1024), fold_count(1025)) == (10, 5)


def test_codes_of_text_and_numbers_are_sorted_names() -> None:
    assert Codes.of([3, "b", 3]).names == ("3", "b")
    assert Codes.of(torch.tensor([2, 1])).values.tolist() == [1, 0]


def test_statistics_whose_column_is_missing_are_left_out_of_a_collection() -> None:
    rows = Batch.of(data.isotropic(10, D), ids=[str(i) for i in range(10)])
    found = Collection.of(rows, (Moments, ClassMoments, Sample))
    assert found.get(ClassMoments) is None
    assert found.get(Moments) is not None
    assert found.get(Sample) is found.sample


def test_batches_that_make_no_sense_are_refused() -> None:
    with pytest.raises(MetricError, match=r"rows \(n, d\).*found shape \(3,\)"):
        Batch.of(torch.ones(3), ids=["a", "b", "c"])
    with pytest.raises(MetricError, match="labels must have one entry for each of the 2 rows, found 1"):
        Batch.of(torch.ones(2, 2), ids=["a", "b"], labels=["x"])
    with pytest.raises(MetricError, match="have no labels"):
        ClassMoments.of(Batch.of(torch.ones(2, 2), ids=["a", "b"]))
    with pytest.raises(MetricError, match="one dimension, found 2 and 3"):
        RowCensus(1, 2, {}).merge(RowCensus(1, 3, {}))
    labelled, plain = batch_of(torch.ones(2, 2)), Batch.of(torch.ones(2, 2), ids=["a", "b"])
    with pytest.raises(MetricError, match="some rows have clusters, groups, labels, lengths and others have none"):
        Sample.of(labelled).merge(Sample.of(plain))


def test_rows_that_are_not_finite_are_counted_and_named() -> None:
    rows = data.isotropic(100, D)
    rows[7, 2], rows[9, 0] = torch.nan, torch.inf
    parts = [RowCensus.of(batch) for batch in split(rows, [8])]
    with pytest.raises(MetricError, match=r"nonfinite_rows: 2 of 100 .*'row 7'") as caught:
        parts[0].merge(parts[1]).require_finite()
    assert "'row 9'" in str(caught.value)


def test_half_precision_and_integers_become_float32() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.int64):
        assert Batch.of(torch.ones(2, 2, dtype=dtype), ids=["a", "b"]).features.dtype == torch.float32
