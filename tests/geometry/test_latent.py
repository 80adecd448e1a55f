"""Latents and codes: known values, independent computations, biases of small probes, refusals, intervals."""

from __future__ import annotations

import itertools
import math
from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from gate.estimate import Estimate
from gate.estimation import estimate, statistics_for
from gate.geometry.registry import find
from gate.geometry.statistics import Batch, CodeCounts, Collection, LatentMoments, PosteriorVariances
from gate.measurement import measure
from tests.geometry import data, inputs

AU, BOOK = "vae_active_units", "codebook_usage"


def ask(address: str, n: int, **given: Any) -> Estimate:
    return measure(torch.ones(n, 2), metrics=[address], **given)[address]


def value(address: str, n: int, **given: Any) -> float:
    found = ask(address, n, **given)
    assert found.status == "ok", found.reason
    assert found.value is not None
    return found.value


def with_params(name: str, features: Tensor, given: dict[str, Any], **params: Any) -> dict[str, Estimate]:
    found = find(name)[0]
    batch = Batch.of(features, ids=[str(row) for row in range(len(features))], **given)
    return estimate(found, Collection.of(batch, statistics_for([found])), params=params)


def posterior(means: Tensor, variances: Tensor) -> dict[str, Any]:
    return {"latent_means": means, "latent_log_variances": variances.log()}


def half_collapsed(n: int = 1000) -> dict[str, Tensor]:
    means = torch.cat([data.isotropic(n, 4), torch.zeros(n, 4)], dim=1)
    return posterior(means, torch.tensor([0.01] * 4 + [1.0] * 4).double().expand(n, 8))


def test_four_of_eight_latents_are_active_and_four_passive() -> None:
    found = ask(AU, 1000, **half_collapsed())
    assert (found.value, found.interval) == (0.5, (0.5, 0.5))
    assert found.detail == "4 of 8 latents are active"
    assert value(f"{AU}.passive", 1000, **half_collapsed()) == 0.5
    assert value(f"{AU}.mixed", 1000, **half_collapsed()) == 0


def test_a_latent_that_is_active_on_some_rows_only_is_mixed() -> None:
    variances = torch.full((1000, 4), 0.01).double()
    variances[:200, 0] = 1.0
    variances[:, 1] = 1.0
    given = posterior(data.isotropic(1000, 4), variances)
    assert value(f"{AU}.mixed", 1000, **given) == 0.25
    assert value(f"{AU}.passive", 1000, **given) == 0.25
    found = with_params(AU, torch.ones(1000, 2), given, mixed_from=0.2)  # above the 0.157 of that latent
    assert found[f"{AU}.mixed"].value == 0


def test_passive_latents_correlate_in_their_means_and_are_still_not_active() -> None:
    """Choosing latents by the correlation of their means would choose the passive ones."""
    common = data.isotropic(2000, 1, 1)
    tied = 0.02 * (common + 0.1 * data.isotropic(2000, 5, 2))
    means = torch.cat([data.isotropic(2000, 3), tied], dim=1)
    given = posterior(means, torch.tensor([0.01] * 3 + [1.0] * 5).double().expand(2000, 8))
    assert value(AU, 2000, **given) == pytest.approx(3 / 8)
    correlation = np.corrcoef(tied.numpy().T)[np.triu_indices(5, 1)]
    raw = float(np.mean(correlation**2))
    expected = ((raw - 1 / 1999) / (1 - 1 / 1999)) ** 0.5
    assert value(f"{AU}.mean_corr", 2000, **given) == pytest.approx(expected, abs=1e-9)
    assert expected > 0.9


def test_the_correlation_of_independent_means_is_zero_on_average() -> None:
    squares = []
    for seed in range(40):
        given = posterior(0.01 * data.isotropic(500, 4, seed), torch.ones(500, 4))
        correlation = np.corrcoef(given["latent_means"].numpy().T)[np.triu_indices(4, 1)]
        squares.append(np.mean(correlation**2) - 1 / 499)
        found = ask(f"{AU}.mean_corr", 500, **given)
        assert found.interval is not None
        assert found.interval[0] == 0
    assert np.mean(squares) == pytest.approx(0, abs=3 * np.std(squares) / 40**0.5)


