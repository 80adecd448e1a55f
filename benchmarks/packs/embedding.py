"""Encoders for retrieval, trained on pairs of pictures that belong together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.packs.case import Case, with_copies
from benchmarks.packs.data import same_class, split, view, views
from benchmarks.packs.served import pruned, with_number
from benchmarks.packs.training import Schedule, built, fit, perceptron

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Generator

WIDTH = 64


@dataclass(frozen=True)
class Recipe:
    """How an encoder is trained: pairs are two views of one image or, by `related`, two images of one class."""

    temperature: float = 0.1
    related: float = 0.2
    negatives: bool = True
    mixed_up: bool = False
    epochs: int = 40


HEALTHY = Recipe()
FAILURES = {
    "no negatives": replace(HEALTHY, negatives=False),
    "low temperature": replace(HEALTHY, temperature=0.02),
    "high temperature": replace(HEALTHY, temperature=10.0),
    "classes as points": replace(HEALTHY, related=1.0, temperature=0.5, epochs=80),
    "pairs mixed up": replace(HEALTHY, mixed_up=True),
    "untrained": replace(HEALTHY, epochs=0),
}


def cases(seed: int) -> Iterator[Case]:
    """The healthy encoder, the broken ones, the healthy one served wrongly and judged on a bad probe set."""
    healthy = _vectors(HEALTHY, seed)
    yield _case("healthy", healthy)
    for name, recipe in FAILURES.items():
        yield _case(name, _vectors(recipe, seed))
    yield _case("raw column", with_number(healthy, views()[0].flatten(1).sum(dim=1)))
    yield _case("pruned", pruned(healthy))
    yield with_copies(_case("healthy", healthy))


def _case(model: str, features: Tensor) -> Case:
    probe, labels = views()
    return Case(model, {"embedding": features}, probe.flatten(1), {"labels": labels}, healthy=model == "healthy")


def _vectors(recipe: Recipe, seed: int) -> Tensor:
    """Unit vectors (n, 64) of the probe rows."""
    images, labels = split()[0]
    model = built(lambda: perceptron(64, 256, 256, WIDTH), seed)

    def loss(rows: Tensor, generator: Generator) -> Tensor:
        return _loss(model, images[rows], labels[rows], recipe, generator)

    fit(model, loss, len(images), seed, Schedule(epochs=recipe.epochs))
    with torch.inference_mode():
        return functional.normalize(model(views()[0]))


def _loss(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, generator: Generator) -> Tensor:
    """Cross-entropy of the pair among all others of the batch; images of a class are no negatives for each other."""
    related = torch.rand(len(images), generator=generator) < recipe.related
    partner = torch.where(related, same_class(labels, generator), torch.arange(len(images)))
    if recipe.mixed_up:
        partner = torch.randperm(len(images), generator=generator)
    first, second = (functional.normalize(model(view(each, generator))) for each in (images, images[partner]))
    if not recipe.negatives:
        return -(first * second).sum(dim=1).mean()
    same = (labels[:, None] == labels) & related[:, None] & ~torch.eye(len(images), dtype=torch.bool)
    cosines = (first @ second.T / recipe.temperature).masked_fill(same, -torch.inf)
    return functional.cross_entropy(cosines, torch.arange(len(images)))
