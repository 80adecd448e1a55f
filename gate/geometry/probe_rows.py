"""Whether the probe set itself can carry a verdict."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import Readout, Refusal, missing_input, noted, variance_of_mean
from gate.geometry.intervals import effective_trials
from gate.geometry.registry import Answer, higher, lower, metric
from gate.geometry.statistics import (
    Fingerprints,
    GroupCounts,
    LabelCounts,
    ReferenceFingerprints,
    ReferenceSample,
    Sample,
)
from gate.geometry.statistics.batch import unit_rows

_NEAR = 0.98  # cosine in the reference encoder
_TILE = 1024
_DETECTABLE = 2.5  # (1.645 + 0.842) of the normal: one-sided level 0.05, power 0.8


@metric(
    unit="share of rows",
    greater_is_better=False,
    invariant_to={"translation", "scaling", "rotation", "permutation", "channel_scaling", "linear_map"},
    unasserted={"row_scaling"},
    domain="always",
    paper="after Deng et al. 2021; rule derived here",
    readouts={
        "exact": lower("share of rows whose input occurs again"),
        "cross": lower(
            "share of rows that occur in the training or reference rows, as they are or nearly", needs={"reference"}
        ),
    },
    limits={"value": (0, 1), "exact": (0, 1), "cross": (0, 1)},
    reads={"encoded"},
)
def near_duplicate_share(
    fingerprints: Fingerprints,
    sample: Sample,
    reference: ReferenceFingerprints | None = None,
    reference_rows: ReferenceSample | None = None,
) -> dict[str, Answer]:
    """Duplicated rows in the probe set: share of rows that occur more than once, as they are or nearly.

    Rows are near duplicates when their cosine in a fixed reference encoder (`encoded`) exceeds 0.98; without it, when
    their inputs are equal. Never judged on the features of the model under test: those coincide when it collapses.
    Rows of features that come without inputs and encoder are their own inputs. Where only a part of the rows is
    sampled, a duplicate shows only if both of its rows are: what shows is weighted up, which overstates groups of more
    than two.

    Args:
        fingerprints: Of the inputs of all rows.
        sample: The sampled rows.
        reference: Fingerprints of the reference rows.
        reference_rows: The sampled reference rows.

    Returns:
        Share of rows in [0, 1], and read-outs.
    """
    repeated, count = fingerprints.repeated()
    exact = _exact(fingerprints, sample, repeated, count)
    return {
        "value": exact if not sample.rows.has({"encoded"}) else _near(sample, repeated),
        "exact": exact,
        "cross": _cross(sample, reference, reference_rows),
    }


def _exact(fingerprints: Fingerprints, sample: Sample, repeated: Tensor, count: int) -> Readout:
    n = fingerprints.n
    terms = torch.isin(sample.rows.fingerprints, repeated).double()
    share = torch.tensor(count / n, dtype=torch.float64)
    return Readout(
        share,
        influence=terms - terms.mean(),
        trials=n,
        n=n,
        method="Wilson, hash of the inputs",
        detail=f"{count} of {n} rows",
    )


def _near(sample: Sample, repeated: Tensor) -> Readout:
    rows = _encoded(sample)
    found = _has_near(rows, rows, own=True)
    known = torch.zeros_like(found)
    if sample.rows.given_fingerprints is not None:  # those of features coincide when the model collapses
        known = torch.isin(sample.rows.given_fingerprints, repeated)
    return _weighted(found, known, (sample.n - 1) / max(sample.m - 1, 1), "Wilson, cosine in the reference encoder")


def _cross(sample: Sample, reference: ReferenceFingerprints | None, rows: ReferenceSample | None) -> Answer:
    if reference is None or rows is None:
        return missing_input("reference rows")
    encoded = sample.rows.has({"encoded"}) and rows.rows.has({"encoded"})
    known = torch.isin(sample.rows.fingerprints, reference.values)
    if not encoded:
        return replace(
            _weighted(known, known, 1.0, "Wilson, hash of the inputs"), detail=f"{reference.n} reference rows"
        )
    if sample.rows.given_fingerprints is None or rows.rows.given_fingerprints is None:
        known = torch.zeros_like(known)
    found = _has_near(_encoded(sample), _encoded(rows), own=False)
    answer = _weighted(found, known, rows.n / rows.m, "Wilson, cosine in the reference encoder")
    return replace(answer, detail=noted(answer.detail, f"{reference.n} reference rows"))


def _encoded(sample: Sample) -> Tensor:
    rows = sample.rows.numbers("encoded")
    if not bool(torch.isfinite(rows).all()):
        raise MetricError("nonfinite_rows: encoded holds NaN or infinity")
    return unit_rows(rows)[0].float()


def _has_near(rows: Tensor, among: Tensor, *, own: bool) -> Tensor:
    """Which unit rows (m, e) have another one within the cosine, (m,) bool; `own`: among the same rows."""
    parts = []
    for start in range(0, len(rows), _TILE):
        cosines = rows[start : start + _TILE] @ among.T
        if own:
            place = torch.arange(len(cosines), device=rows.device)
            cosines[place, place + start] = -1.0
        parts.append(cosines.amax(dim=1) > _NEAR)
    return torch.cat(parts)


def _weighted(found: Tensor, known: Tensor, weight: float, method: str) -> Readout:
    """Share of rows that are known to have a double, and of those found to, each for as many as were not looked at."""
    terms = torch.where(known, 1.0, found.double() * weight)
    mean = terms.mean()
    share = mean.clamp_max(1.0)
    trials = effective_trials(share, variance_of_mean(terms, len(terms)), len(terms))
    count = int((found | known).sum())
    return Readout(
        share,
        influence=terms - mean,
        trials=trials,
        n=len(terms),
        method=method,
        detail=f"{count} of {len(terms)} rows" + (f", each counted {weight:.3g} times" if weight > 1 else ""),
    )


@metric(
    unit="rows per dimension",
    greater_is_better=True,
    invariant_to={
        "translation",
        "scaling",
        "row_scaling",
        "rotation",
        "permutation",
        "channel_scaling",
        "linear_map",
    },
    domain="always",
    paper="standard; sqrt(d/m) rate after Saberi et al. 2024, Out-Of-Domain Unlabeled Data Improves Generalization",
    readouts={
        "min_class": higher("rows of the smallest class", needs={"labels"}),
        "min_group": higher("rows of the smallest group", needs={"groups"}),
        "label_error": lower(
            "sqrt(d / m) for m labelled rows: order of the error of what is learnt from them alone", needs={"labels"}
        ),
        "detectable": lower(
            "smallest drop of the accuracy that unpaired rows detect, one-sided at 0.05 with power 0.8"
        ),
    },
    limits=dict.fromkeys(("value", "min_class", "min_group", "label_error", "detectable"), (0.0, math.inf)),
    ranges={"accuracy": (0, 1)},
    reads={"labels", "groups", "logits"},
)
def probe_power(
    sample: Sample,
    labels: LabelCounts | None = None,
    groups: GroupCounts | None = None,
    *,
    accuracy: float | None = None,
) -> dict[str, Answer]:
    """Is the probe set large enough to decide: rows per dimension, (n - 1) / d.

    Facts of the probe set, not estimates: their intervals are single points, but for `detectable`, 2.5 sqrt(2 p (1 - p)
    / n) at the accuracy p of the model's own outputs, with a right and a wrong row added: a probe set without errors
    does not detect everything.

    Args:
        sample: The sampled rows of features (n, d).
        labels: Rows of each class.
        groups: Rows of each group.
        accuracy: The gated accuracy p, in place of that of the outputs.

    Returns:
        Ratio of at least 0, and read-outs.
    """
    n, d = sample.n, sample.features.shape[1]
    return {
        "value": _fact((n - 1) / d, sample),
        "min_class": _smallest(labels, sample, "labels"),
        "min_group": _smallest(groups, sample, "groups"),
        "label_error": _fact(math.sqrt(d / n), sample) if labels else missing_input("labels"),
        "detectable": _detectable(sample, accuracy),
    }


def _fact(number: float, sample: Sample) -> Readout:
    value = torch.tensor(number, dtype=torch.float64, device=sample.features.device)
    none = torch.zeros(sample.m, dtype=torch.float64, device=sample.features.device)
    return Readout(value, influence=none, interval=lambda _: (number, number), method="count")


def _smallest(counts: LabelCounts | None, sample: Sample, column: str) -> Answer:
    if counts is None:
        return missing_input(column)
    present = counts.counts > 0
    sizes = counts.counts[present]
    names = [name for name, there in zip(counts.names, present.tolist(), strict=True) if there]
    least = int(sizes.argmin())
    breakdown = dict(zip(names, sizes.double().tolist(), strict=True))
    return replace(_fact(float(sizes[least]), sample), detail=f"smallest is {names[least]!r}", breakdown=breakdown)


def _detectable(sample: Sample, accuracy: float | None) -> Answer:
    if accuracy is not None:
        return _fact(_DETECTABLE * math.sqrt(2 * accuracy * (1 - accuracy) / sample.n), sample)
    labels, outputs = sample.rows.labels, sample.rows.outputs
    if labels is None or outputs is None or not sample.rows.has({"logits"}):
        return missing_input("labels and logits, or the accuracy")
    logits = sample.rows.numbers("logits")
    if not bool(torch.isfinite(logits).all()):
        raise MetricError("nonfinite_rows: logits hold NaN or infinity")
    if logits.shape[1] != len(outputs):
        return Refusal("inconclusive", f"shape_mismatch: {logits.shape[1]} outputs have {len(outputs)} names")
    right = (logits.argmax(dim=1) == labels.among(outputs)).double()
    p = (right.sum() + 1) / (len(right) + 2)
    natural = _DETECTABLE * (2 * p * (1 - p) / sample.n).sqrt()
    slope = natural * (1 - 2 * p) / (2 * p * (1 - p))
    return Readout(natural, influence=slope * (right - right.mean()), n=sample.m, detail=f"at an accuracy of {p:.3g}")
