"""One pass through the candidate and, beside it, through the baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gate import streaming
from gate.errors import LayerError, MetricError, ModelError, ProbeError
from gate.policy.schema import Probe
from gate.questions import Part
from tests.streaming.made import CHANGE, OUTPUT, outputs, passing, plan, probe, stream, vectors, written

BASELINE = Part("output", "baseline")


class Scaled(nn.Module):
    """Its input times a factor, which is also what its layer `inner` gives."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3, bias=False)
        self.inner.weight.data = torch.eye(3) * factor

    def forward(self, x: Tensor) -> Any:
        return self.inner(x)


class Tiring(nn.Module):
    """Gives its rows in the first nine calls, and one and the same row in all later ones."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return x * float(self.calls <= 9)


class Resting(nn.Module):
    """Must not be run."""

    def forward(self, x: Tensor) -> Any:
        raise AssertionError(x.shape)


class Heads(nn.Module):
    """Several outputs at layers of their own; each input row is a row of whole numbers."""

    def __init__(self, classes: int = 2, *, softmax: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)  # of ten rows, all could lie from 0 to 1 by chance
        self.logits = nn.Linear(3, classes)
        squashing = nn.Softmax(dim=1) if classes > 1 else nn.Sigmoid()
        self.shares = squashing if softmax else nn.Identity()
        self.mean, self.indices = nn.Linear(3, 2), Indices()

    def forward(self, x: Tensor) -> Any:
        self.shares(self.logits(x))
        self.mean(x)
        self.indices(x)
        return x


class Indices(nn.Module):
    """Code indices of each row, as a quantiser gives them."""

    step = 1

    def forward(self, x: Tensor) -> Any:
        return (x[:, :2] // self.step).long()


# Both models are shown the same rows.


def test_every_batch_holds_the_rows_of_both_models(rows: Path) -> None:
    found = stream(Scaled(2.0), probe(rows, input="x", label="y", id="id"), plan(CHANGE), Scaled(5.0))
    assert [list(batch) for batch in found] == [[OUTPUT, BASELINE]] * 3
    x = torch.arange(30.0).reshape(10, 3)
    assert torch.equal(torch.cat([batch[OUTPUT].features for batch in found]), 2 * x)
    assert torch.equal(torch.cat([batch[BASELINE].features for batch in found]), 5 * x)
    for batch in found:
        assert batch[OUTPUT].ids == batch[BASELINE].ids
        assert torch.equal(batch[OUTPUT].hashes, batch[BASELINE].hashes)
        assert batch[BASELINE].class_codes().names == ("0", "1")
        assert torch.equal(batch[OUTPUT].numbers("baseline"), batch[BASELINE].features)
        assert "baseline" not in batch[BASELINE].columns


@pytest.mark.parametrize("tired", ["candidate", "baseline"])
def test_both_passes_end_with_their_check(rows: Path, tired: str) -> None:
    models = {"candidate": Scaled(1.0), "baseline": Scaled(2.0), tired: Tiring()}
    spec = probe(rows, input="x", id="id")
    with (
        pytest.raises(LayerError, match="the first batch, run again after the last one, gave other features"),
        passing(models["candidate"], spec, plan(CHANGE), models["baseline"]) as found,
    ):
        assert [len(each[OUTPUT].ids) for each in found] == [4, 4, 2]


def test_a_model_alone_ends_with_its_check(rows: Path) -> None:
    with (
        pytest.raises(LayerError, match="the first batch, run again after the last one, gave other features"),
        passing(Tiring(), probe(rows, input="x", id="id")) as found,
    ):
        assert [len(each[OUTPUT].ids) for each in found] == [4, 4, 2]


@pytest.mark.parametrize("count", [8, 9, 11, 12])
def test_vectors_of_a_baseline_stand_beside_every_row(rows: Path, tmp_path: Path, count: int) -> None:
    spec = probe(rows, input="x", id="id")
    earlier = written(tmp_path / "v.npz", features=np.ones((10, 5), dtype=np.float32))
    found = stream(Scaled(1.0), spec, plan(CHANGE), vectors(earlier))
    assert {batch[BASELINE].features.shape[1] for batch in found} == {5}
    assert sum(len(batch[BASELINE].ids) for batch in found) == 10
    other = written(tmp_path / "w.npz", features=np.ones((count, 5), dtype=np.float32))
    with pytest.raises(ProbeError, match="differ in their number of rows"):
        stream(Scaled(1.0), spec, plan(CHANGE), vectors(other))


def test_vectors_are_compared_with_vectors(rows: Path, tmp_path: Path) -> None:
    later = written(tmp_path / "v.npz", features=np.full((10, 2), 2.0, dtype=np.float32))
    earlier = written(tmp_path / "w.npz", features=np.ones((10, 5), dtype=np.float32))
    found = stream(later, probe(rows, input="x", id="id"), plan(CHANGE), vectors(earlier))
    assert {(batch[OUTPUT].features.shape[1], batch[BASELINE].features.shape[1]) for batch in found} == {(2, 5)}


class Growing:
    """A probe set that gets a row more whenever it is read."""

    def __init__(self, opened: Any) -> None:
        self.opened, self.reads, self.uri = opened, 0, opened.uri

    def batches(self, size: int) -> Any:
        self.reads += 1
        found = list(self.opened.batches(size))
        return iter(found[: len(found) - self.reads % 2])


def test_a_probe_set_that_changes_while_it_is_read_is_refused(rows: Path) -> None:
    opened: Any = Growing(streaming.open_rows(probe(rows, input="x", id="id")))
    models = Scaled(1.0), Scaled(2.0)
    with pytest.raises(ProbeError, match="changed while it was read; the two models were shown other rows"):
        stream(models[0], opened, plan(CHANGE), models[1])


# What is read of the baseline.


def test_a_baseline_is_not_run_where_nothing_is_compared(rows: Path) -> None:
    found = stream(Scaled(1.0), probe(rows, input="x", id="id"), plan(), Resting())
    assert {part for batch in found for part in batch} == {OUTPUT}
    assert all("baseline" not in batch[OUTPUT].columns for batch in found)


def test_a_layer_that_the_baseline_does_not_have_matters_only_where_it_is_compared(rows: Path) -> None:
    spec = probe(rows, input="x", id="id")
    absolute: Any = {"metric": "effective_rank", "layer": "inner", "min": 1}
    layers = {"inner": {"path": "inner"}}
    found = stream(Scaled(1.0), spec, plan(CHANGE, absolute, layers=layers), nn.Identity())
    assert set(found[0]) == {OUTPUT, Part("inner"), BASELINE}
    relative = {**absolute, "relative": {"max_drop": 1}}
    with pytest.raises(LayerError, match="the model has no layer 'inner'"):
        stream(Scaled(1.0), spec, plan(relative, layers=layers), nn.Identity())


def test_a_baseline_may_have_another_path_to_a_layer(rows: Path) -> None:
    asked = plan(
        {"metric": "effective_rank", "layer": "inner", "relative": {"max_drop": 1}},
        layers={"inner": {"path": "inner"}},
        baseline={"uri": "x", "layers": {"inner": {"path": "output"}}},
    )
    found = stream(Scaled(1.0), probe(rows, input="x", id="id"), asked, nn.Identity())
    assert torch.equal(found[0][Part("inner", "baseline")].features, torch.arange(12.0).reshape(4, 3))


def test_metrics_of_two_versions_read_the_features_and_outputs_that_they_need(rows: Path) -> None:
    spec = probe(rows, input="x", label="y", id="id")
    reads = {"logits": {"path": "logits"}}
    overlap: Any = {"metric": "knn_overlap", "min": 0}
    found = stream(Heads(), spec, plan(overlap, reads=reads), nn.Identity())
    assert {"baseline", "logits"} <= found[0][OUTPUT].columns.keys()
    assert "baseline_logits" not in found[0][OUTPUT].columns
    flips: Any = {"metric": "negative_flip_rate", "max": 1}
    found = stream(Heads(), spec, plan(flips, reads=reads), Heads())
    assert {"baseline_logits", "logits"} <= found[0][OUTPUT].columns.keys()
    assert BASELINE not in found[0]


def test_what_is_compared_is_read_of_the_baseline_as_well(rows: Path) -> None:
    reads = {"codes": {"path": "indices"}, "latent_means": {"path": "mean"}, "logits": {"path": "logits"}}
    relative: Any = {"metric": "codebook_usage", "relative": {"max_drop": 1}}
    found = stream(Heads(), probe(rows, input="x", id="id"), plan(relative, reads=reads), Heads())
    assert {"codes", "latent_means", "logits"} <= found[0][OUTPUT].columns.keys()
    assert "codes" in found[0][BASELINE].columns
    assert not {"latent_means", "logits"} & found[0][BASELINE].columns.keys()


# What is read besides features.


def test_outputs_of_several_layers_reach_the_rows_as_columns(rows: Path) -> None:
    reads = {"codes": {"path": "indices"}, "latent_means": {"path": "mean"}, "before": {"path": "input"}}
    batch = outputs(Heads(), probe(rows, input="x", id="id"), asked=plan(reads=reads))[0]
    assert torch.equal(batch.numbers("before"), torch.arange(12.0).reshape(4, 3))
    assert batch.numbers("latent_means").shape == (4, 2)
    assert batch.numbers("codes").dtype == torch.int64
    assert batch.numbers("codes").tolist() == [[0, 1], [3, 4], [6, 7], [9, 10]]


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 2.0**24])
def test_codes_that_are_no_whole_numbers_are_refused(tmp_path: Path, value: float) -> None:
    x = np.zeros((10, 3), dtype=np.float32)
    x[7, 0] = value
    path = written(tmp_path / "p.npz", x=x)
    asked = plan(reads={"codes": {"path": "input"}})
    with pytest.raises(MetricError, match=r"codes must be whole numbers, found torch\.float32"):
        outputs(nn.Identity(), probe(path, input="x"), asked=asked)


def named(path: Path, labels: list[str]) -> Probe:
    x = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    written(path, x=x, y=[labels[row % len(labels)] for row in range(10)])
    return probe(path, input="x", label="y")


@pytest.mark.parametrize(
    ("labels", "classes", "names"),
    [
        (["0", "1"], [], ("0", "1", "2")),
        (["cat", "dog", "ant"], [], ("ant", "cat", "dog")),
        (["cat", "dog"], ["dog", "cat", "ant"], ("dog", "cat", "ant")),
    ],
)
def test_columns_of_logits_stand_for_the_classes_of_the_policy_or_of_the_labels(
    tmp_path: Path, labels: list[str], classes: list[str], names: tuple[str, ...]
) -> None:
    asked = plan(reads={"logits": {"path": "logits", "classes": classes}})
    batches = outputs(Heads(3), named(tmp_path / "p.npz", labels), asked=asked)
    assert {batch.outputs for batch in batches} == {names}


def test_logits_that_no_label_tells_apart_ask_for_their_classes(tmp_path: Path) -> None:
    asked = plan(reads={"logits": {"path": "logits"}})
    with pytest.raises(MetricError, match=r"the 3 columns of logits cannot be matched .*`reads: \{logits: \{classes:"):
        outputs(Heads(3), named(tmp_path / "p.npz", ["cat", "dog"]), asked=asked)


def test_a_single_output_is_the_logit_of_the_second_of_two_classes(tmp_path: Path) -> None:
    spec, model = named(tmp_path / "p.npz", ["cat", "dog"]), Heads(1)
    reads = {"logits": {"path": "logits", "classes": ["cat", "dog"]}}
    asked = plan({"metric": "negative_flip_rate", "max": 1}, reads=reads)
    for batch in stream(model, spec, asked, Heads(2)):
        logits = batch[OUTPUT].numbers("logits")
        assert logits[:, 0].eq(0).all()
        assert torch.equal(logits[:, 1:], model.logits(batch[OUTPUT].features))
        assert batch[OUTPUT].outputs == ("cat", "dog")


@pytest.mark.parametrize(
    ("labels", "names"), [(["0", "1"], ("0", "1")), (["-1", "1"], ("-1", "1")), (["a", "b"], None)]
)
def test_a_single_output_of_named_classes_asks_which_it_speaks_for(
    tmp_path: Path, labels: list[str], names: tuple[str, ...] | None
) -> None:
    asked, spec = plan(reads={"logits": {"path": "logits"}}), named(tmp_path / "p.npz", labels)
    if names is None:
        with pytest.raises(MetricError, match=r"may be that of 'a' or of 'b'; name them in order: `reads: \{logits"):
            outputs(Heads(1), spec, asked=asked)
    else:
        assert {batch.outputs for batch in outputs(Heads(1), spec, asked=asked)} == {names}


def test_a_single_output_cannot_tell_three_classes_apart(tmp_path: Path) -> None:
    asked = plan(reads={"logits": {"path": "logits"}})
    with pytest.raises(MetricError, match="the 2 columns of logits cannot be matched with the 3 labels"):
        outputs(Heads(1), named(tmp_path / "p.npz", ["cat", "dog", "ant"]), asked=asked)


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("whose", ["candidate", "baseline"])
def test_probabilities_in_the_place_of_logits_are_refused(tmp_path: Path, whose: str, classes: int) -> None:
    models = {"candidate": Heads(), "baseline": Heads(), whose: Heads(classes, softmax=True)}
    asked = plan({"metric": "negative_flip_rate", "max": 1}, reads={"logits": {"path": "shares"}})
    with pytest.raises(ModelError, match=f"of the {whose}: in 10 of 10 rows no output .* before the softmax"):
        stream(models["candidate"], named(tmp_path / "p.npz", ["0", "1"]), asked, models["baseline"], batch_size=1)


@pytest.mark.parametrize(("few", "refused"), [(1, True), (3, False)])
def test_a_few_rows_beyond_the_range_do_not_make_probabilities_logits(tmp_path: Path, few: int, refused: bool) -> None:
    x = np.random.default_rng(0).uniform(0.3, 0.4, size=(200, 1)).astype(np.float32)
    x[:few] = 1.5
    path = written(tmp_path / "p.npz", x=x, y=np.arange(200) % 2)
    spec, asked = probe(path, input="x", label="y"), plan(reads={"logits": {"path": "output"}})
    if refused:
        with pytest.raises(ModelError, match="in 199 of 200 rows no output is negative"):
            outputs(path, spec, asked=asked, batch_size=64)
    else:
        assert outputs(path, spec, asked=asked, batch_size=64)


def test_rows_of_logits_may_look_like_probabilities_by_chance(tmp_path: Path) -> None:
    x = np.array([[0.25, 0.75], [0.5, 0.5], [2.0, -1.0], [1.0, 0.0]], dtype=np.float32)
    path = written(tmp_path / "p.npz", x=x, y=["0", "1", "0", "1"])
    asked = plan(reads={"logits": {"path": "output"}})
    assert len(outputs(path, probe(path, input="x", label="y"), asked=asked, batch_size=1)) == 4


def test_fingerprints_are_those_of_the_inputs_in_both_models(tmp_path: Path) -> None:
    x = np.repeat(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32), 2, axis=0)
    path = written(tmp_path / "p.npz", x=x)
    found = stream(Scaled(1.0), probe(path, input="x"), plan(CHANGE), Scaled(0.0))
    prints = torch.cat([batch[OUTPUT].fingerprints for batch in found])
    assert torch.equal(prints[::2], prints[1::2])
    assert len(prints.unique()) == 5
    assert torch.equal(prints, torch.cat([batch[BASELINE].fingerprints for batch in found]))


# Progress, and the end.


def test_progress_counts_rows(rows: Path) -> None:
    seen: list[tuple[int, int | None]] = []

    def note(done: int, total: int | None) -> None:
        seen.append((done, total))

    assert len(stream(rows, probe(rows, input="x", id="id"), total=10, on_progress=note)) == 3
    assert seen == [(4, 10), (8, 10), (10, 10)]
