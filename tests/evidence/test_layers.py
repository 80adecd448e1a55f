from __future__ import annotations

import pytest
import torch

from gate.evidence import layers
from gate.geometry.statistics import Batch, ClassMoments, Collection, Moments


def test_the_spectrum_is_largest_first_and_never_below_zero() -> None:
    covariance = torch.diag(torch.tensor([1.0, 4.0, 0.0, 2.0]))
    covariance[2, 2] = -1e-12
    assert layers.spectrum(covariance) == pytest.approx([4.0, 2.0, 1.0, 0.0])


def test_centres_of_a_simplex_oppose_each_other_equally() -> None:
    similarity = layers.class_similarity(["a", "b", "c", "d"], [5, 5, 5, 5], torch.eye(4) + 7.0)
    matrix = torch.tensor(similarity["matrix"])
    assert similarity["classes"] == ["a", "b", "c", "d"]
    assert torch.allclose(matrix, torch.full((4, 4), -1 / 3) + (4 / 3) * torch.eye(4), atol=1e-4)


def test_a_centre_without_a_direction_has_no_cosine() -> None:
    means = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    matrix = layers.class_similarity(["a", "b", "c"], [1, 1, 1], means)["matrix"]
    assert matrix[2] == [None, None, None]
    assert matrix[0][1] == -1.0


def test_the_forty_largest_classes_are_kept_in_order() -> None:
    counts = [1 if i % 2 else 10 for i in range(80)]
    similarity = layers.class_similarity([str(i) for i in range(80)], counts, torch.randn(80, 3))
    assert similarity["classes"] == [str(i) for i in range(0, 80, 2)]
    assert len(similarity["matrix"]) == 40


def test_the_scatter_shows_the_directions_of_largest_variance() -> None:
    rows = torch.zeros(5, 6)
    rows[:, 4] = torch.tensor([-2.0, -1.0, 0.0, 1.0, 4.0])
    rows[0, 1] = 0.5
    points = layers.scatter(rows, ["a", "b", "c", "d", "e"])
    assert points["x"] == pytest.approx([-2.4, -1.4, -0.4, 0.6, 3.6], abs=0.2)
    assert points["label"] == ["a", "b", "c", "d", "e"]


def test_the_scatter_does_not_depend_on_the_sign_of_the_features() -> None:
    rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([4.0, 2.0, 1.0, 0.5])
    assert layers.scatter(rows, None)["x"] == pytest.approx(layers.scatter(-rows, None)["x"])


def test_the_scatter_keeps_a_thousand_points() -> None:
    points = layers.scatter(torch.randn(1200, 2), [str(i) for i in range(1200)])
    assert [len(points[key]) for key in ("x", "y", "label")] == [1000, 1000, 1000]


def test_one_feature_and_no_labels_still_give_points() -> None:
    points = layers.scatter(torch.tensor([[1.0], [2.0], [6.0]]), None)
    assert points == {"x": [-2.0, -1.0, 3.0], "y": [0.0, 0.0, 0.0], "label": None}


def test_a_layer_is_described_from_its_statistics() -> None:
    rows = torch.tensor([[3.0, 0.0], [1.0, 0.0], [-4.0, 1.0], [0.0, -1.0]])
    batch = Batch.of(rows, ids=("a", "b", "c", "d"), labels=("x", "x", "y", "y"))
    layer = layers.describe("embedding", "body.2", "mean", Collection.of(batch, (Moments, ClassMoments)))
    assert (layer["name"], layer["path"], layer["pooling"], layer["n"], layer["d"]) == (
        "embedding",
        "body.2",
        "mean",
        4,
        2,
    )
    assert sum(layer["spectrum"]) == pytest.approx(rows.double().var(dim=0, unbiased=False).sum().item(), rel=1e-4)
    assert layer["class_similarity"] == {"classes": ["x", "y"], "matrix": [[1.0, -1.0], [-1.0, 1.0]]}
    assert sorted(layer["scatter"]["label"]) == ["x", "x", "y", "y"]


def test_a_layer_without_labels_has_no_class_similarity() -> None:
    batch = Batch.of(torch.eye(3), ids=("a", "b", "c"))
    layer = layers.describe("output", "output", "none", Collection.of(batch, (Moments, ClassMoments)))
    assert layer["class_similarity"] is None
    assert layer["scatter"]["label"] is None
