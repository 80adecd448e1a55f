"""What the model says: is its confidence earned, and do its predictions depend on the input."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from gate.geometry.influence import Readout, missing_input, row_mean, variance_of_mean
from gate.geometry.methods.calibration_bins import Calibration, squared_error
from gate.geometry.methods.rates import BASELINE, OF_FEATURES, over_rows, same_classes, share_of_rows, too_few
from gate.geometry.methods.row_pairs import squared_covariance, without_pair_noise
from gate.geometry.registry import Answer, Answers, higher, lower, metric, neither
from gate.geometry.statistics import Ledger, Sample
from gate.geometry.statistics.ledger import row_tiles

_COLUMNS = 1 << 22  # numbers of a tile of classes


@metric(
    unit="probability",
    greater_is_better=False,
    invariant_to=OF_FEATURES,
    needs={"labels"},
    kinds={"classifier", "sequence"},
    elsewhere="torchmetrics and most papers take bins of equal width and leave the value of a calibrated model in",
    domain="1000 rows",
    paper="Naeini et al. 2015, Obtaining Well Calibrated Probabilities Using Bayesian Binning; null derived here",
    readouts={
        "raw": lower("expected calibration error as it is: above 0 even for a perfectly calibrated model"),
        "classwise": lower(
            "mean over classes of the same for the probability of each class, less its null; sampled rows"
        ),
        "nll": lower("mean negative log-likelihood of the label, nats"),
        "sq": lower("squared calibration error without its bias"),
    },
    limits={
        **dict.fromkeys(("value", "classwise", "sq"), (-1.0, 1.0)),
        "raw": (0, 1),
        "nll": (0, math.inf),
    },
)
def ece(ledger: Ledger, sample: Sample) -> Answers:
    """Calibration error: how far the confidence is from the accuracy, beyond what sampling alone gives.

    sum over 15 equal-mass bins of the largest probability of (n_b / n) |accuracy_b - confidence_b|, less the value that
    a perfectly calibrated model has, sum (n_b / n) sqrt(2 / pi) sqrt(c_b (1 - c_b) / n_b). Equal confidences share a
    bin; one that expects few outcomes has the mean distance of a binomial count instead. The error is derived here: the
    size of a normal gap is folded where the gap is not clear.

    Args:
        ledger: Of the outputs (n, C) of all rows, with labels.
        sample: The sampled rows.

    Returns:
        About 0 for a calibrated model, at most 1, and read-outs.

    Raises:
        MetricError: No output stands for a label.
    """
    few = too_few(ledger, 1000)
    if few:
        return few
    found = Calibration.of(ledger.numbers("confidence")[:, None], ledger.right()[:, None])
    raw, null = found.error()[0], found.null()[0]
    return {
        "value": _calibration(ledger, sample, found, raw, lambda natural: natural - null),
        "raw": _calibration(ledger, sample, found, raw, None),
        "classwise": _classwise(ledger, sample),
        "nll": over_rows(
            ledger, sample, ledger.numbers("nll").mean(), ledger.numbers("nll"), method="mean over all rows"
        ),
        "sq": _squared(ledger, sample, found),
    }


def _calibration(
    ledger: Ledger, sample: Sample, found: Calibration, raw: Tensor, display: Callable[[Tensor], Tensor] | None
) -> Readout:
    names = [f"{low:.3f}" for low in found.confidence[:, 0].tolist()]
    gaps = {f"confidence {name}": gap for name, gap in zip(names, found.gaps[:, 0].tolist(), strict=True)}
    kept = {name: gap for (name, gap), share in zip(gaps.items(), found.shares[:, 0].tolist(), strict=False) if share}
    terms = (found.per_row(found.slopes()) * found.errors)[:, 0]
    folding = float((found.shares.square() * found.folding()).sum())
    return _with_variance(
        over_rows(ledger, sample, raw, terms, display=display, method="folded normal over bins", breakdown=kept),
        folding,
    )


def _with_variance(readout: Readout, more: float) -> Readout:
    return replace(readout, variance=(readout.variance or 0.0) + more)


def _squared(ledger: Ledger, sample: Sample, found: Calibration) -> Readout:
    """Its error has a part that follows the gaps and one that stays when there are none."""
    signed = found.gaps.sign() * found.signal
    terms = 2 * found.per_row(signed) * found.errors - found.per_row(signed.square())
    still = 2 * float((found.shares.square() * found.spread.square()).sum())
    readout = over_rows(ledger, sample, squared_error(found)[0], terms[:, 0], method="delta method, second order")
    return _with_variance(readout, still)


def _classwise(ledger: Ledger, sample: Sample) -> Readout:
    """Mean over classes, a tile of classes at a time; the bins of two classes are not independent of each other."""
    logits, labels = sample.rows.numbers("logits").double(), ledger.labels[ledger.places(sample)]
    scale = logits.logsumexp(dim=1, keepdim=True)
    step = max(1, _COLUMNS // len(logits))
    value, null, folding = (torch.zeros((), dtype=torch.float64, device=logits.device) for _ in range(3))
    terms = torch.zeros(len(logits), dtype=torch.float64, device=logits.device)
    for start in range(0, ledger.c, step):
        classes = torch.arange(start, min(start + step, ledger.c), device=logits.device)
        found = Calibration.of((logits[:, classes] - scale).exp(), (labels[:, None] == classes).double())
        value, null = value + found.error().sum() / ledger.c, null + found.null().sum() / ledger.c
        folding = folding + (found.shares.square() * found.folding()).sum()
        terms += (found.per_row(found.slopes()) * found.errors).sum(dim=1) / ledger.c
    together = ledger.c / (ledger.c - 1)
    variance = variance_of_mean(terms, len(terms)) + float(folding) * together / ledger.c**2
    return Readout(
        value,
        lambda natural: natural - null,
        influence=terms,
        variance=variance,
        n=sample.m,
        method="folded normal over bins, sampled rows",
    )


@metric(
    unit="ratio",
    greater_is_better=True,
    invariant_to=OF_FEATURES,
    reads={"baseline_logits"},
    kinds={"classifier", "generator", "sequence"},
    ranges={"tau": (0.01, 0.999)},
    domain="10 rows for each class of the outputs",
    paper="standard; mi after Salimans et al. 2016, Improved Techniques for Training GANs; confusion_set recollected "
    "from Shrinking Class Space for Enhanced Certainty in Semi-Supervised Learning",
    readouts={
        "mi": higher("information that predictions carry about the input, over ln C: log of the Inception Score"),
        "mean_entropy": neither("mean entropy of a prediction over ln C; value = mi + mean_entropy"),
        "covered": higher("share of classes predicted at least once"),
        "uncertain": neither("share of rows whose largest probability is below tau"),
        "confusion_set": neither(
            "mean number of runners-up to remove until the first class has tau of the rest; sampled rows"
        ),
        "entropy_shift": neither("mean_entropy minus that of the baseline", needs={"baseline_logits"}),
    },
    limits={
        **dict.fromkeys(("value", "mi", "mean_entropy", "covered", "uncertain"), (0.0, 1.0)),
        "confusion_set": (0, math.inf),
        "entropy_shift": (-1, 1),
    },
)
def prediction_entropy_ratio(ledger: Ledger, sample: Sample, *, tau: float = 0.95) -> Answers:
    """Prediction collapse: entropy of the mean prediction over that of a uniform one.

    H(mean_i p_i) / ln C: 0 when one class is always predicted, 1 when all are predicted equally often; on an imbalanced
    probe set compare with H(class shares) / ln C. Biased down by about (C - 1) / (2 n ln C).

    Args:
        ledger: Of the outputs (n, C) of all rows.
        sample: The sampled rows.
        tau: Probability from which a prediction counts as certain.

    Returns:
        Ratio in [0, 1], and read-outs.
    """
    few = too_few(ledger, 10 * ledger.c)
    if few:
        return few
    scale = math.log(ledger.c)
    entropies = ledger.numbers("entropy") / scale
    marginal = torch.special.entr(ledger.shares).sum() / scale
    terms, pairs = _marginal_terms(ledger, sample)
    own = entropies[ledger.places(sample)]
    method = "delta method, second order"

    def of_marginal(natural: Tensor, influence: Tensor) -> Readout:
        variance = without_pair_noise(variance_of_mean(influence, ledger.n), pairs)
        return Readout(natural, influence=influence, variance=variance, n=ledger.n, method=method)

    least = int(ledger.shares.argmin())
    detail = f"least predicted {ledger.names[least]!r}, mean probability {float(ledger.shares[least]):.3g}"
    return {
        "value": replace(of_marginal(marginal, terms), detail=detail),
        "mi": of_marginal((marginal - entropies.mean()).clamp_min(0), terms - own),
        "mean_entropy": over_rows(ledger, sample, entropies.mean(), entropies, method="mean over all rows"),
        "covered": _covered(ledger, sample),
        "uncertain": share_of_rows(ledger, sample, ledger.numbers("confidence") < tau),
        "confusion_set": row_mean(_confused(sample, tau), method="mean over sampled rows"),
        "entropy_shift": _entropy_shift(ledger, sample),
    }


def _marginal_terms(ledger: Ledger, sample: Sample) -> tuple[Tensor, float]:
    """Influence of the sampled rows on the entropy ratio of the mean prediction, and the noise of pairs of rows in it.

    The value is quadratic where all classes are predicted equally often. The second-order part of its variance is
    tr((D S)^2) / (2 n^2) for the covariance S of the predictions and D = diag(1 / mean); slopes at the estimated mean
    hold that part twice over (derived here).
    """
    logits, shares = sample.rows.numbers("logits"), ledger.shares
    alive = shares > 0
    present = shares.clamp_min(1e-300)
    slopes = torch.where(alive, -present.log() - 1, 0.0) / math.log(ledger.c)
    terms = torch.zeros(len(logits), dtype=torch.float64, device=logits.device)
    tiles = row_tiles(len(logits), ledger.c)
    for rows in tiles:
        terms[rows] = (logits[rows].double().softmax(dim=1) - shares) @ slopes
    moved = logits[tiles[0]].double().softmax(dim=1) - shares
    relative = torch.where(alive, moved / present.sqrt(), 0.0)
    return terms, squared_covariance(relative) / (2 * ledger.n * math.log(ledger.c)) ** 2


def _covered(ledger: Ledger, sample: Sample) -> Readout:
    """Classes that are predicted; one seen less than z^2 times could have been missed, one never seen could come."""
    found = ledger.predictions()
    counts = torch.bincount(found, minlength=ledger.c).double()
    seen, once = counts > 0, float((counts == 1).sum())
    missing = [ledger.names[code] for code in (~seen).nonzero()[:, 0].tolist()]

    def ends(z: float) -> tuple[float, float]:
        more = once + z * z / 2 + z * math.sqrt(once + z * z / 4)
        return float((counts > z * z).sum()) / ledger.c, min(1.0, (float(seen.sum()) + more) / ledger.c)

    lost = (-counts[seen]).exp()
    terms = (counts[found] == 1).double() * (ledger.n / ledger.c)
    readout = over_rows(
        ledger, sample, seen.double().mean(), terms, interval=ends, method="count, Poisson rates of classes"
    )
    ties = int((ledger.numbers("margin") == 0).sum())
    notes = [f"{len(missing)} never predicted, one is {missing[0]!r}"] if missing else []
    notes += [f"{ties} rows tie between classes, the first one counts"] if ties else []
    return replace(
        readout, variance=float((lost * (1 - lost)).sum()) / ledger.c**2, detail="; ".join(notes) if notes else None
    )


def _confused(sample: Sample, tau: float) -> Tensor:
    """Runners-up to remove from each row, (m,): smallest count after which p_1 / (p_1 + the others left) >= tau."""
    logits = sample.rows.numbers("logits")
    found = []
    for rows in row_tiles(len(logits), logits.shape[1]):
        ranked = logits[rows].double().softmax(dim=1).sort(dim=1, descending=True).values
        left = ranked[:, 1:].flip(1).cumsum(dim=1)
        found.append((left > ranked[:, :1] * (1 - tau) / tau).sum(dim=1))
    return torch.cat(found).double()


def _entropy_shift(ledger: Ledger, sample: Sample) -> Answer:
    if not ledger.has(BASELINE):
        return missing_input(BASELINE)
    other = same_classes(ledger)
    if other:
        return other
    ledger.predictions(BASELINE)
    moved = (ledger.numbers("entropy") - ledger.numbers("baseline_entropy")) / math.log(ledger.c)
    return over_rows(ledger, sample, moved.mean(), moved, method="paired mean over all rows")
