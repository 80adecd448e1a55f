"""Writes the sample documents of tests/evidence/v1: two models of made-up features, judged by one policy.

Run it only for a new version of the schema: released documents must stay readable as they are.
"""

from __future__ import annotations

from contextlib import chdir
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import gate
from gate.evidence import bundle, layers
from gate.geometry.statistics import Batch, ClassMoments, Collection, Moments
from gate.models.loading import LoadedModel
from gate.policy.loading import load_policy
from gate.probes.probe_set import Columns, ProbeSet, open_probe
from gate.verdict import decide, judge

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

HERE = Path(__file__).parent / "v1"
N, D, C = 500, 64, 10
LABELS = np.arange(N) % C


def healthy(rng: np.random.Generator) -> Array:
    """Ten classes that point their own ways, and noise in all directions."""
    centres = np.linalg.qr(rng.normal(size=(D, C)))[0].T * 6.0
    rows: Array = centres[LABELS] + rng.normal(size=(N, D)) * np.linspace(1.2, 0.5, D)
    return rows


def collapsed(rng: np.random.Generator) -> Array:
    """The same labels in a cone: one common direction, and two that tell the classes apart."""
    angles = 2 * np.pi * LABELS / C
    plane = np.stack([np.cos(angles), 0.6 * np.sin(angles)], axis=1) * 2.0 + rng.normal(size=(N, 2)) * 0.2
    rows = rng.normal(size=(N, D)) * 0.16 * np.exp(-np.arange(D) / 9.0)
    rows[:, :2] += plane
    turned: Array = rows @ np.linalg.qr(rng.normal(size=(D, D)))[0]
    return turned + 0.62


def evidence(version: str, x: Array, policy: str) -> dict[str, Any]:
    loaded = load_policy(HERE / policy)
    ids, labels = [f"digit-{i:04d}" for i in range(N)], [str(label) for label in LABELS]
    estimates = gate.measure(x, labels=labels, ids=ids)
    findings = [judge(rule, estimates[rule.metric]) for rule in loaded.policy.rules]
    batch = Batch.of(torch.from_numpy(x), ids=ids, labels=labels)
    collection = Collection.of(batch, (Moments, ClassMoments))
    return bundle.document(
        model=model(version),
        policy=replace(loaded, path=f"policies/{policy}"),
        probe=probe_set(x, labels, ids),
        layers=[layers.describe("embedding", "backbone.4", "none", collection)],
        estimates=[("embedding", estimate) for estimate in estimates.values()],
        findings=findings,
        verdict=decide(findings),
        run=RUN,
    )


def probe_set(x: Array, labels: list[str], ids: list[str]) -> ProbeSet:
    """The rows as a probe set that was read to its end."""
    with TemporaryDirectory() as folder, chdir(folder):
        np.savez("digits.npz", pixels=x.astype(np.float32), digit=labels, id=ids)
        probe = open_probe("digits.npz", columns=Columns(input="pixels", label="digit", id="id"))
        for _ in probe.batches(N):
            pass
        return probe


def model(version: str) -> LoadedModel:
    return LoadedModel(
        uri=f"models:/digits/{version}",
        resolved=f"models:/digits/{version}",
        name="digits",
        version=version,
        run_id=version * 32,
        model_id="m-" + version * 32,
        digest="sha256:" + "3" * 62 + version * 2,
        flavour="pytorch",
        serialization="pt2",
        module=None,
        batch_size=None,
        path=Path("digits"),
    )


STARTED = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
RUN = {
    "version": "0.1.0",
    "python": "3.11.9",
    "torch": "2.13.0",
    "mlflow": "3.17.2",
    "numpy": "2.3.5",
    "platform": "Linux-6.8-x86_64",
    "device": "cpu",
    "precision": "float32",
    "seed": 0,
    "confidence": 0.95,
    "git": {"commit": "9f2c41d07be8a35c6d10e4b7f8a29c3e5d6b7a80", "dirty": False},
    "started": STARTED.isoformat(),
    "seconds": 3.217,
}


def main() -> None:
    """Write every sample."""
    rng = np.random.default_rng(20260101)
    good, bad = healthy(rng), collapsed(rng)
    bundle.dump(evidence("2", bad, "classifier.yaml"), HERE / "sample.json")
    bundle.dump(evidence("1", good, "classifier.yaml"), HERE / "passed.json")
    bundle.dump(evidence("2", bad, "classifier-with-error.yaml"), HERE / "error.json")


if __name__ == "__main__":
    main()
