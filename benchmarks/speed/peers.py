"""The public packages that a user would otherwise take, and which metrics of ours each of their numbers stands for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unittest.mock import MagicMock

import numpy as np

if TYPE_CHECKING:
    from benchmarks.speed.features import Data

Call = Callable[[], object]
_NEIGHBOURS = 20


@dataclass(frozen=True)
class Peer:
    """A call of a package.

    Attributes:
        name: Package and function.
        metrics: Metrics of ours whose value or read-outs answer the same question.
        prepare: Imports the package and returns the call that is timed.
        checkout: Variable that names a checkout of a package that is on no index; None for those of an index.
        remark: What sets the two numbers apart.
    """

    name: str
    metrics: tuple[str, ...]
    prepare: Callable[[Data], Call]
    checkout: str | None = None
    remark: str = ""


def _reptrix(data: Data) -> Call:
    from reptrix.rankme import get_rankme

    features = data.tensor(data.features)
    return lambda: get_rankme(features)


def _monai_rank(data: Data) -> Call:
    from monai.metrics import EmbeddingCollapseMetric

    metric, features = EmbeddingCollapseMetric(include_indicators=["effective_rank"]), data.tensor(data.features)
    return lambda: metric(features)


def _monai_classes(data: Data) -> Call:
    from monai.metrics import EmbeddingCollapseMetric

    metric = EmbeddingCollapseMetric(include_indicators=["effective_rank", "centroid_similarity", "per_class_rank"])
    features, labels = data.tensor(data.features), data.tensor(data.labels)
    return lambda: metric(features, labels=labels)


def _vendi(data: Data) -> Call:
    from vendi_score.vendi import score_dual

    return lambda: score_dual(data.features)


def _neural_collapse(data: Data) -> Call:
    import torch
    from neural_collapse.accumulate import CovarAccumulator, MeanAccumulator, VarNormAccumulator
    from neural_collapse.measure import covariance_ratio, variability_cdnv

    features, labels = data.tensor(data.features), data.tensor(data.labels)
    shape = (int(labels.max()) + 1, features.shape[1], features.device)

    def call() -> object:
        means, within, norms = MeanAccumulator(*shape), CovarAccumulator(*shape), VarNormAccumulator(*shape)
        batches = list(zip(features.split(8192), labels.split(8192), strict=True))
        for rows, codes in batches:
            means.accumulate(rows, codes)
        centres, centre = means.compute()
        for rows, codes in batches:
            within.accumulate(rows, codes, centres)
            norms.accumulate(rows, codes, centres)
        scatter, spread = within.compute(), norms.compute()[0]
        ratios = [covariance_ratio(scatter, centres, centre, kind) for kind in ("pinv", "quotient")]
        return torch.tensor([*ratios, variability_cdnv(spread, centres)])

    return call


def _calinski_harabasz(data: Data) -> Call:
    from sklearn.metrics import calinski_harabasz_score

    return lambda: calinski_harabasz_score(data.features, data.labels)


def _davies_bouldin(data: Data) -> Call:
    from sklearn.metrics import davies_bouldin_score

    return lambda: davies_bouldin_score(data.features, data.labels)


def _torchmetrics_calinski_harabasz(data: Data) -> Call:
    from torchmetrics.functional.clustering import calinski_harabasz_score

    features, labels = data.tensor(data.features), data.tensor(data.labels)
    return lambda: calinski_harabasz_score(features, labels)


def _torchmetrics_davies_bouldin(data: Data) -> Call:
    from torchmetrics.functional.clustering import davies_bouldin_score

    features, labels = data.tensor(data.features), data.tensor(data.labels)
    return lambda: davies_bouldin_score(features, labels)


def _discriminant(data: Data) -> Call:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return lambda: LinearDiscriminantAnalysis().fit(data.features, data.labels).score(data.features, data.labels)


def _sklearn_neighbours(data: Data) -> Call:
    from sklearn.neighbors import NearestNeighbors

    rows = data.searched
    search = NearestNeighbors(n_neighbors=_NEIGHBOURS, algorithm="brute")
    return lambda: search.fit(rows).kneighbors(return_distance=False)


def _faiss(data: Data) -> Call:
    import faiss

    rows = np.ascontiguousarray(data.searched)

    def call() -> object:
        index = faiss.IndexFlatL2(rows.shape[1])
        index.add(rows)
        return index.search(rows, _NEIGHBOURS + 1)  # the first one found is the row itself

    return call


def _pytorch_ood(data: Data) -> Call:
    # Only its data sets and models use torchvision, of which many environments have no build that fits their torch.
    for name in ("", ".datasets", ".datasets.utils", ".models", ".models.resnet", ".transforms"):
        sys.modules.setdefault(f"torchvision{name}", MagicMock())
    sys.modules.setdefault("torchvision.transforms.functional", MagicMock())
    from pytorch_ood.detector import Mahalanobis

    features, labels = data.tensor(data.features), data.tensor(data.labels)
    judged, ood = data.tensor(data.judged), data.tensor(data.ood)

    def call() -> object:
        detector = Mahalanobis(None).fit_features(features, labels)
        return detector.predict_features(judged), detector.predict_features(ood)

    return call


def _resi(data: Data) -> Call:
    from repsim.measures.cka import centered_kernel_alignment

    features, second = data.tensor(data.features), data.tensor(data.second)
    return lambda: centered_kernel_alignment(features, second, "nd")


PEERS = (
    Peer("reptrix get_rankme", ("effective_rank.rankme",), _reptrix, remark="of the features as they are"),
    Peer("MONAI effective_rank", ("effective_rank.value",), _monai_rank),
    Peer(
        "MONAI rank, class ranks, centroids",
        ("effective_rank.value", "collapse_index.value", "class_separation_r2.value"),
        _monai_classes,
        remark="without its silhouette, which needs every pair of rows",
    ),
    Peer("vendi-score score_dual", ("collapse_index.value",), _vendi, remark="both read the spectrum of unit rows"),
    Peer(
        "neural-collapse NC1, quotient, CDNV",
        ("vci.value", "within_between_ratio.value", "cdnv.value"),
        _neural_collapse,
        checkout="NEURAL_COLLAPSE",
        remark="its pseudo-inverse drops directions where classes are many",
    ),
    Peer("scikit-learn calinski_harabasz", ("within_between_ratio.value",), _calinski_harabasz),
    Peer("torchmetrics calinski_harabasz", ("within_between_ratio.value",), _torchmetrics_calinski_harabasz),
    Peer("scikit-learn davies_bouldin", ("cdnv.value",), _davies_bouldin),
    Peer("torchmetrics davies_bouldin", ("cdnv.value",), _torchmetrics_davies_bouldin, remark="wrong above 25 classes"),
    Peer(
        "scikit-learn LDA",
        ("ridge_probe_accuracy.value",),
        _discriminant,
        remark="one fit, judged on the rows that it was fitted to; ours holds out ten folds",
    ),
    Peer("scikit-learn NearestNeighbors", ("nearest rows",), _sklearn_neighbours, remark="the first 20 000 rows"),
    Peer("faiss IndexFlatL2", ("nearest rows",), _faiss, remark="the first 20 000 rows; float32 decides"),
    Peer(
        "pytorch-ood Mahalanobis", ("mahalanobis_ood_auroc.value",), _pytorch_ood, remark="one product for each class"
    ),
    Peer("ReSi CKA", ("cka_debiased.value",), _resi, checkout="RESI", remark="not debiased"),
)
