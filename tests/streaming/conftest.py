from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A probe set of 10 rows whose inputs are one vector each, with ids and labels."""
    path = tmp_path / "probe.npz"
    x = np.arange(30, dtype=np.float32).reshape(10, 3)
    np.savez(path, x=x, y=np.arange(10) % 2, id=np.array([f"r{i}" for i in range(10)]))
    return path