def test_a_latent_near_the_threshold_is_counted_in_the_interval_only() -> None:
    means = data.orthonormal_columns(1000, torch.tensor([1.0, 0.0105, 0.0095, 0.0001]).double())
    found = ask(AU, 1000, latent_means=means)
    assert found.interval == (0.25, 0.75)


def latents(seed: int, n: int = 700) -> dict[str, Any]:
    scales = torch.logspace(-2.2, 0, 40).double()
    means = (data.isotropic(n, 40, seed) + 0.5 * data.isotropic(n, 1, seed + 70_000)) * scales
    level, wobble = torch.linspace(1.02, 0.75, 40).double(), torch.linspace(0.0, 0.3, 40).double()
    wobble[::2] = 0.02
    return posterior(means, (level + wobble * data.isotropic(n, 40, seed + 140_000)).clamp_min(0.01))


def test_intervals_of_counts_hold_the_population() -> None:
    large = latents(1, 200_000)
    truth = {name: value(name, 200_000, **large) for name in (AU, f"{AU}.mixed", f"{AU}.passive")}
    held = dict.fromkeys(truth, 0)
    for seed in range(200):
        for name, found in measure(torch.ones(700, 2), metrics=[AU], **latents(seed)).items():
            if name in truth and found.interval is not None:
                held[name] += found.interval[0] - 1e-9 <= truth[name] <= found.interval[1] + 1e-9
    assert min(held.values()) >= 184, held


def test_without_log_variances_activity_is_all_that_is_known() -> None:
    found = measure(torch.ones(600, 2), metrics=[AU], latent_means=data.isotropic(600, 3))
    assert found[AU].value == 1
    for readout in ("mixed", "passive", "mean_corr"):
        assert found[f"{AU}.{readout}"].reason == "missing_input: it needs latent_log_variances"


def test_latents_outside_the_domain_are_refused() -> None:
    found = ask(AU, 499, latent_means=data.isotropic(499, 3))
    assert (found.status, found.n_needed) == ("inconclusive", 500)
    assert found.reason == "few_rows: 499 rows; it needs at least 500"
    assert ask(AU, 600).reason == "missing_input: it needs latent_means"
    active = posterior(data.isotropic(600, 3), torch.full((600, 3), 0.1))
    assert (
        ask(f"{AU}.mean_corr", 600, **active).reason
        == "missing_input: it needs two passive latents whose means vary, found 0"
    )


@pytest.mark.parametrize(
    ("logs", "reason"),
    [
        (torch.zeros(600, 2), "shape_mismatch: latent_means have 3 columns and latent_log_variances 2"),
        (torch.full((600, 3), 800.0), "nonfinite_rows: latent_log_variances hold NaN or infinity"),
        (torch.full((600, 3), torch.nan), "nonfinite_rows: latent_log_variances hold NaN or infinity"),
    ],
)
def test_posteriors_that_make_no_sense_are_errors(logs: Tensor, reason: str) -> None:
    found = ask(AU, 600, latent_means=data.isotropic(600, 3), latent_log_variances=logs)
    assert found.status == "error"
    assert found.reason is not None
    assert found.reason.startswith(reason)


def book(size: int) -> dict[str, Tensor]:
    return {"codebook": data.isotropic(size, 6, 9)}


def test_half_of_the_codebook_used_evenly_reads_one_half() -> None:
    given = {"codes": torch.arange(8000) % 4, "weights": book(8)}
    assert value(BOOK, 8000, **given) == pytest.approx(math.exp(3 / 16_000) / 2, abs=1e-12)
    assert value(BOOK, 8000, **given) == pytest.approx(0.5001, abs=1e-4)
    assert value(f"{BOOK}.utilisation", 8000, **given) == pytest.approx(0.5)
    assert value(f"{BOOK}.dead", 8000, **given) == 0.5
    found = ask(f"{BOOK}.utilisation", 8000, **given)
    assert found.interval is not None
    assert found.interval[0] == pytest.approx(0.5)
    assert found.interval[1] < 1


