"""The digits that come inside scikit-learn: 797 images to train on, 1000 that no model sees before it is judged."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from gate.demo import digits

if TYPE_CHECKING:
    from torch import Generator, Tensor

SIDE = 8


@cache
def split() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Training and probe rows, each as images (n, 1, 8, 8) in [0, 1] and classes (n,)."""
    train, probe = ((torch.from_numpy(part.pixels), torch.from_numpy(part.labels)) for part in digits.load())
    return train, probe


def moved(images: Tensor, angles: Tensor, offsets: Tensor) -> Tensor:
    """Images turned by `angles` (n,), in radians, and shifted by `offsets` (n, 2), in pixels."""
    cosine, sine = angles.cos(), angles.sin()
    across, down = (offsets * (2 / SIDE)).unbind(1)
    maps = torch.stack([torch.stack([cosine, -sine, across], 1), torch.stack([sine, cosine, down], 1)], 1)
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def view(images: Tensor, generator: Generator) -> Tensor:
    """Another picture of the same digits: turned by up to 20 degrees, shifted by up to 1.5 pixels, noisy."""
    turn, shift = _evenly((len(images),), generator), _evenly((len(images), 2), generator)
    noise = 0.1 * torch.randn(images.shape, generator=generator)
    return moved(images, math.pi / 9 * turn, 1.5 * shift) + noise


def shifted(images: Tensor, generator: Generator) -> Tensor:
    """Each picture moved by a whole pixel at most along both axes."""
    offsets = torch.randint(-1, 2, (len(images), 2), generator=generator).float()
    return moved(images, torch.zeros(len(images)), offsets)


@cache
def views() -> tuple[Tensor, Tensor]:
    """The probe rows as `view` shows them, always the same, and their classes: what no untrained network can sort."""
    images, labels = split()[1]
    return view(images, torch.Generator().manual_seed(0)), labels


def _evenly(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return 2 * torch.rand(shape, generator=generator) - 1


def same_class(labels: Tensor, generator: Generator) -> Tensor:
    """For each row, another row of its class at random, (n,)."""
    partner = torch.empty_like(labels)
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]
        partner[rows] = rows[torch.randint(len(rows), (len(rows),), generator=generator)]
    return partner
