"""Length: do long inputs become alike."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gate.errors import MetricError
from gate.geometry.influence import (
    Readout,
    Refusal,
    missing_input,
    noted,
    row_influence,
    tracked,
    variance_of_mean,
)
from gate.geometry.methods.row_pairs import squared_covariance, without_pair_noise
from gate.geometry.registry import Answer, Answers, higher, lower, metric
from gate.geometry.spectral import participation_ratio
from gate.geometry.statistics import LengthMoments, Moments, Sample
from gate.geometry.statistics.batch import per_live_row, unit_rows
from gate.geometry.statistics.lengths import UNREAD, shortest
from gate.geometry.statistics.tokens import QUANTITIES, token_quantities

_FEW_INPUTS = 50  # of each length
_MATCHED = 0.9  # share of the documents that must come short and long for their content to be the same
_SURE = 5  # errors above noise that a mean direction must lie


@metric(
    unit="cosine",
    greater_is_better=False,
    invariant_to={"scaling", "row_scaling", "rotation", "permutation"},
    domain="50 rows of each length; the same documents at several lengths, else lengths and topics are confounded",
    kinds={"embedding", "sequence"},
    paper="after Zhou et al. 2024, Length-Induced Embedding Collapse in Transformer-based Models; bins derived here",
    readouts={
        "slope": lower("change of the cosine with the mean direction when the length doubles"),
        "erank_ratio": higher("participation ratio of the long rows over that of the short ones"),
        "hf": higher("share of the token states that varies within an input, long less short rows", needs={"tokens"}),
        "filter": higher(
            "what attention lets through of what varies between tokens, long less short rows",
            needs={"attention_filter"},
        ),
    },
    limits={"value": (-2, 2), "erank_ratio": (0, math.inf), "hf": (-1.2, 1.2)},
    reads={"tokens", "attention_filter", "clusters"},
)
def length_collapse(lengths: LengthMoments, sample: Sample) -> Answers:
    """Long inputs fall into a narrow cone: mean cosine of long rows less that of short ones.

    Rows are cut by length as close to thirds as eighths of a doubling allow; the mean cosine of the shortest
    part is taken from that of the longest. 0 where content does not differ; on natural data, length goes with topic,
    which `detail` says unless `clusters` names documents that come short and long.

    `hf` is the mean of |X - 1 x^T|_F / |X|_F over inputs of T tokens, times sqrt(T / (T - 1)), so that tokens alike in
    kind read the same at any T.

    Args:
        lengths: Moments of the unit rows of features (n, d) by length.
        sample: The sampled rows.

    Returns:
        Cosine difference in [-2, 2], and read-outs.

    Raises:
        MetricError: All rows are zero, or a length is not positive.
    """
    if lengths.n == 0:
        raise MetricError("all feature rows are zero: they have no direction")
    if UNREAD in lengths.names:
        raise MetricError("lengths must be positive: some are 0, negative or missing")
    ends = _Ends.of(lengths, sample)
    if isinstance(ends, Refusal):
        return ends
    answers = {
        "value": _cone(ends, lengths, sample),
        "slope": _slope(lengths, sample),
        "erank_ratio": _rank_ratio(ends, sample),
        "hf": _variation(ends, sample),
        "filter": _filtered(ends, sample),
    }
    return {name: _said(answer, ends.note) for name, answer in answers.items()}


def _said(answer: Answer, note: str) -> Answer:
    return replace(answer, detail=noted(answer.detail, note)) if isinstance(answer, Readout) else answer


@dataclass(frozen=True)
class _Ends:
    """Which rows are short and which are long.

    Attributes:
        codes: (m,) bin of each sampled row.
        cuts: Bins below the first are short, from the second on long.
        note: What is to be said of it.
    """

    codes: Tensor
    cuts: tuple[int, int]
    note: str

    @classmethod
    def of(cls, lengths: LengthMoments, sample: Sample) -> _Ends | Refusal:
        """Cuts as close to thirds of all rows as the bins allow."""
        if lengths.c < 2:
            reason = f"few_rows: all lengths lie within an eighth of a doubling of {shortest(lengths.names[0]):.3g}"
            return Refusal("inconclusive", f"{reason}; it needs rows of two lengths")
        below = lengths.counts.cumsum(0)[:-1].double() / lengths.n
        first = int((below - 1 / 3).abs().argmin())
        second = first + int((below[first:] - 2 / 3).abs().argmin())
        cuts = first + 1, second + 1
        sizes = int(lengths.counts[: cuts[0]].sum()), int(lengths.counts[cuts[1] :].sum())
        codes = lengths.codes_of(sample.rows)
        sampled = int((codes < cuts[0]).sum()), int((codes >= cuts[1]).sum())
        if min(*sizes, *sampled) < _FEW_INPUTS:
            reason = f"small_group: {min(sizes)} rows are short or long; it needs at least {_FEW_INPUTS} of each"
            return Refusal("inconclusive", reason, math.ceil(lengths.n * _FEW_INPUTS / max(min(sizes), 1)))
        borders = f"short below {shortest(lengths.names[cuts[0]]):.3g} ({sizes[0]} rows)"
        borders += f", long from {shortest(lengths.names[cuts[1]]):.3g} ({sizes[1]} rows)"
        return cls(codes, cuts, f"{borders}; {_content(codes, cuts, sample.clusters)}")

    @property
    def short(self) -> Tensor:
        """(m,) bool."""
        return self.codes < self.cuts[0]

    @property
    def long(self) -> Tensor:
        """(m,) bool."""
        return self.codes >= self.cuts[1]


def _content(codes: Tensor, cuts: tuple[int, int], clusters: Tensor | None) -> str:
    """Whether the short and the long rows are the same documents."""
    if clusters is not None:
        _, document = clusters.unique(return_inverse=True)
        short, long = (
            torch.bincount(document[rows], minlength=int(document.max()) + 1) > 0
            for rows in (codes < cuts[0], codes >= cuts[1])
        )
        if float((short & long).sum()) >= _MATCHED * float((short | long).sum()):
            return "content matched: the same documents short and long"
    return "confounded with content unless the same documents come short and long"


def _cone(ends: _Ends, lengths: LengthMoments, sample: Sample) -> Readout:
    bins = torch.arange(lengths.c, device=lengths.counts.device)
    units, alive = unit_rows(sample.features.double())
    natural, pairs = [], 0.0
    for inside, among in ((bins >= ends.cuts[1], ends.long & alive), (bins < ends.cuts[0], ends.short & alive)):
        sizes = lengths.n * lengths.shares * inside
        size = sizes.sum()
        natural.append(((sizes @ lengths.means).square().sum() - size) / (size * (size - 1)))
        rows = units[among]
        pairs += squared_covariance(rows - rows.mean(dim=0)) / size.item() ** 2
    value = natural[0] - natural[1]
    influence = row_influence(value, [lengths], sample)
    variance = without_pair_noise(variance_of_mean(influence, lengths.n), pairs)
    ends_of = {name: cosine.item() for name, cosine in zip(("long", "short"), natural, strict=True)}
    return Readout(value, influence=influence, variance=variance, breakdown=ends_of, method="U-statistic projection")


def _slope(lengths: LengthMoments, sample: Sample) -> Answer:
    """Least squares of the cosine with the mean direction on the binary logarithm of the length."""
    length = (lengths.mean @ lengths.mean).item()
    units, alive = unit_rows(sample.features.double())
    noise = squared_covariance(units[alive] - lengths.mean.detach())
    if length - 1 / lengths.n <= _SURE * math.sqrt(2 * noise) / lengths.n:
        return Refusal("inconclusive", f"few_rows: {lengths.n} rows do not tell their mean direction from noise")
    doublings = sample.rows.numbers("lengths").double().log2()
    moved = torch.where(alive, doublings - doublings[alive].mean(), 0.0)
    spread = moved.square().sum()
    cosines = units @ torch.nn.functional.normalize(lengths.mean, dim=0)
    natural = (moved @ cosines) / spread
    centred = cosines.detach() - cosines.detach()[alive].mean()
    rest = torch.where(alive, centred - natural.detach() * moved, 0.0)
    influence = row_influence(natural, [lengths], sample) + moved * rest * (sample.m / spread)
    return Readout(natural.detach(), influence=influence, n=sample.m, method="least squares over rows")


def _rank_ratio(ends: _Ends, sample: Sample) -> Answer:
    """Participation ratio of the long sampled rows over that of the short ones, unbiased in their numbers."""
    logs, influence = [], torch.zeros(sample.m, dtype=torch.float64, device=sample.features.device)
    for among, sign in ((ends.long, 1), (ends.short, -1)):
        part = Sample(int(among.sum()), sample.rows.rows(among.nonzero()[:, 0]))
        moments = tracked(Moments.of_rows(part.features, part.rows.resolution))
        answers: Answers = participation_ratio(moments, part)
        answer: Answer = answers if isinstance(answers, Refusal) else answers["value"]
        if not isinstance(answer, Readout):
            return answer
        own = answer.settled().influence
        own = row_influence(answer.natural, [moments], part) if own is None else own
        influence[among] += sign * own * (sample.m / part.m)
        logs.append(sign * answer.natural.detach())
    return Readout(logs[0] + logs[1], torch.exp, influence=influence, n=sample.m)


def _variation(ends: _Ends, sample: Sample) -> Answer:
    layers = list(sample.rows.named("tokens"))
    if not layers:
        return missing_input("tokens")
    terms = sample.rows.numbers(f"tokens.{layers[-1]}")
    values, exists = token_quantities(terms)
    count = terms[:, 0].double()
    size = values[:, QUANTITIES.index("diversity")] * (count / (count - 1).clamp_min(1)).sqrt()
    return _long_less_short(size, exists[:, 0], ends)


def _filtered(ends: _Ends, sample: Sample) -> Answer:
    if not sample.rows.has({"attention_filter"}):
        return missing_input("attention_filter")
    terms = sample.rows.numbers("attention_filter")
    return _long_less_short(terms, torch.ones_like(ends.long), ends)


def _long_less_short(terms: Tensor, exists: Tensor, ends: _Ends) -> Answer:
    """Mean of a number over the long rows less that over the short ones, with the means in the breakdown."""
    if not bool(torch.isfinite(terms[exists]).all()):
        raise MetricError("nonfinite_rows: token or attention terms hold NaN or infinity")
    means, influence = {}, torch.zeros_like(terms, dtype=torch.float64)
    for name, among, sign in (("long", ends.long & exists, 1), ("short", ends.short & exists, -1)):
        if int(among.sum()) < _FEW_INPUTS:
            reason = f"small_group: {int(among.sum())} {name} rows have at least 4 tokens; it needs {_FEW_INPUTS}"
            return Refusal("inconclusive", reason)
        mean = terms[among].mean()
        influence += sign * per_live_row(terms - mean, among)
        means[name] = mean.item()
    value = torch.tensor(means["long"] - means["short"], dtype=torch.float64)
    return Readout(value, influence=influence, n=len(terms), breakdown=means, method="difference of means")
