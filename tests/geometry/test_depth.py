"""Lengths and tokens: golden values, loops over pairs of tokens, confounding, refusals."""

from __future__ import annotations

import itertools
import math
from functools import reduce
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gate.errors import MetricError
from gate.estimate import Estimate
from gate.geometry.statistics import (
    Batch,
    LengthMoments,
    TokenCentres,
    TokenMeans,
    attention_filter,
    dirichlet_energy,
    token_means,
    token_terms,
)
from gate.geometry.statistics.lengths import length_bins, shortest
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


def tok(s: float, t: int, d: int, seed: int = 0) -> Tensor:
    """Tokens sqrt(s) v + sqrt(1 - s) o_t, all orthonormal."""
    turned = data.rotation(d, seed)
    return math.sqrt(s) * turned[0] + math.sqrt(1 - s) * turned[1 : t + 1]


def test_rows_that_share_a_direction_when_long_have_collapsed_by_its_share() -> None:
    """The bins have 64 rows: below 50 there is no answer."""
    rows = torch.cat([data.rotation(128, 1)[:64], tok(0.6, 64, 128)])
    lengths = [10.0] * 64 + [80.0] * 64
    found = ask(rows, "length_collapse", lengths=lengths)
    assert found.value == pytest.approx(0.6, abs=1e-9)
    assert found.breakdown == pytest.approx({"long": 0.6, "short": 0.0}, abs=1e-9)
    assert "confounded with content" in str(found.detail)
    few = ask(torch.cat([rows[:32], rows[64:96]]), "length_collapse", lengths=lengths[:32] + lengths[64:96])
    assert "small_group: 32 rows are short or long; it needs at least 50" in str(few.reason)


def test_the_ends_are_close_to_thirds_of_the_rows() -> None:
    lengths = torch.exp2(8 * torch.rand(3000, generator=data.generator(0)))
    found = ask(data.isotropic(3000, 4), "length_collapse", lengths=lengths)
    sizes = [int(part.split("(")[1].split()[0]) for part in str(found.detail).split(";")[0].split(", long")]
    assert all(abs(size - 1000) < 50 for size in sizes)


def test_bins_are_eighths_of_a_doubling_in_order() -> None:
    bins = length_bins(torch.tensor([0.3, 1.0, 2.0, 2.17, 2.19, 1024.0]))
    assert bins.values.tolist() == [0, 1, 2, 2, 3, 4]
    assert [shortest(name) for name in bins.names[1:]] == pytest.approx([1, 2, 2 * 2**0.125, 1024])


def test_length_without_effect_reads_zero_on_average() -> None:
    found = []
    for seed in range(30):
        lengths = torch.randint(4, 400, (300,), generator=data.generator(seed + 90)).double()
        found.append(value(data.isotropic(300, 8, seed) + 0.5, "length_collapse", lengths=lengths))
    assert abs(float(np.mean(found))) < 3.5 * float(np.std(found)) / math.sqrt(30)


