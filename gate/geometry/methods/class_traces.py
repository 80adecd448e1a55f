"""Traces of the within-class and the between-class covariance, and how they change with depth."""

from __future__ import annotations

import torch
from torch import Tensor

from gate.geometry.influence import Readout, Refusal, missing_input
from gate.geometry.registry import Answer
from gate.geometry.statistics import ClassMoments, LayerClasses, Sample

_ROUNDING = 1e-13  # a variance at or below this share of the squared mean is that of equal rows in float32


def between_trace(classes: ClassMoments) -> Tensor:
    """Trace of the between-class covariance."""
    return classes.shares @ (classes.means - classes.mean).square().sum(dim=1)


def unbiased_traces(classes: ClassMoments) -> tuple[Tensor, Tensor]:
    """Traces of the within-class and the between-class covariance, free of the noise of the class means."""
    within = classes.shares @ classes.unbiased_within
    return within, between_trace(classes) - ((1 - classes.shares) @ classes.unbiased_within) / classes.n


def class_design_effects(classes: ClassMoments, sample: Sample) -> Tensor:
    """How many times as large the variance of each class mean is because rows of one cluster move together, (C,).

    Offsets from the class mean are summed by cluster (Liang and Zeger 1986). A class of a single cluster counts as one
    row: nothing tells how its mean would vary.
    """
    counts = classes.counts.double()
    if sample.clusters is None:
        return torch.ones_like(counts)
    rows = classes.offsets(sample)
    cells, inverse = torch.stack([rows.codes, sample.clusters]).unique(dim=1, return_inverse=True)
    sums = torch.zeros(cells.shape[1], classes.d, dtype=torch.float64, device=counts.device)
    sums.index_add_(0, inverse, rows.moved.double())
    groups = torch.bincount(cells[0], minlength=classes.c).double()
    together = torch.zeros_like(counts).index_add_(0, cells[0], sums.square().sum(dim=1)) * groups / (groups - 1)
    own = torch.zeros_like(counts).index_add_(0, rows.codes, rows.sizes)
    effects = (together / own.clamp_min(torch.finfo(torch.float64).tiny) - (1 - sample.share)) / sample.share
    return torch.where(groups > 1, effects.clamp_min(1), counts)


def largest_rise(classes: ClassMoments, layers: LayerClasses | None) -> Answer:
    """Over all pairs of a layer and a deeper one, the features themselves the deepest."""
    if layers is None:
        return missing_input("depths")
    every = [*(layers.layer(index) for index in range(len(layers.layers))), classes]
    traces = [unbiased_traces(each) for each in every]
    names = (*layers.layers, "features")
    still = [
        name
        for name, each, (within, between) in zip(names, every, traces, strict=True)
        if (within + between).item() <= _ROUNDING * (each.mean @ each.mean).item()
    ]
    if still:
        return Refusal("inconclusive", f"no_class_signal: all rows of layer {still[0]!r} are equal")
    shares = torch.stack([within / (within + between) for within, between in traces])
    first, second = torch.triu_indices(len(names), len(names), 1, device=shares.device)
    rises = shares[second] - shares[first]
    most = int(rises.argmax())
    return Readout(
        rises[most],
        comparisons=len(rises),
        detail=f"largest from {names[int(first[most])]!r} to {names[int(second[most])]!r}",
        breakdown=dict(zip(names, shares.tolist(), strict=True)),
    )
