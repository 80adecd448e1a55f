"""Class separation on the sphere, and its over-tightening."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import Readout, Refusal, row_influence, variance_of_mean
from gate.geometry.methods.domains import small_class
from gate.geometry.methods.row_pairs import Pairs, squared_covariance, without_pair_noise
from gate.geometry.registry import Answer, Later, metric
from gate.geometry.statistics import Sample, UnitClassMoments
from gate.geometry.statistics.batch import per_live_row, unit_rows

_ROUNDING = 1e-13  # a mean squared distance of unit rows at or below it is that of one direction in float32
_TILE = 1024
_BAND = 0.5  # width, as a share of the tail, over which the density at a quantile is read off


@metric(
    unit="share",
    greater_is_better=None,
    invariant_to={"scaling", "row_scaling", "rotation", "permutation"},
    domain="5 rows of each class",
    kinds={"classifier", "embedding", "backbone"},
    elsewhere=(
        "As Kornblith et al. (2021) print it, pairs of a row with itself count, which flatters small classes. "
        "MONAI 1.6.1 has a separation (1 - silhouette) / 2 on cosines, which a perfect simplex does not bring "
        "to 0."
    ),
    paper="Kornblith et al. 2021, Why Do Better Loss Functions Lead to Less Transferable Features "
    "(recollected); closed form without self-pairs derived here",
    readouts={
        "d_within": "mean cosine distance of two rows of one class: near 0 when classes are over-tight",
        "tolerance": "mean cosine over all pairs of rows of one class",
        "compactness": "mean cosine of a row with the mean of the other rows of its class",
        "distinct": "1 - mean cosine of a row with the nearest mean of another class",
        "dprime": "same-class less different-class mean cosine, in units of their pooled standard deviation",
        "range": "99th less 1st percentile of the cosines of all pairs of rows",
    },
    limits={
        "value": (-math.inf, 1),
        "d_within": (0, 2),
        "tolerance": (-1, 1),
        "compactness": (-1, 1),
        "distinct": (0, 2),
        "range": (0, 2),
    },
)
def class_separation_r2(classes: UnitClassMoments, sample: Sample) -> dict[str, Answer | Later] | Refusal:
    """Class separation on the sphere: 0 for random labels, 1 when every class is one direction.

    1 - d_within / d_total for the mean cosine distance of two rows of one class and of any two rows, where each class
    counts alike and no row is paired with itself. With class means m_c of unit rows and spreads v_c (unbiased),
    d_within = mean_c v_c and d_total = [sum_c v_c + sum over a != b of (1 - m_a.m_b)] / C^2. Near 1 with d_within near
    0 the classes are over-compressed.

    Args:
        classes: Class moments of the unit rows of features (n, d).
        sample: The sampled rows, of which up to 131072 pairs are drawn.

    Returns:
        Share of at most 1, and read-outs.

    Raises:
        MetricError: All rows are zero, or point one way.
    """
    if classes.n == 0:
        raise MetricError("all feature rows are zero: they have no direction")
    few = small_class(classes, 5)
    if few:
        return few
    within = classes.unbiased_within.mean()
    total = _total_distance(classes)
    if not total.item() > _ROUNDING:
        raise MetricError(f"all {classes.n} feature rows point one way: there is nothing to separate")
    rows = _Rows.of(classes, sample)
    own, other = _towards_means(rows, classes, sample)
    return {
        "value": _projected(1 - within / total, _value_pairs(classes, within, total) * rows.noise, classes, sample),
        "d_within": _projected(within, _diagonal_pairs(classes, 1 / classes.c) * rows.noise, classes, sample),
        "tolerance": _projected(_same_class(classes), _tolerance_pairs(classes) * rows.noise, classes, sample),
        "compactness": own,
        "distinct": other,
        "dprime": lambda: _dprime(rows, classes, sample),
        "range": lambda: _range(rows, sample),
    }


@dataclass(frozen=True)
class _Rows:
    """The sampled rows that have a direction.

    Attributes:
        units: (r, d) unit rows.
        codes: (r,) class of each.
        alive: (m,) bool, which of the sampled rows they are.
        noise: tr(C^2) of the pooled within-class covariance of unit rows.
    """

    units: Tensor
    codes: Tensor
    alive: Tensor
    noise: float

    @classmethod
    def of(cls, classes: UnitClassMoments, sample: Sample) -> _Rows:
        units, alive = unit_rows(sample.features)
        units, codes = units[alive], sample.class_codes(classes.names)[alive]
        centred = (units - classes.means.detach()[codes]).to(units.dtype)
        return cls(units, codes, alive, squared_covariance(centred))

    def spread(self, terms: Tensor) -> Tensor:
        """Terms of these rows (r,), placed among all sampled ones (m,)."""
        whole = torch.zeros(len(self.alive), dtype=torch.float64, device=terms.device)
        whole[self.alive] = terms
        return per_live_row(whole, self.alive)


def _total_distance(classes: UnitClassMoments) -> Tensor:
    """Mean cosine distance of two rows of any classes; sums of squares about means, so that no cone eats digits."""
    c = classes.c
    between = (classes.means - classes.means.mean(dim=0)).square().sum()
    return (classes.unbiased_within.sum() + c * between + (c - 1) * classes.within.sum()) / c**2


def _same_class(classes: UnitClassMoments) -> Tensor:
    """Mean cosine over all pairs of rows of one class."""
    sizes = classes.n * classes.shares
    same: Tensor = (sizes.square() * (1 - classes.within) - sizes).sum() / (sizes.square() - sizes).sum()
    return same


def _different_class(classes: UnitClassMoments) -> Tensor:
    """Mean cosine over all pairs of rows of two classes."""
    every = classes.mean @ classes.mean
    own = classes.shares.square() @ (1 - classes.within)
    return (every - own) / (1 - classes.shares.square().sum())


def _value_pairs(classes: UnitClassMoments, within: Tensor, total: Tensor) -> float:
    """Sum over pairs of classes of the squared second derivative by their means, over n_a n_b."""
    c = classes.c
    own = 1 / (c * total.item())
    shared = within.item() * own**2
    inverse = 1 / classes.counts.double()
    diagonal = float(inverse.square().sum())
    return (own - shared) ** 2 * diagonal + shared**2 * (float(inverse.sum()) ** 2 - diagonal)


def _diagonal_pairs(classes: UnitClassMoments, weight: float) -> float:
    return weight**2 * float((1 / classes.counts.double()).square().sum())


def _tolerance_pairs(classes: UnitClassMoments) -> float:
    sizes = classes.counts.double()
    return float(sizes.square().sum()) / float((sizes * (sizes - 1)).sum()) ** 2


def _projected(natural: Tensor, pairs: float, classes: UnitClassMoments, sample: Sample) -> Readout:
    influence = row_influence(natural, [classes], sample)
    sizes = classes.counts[sample.class_codes(classes.names)].double()
    unbiased = influence * (sizes / (sizes - 1)).sqrt()  # rows of a small class lie too near to its own mean
    variance = without_pair_noise(variance_of_mean(unbiased, classes.n), pairs)
    return Readout(natural, influence=influence, variance=variance, method="U-statistic projection")


def _towards_means(rows: _Rows, classes: UnitClassMoments, sample: Sample) -> tuple[Readout, Readout]:
    """Cosine with the mean of the other rows of the own class, and 1 less that with the nearest other mean."""
    means, sizes = classes.means.index_select(0, rows.codes), classes.counts[rows.codes, None]
    rest = (sizes * means - rows.units) / (sizes - 1)
    own = (rows.units * torch.nn.functional.normalize(rest, dim=1)).sum(dim=1)
    directions = torch.nn.functional.normalize(classes.means, dim=1)
    rivals = _rivals(rows, directions.detach().to(rows.units.dtype))
    nearest = (rows.units * directions.index_select(0, rivals)).sum(dim=1)
    return _row_readout(own, rows, classes, sample), _row_readout(1 - nearest, rows, classes, sample)


def _rivals(rows: _Rows, directions: Tensor) -> Tensor:
    """Index of the nearest mean of another class, (r,)."""
    parts = []
    for units, codes in zip(rows.units.split(_TILE), rows.codes.split(_TILE), strict=True):
        parts.append((units @ directions.T).scatter(1, codes[:, None], -torch.inf).argmax(dim=1))
    return torch.cat(parts)


def _row_readout(terms: Tensor, rows: _Rows, classes: UnitClassMoments, sample: Sample) -> Readout:
    """A mean over rows of something that depends on the class means too."""
    natural = terms.mean()
    influence = row_influence(natural, [classes], sample) + rows.spread((terms - natural).detach())
    return Readout(natural.detach(), influence=influence, n=sample.m, method="mean over rows")


def _dprime(rows: _Rows, classes: UnitClassMoments, sample: Sample) -> Answer:
    same = Pairs.within(rows.codes)
    every = Pairs.among(len(rows.codes), rows.codes.device)
    different = every.chosen(rows.codes[every.first] != rows.codes[every.second])
    if min(len(same.first), len(different.first)) < 30:
        return Refusal("inconclusive", "small_class: too few of the sampled rows share a class; it needs 30 pairs")
    sizes = torch.bincount(rows.codes, minlength=classes.c)[rows.codes].double()
    tight, loose = _same_class(classes), _different_class(classes)
    spread_same, influence_same = _pair_variance(same, rows.units, sizes - 1)
    spread_different, influence_different = _pair_variance(different, rows.units, len(rows.codes) - sizes)
    deviation = ((spread_same + spread_different) / 2) ** 0.5
    if not deviation > 0:
        return Refusal("inconclusive", "saturated: the cosines within classes and between them do not vary at all")
    natural = (tight - loose) / deviation
    pull = natural.detach() / (4 * deviation**2)
    influence = row_influence(natural, [classes], sample) - pull * rows.spread(influence_same + influence_different)
    return Readout(natural.detach(), influence=influence, n=sample.m, method="U-statistic projection")


def _pair_variance(pairs: Pairs, units: Tensor, weights: Tensor) -> tuple[float, Tensor]:
    """Variance of the cosine over pairs, where each row counts by its number of partners, and its influence (r,)."""
    cosines = pairs.products(units)
    weights = weights / weights.mean()
    mean = (weights * pairs.row_means(cosines)).mean()
    squares = pairs.row_means((cosines - mean).square())
    variance = (weights * squares).mean()
    return float(variance), 2 * weights * (squares - variance)


def _range(rows: _Rows, sample: Sample) -> Answer:
    """Spread of the pair cosines between two percentiles; a quantile moves by the share of pairs beyond it."""
    pairs = Pairs.among(len(rows.codes), rows.codes.device)
    cosines = pairs.products(rows.units)
    if len(cosines) < 1000:
        return Refusal("inconclusive", f"few_rows: {len(cosines)} pairs of rows; percentiles need at least 1000")
    ordered = cosines.sort().values
    high, low = (_quantile(ordered, share) for share in (0.99, 0.01))
    terms = _quantile_terms(ordered, cosines, 0.99) - _quantile_terms(ordered, cosines, 0.01)
    influence = 2 * rows.spread(pairs.row_means(terms))
    noise = float(terms.var()) / len(terms)
    return Readout(
        high - low,
        influence=influence,
        variance=max(variance_of_mean(influence, sample.m) - noise, noise),
        n=sample.m,
        method="U-statistic projection",
        detail=f"{len(cosines)} pairs of sampled rows",
    )


def _quantile(ordered: Tensor, share: float) -> Tensor:
    return ordered[round(share * (len(ordered) - 1))]


def _quantile_terms(ordered: Tensor, values: Tensor, share: float) -> Tensor:
    """How each value moves a quantile (Bahadur 1966), (p,); the density is that between two neighbouring quantiles."""
    reach = _BAND * min(share, 1 - share)
    width = _quantile(ordered, share + reach) - _quantile(ordered, share - reach)
    beyond = (values > _quantile(ordered, share)).double()
    return (beyond - beyond.mean()) * width / (2 * reach)
