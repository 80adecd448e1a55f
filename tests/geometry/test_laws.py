"""Laws over the registry: a metric is tested by being registered."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from gate.estimate import Estimate
from gate.geometry import catalogue
from gate.geometry.registry import Change, find, metrics
from gate.measurement import measure
from tests.geometry import data, inputs

NAMES = sorted(metrics())
N, D = 1200, 16


def scales() -> Tensor:
    return torch.linspace(0.3, 3.0, D, dtype=torch.float64)


CHANGES: dict[Change, Callable[[Tensor], Tensor]] = {
    "translation": lambda rows: rows + torch.linspace(-2, 3, D, dtype=torch.float64),
    "scaling": lambda rows: rows * 7.5,
    "row_scaling": lambda rows: rows * torch.linspace(0.5, 2.0, len(rows), dtype=torch.float64)[:, None],
    "rotation": lambda rows: rows @ data.rotation(D, 1),
    "permutation": lambda rows: rows.flip(1),
    "channel_scaling": lambda rows: rows * scales(),
    "linear_map": lambda rows: rows @ (data.rotation(D, 2) * scales()) @ data.rotation(D, 3),
}


def healthy(seed: int = 0) -> dict[str, Any]:
    return inputs.everything(N, D, seed)


def damaged(name: str) -> dict[str, Any]:
    """Rows on which the metric is away from the end of its range, so that a change of the features can move it."""
    given = healthy()
    rows = given["features"]
    if name == "dead_unit_share":
        rows[:, :2] = 1.0 + 1e-4 * rows[:, :2]
        rows[:, 2:4] = 1.0 + 1.5e-2 * rows[:, 2:4]
    if name == "outlier_channel_ratio":
        rows[:, 5] *= 4
    if name == "near_duplicate_share":
        given["encoded"][:100] = given["encoded"][100:200]
    return given


def ask(name: str, given: Mapping[str, Any], **more: Any) -> dict[str, Estimate]:
    return measure(metrics=[name], **{**given, **more})


def value(name: str, given: Mapping[str, Any]) -> float:
    found = ask(name, given)[name]
    assert found.status == "ok", found.reason
    assert found.value is not None
    return found.value


def test_every_kind_of_change_is_tried() -> None:
    assert set(CHANGES) == set(get_args(Change))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", sorted(CHANGES))
def test_declared_invariances_hold_exactly_as_declared(name: str, change: Change) -> None:
    metric = metrics()[name]
    if change in metric.unasserted:
        assert change not in metric.invariant_to
        return
    given = damaged(name)
    before = value(name, given)
    after = value(name, inputs.changed(given, CHANGES[change]))
    if change in metric.invariant_to:
        assert after == pytest.approx(before, rel=1e-6, abs=1e-9)
    else:
        assert after != pytest.approx(before, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_rows_does_not_matter(name: str) -> None:
    given = healthy()
    order = torch.randperm(N, generator=data.generator(5))
    before = ask(name, given, ids=range(N))
    shuffled = ask(name, inputs.taken(given, order), ids=order.tolist())
    for address, found in before.items():
        if found.value is not None:
            assert shuffled[address].value == pytest.approx(found.value, rel=1e-9, abs=1e-12), address
            assert shuffled[address].interval == pytest.approx(found.interval, rel=1e-6, abs=1e-9), address


@pytest.mark.parametrize("name", NAMES)
def test_the_names_of_classes_do_not_matter(name: str) -> None:
    given = healthy()
    new = {0: "zebra", 1: "ant", 2: "midge", 3: "bee"}

    def renamed(codes: Tensor) -> list[str]:
        return [new[int(code)] for code in codes]

    plain = ask(name, given)
    reference = {**given["reference"], "labels": renamed(given["reference"]["labels"])}
    other = {"labels": renamed(given["labels"]), "cues": renamed(given["cues"]), "reference": reference}
    for address, found in ask(name, given, outputs=list(new.values()), **other).items():
        if found.value is not None:
            assert found.value == pytest.approx(plain[address].value, rel=1e-9, abs=1e-12), address


@pytest.mark.parametrize("name", NAMES)
def test_influence_sums_to_zero_and_names_every_sampled_row(name: str) -> None:
    for address, found in ask(name, healthy()).items():
        if found.status != "ok" or found.interval is None:
            continue
        assert found.influence is not None
        assert len(found.influence.ids) == len(found.influence.values) == N
        assert torch.isfinite(found.influence.values).all(), address
        scale = float(found.influence.values.abs().max()) + 1e-12
        assert abs(float(found.influence.values.sum())) <= 1e-9 * scale * N, address


@pytest.mark.parametrize("name", NAMES)
def test_value_and_interval_lie_inside_the_declared_limits(name: str) -> None:
    metric = metrics()[name]
    for seed in range(3):
        for address, found in ask(name, healthy(seed)).items():
            if found.interval is not None and found.value is not None:
                low, high = metric.limits_of(address.partition(".")[2] or "value")
                assert low <= found.interval[0] <= found.value <= found.interval[1] <= high, address


@pytest.mark.parametrize("name", NAMES)
def test_influence_predicts_what_leaving_rows_out_does(name: str) -> None:
    """Dropping the 24 rows of largest influence moves the value by minus their share of it, to first order."""
    given = damaged(name)
    for address, found in ask(name, given, ids=range(N)).items():
        if not _smooth(found):
            continue
        assert found.influence is not None
        assert found.value is not None
        assert found.standard_error
        order = [int(found.influence.ids[i]) for i in found.influence.values.argsort()]
        dropped = set(order[-24:])
        kept = [row for row in range(N) if row not in dropped]
        moved = ask(address, inputs.taken(given, kept), ids=kept)[address]
        assert moved.value is not None
        predicted = -float(found.influence.values.sort().values[-24:].sum()) / (N - 24)
        change = moved.value - found.value
        assert change < 0, address
        assert 0.5 < change / predicted < 2, (address, change, predicted)


SMOOTH = ("delta method", "U-statistic projection", "mean over rows", "Wilson, jackknife over rows")


def _smooth(found: Estimate) -> bool:
    chosen = any(word in found.metric for word in ("worst", "per_class", "max", "kurt"))
    return found.status == "ok" and bool(found.standard_error) and found.method in SMOOTH and not chosen


def test_the_catalogue_without_torch_is_the_registry() -> None:
    written = Path(catalogue.__file__).with_name("catalogue.json").read_text(encoding="utf-8")
    assert written == catalogue.render(), "stale: run `python -m gate.geometry.catalogue`"
    assert sorted(catalogue.load()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_says_what_it_is(name: str) -> None:
    metric = metrics()[name]
    assert metric.function.__doc__ is not None
    for part in ("Args:", "Returns:"):
        assert part in metric.function.__doc__, part
    assert metric.paper
    assert metric.unit
    assert find(name) == (metric, "value")


@pytest.mark.parametrize("name", NAMES)
def test_one_row_or_one_class_is_never_a_number_that_decides(name: str) -> None:
    for found in measure(torch.ones(1, 4), labels=[0], metrics=[name]).values():
        decides = found.status == "ok" and found.interval is not None and all(map(math.isfinite, found.interval))
        assert not decides or name == "near_duplicate_share", found
