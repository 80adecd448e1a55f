"""A tracking store with many recorded checks: SQLite, artifacts on disk, evidence as a check writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gate.evaluation import check
from gate.mlflow_plugin import recorder
from gate.models.quiet import quiet_mlflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "encoder"
ROWS, CHANNELS, CLASSES = 1000, 64, 10
POLICY = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "1.0.0"}
probe: {uri: PROBE, columns: {input: x, label: y}}
rules:
  - {id: collapse, metric: collapse_index, max: 0.65}
  - {id: rank, metric: effective_rank.share, min: 0.2}
  - {id: directions, metric: participation_ratio, min: 9}
  - {id: cone, metric: mean_cosine, max: 0.2}
  - {id: dead-units, metric: dead_unit_share, max: 0.15}
  - {id: outlier-channels, metric: outlier_channel_ratio.rms, max: 3}
  - {id: linear-probe, metric: ridge_probe_accuracy, min: 0.5}
  - {id: neighbours, metric: knn_label_agreement, min: 0.5}
  - {id: class-spread, metric: within_between_ratio.between_share, min: 0.05, max: 0.75}
  - {id: closest-classes, metric: cdnv.max, max: 8, severity: warn}
"""


def fill(folder: Path, checks: int) -> tuple[str, Path]:
    """Record the checks of as many versions, healthy and collapsed ones in turn.

    Args:
        folder: Where the store is made.
        checks: How many.

    Returns:
        URI of the tracking store, and a policy with another bound than that of the checks.
    """
    from mlflow import MlflowClient

    uri = f"sqlite:///{folder}/mlflow.db"
    with quiet_mlflow():
        client = MlflowClient(uri, uri)
        client.create_experiment(recorder.EXPERIMENT, artifact_location=(folder / "artifacts").as_uri())
        client.create_registered_model(NAME)
    documents = list(_documents(folder))
    for number in range(checks):
        with quiet_mlflow():
            version = str(client.create_model_version(NAME, (folder / "model").as_uri()).version)
        document = documents[number % len(documents)]
        resolved = f"models:/{NAME}/{version}"
        document["model"] |= {"uri": resolved, "resolved": resolved, "name": NAME, "version": version}
        recorder.record(document, "<html></html>", tracking_uri=uri, registry_uri=uri)
    path = folder / "policy.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("min: 9}", "min: 4}"), encoding="utf-8")
    return uri, path


def _documents(folder: Path) -> Iterator[dict[str, Any]]:
    """The evidence of a healthy and of a collapsed model."""
    generator = np.random.default_rng(0)
    labels = np.arange(ROWS) % CLASSES
    centres = generator.normal(size=(CLASSES, CHANNELS))
    features = centres[labels] + generator.normal(size=(ROWS, CHANNELS))
    line = np.outer(features @ generator.normal(size=CHANNELS), generator.normal(size=CHANNELS))
    policy = folder / "policy.yaml"
    for name, rows in (("healthy", features), ("collapsed", line / 8 + features)):
        probe = folder / f"{name}.npz"
        np.savez(probe, x=rows.astype(np.float32), y=labels)
        policy.write_text(POLICY.replace("PROBE", str(probe)), encoding="utf-8")
        yield check(f"features:{probe}", policy=policy).document
