"""Networks that read off how far a picture was turned and shifted."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.packs.case import Case
from benchmarks.packs.data import moved, split
from benchmarks.packs.training import Schedule, built, fit, perceptron

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Generator

WIDTH = 64
MOST_TURNED = math.pi / 4
MOST_SHIFTED = 1.5  # pixels


@dataclass(frozen=True)
class Recipe:
    """How a network is trained."""

    weight_decay: float = 1e-4
    mixed_up: bool = False
    rectified: bool = False
    penalty: float = 0.0
    epochs: int = 60
    learning_rate: float = 2e-3


HEALTHY = Recipe()
FAILURES = {
    "weight decay": replace(HEALTHY, weight_decay=5.0),
    "targets mixed up": replace(HEALTHY, mixed_up=True),
    "cut at zero": replace(HEALTHY, rectified=True),
    "penalty": replace(HEALTHY, rectified=True, penalty=1.0),
    "untrained": replace(HEALTHY, epochs=0),
}


class Network(nn.Module):
    """An embedding and a linear head on it."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        last = nn.ReLU() if recipe.rectified else nn.Identity()
        self.embedding = nn.Sequential(perceptron(64, 256, 256, WIDTH), last)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Turn and shifts (n, 3), each in units of the largest."""
        found: Tensor = self.head(self.embedding(images))
        return found


def cases(seed: int) -> Iterator[Case]:
    """The healthy network and the broken ones."""
    yield _case("healthy", HEALTHY, seed)
    for name, recipe in FAILURES.items():
        yield _case(name, recipe, seed)


def posed(images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Images turned and shifted at random, and by how much (n, 3), each in [-1, 1]."""
    targets = 2 * torch.rand(len(images), 3, generator=generator) - 1
    return moved(images, MOST_TURNED * targets[:, 0], MOST_SHIFTED * targets[:, 1:]), targets


@cache
def _probe() -> tuple[Tensor, Tensor]:
    return posed(split()[1][0], torch.Generator().manual_seed(0))


def _case(name: str, recipe: Recipe, seed: int) -> Case:
    images = split()[0][0]
    model = built(lambda: Network(recipe), seed)

    def loss(rows: Tensor, generator: Generator) -> Tensor:
        pictures, targets = posed(images[rows], generator)
        if recipe.mixed_up:
            targets = targets[torch.randperm(len(rows), generator=generator)]
        features: Tensor = model.embedding(pictures)
        return functional.mse_loss(model.head(features), targets) + recipe.penalty * features.abs().mean()

    schedule = Schedule(epochs=recipe.epochs, weight_decay=recipe.weight_decay, learning_rate=recipe.learning_rate)
    fit(model, loss, len(images), seed, schedule)
    probe, targets = _probe()
    with torch.inference_mode():
        features = model.embedding(probe)
    return Case(name, {"embedding": features}, probe.flatten(1), {"targets": targets}, healthy=name == "healthy")
