"""Channels that only rounding moves, and channels that are zero."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gate.measurement import measure
from tests.geometry import data


def resting() -> list[Tensor]:
    g = data.generator(0)
    coin = torch.rand(2000, 16, generator=g) < 0.5
    return [5 + 4.8e-7 * coin, 5 + 1.5e-6 * torch.randn(2000, 16, generator=g), torch.full((2000, 16), 0.1)]


@pytest.mark.parametrize("case", range(3))
def test_channels_that_only_rounding_moves_are_all_dead(case: int) -> None:
    found = measure(resting()[case], metrics=["dead_unit_share"])
    for address in ("dead_unit_share", "dead_unit_share.never"):
        assert found[address].value == 1
        assert found[address].interval == (1, 1)


def test_an_offset_alone_kills_no_channel() -> None:
    for rows in (data.isotropic(2000, 4) + 1e8, data.isotropic(2000, 4).float() + 1e4):
        assert measure(rows, metrics=["dead_unit_share"])["dead_unit_share"].value == 0


def test_dead_channels_are_no_yardstick_of_the_loud_ones() -> None:
    rows = torch.randn(2000, 32, generator=data.generator(0))
    alone = measure(rows[:, 20:], metrics=["outlier_channel_ratio"])
    rows[:, :20] = 0
    found = measure(rows, metrics=["outlier_channel_ratio"])
    for address in ("outlier_channel_ratio", "outlier_channel_ratio.rms"):
        assert found[address].status == "ok"
        assert found[address].value == pytest.approx(alone[address].value)
        assert found[address].interval == pytest.approx(alone[address].interval)
        assert "20 of 32 channels are dead and left out: 0, 1, 2," in str(found[address].detail)


@pytest.mark.parametrize(("n", "d"), [(500, 1), (501, 7), (3000, 24)])
@pytest.mark.parametrize("share", [0.002, 1.0])
def test_the_range_index_is_against_the_smallest_of_the_largest_thousandth(n: int, d: int, share: float) -> None:
    rows = data.isotropic(n, d) * (torch.rand(n, d, generator=data.generator(1)) < share)
    sizes = rows.abs().flatten().sort(descending=True).values
    ordinary = sizes[-(-n * d // 1000) - 1].item()
    found = measure(rows, metrics=["outlier_channel_ratio.range_index"])["outlier_channel_ratio.range_index"]
    if ordinary > 0:
        assert found.value == pytest.approx(sizes[0].item() / ordinary)
    else:
        assert found.status != "ok"
