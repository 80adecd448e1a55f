from __future__ import annotations

from typing import Any

import pytest
import torch

from gate.calibration.worthless import worthless
from gate.geometry.statistics import Batch, Sample
from gate.policy.rules import Rule
from gate.verdict import question_of
from tests.geometry import data

ROWS, WIDTH = 1000, 16


def sample(**columns: Any) -> Sample:
    generator = torch.Generator().manual_seed(0)
    means = 3 * torch.randn(4, WIDTH, generator=generator)
    features = data.isotropic(ROWS, WIDTH) + means[torch.arange(ROWS) % 4]
    return Sample.of(Batch.of(features, ids=[str(row) for row in range(ROWS)], **columns))


def values(of: Sample, *metrics: str) -> dict[str, dict[str, float]]:
    """Metric → kind of worthlessness → value."""
    rules = [Rule(id=f"r{place}", metric=metric, min=0.0) for place, metric in enumerate(metrics)]
    found = worthless({"output": of}, rules)
    return {
        rule.metric: {kind: each[question_of(rule)] for kind, each in found.items() if question_of(rule) in each}
        for rule in rules
    }


def test_each_kind_is_worthless_in_its_own_way() -> None:
    labels = [str(row % 4) for row in range(ROWS)]
    found = values(
        sample(labels=labels),
        "ridge_probe_accuracy",
        "effective_rank",
        "mean_cosine",
        "dead_unit_share",
        "outlier_channel_ratio",
    )
    assert found["ridge_probe_accuracy"]["rows dealt to other inputs"] == pytest.approx(0.25, abs=0.1)
    assert found["effective_rank"]["a line"] < 1.5
    assert found["mean_cosine"]["a point"] > 0.95
    assert found["dead_unit_share"]["dead and loud channels"] == 0.5
    assert found["outlier_channel_ratio"]["dead and loud channels"] > 5


def test_rows_that_are_dealt_anew_keep_the_shape_of_the_cloud() -> None:
    found = values(sample(labels=[str(row % 4) for row in range(ROWS)]), "effective_rank", "mean_cosine")
    healthy = values(sample(), "effective_rank")["effective_rank"]
    assert found["effective_rank"]["rows dealt to other inputs"] == pytest.approx(healthy["rows dealt to other inputs"])


def test_outputs_of_a_point_are_those_of_one_row_and_are_dealt_with_the_features() -> None:
    labels = [row % 4 for row in range(ROWS)]
    logits = 5 * torch.eye(4)[labels]
    found = values(sample(labels=labels, logits=logits), "prediction_entropy_ratio", "worst_class_recall")
    assert found["prediction_entropy_ratio"]["a point"] < 0.2
    assert found["worst_class_recall"]["rows dealt to other inputs"] < 0.5
    assert found["worst_class_recall"]["a line"] == 1


def test_groups_and_lengths_part_the_cloud_where_there_are_any() -> None:
    groups = [f"site-{row % 5}" for row in range(ROWS)]
    lengths = torch.arange(ROWS, dtype=torch.float64) + 1
    found = values(sample(groups=groups, lengths=lengths), "group_probe_bacc", "length_collapse")
    assert found["group_probe_bacc"]["apart by group"] > 0.9 > found["group_probe_bacc"]["rows dealt to other inputs"]
    assert found["length_collapse"]["long rows in a cone"] > 0.5
    assert "apart by group" not in worthless({"output": sample()}, [])


def test_it_is_the_same_every_time() -> None:
    assert values(sample(), "effective_rank") == values(sample(), "effective_rank")
