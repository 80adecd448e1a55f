"""Versions as files of vectors, and the rows that they were made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS, WIDTH, CLASSES = 1000, 12, 4
Array = NDArray[np.float64]


def labels() -> list[str]:
    return [str(row % CLASSES) for row in range(ROWS)]


def ids() -> list[str]:
    return [f"row-{row:04d}" for row in range(ROWS)]


def healthy(seed: int = 0) -> Array:
    """Classes apart, and noise in all directions."""
    rng = np.random.default_rng(seed)
    centres = 2 * np.eye(CLASSES, WIDTH)
    noisy: Array = centres[np.arange(ROWS) % CLASSES] + rng.normal(size=(ROWS, WIDTH))
    return noisy


def squeezed(rows: Array) -> Array:
    """The same rows with most of their spread along one direction."""
    return np.hstack([rows[:, :1] * 6, rows[:, 1:] / 3])


def version(folder: Path, name: str, rows: Array) -> str:
    """A version whose vectors are these; its URI."""
    np.save(folder / f"{name}.npy", rows.astype(np.float32))
    return f"features:{folder / name}.npy"


def probe(folder: Path, **columns: Any) -> str:
    """A probe spec of the rows; its path."""
    table = {"x": healthy().astype(np.float32), "label": labels(), "id": ids(), **columns}
    np.savez(folder / "probe.npz", **table)
    named = "".join(f", {name}: {name}" for name in columns)
    path = folder / "probe.yaml"
    path.write_text(f"uri: {folder / 'probe.npz'}\ncolumns: {{input: x, label: label, id: id{named}}}\n")
    return str(path)
