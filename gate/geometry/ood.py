"""Rows out of distribution: are they farther from the training classes than rows in distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import Readout, Refusal, design_effect, missing_input, noted, variance_of_mean
from gate.geometry.intervals import effective_trials
from gate.geometry.methods.placement import placed
from gate.geometry.methods.reference_distance import Distances, kth_neighbour, mahalanobis
from gate.geometry.registry import Answer, Later, higher, lower, metric
from gate.geometry.statistics import OodSample, ReferenceClasses, ReferenceFingerprints, ReferenceSample, Sample

_MIN_ROWS = 200
_MIN_CLASS = 20
_ACCEPTED = 0.95  # share of the rows in distribution that the threshold of the read-outs accepts
_METHOD = "Wilson, errors of share, threshold and reference"


@dataclass(frozen=True)
class _Rows:
    """The judged rows: those that the reference does not hold as well."""

    inside: Tensor  # (r,) index in the probe sample
    outside: Tensor  # (s,) index in the sample out of distribution
    sample: Sample
    ood: Sample
    note: str | None

    def features(self) -> Tensor:
        """Of the judged rows, probe rows first, (r + s, d)."""
        return torch.cat([self.sample.features[self.inside], self.ood.features[self.outside]])

    def split(self, distances: Distances) -> tuple[Tensor, Tensor]:
        """Those of the probe rows (r,), and those of the rows out of distribution (s,)."""
        return distances.values[: len(self.inside)], distances.values[len(self.inside) :]

    def spread(self, terms: Tensor) -> Tensor:
        """Terms of the judged probe rows placed among all sampled rows, with the same standard error."""
        return placed(terms, self.inside, self.sample.m)

    def outside_variance(self, terms: Tensor) -> float:
        """Variance of a mean of terms (s,) over the rows out of distribution."""
        clusters = self.ood.clusters
        own = None if clusters is None else clusters[self.outside]
        return variance_of_mean(terms, len(terms)) * design_effect(terms - terms.mean(), own, 1.0)


@metric(
    unit="AUROC",
    greater_is_better=True,
    invariant_to={"translation", "scaling", "rotation", "permutation"},
    unasserted={"channel_scaling", "linear_map"},
    reads={"labels"},
    value_needs={"reference.labels"},
    domain="at least 4 d and 200 reference rows, apart from the probe set; 200 probe and 200 OOD rows",
    elsewhere=(
        "pytorch-ood 0.4.0 reports half the distance with a scatter that is not divided by n, so that "
        "thresholds do not carry over to another number of rows; the AUROC does not depend on that factor, "
        "but on its ridge of 1e-6 it does."
    ),
    paper="Lee et al. 2018, A Simple Unified Framework for Detecting Out-of-Distribution Samples; shrinkage of Ledoit "
    "and Wolf 2004; DeLong et al. 1988; error of the reference derived here",
    readouts={
        "fpr95": lower(
            "share of the rows out of distribution that a threshold for 95 % of the probe rows accepts",
            needs={"reference.labels"},
        ),
        "knn": higher("AUROC of the distance to the k-th neighbour in the sampled reference rows"),
        "rejection_worst_class": lower(
            "share of the probe rows of the worst class that this threshold rejects",
            needs={"labels", "reference.labels"},
        ),
    },
    limits=dict.fromkeys(("value", "fpr95", "knn", "rejection_worst_class"), (0.0, 1.0)),
    ranges={"k": (1, 50)},
)
def mahalanobis_ood_auroc(
    sample: Sample,
    ood: OodSample,
    reference: ReferenceSample,
    prints: ReferenceFingerprints,
    classes: ReferenceClasses | None = None,
    *,
    k: int = 10,
) -> dict[str, Answer | Later] | Refusal:
    """Can the distance to the training classes tell rows out of distribution: AUROC of the Mahalanobis distance.

    Distance to the nearest class mean of the reference rows under their pooled, shrunk covariance: 0.5 is chance, 1
    perfect. Reference rows must not be the probe rows, which would look closer than any new row: probe rows that the
    reference holds are left out. A high value does not imply a better accuracy.

    Args:
        sample: The sampled probe rows of features (n, d).
        ood: The sampled rows out of distribution.
        reference: The sampled reference rows.
        prints: Fingerprints of all reference rows.
        classes: Class moments of the reference rows.
        k: Neighbours, for `knn`.

    Returns:
        AUROC in [0, 1], and read-outs.

    Raises:
        MetricError: The rows differ in dimension, or the reference rows of each class are equal.
    """
    rows = _judged(sample, ood, reference, prints)
    if isinstance(rows, Refusal):
        return rows
    features = rows.features()

    def near() -> Answer:
        return replace(_auroc(kth_neighbour(features, reference, k), rows), k=k)

    if classes is None:
        return {
            **dict.fromkeys(("value", "fpr95", "rejection_worst_class"), missing_input("labels of the reference rows")),
            "knn": near,
        }
    distances = mahalanobis(features, reference, classes)
    return {
        "value": _auroc(distances, rows),
        "fpr95": lambda: _false_accepts(distances, rows),
        "knn": near,
        "rejection_worst_class": lambda: _worst_rejection(distances, rows),
    }


def _judged(sample: Sample, ood: Sample, reference: Sample, prints: ReferenceFingerprints) -> _Rows | Refusal:
    d = sample.features.shape[1]
    for what, other in (("reference rows", reference), ("rows out of distribution", ood)):
        if other.features.shape[1] != d:
            raise MetricError(
                f"shape_mismatch: {what} have dimension {other.features.shape[1]}, the probe rows have {d}"
            )
    needed = max(4 * d, _MIN_ROWS)
    few = _too_few("reference rows", prints.values, needed, code="n_over_d", more=f" of dimension {d}")
    if few:
        return few
    apart, apart_ood = (~torch.isin(each.rows.fingerprints, prints.values) for each in (sample, ood))
    shared = int((~apart).sum())
    if shared > sample.m / 2:
        reason = f"duplicates: {shared} of {sample.m} sampled probe rows are reference rows too; keep them apart"
        return Refusal("not_applicable", reason)
    inside, outside = apart.nonzero()[:, 0], apart_ood.nonzero()[:, 0]
    few = _too_few("probe rows", sample.rows.fingerprints[inside], _MIN_ROWS) or _too_few(
        "rows out of distribution", ood.rows.fingerprints[outside], _MIN_ROWS
    )
    if few:
        return few
    lost = ood.m - len(outside)
    note = f"{shared} probe rows and {lost} rows out of distribution are reference rows too and are left out"
    return _Rows(inside, outside, sample, ood, note if shared or lost else None)


def _too_few(what: str, prints: Tensor, needed: int, code: str = "few_rows", more: str = "") -> Refusal | None:
    """The refusal when rows with these fingerprints are too few, or hardly any of them is a row of its own."""
    found, own = len(prints), len(prints.unique())
    if 2 * own < found:
        reason = f"duplicates: only {own} of {found} {what} are distinct; a repeated row tells nothing new"
        return Refusal("inconclusive", reason)
    if own < needed:
        distinct = "" if own == found else "distinct "
        rows = needed if what == "probe rows" else None
        return Refusal("inconclusive", f"{code}: {own} {distinct}{what}{more}; it needs at least {needed}", rows)
    return None


def _below(values: Tensor, at: Tensor) -> Tensor:
    """Share of the values below each of some points, ties by half."""
    ordered = values.sort().values
    low, high = torch.searchsorted(ordered, at), torch.searchsorted(ordered, at, right=True)
    return (low + high).double() / (2 * len(values))


def _density(values: Tensor, at: Tensor, width: float) -> Tensor:
    """Density of values at some points, box kernel."""
    ordered = values.sort().values
    found = torch.searchsorted(ordered, at + width, right=True) - torch.searchsorted(ordered, at - width)
    return found.double() / (2 * width * len(values))


def _bandwidth(values: Tensor) -> float:
    """Half width of a box with the spread of Silverman's Gaussian kernel, 0 for equal values."""
    middle = (values.quantile(0.75) - values.quantile(0.25)) / 1.34
    spread: float = torch.minimum(values.std(), middle).item()
    return float(math.sqrt(3) * 0.9 * spread * len(values) ** -0.2)


