"""What goes wrong after training, on the way into service."""

from __future__ import annotations

import torch
from torch import Tensor


def pruned(features: Tensor) -> Tensor:
    """Every second channel cut out and its place filled with zeros."""
    return torch.cat([features[:, ::2], torch.zeros_like(features[:, 1::2])], dim=1)


def loud(features: Tensor) -> Tensor:
    """A scale lost in conversion: the first channel twenty times as large."""
    return torch.cat([20 * features[:, :1], features[:, 1:]], dim=1)


def offset(features: Tensor) -> Tensor:
    """A bias counted twice: the same vector added to every row, in each channel as large as the features spread."""
    return features + features.std()


def rotated(features: Tensor) -> Tensor:
    """The same space with other axes, as a training with another seed would leave it."""
    square = torch.randn(features.shape[1], features.shape[1], generator=torch.Generator().manual_seed(0))
    axes: Tensor = torch.linalg.qr(square).Q
    return features @ axes


def with_number(features: Tensor, number: Tensor) -> Tensor:
    """A raw number (n,) in place of the last channel, as when metadata is joined to vectors."""
    return torch.cat([features[:, :-1], number[:, None]], dim=1)
