"""Pairs of versions on the same rows, measured and judged on the way that `gate check` takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import hypot, nan
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

import torch

from gate import questions
from gate.engines import local
from gate.models.baseline import Absent
from gate.policy.schema import Policy
from gate.probes.probe_set import ProbeBatch
from gate.streaming.parts import Shown, parts_of
from gate.verdict import Measurements, Occasion, judge
from tests.geometry import data

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from torch import Tensor

    from gate.estimate import Estimate
    from gate.verdict import Question

Kind = Literal["equal", "slightly worse", "worse", "worse, clustered"]

D, CLASSES, BATCH = 16, 4, 2048
METRICS = (
    "ridge_probe_accuracy",
    "knn_label_agreement",
    "ncc_accuracy",
    "effective_rank.share",
    "participation_ratio",
    "collapse_index",
    "mean_cosine",
    "within_between_ratio",
)
# What a policy would allow: points of a share or a cosine, and a part of a value that has no scale of its own.
MARGINS: dict[str, float | str] = {
    "ridge_probe_accuracy": 0.02,
    "knn_label_agreement": 0.02,
    "ncc_accuracy": 0.02,
    "effective_rank.share": "5%",
    "participation_ratio": "5%",
    "collapse_index": 0.02,
    "mean_cosine": 0.02,
    "within_between_ratio": "10%",
}
_ANY_DAY = Occasion((), datetime(2026, 1, 1, tzinfo=UTC).date())
_SEVEN = 7


@dataclass(frozen=True)
class Pair:
    """Features of two versions on the same rows.

    Attributes:
        candidate, baseline: (n, d), float32.
        labels: (n,) class of each row.
        clusters: (n,) which rows are not independent; None when all are.
    """

    candidate: Tensor
    baseline: Tensor
    labels: Tensor
    clusters: Tensor | None = None


def draw(kind: Kind, n: int, seed: int) -> Pair:
    """Two noisy copies of one signal of four classes, of which the candidate may have lost something.

    A worse candidate has its weaker channels shrunk, an offset and more noise: lower accuracies, fewer dimensions, a
    larger mean cosine. In clusters of four rows three quarters of the variance are shared, in the signal as in what
    the versions make of it.
    """
    g = data.generator(seed)
    shared = kind.endswith("clustered")
    labels, clusters = torch.randint(0, CLASSES, (n,), generator=g), torch.arange(n) // 4
    means = torch.randn(CLASSES, D, generator=data.generator(_SEVEN)) * 0.5
    spread = torch.arange(1, D + 1).float() ** -0.25

    def noise() -> Tensor:
        own = torch.randn(n, D, generator=g)
        return 0.5 * own + 0.75**0.5 * torch.randn(n, D, generator=g)[clusters] if shared else own

    signal = means[labels] + noise() * spread + 0.2
    loss = {"equal": 0.0, "slightly worse": 0.1}.get(kind, 0.5)
    shrunk = signal * (1 - loss * torch.linspace(0, 1, D)) + 0.3 * loss
    baseline, candidate = signal + 0.15 * noise(), shrunk + 0.15 * (1 + 4 * loss) * noise()
    return Pair(candidate, baseline, labels, clusters if shared else None)


def policy(metrics: Iterable[str], relative: dict[str, Any]) -> Policy:
    """A policy that allows each of some metrics the same change."""
    rules = [{"id": metric, "metric": metric, "relative": relative} for metric in metrics]
    head = {"apiVersion": "gate/v1", "kind": "Policy", "metadata": {"name": "pairs", "version": "1"}}
    return Policy.model_validate({**head, "baseline": {"uri": "@champion"}, "rules": rules})


def measured(pair: Pair, metrics: Sequence[str] = METRICS) -> Measurements:
    """What a check measures of a pair: in batches, folded, estimated and compared."""
    plan = questions.plan(policy(metrics, {"max_drop": 0}))

    def batches() -> Iterable[dict[questions.Part, Any]]:
        for start in range(0, len(pair.labels), BATCH):
            rows = range(start, min(start + BATCH, len(pair.labels)))
            some = slice(rows.start, rows.stop)
            clusters = None if pair.clusters is None else tuple(map(str, pair.clusters[some].tolist()))
            known = ProbeBatch(
                inputs=pair.baseline[some].numpy(),
                ids=tuple(map(str, rows)),
                labels=tuple(map(str, pair.labels[some].tolist())),
                groups=None,
                lengths=None,
                fingerprints=torch.arange(rows.start, rows.stop).numpy(),
                clusters=clusters,
            )
            features = {"output": pair.candidate[some]}, {"output": pair.baseline[some]}
            about = {"outputs": None, "seed": 0}
            yield from parts_of(Shown(known, *features, {}), plan, {"candidate": about, "baseline": about})

    folded = local.fold(batches(), lambda part: questions.kinds_of(part, plan.rules))
    found = questions.answers(plan.rules, folded, 0.95, Absent("what the pair has is its baseline"))
    candidate, baseline = _light(found.candidate, found.changes), _light(found.baseline, found.changes)
    return Measurements(candidate, baseline, _light(found.changes, found.changes))


def _light(estimates: Mapping[Question, Estimate], asked: Collection[Question]) -> dict[Question, Estimate]:
    """Those that are judged, without the influence of every row."""
    return {question: replace(each, influence=None) for question, each in estimates.items() if question in asked}


def changes(found: Iterable[Measurements], metric: str) -> list[Estimate]:
    """The change of a metric in every draw."""
    return [each for draw in found for question, each in draw.changes.items() if question.metric == metric]


def baselines(found: Iterable[Measurements], metric: str) -> list[Estimate]:
    """The baseline's own number in every draw."""
    return [each for draw in found for question, each in draw.baseline.items() if question.metric == metric]


def outcomes(found: Iterable[Measurements], metric: str, relative: dict[str, Any]) -> list[str]:
    """What a rule says of every draw."""
    rules = policy([metric], relative)
    return [judge(rules, each, _ANY_DAY).findings[0].status for each in found]


def at_the_margin(found: Sequence[Measurements], metric: str, *, percent: bool = False) -> dict[str, Any]:
    """The rule whose margin is exactly what the candidate lost: the average change over the draws."""
    change = fmean(each.value or 0.0 for each in changes(found, metric))
    level = abs(fmean(each.value or 0.0 for each in baselines(found, metric)))
    margin = f"{100 * abs(change) / level:.15f}%" if percent else abs(change)
    return {"max_drop" if change < 0 else "max_rise": margin}


def no_worse(metric: str) -> dict[str, Any]:
    """The rule that a policy would have: it allows MARGINS on either side."""
    return {"max_drop": MARGINS[metric], "max_rise": MARGINS[metric]}


def widening(found: Iterable[Measurements], metric: str) -> float:
    """How many times wider the interval of a change would be without the pairing: that of two independent estimates."""
    ratios = []
    for draw in found:
        for question, change in draw.changes.items():
            if question.metric == metric:
                apart = hypot(_width(draw.candidate[question]), _width(draw.baseline[question]))
                ratios.append(apart / _width(change))
    return fmean(ratios)


def _width(estimate: Estimate) -> float:
    low, high = estimate.interval or (nan, nan)
    return high - low
