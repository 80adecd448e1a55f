"""The two classifiers of `gate demo`, and others that went wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.packs.case import Case
from benchmarks.packs.data import shifted, split
from benchmarks.packs.served import loud
from benchmarks.packs.training import Schedule, built, fit, redundancy
from gate.demo import digits, training

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Generator

CONFUSED = (8, 3)


@dataclass(frozen=True)
class Recipe:
    """The recipe of the demo, and what can go wrong beside its sign."""

    rectified: bool = False
    penalty: float = 0.0
    smoothing: float = 0.0
    mislabelled: float = 0.0
    epochs: int = 20


FAILURES = {
    "cut at zero": Recipe(rectified=True),
    "activation penalty": Recipe(rectified=True, penalty=0.5),
    "smoothed labels": Recipe(smoothing=0.4),
    "class mislabelled": Recipe(mislabelled=0.7),
    "untrained": Recipe(epochs=0),
}


@cache
def demo(seed: int, *, wrong_sign: bool = False) -> training.DigitClassifier:
    """A model of the demo, trained once whoever asks."""
    recipe = training.WRONG_SIGN if wrong_sign else training.HEALTHY
    return training.train(replace(recipe, seed=seed), digits.load()[0])


def cases(seed: int) -> Iterator[Case]:
    """The models of the demo, the broken ones, and the healthy one with the head of another version."""
    yield case("healthy", demo(seed), healthy=True)
    yield case("wrong sign", demo(seed, wrong_sign=True))
    for name, recipe in FAILURES.items():
        yield case(name, _trained(recipe, seed))
    other = demo(seed + 1)
    found = case("another head", demo(seed))
    with torch.inference_mode():
        logits = other.head(found.layers["embedding"])
    yield replace(found, columns={**found.columns, "logits": logits})
    yield replace(found, model="loud channel", layers={"embedding": loud(found.layers["embedding"])})


def case(model: str, network: training.DigitClassifier, *, healthy: bool = False) -> Case:
    """A classifier on the probe rows."""
    probe, labels = split()[1]
    with torch.inference_mode():
        features = network.embed(probe)
        columns = {"labels": labels, "logits": network.head(features)}
    return Case(model, {"embedding": features}, probe.flatten(1), columns, healthy=healthy)


def _trained(recipe: Recipe, seed: int) -> training.DigitClassifier:
    images, labels = split()[0]
    model = built(training.DigitClassifier, seed)
    if recipe.rectified:
        model.embedding[1] = nn.ReLU()
    draw = torch.Generator().manual_seed(seed)
    wrong = (labels == CONFUSED[0]) & (torch.rand(len(labels), generator=draw) < recipe.mislabelled)
    labels = labels.masked_fill(wrong, CONFUSED[1])

    def loss(rows: Tensor, generator: Generator) -> Tensor:
        features = model.embed(shifted(images[rows], generator))
        fit_to = functional.cross_entropy(model.head(features), labels[rows], label_smoothing=recipe.smoothing)
        return fit_to + 0.03 * redundancy(features) + recipe.penalty * features.abs().mean()

    return fit(model, loss, len(images), seed, Schedule(epochs=recipe.epochs, batch=50))
