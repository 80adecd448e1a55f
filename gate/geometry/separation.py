"""Class separation on the sphere, and its over-tightening."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import Readout, Refusal, design_effect, row_influence, variance_of_mean
from gate.geometry.methods.domains import small_class
from gate.geometry.methods.mean_noise import Cells, MeanNoise
from gate.geometry.methods.row_pairs import Pairs, squared_covariance, without_pair_noise
from gate.geometry.registry import Answer, Later, higher, metric, neither
from gate.geometry.statistics import ClusterCounts, Sample, UnitClassMoments
from gate.geometry.statistics.batch import by_tile, per_live_row, unit_rows
from gate.geometry.statistics.classes import Offsets

_ROUNDING = 1e-13  # a mean squared distance of unit rows at or below it is that of one direction in float32
_CANCELLED = 1e-6  # a squared length at or below it is rounding: such rows have no mean direction
_LINE = Refusal("not_applicable", "one_dimension: on a line a cosine is a sign; it needs two channels")
_TILE = 1024
_BAND = 0.5  # width, as a share of the tail, over which the density at a quantile is read off


@metric(
    unit="share",
    greater_is_better=None,
    invariant_to={"scaling", "row_scaling", "rotation", "permutation"},
    domain="5 rows, and 5 clusters if any, of each class",
    kinds={"classifier", "embedding", "backbone"},
    elsewhere=(
        "As Kornblith et al. (2021) print it, pairs of a row with itself count, which flatters small classes. "
        "MONAI 1.6.1 has a separation (1 - silhouette) / 2 on cosines, which a perfect simplex does not bring "
        "to 0."
    ),
    paper="Kornblith et al. 2021, Why Do Better Loss Functions Lead to Less Transferable Features "
    "(recollected); closed form without self-pairs derived here",
    readouts={
        "d_within": neither("mean cosine distance of two rows of one class: near 0 when classes are over-tight"),
        "tolerance": neither("mean cosine over all pairs of rows of one class"),
        "compactness": neither("mean cosine of a row with the mean of the rest of its class, without its cluster"),
        "distinct": higher("1 - mean cosine of a row with the nearest mean of another class"),
        "dprime": neither("same-class less different-class mean cosine, in units of their pooled standard deviation"),
        "range": neither("99th less 1st percentile of the cosines of all pairs of rows"),
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
def class_separation_r2(
    classes: UnitClassMoments, sample: Sample, clusters: ClusterCounts | None = None
) -> dict[str, Answer | Later] | Refusal:
    """Class separation on the sphere: 0 for random labels, 1 when every class is one direction.

    1 - d_within / d_total for the mean cosine distance of two rows of one class and of any two rows, where each class
    counts alike and no row is paired with itself, nor with one of its cluster. With class means m_c of unit rows and
    spreads v_c (unbiased), d_within = mean_c v_c and d_total = [sum_c v_c + sum over a != b of (1 - m_a.m_b)] / C^2.
    Near 1 with d_within near 0 the classes are over-compressed.

    Args:
        classes: Class moments of the unit rows of features (n, d).
        sample: The sampled rows, of which up to 131072 pairs are drawn.
        clusters: How rows fall into clusters, where they do.

    Returns:
        Share of at most 1, and read-outs.

    Raises:
        MetricError: All rows are zero, or point one way.
    """
    if classes.n == 0:
        raise MetricError("all feature rows are zero: they have no direction")
    few = small_class(classes, 5, clusters)
    if few:
        return few
    noise = MeanNoise.of(classes, sample, clusters)
    within = (classes.within + noise.own).mean()
    total = _total_distance(classes, noise)
    if not total.item() > _ROUNDING:
        raise MetricError(f"all {classes.n} feature rows point one way: there is nothing to separate")
    rows = _Rows.of(classes, sample, noise, clusters)
    return {
        "value": _projected(1 - within / total, lambda: _value_pairs(rows, within, total), rows),
        "d_within": _projected(within, lambda: _diagonal_pairs(rows, 1 / classes.c), rows),
        "tolerance": _projected(_same_class(classes, noise), lambda: _tolerance_pairs(rows), rows),
        "compactness": lambda: _LINE if classes.d == 1 else rows.towards(rows.codes, rows.own),
        "distinct": lambda: rows.towards(rows.rivals(), rows.other),
        "dprime": lambda: _dprime(rows),
        "range": lambda: _range(rows),
    }


@dataclass(frozen=True, eq=False)
class _Rows:
    """The sampled rows that have a direction.

    Attributes:
        classes: Class moments of all unit rows.
        sample: The sampled rows.
        units: (r, d) unit rows.
        codes: (r,) class of each.
        alive: (m,) bool, which of the sampled rows they are.
        noise: Of the class means.
        concentration: (C,) sum of the squared shares of the clusters in each class; 1 / n for independent rows.
    """

    classes: UnitClassMoments
    sample: Sample
    units: Tensor
    codes: Tensor
    alive: Tensor
    noise: MeanNoise
    concentration: Tensor

    @classmethod
    def of(cls, classes: UnitClassMoments, sample: Sample, noise: MeanNoise, clusters: ClusterCounts | None) -> _Rows:
        units, alive = unit_rows(sample.features)
        concentration = 1 / classes.counts.double() if clusters is None else clusters.concentration
        codes = sample.class_codes(classes.names)[alive]
        return cls(classes, sample, units[alive], codes, alive, noise, concentration)

    @cached_property
    def squared_covariance(self) -> float:
        """tr(C^2) of the pooled within-class covariance of unit rows, unbiased in the class sizes."""
        fitted = squared_covariance(self.classes.offsets(self.sample).moved[self.alive])
        grown = self.noise.own.sum() / self.classes.within.sum().clamp_min(1e-300)
        return fitted * (1 + grown.item()) ** 2

    @property
    def relative_errors(self) -> Tensor:
        """Squared error of each class mean as a share of the variance of its rows, (C,): 1 / n for independent rows."""
        own: Tensor = self.noise.own / (self.classes.within + self.noise.own).clamp_min(1e-300)
        return own.detach()

    @cached_property
    def pairs(self) -> Pairs:
        """Pairs of any two rows."""
        return Pairs.among(len(self.codes), self.codes.device)

    @cached_property
    def cosines(self) -> Tensor:
        """Cosine of each of these pairs, (p,)."""
        return self.pairs.products(self.units)

    def spread(self, terms: Tensor) -> Tensor:
        """Terms of these rows (r,), placed among all sampled ones (m,)."""
        whole = torch.zeros(len(self.alive), dtype=torch.float64, device=terms.device)
        whole[self.alive] = terms
        return per_live_row(whole, self.alive)

    def rivals(self) -> Tensor:
        """Index of the nearest mean of another class, (r,)."""
        directions = torch.nn.functional.normalize(self.classes.means.detach(), dim=1).to(self.units.dtype)
        parts = []
        for units, codes in zip(self.units.split(_TILE), self.codes.split(_TILE), strict=True):
            parts.append((units @ directions.T).scatter(1, codes[:, None], -torch.inf).argmax(dim=1))
        return torch.cat(parts)

    @cached_property
    def siblings(self) -> tuple[Tensor, Tensor] | None:
        """Sum of the rows of the own class and cluster, (r, d), as the sampled ones tell, and its squared length, (r,).

        None without clusters.
        """
        if self.sample.clusters is None:
            return None
        rows = Offsets(self.units, torch.ones_like(self.codes, dtype=torch.float64), self.codes)
        cells = Cells.of(rows, self.sample.clusters[self.alive])
        share, beside = self.sample.share, cells.sizes[cells.which] - 1
        whole = self.units + (cells.sums.to(self.units.dtype)[cells.which] - self.units) / share
        return whole, whole.square().sum(dim=1).double() - beside * (1 - share) / share**2

    def own(self, along: Tensor, square: Tensor) -> Tensor:
        """Cosine with the mean of the rows of the own class but the own cluster, (r,), from u.m and |m|^2."""
        sizes = self.classes.counts[self.codes].double()
        inside, across, apart = torch.ones_like(along), along, torch.ones_like(along)
        if self.siblings is not None:
            means = self.classes.means.detach()
            siblings, apart = self.siblings
            inside = (self.units * siblings).sum(dim=1).double()
            others = siblings - self.units
            across = along + by_tile(lambda tile, one: (tile * means[one]).sum(dim=1), others, self.codes)
        rest = sizes.square() * square - 2 * sizes * across + apart  # squared length of the sum of the others
        found: Tensor = torch.where(
            rest > _CANCELLED, (sizes * along - inside) / rest.clamp_min(_CANCELLED).sqrt(), 0.0
        )
        return found

    def other(self, along: Tensor, square: Tensor) -> Tensor:
        """1 less the cosine with a class mean, (r,), from u.m and |m|^2."""
        return 1 - along / square.clamp_min(1e-300).sqrt()

    def towards(self, index: Tensor, function: Callable[[Tensor, Tensor], Tensor]) -> Readout:
        """Mean over rows of a function of u.m and |m|^2, for the row u and the class mean m of an index (r,)."""
        means = self.classes.means.detach()
        products = by_tile(lambda tile, one: (tile * means.index_select(0, one)).sum(dim=1), self.units, index)
        along, square = (each.requires_grad_() for each in (products, means.square().sum(dim=1)[index]))
        terms = function(along, square)

        def influence() -> Tensor:
            slopes = torch.autograd.grad(terms.mean(), (along, square), retain_graph=True)
            pulls = torch.zeros_like(means, dtype=self.units.dtype)
            pulls.index_add_(0, index, self.units * slopes[0].to(pulls.dtype)[:, None])
            inward = torch.zeros_like(means[:, 0]).index_add_(0, index, 2 * slopes[1])
            gradient = {name: torch.zeros_like(getattr(self.classes, name)) for name in self.classes.leaves}
            gradient["means"] = pulls.double() + inward[:, None] * means
            with torch.no_grad():
                return self.classes.influence(gradient, self.sample) + self.spread(terms - terms.mean())

        return Readout(
            terms.mean().detach(), later=lambda: (influence(), None), n=self.sample.m, method="mean over rows"
        )


def _total_distance(classes: UnitClassMoments, noise: MeanNoise) -> Tensor:
    """Mean cosine distance of two rows of any classes; sums of squares about means, so that no cone eats digits."""
    even = torch.full_like(noise.own, 1 / classes.c)
    between = (classes.means - even @ classes.means).square().sum(dim=1)
    return (classes.within + between).mean() + noise.of_sum(even)


def _same_class(classes: UnitClassMoments, noise: MeanNoise) -> Tensor:
    """Mean cosine of two rows of one class, of different clusters if any."""
    sizes = classes.n * classes.shares
    pairs = sizes * (sizes - 1)
    same: Tensor = pairs @ (1 - classes.within - noise.own) / pairs.sum()
    return same


def _different_class(classes: UnitClassMoments, noise: MeanNoise) -> Tensor:
    """Mean cosine of two rows of two classes, of different clusters if any."""
    every = classes.mean @ classes.mean - noise.of_sum(classes.shares)
    own = classes.shares.square() @ (1 - classes.within - noise.own)
    return (every - own) / (1 - classes.shares.square().sum())


def _value_pairs(rows: _Rows, within: Tensor, total: Tensor) -> float:
    """Sum over pairs of classes of the squared second derivative by their means, times the relative errors of both."""
    c = rows.classes.c
    own = 1 / (c * total.item())
    shared = within.item() * own**2
    inverse = rows.relative_errors
    diagonal = float(inverse.square().sum())
    return (own - shared) ** 2 * diagonal + shared**2 * (float(inverse.sum()) ** 2 - diagonal)


def _diagonal_pairs(rows: _Rows, weight: float) -> float:
    return weight**2 * float(rows.relative_errors.square().sum())


def _tolerance_pairs(rows: _Rows) -> float:
    sizes = rows.classes.counts.double()
    weights = sizes.square() * rows.relative_errors
    return float(weights.square().sum()) / float((sizes * (sizes - 1)).sum()) ** 2


def _projected(natural: Tensor, pairs: Callable[[], float], rows: _Rows) -> Readout:
    def spread() -> tuple[Tensor, float]:
        influence = row_influence(natural, [rows.classes], rows.sample)
        near = rows.concentration[rows.sample.class_codes(rows.classes.names)]
        unbiased = influence * (1 - near).rsqrt()  # rows of few clusters lie too near to the mean of their class
        effect = design_effect(influence, rows.sample.clusters, rows.sample.share)  # which pairs() holds already
        return influence, without_pair_noise(
            variance_of_mean(unbiased, rows.classes.n), pairs() * rows.squared_covariance / effect
        )

    return Readout(natural, later=spread, method="U-statistic projection")


def _dprime(rows: _Rows) -> Answer:
    classes, sample = rows.classes, rows.sample
    same = Pairs.within(rows.codes)
    different = rows.codes[rows.pairs.first] != rows.codes[rows.pairs.second]
    if min(len(same.first), int(different.sum())) < 30:
        return Refusal("inconclusive", "small_class: too few of the sampled rows share a class; it needs 30 pairs")
    sizes = torch.bincount(rows.codes, minlength=classes.c)[rows.codes].double()
    tight, loose = _same_class(classes, rows.noise), _different_class(classes, rows.noise)
    spread_same, influence_same = _pair_variance(same, same.products(rows.units), sizes - 1)
    spread_different, influence_different = _pair_variance(
        rows.pairs, rows.cosines, len(rows.codes) - sizes, among=different
    )
    deviation = ((spread_same + spread_different) / 2) ** 0.5
    if not deviation > 0:
        return Refusal("inconclusive", "saturated: the cosines within classes and between them do not vary at all")
    natural = (tight - loose) / deviation

    def influence() -> Tensor:
        pull = natural.detach() / (4 * deviation**2)
        own = row_influence(natural, [classes], sample)
        return own.sub_(rows.spread(influence_same + influence_different), alpha=pull.item())

    return Readout(natural.detach(), later=lambda: (influence(), None), n=sample.m, method="U-statistic projection")


def _pair_variance(pairs: Pairs, cosines: Tensor, weights: Tensor, among: Tensor | None = None) -> tuple[float, Tensor]:
    """Variance of the cosine over pairs, where each row counts by its number of partners, and its influence (r,)."""
    weights = weights / weights.mean()
    mean = (weights * pairs.row_means(cosines, among)).mean()
    squares = pairs.row_means((cosines - mean).square(), among)
    variance = (weights * squares).mean()
    return float(variance), 2 * weights * (squares - variance)


def _range(rows: _Rows) -> Answer:
    """Spread of the pair cosines between two percentiles; a quantile moves by the share of pairs beyond it."""
    cosines, n = rows.cosines, rows.sample.m
    if len(cosines) < 1000:
        return Refusal("inconclusive", f"few_rows: {len(cosines)} pairs of rows; percentiles need at least 1000")
    ordered = cosines.sort().values
    high, low = (_quantile(ordered, share) for share in (0.99, 0.01))

    def spread() -> tuple[Tensor, float]:
        terms = _quantile_terms(ordered, cosines, 0.99) - _quantile_terms(ordered, cosines, 0.01)
        influence = 2 * rows.spread(rows.pairs.row_means(terms))
        noise = float(terms.var()) / len(terms)
        return influence, max(variance_of_mean(influence, n) - noise, noise)

    return Readout(
        high - low,
        later=spread,
        n=n,
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