def test_length_that_goes_with_topic_is_called_confounded_and_truncation_tells() -> None:
    """Trap 46: long documents are of one topic; nothing depends on length itself."""
    topics = 3 * data.rotation(16, 3)[:2]
    topic = (torch.arange(400) >= 200).long()
    content = torch.where(topic[:, None] > 0, topics[0] + data.isotropic(400, 16), 2 * data.isotropic(400, 16, 1))
    natural = ask(content, "length_collapse", lengths=torch.where(topic > 0, 256.0, 16.0))
    assert natural.value is not None
    assert natural.value > 0.2
    assert "confounded with content" in str(natural.detail)
    strangers = [row // 2 for row in range(400)]  # documents, but none is both short and long
    named = {"lengths": torch.where(topic > 0, 256.0, 16.0), "clusters": strangers}
    assert "confounded with content" in str(ask(content, "length_collapse", **named).detail)
    both = torch.cat([content, content])
    lengths = [16.0] * 400 + [256.0] * 400
    truncated = ask(both, "length_collapse", lengths=lengths, clusters=[row % 400 for row in range(800)])
    assert truncated.value == pytest.approx(0, abs=1e-12)
    assert "content matched" in str(truncated.detail)


def test_the_slope_is_that_of_least_squares() -> None:
    g = data.generator(4)
    lengths = torch.randint(4, 300, (600,), generator=g).double()
    rows = data.isotropic(600, 6)
    rows[:, 0] += 0.5 * lengths.log2()
    units = rows / rows.norm(dim=1, keepdim=True)
    mean = units.mean(dim=0)
    expected = np.polyfit(np.log2(lengths.numpy()), (units @ mean / mean.norm()).numpy(), 1)[0]
    assert value(rows, "length_collapse.slope", lengths=lengths) == pytest.approx(expected, abs=1e-9)
    aimless = data.orthonormal_columns(600, torch.ones(6).double())
    assert "do not tell their mean direction" in str(ask(aimless, "length_collapse.slope", lengths=lengths).reason)


def test_the_rank_ratio_is_that_of_the_two_ends() -> None:
    flat = torch.cat([torch.ones(4), torch.zeros(12)]).double()
    rows = torch.cat([data.orthonormal_columns(300, torch.ones(16).double()), data.orthonormal_columns(300, flat, 1)])
    found = value(rows, "length_collapse.erank_ratio", lengths=[8.0] * 300 + [64.0] * 300)
    ends = [value(part, "participation_ratio") for part in (rows[300:], rows[:300])]
    assert found == pytest.approx(ends[0] / ends[1], rel=1e-9)
    assert found == pytest.approx(0.25, rel=0.05)


def test_tokens_alike_in_kind_vary_alike_at_any_number() -> None:
    g = data.generator(5)
    states = torch.randn(400, 64, 24, generator=g)
    counts = torch.where(torch.arange(400) < 200, 8, 64)
    mask = torch.arange(64) < counts[:, None]
    columns = {"lengths": counts.double(), "tokens": {"last": states}, "token_mask": mask}
    found = ask(data.isotropic(400, 4), "length_collapse.hf", **columns)
    assert found.value == pytest.approx(0, abs=0.02)
    assert found.breakdown == pytest.approx({"long": 1.0, "short": 1.0}, abs=0.02)
    smooth = states.clone()
    smooth[200:] += 3 * torch.randn(200, 1, 24, generator=g)
    less = value(data.isotropic(400, 4), "length_collapse.hf", **{**columns, "tokens": {"last": smooth}})
    assert less < -0.3
    passed = torch.where(counts == 8, 0.9, 0.2).double()
    lost = value(data.isotropic(400, 4), "length_collapse.filter", lengths=counts.double(), attention_filter=passed)
    assert lost == pytest.approx(-0.7)


def test_lengths_that_cannot_be_read_are_refused() -> None:
    rows = data.isotropic(300, 4)
    assert "lengths must be positive" in str(ask(rows, "length_collapse", lengths=[0.0] + [5.0] * 299).reason)
    assert "all lengths lie within an eighth" in str(ask(rows, "length_collapse", lengths=[5.0] * 300).reason)
    two = {"lengths": [4.0] * 150 + [64.0] * 150}
    assert "it needs tokens" in str(ask(rows, "length_collapse.hf", **two).reason)
    assert "it needs attention_filter" in str(ask(rows, "length_collapse.filter", **two).reason)
    broken = [math.nan] * 300
    assert "NaN" in str(ask(rows, "length_collapse.filter", attention_filter=broken, **two).reason)
    short = {"tokens": {"last": torch.ones(300, 3, 2)}, **two}
    assert "0 long rows have at least 4 tokens" in str(ask(rows, "length_collapse.hf", **short).reason)
    assert "rows are zero" in str(ask(0 * rows, "length_collapse", **two).reason)


def test_tokens_that_share_a_direction_have_its_share_as_mean_cosine() -> None:
    states = torch.stack([tok(0.6, 16, 64, seed) for seed in range(200)])
    rows = data.isotropic(200, 4)
    assert value(rows, "token_mean_cosine", tokens={"last": states}) == pytest.approx(0.6, abs=1e-9)
    diversity = value(rows, "token_mean_cosine.diversity", tokens={"last": states})
    assert diversity == pytest.approx(math.sqrt(0.4 * 15 / 16), abs=1e-9)
    assert diversity == pytest.approx(0.612372, abs=1e-6)
    assert value(rows, "token_mean_cosine.pairs09", tokens={"last": states}) == 0


def test_terms_are_those_of_all_pairs_of_real_tokens() -> None:
    g = data.generator(1)
    states = torch.randn(7, 9, 3, generator=g) + torch.tensor([1.0, 0.5, 0.0])
    mask = torch.rand(7, 9, generator=g) < 0.8
    states[~mask] = torch.nan
    states[0, 0] = 0
    mask[0, 0] = True
    outputs = torch.rand(7, 9, generator=g) < 0.7
    terms = token_terms(states, mask, outputs)
    means = token_means(states, mask)
    for row in range(7):
        real = [t for t in range(9) if mask[row, t] and bool(states[row, t].any())]
        tokens = states[row, real].double().numpy()
        pairs = [np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in itertools.combinations(tokens, 2)]
        spoken = states[row, [t for t in real if outputs[row, t]]].double().numpy()
        assert terms[row, 0] == len(real)
        assert terms[row, 5] == len(spoken)
        if len(real) < 4:
            assert not terms[row, 1:4].any()
            continue
        assert float(terms[row, 1]) == pytest.approx(np.mean(pairs))
        assert float(terms[row, 2]) == pytest.approx(np.mean(np.array(pairs) > 0.9))
        assert float(terms[row, 3]) == pytest.approx(((tokens - tokens.mean(axis=0)) ** 2).sum())
        assert float(terms[row, 4]) == pytest.approx((tokens**2).sum())
        if row > 0:
            np.testing.assert_allclose(means[row].numpy(), tokens.mean(axis=0))
        if len(spoken) >= 4:
            units = spoken / np.linalg.norm(spoken, axis=1, keepdims=True)
            upper = (units @ units.T)[np.triu_indices(len(units), 1)]
            assert float(terms[row, 6]) == pytest.approx(upper.mean())


def test_many_tokens_are_counted_on_evenly_spaced_ones() -> None:
    states = torch.zeros(1, 1000, 2)
    states[0, :, 0] = 1
    states[0, 500:, 0], states[0, 500:, 1] = 0, 1
    share = float(token_terms(states)[0, 2])
    assert share == pytest.approx(0.5, abs=0.01)


def columns_of(n: int = 400, t: int = 12, d: int = 6, offset: float = 0.0, seed: int = 0) -> dict[str, Any]:
    g = data.generator(seed)
    content = torch.randn(n, 1, d, generator=g)
    early = 0.2 * content + torch.randn(n, t, d, generator=g) + offset
    late = content + torch.randn(n, t, d, generator=g) + offset
    mask = torch.arange(t) < torch.randint(1, t + 1, (n, 1), generator=g)
    return {"tokens": {"early": early, "late": late}, "token_mask": mask}


def test_a_common_offset_is_not_smoothing() -> None:
    """Trap 28: every token moves by the same vector; the raw cosine rises to 1, the mean-removed share stays."""
    rows = data.isotropic(400, 4)
    plain, moved = columns_of(), columns_of(offset=20.0)
    assert value(rows, "token_mean_cosine", **moved) > 0.99
    assert value(rows, "token_mean_cosine", **plain) < 0.6
    share = value(rows, "token_mean_cosine.between_share", **plain)
    assert share == pytest.approx(0.5, abs=0.05)
    assert value(rows, "token_mean_cosine.between_share", **moved) == pytest.approx(share, abs=1e-4)


def test_the_share_between_inputs_is_the_intraclass_correlation() -> None:
    """One-way analysis of variance (Fisher): (MSB - MSW) / (MSB + (T - 1) MSW) for T tokens each."""
    states = columns_of()["tokens"]["late"].double()
    n, t, _ = states.shape
    means = states.mean(dim=1)
    between = t * (means - means.mean(dim=0)).square().sum() / (n - 1)
    within = (states - means[:, None]).square().sum() / (n * (t - 1))
    expected = float((between - within) / (between + (t - 1) * within))
    found = value(data.isotropic(n, 4), "token_mean_cosine.between_share", tokens={"last": states})
    assert found == pytest.approx(expected, rel=1e-6)


def test_short_inputs_are_left_out_and_counted() -> None:
    columns = columns_of()
    short = int((columns["token_mask"].sum(dim=1) < 4).sum())
    found = ask(data.isotropic(400, 4), "token_mean_cosine", **columns)
    assert f"{short} inputs with fewer than 4 tokens left out" in str(found.detail)
    kept = columns["token_mask"].sum(dim=1) >= 4
    alone = {"tokens": {"late": columns["tokens"]["late"][kept]}, "token_mask": columns["token_mask"][kept]}
    expected = ask(data.isotropic(int(kept.sum()), 4), "token_mean_cosine", **alone)
    assert found.value == pytest.approx(expected.value, abs=1e-12)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-2)
    share, other = (
        ask(data.isotropic(len(each["token_mask"]), 4), "token_mean_cosine.between_share", **each)
        for each in (columns, alone)
    )
    assert share.value == pytest.approx(other.value, abs=1e-12)


