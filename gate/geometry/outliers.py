"""Units that do not vary, and channels that vary far too much."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from gate.errors import MetricError
from gate.geometry.influence import Readout, Refusal, missing_input, row_mean
from gate.geometry.intervals import count_interval
from gate.geometry.registry import Answer, Answers, higher, lower, metric, neither
from gate.geometry.statistics import Channels, Sample
from gate.geometry.statistics.batch import by_tile

_ROUNDING = 2.0**-23
_NAMED = 20  # dead channels that a detail lists


def _deviations(channels: Channels, resolution: float) -> tuple[Tensor, Tensor]:
    """Standard deviation of each channel, and the typical one: the median of those that vary by more than rounding.

    The typical one is 0 where none does.
    """
    deviation = channels.variance.clamp_min(0).sqrt()
    alive = deviation[deviation > torch.maximum(resolution * channels.mean.abs(), _ROUNDING * deviation.max())]
    if len(alive) == 0:
        return deviation, torch.zeros_like(deviation.max())
    median, upper = alive.median(), alive.quantile(0.9)
    return deviation, median if median > 0.01 * upper else upper  # a median that is dead itself measures nothing


@metric(
    unit="share of channels",
    greater_is_better=False,
    invariant_to={"translation", "scaling", "permutation"},
    unasserted={"row_scaling"},
    domain="n >= 1000",
    paper="operational form derived here; after Li et al. 2022, Fire Together Wire Together (heat_k)",
    readouts={
        "never": lower("share of units that stay within the tolerance of one value on every row"),
        "active": neither("mean over rows of the smallest share of channels that holds 90 % of the row's absolute sum"),
        "heat_k": neither("active, for the absolute sum of each channel over space", needs={"channel_mass"}),
        "load": higher("(sum of mean |x|)^2 / (d times the sum of squares): 1 when all channels are equally loud"),
    },
    limits=dict.fromkeys(("value", "never", "active", "heat_k", "load"), (0.0, 1.0)),
    reads={"channel_mass"},
    ranges={"threshold": (0.001, 1), "tolerance": (0, 0.1)},
    elsewhere=(
        "Tools for sparse dictionaries, such as SAELens, call a unit dead that is active on less than 1e-8 to 1e-6 "
        "of the inputs. Here a unit is dead when it does not vary, at whatever value it rests."
    ),
)
def dead_unit_share(channels: Channels, sample: Sample, *, threshold: float = 0.01, tolerance: float = 0.01) -> Answers:
    """Share of units that do not vary.

    A channel is dead when its standard deviation is below `threshold` times the median one, or, where the median one
    is itself dead beside the 0.9 quantile, times that. Variance is tested, not sign: units at rest on 0 (ReLU) or below
    it (GELU, Mish) are found alike.

    Args:
        channels: Of features (n, d).
        sample: The sampled rows.
        threshold: Share of the median standard deviation.
        tolerance: Share of the median standard deviation that a resting unit may move by.

    Returns:
        Share of the d channels in [0, 1], and read-outs.
    """
    if channels.n < 1000:
        return Refusal("inconclusive", f"few_rows: {channels.n} rows; it needs at least 1000", 1000)
    deviation, typical = _deviations(channels, sample.rows.resolution)
    never = ((channels.high - channels.low <= 2 * tolerance * typical) | (typical == 0)).double().mean()
    bound = f"a unit that never moved does so on at most {3 / channels.n:.2g} of all rows (95 %)"
    loads = channels.mean_abs
    return {
        "value": _dead(channels, sample, deviation.detach(), typical.item() * threshold),
        "never": Readout(never.detach(), interval=lambda _: (never.item(), never.item()), method="count", detail=bound),
        "active": _active(sample.features),
        "heat_k": _heat(sample),
        "load": Readout(loads.sum() ** 2 / (channels.d * loads.square().sum()))
        if loads.sum().item() > 0
        else _silent(),
    }


def _heat(sample: Sample) -> Answer:
    if not sample.rows.has({"channel_mass"}):
        return missing_input("channel_mass")
    masses = sample.rows.numbers("channel_mass")
    if not bool(torch.isfinite(masses).all()):
        raise MetricError("nonfinite_rows: channel_mass holds NaN or infinity")
    return _active(masses)


def _silent() -> Refusal:
    return Refusal("not_applicable", "missing_input: every feature is zero")


def _dead(channels: Channels, sample: Sample, deviation: Tensor, threshold: float) -> Readout:
    """The count, its interval from the standard error of each log deviation, and the influence of the soft count."""
    tiny = torch.finfo(torch.float64).tiny
    variance = channels.variance.detach().clamp_min(tiny)
    if threshold == 0:  # nothing varies by more than rounding
        return Readout(
            deviation.new_ones(()),
            interval=lambda _: (1.0, 1.0),
            influence=_none(sample),
            method="count",
            detail=f"{channels.d} of {channels.d} units",
        )
    distance = (deviation.clamp_min(tiny) / threshold).log()
    kurtosis = (channels.fourth.detach() / variance.square()).nan_to_num(1.0)  # a channel that never moves has none
    error = ((kurtosis - 1).clamp_min(0) / (4 * channels.n)).sqrt().clamp(1e-12, 1e3)
    slope = -torch.distributions.Normal(0.0, 1.0).log_prob(distance / error).exp() / error
    weights = (slope / (2 * variance)).nan_to_num(0.0) / channels.d
    mean = channels.mean.detach()
    influence = by_tile(lambda tile: (tile.double() - mean).square_() @ weights, sample.features) - variance @ weights
    dead = distance < 0
    return Readout(
        dead.double().mean(),
        influence=influence,
        interval=count_interval(distance, error),
        method="count, from the error of each deviation",
        detail=f"{int(dead.sum())} of {channels.d} units",
    )


def _none(sample: Sample) -> Tensor:
    return torch.zeros(sample.m, dtype=torch.float64, device=sample.features.device)


def _loudest_share(rows: Tensor) -> Tensor:
    """Smallest share of the channels that holds 90 % of a row's absolute sum, (r,) float64; 0 for a zero row."""
    sizes = rows.abs().sort(dim=1, descending=True).values.cumsum(dim=1, dtype=torch.float64)
    totals = sizes[:, -1:]
    return ((sizes < 0.9 * totals).sum(dim=1) + 1).double() / rows.shape[1] * (totals[:, 0] > 0)


