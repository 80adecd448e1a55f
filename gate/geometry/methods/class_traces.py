"""Traces of the within-class and the between-class covariance, and how they change with depth."""

from __future__ import annotations

import torch
from torch import Tensor

from gate.geometry.influence import Readout, Refusal, missing_input
from gate.geometry.methods.mean_noise import MeanNoise
from gate.geometry.registry import Answer
from gate.geometry.statistics import ClassMoments, ClusterCounts, LayerClasses, Sample

_ROUNDING = 1e-13  # a variance at or below this share of the squared mean is that of equal rows in float32


def between_trace(classes: ClassMoments) -> Tensor:
    """Trace of the between-class covariance."""
    return classes.shares @ (classes.means - classes.mean).square().sum(dim=1)


def unbiased_traces(classes: ClassMoments, noise: MeanNoise) -> tuple[Tensor, Tensor]:
    """Traces of the within-class and the between-class covariance, free of the noise of the class means."""
    within = classes.shares @ (classes.within + noise.own)
    return within, between_trace(classes) - noise.between(classes.shares)


def largest_rise(
    classes: ClassMoments,
    noise: MeanNoise,
    sample: Sample,
    layers: LayerClasses | None,
    clusters: ClusterCounts | None,
) -> Answer:
    """Over all pairs of a layer and a deeper one, the features themselves the deepest."""
    if layers is None:
        return missing_input("depths")
    earlier = [layers.layer(index) for index in range(len(layers.layers))]
    errors = [
        MeanNoise.of(each, sample, clusters, layers.offsets(index, sample) if clusters else None)
        for index, each in enumerate(earlier)
    ]
    every = [*earlier, classes]
    traces = [unbiased_traces(each, error) for each, error in zip(every, [*errors, noise], strict=True)]
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