def _auroc(distances: Distances, rows: _Rows) -> Readout:
    """Area under the curve: its two components are the influence of the rows on either side (DeLong et al. 1988)."""
    inside, outside = rows.split(distances)
    won, lost = 1 - _below(outside, inside), _below(inside, outside)
    value = won.mean()
    width = min(_bandwidth(inside), _bandwidth(outside))
    reference = 0.0
    if width > 0:  # how fast the area changes with the distance of each row
        slopes = -_density(outside, inside, width) / len(won), _density(inside, outside, width) / len(lost)
        reference = distances.variance(torch.cat(slopes))
    variance = variance_of_mean(won, len(won)) + rows.outside_variance(lost) + reference
    return Readout(
        value,
        influence=rows.spread(won - value),
        variance=variance,
        trials=effective_trials(value, variance, min(len(won), len(lost))),
        n=len(won),
        method="DeLong, with the error of the reference",
        detail=rows.note,
    )


class _Threshold:
    """The distance that 95 % of the judged probe rows keep below, and how it varies.

    Attributes:
        at: The distance.
        influence: (r,) of each judged probe row on it.
        weights: (r,) how it follows the distance of each judged probe row.
    """

    def __init__(self, inside: Tensor) -> None:
        self.at = inside.quantile(_ACCEPTED)
        self._width = _bandwidth(inside) / 2  # a wide kernel reads too much in a tail
        below = (inside <= self.at).double()
        self.influence = torch.zeros_like(below)
        if self._width > 0:
            self.influence = (below.mean() - below) / self.density(inside)
        near = self.near(inside)
        self.weights = near / near.sum().clamp_min(torch.finfo(torch.float64).tiny)

    def near(self, values: Tensor) -> Tensor:
        """Kernel weight of each value at the threshold, 0 where distances are equal and have no density."""
        if not self._width > 0:
            return torch.zeros_like(values)
        return ((values - self.at).abs() <= self._width).double() / (2 * self._width)

    def density(self, values: Tensor) -> Tensor:
        """Density of values at the threshold."""
        return self.near(values).mean()