def _active(features: Tensor) -> Answer:
    held = by_tile(_loudest_share, features)
    alive = held > 0
    if not bool(alive.any()):
        return _silent()
    mean = held[alive].mean()
    terms = torch.where(alive, held, mean)
    return row_mean(terms, detail=None if bool(alive.all()) else f"{int((~alive).sum())} zero rows left out")


@metric(
    unit="ratio",
    greater_is_better=False,
    invariant_to={"scaling", "permutation"},
    domain="n >= 500",
    paper="after Gao et al. 2024, Feature Coding in the Era of Large Models; 6-sigma rule recollected",
    readouts={
        "rms": lower("the same with root mean squares: smooth, the one to gate"),
        "count6": lower("share of channels whose largest |x| exceeds 6 standard deviations of all features"),
        "kurt99": lower("99th percentile over channels of the kurtosis"),
        "range_index": lower("largest |x| over the 99.9th percentile of |x|"),
    },
    limits={
        "value": (1, math.inf),
        "rms": (1, math.inf),
        "count6": (0, 1),
        "kurt99": (1, math.inf),
        "range_index": (1, math.inf),
    },
)
def outlier_channel_ratio(channels: Channels, sample: Sample) -> Answers:
    """A few channels with a huge range: they break quantisation and few-label neighbours.

    Largest over median channel maximum of |x|, of the channels that are not zero on every row. A maximum grows with n
    and has no standard error of its own: its interval comes from the maxima of 10 hash blocks.

    Args:
        channels: Of features (n, d).
        sample: The sampled rows.

    Returns:
        Ratio of at least 1, and read-outs.

    Raises:
        MetricError: Every feature is zero.
    """
    if channels.n < 500:
        return Refusal("inconclusive", f"few_rows: {channels.n} rows; it needs at least 500", 500)
    if channels.max_abs.max().item() == 0:
        raise MetricError("every feature is zero: no channel has a range")
    live = channels.max_abs > 0
    rms = (channels.variance + channels.mean.square())[live].clamp_min(torch.finfo(torch.float64).tiny).sqrt()
    loudest = int(live.nonzero()[:, 0][rms.argmax()])
    return {
        "value": _peak(channels, sample, live),
        "rms": Readout((rms.max() / _middle(rms)).log(), torch.exp, detail=_place(loudest, live)),
        "count6": _beyond_six(channels, sample),
        "kurt99": _tails(channels),
        "range_index": _range_index(channels, sample),
    }


