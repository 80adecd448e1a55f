"""New versions of a classifier beside the version they would replace."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

from torch.nn import functional

from benchmarks.packs.classifier import case, demo
from benchmarks.packs.data import shifted, split
from benchmarks.packs.served import loud, offset, pruned, rotated
from benchmarks.packs.training import Schedule, fit, redundancy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Generator, Tensor

    from benchmarks.packs.case import Case
    from gate.demo.training import DigitClassifier

FORGOTTEN = 3
ON = Schedule(epochs=4, batch=50, learning_rate=5e-4)
AWAY = Schedule(epochs=8, batch=50, learning_rate=4e-3)
CHANGES = {"rotated": rotated, "pruned": pruned, "loud channel": loud, "offset": offset}


def cases(seed: int) -> Iterator[Case]:
    """Two good successors of the healthy model of the demo, and bad ones."""
    champion = demo(seed)
    images, labels = split()[0]
    rest = labels != FORGOTTEN
    yield _against(champion, case("trained on", _tuned(champion, images, labels, seed, ON), healthy=True))
    yield _against(champion, case("trained anew", demo(seed + 1), healthy=True))
    yield _against(champion, case("class forgotten", _tuned(champion, images[rest], labels[rest], seed, AWAY)))
    yield _against(champion, case("another task", _tuned(champion, images, labels % 2, seed, AWAY)))
    yield _against(champion, case("wrong sign", demo(seed, wrong_sign=True)))
    for name, change in CHANGES.items():
        yield _against(champion, _served(champion, name, change))


def _against(champion: DigitClassifier, found: Case) -> Case:
    before = case("champion", champion)
    columns = {**found.columns, "baseline_logits": before.columns["logits"]}
    return replace(found, columns=columns, baseline=before.layers)


def _tuned(champion: DigitClassifier, images: Tensor, labels: Tensor, seed: int, schedule: Schedule) -> DigitClassifier:
    """The champion, trained on with the recipe of the demo on these rows."""
    model = deepcopy(champion)

    def loss(rows: Tensor, generator: Generator) -> Tensor:
        features = model.embed(shifted(images[rows], generator))
        return functional.cross_entropy(model.head(features), labels[rows]) + 0.03 * redundancy(features)

    return fit(model, loss, len(images), seed, schedule)


def _served(champion: DigitClassifier, model: str, change: Callable[[Tensor], Tensor]) -> Case:
    """The champion with other features; its head is folded to go with them, so that it predicts as before."""
    found = case(model, champion)
    return replace(found, layers={name: change(features) for name, features in found.layers.items()})
