"""How far from some good versions another good one may lie: one-sided limits of normal samples, many at once.

What is bounded is the end of the interval that a rule judges, the lower one for `min` and the upper one for `max`: a
version passes only with its whole interval inside. The ends of the good versions are a sample of that very number, so
that variation between trainings, sampling error, and the room that the interval itself needs are all in it.

Let the ends of m good versions be normal with unknown mean and deviation, and let B bounds lie at `mean - k spread`.
With the sample they were made from they have false alarms at the rates q_1, ..., q_B, and a run at a rate of at most
their sum, whatever the dependence between metrics (Bonferroni). Three things are asked of k, and the largest counts:

    one bound     with the assurance g, its own q is at most its share a / B of the rate that was asked for: the exact
                  factor of a tolerance bound, k = t'(g; m - 1, z(1 - a / B) sqrt(m)) / sqrt(m), t' the quantile of the
                  noncentral t distribution. It is what B bounds need whose errors go together.
    all bounds    with the assurance g, the sum of the q is at most a. A few of many bounds lie too near by chance, and
                  with few versions some of them far too near; the more so, the more their errors are their own. It has
                  no closed form and is the quantile over simulated samples, always the same ones, of metrics that are
                  equally correlated, at the worst of several correlations.
    the next run  over samples and the next good version, that one lies beyond any bound with a chance of at most a:
                  k = t(1 - a / B; m - 1) sqrt(1 + 1 / m), the exact factor of a prediction bound.

(Hahn and Meeker 1991, Statistical Intervals, ch. 4; Krishnamoorthy and Mathew 2009, Statistical Tolerance Regions,
ch. 2; ISO 16269-6.) B counts every bound that was considered, so that choosing among them afterwards costs nothing.

With one version nothing is known of the variation between trainings. Its sampling error stands in for it, as if it were
known to be that, and the bounds are too narrow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    from numpy.typing import NDArray

    from gate.geometry.catalogue import Span

FEW = 5  # below it, the factor itself says more about the number of versions than about the versions
_SAMPLES = 8_000
_SEED = 0
_CORRELATIONS = (0.0, 0.3, 0.6, 0.9)
_LARGEST = 700.0  # of an exponent, in float64


def factor(versions: int, bounds: int, false_alarm: float, assurance: float) -> float:
    """How many spreads from the mean of the good versions every bound must lie.

    Args:
        versions: Good versions measured, at least 1.
        bounds: Considered at once, at least 1.
        false_alarm: Largest rate of a whole run, in (0, 0.5).
        assurance: Chance that these bounds in particular keep it, in (0, 1).
    """
    together = _all_bounds(versions, bounds, false_alarm, assurance)
    return max(together, _next_run(versions, false_alarm / bounds))


def _one_bound(versions: int, rate: float, assurance: float) -> float:
    from scipy.stats import nct, norm

    z, root = float(norm.isf(rate)), math.sqrt(versions)
    if versions == 1:
        return z + float(norm.ppf(assurance))
    return float(nct.ppf(assurance, versions - 1, z * root)) / root


def _next_run(versions: int, rate: float) -> float:
    from scipy.stats import norm, t

    quantile = norm.isf(rate) if versions == 1 else t.isf(rate, versions - 1)
    return float(quantile) * math.sqrt(1 + 1 / versions)


def _all_bounds(versions: int, bounds: int, false_alarm: float, assurance: float) -> float:
    """At least that of one bound, and no more than if every single bound had to keep its share at once (Bonferroni)."""
    import numpy as np
    from scipy.optimize import brentq
    from scipy.special import ndtr

    least = _one_bound(versions, false_alarm / bounds, assurance)
    if bounds == 1:
        return least
    samples = _samples(versions, bounds)

    def excess(factor: float) -> float:
        rates = [np.quantile(ndtr(means - factor * spreads).sum(axis=1), assurance) for means, spreads in samples]
        return float(max(rates)) - false_alarm

    most = _one_bound(versions, false_alarm / bounds, 1 - (1 - assurance) / bounds)
    return float(brentq(excess, least, most, rtol=1e-3)) if excess(least) > 0 > excess(most) else least


def _samples(versions: int, bounds: int) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Means and spreads (samples, bounds) in units of the true deviation, at each correlation between the bounds.

    A number is sqrt(r) c + sqrt(1 - r) o, c common to all bounds. With C^2 the squared deviations of c, chi-square
    with m - 1 degrees, those of the number are (sqrt(r) C + sqrt(1 - r) g)^2 + (1 - r) h: g is normal, the part of o
    along c, and h chi-square with m - 2 degrees, the rest of it.
    """
    import numpy as np

    generator, shape = np.random.default_rng(_SEED), (_SAMPLES, bounds)
    common, own = generator.standard_normal((_SAMPLES, 1)), generator.standard_normal(shape)
    along, rest = generator.standard_normal(shape), 2 * generator.standard_gamma(max(versions - 2, 0) / 2, shape)
    deviation = np.sqrt(2 * generator.standard_gamma((versions - 1) / 2, (_SAMPLES, 1)))
    found = []
    for r in _CORRELATIONS:
        means = (math.sqrt(r) * common + math.sqrt(1 - r) * own) / math.sqrt(versions)
        squares = (math.sqrt(r) * deviation + math.sqrt(1 - r) * along) ** 2 + (1 - r) * rest
        found.append((means, np.ones(shape) if versions == 1 else np.sqrt(squares / (versions - 1))))
    return found


@dataclass(frozen=True)
class Scale:
    """A monotone change of numbers, rising.

    Attributes:
        formula: In terms of x, empty where numbers stay as they are.
        to, back: There and back again.
        slope: Derivative of `to`.
    """

    formula: str
    to: Callable[[float], float]
    back: Callable[[float], float]
    slope: Callable[[float], float]


def scale_of(limits: Span, numbers: Iterable[float]) -> Scale:
    """The scale on which numbers with these limits are close to normal, and on which no bound can lie beyond them.

    Shares are taken as log-odds, positive numbers by their logarithm. A number that lies on a limit has no place on
    such a scale: then they stay as they are.
    """
    low, high = limits
    if not all(low < number < high for number in numbers):
        return _plain()
    if math.isfinite(low) and math.isfinite(high):
        return _log_odds(low, high)
    if math.isfinite(low):
        return _logarithm(low)
    return _from_above(high) if math.isfinite(high) else _plain()


def _plain() -> Scale:
    return Scale("", lambda x: x, lambda y: y, lambda _: 1.0)


def _logarithm(low: float) -> Scale:
    return Scale(
        f"log({_shifted(low)})",
        lambda x: math.log(x - low),
        lambda y: low + math.exp(min(y, _LARGEST)),
        lambda x: 1 / (x - low),
    )


def _from_above(high: float) -> Scale:
    return Scale(
        f"-log({high:g} - x)",
        lambda x: -math.log(high - x),
        lambda y: high - math.exp(min(-y, _LARGEST)),
        lambda x: 1 / (high - x),
    )


def _log_odds(low: float, high: float) -> Scale:
    def back(y: float) -> float:
        share = 1 / (1 + math.exp(min(-y, _LARGEST)))
        return low + (high - low) * share

    return Scale(
        f"log({_grouped(low)} / ({high:.4g} - x))",
        lambda x: math.log((x - low) / (high - x)),
        back,
        lambda x: (high - low) / ((x - low) * (high - x)),
    )


def _shifted(low: float) -> str:
    return "x" if low == 0 else f"x {'-' if low > 0 else '+'} {abs(low):.4g}"


def _grouped(low: float) -> str:
    return "x" if low == 0 else f"({_shifted(low)})"