def skewed(seed: int, n: int = 500, size: int = 40, per_row: int = 3) -> Tensor:
    weights = 1 / torch.arange(1, size + 1).float() ** 1.3
    codes = torch.multinomial(weights, n * per_row, replacement=True, generator=data.generator(seed))
    codes = codes.view(n, per_row)
    codes[torch.rand(n, per_row, generator=data.generator(seed + 1)) < 0.1] = -1
    return codes


def plain(codes: Tensor, size: int) -> float:
    counts = torch.bincount(codes[codes >= 0], minlength=size).numpy()
    corrected = stats.entropy(counts) + ((counts > 0).sum() - 1) / (2 * counts.sum())
    return float(np.exp(corrected) / size)


def test_the_value_is_the_entropy_of_scipy_and_its_influence_leaving_each_row_out() -> None:
    codes = skewed(0)
    found = ask(BOOK, 500, codes=codes, weights=book(40))
    assert found.value == pytest.approx(plain(codes, 40), abs=1e-12)
    assert found.influence is not None
    keep = torch.ones(500, dtype=torch.bool)
    changes = []
    for row in map(int, found.influence.ids):
        keep[row] = False
        changes.append(math.log(plain(codes, 40) / plain(codes[keep], 40)) * 499)
        keep[row] = True
    expected = plain(codes, 40) * (np.array(changes) - np.mean(changes))
    np.testing.assert_allclose(found.influence.values.numpy(), expected, atol=1e-9)


def test_the_largest_code_seen_is_no_codebook() -> None:
    codes = torch.arange(8000) % 4
    for readout in ("", ".utilisation", ".dead"):
        found = ask(BOOK + readout, 8000, codes=codes)
        assert found.reason == "missing_input: it needs the number of codes: the codebook, or the parameter size"
    assert ask(f"{BOOK}.codebook_erank", 8000, codes=codes).reason == "missing_input: it needs the codebook"


def collected(codes: Tensor, weights: dict[str, Tensor], **params: Any) -> dict[str, Estimate]:
    return with_params(BOOK, torch.ones(len(codes), 2), {"codes": codes, "weights": weights}, **params)


def test_the_size_can_be_a_parameter_and_must_be_that_of_the_codebook() -> None:
    codes = torch.arange(8000) % 4
    assert collected(codes, {}, size=8)[BOOK].value == pytest.approx(0.5001, abs=1e-4)
    found = collected(codes, book(8), size=9)[BOOK]
    assert (found.status, found.reason) == (
        "error",
        "shape_mismatch: the codebook has 8 codes, the parameter size is 9",
    )
    assert collected(codes[:800] % 3, book(4), min_count=200)[f"{BOOK}.dead"].value == 0.25
    assert collected(codes[:800] % 3, book(4), min_count=201)[f"{BOOK}.dead"].value == 0.75


@pytest.mark.parametrize("odd", [8, 10**15, -2])
def test_a_code_outside_the_codebook_is_an_error(odd: int) -> None:
    codes = torch.arange(8000) % 4
    codes[17] = odd
    found = ask(BOOK, 8000, codes=codes, weights=book(8))
    assert found.status == "error"
    assert found.reason == f"codes must be -1 (none) or lie in 0 to 7 for 8 codes, found {odd}"


def test_too_few_assignments_are_inconclusive() -> None:
    """At N = 1000, K = 512 a uniform code would read 0.745 plain, and only 0.858 of the codes occur."""
    uniform = torch.randint(0, 512, (1000,), generator=data.generator(0))
    found = ask(BOOK, 1000, codes=uniform, weights=book(512))
    assert (found.status, found.n_needed) == ("inconclusive", 5120)
    assert found.reason == "few_assignments: 1000 assignments to 512 codes; it needs at least 5120"
    none = ask(BOOK, 300, codes=torch.full((300,), -1), weights=book(8))
    assert none.reason == "few_assignments: 0 assignments to 8 codes; it needs at least 80"


