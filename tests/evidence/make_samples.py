"""Writes the newest sample document of tests/evidence/v1: a collapsed model against its champion, on made-up features.

The others were written by earlier versions: released documents must stay readable as they are.
"""

from __future__ import annotations

import shutil
from contextlib import chdir
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

import gate
from gate.evidence import bundle
from gate.models.digest import digest_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

HERE = Path(__file__).parent / "v1"
N, D, C = 500, 64, 10
LABELS = np.arange(N) % C
DAY = date(2026, 11, 21)
RUN = {
    "version": "0.2.0",
    "python": "3.11.9",
    "torch": "2.13.0",
    "mlflow": "3.17.2",
    "numpy": "2.3.5",
    "platform": "Linux-6.8-x86_64",
    "git": {"commit": "9f2c41d07be8a35c6d10e4b7f8a29c3e5d6b7a80", "dirty": False},
    "started": "2026-11-21T09:30:00+00:00",
    "seconds": 3.217,
}


def healthy(rng: np.random.Generator) -> Array:
    """Ten classes that point their own ways, and noise in all directions."""
    centres = np.linalg.qr(rng.normal(size=(D, C)))[0].T * 6.0
    rows: Array = (centres[LABELS] + rng.normal(size=(N, D)) * np.linspace(1.2, 0.5, D)).astype(np.float32)
    return rows


def collapsed(rng: np.random.Generator) -> Array:
    """The same labels in a cone: one common direction, and two that tell the classes apart."""
    angles = 2 * np.pi * LABELS / C
    plane = np.stack([np.cos(angles), 0.6 * np.sin(angles)], axis=1) * 2.0 + rng.normal(size=(N, 2)) * 0.2
    rows = rng.normal(size=(N, D)) * 0.16 * np.exp(-np.arange(D) / 9.0)
    rows[:, :2] += plane
    turned: Array = (rows @ np.linalg.qr(rng.normal(size=(D, D)))[0] + 0.62).astype(np.float32)
    return turned


def main() -> None:
    """Write the sample."""
    rng = np.random.default_rng(20260101)
    ids = [f"digit-{row:04d}" for row in range(N)]
    pens = np.array(["blue", "red", "blue", "red", "green"], dtype="<U6")[rng.integers(0, 5, size=N)]
    pens[rng.choice(N, size=20, replace=False)] = "pencil"
    with TemporaryDirectory() as folder, chdir(folder):
        champion, candidate = healthy(rng), collapsed(rng)
        np.savez("digits.npz", pixels=candidate, digit=LABELS, id=ids, pen=pens)
        for name, rows in (("champion", champion), ("candidate", candidate)):
            np.savez(f"{name}.npz", features=rows, id=ids)
        shutil.copy(HERE / "compared-base.yaml", "compared-base.yaml")
        text = (HERE / "compared.yaml").read_text(encoding="utf-8")
        digest = digest_file(Path("candidate.npz"))
        Path("compared.yaml").write_text(text.replace("sha256:" + "0" * 64, digest), encoding="utf-8")
        found = gate.check("features:candidate.npz", policy="compared.yaml", today=DAY).document
        written = bundle.dumps(found).replace(f"{Path.cwd()}/", "")
    document = bundle.loads(written)
    bundle.dump({**document, "run": document["run"] | RUN}, HERE / "compared.json")


if __name__ == "__main__":
    main()