def test_dead_tokens_are_not_padding() -> None:
    rows, states = data.isotropic(1000, 4), torch.randn(1000, 8, 6, generator=data.generator(0))
    mask = torch.arange(8) < torch.full((1000, 1), 8)
    mask[:20, 3:] = False
    dead = states.clone()
    dead[500:] = 0
    for name in ("value", "diversity", "pairs09", "per_output", "low_share"):
        address = "token_mean_cosine" if name == "value" else f"token_mean_cosine.{name}"
        found = ask(rows, address, tokens={"x": dead}, token_mask=mask, baseline_tokens={"x": states})
        assert (found.status, found.value) == ("inconclusive", None)
        assert "zero_rows: 4000 of 7900 real tokens of layer 'x' are zero, and 500 of 980 inputs" in str(found.reason)
    some = states.clone()
    some[:, 0] = 0
    assert "zero_rows: 1000 of" in str(ask(rows, "token_mean_cosine", tokens={"x": some}, token_mask=mask).reason)
    few = states.clone()
    few[970:] = 0
    found = ask(rows, "token_mean_cosine", tokens={"x": few}, token_mask=mask)
    assert found.status == "ok"
    assert "20 inputs with fewer than 4 tokens left out" in str(found.detail)
    assert "30 inputs with fewer than 4 tokens that are not zero left out" in str(found.detail)
    layers = {"a": dead, "b": states}
    assert "layer 'a'" in str(ask(rows, "token_mean_cosine.rise", tokens=layers, token_mask=mask).reason)
    assert ask(rows, "token_mean_cosine", tokens=layers, token_mask=mask).status == "ok"


