"""Versions of a model that cost nothing to train: clouds of labelled rows that differ from draw to draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np

ROWS, WIDTH, CLASSES = 300, 12, 4


def probe(folder: Path, *, label: bool = True) -> Path:
    """The rows that every version is measured on, and their spec."""
    rng = np.random.default_rng(0)
    labels = np.arange(ROWS) % CLASSES
    ids = np.array([f"row-{row:03d}" for row in range(ROWS)])
    np.savez(folder / "probe.npz", x=rng.normal(size=(ROWS, 3)).astype(np.float32), label=labels.astype(str), id=ids)
    spec = folder / "probe.yaml"
    columns = "{input: x, label: label, id: id}" if label else "{input: x, id: id}"
    spec.write_text(f"uri: {folder / 'probe.npz'}\ncolumns: {columns}\n", encoding="utf-8")
    return spec


def good(folder: Path, seed: int) -> str:
    """Classes apart, every direction in use; versions differ by a little, as trainings do."""
    rng = np.random.default_rng(seed + 1)
    means = np.random.default_rng(0).normal(size=(CLASSES, WIDTH)) * (2 + 0.1 * rng.normal())
    means += 0.1 * rng.normal(size=means.shape)
    noise = rng.normal(size=(ROWS, WIDTH)) * np.linspace(1.2, 0.8, WIDTH)
    return _written(folder / f"good-{seed}.npz", means[np.arange(ROWS) % CLASSES] + noise)


def bad(folder: Path, seed: int) -> str:
    """On a line, nearly."""
    rng = np.random.default_rng(1000 + seed)
    line = rng.normal(size=(ROWS, 1)) * 5 @ rng.normal(size=(1, WIDTH))
    return _written(folder / f"bad-{seed}.npz", line + 0.1 * rng.normal(size=(ROWS, WIDTH)))


def _written(path: Path, features: np.ndarray) -> str:
    ids = np.array([f"row-{row:03d}" for row in range(ROWS)])
    np.savez(path, features=features.astype(np.float32), id=ids)
    return f"features:{path}"
