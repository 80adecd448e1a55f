from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gate.errors import LayerError, ModelError
from gate.features import Extractor, LayerAddress
from gate.models.flavours.modules import ModuleProgram
from gate.models.flavours.pytorch import opened
from gate.models.mlmodel import Declaration
from gate.models.opening import How
from gate.pooling import Pooling, rows_of
from gate.program import Outputs, Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

INPUTS = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)
FLAT = INPUTS[:, 0]


class Returning(nn.Module):
    """Returns what it was made with, whatever it is called on."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> Any:
        return self.make(x)


def of(module: nn.Module, batch_size: int | None = None, input_dtype: str | None = None) -> ModuleProgram:
    return ModuleProgram(module, device="cpu", batch_size=batch_size, input_dtype=input_dtype)


def take(
    module: nn.Module,
    inputs: np.ndarray[Any, Any],
    path: str = "output",
    pooling: Pooling = "none",
    *,
    batch_size: int | None = None,
    input_dtype: str | None = None,
) -> Tensor:
    layers = {"layer": LayerAddress(path, pooling)}
    with Extractor(of(module, batch_size, input_dtype), layers) as extract:
        return extract(inputs)["layer"]


def test_features_are_what_the_layers_give_in_evaluation_mode() -> None:
    one, two = nn.Linear(5, 4), nn.Linear(4, 2)
    network = nn.Sequential(OrderedDict(one=one, drop=nn.Dropout(0.5), two=two))
    layers = {"a": LayerAddress("one"), "b": LayerAddress("output"), "c": LayerAddress("input")}
    with Extractor(of(network, None), layers) as extract:
        features = extract(FLAT)
    x = torch.from_numpy(FLAT)
    assert list(features) == ["a", "b", "c"]
    torch.testing.assert_close(features["a"], one(x).detach())
    torch.testing.assert_close(features["b"], two(one(x)).detach())
    assert torch.equal(features["c"], x)


def test_features_carry_no_gradient_and_are_ordinary_tensors() -> None:
    rows = take(nn.Linear(5, 2), FLAT)
    assert not rows.requires_grad
    assert not rows.is_inference()


def test_hooks_are_gone_after_the_block() -> None:
    network = nn.Sequential(nn.Linear(5, 2))
    take(network, FLAT, "0")
    assert not network[0]._forward_hooks


def test_a_layer_that_is_overwritten_in_place_keeps_its_features() -> None:
    network = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, 4), nn.ReLU(inplace=True))
    x = torch.from_numpy(FLAT)
    torch.testing.assert_close(take(network, FLAT, "1"), network[1](x.relu()).detach())
    assert torch.equal(take(network, FLAT, "input"), x)


def test_read_only_inputs_are_accepted_and_stay_as_they_are() -> None:
    inputs = FLAT.copy()
    inputs.flags.writeable = False
    assert torch.equal(take(nn.ReLU(inplace=True), inputs, "input"), torch.from_numpy(FLAT))


def test_half_precision_and_whole_numbers_become_features() -> None:
    assert take(nn.Linear(5, 2).to(torch.bfloat16), FLAT, input_dtype="bfloat16").dtype == torch.float32
    made = ModuleProgram(nn.Linear(5, 2), device="cpu", precision="bfloat16")
    with Extractor(made, {"layer": LayerAddress("output")}) as extract:
        assert extract(FLAT)["layer"].dtype == torch.bfloat16
    assert torch.equal(take(nn.Identity(), np.array([[1, 2]]), "input"), torch.tensor([[1.0, 2.0]]))


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", INPUTS.mean(1)),
        ("cls", INPUTS[:, 0]),
        ("last", INPUTS[:, -1]),
        ("max", INPUTS.max(1)),
        ("flatten", INPUTS.reshape(4, 15)),
        ("spatial_mean", INPUTS.mean(2)),
    ],
)
def test_pooling_makes_one_row_per_sample(pooling: Pooling, expected: np.ndarray[Any, Any]) -> None:
    torch.testing.assert_close(take(nn.Identity(), INPUTS, pooling=pooling), torch.from_numpy(expected))


def test_spatial_mean_takes_every_dimension_after_the_channels() -> None:
    images = np.random.default_rng(1).normal(size=(2, 3, 4, 5)).astype(np.float32)
    torch.testing.assert_close(
        take(nn.Identity(), images, pooling="spatial_mean"), torch.from_numpy(images.mean((2, 3)))
    )


def test_mean_of_whole_numbers_is_a_fraction() -> None:
    tokens = np.array([[[1], [2]], [[0], [1]]])
    assert take(nn.Identity(), tokens, "input", "mean").tolist() == [[1.5], [0.5]]


def test_flatten_leaves_rows_as_they_are() -> None:
    assert torch.equal(take(nn.Identity(), FLAT, pooling="flatten"), torch.from_numpy(FLAT))


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "max", "spatial_mean"])
def test_a_pooling_over_a_dimension_that_is_not_there_is_refused(pooling: Pooling) -> None:
    with pytest.raises(LayerError, match=rf"shape \(4, 5\), which pooling '{pooling}' .* that fit: none, flatten"):
        take(nn.Identity(), FLAT, pooling=pooling)


def test_an_unpooled_output_of_three_dimensions_is_refused_with_its_shape() -> None:
    with pytest.raises(
        LayerError, match=r"layer 'layer' \(path 'output'\): the output has shape \(4, 3, 5\).*mean, cls"
    ):
        take(nn.Identity(), INPUTS)


def test_an_unpooled_image_is_offered_the_poolings_that_fit() -> None:
    with pytest.raises(LayerError, match=r"that fit: spatial_mean, flatten$"):
        take(nn.Identity(), INPUTS[:, None])


def test_one_value_per_sample_is_a_row_of_one() -> None:
    assert torch.equal(take(Returning(lambda x: x[:, 0]), FLAT), torch.from_numpy(FLAT[:, :1]))


@pytest.mark.parametrize("make", [lambda x: x.argmax(dim=1), lambda x: x[:, :0], lambda _: torch.tensor(1.0)])
def test_an_output_that_is_no_row_of_values_is_refused(make: Callable[[Tensor], Any]) -> None:
    with pytest.raises(LayerError, match="one row of at least one value per sample is needed"):
        take(Returning(make), FLAT)


@pytest.mark.parametrize("path", ["backbone.9", "", "Backbone.0"])
def test_a_wrong_path_lists_the_nearest_layers_with_their_shapes(path: str) -> None:
    network = nn.Sequential(OrderedDict(backbone=nn.Sequential(nn.Linear(5, 4), nn.ReLU()), head=nn.LSTM(4, 2)))
    with pytest.raises(LayerError, match=rf"has no layer '{path}'.* of its 6 layers") as caught:
        take(network, FLAT, path)
    for line in ("'backbone.0' (4, 4)", "'input' (4, 5)", "'head' tuple((4, 2), tuple((1, 2), (1, 2)))"):
        assert line in str(caught.value)


def test_a_model_of_fixed_batch_size_gets_full_batches_only() -> None:
    sizes = []

    def forward(x: Tensor) -> Any:
        sizes.append(len(x))
        return x * 2

    rows = take(Returning(forward), FLAT, batch_size=3)
    assert torch.equal(rows, torch.from_numpy(FLAT) * 2)
    assert set(sizes) == {3}


def run(module: nn.Module, batches: int, rows: np.ndarray[Any, Any] = FLAT, *, batch_size: int | None = None) -> None:
    """A whole pass over that many equal batches."""
    with Extractor(of(module, batch_size), {"layer": LayerAddress("output")}) as extract:
        for _ in range(batches):
            extract(rows)


def exported(module: nn.Module, rows: int | None, path: Path) -> nn.Module:
    """What a pt2 file of the module becomes; `rows` is its fixed batch size, None for any."""
    shapes = None if rows else ({0: torch.export.Dim("rows")},)
    program = torch.export.export(module, (torch.ones(rows or 4, 5),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    declared = Declaration("pytorch", path, "pt2", "code-free", {}, None, None, None)
    return opened(declared, path.parent, How()).module


def test_two_passes_that_differ_are_refused() -> None:
    network = Returning(lambda x: nn.functional.dropout(x, 0.5))
    with pytest.raises(
        LayerError, match=r"a second pass .* gave other features .* \(exported in training mode, or drop"
    ):
        take(network, FLAT)


def test_only_the_first_batch_is_run_again_with_its_halves_and_some_rows_on_their_own() -> None:
    sizes = []

    def forward(x: Tensor) -> Any:
        sizes.append(len(x))
        return x

    run(Returning(forward), 3)
    assert sizes == [4, 4, 2, 2, 1, 1, 1, 4, 4, 4]


@pytest.mark.parametrize("many", [1, 3])
def test_a_model_that_gives_other_features_to_few_rows_at_once_is_refused(many: int) -> None:
    other = Returning(lambda x: -x if len(x) <= many else x)
    with pytest.raises(LayerError, match="gave other features than before"):
        run(other, 1)


@pytest.mark.parametrize("fault", [lambda x: x.squeeze(), lambda x: x.expand(2, 5) if len(x) == 1 else x])
def test_a_model_that_takes_no_row_alone_is_none_that_serves_one(fault: Callable[[Tensor], Any]) -> None:
    run(Returning(fault), 3)


class Tiring(nn.Module):
    """Gives its rows in the first calls, and one and the same row in all later ones."""

    calls: Tensor

    def __init__(self, healthy: int) -> None:
        super().__init__()
        self.healthy = healthy
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return x * (self.calls <= self.healthy)


@pytest.mark.parametrize(
    ("healthy", "what"),
    [
        (1, "a second pass"),
        (2, "the first 2 of 4 rows"),
        (3, "the last 2 of 4 rows"),
        (4, "a row on its own"),
        (9, "the first bat"),
    ],
)
def test_an_exported_program_whose_state_changes_between_calls_is_refused(
    tmp_path: Path, healthy: int, what: str
) -> None:
    network = exported(Tiring(healthy), None, tmp_path / "model.pt2")
    with pytest.raises(LayerError, match=rf"{what}.* gave other features .*state that changes between calls\?"):
        run(network, 3)


def test_a_model_that_turns_to_chance_after_a_few_calls_is_refused() -> None:
    calls = []

    def forward(x: Tensor) -> Any:
        calls.append(1)
        return x if len(calls) < 3 else torch.randn_like(x)

    with pytest.raises(LayerError, match="gave other features"):
        run(Returning(forward), 1)


class Whitening(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return (x - x.mean(0)) / x.std(0, correction=0)


@pytest.mark.parametrize("batch_size", [None, 2, 3, 4, 6])
def test_an_exported_program_that_normalises_over_the_batch_is_refused(tmp_path: Path, batch_size: int | None) -> None:
    network = exported(Whitening(), batch_size, tmp_path / "model.pt2")
    with pytest.raises(LayerError, match=r"rows on their own, in reversed order, .*normalisation over the batch\?"):
        run(network, 1, batch_size=batch_size)


@pytest.mark.parametrize(
    "network",
    [
        nn.BatchNorm1d(5, track_running_stats=False),
        Returning(lambda x: x - x[:1]),
        Returning(lambda x: x - x[-1:]),
        Returning(lambda x: x.cumsum(0)),
        Returning(lambda x: x + torch.arange(len(x))[:, None]),
    ],
)
def test_features_that_depend_on_the_other_rows_or_on_their_place_are_refused(network: nn.Module) -> None:
    with pytest.raises(LayerError, match="the first 2 of 4 rows on their own, in reversed order, gave other features"):
        run(network, 1)


@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0])
def test_noise_as_large_as_the_spread_is_refused_whatever_the_offset(offset: float) -> None:
    network = Returning(lambda x: offset * (1 + 1e-5 * x[:, :1]) + max(offset, 1.0) * 1e-4 * torch.randn(len(x), 5))
    with pytest.raises(LayerError, match="a second pass"):
        run(network, 1, np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32))


def test_one_huge_channel_hides_no_noise_in_the_others() -> None:
    huge = torch.tensor([1e6, 0, 0, 0, 0])
    with pytest.raises(LayerError, match="a second pass"):
        run(Returning(lambda x: x + torch.randn_like(x) + huge * x), 1)


def rounded(precision: Precision, offset: float) -> tuple[int, ...]:
    """Features about an offset, with a unit in the last place that changes with the size of the batch."""
    unit = torch.finfo(getattr(torch, precision)).eps
    network = Returning(lambda x: (x + offset) * (1 + unit * (len(x) % 4)))
    made = ModuleProgram(network, device="cpu", precision=precision)
    with Extractor(made, {"layer": LayerAddress("output")}) as extract:
        return tuple(extract(np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32))["layer"].shape)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_rounding_that_depends_on_the_size_of_the_batch_is_no_difference(precision: Precision) -> None:
    assert rounded(precision, 3.0) == (6, 5)


def test_features_that_half_precision_cannot_tell_from_rounding_are_refused() -> None:
    with pytest.raises(LayerError, match=r"its features cannot be told from rounding: .*; compute in float32"):
        rounded("bfloat16", 300.0)


def test_a_collapsed_model_is_repeatable() -> None:
    run(Returning(lambda x: torch.ones_like(x) * 0.1), 2)
    run(nn.Linear(5, 2), 2, FLAT[:1])


def test_an_error_of_the_block_is_not_hidden_by_one_of_the_end() -> None:
    layers = {"layer": LayerAddress("output")}
    with (
        pytest.raises(ModelError, match="does not run"),
        Extractor(of(Tiring(7), None, "float32"), layers) as extract,
    ):
        fail_after(extract)


def fail_after(extract: Extractor) -> None:
    extract(FLAT)
    raise ModelError("the model does not run")


def test_hooks_are_gone_after_a_refusal_at_the_end() -> None:
    network = nn.Sequential(Tiring(7))
    with pytest.raises(LayerError, match="run again after the last one"):
        take(network, FLAT, "0")
    assert not network[0]._forward_hooks


def widening(widths: list[int]) -> nn.Module:
    """Gives as many channels as the next width says."""
    return Returning(lambda x: x[:, : widths.pop(0)])


@pytest.mark.parametrize(
    ("widths", "batch_size"),
    [([5, 5, 5, 4], None), ([5, 4], None), ([5, 5, 4], None), ([5, 5, 5, 5, 5, 5, 5, 4], None), ([5, 4], 2)],
)
def test_a_width_that_changes_is_refused_with_both_shapes(widths: list[int], batch_size: int | None) -> None:
    rows = batch_size or 4
    with pytest.raises(LayerError, match=rf"features of shape \(\d, 4\) after features of shape \({rows}, 5\)"):
        run(widening(widths), 2, batch_size=batch_size)


def test_features_that_are_not_finite_pass_on_to_the_statistics() -> None:
    inputs = FLAT.copy()
    inputs[0, 0], inputs[1, 0] = np.nan, np.inf
    assert not take(nn.Identity(), inputs).isfinite().all()
    assert take(nn.Identity(), np.full((2, 2), np.nan, dtype=np.float32)).isnan().all()


@pytest.mark.parametrize("make", [lambda x: (x, None), lambda x: [x], lambda x: {"hidden": x, "loss": None}])
def test_the_one_tensor_of_a_structure_is_taken(make: Callable[[Tensor], Any]) -> None:
    assert torch.equal(take(Returning(make), FLAT), torch.from_numpy(FLAT))


@pytest.mark.parametrize(
    ("make", "structure"),
    [
        (lambda x: (x, x[:, :1]), r"tuple\(\(4, 5\), \(4, 1\)\)"),
        (lambda x: {"a": x, "b": [x]}, r"dict\(a: \(4, 5\), b: list\(\(4, 5\)\)\)"),
        (lambda _: None, "None"),
        (lambda _: "text", "str"),
    ],
)
def test_an_output_without_exactly_one_tensor_is_refused_with_its_structure(
    make: Callable[[Tensor], Any], structure: str
) -> None:
    with pytest.raises(LayerError, match=rf"gave {structure}, expected one tensor"):
        take(Returning(make), FLAT)


def test_rows_that_are_not_the_samples_are_refused() -> None:
    with pytest.raises(LayerError, match=r"gave 5 rows for 4 samples \(output shape \(5, 4\)\)"):
        take(Returning(torch.t), FLAT)


class Reusing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never = nn.Linear(5, 5), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Any:
        return self.twice(self.twice(x))


@pytest.mark.parametrize(("path", "times"), [("twice", 2), ("never", 0)])
def test_a_layer_that_does_not_run_exactly_once_is_refused(path: str, times: int) -> None:
    with pytest.raises(LayerError, match=rf"path '{path}'\): ran {times} times in one forward pass, expected once"):
        take(Reusing(), FLAT, path)


class Naming(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(5, 2)
        self.other = self.one

    def forward(self, x: Tensor) -> Any:
        return self.one(x)


def test_a_module_under_two_names_is_found_under_both() -> None:
    network = Naming()
    torch.testing.assert_close(take(network, FLAT, "one"), take(network, FLAT, "other"))


def test_a_model_that_does_not_run_is_reported_with_what_it_was_given() -> None:
    with pytest.raises(ModelError, match=r"does not run on \(4, 5\) float32: RuntimeError: mat1"):
        take(nn.Linear(7, 2), FLAT)


def test_whole_numbers_are_fed_to_a_model_in_the_type_that_it_takes() -> None:
    assert take(nn.Linear(2, 3), np.array([[1, 2]]), input_dtype="float32").shape == (1, 3)


def test_fractions_are_not_rounded_for_a_model_of_whole_numbers() -> None:
    with pytest.raises(ModelError, match=r"the model takes int64, the probe set holds float32"):
        take(nn.Identity(), FLAT, input_dtype="int64")


@pytest.mark.parametrize("name", ["str", "nn", "object"])
def test_a_signature_of_no_numeric_type_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=f"its input is '{name}', expected a numeric type"):
        take(nn.Identity(), FLAT, input_dtype=name)


# What programs of other kinds than torch modules are asked for.


class Lengths:
    """Takes texts and gives the length of each, and of each letter; runs out of memory beyond some rows."""

    def __init__(self, most: int = 1000, mask: Callable[[Tensor], Tensor] = lambda mask: mask) -> None:
        self.layers: Collection[str] = ("letters",)
        self.closed = ""
        self.batch_size: int | None = None
        self.at_once, self.rounding = 64, 2.0**-24
        self.most, self.mask = most, mask
        self.shown: list[tuple[str, ...]] = []

    def run(self, inputs: Any, paths: Any) -> Outputs:
        del paths
        if len(inputs) > self.most:
            raise MemoryError("no room")
        self.shown.append(inputs)
        longest = max(map(len, inputs))
        codes = torch.tensor([[ord(letter) for letter in text.ljust(longest)] for text in inputs]).float()
        real = torch.tensor([[place < len(text) for place in range(longest)] for text in inputs])
        lengths = torch.tensor([[float(len(text))] for text in inputs])
        return Outputs({"letters": [codes[:, :, None]], "output": [{"length": lengths, "one": codes}]}, self.mask(real))

    def shapes(self, inputs: Any) -> dict[str, str]:
        del inputs
        return {"letters": "(b, t, 1)", "output": "dict"}

    def weights_of(self, path: str) -> dict[str, Tensor]:
        raise LayerError(f"layer {path!r} has none")


WORDS = tuple("abcdefgh"[: 1 + row * 5 % 7] for row in range(20))
OWN = {"length": LayerAddress("output.length"), "mean": LayerAddress("letters", "mean")}


def test_texts_are_shown_by_length_and_their_rows_come_back_in_order() -> None:
    program = Lengths()
    with Extractor(program, OWN, batch_size=4) as extract:
        found = extract(WORDS)
    assert found["length"][:, 0].tolist() == [len(word) for word in WORDS]
    torch.testing.assert_close(found["mean"][:, 0], torch.tensor([sum(map(ord, word)) / len(word) for word in WORDS]))
    first = program.shown[:5]
    assert [len(word) for batch in first for word in batch] == sorted(map(len, WORDS), reverse=True)


def test_a_batch_is_halved_as_often_as_memory_runs_out() -> None:
    program = Lengths(most=3)
    with Extractor(program, OWN) as extract:
        found = extract(WORDS)
        assert extract.facts == {"batch_size": 2}
    assert found["length"][:, 0].tolist() == [len(word) for word in WORDS]
    assert {len(batch) for batch in program.shown} <= {1, 2}


@pytest.mark.parametrize(("most", "size", "rows"), [(0, "auto", "1 row"), (3, 5, "5 rows")])
def test_what_does_not_fit_into_memory_at_all_is_told(most: int, size: Any, rows: str) -> None:
    with (
        Extractor(Lengths(most), OWN, batch_size=size) as extract,
        pytest.raises(ModelError, match=rf"ran out of memory with {rows} at once \(no room\)"),
    ):
        extract(WORDS)


def test_one_of_several_outputs_has_a_name_and_another_is_refused() -> None:
    layers = {"x": LayerAddress("output.width")}
    with Extractor(Lengths(), layers) as extract, pytest.raises(LayerError, match=r"has no 'width'"):
        extract(WORDS)
    with (
        Extractor(Lengths(), {"x": LayerAddress("output")}) as extract,
        pytest.raises(LayerError, match=r"output\.KEY"),
    ):
        extract(WORDS)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "max", "token_terms", "token_mean"])
def test_a_mask_of_another_number_of_tokens_is_refused(pooling: Pooling) -> None:
    layers = {"x": LayerAddress("letters", pooling)}
    program = Lengths(mask=lambda mask: mask[:, :-1])
    with (
        Extractor(program, layers) as extract,
        pytest.raises(LayerError, match=r"which of its tokens are padding is not known"),
    ):
        extract(WORDS)


@pytest.mark.parametrize(("pooling", "expected"), [("cls", "b"), ("last", "c"), ("max", "c")])
def test_padding_before_the_tokens_is_left_out_as_well(pooling: Pooling, expected: str) -> None:
    states = torch.tensor([[[float(ord(letter))] for letter in "zbac"], [[float(ord(letter))] for letter in "zzbc"]])
    mask = torch.tensor([[False, True, True, True], [False, False, True, True]])
    found = rows_of(states, pooling, count=2, where="layer", mask=mask)
    assert [chr(int(value)) for value in found[:, 0]] == [expected] * 2


def test_an_input_that_is_no_array_has_no_features() -> None:
    with (
        Extractor(Lengths(), {"x": LayerAddress("input")}) as extract,
        pytest.raises(LayerError, match="the model is shown no single array of numbers"),
    ):
        extract(WORDS)


def test_a_format_without_layers_says_why_and_offers_the_output() -> None:
    program = Lengths()
    program.layers, program.closed = (), "it is a box"
    with (
        Extractor(program, {"x": LayerAddress("inside")}) as extract,
        pytest.raises(LayerError, match="no layer 'inside': it is a box; name 'output'"),
    ):
        extract(WORDS)
