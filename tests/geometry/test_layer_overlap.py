"""What the token states of two layers span: angles from SciPy, closed forms, padding, ranks, refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import orth, subspace_angles
from torch import Tensor
from torch.profiler import profile

from gate.errors import MetricError
from gate.estimate import Estimate
from gate.geometry.statistics import step_terms
from gate.measurement import measure
from tests.geometry import data

NAME = "token_mean_cosine.layer_overlap"
N, T = 240, 14


def ask(layers: dict[str, Tensor], name: str = NAME, **more: Any) -> Estimate:
    n = len(next(iter(layers.values())))
    return measure(data.isotropic(n, 4), metrics=[name], tokens=layers, **more)[name]


def value(layers: dict[str, Tensor], **more: Any) -> float:
    found = ask(layers, **more)
    assert found.status == "ok", found.reason
    assert found.value is not None
    return found.value


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=data.generator(seed), dtype=torch.float64)


def masked(seed: int = 0) -> Tensor:
    return torch.arange(T) < torch.randint(9, T + 1, (N, 1), generator=data.generator(seed))


def test_terms_are_those_of_the_angles_of_scipy() -> None:
    """SciPy goes over sines and cosines of single angles; the ranks are those of its bases."""
    before, after = noise(30, T, 3), noise(30, T, 5, seed=1)
    after[:, :, 4] = after[:, :, 0] - 2 * after[:, :, 1]
    after[3, :, 1:] = 0
    mask = masked(2)[:30]
    terms = step_terms({"a": before, "b": after}, mask)["b"]
    for row, kept in enumerate(mask):
        first, second = (orth(states[row, kept].numpy()) for states in (before, after))
        angles = subspace_angles(first, second)
        expected = [int(kept.sum()), first.shape[1], second.shape[1], np.mean(np.cos(angles) ** 2)]
        assert terms[row].tolist() == pytest.approx(expected, abs=1e-12)
    assert terms[0, 2] == 4
    assert terms[3, 2] == 1


def test_one_space_reads_one_orthogonal_ones_zero_and_an_angle_its_cosine_squared() -> None:
    before = noise(N, T, 4)
    mixed = before @ noise(N, 4, 4, seed=1)
    assert value({"a": before, "b": mixed}) == pytest.approx(1, abs=1e-12)
    assert value({"a": before, "b": mixed[:, :, :2]}) == pytest.approx(1, abs=1e-12)  # one holds the other
    turned = data.rotation(T, 5).double()
    plane = turned[:2].T.expand(N, T, 2)
    assert value({"a": plane, "b": turned[2:5].T.expand(N, T, 3)}) == pytest.approx(0, abs=1e-12)
    angle = 0.7
    tilted = torch.stack([turned[0], math.cos(angle) * turned[1] + math.sin(angle) * turned[2]], dim=1)
    tilted = tilted @ noise(2, 2, seed=3)
    expected = (1 + math.cos(angle) ** 2) / 2
    assert value({"a": plane, "b": tilted.expand(N, T, 2)}) == pytest.approx(expected, abs=1e-12)


def test_unrelated_layers_read_the_larger_rank_over_the_tokens_and_the_detail_says_so() -> None:
    found = ask({"a": noise(2000, T, 3), "b": noise(2000, T, 6, seed=1)})
    assert found.value == pytest.approx(6 / T, abs=0.01)
    assert f"layers that have nothing to do with each other would read {6 / T:.3g}" in str(found.detail)


def test_it_is_a_mean_over_steps_and_inputs_with_the_error_of_one() -> None:
    layers = {name: noise(N, T, d, seed=d) for name, d in (("a", 2), ("b", 4), ("c", 3))}
    terms = step_terms(layers)
    each = (terms["b"][:, 3] + terms["c"][:, 3]) / 2
    found = ask(layers)
    assert found.value == pytest.approx(each.mean().item(), abs=1e-12)
    assert found.standard_error == pytest.approx(each.std().item() / math.sqrt(N), rel=1e-9)
    assert found.breakdown == pytest.approx({name: terms[name][:, 3].mean().item() for name in ("b", "c")}, abs=1e-12)
    twice = {name: states.repeat(2, 1, 1) for name, states in layers.items()}
    clustered = ask(twice, clusters=list(range(N)) * 2)
    assert clustered.value == pytest.approx(found.value, abs=1e-12)
    assert clustered.standard_error == pytest.approx(found.standard_error, rel=0.01)


def test_channels_may_be_mixed_but_tokens_not() -> None:
    layers = {"a": noise(N, T, 4), "b": noise(N, T, 4, seed=1)}
    plain = value(layers)
    mixed = {name: states @ noise(4, 4, seed=7) for name, states in layers.items()}
    assert value(mixed) == pytest.approx(plain, abs=1e-10)
    assert value({**layers, "b": 1e-9 * layers["b"]}) == pytest.approx(plain, abs=1e-12)
    order = torch.randperm(T, generator=data.generator(3))
    assert value({name: states[:, order] for name, states in layers.items()}) == pytest.approx(plain, abs=1e-12)
    moved = {name: states + 3 for name, states in layers.items()}
    assert abs(value(moved) - plain) > 0.01
    scaled = {**layers, "b": layers["b"] * torch.linspace(0.1, 3, T)[:, None]}
    assert abs(value(scaled) - plain) > 0.001


def test_padding_is_ignored_whatever_it_holds() -> None:
    layers = {"a": noise(N, T, 3), "b": noise(N, T, 4, seed=1)}
    mask = masked()
    filled = {name: states.masked_fill(~mask[:, :, None], torch.nan) for name, states in layers.items()}
    terms = step_terms(filled, mask)["b"]
    for row in range(0, N, 40):
        alone = {name: states[row : row + 1, mask[row]] for name, states in layers.items()}
        assert terms[row].tolist() == pytest.approx(step_terms(alone)["b"][0].tolist(), abs=1e-12)
    found = ask(filled, token_mask=mask)
    assert found.value == pytest.approx(terms[:, 3].mean().item(), abs=1e-12)
    order = torch.randperm(N, generator=data.generator(4))
    shuffled = {name: states[order] for name, states in filled.items()}
    assert value(shuffled, token_mask=mask[order]) == pytest.approx(found.value, abs=1e-12)
    forgotten = {name: states.masked_fill(~mask[:, :, None], 0) for name, states in layers.items()}
    assert "zero_rows" in str(ask(forgotten).reason)


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_rounding_is_no_direction(kind: torch.dtype) -> None:
    """Rank 2 in 8 channels: what storing the states adds to it would be six directions of noise."""
    before, after = (noise(N, 40, 2, seed=s) @ data.rotation(8, s)[:2].double() for s in (1, 2))
    terms = step_terms({"a": before.to(kind), "b": after.to(kind)})["b"]
    exact = step_terms({"a": before, "b": after})["b"]
    assert terms[:, :3].tolist() == [[40, 2, 2]] * N
    assert (terms[:, 3] - exact[:, 3]).abs().max() < 0.03
    assert (terms[:, 3] - exact[:, 3]).mean().abs() < 1e-3


def test_states_that_span_all_of_their_tokens_have_no_angle() -> None:
    """T = 4 tokens of 6 channels: any two layers would read 1."""
    layers = {"a": noise(N, 4, 6), "b": noise(N, 4, 6, seed=1)}
    assert step_terms(layers)["b"][:, 3].tolist() == pytest.approx([1.0] * N)
    found = ask(layers)
    assert (found.status, found.value) == ("not_applicable", None)
    assert "saturated: the states of every input span all of its tokens" in str(found.reason)
    narrow = {"a": noise(N, T, 6), "b": noise(N, T, 6, seed=1)}
    mask = torch.ones(N, T, dtype=torch.bool)
    mask[:100, 6:] = False
    mask[100:110, 3:] = False
    few = ask(narrow, token_mask=mask)
    assert (few.status, few.n_needed) == ("inconclusive", math.ceil(200 * N / 130))
    assert "few_rows: 130 of 240 inputs have angles; it needs at least 200" in str(few.reason)
    assert "10 with fewer than 4 tokens, 0 with no state but zero at a layer, 100 whose states" in str(few.reason)
    mask[:80] = True
    kept = mask.all(dim=1)
    some = ask(narrow, token_mask=mask)
    each = step_terms(narrow)["b"][kept, 3]
    assert some.value == pytest.approx(each.mean().item(), abs=1e-12)
    assert some.standard_error == pytest.approx(each.std().item() / math.sqrt(len(each)), rel=0.01)
    assert "left out: 10 with fewer than 4 tokens" in str(some.detail)
    assert "20 whose states span all of their tokens" in str(some.detail)


def test_states_of_zero_have_no_angle() -> None:
    layers = {"a": noise(N, T, 3), "b": noise(N, T, 4, seed=1)}
    dead = {**layers, "a": layers["a"].clone()}
    dead["a"][:5] = 0
    assert step_terms(dead)["b"][:5].tolist() == [[T, 0, 4, 0]] * 5
    found = ask(dead)
    assert found.value == pytest.approx(step_terms(layers)["b"][5:, 3].mean().item(), abs=1e-12)
    assert "5 with no state but zero at a layer" in str(found.detail)
    dead["a"][:50] = 0
    found = ask(dead)
    assert (found.status, found.value) == ("inconclusive", None)
    assert "real tokens of layer 'a' are zero" in str(found.reason)
    silent = {name: states.clone() for name, states in layers.items()}
    for states in silent.values():
        states[:, 0] = 0  # a token that no layer says anything of is none
    assert step_terms(silent)["b"][:, 0].tolist() == [T - 1] * N


def test_states_that_are_not_finite_are_refused() -> None:
    layers = {"a": noise(N, T, 3), "b": noise(N, T, 4, seed=1)}
    layers["a"][7, 2, 1] = torch.inf
    assert step_terms(layers)["b"][7].isnan().all()
    assert "nonfinite_rows" in str(ask(layers).reason)


def test_without_states_of_two_layers_it_is_not_applicable() -> None:
    one, other = noise(N, T, 3), noise(N, T, 3, seed=1)
    for layers in ({"a": one}, {"a": one, "b": other[:, :9]}, {"a": noise(N, 8), "b": other}):
        found = ask(layers)
        assert (found.status, found.value) == ("not_applicable", None)
        assert "missing_input: it needs states of two layers or more, of the same tokens" in str(found.reason)
    with pytest.raises(MetricError, match=r"layers must have states \(n, T, d\) of the same tokens"):
        step_terms({"a": one, "b": other[:, :9]})
    with pytest.raises(MetricError, match="token_mask must have one entry for each token"):
        step_terms({"a": one, "b": other}, torch.ones(N, T - 1))


def test_the_baseline_gives_a_paired_change() -> None:
    layers = {"a": noise(N, T, 3), "b": noise(N, T, 4, seed=1)}
    found = ask(layers, baseline=data.isotropic(N, 4), baseline_tokens=layers)
    assert found.change is not None
    assert found.change.value == 0


def test_states_are_decomposed_only_for_who_asks() -> None:
    layers = {"a": noise(N, T, 3), "b": noise(N, T, 4, seed=1)}
    seen = {}
    for name in ("token_mean_cosine.rise", NAME):
        with profile() as ran:
            ask(layers, name)
        seen[name] = any("svd" in each.key for each in ran.key_averages())
    assert seen == {"token_mean_cosine.rise": False, NAME: True}


def test_intervals_cover() -> None:
    """60 draws: fewer than 51 within would come once in 10 000 times from 95 %."""
    content = noise(2000, T, 3, seed=9)
    seen = []
    for seed in range(60):
        rows = torch.randint(0, 2000, (N,), generator=data.generator(seed))
        before = content[rows]
        seen.append(ask({"a": before, "b": before + noise(N, T, 3, seed=seed + 100)}))
    target = float(np.mean([found.value for found in seen if found.value is not None]))
    held = sum(found.interval is not None and found.interval[0] <= target <= found.interval[1] for found in seen)
    assert held >= 51
