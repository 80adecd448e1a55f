from __future__ import annotations

import torch

from gate.engines import local
from gate.geometry.statistics import Batch, Collection, Moments
from tests.geometry import data

ROWS = data.isotropic(100, 4)
IDS = [str(i) for i in range(100)]


def some(rows: torch.Tensor, start: int, stop: int) -> Batch:
    return Batch.of(rows[start:stop], ids=IDS[start:stop])


def moments(found: Collection) -> Moments:
    kept = found.get(Moments)
    assert isinstance(kept, Moments)
    return kept


def test_folding_batches_of_several_parts_equals_one_pass_over_each() -> None:
    batches = [{"a": some(ROWS, i, i + 30), "b": some(-ROWS, i, i + 30)} for i in range(0, 100, 30)]
    folded = local.fold(batches, lambda _: (Moments,))
    assert list(folded) == ["a", "b"]
    assert folded["a"].census.n == 100
    torch.testing.assert_close(moments(folded["b"]).mean, -ROWS.mean(dim=0))


def test_a_part_that_some_batches_lack_is_folded_from_the_others() -> None:
    batches = [{"a": some(ROWS, 0, 30)}, {"a": some(ROWS, 30, 60), "b": some(ROWS, 40, 50)}, {"b": some(ROWS, 60, 65)}]
    folded = local.fold(batches, lambda _: (Moments,))
    assert {part: found.census.n for part, found in folded.items()} == {"a": 60, "b": 15}
    torch.testing.assert_close(moments(folded["b"]).mean, torch.cat([ROWS[40:50], ROWS[60:65]]).mean(dim=0))


def test_of_each_part_its_own_statistics_are_kept() -> None:
    asked: list[str] = []

    def kinds(part: str) -> tuple[type[Moments], ...]:
        asked.append(part)
        return (Moments,) if part == "a" else ()

    batches = [{"a": some(ROWS, i, i + 30), "b": some(ROWS, i, i + 30)} for i in range(0, 100, 30)]
    folded = local.fold(batches, kinds)
    assert asked == ["a", "b"]  # once each, not with every batch
    assert [found.get(Moments) is not None for found in folded.values()] == [True, False]
    assert folded["b"].census.n == 100


def test_no_batch_is_no_part() -> None:
    assert local.fold([], lambda _: (Moments,)) == {}
