"""Latent-variable models: do latents carry information."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import Readout, Refusal, missing_input, row_influence, variance_of_mean
from gate.geometry.intervals import count_interval
from gate.geometry.registry import Answer, Answers, Change, lower, metric, neither
from gate.geometry.statistics import LatentMoments, PosteriorVariances, Sample

_MIN_ROWS = 500


@metric(
    unit="share of latents",
    greater_is_better=True,
    invariant_to=set(get_args(Change)),  # it does not read the features
    domain="n >= 500; prior N(0, 1)",
    kinds={"autoencoder"},
    paper="Burda et al. 2016, Importance Weighted Autoencoders (rule of 0.01 recollected); active, passive and mixed "
    "after Bonheme and Grzes 2023, Be More Active! (thresholds derived here)",
    readouts={
        "mixed": neither(
            "share of latents that are active on some rows and passive on others: their posterior variance varies",
            needs={"latent_log_variances"},
        ),
        "passive": lower(
            "share of latents whose posterior variance stays near the prior's", needs={"latent_log_variances"}
        ),
        "mean_corr": neither(
            "root mean square correlation between the means of passive latents, unbiased in n before the root",
            needs={"latent_log_variances"},
        ),
    },
    limits=dict.fromkeys(("value", "mixed", "passive", "mean_corr"), (0.0, 1.0)),
    ranges={"threshold": (1e-4, 0.1), "passive_from": (0.5, 0.99), "mixed_from": (1e-3, 0.2)},
)
def vae_active_units(
    means: LatentMoments,
    sample: Sample,
    variances: PosteriorVariances | None = None,
    *,
    threshold: float = 0.01,
    passive_from: float = 0.9,
    mixed_from: float = 0.05,
) -> Answers:
    """Share of the latents that carry information.

    Latents whose posterior mean varies over the rows by more than a threshold, for a prior N(0, 1). The means of
    passive latents correlate although their samples do not: do not select latents by the correlation of their means.

    Args:
        means: Moments of the posterior means (n, z).
        sample: The sampled rows.
        variances: Moments of the posterior variances (n, z).
        threshold: Variance of the posterior mean above which a latent is active.
        passive_from: Mean posterior variance from which a latent is passive.
        mixed_from: Variance of the posterior variance from which a latent is mixed.

    Returns:
        Share in [0, 1], and read-outs.

    Raises:
        MetricError: The posterior variances are of other latents than the means, or not finite.
    """
    if means.n < _MIN_ROWS:
        reason = f"few_rows: {means.n} rows; it needs at least {_MIN_ROWS}"
        return Refusal("inconclusive", reason, _MIN_ROWS)
    rows = sample.rows.numbers(means.column).double()
    active = threshold - _variances(means), _variance_errors(rows, means)
    return {"value": _counted(*active, "active"), **_by_variance(means, variances, sample, passive_from, mixed_from)}


def _variances(moments: LatentMoments | PosteriorVariances) -> Tensor:
    return moments.covariance.detach().diagonal()


def _variance_errors(rows: Tensor, moments: LatentMoments | PosteriorVariances) -> Tensor:
    """Standard error of the variance of each column, (z,), from the spread of the squares."""
    squares = (rows - moments.mean.detach()).square()
    errors: Tensor = squares.std(dim=0) / moments.n**0.5
    return errors


def _counted(distance: Tensor, error: Tensor, what: str) -> Readout:
    """The share of latents with a distance below 0."""
    inside = distance < 0
    return Readout(
        inside.double().mean(),
        interval=count_interval(distance, error),
        method="count, from the error of each latent",
        detail=f"{int(inside.sum())} of {len(inside)} latents are {what}",
    )


def _by_variance(
    means: LatentMoments,
    variances: PosteriorVariances | None,
    sample: Sample,
    passive_from: float,
    mixed_from: float,
) -> dict[str, Answer]:
    if variances is None:
        return dict.fromkeys(("mixed", "passive", "mean_corr"), missing_input("latent_log_variances"))
    if variances.d != means.d:
        raise MetricError(f"shape_mismatch: latent_means have {means.d} columns and latent_log_variances {variances.d}")
    if not bool(torch.isfinite(_variances(variances)).all()):
        raise MetricError("nonfinite_rows: latent_log_variances hold NaN or infinity, or variances beyond any number")
    rows = sample.rows.numbers(variances.column).double().exp()
    spread, level = _variances(variances) - mixed_from, variances.mean.detach() - passive_from
    spread_error, level_error = _variance_errors(rows, variances), rows.std(dim=0) / variances.n**0.5
    both = torch.stack([spread, -level])  # passive: a low spread and a high level; the nearer border decides
    border = both.argmax(dim=0)
    error = torch.where(border == 0, spread_error, level_error)
    passive = both.amax(dim=0) < 0
    return {
        "mixed": _counted(-spread, spread_error, "mixed"),
        "passive": _counted(both.amax(dim=0), error, "passive"),
        "mean_corr": _mean_correlation(means, passive, sample),
    }


def _mean_correlation(means: LatentMoments, passive: Tensor, sample: Sample) -> Answer:
    """Root of the mean squared correlation, less what independent means would read.

    Its variance: the projection, less what sampling noise adds to it, plus that of squared correlations of independent
    columns, 2 / n^2 a pair.
    """
    floor = means.resolution**2 * means.mean.detach().square()
    index = (passive & (_variances(means) > floor)).nonzero()[:, 0]
    if len(index) < 2:
        return missing_input(f"two passive latents whose means vary, found {len(index)}")
    chosen = means.covariance[index][:, index]
    scale = chosen.diagonal().rsqrt()
    correlation = chosen * scale[:, None] * scale
    pairs = len(index) * (len(index) - 1) / 2
    raw = (correlation.square().sum() - len(index)) / (2 * pairs)
    value = (raw - 1 / (means.n - 1)) / (1 - 1 / (means.n - 1))
    influence = row_influence(value, [means], sample)
    noise = 2 / (means.n**2 * pairs)
    variance = max(variance_of_mean(influence, means.n) - 2 * noise, 0.0) + noise
    return Readout(
        value,
        lambda natural: natural.clamp_min(0).sqrt(),
        influence=influence,
        variance=variance,
        method="delta method and noise of pairs",
        detail=f"{len(index)} passive latents",
    )
