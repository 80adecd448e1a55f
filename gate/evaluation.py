"""The whole gate, top down: a model, a probe set and a policy become evidence."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from gate import streaming
from gate.errors import MetricError, NothingEvaluatedError
from gate.evidence.bundle import Evidence, document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gate.estimate import Estimate
    from gate.features import LayerAddress
    from gate.geometry.statistics import Collection
    from gate.policy.loading import LoadedPolicy
    from gate.policy.schema import Policy, Rule


def check(
    model_uri: str,
    *,
    policy: str | Path,
    probe: str | None = None,
    device: str = "auto",
    on_progress: Callable[[int], None] | None = None,
) -> Evidence:
    """Evaluates a model under a policy; records nothing.

    Args:
        model_uri: `models:/name/version`, `models:/name@alias`, `runs:/…`, a folder with an MLmodel, `features:PATH`.
        policy: Policy file.
        probe: Probe set or probe spec in place of the policy's own.
        device: `auto`, `cpu` or `cuda`.
        on_progress: Called with the number of probe rows done so far.

    Returns:
        The evidence, whose status is the verdict.

    Raises:
        GateError: There is nothing to evaluate, or it could not be evaluated; the class fixes the exit code.
    """
    from gate.engines import local
    from gate.evidence.environment import environment
    from gate.models.loading import load
    from gate.policy.loading import load_policy
    from gate.verdict import decide, judge

    started, clock = datetime.now(UTC), time.monotonic()
    loaded = load_policy(policy)
    rules = _rules(loaded)
    spec = streaming.resolved_probe(loaded.policy.probe, probe)
    where = _device(device)
    with TemporaryDirectory(prefix="gate-") as directory:
        run, layers = loaded.policy.run, _layers(loaded.policy)
        model = load(model_uri, directory=Path(directory), device=where, allow_pickle=run.allow_pickle)
        rows = streaming.open_rows(spec)
        size = run.batch_size if isinstance(run.batch_size, int) else None
        stream = streaming.batches(
            model, rows, layers, device=where, batch_size=size, seed=run.seed, on_progress=on_progress
        )
        collections = local.fold(stream, _statistics(rules))
    streaming.require_pinned(rows, spec.digest)
    _require_finite(collections)
    estimates = _estimates(rules, collections, loaded.policy.defaults.confidence)
    findings = [judge(rule, estimates.get(_question(rule), {}).get(rule.metric)) for rule in rules]
    return Evidence(
        document(
            model=model,
            policy=loaded,
            probe=rows,
            layers=_pictures(layers, collections),
            estimates=[(key[0], each) for key, answers in estimates.items() for each in answers.values()],
            findings=findings,
            verdict=decide(findings),
            run=environment(
                device=where,
                precision=run.precision,
                seed=run.seed,
                confidence=loaded.policy.defaults.confidence,
                started=started,
                seconds=time.monotonic() - clock,
            ),
        )
    )


def _rules(loaded: LoadedPolicy) -> tuple[Rule, ...]:
    if not loaded.policy.rules:
        raise NothingEvaluatedError(
            f"{loaded.path}: the policy has no rule, so nothing was evaluated; add one under `rules:`"
        )
    return loaded.policy.rules


def _layers(policy: Policy) -> dict[str, LayerAddress]:
    """Name → address of every layer that a rule is about; a name that the policy does not define is a path itself."""
    from gate.features import LayerAddress

    names = dict.fromkeys(rule.layer for rule in policy.rules)
    return {
        name: LayerAddress(policy.layers[name].path, policy.layers[name].pooling)
        if name in policy.layers
        else LayerAddress(name)
        for name in names
    }


def _statistics(rules: Iterable[Rule]) -> tuple[Any, ...]:
    """What the rules' metrics read, and what the pictures of a layer are drawn from."""
    from gate.estimate import statistics_for
    from gate.geometry.registry import find
    from gate.geometry.statistics import ClassMoments, Moments

    return tuple(dict.fromkeys((Moments, ClassMoments, *statistics_for(find(rule.metric)[0] for rule in rules))))


def _device(device: str) -> str:
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def _require_finite(collections: Mapping[str, Collection]) -> None:
    for name, collection in collections.items():
        try:
            collection.census.require_finite()
        except MetricError as error:
            raise MetricError(f"layer {name!r}: {error}") from None


def _question(rule: Rule) -> tuple[str, str, tuple[tuple[str, Any], ...]]:
    """Rules with the same layer, metric and parameters ask one question."""
    return rule.layer, rule.metric.partition(".")[0], tuple(sorted(rule.params.items()))


def _estimates(
    rules: Iterable[Rule], collections: Mapping[str, Collection], confidence: float
) -> dict[tuple[str, str, tuple[tuple[str, Any], ...]], dict[str, Estimate]]:
    from gate.estimate import estimate
    from gate.geometry.registry import find

    questions = dict.fromkeys(_question(rule) for rule in rules)
    return {
        (layer, metric, params): estimate(
            find(metric)[0], collections[layer], confidence=confidence, params=dict(params)
        )
        for layer, metric, params in questions
    }


def _pictures(layers: Mapping[str, LayerAddress], collections: Mapping[str, Collection]) -> list[dict[str, Any]]:
    from gate.evidence.layers import describe

    return [describe(name, address.path, address.pooling, collections[name]) for name, address in layers.items()]
