from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from gate.estimate import Estimate
from gate.geometry.statistics import (
    BaselineMoments,
    Batch,
    Collection,
    CrossFolds,
    CrossMoments,
    FeatureMoments,
    PairMoments,
    Sample,
    hash_numbers,
)
from gate.geometry.statistics.versions import Versions
from gate.measurement import measure
from tests.geometry import data
from tests.geometry.test_statistics import assert_same

N, D, E = 997, 6, 9
SPLITS = {"halves": [498], "uneven": [1, 3, 700, 950], "single rows": list(range(1, 12))}
KINDS: list[Any] = [FeatureMoments, BaselineMoments, CrossMoments, CrossFolds, Versions]


def ask(features: Tensor, baseline: Tensor, name: str, **columns: Any) -> dict[str, Estimate]:
    found = measure(features, baseline=baseline, metrics=[name], **columns)
    return {address.partition(".")[2] or "value": estimate for address, estimate in found.items()}


def number(found: Mapping[str, Estimate], readout: str = "value") -> float:
    value = found[readout].value
    assert value is not None, found[readout].reason
    return value


def gram_hsic(x: Tensor, y: Tensor) -> Tensor:
    """Debiased HSIC from n x n Gram matrices, in the precision of the rows and without centring them."""
    n = len(x)
    k, q = x @ x.T, y @ y.T
    k.fill_diagonal_(0)
    q.fill_diagonal_(0)
    last = 2 / (n - 2) * (k.sum(dim=0) @ q.sum(dim=0))
    return ((k * q).sum() + k.sum() * q.sum() / ((n - 1) * (n - 2)) - last) / (n * (n - 3))


def gram_cka(x: Tensor, y: Tensor) -> float:
    return float(gram_hsic(x, y) / (gram_hsic(x, x) * gram_hsic(y, y)).sqrt())


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_one_pass_for_two_versions_is_the_three_passes(offset: float, precision: torch.dtype) -> None:
    x, y = pair(9001, offset)  # more than two tiles
    batch = Batch.of(x.to(precision), ids=[str(row) for row in range(len(x))], baseline=y)
    versions = Versions.of(batch)
    for kind in (FeatureMoments, BaselineMoments, CrossMoments):
        part = versions.held(kind)
        assert type(part) is kind
        assert_same(part, kind.of(batch))
    u, v = x.to(precision).double(), y.double()
    u, v = u - u.mean(dim=0), v - v.mean(dim=0)
    exact = 1e-9 if precision == torch.float64 else 1e-4
    torch.testing.assert_close(versions.xy.cross, u.T @ v / len(u), rtol=exact, atol=exact)
    third = (u * v.square().sum(dim=1)[:, None]).mean(dim=0)
    torch.testing.assert_close(versions.xy.third_x, third, rtol=exact, atol=exact)
    fourth = (u.square().sum(dim=1) * v.square().sum(dim=1)).mean()
    torch.testing.assert_close(versions.xy.fourth, fourth, rtol=exact, atol=0)


def biased_cka(x: Tensor, y: Tensor) -> float:
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    norms = (torch.linalg.matrix_norm(rows.T @ rows) for rows in (x, y))
    return float(torch.linalg.matrix_norm(x.T @ y).square() / math.prod(norms))


