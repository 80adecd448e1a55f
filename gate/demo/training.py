"""One recipe for a small classifier of digits, and the same recipe with one wrong sign.

The recipe adds a decorrelation penalty to the cross-entropy, so that the channels of the embedding do not repeat each
other (in the spirit of Cogswell et al. 2016, "Reducing Overfitting in Deep Networks by Decorrelating Representations").
With a minus in front of the penalty, training rewards channels that do repeat each other: the embedding falls onto a
line. The head still reads ten classes off the line and its thin surroundings, so the test accuracy does not tell.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gate.demo.digits import Images

WIDTH = 64
CLASSES = 10


@dataclass(frozen=True)
class Recipe:
    """How a model is trained."""

    decorrelation: float = 0.03
    epochs: int = 20
    batch_size: int = 50
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    seed: int = 0


HEALTHY = Recipe()
WRONG_SIGN = replace(HEALTHY, decorrelation=-HEALTHY.decorrelation)


class DigitClassifier(nn.Module):
    """Three convolutions, an embedding of 64 normalised channels, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(_block(1, 16), _block(16, 32), nn.MaxPool2d(2), _block(32, 32), nn.Flatten())
        self.embedding = nn.Sequential(nn.Linear(32 * 4 * 4, WIDTH), nn.BatchNorm1d(WIDTH))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (n, 10) of images (n, 1, 8, 8)."""
        scores: Tensor = self.head(self.embed(images))
        return scores

    def embed(self, images: Tensor) -> Tensor:
        """Features (n, 64) of images (n, 1, 8, 8): what the head reads."""
        features: Tensor = self.embedding(self.backbone(images))
        return features


def train(recipe: Recipe, images: Images) -> DigitClassifier:
    """Train from nothing; on one machine, the same recipe and images always give the same model.

    Args:
        recipe: What to do.
        images: What to learn from, n of them.

    Returns:
        The model, in evaluation mode, on the CPU.
    """
    with _one_thread():
        model = _untrained(recipe.seed)
        _fit(model, recipe, torch.from_numpy(images.pixels), torch.from_numpy(images.labels))
    return model.eval()


@torch.inference_mode()
def accuracy(model: DigitClassifier, images: Images) -> float:
    """Share of the images whose class the model names rightly, in [0, 1]."""
    predicted = model(torch.from_numpy(images.pixels)).argmax(dim=1)
    return float((predicted == torch.from_numpy(images.labels)).double().mean())


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU())


def _untrained(seed: int) -> DigitClassifier:
    """Modules draw their first weights from the global generator, which is put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DigitClassifier()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order, whatever the number of cores; for tensors this small it is no slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fit(model: DigitClassifier, recipe: Recipe, pixels: Tensor, labels: Tensor) -> None:
    generator = torch.Generator().manual_seed(recipe.seed)
    steps_per_epoch = len(labels) // recipe.batch_size
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=recipe.learning_rate, epochs=recipe.epochs, steps_per_epoch=steps_per_epoch
    )
    for _ in range(recipe.epochs):
        order = torch.randperm(len(labels), generator=generator)
        for rows in order[: steps_per_epoch * recipe.batch_size].reshape(steps_per_epoch, recipe.batch_size):
            optimiser.zero_grad()
            torch.autograd.backward(_loss(model, _shifted(pixels[rows], generator), labels[rows], recipe))
            optimiser.step()
            schedule.step()


def _loss(model: DigitClassifier, pixels: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    features = model.embed(pixels)
    return functional.cross_entropy(model.head(features), labels) + recipe.decorrelation * _redundancy(features)


def _redundancy(features: Tensor) -> Tensor:
    """Sum of the squared correlations of a channel with all others, averaged over channels: in [0, d - 1]."""
    centred = features - features.mean(dim=0)
    normalised = centred / (centred.std(dim=0) + 1e-4)
    correlation = normalised.T @ normalised / (len(features) - 1)
    return (correlation.square().sum() - correlation.diagonal().square().sum()) / features.shape[1]


def _shifted(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by at most one pixel along both axes, at random."""
    count, size = len(pixels), pixels.shape[-1]
    padded = functional.pad(pixels, (1, 1, 1, 1))[:, 0]
    down = torch.randint(0, 3, (count, 1), generator=generator) + torch.arange(size)
    right = torch.randint(0, 3, (count, 1), generator=generator) + torch.arange(size)
    moved: Tensor = padded[torch.arange(count)[:, None, None], down[:, :, None], right[:, None, :]]
    return moved[:, None]