def _false_accepts(distances: Distances, rows: _Rows) -> Readout:
    """A share at a threshold that is estimated too: its error is that of both, and that of the reference."""
    inside, outside = rows.split(distances)
    border = _Threshold(inside)
    accepted = (outside <= border.at).double()
    value, density = accepted.mean(), border.density(outside)
    influence = border.influence * density
    reference = distances.variance(torch.cat([border.weights * density, -border.near(outside) / len(outside)]))
    variance = variance_of_mean(influence, len(influence)) + rows.outside_variance(accepted) + reference
    return Readout(
        value,
        influence=rows.spread(influence),
        variance=variance,
        trials=effective_trials(value, variance, len(accepted)),
        n=len(influence),
        method=_METHOD,
        detail=rows.note,
    )


def _worst_rejection(distances: Distances, rows: _Rows) -> Answer:
    labels = rows.sample.rows.labels
    if labels is None:
        return missing_input("labels")
    if len(labels.names) < 2:
        return missing_input("two classes: over all rows the share is 5 % by construction")
    codes = labels.values[rows.inside]
    counts = torch.bincount(codes, minlength=len(labels.names))
    if int(counts.min()) < _MIN_CLASS:
        name, found = labels.names[int(counts.argmin())], int(counts.min())
        reason = f"small_class: class {name!r} has {found} of the {len(codes)} judged rows; each needs {_MIN_CLASS}"
        return Refusal("inconclusive", reason, math.ceil(rows.sample.n * _MIN_CLASS / max(found, 1)))
    inside, outside = rows.split(distances)
    border = _Threshold(inside)
    rejected = (inside > border.at).double()
    shares = torch.zeros(len(counts), dtype=torch.float64, device=codes.device).index_add_(0, codes, rejected) / counts
    worst = int(shares.argmax())
    own = (codes == worst).double()
    density = border.density(inside[codes == worst])
    influence = own * (rejected - shares[worst]) / own.mean() - density * border.influence
    slopes = own * border.near(inside) / counts[worst] - border.weights * density
    reference = distances.variance(torch.cat([slopes, torch.zeros_like(outside)]))
    variance = variance_of_mean(influence, len(influence)) + reference
    detail = f"worst class {labels.names[worst]!r}"
    return Readout(
        shares[worst],
        influence=rows.spread(influence),
        variance=variance,
        trials=effective_trials(shares[worst], variance, int(counts[worst])),
        comparisons=len(counts),
        n=len(influence),
        c=len(counts),
        method=f"{_METHOD}, Bonferroni over classes",
        detail=noted(detail, rows.note) if rows.note else detail,
        breakdown=dict(zip(labels.names, shares.tolist(), strict=True)),
    )