def test_short_inputs_hide_no_token_that_is_not_finite() -> None:
    states = torch.randn(300, 6, 3, generator=data.generator(0))
    mask = torch.ones(300, 6, dtype=torch.bool)
    mask[7, 2:] = False
    states[7, 1, 0] = torch.nan
    found = ask(data.isotropic(300, 4), "token_mean_cosine", tokens={"x": states}, token_mask=mask)
    assert "nonfinite_rows: 1 of 300 rows of tokens" in str(found.reason)
    states[7, 1, 0], states[7, 4] = 0.5, torch.inf
    assert ask(data.isotropic(300, 4), "token_mean_cosine", tokens={"x": states}, token_mask=mask).status == "ok"


def test_the_rise_is_from_the_middle_to_the_last_layer() -> None:
    columns = columns_of()
    early, late = columns["tokens"]["early"], columns["tokens"]["late"]
    rows = data.isotropic(400, 4)
    layers = {"a": torch.randn(400, 12, 6, generator=data.generator(3)), "b": early, "c": late}
    found = ask(rows, "token_mean_cosine.rise", tokens=layers)
    both = [value(rows, "token_mean_cosine", tokens={"x": each}) for each in (early, late)]
    assert found.value == pytest.approx(both[1] - both[0], abs=1e-12)
    assert found.detail == "from 'b' to 'c'"
    logs = [math.log(value(rows, "token_mean_cosine.diversity", tokens={"x": each})) for each in layers.values()]
    detail = ask(rows, "token_mean_cosine.diversity", tokens=layers).detail
    assert f"{np.polyfit(range(3), logs, 1)[0]:.3g} per named layer" in str(detail)
    assert "tokens of two layers" in str(ask(rows, "token_mean_cosine.rise", tokens={"c": late}).reason)