def pair(n: int = N, offset: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    x = data.isotropic(n, D, seed) * torch.linspace(0.5, 2, D)
    y = 0.6 * data.isotropic(n, E, seed + 1)
    y[:, :D] += x.square() / 2 + x
    return x + offset, y - 2 * offset


def batch_of(x: Tensor, y: Tensor, start: int = 0) -> Batch:
    return Batch.of(x, ids=[f"row {start + row}" for row in range(len(x))], baseline=y)


def parts_of(cuts: list[int], offset: float) -> list[Batch]:
    x, y = pair(offset=offset)
    return [batch_of(x[a:b], y[a:b], a) for a, b in itertools.pairwise([0, *cuts, N])]


# ---- statistics


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_hsic_from_streams_is_that_of_the_gram_matrices(offset: float) -> None:
    x, y = pair(offset=offset)
    parts = parts_of([1, 90, 400], offset)
    for kind, a, b in ((FeatureMoments, x, x), (BaselineMoments, y, y), (CrossMoments, x, y)):
        merged = reduce(kind.merge, [kind.of(part) for part in parts])
        expected = gram_hsic(a - a.mean(dim=0), b - b.mean(dim=0)).item()
        assert merged.hsic.item() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("cuts", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_merging_any_split_equals_one_pass_far_from_zero(kind: Any, cuts: list[int]) -> None:
    x, y = pair(offset=1e4)
    merged = reduce(kind.merge, [kind.of(part) for part in parts_of(cuts, 1e4)])
    assert_same(merged, kind.of(batch_of(x, y)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_merging_is_commutative_and_associative(kind: Any) -> None:
    a, b, c = (kind.of(part) for part in parts_of([100, 130], 1e4))
    assert_same(a.merge(b).merge(c), a.merge(b.merge(c)))
    assert_same(a.merge(b), b.merge(a))


def test_the_influence_of_a_row_on_hsic_is_what_leaving_it_out_does() -> None:
    x, y = pair(400)
    batch = batch_of(x, y)
    found = CrossMoments.of(batch)
    leaves = {name: getattr(found, name).clone().requires_grad_() for name in found.leaves}
    tracked = PairMoments(**{**vars(found), **leaves})
    slopes = dict(zip(leaves, torch.autograd.grad(tracked.hsic, list(leaves.values())), strict=True))
    sample = Sample.of(batch)
    influence = found.influence(slopes, sample)
    kept = torch.arange(len(x))
    for place in (0, 17, 200):
        row = int(sample.ids[place].removeprefix("row "))
        without = gram_hsic(*(rows[kept != row] - rows.mean(dim=0) for rows in (x, y)))
        assert influence[place].item() == pytest.approx(399 * (found.hsic - without).item(), rel=0.1)


def test_the_sums_of_all_rows_follow_from_those_of_the_folds() -> None:
    x, y = pair(offset=3.0)
    whole = Collection.of(batch_of(x, y), KINDS)
    assert FeatureMoments not in whole.parts
    for kind in KINDS[:3]:
        assert_same(whole.get(kind), kind.of(batch_of(x, y)))


# ---- cka_debiased


def test_cka_is_one_for_a_rotation_and_what_noise_leaves() -> None:
    x = data.isotropic(2000, 64)
    turned = ask(x @ data.rotation(64), 3 * x + 7, "cka_debiased")["value"]
    assert turned.value == pytest.approx(1, abs=1e-6)
    assert number(ask(x + data.isotropic(2000, 64, 1), x, "cka_debiased")) == pytest.approx(0.50, abs=0.02)


@pytest.mark.parametrize(("n", "d", "biased"), [(256, 64, 0.20), (256, 512, 0.67), (1000, 512, 0.34), (200, 768, 0.80)])
def test_unrelated_rows_have_cka_zero_where_the_biased_form_reads_a_similarity(n: int, d: int, biased: float) -> None:
    draws = [(data.isotropic(n, d, seed), data.isotropic(n, d, seed + 100)) for seed in range(20 if d < 700 else 10)]
    assert biased_cka(*draws[0]) == pytest.approx(biased, abs=0.02)
    found = [number(ask(x, y, "cka_debiased")) for x, y in draws]
    assert np.mean(found) == pytest.approx(0, abs=0.01)


def test_cka_does_not_measure_the_number_of_rows() -> None:
    """Two samples of one law, and few rows of many channels: d / (n + d) and 0.89 in public packages."""
    few = [data.isotropic(64, 512, seed) for seed in (0, 1)]
    assert biased_cka(few[0], few[1]) == pytest.approx(0.89, abs=0.01)
    sums = [PairMoments.of_rows(a, b, 0) for a, b in ((few[0], few[1]), (few[0], few[0]), (few[1], few[1]))]
    cross, own, other = (each.hsic.item() for each in sums)
    assert cross / math.sqrt(own * other) == pytest.approx(0, abs=0.04)
    unpaired = [data.isotropic(250, 64, seed) for seed in (2, 3)]
    assert biased_cka(unpaired[0], unpaired[1]) == pytest.approx(64 / (250 + 64), abs=0.02) != 0
    assert number(ask(unpaired[0], unpaired[1], "cka_debiased")) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("mean", [0.5, 1.0])
def test_features_far_from_zero_keep_their_cka_in_float32(mean: float) -> None:
    """Uncentred Gram matrices in float32 lose it; sums about the mean agree with float64 to six digits."""
    x = (0.03 * data.isotropic(4000, 64) + mean).float()
    y = (x.double() + 0.01 * data.isotropic(4000, 64, 1)).float()
    moved = [rows.double() - rows.double().mean(dim=0) for rows in (x, y)]
    truth = gram_cka(*moved)
    assert number(ask(x, y, "cka_debiased")) == pytest.approx(truth, abs=1e-6)
    assert not abs(gram_cka(x, y) - truth) < 0.01  # the way that is written there
    shifted = [rows.float() + 1e3 for rows in moved]
    assert number(ask(shifted[0], shifted[1], "cka_debiased")) == pytest.approx(truth, abs=1e-3)


def test_a_large_offset_with_a_small_spread_keeps_its_cka() -> None:
    x = 3 + 1e-3 * data.isotropic(1000, 16)
    y = 3 + 1e-3 * data.isotropic(1000, 16, 1)
    assert number(ask(x.float(), y.float(), "cka_debiased")) == pytest.approx(0, abs=0.01)
    assert number(ask(x.float(), x.float(), "cka_debiased")) == pytest.approx(1, abs=1e-9)


def test_a_rotation_breaks_the_match_of_units_and_leaves_cka() -> None:
    x = data.isotropic(2000, 64)
    turned = x @ data.rotation(64)
    correlation = np.abs(np.corrcoef(x.numpy().T, turned.numpy().T)[:64, 64:])
    matched = correlation[linear_sum_assignment(-correlation)].mean()
    assert matched == pytest.approx(0.28, abs=0.03)
    assert number(ask(turned, x, "cka_debiased")) == pytest.approx(1, abs=1e-6)


def test_one_loud_feature_owns_cka() -> None:
    """Two models that share 55 % of the variance in one channel and nothing else."""
    x, y = data.isotropic(3000, 20), data.isotropic(3000, 20, 1)
    y[:, 0] = x[:, 0]
    loud = math.sqrt(0.55 * 19 / 0.45)
    for rows in (x, y):
        rows[:, 0] *= loud
    assert number(ask(x, y, "cka_debiased")) > 0.9
    assert number(ask(x[:, 1:], y[:, 1:], "cka_debiased")) == pytest.approx(0, abs=0.01)


def test_cka_of_layers_and_of_blocks_is_that_of_their_features() -> None:
    x, y = data.isotropic(800, 12), data.isotropic(800, 5, 1)
    x[:, :5] += y
    found = ask(x, x, "cka_debiased", depths={"early": y, "late": x[:, :6]})
    pairs = found["per_layer_pair"].breakdown
    assert pairs is not None
    assert pairs["early and late"] == pytest.approx(gram_cka(y, x[:, :6]), rel=1e-9)
    assert number(found, "per_layer_pair") == pytest.approx(max(pairs.values()))
    assert found["per_layer_pair"].detail == "layers late and this layer"
    assert number(found, "block") == pytest.approx(gram_cka(x[:, :6], x[:, 6:]), rel=1e-9)


def test_cka_refuses_what_it_cannot_compare() -> None:
    x = data.isotropic(200, 4)
    assert (ask(x[:99], x[:99], "cka_debiased")["value"].reason or "").startswith("few_rows: found 99 rows")
    still = ask(torch.ones(200, 4), x, "cka_debiased")["value"]
    assert still.status == "error"
    assert "equal up to rounding" in (still.reason or "")
    assert "features of several layers" in (ask(x, x, "cka_debiased")["per_layer_pair"].reason or "")
    assert (ask(x[:, :1], x, "cka_debiased")["block"].reason or "").endswith("two channels")
    half = torch.cat([x, torch.ones(200, 4)], dim=1)
    assert (ask(half, x, "cka_debiased")["block"].reason or "").startswith("degenerate_block")
    dead = ask(x, x, "cka_debiased", depths={"dead": torch.ones(200, 2)})["per_layer_pair"]
    assert (dead.reason or "").startswith("degenerate_layer: all rows of 'dead'")
    alone = measure(x, metrics=["cka_debiased"])["cka_debiased"]
    assert (alone.status, alone.reason) == ("not_applicable", "missing_input: it needs baseline")


# ---- backward_map_r2


def test_a_linear_map_recovers_a_rotation_and_what_noise_leaves() -> None:
    x = data.isotropic(2000, 64)
    assert number(ask(x @ data.rotation(64), x, "backward_map_r2")) > 0.999
    for noise in (0.1, 0.5, 1.0):
        share = noise**2 / (1 + noise**2)
        expected = 1 - share * (1 + 64 / (1800 - 64 - 1))  # nine of ten folds train
        found = [number(ask(x + noise * data.isotropic(2000, 64, 1 + seed), x, "backward_map_r2")) for seed in range(3)]
        assert np.mean(found) == pytest.approx(expected, abs=0.005)


def test_the_map_is_judged_on_rows_that_it_was_not_fitted_on() -> None:
    """Unrelated rows: least squares on its own rows reads d / (n - 1), held out it is worse than the mean."""
    x, y = data.isotropic(1000, 256), data.isotropic(1000, 256, 1)
    inside = LinearRegression().fit(x.numpy(), y.numpy()).score(x.numpy(), y.numpy())
    assert inside == pytest.approx(256 / 999, abs=0.01)
    found = ask(x, y, "backward_map_r2")["value"]
    assert found.value is not None
    assert -0.02 < found.value < 0.005
    assert found.value > 0 or found.detail == "worse than the mean: it reads 0 at best"


def test_backward_map_is_least_squares_fold_by_fold() -> None:
    x, _ = pair(600)
    y = x @ data.isotropic(D, 4, 5) + 0.01 * data.isotropic(600, 4, 6)
    folds = hash_numbers(torch.arange(600)).numpy() % 10
    errors, spreads = 0.0, 0.0
    for fold in range(10):
        train, held_out = folds != fold, folds == fold
        guess = LinearRegression().fit(x[train], y[train]).predict(x[held_out])
        errors += ((y[held_out].numpy() - guess) ** 2).sum()
        spreads += ((y[held_out].numpy() - y[train].numpy().mean(axis=0)) ** 2).sum()
    assert number(ask(x, y, "backward_map_r2")) == pytest.approx(1 - errors / spreads, abs=1e-6)


def test_backward_map_does_not_ask_in_which_coordinates_the_new_features_come() -> None:
    x, y = pair(800)
    mixed = x @ (data.isotropic(D, D, 8) + 3 * torch.eye(D)) * torch.logspace(-3, 3, D) + 40
    before, after = ask(x, y, "backward_map_r2"), ask(mixed, y, "backward_map_r2")
    assert number(after) == pytest.approx(number(before), rel=1e-8)
    assert number(ask(x, 5 * y @ data.rotation(E) + 3, "backward_map_r2")) == pytest.approx(number(before), rel=1e-8)
    assert number(ask(x, y * torch.linspace(0.2, 3, E), "backward_map_r2")) != pytest.approx(number(before), rel=1e-3)


def test_what_is_new_shows_in_the_forward_map_alone() -> None:
    x = data.isotropic(1000, 8)
    found = ask(x, x[:, :4], "backward_map_r2")
    assert number(found) == pytest.approx(1, abs=1e-6)
    assert number(found, "forward") == pytest.approx(0.5, abs=0.02)


def test_few_rows_are_mapped_on_principal_components() -> None:
    loud = data.isotropic(200, 100) * torch.cat([torch.full((5,), 10.0), torch.full((95,), 0.1)])
    assert number(ask(loud, loud[:, :5], "backward_map_r2")) > 0.99
    assert number(ask(loud, data.isotropic(200, 5, 1), "backward_map_r2")) > -0.1


def test_channels_that_are_copies_of_each_other_do_no_harm() -> None:
    x, y = pair(800)
    twice = torch.cat([x, x[:, :3], torch.ones(800, 1)], dim=1)
    assert number(ask(twice, y, "backward_map_r2")) == pytest.approx(number(ask(x, y, "backward_map_r2")), rel=1e-6)


def test_a_probe_of_the_old_classes_shows_what_was_lost() -> None:
    rows, labels = data.two_classes(3.0, 800, 6)
    noise = data.isotropic(800, 6, 3)
    lost = ask(noise, rows, "backward_map_r2", labels=labels)["old_probe"]
    plain = measure(rows, labels=labels, metrics=["ridge_probe_accuracy"])["ridge_probe_accuracy"].value
    blind = measure(noise, labels=labels, metrics=["ridge_probe_accuracy"])["ridge_probe_accuracy"].value
    assert plain is not None
    assert blind is not None
    assert lost.value == pytest.approx(blind - plain, abs=1e-9)
    assert number(ask(rows, rows, "backward_map_r2", labels=labels), "old_probe") == 0


def test_backward_map_refuses_what_it_cannot_judge() -> None:
    x = data.isotropic(200, 4)
    assert (ask(x[:99], x[:99], "backward_map_r2")["forward"].reason or "").startswith("few_rows: found 99 rows")
    assert "equal up to rounding" in (ask(x, torch.ones(200, 2), "backward_map_r2")["value"].reason or "")
    assert "labels" in (ask(x, x, "backward_map_r2")["old_probe"].reason or "")
    rare = ask(x, x, "backward_map_r2", labels=[0] * 190 + [1] * 10)["old_probe"]
    assert (rare.reason or "").startswith("small_class: class '1' has 10")
    one = ask(x, x, "backward_map_r2", labels=[0] * 200)["old_probe"]
    assert (one.reason or "").startswith("small_class: all rows are of one class")
    together = ask(x, x, "backward_map_r2", clusters=[row % 2 for row in range(200)])["value"]
    assert (together.reason or "").startswith("few_rows: the rows fall into")


# ---- knn_overlap


def test_neighbourhoods_survive_a_rotation_and_not_a_new_draw() -> None:
    x = data.isotropic(1000, 64)
    turned = ask(2 * x @ data.rotation(64), x, "knn_overlap")
    assert number(turned) == 1
    assert number(turned, "sim_mse") == pytest.approx(0, abs=1e-12)
    found = ask(x, data.isotropic(1000, 64, 1), "knn_overlap")
    assert number(found) == pytest.approx(0, abs=0.02)
    assert number(found, "raw") == pytest.approx(20 / 999, abs=0.004)


def test_unrelated_versions_share_neighbours_by_chance_alone() -> None:
    found = [ask(data.isotropic(400, 8, s), data.isotropic(400, 8, s + 50), "knn_overlap") for s in range(20)]
    assert np.mean([number(each) for each in found]) == pytest.approx(0, abs=0.003)


def neighbours_of(rows: Tensor, k: int) -> list[set[int]]:
    unit = torch.nn.functional.normalize(rows, dim=1).numpy()
    found = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(unit).kneighbors(unit, return_distance=False)
    return [set(row[row != place][:k]) for place, row in enumerate(found)]


def test_overlap_and_similarities_are_those_of_a_loop_over_rows() -> None:
    x, y = pair(500)
    found = ask(x, y, "knn_overlap")
    lists = list(zip(neighbours_of(x, 20), neighbours_of(y, 20), strict=True))
    raw = np.mean([len(a & b) / 20 for a, b in lists])
    assert number(found, "raw") == pytest.approx(raw)
    assert number(found) == pytest.approx((raw - 20 / 499) / (1 - 20 / 499))
    assert number(found, "topk_jaccard") == pytest.approx(np.mean([len(a & b) / len(a | b) for a, b in lists]))
    cosines = [torch.nn.functional.normalize(rows, dim=1) for rows in (x, y)]
    off = ~torch.eye(500, dtype=torch.bool)
    scaled = [(c @ c.T)[off].reshape(500, 499) for c in cosines]
    scaled = [c / c.square().mean(dim=1, keepdim=True).sqrt() for c in scaled]
    assert number(found, "sim_mse") == pytest.approx((scaled[0] - scaled[1]).square().mean().item())


def test_a_common_cone_hides_a_difference_from_cosines_but_not_about_the_mean() -> None:
    cone = torch.zeros(16, dtype=torch.float64)
    cone[0] = 60
    found = ask(data.isotropic(600, 16) + cone, data.isotropic(600, 16, 1) + cone, "knn_overlap")
    parts = found["sim_mse"].breakdown
    assert parts is not None
    assert number(found, "sim_mse") < 1e-3
    assert parts["about the mean"] == pytest.approx(2, abs=0.1)
    assert number(found) == pytest.approx(0, abs=0.02)


def test_rows_of_one_cluster_are_not_neighbours() -> None:
    """Every row three times, almost: among copies of their own all versions agree."""
    x, y = data.isotropic(300, 8), data.isotropic(300, 8, 1)
    copies = [rows.repeat_interleave(3, dim=0) + 1e-6 * data.isotropic(900, 8, 2) for rows in (x, y)]
    clusters = [row // 3 for row in range(900)]
    alike = ask(copies[0], copies[1], "knn_overlap")["value"]
    apart = ask(copies[0], copies[1], "knn_overlap", clusters=clusters)["value"]
    assert alike.value is not None
    assert alike.value > 0.09
    assert apart.value == pytest.approx(0, abs=0.02)
    labels = torch.randint(0, 2, (300,), generator=data.generator(3)).repeat_interleave(3)
    plain = measure(copies[0], labels=labels, metrics=["knn_label_agreement"])
    held_apart = measure(copies[0], labels=labels, clusters=clusters, metrics=["knn_label_agreement"])
    assert plain["knn_label_agreement.thornton"].value == 1
    for readout in ("knn_label_agreement", "knn_label_agreement.thornton", "knn_label_agreement.recall@k"):
        assert held_apart[readout].status == "ok"
    assert held_apart["knn_label_agreement"].value == pytest.approx(0, abs=0.06)
    assert held_apart["knn_label_agreement.thornton"].value == pytest.approx(0.5, abs=0.1)


def test_knn_overlap_refuses_too_few_rows() -> None:
    x = data.isotropic(399, 4)
    few = ask(x, x, "knn_overlap")["value"]
    assert few.n_needed == 400
    assert (few.reason or "").startswith("few_rows: found 399 rows; it needs 400")
    lumps = [max(row - 385, 0) for row in range(410)]
    together = ask(data.isotropic(410, 4), data.isotropic(410, 4, 1), "knn_overlap", clusters=lumps)
    assert number(together, "raw") >= 0 if together["raw"].value is not None else True
    whole = [0] * 395 + list(range(1, 16))
    refused = ask(data.isotropic(410, 4), data.isotropic(410, 4, 1), "knn_overlap", clusters=whole)["value"]
    assert (refused.reason or "").startswith("few_rows: a row has 15 rows of other clusters")
    same = ask(torch.ones(500, 4), torch.ones(500, 4), "knn_overlap")["value"]
    assert (same.reason or "").startswith("duplicates")


# ---- knn_label_agreement, two levels


def test_two_levels_of_labels_are_judged_each() -> None:
    rows, fine = data.far_clusters(600, 6, 8)
    halves = torch.randint(0, 2, (600,), generator=data.generator(1)).tolist()
    coarse = [code // 3 for code in fine]
    sub = [f"{code} {half}" for code, half in zip(fine, halves, strict=True)]
    found = measure(rows, labels=coarse, sublabels=sub, metrics=["knn_label_agreement"])
    alone = measure(rows, labels=sub, metrics=["knn_label_agreement"])["knn_label_agreement"]
    assert found["knn_label_agreement.coarse"].value == pytest.approx(1)
    assert found["knn_label_agreement.fine"].value == pytest.approx(alone.value)
    assert found["knn_label_agreement.fine"].value == pytest.approx((0.5 - 1 / 12) / (1 - 1 / 12), abs=0.05)
    assert found["knn_label_agreement.fine"].c == 12
    lonely = ["odd one", *["rest"] * 599]
    one = measure(rows, labels=coarse, sublabels=lonely, metrics=["knn_label_agreement.fine"])
    assert (one["knn_label_agreement.fine"].reason or "").startswith("small_class")


# ---- cross_compat_gain


def quarter_turn(d: int) -> Tensor:
    turn = torch.zeros(d, d, dtype=torch.float64)
    for axis in range(0, d, 2):
        turn[axis, axis + 1], turn[axis + 1, axis] = 1, -1
    return turn


def test_a_quarter_turn_cannot_search_the_old_index_and_the_same_version_can() -> None:
    rows, labels = data.far_clusters(800, 4, 8)
    turned = ask(rows @ quarter_turn(8), rows, "cross_compat_gain", labels=labels)
    assert number(turned) < -0.5
    same = ask(rows, rows, "cross_compat_gain", labels=labels, earlier={"first": rows})
    assert number(same) == 0
    assert [number(same, readout) for readout in ("AC", "AM", "BC", "FC", "pair_share")] == pytest.approx(
        [1, 1, 0, 0, 1], abs=1e-9
    )
    assert same["AC"].interval == (1, 1)


def accuracy(queries: Tensor, index: Tensor, labels: Tensor) -> np.ndarray[Any, Any]:
    """Hits of a loop over queries."""
    q, g = (torch.nn.functional.normalize(rows, dim=1) for rows in (queries, index))
    hits = []
    for row in range(len(q)):
        cosines = g @ q[row]
        cosines[row] = -2
        hits.append(bool(labels[int(cosines.argmax())] == labels[row]))
    return np.array(hits, dtype=float)


def three_versions(n: int = 400) -> tuple[list[Tensor], Tensor]:
    rows, labels = data.structured(n, 8, 4, 0, signal=0.6)
    newest = rows.double()
    return [newest + noise * data.isotropic(n, 8, 3 + place) for place, noise in enumerate((1.0, 0.6, 0.0))], labels


def test_compatibility_over_versions_is_that_of_a_loop() -> None:
    (first, old, new), labels = three_versions()
    found = ask(new, old, "cross_compat_gain", labels=labels, earlier={"first": first})
    versions = [first, old, new]
    a = {(q, g): accuracy(versions[q], versions[g], labels).mean() for q in range(3) for g in range(q + 1)}
    assert number(found) == pytest.approx(a[2, 1] - a[1, 1])
    assert number(found, "update_gain") == pytest.approx((a[2, 1] - a[1, 1]) / (a[2, 2] - a[1, 1]))
    assert number(found, "AM") == pytest.approx(np.mean(list(a.values())))
    assert number(found, "BC") == pytest.approx((a[2, 0] - a[0, 0] + a[2, 1] - a[1, 1]) / 2)
    assert number(found, "FC") == pytest.approx((a[1, 0] - a[1, 1] + a[2, 1] - a[2, 2]) / 2)
    assert number(found, "AC") == 1
    unit = [torch.nn.functional.normalize(rows, dim=1) for rows in (old, new)]
    near, far = torch.cdist(unit[1], unit[0]), torch.cdist(unit[0], unit[0])
    alike = labels[:, None] == labels
    right = torch.where(alike, near <= far, near >= far)[~torch.eye(400, dtype=torch.bool)]
    assert number(found, "pair_share") == pytest.approx(right.double().mean().item(), abs=1e-5)


def test_an_update_that_gains_little_on_its_own_may_have_kept_nearly_any_multiple_of_it() -> None:
    """A small gain of its own could be smaller still: the ratio to it reaches far away from 0, and little towards 0."""
    (_, old, new), labels = three_versions()
    worse = new @ data.rotation(8)
    found = ask(worse, old, "cross_compat_gain", labels=labels)["update_gain"]
    assert found.value is not None
    assert found.interval is not None
    assert found.value < 0
    assert found.value - found.interval[0] > 1.2 * (found.interval[1] - found.value)


def test_the_error_of_a_gain_is_that_of_mcnemar_where_queries_share_nothing() -> None:
    """Old rows lie apart in tight pairs; one in five new queries lands at another pair: each hit is its own."""
    g = data.generator(0)
    pairs = torch.randn(300, 40, generator=g, dtype=torch.float64).repeat_interleave(2, dim=0)
    old = pairs + 1e-3 * torch.randn(600, 40, generator=g, dtype=torch.float64)
    labels = torch.arange(300).repeat_interleave(2)
    astray = torch.rand(600, generator=g) < 0.2
    new = torch.where(astray[:, None], old.roll(300, 0) + 1e-4, old)
    found = ask(new, old, "cross_compat_gain", labels=labels)["value"]
    wrong = int(astray.sum())
    assert found.value == pytest.approx(-wrong / 600, abs=1e-9)
    assert found.standard_error is not None
    mcnemar = math.sqrt(wrong / 600 * (1 - wrong / 600) / 600)
    assert mcnemar <= found.standard_error < 1.5 * mcnemar
    assert found.interval is not None
    assert binomtest(wrong, 600).proportion_ci(0.95).low <= -found.interval[1] + 0.03


def test_versions_of_another_dimension_need_a_new_index() -> None:
    x = data.isotropic(300, 8)
    labels = [row % 3 for row in range(300)]
    for found in ask(x, x[:, :6], "cross_compat_gain", labels=labels).values():
        assert found.status == "not_applicable"
        assert (found.reason or "").startswith("dim_mismatch: an index of dimension 6 cannot be searched")
    one = ask(x, x, "cross_compat_gain", labels=labels, earlier={"first": x[:, :5]})
    assert (one["AC"].reason or "").startswith("dim_mismatch: an index of dimension 5")
    assert one["value"].status == "ok"


def test_cross_compatibility_refuses_what_it_cannot_judge() -> None:
    x = data.isotropic(300, 8)
    labels = [row % 3 for row in range(300)]
    few = ask(x[:199], x[:199], "cross_compat_gain", labels=labels[:199])["value"]
    assert (few.reason or "").startswith("few_rows: found 199 rows; it needs 200 queries")
    assert (ask(x, x, "cross_compat_gain", labels=[0] * 300)["value"].reason or "").startswith("small_class")
    assert (ask(x, x, "cross_compat_gain", labels=labels)["update_gain"].reason or "").startswith("saturated")
    assert ask(x, x, "cross_compat_gain")["value"].reason == "missing_input: it needs labels"
    lump = ask(x, x, "cross_compat_gain", labels=labels, clusters=[0] * 295 + list(range(1, 6)))["value"]
    assert (lump.reason or "").startswith("few_clusters")


def test_rows_of_one_cluster_are_not_found_for_each_other() -> None:
    x = data.isotropic(200, 8).repeat_interleave(3, dim=0) + 1e-6 * data.isotropic(600, 8, 2)
    labels = torch.randint(0, 2, (200,), generator=data.generator(3)).repeat_interleave(3)
    clusters = [row // 3 for row in range(600)]
    assert number(ask(x, x, "cross_compat_gain", labels=labels), "AM") == 1
    assert number(ask(x, x, "cross_compat_gain", labels=labels, clusters=clusters), "AM") == pytest.approx(0.5, abs=0.1)
