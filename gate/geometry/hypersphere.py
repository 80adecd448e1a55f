"""Directions: does the cloud sit in a cone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import Readout, Refusal, missing_input, row_influence, variance_of_mean
from gate.geometry.methods.row_pairs import Pairs, without_pair_noise
from gate.geometry.registry import Answer, lower, metric, neither
from gate.geometry.statistics import BeforeUnitMoments, Sample, UnitClassMoments, UnitMoments
from gate.geometry.statistics.batch import unit_rows

_MIN_ROWS = 30


@metric(
    unit="cosine",
    greater_is_better=False,
    invariant_to={"scaling", "row_scaling", "rotation", "permutation"},
    domain="n >= 30 (per class: 30 rows each)",
    paper="standard identity; kappa after Banerjee et al. 2005, JMLR (approximation, recollected)",
    readouts={
        "R": lower("debiased mean resultant length, sqrt(max(0, value))"),
        "kappa": lower("concentration of a von Mises-Fisher law with that R"),
        "per_class": neither("largest R of a class", needs={"labels"}),
        "per_class_kappa": neither("largest kappa of a class", needs={"labels"}),
        "before_after": lower("value less that of the features before the layer", needs={"before"}),
    },
    limits={
        "value": (-1, 1),
        "R": (0, 1),
        "kappa": (0, math.inf),
        "per_class": (0, 1),
        "per_class_kappa": (0, math.inf),
        "before_after": (-2, 2),
    },
    elsewhere=(
        "Also called anisotropy. It is exact here, without the pairs of a row with itself; vecscope 0.2.0 draws "
        "pairs at random. Under the name anisotropy, manylatents computes the largest singular value over the sum "
        "of all, and Mu and Viswanath (2018) a ratio of partition functions."
    ),
)
def mean_cosine(
    units: UnitMoments,
    sample: Sample,
    classes: UnitClassMoments | None = None,
    before: BeforeUnitMoments | None = None,
) -> dict[str, Answer]:
    """Cone effect: the mean cosine between two rows.

    (|sum of unit rows|^2 - n) / (n (n - 1)), exactly the mean off-diagonal cosine: 0 when directions are spread
    evenly, 1 when all rows point one way.

    Args:
        units: Moments of the unit rows of features (n, d).
        sample: The sampled rows.
        classes: Class moments of the unit rows, where there are labels.
        before: Moments of the unit rows of the features before the layer, where they are given.

    Returns:
        Cosine in [-1/(n-1), 1], and read-outs.

    Raises:
        MetricError: All feature rows are zero.
    """
    if units.n == 0:
        raise MetricError("all feature rows are zero: they have no direction")
    n, d = units.n, units.d
    if n < _MIN_ROWS:
        few = Refusal("inconclusive", f"few_rows: {n} rows; it needs at least {_MIN_ROWS}", _MIN_ROWS)
        return {"value": few, "R": few, "kappa": few, **_per_class(classes, d), "before_after": few}
    cosine = _mean_cosine(units)

    def spread() -> tuple[Tensor, float]:
        influence = row_influence(cosine, [units], sample)
        return influence, _u_variance(influence, units)

    plain = Readout(cosine, later=cache(spread), method="U-statistic projection")
    return {
        "value": plain,
        "R": replace(plain, display=_resultant),
        "kappa": replace(plain, display=lambda natural: _concentration(natural, d)),
        **_per_class(classes, d),
        "before_after": _before_after(cosine, units, before, sample),
    }


def _mean_cosine(units: UnitMoments) -> Tensor:
    return (units.n * (units.mean @ units.mean) - 1) / (units.n - 1)


def _before_after(cosine: Tensor, units: UnitMoments, before: BeforeUnitMoments | None, sample: Sample) -> Answer:
    """The difference on the same rows; its pair noise is that of the difference of the cosines of two rows."""
    if before is None:
        return missing_input("before")
    if before.n < _MIN_ROWS:
        return Refusal("inconclusive", f"few_rows: {before.n} rows before the layer have a direction; it needs 30", 30)
    natural = cosine - _mean_cosine(before)
    influence = row_influence(natural, [units, before], sample)
    pairs = Pairs.among(sample.m, sample.features.device)
    noise = [
        pairs.products(unit_rows(sample.rows.numbers(each.column).double())[0] - each.mean.detach())
        for each in (units, before)
    ]
    squared = float((noise[0] - noise[1]).square().mean()) / units.n**2
    return Readout(
        natural,
        influence=influence,
        variance=without_pair_noise(variance_of_mean(influence, units.n), squared),
        method="U-statistic projection",
        breakdown={"before": _mean_cosine(before).item(), "after": cosine.item()},
    )


def _u_variance(influence: Tensor, units: UnitMoments) -> float:
    """Variance of the mean cosine: the projection, less what the noise of the mean adds to it, plus the pair term."""
    pairs = float(units.covariance.detach().square().sum()) / units.n**2
    return without_pair_noise(variance_of_mean(influence, units.n), pairs)


def _resultant(cosine: Tensor) -> Tensor:
    return cosine.clamp_min(0).sqrt()


def _concentration(cosine: Tensor, d: int) -> Tensor:
    squared = cosine.clamp(0, 1)
    return squared.sqrt() * (d - squared) / (1 - squared)


def _per_class(classes: UnitClassMoments | None, d: int) -> dict[str, Answer]:
    if classes is None:
        missing = missing_input("labels")
        return {"per_class": missing, "per_class_kappa": missing}
    if classes.smallest < _MIN_ROWS:
        few = Refusal(
            "inconclusive", f"small_class: a class has {classes.smallest} rows; each needs at least {_MIN_ROWS}"
        )
        return {"per_class": few, "per_class_kappa": few}
    counts = classes.counts
    cosines = (counts * classes.means.square().sum(dim=1) - 1) / (counts - 1)
    worst = int(cosines.argmax())
    detail = f"largest in class {classes.names[worst]!r}"

    def readout(display: Callable[[Tensor], Tensor]) -> Readout:
        values = display(cosines.detach()).tolist()
        return Readout(
            cosines[worst],
            display,
            comparisons=classes.c,
            n=int(counts.sum()),
            detail=detail,
            breakdown=dict(zip(classes.names, values, strict=True)),
        )

    return {"per_class": readout(_resultant), "per_class_kappa": readout(lambda natural: _concentration(natural, d))}