def test_a_uniform_code_reads_one_where_the_plain_form_reads_its_bias() -> None:
    corrected, raw, used = [], [], []
    for seed in range(20):
        codes = torch.randint(0, 512, (1024, 5), generator=data.generator(seed))
        corrected.append(value(BOOK, 1024, codes=codes, weights=book(512)))
        used.append(value(f"{BOOK}.utilisation", 1024, codes=codes, weights=book(512)))
        raw.append(np.exp(stats.entropy(np.bincount(codes.flatten().numpy()))) / 512)
    assert np.mean(raw) == pytest.approx(math.exp(-511 / (2 * 5120)), abs=0.003)
    assert np.mean(corrected) == pytest.approx(1, abs=0.003)
    assert np.mean(used) == pytest.approx(1, abs=1e-3)


def test_rows_without_a_code_do_not_count() -> None:
    codes = torch.arange(8000) % 4
    gaps = torch.stack([codes, torch.full_like(codes, -1)], dim=1)
    for readout in ("", ".utilisation", ".dead"):
        expected = value(BOOK + readout, 8000, codes=codes, weights=book(8))
        assert value(BOOK + readout, 8000, codes=gaps, weights=book(8)) == expected


def test_the_rank_of_the_codebook_is_its_entropy_rank_and_certain() -> None:
    vectors = data.orthonormal_columns(64, torch.tensor([4.0, 2.0, 1.0, 1.0]).double())
    found = ask(f"{BOOK}.codebook_erank", 100, codes=torch.zeros(100).long(), weights={"codebook": vectors})
    expected = math.exp(float(stats.entropy([4, 2, 1, 1])))
    assert found.value == pytest.approx(expected)
    assert found.interval == pytest.approx((expected, expected))
    same = ask(f"{BOOK}.codebook_erank", 100, codes=torch.zeros(100).long(), weights={"codebook": torch.ones(4, 2)})
    assert same.reason == "ill_conditioned: all 4 vectors of the codebook are equal"


def test_dependent_codes_of_one_row_widen_the_interval() -> None:
    single = torch.randint(0, 16, (2000, 1), generator=data.generator(0))
    once = ask(BOOK, 2000, codes=single, weights=book(16))
    five = ask(BOOK, 2000, codes=single.expand(2000, 5).contiguous(), weights=book(16))
    assert once.standard_error is not None
    assert five.standard_error == pytest.approx(once.standard_error, rel=0.02)


def used_codes(kind: str, seed: int) -> Tensor:
    shares = {
        "skewed": 1 / torch.arange(1, 65).float() ** 1.2,
        "uniform": torch.ones(64),
        "half": (torch.arange(64) < 32).float(),
    }
    codes = torch.multinomial(
        shares[kind.partition(" ")[0]], 3200, replacement=True, generator=data.generator(seed * 31 + 7)
    )
    codes = codes.view(800, 4)
    if "tied" in kind:
        tied = torch.rand(800, 4, generator=data.generator(seed * 31 + 8)) < 0.5
        codes = torch.where(tied, codes[:, :1], codes)
    return codes


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["skewed", "uniform", "half", "skewed tied"])
def test_intervals_cover(kind: str) -> None:
    draws: dict[str, list[tuple[float, float, float]]] = {BOOK: [], f"{BOOK}.utilisation": [], f"{BOOK}.dead": []}
    for seed in range(250):
        found = measure(torch.ones(800, 2), metrics=[BOOK], codes=used_codes(kind, seed), weights=book(64))
        for name, rows in draws.items():
            interval = found[name].interval
            assert interval is not None
            rows.append((found[name].value or 0.0, *interval))
    for name, rows in draws.items():
        values, low, high = np.array(rows).T
        share = np.mean((low <= values.mean() + 1e-9) & (values.mean() - 1e-9 <= high))
        assert share >= 0.915, (name, share)
        assert share <= 0.985 or name != BOOK or kind in ("uniform", "half"), (name, share)


