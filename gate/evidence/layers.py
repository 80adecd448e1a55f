"""What the evidence keeps of a layer for its pictures: small, and never a feature vector."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from gate.geometry.statistics import Collection

MAX_CLASSES = 40
MAX_POINTS = 1000


def describe(name: str, path: str, pooling: str, collection: Collection) -> dict[str, Any]:
    """What the evidence says of one layer.

    Args:
        name: The policy's name of the layer.
        path: Its path in the model.
        pooling: How its output became rows.
        collection: Statistics of its rows, `Moments` among them; `ClassMoments` where there are labels.

    Returns:
        Plain JSON values.
    """
    from gate.geometry.statistics import ClassMoments, Moments

    moments, classes = collection.get(Moments), collection.get(ClassMoments)
    labels = collection.sample.rows.labels
    return {
        "name": name,
        "path": path,
        "pooling": pooling,
        "n": collection.census.n,
        "d": collection.census.d,
        "spectrum": spectrum(moments.covariance) if isinstance(moments, Moments) else [],
        "class_similarity": class_similarity(classes.names, classes.counts.tolist(), classes.means)
        if isinstance(classes, ClassMoments)
        else None,
        "scatter": scatter(
            collection.sample.features,
            None if labels is None else [labels.names[code] for code in labels.values.tolist()],
        ),
    }


def spectrum(covariance: Tensor) -> list[float]:
    """Variance along each principal direction.

    Args:
        covariance: Of the features, (d, d), symmetric.

    Returns:
        The d eigenvalues, largest first; what rounding left below zero is zero.
    """
    import torch

    eigenvalues = torch.linalg.eigvalsh(covariance.detach().double().cpu()).clamp(min=0.0)
    return [_short(value) for value in eigenvalues.flip(0).tolist()]


def class_similarity(classes: Sequence[str], counts: Sequence[int], means: Tensor) -> dict[str, Any]:
    """Cosines between the centres of the classes, after the mean of the centres is taken away.

    Args:
        classes: The c labels.
        counts: Rows of each class; the 40 largest classes are kept, in the order given.
        means: Class means, (c, d).

    Returns:
        `classes` and `matrix`, whose entries lie in [-1, 1]; an entry is None where a centre has no direction.
    """
    import torch

    largest = sorted(range(len(classes)), key=lambda i: -counts[i])[:MAX_CLASSES]
    kept = sorted(largest)
    exact = means.detach().double().cpu()
    centred = (exact - exact.mean(dim=0))[kept]
    lengths = torch.linalg.vector_norm(centred, dim=1)
    cosines = (centred @ centred.T / torch.outer(lengths, lengths)).clamp(-1.0, 1.0)
    matrix = [[_short(value) if math.isfinite(value) else None for value in row] for row in cosines.tolist()]
    return {"classes": [classes[i] for i in kept], "matrix": matrix}


def scatter(features: Tensor, labels: Sequence[str] | None) -> dict[str, Any]:
    """The rows of a sample, seen along its two directions of largest variance.

    Args:
        features: (m, d); the first 1000 rows are kept.
        labels: One per row, or None.

    Returns:
        `x`, `y` and `label`, lists of one length; `label` is None without labels. The sign of an axis is fixed by
        the row farthest out, so that the same rows give the same picture.
    """
    import torch

    rows = features[:MAX_POINTS].detach().double().cpu()
    centred = rows - rows.mean(dim=0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    points = torch.zeros(len(rows), 2, dtype=torch.float64)
    plane = centred @ directions[:2].T
    points[:, : plane.shape[1]] = plane
    farthest = points.gather(0, points.abs().argmax(dim=0, keepdim=True))
    points = points * torch.where(farthest < 0, -1.0, 1.0)
    x, y = ([_short(value) for value in column] for column in points.T.tolist())
    return {"x": x, "y": y, "label": None if labels is None else list(labels[:MAX_POINTS])}


def _short(value: float) -> float:
    return float(f"{value:.5g}")
