"""Backbones trained without labels on two views of each picture, after VICReg and SimSiam."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.packs.case import Case, with_copies
from benchmarks.packs.data import split, view, views
from benchmarks.packs.served import loud, pruned
from benchmarks.packs.training import Schedule, built, fit, perceptron

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Generator

WIDTH = 64
PROJECTED = 128


@dataclass(frozen=True)
class Recipe:
    """Weights of the three terms of VICReg, and what can go wrong beside them."""

    variance: float = 25.0
    covariance: float = 1.0
    mixed_up: bool = False
    rectified: bool = False
    siamese: bool = False
    epochs: int = 40


HEALTHY = Recipe()
FAILURES = {
    "no variance term": replace(HEALTHY, variance=0.0),
    "no covariance term": replace(HEALTHY, covariance=0.0),
    "no stop-gradient": replace(HEALTHY, siamese=True),
    "views mixed up": replace(HEALTHY, mixed_up=True),
    "cut at zero": replace(HEALTHY, rectified=True),
    "untrained": replace(HEALTHY, epochs=0),
}


class Network(nn.Module):
    """A backbone whose features are kept, and a projector that only training needs."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        last = nn.ReLU() if recipe.rectified else nn.Identity()
        self.backbone = nn.Sequential(perceptron(64, 256, 256, WIDTH), last)
        self.projector = perceptron(WIDTH, PROJECTED, PROJECTED)

    def forward(self, images: Tensor) -> Tensor:
        """Projections (n, 128)."""
        found: Tensor = self.projector(self.backbone(images))
        return found


def cases(seed: int) -> Iterator[Case]:
    """The healthy backbone, the broken ones, and the healthy one served wrongly."""
    healthy = _features(HEALTHY, seed)
    yield _case("healthy", healthy)
    for name, recipe in FAILURES.items():
        yield _case(name, _features(recipe, seed))
    yield _case("pruned", pruned(healthy))
    yield _case("loud channel", loud(healthy))
    yield with_copies(_case("healthy", healthy))


def _case(model: str, features: Tensor) -> Case:
    probe, labels = views()
    return Case(model, {"embedding": features}, probe.flatten(1), {"labels": labels}, healthy=model == "healthy")


def _features(recipe: Recipe, seed: int) -> Tensor:
    """Outputs (n, 64) of the backbone on the probe rows."""
    images = split()[0][0]
    model = built(lambda: Network(recipe), seed)

    def loss(rows: Tensor, generator: Generator) -> Tensor:
        return _loss(model, images[rows], recipe, generator)

    fit(model, loss, len(images), seed, Schedule(epochs=recipe.epochs))
    with torch.inference_mode():
        features: Tensor = model.backbone(views()[0])
    return features


def _loss(model: Network, images: Tensor, recipe: Recipe, generator: Generator) -> Tensor:
    other = images[torch.randperm(len(images), generator=generator)] if recipe.mixed_up else images
    pair = view(images, generator), view(other, generator)
    if recipe.siamese:
        first, second = map(model.backbone, pair)
        return -functional.cosine_similarity(first, second).mean()
    first, second = map(model, pair)
    terms = 25.0 * functional.mse_loss(first, second)
    for rows in (first, second):
        terms = terms + recipe.variance * _hinge(rows) + recipe.covariance * _redundancy(rows)
    return terms


def _hinge(rows: Tensor) -> Tensor:
    return functional.relu(1 - (rows.var(dim=0) + 1e-4).sqrt()).mean()


def _redundancy(rows: Tensor) -> Tensor:
    covariance = rows.T.cov()
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / len(covariance)