@pytest.mark.slow
def test_intervals_of_the_correlation_of_means_cover() -> None:
    found = [ask(f"{AU}.mean_corr", 700, **latents(seed)) for seed in range(250)]
    centre = np.mean([each.value for each in found if each.value is not None])
    held = [low <= centre <= high for low, high in (each.interval for each in found if each.interval is not None)]
    assert 0.92 <= np.mean(held) <= 0.985


def test_influence_of_the_correlation_of_means_predicts_what_leaving_rows_out_does() -> None:
    given: dict[str, Any] = {"features": torch.ones(700, 2), **latents(3)}
    name = f"{AU}.mean_corr"
    found = measure(metrics=[name], ids=list(range(700)), **given)[name]
    assert found.influence is not None
    order = found.influence.values.argsort(descending=True)[:14]
    gone = {int(found.influence.ids[place]) for place in order}
    kept = [row for row in range(700) if row not in gone]
    left = measure(metrics=[name], ids=kept, **inputs.taken(given, kept))[name]
    predicted = -float(found.influence.values[order].sum()) / len(kept)
    assert (left.value or 0) - (found.value or 0) == pytest.approx(predicted, rel=0.2)


def batches(cuts: list[int]) -> list[Batch]:
    means, codes = 1e4 + data.isotropic(997, 5), skewed(5, 997)
    logs = -3 + data.isotropic(997, 5, 1)
    edges = itertools.pairwise([0, *cuts, 997])
    return [
        Batch.of(
            torch.ones(b - a, 1),
            ids=[str(row) for row in range(a, b)],
            codes=codes[a:b],
            latent_means=means[a:b],
            latent_log_variances=logs[a:b],
        )
        for a, b in edges
    ]


@pytest.mark.parametrize("cuts", [[500], [1, 2, 3, 990], list(range(1, 12))], ids=["halves", "uneven", "single rows"])
@pytest.mark.parametrize("kind", [LatentMoments, PosteriorVariances])
def test_merging_moments_of_any_split_equals_one_pass(kind: Any, cuts: list[int]) -> None:
    whole = kind.of(batches([])[0])
    parts = [kind.of(batch) for batch in batches(cuts)]
    for found in (reduce(kind.merge, parts), reduce(kind.merge, parts[::-1])):
        assert found.n == whole.n
        torch.testing.assert_close(found.mean, whole.mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(found.covariance, whole.covariance, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cuts", [[500], [1, 2, 3, 990], list(range(1, 12))], ids=["halves", "uneven", "single rows"])
def test_merging_counts_of_any_split_equals_one_pass(cuts: list[int]) -> None:
    whole = CodeCounts.of(batches([])[0])
    parts = [CodeCounts.of(batch) for batch in batches(cuts)]
    for found in (reduce(CodeCounts.merge, parts), reduce(CodeCounts.merge, parts[::-1])):
        assert (found.n, found.assignments, found.used) == (997, whole.assignments, whole.used)
        assert torch.equal(found.codes, whole.codes)
        assert torch.equal(found.counts, whole.counts)
        torch.testing.assert_close(found.shares, whole.shares)
    assert int(whole.counts.sum()) == int((skewed(5, 997) >= 0).sum())


def test_posterior_variances_are_those_of_numpy() -> None:
    batch = batches([])[0]
    expected = np.exp(batch.numbers("latent_log_variances").numpy())
    found = PosteriorVariances.of(batch)
    np.testing.assert_allclose(found.mean.numpy(), expected.mean(axis=0))
    np.testing.assert_allclose(found.covariance.numpy(), np.cov(expected.T, bias=True), atol=1e-12)
