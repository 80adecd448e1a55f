"""What a read-out needs is declared: measured without it, it refuses, and measured with it, it does not."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from gate.errors import MetricError
from gate.estimate import Estimate
from gate.geometry import catalogue
from gate.geometry.registry import Metric, higher, lower, metric, metrics, neither
from gate.geometry.statistics import Moments, ShiftedSample
from gate.measurement import measure
from tests.geometry import inputs

OPTIONAL = sorted(name for name, found in metrics().items() if found.inputs()[1])
DECLARED = [(name, readout) for name in OPTIONAL for readout in metrics()[name].readout_needs]
ONE_OF_SEVERAL = {
    "function_space_distance.per_slice": "groups or attributes",
    "ncc_head_disagreement": "logits or head.weight",
    "ncc_head_disagreement.cos": "logits or head.weight",
    "ncc_head_disagreement.per_class": "logits or head.weight",
    "probe_power.detectable": "labels and logits, or the accuracy",
}  # what does with any one of several inputs declares none of them
everything = cache(inputs.everything)


def given(names: Collection[str]) -> dict[str, Any]:
    """Arguments of `measure` with some inputs, as the catalogue names them, and no others."""
    known = everything()
    rows = {name: known[name] for name in known if name in names and name not in inputs.SPLITS}
    for split in {name.partition(".")[0] for name in names} & {*inputs.SPLITS}:
        columns = {"features", *(name.partition(".")[2] for name in names if name.startswith(f"{split}."))}
        rows[split] = {name: part for name, part in known[split].items() if name in columns}
    weights = {name: tensor for name, tensor in known["weights"].items() if name.partition(".")[0] in names}
    return {"features": known["features"], "outputs": inputs.NAMES_OF_CLASSES, "weights": weights, **rows}


def estimates(name: str, names: Collection[str], *readouts: str) -> dict[str, Estimate]:
    """By read-out, those of a metric that are asked for, or all."""
    addresses = [name if each == "value" else f"{name}.{each}" for each in readouts] or metrics()[name].addresses()
    found = measure(metrics=list(addresses), **given(names))
    return {address.partition(".")[2] or "value": each for address, each in found.items()}


def lacks_an_input(estimate: Estimate) -> bool:
    return (estimate.reason or "").startswith("missing_input: ")


@pytest.mark.parametrize("name", OPTIONAL)
def test_with_what_a_metric_needs_alone_just_those_read_outs_refuse_that_declare_more(name: str) -> None:
    found = metrics()[name]
    every = estimates(name, found.inputs()[0])
    refusing = {readout for readout, each in every.items() if lacks_an_input(each)}
    undeclared = {address for address in ONE_OF_SEVERAL if address.partition(".")[0] == name}
    assert refusing == {*found.readout_needs, *(address.partition(".")[2] or "value" for address in undeclared)}
    assert {address: every[address.partition(".")[2] or "value"].reason for address in undeclared} == {
        address: f"missing_input: it needs {ONE_OF_SEVERAL[address]}" for address in undeclared
    }


@pytest.mark.parametrize(("name", "readout"), DECLARED)
def test_a_read_out_needs_all_that_it_declares_and_nothing_else(name: str, readout: str) -> None:
    required, optional = metrics()[name].inputs()
    needs = metrics()[name].readout_needs[readout]
    assert not lacks_an_input(estimates(name, required | needs, readout)[readout])
    for each in needs:
        others = {other for other in required | optional if other.partition(".")[0] != each and other != each}
        assert lacks_an_input(estimates(name, others, readout)[readout]), f"{name}.{readout} does without {each}"


@pytest.mark.parametrize("name", OPTIONAL)
def test_nothing_moves_a_read_out_but_what_the_catalogue_says_it_reads(name: str) -> None:
    required, optional = metrics()[name].inputs()
    entry = catalogue._entry(metrics()[name])
    full = estimates(name, required | optional)
    for readout, each in full.items():
        read = {*entry.read_by(readout)}
        found = each if read == required | optional else estimates(name, read, readout)[readout]
        assert found.status == each.status, f"{name}.{readout}: {found.reason}"
        assert found.value == pytest.approx(each.value, rel=1e-9), f"{name}.{readout}"


def test_what_the_catalogue_says_a_read_out_needs_is_what_is_declared() -> None:
    for found in metrics().values():
        entry = catalogue._entry(found)
        required = tuple(entry.required)
        assert entry.needed_by("no read-out") == required
        for readout in ("value", *found.readouts):
            assert {*entry.needed_by(readout)} == {*required, *found.readout_needs.get(readout, ())}
    assert catalogue.find("mean_cosine.before_after")[0].needed_by("before_after") == ("before",)
    assert [catalogue.find(each)[1] for each in ("vci", "vci.raw")] == ["value", "raw"]


def test_a_need_is_said_beside_the_meaning() -> None:
    for each in (higher, lower, neither):
        assert each("what", needs={"labels"}).needs == {"labels"}
        assert each("what").needs == frozenset()


def declared(**said: Any) -> Metric:
    """A metric of centred moments that may read groups and a shift, registered for as long as it is looked at."""

    @metric(unit="x", greater_is_better=None, invariant_to=set(), paper="none", domain="always", **said)
    def needy(moments: Moments, shifted: ShiftedSample | None = None) -> torch.Tensor:
        """What it is."""
        return moments.mean.sum() if shifted is None else shifted.features.sum()

    return metrics()["needy"]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    from gate.geometry import registry

    metrics()
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))


@pytest.mark.usefixtures("registered")
def test_columns_other_rows_and_the_value_can_have_needs() -> None:
    found = declared(
        needs={"labels"}, reads={"groups"}, value_needs={"groups"}, readouts={"a": higher("up", needs={"shifted"})}
    )
    assert found.readout_needs == {"value": {"groups"}, "a": {"shifted"}}
    entry = catalogue._entry(found)
    assert (entry.needed_by(), entry.needed_by("a")) == (("labels", "groups"), ("labels", "shifted"))
    entry = catalogue._entry(replace(found, readout_needs={"a": frozenset({"shifted"})}))
    assert (entry.read_by(), entry.read_by("a")) == (("labels", "groups"), ("labels", "shifted", "groups"))
    assert entry.read_by("b") == ("labels", "groups", "shifted")


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("each", ["labels", "cues", "shifted.labels", "group"])
def test_a_need_that_is_no_optional_input_is_refused(each: str) -> None:
    message = rf"'needy': a read-out needs some of its optional inputs \['groups', 'shifted'\], found .*'{each}'"
    for said in ({"readouts": {"a": lower("down", needs={each})}}, {"value_needs": {each}}):
        with pytest.raises(MetricError, match=message):
            declared(needs={"labels"}, reads={"groups"}, **said)
        assert "needy" not in metrics()
