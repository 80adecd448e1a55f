"""How the small models are built and trained: from a seed, on one thread, the same each time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a model is trained."""

    epochs: int = 30
    batch: int = 100
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4


def built(build: Callable[[], Model], seed: int) -> Model:
    """A model whose first weights come from `seed`; the global generator is put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def fit(model: Model, loss: Callable[[Tensor, Generator], Tensor], count: int, seed: int, schedule: Schedule) -> Model:
    """Train in place.

    Args:
        model: Returned in evaluation mode.
        loss: Of the rows of one batch, given their places among the `count` training rows.
        count: Training rows.
        seed: Of the order of the rows and of the views of them.
        schedule: How long and how fast.

    Returns:
        The model.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = count // schedule.batch
    optimiser = torch.optim.AdamW(model.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=schedule.learning_rate, epochs=max(schedule.epochs, 1), steps_per_epoch=steps
    )
    model.train()
    for _ in range(schedule.epochs):
        order = torch.randperm(count, generator=generator)
        for rows in order[: steps * schedule.batch].reshape(steps, schedule.batch):
            optimiser.zero_grad()
            torch.autograd.backward(loss(rows, generator))
            optimiser.step()
            rate.step()
    return model.eval()


def perceptron(*widths: int) -> nn.Sequential:
    """Linear maps of these widths, normalised and cut at zero between them; the last one plain."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


def redundancy(features: Tensor) -> Tensor:
    """Sum of the squared correlations of a channel with all others, averaged over channels: in [0, d - 1]."""
    centred = features - features.mean(dim=0)
    normalised = centred / (centred.std(dim=0) + 1e-4)
    correlations = normalised.T @ normalised / (len(features) - 1)
    return (correlations.square().sum() - correlations.diagonal().square().sum()) / features.shape[1]
