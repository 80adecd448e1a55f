"""Class separation on the sphere, change with depth, shift outside the class span, and what comes before a layer."""

from __future__ import annotations

import itertools
import math
from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gate.estimate import Estimate
from gate.geometry.methods.row_pairs import Pairs, squared_covariance
from gate.geometry.statistics import Batch, BeforeUnitMoments, LayerClasses, ShiftedMean
from gate.measurement import measure
from tests.geometry import data
from tests.geometry.test_statistics import assert_same

NAMES = ("", ".d_within", ".tolerance", ".compactness", ".distinct", ".dprime", ".range")
SHIFT = "within_between_ratio.null_space_shift"
RISE = "within_between_ratio.per_layer"


def ask(rows: Tensor, name: str, **columns: Any) -> Estimate:
    return measure(rows, metrics=[name], **columns)[name]


def value(rows: Tensor, name: str, **columns: Any) -> float:
    found = ask(rows, name, **columns)
    assert found.status == "ok", found.reason
    assert found.value is not None
    return found.value


def mix(c: int, n: int, d: int, a: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Unit rows sqrt(a) e_c + sqrt(1 - a) u, u uniform on the sphere of the other d - c coordinates."""
    u = data.isotropic(n, d - c, seed)
    labels = torch.arange(n) % c
    shared = math.sqrt(1 - a) * u / u.norm(dim=1, keepdim=True)
    return torch.cat([math.sqrt(a) * torch.eye(c, dtype=torch.float64)[labels], shared], dim=1), labels


@pytest.mark.parametrize(("a", "expected"), [(0.3, 0.2784), (0.7, 0.6774)])
def test_mixed_unit_rows_have_the_separation_of_their_mixture(a: float, expected: float) -> None:
    rows, labels = mix(10, 20000, 64, a)
    assert value(rows, "class_separation_r2", labels=labels) == pytest.approx(expected, abs=0.005)
    assert value(rows, "class_separation_r2.d_within", labels=labels) == pytest.approx(1 - a, abs=0.005)
    assert value(rows, "class_separation_r2.tolerance", labels=labels) == pytest.approx(a, abs=0.005)
    assert value(rows, "class_separation_r2.compactness", labels=labels) == pytest.approx(math.sqrt(a), abs=0.005)


def by_pairs(rows: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> dict[str, float]:
    """Every read-out from the matrix of all cosines, pair by pair."""
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = units @ units.T
    n, classes = len(rows), sorted(set(labels))
    upper = np.triu_indices(n, 1)
    same = (labels[:, None] == labels[None, :])[upper]
    every = cosines[upper]
    within, total, own, rival = [], [], [], []
    for a in classes:
        for b in classes:
            block = cosines[np.ix_(labels == a, labels == b)]
            mean = (block.sum() - len(block)) / (len(block) * (len(block) - 1)) if a == b else block.mean()
            total.append(1 - mean)
            if a == b:
                within.append(1 - mean)
    for row in range(n):
        others = (labels == labels[row]) & (np.arange(n) != row)
        mean = units[others].mean(axis=0)
        own.append(units[row] @ mean / np.linalg.norm(mean))
        means = [units[labels == c].mean(axis=0) for c in classes if c != labels[row]]
        rival.append(max(units[row] @ mean / np.linalg.norm(mean) for mean in means))
    tight, loose = every[same], every[~same]
    pooled = math.sqrt((tight.var() + loose.var()) / 2)
    return {
        "": 1 - float(np.mean(within) / np.mean(total)),
        ".d_within": float(np.mean(within)),
        ".tolerance": float(tight.mean()),
        ".compactness": float(np.mean(own)),
        ".distinct": 1 - float(np.mean(rival)),
        ".dprime": float((tight.mean() - loose.mean()) / pooled),
        ".range": float(np.quantile(every, 0.99) - np.quantile(every, 0.01)),
    }


def test_separation_is_that_of_all_pairs_one_by_one() -> None:
    rows, labels = data.structured(501, 8, 3, 1, signal=0.6)
    keep = torch.cat([(labels == code).nonzero()[: 99 + 10 * code, 0] for code in range(3)])[:-1]  # odd sizes
    rows, labels = rows[keep].double(), labels[keep]
    expected = by_pairs(rows.numpy(), labels.numpy())
    found = measure(rows, labels=labels, metrics=["class_separation_r2"])
    for name in NAMES:
        tolerance = 5e-3 if name == ".range" else 2e-3 if name == ".dprime" else 1e-9
        assert found[f"class_separation_r2{name}"].value == pytest.approx(expected[name], abs=tolerance), name


def test_random_labels_read_no_separation() -> None:
    values: dict[str, list[float]] = {"": [], ".dprime": [], ".tolerance": []}
    for seed in range(30):
        labels = torch.randint(0, 10, (400,), generator=data.generator(seed + 50))
        found = measure(data.isotropic(400, 16, seed), labels=labels, metrics=["class_separation_r2"])
        for name, seen in values.items():
            number = found[f"class_separation_r2{name}"].value
            assert number is not None
            seen.append(number)
    for seen in values.values():
        assert abs(float(np.mean(seen))) < 3.5 * float(np.std(seen)) / math.sqrt(30)


def test_the_range_of_isotropic_rows_is_that_of_a_normal() -> None:
    found = value(data.isotropic(2001, 256), "class_separation_r2.range", labels=[row % 2 for row in range(2001)])
    assert found == pytest.approx(4.65 / 16, rel=0.03)


def test_a_tight_cone_keeps_its_digits() -> None:
    """Offset 1e4 (trap 12): distances are 1e-7 of the cosines, and still those of all pairs."""
    rows, labels = data.structured(301, 8, 3, 2, signal=0.6)
    rows = rows.double()
    rows[:, 0] += 1e4
    labels = labels.clamp_max(2)
    units = rows / rows.norm(dim=1, keepdim=True)
    squares = torch.cdist(units, units, compute_mode="donot_use_mm_for_euclid_dist").square() / 2
    within = torch.stack([squares[labels == c][:, labels == c].sum() for c in range(3)])
    sizes = torch.bincount(labels).double()
    expected = float((within / (sizes * (sizes - 1))).mean())
    assert value(rows, "class_separation_r2.d_within", labels=labels) == pytest.approx(expected, rel=1e-6)
    assert expected < 1e-6


def test_one_direction_a_class_is_over_compressed() -> None:
    labels = torch.arange(600) % 3
    rows = torch.eye(8, dtype=torch.float64)[labels] * torch.linspace(1, 2, 600, dtype=torch.float64)[:, None]
    found = measure(rows, labels=labels, metrics=["class_separation_r2"])
    assert found["class_separation_r2"].value == pytest.approx(1, abs=1e-12)
    assert found["class_separation_r2.d_within"].value == pytest.approx(0, abs=1e-12)
    assert found["class_separation_r2.tolerance"].value == pytest.approx(1, abs=1e-12)
    assert found["class_separation_r2.distinct"].value == pytest.approx(1, abs=1e-12)


def test_separation_is_refused_where_it_does_not_exist() -> None:
    rows, _ = data.structured(200, 4, 2, 0)
    few = ask(rows, "class_separation_r2", labels=[int(row < 4) for row in range(200)])
    assert few.status == "inconclusive"
    assert "small_class: class '1' has 4 rows; each class needs at least 5" in str(few.reason)
    one_way = torch.ones(100, 3) * torch.linspace(1, 2, 100)[:, None]
    assert "100 feature rows point one way" in str(ask(one_way, "class_separation_r2", labels=[0, 1] * 50).reason)
    zeros = ask(torch.zeros(100, 3), "class_separation_r2", labels=[0, 1] * 50)
    assert "all feature rows are zero" in str(zeros.reason)
    half = rows.clone()
    half[:4] = 0
    gone = ask(half, "class_separation_r2", labels=[int(row < 4) for row in range(200)])
    assert "class '1' has 0 rows" in str(gone.reason)
    sparse = data.isotropic(40, 4)
    small = ask(sparse, "class_separation_r2.range", labels=[row % 2 for row in range(40)])
    assert "780 pairs of rows; percentiles need at least 1000" in str(small.reason)


def test_pairs_are_all_pairs_of_an_odd_number_of_rows() -> None:
    pairs = Pairs.among(101, torch.device("cpu"))
    unordered = {frozenset(pair) for pair in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)}
    assert len(unordered) == len(pairs.first) == 101 * 100 // 2
    codes = torch.tensor([0, 1, 1, 0, 2, 1, 0])
    inside = Pairs.within(codes)
    assert bool((codes[inside.first] == codes[inside.second]).all())
    assert len(inside.first) == 6


def test_pairs_of_many_rows_are_those_inside_blocks() -> None:
    rows = data.isotropic(3001, 5)
    codes = torch.arange(3001) % 3 // 2 * 7  # two groups of very different size, and numbers that no row has
    codes[0] = 3  # alone in its group
    for pairs in (Pairs.among(3001, rows.device), Pairs.within(codes)):
        assert 100_000 < len(pairs.first) < 200_000
        expected = (rows[pairs.first] * rows[pairs.second]).sum(dim=1).double()
        torch.testing.assert_close(pairs.products(rows), expected, rtol=1e-5, atol=1e-5)
        together = torch.stack([pairs.first, pairs.second]).sort(dim=0).values
        assert together.unique(dim=1).shape[1] == len(pairs.first)
    every = Pairs.among(3001, rows.device)
    counts = torch.bincount(torch.cat([every.first, every.second]), minlength=3001)
    assert int(counts.max()) - int(counts.min()) <= 1
    inside = Pairs.within(codes)
    assert bool((codes[inside.first] == codes[inside.second]).all())
    kept = inside.first % 2 == 0
    values = torch.arange(len(inside.first), dtype=torch.float64)
    means = inside.row_means(values, kept)
    mine = values[kept & ((inside.first == 4) | (inside.second == 4))]
    assert float(means[4]) == pytest.approx(float(mine.mean()))
    assert float(means[0]) == pytest.approx(float(values[kept].mean())), "a row without a pair has the overall mean"


def test_the_square_of_a_covariance_needs_no_matrix() -> None:
    rows = data.isotropic(4001, 6) * torch.arange(1, 7)
    expected = float((torch.arange(1, 7).double() ** 4).sum())
    assert squared_covariance(rows) == pytest.approx(expected, rel=0.05)


def test_the_rise_with_depth_is_that_of_the_within_class_share() -> None:
    rows, labels = data.simplex(10, 200, 64, 4.0)
    loose, _ = data.simplex(10, 200, 64, 2.0)
    found = ask(rows, RISE, labels=labels, depths={"shallow": loose, "same": rows})
    assert found.value == pytest.approx(0, abs=1e-9)
    assert found.breakdown is not None
    assert found.breakdown["same"] == found.breakdown["features"] == pytest.approx(1 - 0.179908, abs=1e-5)
    worse = ask(loose, RISE, labels=labels, depths={"shallow": rows})
    assert worse.value == pytest.approx(found.breakdown["shallow"] - found.breakdown["same"], abs=1e-9)
    assert worse.detail == "largest from 'shallow' to 'features'"
    still = ask(rows, RISE, labels=labels, depths={"still": torch.ones(2000, 3)})
    assert "all rows of layer 'still' are equal" in str(still.reason)


def shifted(rows: Tensor, labels: list[int], other: Tensor, **more: Any) -> Estimate:
    return ask(rows, SHIFT, labels=labels, shifted={"features": other, **more})


def test_the_shift_outside_the_class_span_is_the_squared_part_of_it() -> None:
    rows, labels = data.simplex(4, 100, 8, 4.0)
    total = 8 + 4.0**2 * 3 / 4
    aside = torch.zeros(8, dtype=torch.float64)
    aside[6] = 0.5
    along = 0.7 * (torch.eye(8, dtype=torch.float64)[0] - torch.eye(8, dtype=torch.float64)[1])
    assert shifted(rows, labels, rows + aside).value == pytest.approx(0.25 / total, rel=0.02)
    assert shifted(rows, labels, rows + aside + along).value == pytest.approx(0.25 / total, rel=0.05)
    assert shifted(rows, labels, rows + along).value == pytest.approx(0, abs=2e-3)
    paired = shifted(rows, labels, rows + aside)
    strangers = shifted(rows, labels, rows + aside, ids=[f"other {row}" for row in range(400)])
    assert "100% of them with a probe row" in str(paired.detail)
    assert "0% of them with a probe row" in str(strangers.detail)
    assert paired.standard_error is not None
    assert strangers.standard_error is not None
    assert paired.standard_error < strangers.standard_error / 3


def test_a_shift_of_unrelated_rows_reads_zero_on_average() -> None:
    found = []
    means = 2.0 * torch.eye(12, dtype=torch.float64)[:4]
    for seed in range(30):
        labels = [row % 4 for row in range(400)]
        rows, other = (means[labels] + data.isotropic(400, 12, 2 * seed + part) for part in (0, 1))
        number = shifted(rows, labels, other, ids=[f"other {row}" for row in range(400)]).value
        assert number is not None
        found.append(number)
    assert abs(float(np.mean(found))) < 3.5 * float(np.std(found)) / math.sqrt(30)


def test_a_shift_is_refused_where_no_direction_is_left_or_classes_are_noise() -> None:
    rows, labels = data.simplex(4, 100, 4, 4.0)
    flat, codes = rows[:, :3], labels
    assert "subspace_too_large: the means of 4 classes span all 3" in str(shifted(flat, codes, flat).reason)
    random = [row % 4 for row in range(400)]
    noise = data.isotropic(400, 8)
    assert "no_class_signal: the means of 4 classes" in str(shifted(noise, random, noise).reason)
    wide, names = data.simplex(4, 100, 8, 4.0)
    assert "few_rows: 20 shifted rows" in str(shifted(wide, names, wide[:20]).reason)
    missing = ask(wide, SHIFT, labels=names)
    assert "missing_input: it needs shifted rows" in str(missing.reason)


def test_the_cone_that_a_layer_adds() -> None:
    rows = data.orthonormal_columns(1000, torch.ones(64).double())
    after = rows.clone()
    after[:, 0] += 8
    found = ask(after, "mean_cosine.before_after", before=rows)
    unit = rows / rows.norm(dim=1, keepdim=True)
    before = (float(unit.sum(dim=0).square().sum()) - 1000) / (1000 * 999)
    assert found.value == pytest.approx(value(after, "mean_cosine") - before, abs=1e-12)
    assert value(after, "mean_cosine.before_after", before=after) == pytest.approx(0, abs=1e-12)
    silent = torch.zeros(1000, 3)
    silent[:5] = 1
    assert "5 rows before the layer have a direction" in str(
        ask(after, "mean_cosine.before_after", before=silent).reason
    )


def test_heat_is_the_smallest_share_of_channels_that_holds_nine_tenths() -> None:
    masses = torch.zeros(1000, 10)
    masses[:500, 0] = 1  # one channel holds all
    masses[500:] = 1  # nine of ten are needed
    rows = data.isotropic(1000, 4)
    assert value(rows, "dead_unit_share.heat_k", channel_mass=masses) == pytest.approx(0.5)
    masses[3, 3] = torch.nan
    assert "rows of channel_mass hold NaN" in str(ask(rows, "dead_unit_share.heat_k", channel_mass=masses).reason)


def parts_of(cuts: list[int], n: int = 300, **more: Any) -> list[Batch]:
    rows = 1e3 + data.isotropic(n, 5)
    deep = 1e3 + data.isotropic(n, 3, 1)
    edges = [0, *cuts, n]
    return [
        Batch.of(
            rows[a:b],
            ids=[str(row) for row in range(a, b)],
            labels=[f"class {row * 7 % 5}" for row in range(a, b)],
            depths={"one": rows[a:b, :2], "two": deep[a:b]},
            before=rows[a:b],
            **more,
        )
        for a, b in itertools.pairwise(edges)
    ]


@pytest.mark.parametrize("kind", [LayerClasses, ShiftedMean, BeforeUnitMoments])
@pytest.mark.parametrize("cuts", [[150], [1, 2, 290], list(range(1, 9))])
def test_merging_any_split_equals_one_pass(kind: Any, cuts: list[int]) -> None:
    parts = [kind.of(part) for part in parts_of(cuts)]
    whole = kind.of(parts_of([])[0])
    assert_same(reduce(kind.merge, parts), whole)
    assert_same(reduce(kind.merge, reversed(parts)), whole)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_intervals_cover_the_mean_of_their_estimator() -> None:
    draws: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(200):
        rows, labels = data.structured(801, 12, 4, seed, signal=0.45)
        g = data.generator(seed + 500)
        other = rows + 0.1 + 0.3 * torch.randn(801, 12, generator=g)
        extra = {"depths": {"early": rows + torch.randn(801, 12, generator=g)}, "before": other * 0.5 - 0.3}
        columns: dict[str, Any] = {"labels": labels, "shifted": {"features": other}, **extra}
        asked = ["class_separation_r2", SHIFT, RISE, "mean_cosine.before_after"]
        for name, found in measure(rows, metrics=asked, seed=seed, **columns).items():
            assert found.value is not None
            assert found.interval is not None
            draws.setdefault(name, []).append((found.value, *found.interval))
    for name, seen in draws.items():
        table = torch.tensor(seen, dtype=torch.float64)
        target = table[:, 0].mean()
        share = ((table[:, 1] <= target) & (target <= table[:, 2])).double().mean().item()
        assert 0.905 <= share <= 0.99, (name, share)


def test_compactness_leaves_each_row_out_of_its_own_mean() -> None:
    rows = torch.nn.functional.normalize(data.isotropic(120, 3, 5) + torch.tensor([1.0, 0.0, 0.0]), dim=1)
    axes = torch.eye(3)
    rows[:5] = torch.stack([axes[0], -axes[0], axes[1], -axes[1], axes[2]])  # nothing is left beside the last one
    labels = [0] * 5 + [1 + row % 2 for row in range(115)]
    cosines = []
    for row in range(120):
        others = [each for each in range(120) if labels[each] == labels[row] and each != row]
        total = rows[others].double().sum(dim=0)
        cosines.append(float(rows[row].double() @ total / total.norm()) if float(total.norm()) > 1e-3 else 0.0)
    for intervals in (True, False):
        found = measure(rows, labels=labels, metrics=["class_separation_r2.compactness"], intervals=intervals)
        assert found["class_separation_r2.compactness"].value == pytest.approx(np.mean(cosines), abs=1e-6)


@pytest.mark.parametrize("unit", [1e-11, 1e-5, 1e5, 1e11])
def test_merged_classes_are_found_in_any_unit(unit: float) -> None:
    rows, labels = data.simplex(4, 100, 8, 2.0)
    rows = rows.double()
    rows[100:200] = rows[:100] + 0.05 * data.isotropic(100, 8).double()
    rows[100:200, 7] += 0.45  # further apart than the noise of the means, but not by two errors
    plain = measure(rows.float(), labels=labels, metrics=["cdnv"])
    found = measure((rows * unit).float(), labels=labels, metrics=["cdnv"])
    for address, each in plain.items():
        assert found[address].value == pytest.approx(each.value, rel=1e-4)
    assert found["cdnv"].value == math.inf
    assert "merged pairs" in str(found["cdnv"].detail)


@pytest.mark.parametrize("classes", [3, 4, 5])
def test_the_median_over_pairs_is_that_of_all_pairs(classes: int) -> None:
    groups = [
        data.isotropic(60, 8, code) * (1 + code) + 20 * data.isotropic(1, 8, 50 + code) for code in range(classes)
    ]
    labels = [code for code in range(classes) for _ in range(60)]
    found = measure(torch.cat(groups), labels=labels, metrics=["cdnv"])
    ratios = []
    for a in range(classes):
        for b in range(a + 1, classes):
            spread = [float(each.var(dim=0, correction=1).sum()) for each in (groups[a], groups[b])]
            gap = float((groups[a].mean(dim=0) - groups[b].mean(dim=0)).square().sum()) - sum(spread) / 60
            ratios.append(sum(spread) / (2 * gap))
    assert found["cdnv.median"].value == pytest.approx(np.median(ratios), rel=1e-5)
    assert found["cdnv.max"].value == pytest.approx(max(ratios), rel=1e-5)
    assert found["cdnv"].value == pytest.approx(np.mean(ratios), rel=1e-5)


@pytest.mark.parametrize(("offset", "spread"), [(9e5, 1.0), (3e5, 0.3), (1e4, 0.1)])
def test_large_classes_far_from_zero_are_as_exact_as_small_ones(offset: float, spread: float) -> None:
    labels = torch.arange(131_072) % 2
    rows = (spread * (data.isotropic(131_072, 4) + 0.3 * labels[:, None]) + offset).float()
    exact = measure(rows.double() - offset, labels=labels.tolist(), metrics=["vci", "cdnv", "participation_ratio"])
    for address, each in measure(rows, labels=labels.tolist(), metrics=["vci", "cdnv", "participation_ratio"]).items():
        assert each.value == pytest.approx(exact[address].value, rel=1e-5)


def test_directions_too_faint_for_single_precision_are_refused_and_in_double_exact() -> None:
    rows, labels = data.simplex(2, 1000, 12, 1.0)
    rows[:, -1] *= 1e4
    loud = rows @ data.rotation(12)
    expected = measure(rows, labels=labels, metrics=["vci"])["vci"].value
    assert measure(rows.float(), labels=labels, metrics=["vci"])["vci"].value == pytest.approx(expected, rel=1e-4)
    assert measure(loud, labels=labels, metrics=["vci"])["vci"].value == pytest.approx(expected, rel=1e-4)
    assert str(measure(loud.float(), labels=labels, metrics=["vci"])["vci"].reason).startswith("ill_conditioned")
    flat = (rows[:, :3] @ data.isotropic(3, 12)).float()
    assert measure(flat, labels=labels, metrics=["vci"])["vci"].status == "inconclusive"


def test_a_wide_small_class_on_a_tight_large_one_is_merged() -> None:
    labels = [0] * 10 + [1] * 3000
    for seed in range(40):
        rows = data.isotropic(3010, 16, seed)
        rows[:10] *= 10
        assert measure(rows, labels=labels, metrics=["cdnv.value"])["cdnv"].value == math.inf


@pytest.mark.parametrize("clusters", [None, torch.arange(400) // 4])
def test_classes_that_are_points_are_fully_separated(clusters: torch.Tensor | None) -> None:
    labels = (torch.arange(400) // 4) % 4
    found = measure(torch.eye(4)[labels], labels=labels, clusters=clusters, metrics=["class_separation_r2"])
    for address in ("class_separation_r2", "class_separation_r2.tolerance", "class_separation_r2.compactness"):
        assert found[address].interval == (1, 1)
    assert found["class_separation_r2.d_within"].interval == (0, 0)


def test_clusters_alone_do_not_part_classes() -> None:
    clusters = torch.arange(600) // 60
    labels = (clusters % 2).tolist()
    for seed in range(20):
        rows = data.isotropic(600, 8, seed) + data.isotropic(10, 8, 1000 + seed)[clusters]
        found = measure(rows, labels=labels, clusters=clusters, metrics=["cdnv.value", "vci.value"])
        assert found["cdnv"].value == math.inf
        interval = found["vci"].interval
        assert interval is None or interval[1] > 0.8
    apart = measure(rows + 8 * torch.eye(8)[labels], labels=labels, clusters=clusters, metrics=["cdnv.value"])
    assert 0 < (apart["cdnv"].value or 0) < 1


def test_rows_of_subnormal_length_have_no_direction() -> None:
    rows = data.isotropic(3000, 20) + 1
    rows[:100] *= 1e-42
    found = measure(rows.float(), metrics=["mean_cosine"])["mean_cosine"]
    assert found.value == pytest.approx(measure(rows[100:], metrics=["mean_cosine"])["mean_cosine"].value, rel=1e-4)
    assert "100 zero rows" in str(found.detail)


def test_compactness_needs_more_than_a_line() -> None:
    found = measure(data.isotropic(60, 1), labels=[row % 2 for row in range(60)], metrics=["class_separation_r2"])
    assert found["class_separation_r2.compactness"].status == "not_applicable"