def _place(loudest: int, live: Tensor) -> str:
    """Which channel is largest, and which are dead and left out."""
    dead = (~live).nonzero()[:, 0].tolist()
    if not dead:
        return f"largest in channel {loudest}"
    named = ", ".join(str(channel) for channel in dead[:_NAMED]) + (", ..." if len(dead) > _NAMED else "")
    return f"largest in channel {loudest}; {len(dead)} of {len(live)} channels are dead and left out: {named}"


def _middle(values: Tensor) -> Tensor:
    return values.quantile(0.5, dim=-1)


def _log_ratio(maxima: Tensor) -> Tensor:
    return (maxima.amax(dim=-1) / _middle(maxima)).log()


def _block_variance(values: Tensor) -> float:
    """Variance of a log maximum: its scale hardly changes with n, so that of the block maxima stands for it."""
    found = values[torch.isfinite(values)]
    return float(found.var(correction=1)) if len(found) > 1 else math.inf


def _peak(channels: Channels, sample: Sample, live: Tensor) -> Readout:
    return Readout(
        _log_ratio(channels.max_abs[live]),
        torch.exp,
        later=lambda: (
            _leave_one_out(sample.features[:, live].abs()),
            _block_variance(_log_ratio(channels.block_max[:, live])),
        ),
        degrees=len(channels.block_max) - 1,
        method="block maxima",
        detail=_place(int(channels.max_abs.argmax()), live),
    )


def _leave_one_out(sizes: Tensor) -> Tensor:
    """Jackknife influence of each row on the log ratio: only a row that holds a channel's maximum has any."""
    m = len(sizes)
    top = sizes.topk(2, dim=0)
    owner = top.indices[0]
    whole = _log_ratio(top.values[0])
    influence = sizes.new_zeros(m)
    owners = owner.unique()
    without = torch.where(owner[None, :] == owners[:, None], top.values[1], top.values[0])
    influence[owners] = (whole - _log_ratio(without)).nan_to_num(0.0, 0.0, 0.0) * (m - 1)
    return influence


def _beyond_six(channels: Channels, sample: Sample) -> Readout:
    second = (channels.variance + channels.mean.square()).mean().detach()
    limit = 6 * (second - channels.mean.mean().detach() ** 2).clamp_min(torch.finfo(torch.float64).tiny).sqrt()
    tiny = torch.finfo(torch.float64).tiny
    logs = channels.block_max.clamp_min(tiny).log()
    distance = limit.log() - channels.max_abs.clamp_min(tiny).log()
    beyond = distance < 0
    return Readout(
        beyond.double().mean(),
        influence=_none(sample),
        interval=count_interval(distance, logs.std(dim=0)),
        method="count, from the block maxima of each channel",
        detail=f"{int(beyond.sum())} of {channels.d} channels",
    )


def _tails(channels: Channels) -> Answer:
    alive = channels.variance > (_ROUNDING * channels.mean.abs()).square()
    if not bool(alive.any()):
        return Refusal("inconclusive", "few_rows: no channel varies, so none has tails")
    kurtosis = channels.fourth[alive] / channels.variance[alive].square()
    return Readout(kurtosis.quantile(0.99).log(), torch.exp)


def _range_index(channels: Channels, sample: Sample) -> Answer:
    ordinary = _thousandth(sample.features.abs().flatten()).double()
    if float(ordinary) == 0:
        return Refusal("inconclusive", "few_rows: more than 99.9 % of all features are zero")
    peaks = channels.block_max.amax(dim=1)

    def spread() -> tuple[Tensor, float]:
        rows = sample.features.abs().amax(dim=1).double()
        first, second = rows.topk(2).values
        return torch.where(rows == first, (first / second).log() * (sample.m - 1), 0.0), _block_variance(peaks.log())

    return Readout(
        (peaks.max() / ordinary).log(),
        torch.exp,
        later=spread,
        degrees=len(peaks) - 1,
        method="block maxima",
    )


def _thousandth(sizes: Tensor) -> Tensor:
    """The smallest of the largest thousandth of some sizes (e,), at least 0.

    It is no smaller than the least of the maxima of every thousand of them, which few reach.
    """
    maxima = functional.pad(sizes, (0, -len(sizes) % 1000)).view(-1, 1000).amax(dim=1)
    return sizes[sizes >= maxima.min()].topk(len(maxima)).values[-1]
