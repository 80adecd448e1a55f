"""Variational autoencoders of digits, judged by their posterior means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.packs.case import Case
from benchmarks.packs.data import split
from benchmarks.packs.served import with_number
from benchmarks.packs.training import Schedule, built, fit, perceptron

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Generator

LATENTS = 16


@dataclass(frozen=True)
class Recipe:
    """How an autoencoder is built and trained."""

    beta: float = 1.0
    sees_input: bool = False
    rectified: bool = False
    epochs: int = 60


HEALTHY = Recipe()
FAILURES = {
    "fivefold beta": replace(HEALTHY, beta=5.0),
    "fiftyfold beta": replace(HEALTHY, beta=50.0),
    "decoder sees its input": replace(HEALTHY, sees_input=True),
    "cut at zero": replace(HEALTHY, rectified=True),
    "no prior": replace(HEALTHY, beta=0.0),
    "untrained": replace(HEALTHY, epochs=0),
}


class Autoencoder(nn.Module):
    """An encoder to means and log variances, and a decoder to pixels."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.encoder = perceptron(64, 256, 2 * LATENTS)
        self.decoder = perceptron(LATENTS + 64 * recipe.sees_input, 256, 64)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log variances (n, 16)."""
        means, logs = self.encoder(images).chunk(2, dim=1)
        return means.relu() if self.recipe.rectified else means, logs

    def loss(self, images: Tensor, generator: Generator) -> Tensor:
        """The negative evidence bound, its second term times beta."""
        means, logs = self.posterior(images)
        drawn = means + (logs / 2).exp() * torch.randn(means.shape, generator=generator)
        pixels = images.flatten(1)
        seen = torch.cat([drawn, pixels], dim=1) if self.recipe.sees_input else drawn
        wrong = functional.binary_cross_entropy_with_logits(self.decoder(seen), pixels, reduction="none")
        distance = (means.square() + logs.exp() - 1 - logs) / 2
        return wrong.sum(dim=1).mean() + self.recipe.beta * distance.sum(dim=1).mean()


def cases(seed: int) -> Iterator[Case]:
    """The healthy autoencoder, the broken ones, and the healthy one with a raw number among its means."""
    healthy = _case("healthy", HEALTHY, seed)
    yield healthy
    for name, recipe in FAILURES.items():
        yield _case(name, recipe, seed)
    means = with_number(healthy.layers["latent"], healthy.inputs.sum(dim=1))
    columns = {**healthy.columns, "latent_means": means}
    yield replace(healthy, model="raw column", layers={"latent": means}, columns=columns, healthy=False)


def _case(name: str, recipe: Recipe, seed: int) -> Case:
    images, (probe, labels) = split()[0][0], split()[1]
    model = built(lambda: Autoencoder(recipe), seed)

    def loss(rows: Tensor, generator: Generator) -> Tensor:
        return model.loss(images[rows], generator)

    fit(model, loss, len(images), seed, Schedule(epochs=recipe.epochs))
    with torch.inference_mode():
        means, logs = model.posterior(probe)
    columns = {"labels": labels, "latent_means": means, "latent_log_variances": logs}
    return Case(name, {"latent": means}, probe.flatten(1), columns, healthy=name == "healthy")