def test_low_diversity_is_judged_by_the_baseline() -> None:
    g = data.generator(8)
    healthy = torch.randn(400, 8, 5, generator=g)
    smooth = healthy.clone()
    smooth[:100] = torch.randn(100, 1, 5, generator=g) + 1e-3 * smooth[:100]
    rows = data.isotropic(400, 4)
    found = value(rows, "token_mean_cosine.low_share", tokens={"x": smooth}, baseline_tokens={"x": healthy})
    assert found == pytest.approx(0.25)
    broken = healthy.clone()
    broken[0] = torch.nan
    refused = ask(rows, "token_mean_cosine.low_share", tokens={"x": smooth}, baseline_tokens={"x": broken})
    assert "nonfinite_rows" in str(refused.reason)
    assert "baseline" in str(refused.reason)
    broken[:100] = 0
    refused = ask(rows, "token_mean_cosine.low_share", tokens={"x": smooth}, baseline_tokens={"x": broken})
    assert "zero_rows: 800 of 3200 real tokens of layer 'baseline x' are zero" in str(refused.reason)


def test_tokens_of_a_baseline_give_a_paired_change() -> None:
    columns = columns_of()
    rows = data.isotropic(400, 4)
    found = ask(rows, "token_mean_cosine", **columns, baseline=rows, baseline_tokens=columns["tokens"])
    assert found.change is not None
    assert found.change.value == 0


def test_generated_tokens_and_graphs_have_numbers_of_their_own() -> None:
    columns = columns_of()
    rows = data.isotropic(400, 4)
    late = columns["tokens"]["late"]
    spoken = torch.zeros(400, 12, dtype=torch.bool)
    spoken[:, 6:] = True
    found = value(rows, "token_mean_cosine.per_output", tokens={"late": late}, token_outputs=spoken)
    assert found == pytest.approx(value(rows, "token_mean_cosine", tokens={"late": late[:, 6:]}), abs=1e-12)
    path = torch.tensor([[0, 1], [1, 2]])
    laplacian = np.array([[1, -1, 0], [-1, 2, -1], [0, -1, 1]])
    nodes = late[:, :3]
    energies = [np.trace(h.T @ laplacian @ h) / np.trace(h.T @ h) for h in nodes.double().numpy()]
    terms = dirichlet_energy(nodes, path)
    np.testing.assert_allclose(terms.numpy(), energies)
    graph = value(rows, "token_mean_cosine.dirichlet", tokens={"late": late}, dirichlet=terms)
    assert graph == pytest.approx(np.mean(energies))


def test_attention_that_averages_lets_nothing_through() -> None:
    uniform, identity = torch.full((1, 2, 8, 8), 1 / 8), torch.eye(8).expand(1, 2, 8, 8)
    assert attention_filter(uniform).tolist() == pytest.approx([0], abs=1e-9)
    assert attention_filter(identity).tolist() == pytest.approx([1])
    mask = torch.tensor([[True] * 4 + [False] * 4])
    mixed = torch.softmax(torch.randn(1, 1, 8, 8, generator=data.generator(2)), dim=-1)
    real = mixed[0, 0, :4, :4].double().numpy()
    expected = np.linalg.svd((np.eye(4) - 1 / 4) @ real)[1][0]
    assert attention_filter(mixed, mask).tolist() == pytest.approx([expected])


