"""The constructible data sets whose metrics are known in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def isotropic(n: int, d: int, seed: int = 0) -> Tensor:
    """Independent N(0, 1)."""
    return torch.randn(n, d, generator=generator(seed), dtype=torch.float64)


def orthonormal_columns(n: int, eigenvalues: Tensor, seed: int = 0) -> Tensor:
    """Centred rows (n, d) whose covariance is diag(eigenvalues) exactly."""
    raw = torch.cat([torch.ones(n, 1, dtype=torch.float64), isotropic(n, len(eigenvalues), seed)], dim=1)
    columns: Tensor = torch.linalg.qr(raw).Q[:, 1:]
    return columns * (n * eigenvalues).sqrt()


def rotation(d: int, seed: int = 0) -> Tensor:
    turned: Tensor = torch.linalg.qr(isotropic(d, d, seed)).Q
    return turned


def axes(d: int, m: int, live: int) -> Tensor:
    """Rows +-e_j for j <= live, each m times."""
    eye = torch.eye(d, dtype=torch.float64)[:live]
    return torch.cat([eye, -eye]).repeat(m, 1)


def simplex(c: int, per_class: int, d: int, a: float) -> tuple[Tensor, list[int]]:
    """Class means a * e_c, in every class exactly isotropic noise of variance 1."""
    noise = torch.cat([orthonormal_columns(per_class, torch.ones(d, dtype=torch.float64), seed) for seed in range(c)])
    labels = [code for code in range(c) for _ in range(per_class)]
    return noise + a * torch.eye(d, dtype=torch.float64)[labels], labels


def two_classes(distance: float, n: int, d: int, seed: int = 0) -> tuple[Tensor, list[int]]:
    """Two balanced N(0, I) classes, means `distance` apart on the first axis."""
    labels = [row % 2 for row in range(n)]
    rows = isotropic(n, d, seed)
    rows[:, 0] += distance * torch.tensor(labels)
    return rows, labels


def structured(n: int, d: int, c: int, seed: int, signal: float = 0.4) -> tuple[Tensor, Tensor]:
    """A healthy cloud: a decaying spectrum, an offset, and c Gaussian classes drawn at random; float32."""
    g = generator(seed)
    means = torch.randn(c, d, generator=generator(7)) * signal
    labels = torch.randint(0, c, (n,), generator=g)
    spread = torch.arange(1, d + 1).float() ** -0.25
    return means[labels] + torch.randn(n, d, generator=g) * spread + 0.3, labels


def far_clusters(n: int, c: int, d: int, seed: int = 0) -> tuple[Tensor, list[int]]:
    labels = [row % c for row in range(n)]
    means = 20 * rotation(d, seed)[:c]
    return means[labels] + isotropic(n, d, seed), labels


PHI_1 = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
