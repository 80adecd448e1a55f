"""Runs a small convolutional network over 50,000 images in a process of its own and in this one, and writes the table.

python -m benchmarks.isolation [ROUNDS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

ROWS = 50_000
BATCH = 1024
RESULTS = Path(__file__).with_name("RESULTS.md")
Isolation = Literal["process", "none"]


def main(rounds: int) -> None:
    """Time both kinds, each run in a fresh interpreter, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / "model")
        found: dict[str, list[tuple[float, float]]] = {"process": [], "none": []}
        for _ in range(rounds):
            for kind, runs in found.items():
                command = [sys.executable, "-m", "benchmarks.isolation", "--once", kind, folder]
                done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own
                ready, seconds = map(float, done.stdout.split()[-2:])
                runs.append((ready, seconds))
    RESULTS.write_text(table(found), encoding="utf-8")


def save(folder: Path) -> None:
    """A residual network of about 0.3 million weights, as MLflow saves one."""
    import mlflow.pytorch
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.relu(self.two(torch.relu(self.one(x))))

    stem = (nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.ReLU(), Block(32), nn.Conv2d(32, 64, 3, stride=2, padding=1))
    network = nn.Sequential(
        *stem, nn.ReLU(), Block(64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    ).eval()
    example = np.zeros((2, 3, 32, 32), dtype=np.float32)
    mlflow.pytorch.save_model(network, str(folder), input_example=example, pip_requirements=["torch"])


def once(kind: Isolation, folder: Path) -> tuple[float, float]:
    """Seconds until the first features of a fresh process, beyond its imports, and seconds for all rows after that."""
    from gate.features import LayerAddress
    from gate.models.quiet import quiet_mlflow
    from gate.running import Job, opened

    with quiet_mlflow():
        import mlflow.pytorch  # noqa: F401 - in any check it is there before a model is loaded
    job = Job(folder / "model", {"out": LayerAddress("output")}).document
    rng = np.random.default_rng(0)
    images = rng.standard_normal((BATCH, 3, 32, 32), dtype=np.float32)
    started = time.perf_counter()
    with runner(kind, job, folder) if kind == "process" else opened(job) as run:
        run(images)
        ready = time.perf_counter()
        for _ in range(ROWS // BATCH + 1):
            run(images)
        ended = time.perf_counter()
    return ready - started, (ended - ready) * ROWS / (BATCH * (ROWS // BATCH + 1))


def runner(_kind: Isolation, job: dict[str, Any], folder: Path) -> Any:  # noqa: ANN401 - a context manager
    """The model in a process of its own."""
    from gate.isolation import Isolated

    return Isolated(job, [folder / "model"], features=["out"])


def table(found: dict[str, list[tuple[float, float]]]) -> str:
    """The results as a page."""
    what = f"A small convolutional network over {ROWS:,} images (3, 32, 32), {BATCH} at a time"
    lines = [
        "# What isolation costs",
        "",
        f"{what}; medians of {len(found['process'])} runs in turns, each in a fresh interpreter with MLflow in it.",
        "",
        "| Isolation | Until the first features, s | All images, s | Images/s |",
        "|---|---|---|---|",
    ]
    for kind, runs in found.items():
        ready, seconds = (statistics.median(each) for each in zip(*runs, strict=True))
        lines.append(f"| `{kind}` | {ready:.2f} | {seconds:.2f} | {ROWS / seconds:,.0f} |")
    pairs = list(zip(found["process"], found["none"], strict=True))
    start = statistics.median(mine[0] - theirs[0] for mine, theirs in pairs)
    ratio = statistics.median(mine[1] / theirs[1] for mine, theirs in pairs)
    lines += ["", f"Start-up costs {start:.2f} s, and every row {100 * (ratio - 1):+.1f} %.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        sys.stdout.write("{} {}\n".format(*once(sys.argv[2], Path(sys.argv[3]))))  # type: ignore[arg-type]
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 5)