def test_tokens_that_admit_no_answer_are_refused() -> None:
    rows = data.isotropic(300, 4)
    states = torch.randn(300, 6, 3, generator=data.generator(0))
    tokens = {"last": states}
    reason = ask(rows[:150], "token_mean_cosine", tokens={"last": states[:150]}).reason
    assert "few_rows: 150 of 150 inputs have at least 4 tokens; it needs at least 200" in str(reason)
    assert "missing_input: it needs tokens" in str(ask(rows, "token_mean_cosine").reason)
    for name, missing in (("low_share", "baseline_tokens"), ("dirichlet", "dirichlet"), ("per_output", "generated")):
        assert missing in str(ask(rows, f"token_mean_cosine.{name}", tokens=tokens).reason)
    terms = {"last": token_terms(states)}
    assert "it needs token_mean" in str(ask(rows, "token_mean_cosine.between_share", tokens=terms).reason)
    alike = {"last": torch.ones(300, 6, 3)}
    assert "saturated" in str(ask(rows, "token_mean_cosine.between_share", tokens=alike).reason)
    rare = torch.zeros(300, 6, dtype=torch.bool)
    rare[:50] = True
    few = ask(rows, "token_mean_cosine.per_output", tokens=tokens, token_outputs=rare)
    assert "50 inputs have at least 4 generated tokens" in str(few.reason)
    broken = states.clone()
    broken[7, 2, 1] = torch.nan
    assert "nonfinite_rows: 1 of 300 rows of tokens" in str(ask(rows, "token_mean_cosine", tokens={"x": broken}).reason)
    graph = ask(rows, "token_mean_cosine.dirichlet", tokens=tokens, dirichlet=[math.nan] * 300)
    assert "nonfinite_rows: 300 of 300 rows of dirichlet" in str(graph.reason)
    with pytest.raises(
        MetricError, match=r"token_mask must have one entry for each token, \(300, 6\), found \(300, 5\)"
    ):
        ask(rows, "token_mean_cosine", tokens=tokens, token_mask=torch.ones(300, 5))
    with pytest.raises(MetricError, match="token_outputs must have one entry"):
        ask(rows, "token_mean_cosine", tokens=tokens, token_outputs=torch.ones(300, 5))
    with pytest.raises(MetricError, match=r"token states must be \(n, T, d\)"):
        token_terms(torch.ones(3, 4))


@pytest.mark.parametrize("kind", [LengthMoments, TokenMeans, TokenCentres])
@pytest.mark.parametrize("cuts", [[150], [1, 2, 290], list(range(1, 9))])
def test_merging_any_split_equals_one_pass(kind: Any, cuts: list[int]) -> None:
    columns = columns_of(300, offset=100.0)
    layers = {name: token_terms(states, columns["token_mask"]) for name, states in columns["tokens"].items()}
    centres = token_means(columns["tokens"]["late"], columns["token_mask"])
    rows = data.isotropic(300, 5) + 100
    lengths = torch.randint(1, 200, (300,), generator=data.generator(1)).double()

    def part(a: int, b: int) -> Batch:
        ids = [str(row) for row in range(a, b)]
        tokens = {name: terms[a:b] for name, terms in layers.items()}
        return Batch.of(rows[a:b], ids=ids, lengths=lengths[a:b], tokens=tokens, token_mean=centres[a:b])

    parts = [kind.of(part(a, b)) for a, b in itertools.pairwise([0, *cuts, 300])]
    whole = kind.of(part(0, 300))
    assert_same(reduce(kind.merge, parts), whole)
    assert_same(reduce(kind.merge, reversed(parts)), whole)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_intervals_cover_the_mean_of_their_estimator() -> None:
    draws: dict[str, list[tuple[float, float, float]]] = {}
    spread = torch.arange(1, 13).float() ** -0.5
    for seed in range(200):
        g = data.generator(seed + 7000)
        lengths = torch.tensor([8.0, 16.0, 64.0])[torch.randint(0, 3, (700,), generator=g)]
        rows = torch.randn(700, 12, generator=g) * spread
        rows[:, 0] += 0.4 * lengths.log2()
        columns = columns_of(700, seed=seed)
        columns["token_outputs"] = torch.rand(700, 12, generator=g) < 0.8
        more: dict[str, Any] = {"lengths": lengths, "attention_filter": torch.rand(700, generator=g)}
        asked = ["length_collapse", "token_mean_cosine"]
        for name, found in measure(rows, metrics=asked, seed=seed, **columns, **more).items():
            if found.value is not None and found.interval is not None:
                draws.setdefault(name, []).append((found.value, *found.interval))
    assert len(draws) == 12
    for name, seen in draws.items():
        table = torch.tensor(seen, dtype=torch.float64)
        target = table[:, 0].mean()
        share = ((table[:, 1] <= target) & (target <= table[:, 2])).double().mean().item()
        assert 0.905 <= share <= 0.985, (name, share)
