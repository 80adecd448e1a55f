"""Vector-quantised autoencoders of digits: sixteen patches a picture, each replaced by its nearest code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.packs.case import Case
from benchmarks.packs.data import split
from benchmarks.packs.served import loud, pruned
from benchmarks.packs.training import Schedule, built, fit, redundancy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Generator

CODES, WIDTH = 64, 32


@dataclass(frozen=True)
class Recipe:
    """How a quantiser is trained."""

    revived: bool = True
    scale: float = 1.0
    commitment: float = 0.25
    normalised: bool = True
    rectified: bool = False
    alike: float = 0.0
    epochs: int = 30


HEALTHY = Recipe()
FAILURES = {
    "codes far away": replace(HEALTHY, revived=False, scale=5.0),
    "codes not revived": replace(HEALTHY, revived=False),
    "cut at zero": replace(HEALTHY, rectified=True),
    "not normalised": replace(HEALTHY, normalised=False),
    "wrong sign": replace(HEALTHY, alike=-0.03),
    "untrained": replace(HEALTHY, epochs=0, revived=False),
}


class Quantiser(nn.Module):
    """An encoder of patches, a codebook, and a decoder of codes."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, WIDTH, 4, stride=2, padding=1),
            nn.BatchNorm2d(WIDTH, affine=False) if recipe.normalised else nn.Identity(),
            nn.ReLU() if recipe.rectified else nn.Identity(),
        )
        self.codebook = nn.Parameter(recipe.scale * torch.randn(CODES, WIDTH))
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(WIDTH, 32, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 3, padding=1)
        )

    def patches(self, images: Tensor) -> Tensor:
        """Encoder outputs (n, 16, 32)."""
        found: Tensor = self.encoder(images)
        return found.flatten(2).transpose(1, 2)

    def nearest(self, patches: Tensor) -> Tensor:
        """Places of the nearest codes (n, 16)."""
        return torch.cdist(patches, self.codebook.expand(len(patches), -1, -1)).argmin(dim=2)

    def loss(self, images: Tensor, generator: Generator) -> Tensor:
        """Squared error of the pixels, of the codes and, by its weight, of the encoder."""
        patches = self.patches(images)
        codes = self.nearest(patches)
        chosen = self.codebook[codes]
        passed = patches + (chosen - patches).detach()
        pixels = self.decoder(passed.transpose(1, 2).reshape(len(images), WIDTH, 4, 4))
        if self.recipe.revived and self.training:
            self._revive(patches.detach(), codes, generator)
        return (
            10 * functional.mse_loss(pixels, images)
            + functional.mse_loss(chosen, patches.detach())
            + self.recipe.commitment * functional.mse_loss(patches, chosen.detach())
            + self.recipe.alike * redundancy(patches.flatten(0, 1))
        )

    @torch.no_grad()
    def _revive(self, patches: Tensor, codes: Tensor, generator: Generator) -> None:
        """Put codes that no patch of the batch chose onto patches of the batch."""
        unused = torch.bincount(codes.flatten(), minlength=CODES) == 0
        rows = patches.flatten(0, 1)
        drawn = torch.randint(len(rows), (int(unused.sum()),), generator=generator)
        self.codebook[unused] = rows[drawn]


def cases(seed: int) -> Iterator[Case]:
    """The healthy quantiser, the broken ones, and the healthy one served wrongly."""
    healthy = _case("healthy", HEALTHY, seed)
    yield healthy
    for name, recipe in FAILURES.items():
        yield _case(name, recipe, seed)
    for name, change in {"pruned": pruned, "loud channel": loud}.items():
        yield replace(healthy, model=name, layers={"encoder": change(healthy.layers["encoder"])}, healthy=False)


def _case(name: str, recipe: Recipe, seed: int) -> Case:
    images, (probe, labels) = split()[0][0], split()[1]
    model = built(lambda: Quantiser(recipe), seed)

    def loss(rows: Tensor, generator: Generator) -> Tensor:
        return model.loss(images[rows], generator)

    fit(model, loss, len(images), seed, Schedule(epochs=recipe.epochs, learning_rate=5e-3))
    with torch.inference_mode():
        patches = model.patches(probe)
        columns = {"labels": labels, "codes": model.nearest(patches)}
    return Case(name, {"encoder": patches.mean(dim=1)}, probe.flatten(1), columns, healthy=name == "healthy")
