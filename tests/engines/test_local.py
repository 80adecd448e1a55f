from __future__ import annotations

import torch

from gate.engines import local
from gate.geometry.statistics import Batch, Moments
from tests.geometry import data


def test_folding_batches_of_several_layers_equals_one_pass_over_each() -> None:
    rows = data.isotropic(100, 4)
    ids = [str(i) for i in range(100)]
    batches = [
        {"a": Batch.of(rows[i : i + 30], ids=ids[i : i + 30]), "b": Batch.of(-rows[i : i + 30], ids=ids[i : i + 30])}
        for i in range(0, 100, 30)
    ]
    folded = local.fold(batches, (Moments,))
    assert list(folded) == ["a", "b"]
    assert folded["a"].census.n == 100
    moments = folded["b"].get(Moments)
    assert isinstance(moments, Moments)
    torch.testing.assert_close(moments.mean, -rows.mean(dim=0))


def test_no_batch_is_no_layer() -> None:
    assert local.fold([], (Moments,)) == {}
