"""The whole gate, top down: a model, a probe set and a policy become evidence."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from gate import questions, streaming
from gate.evidence.bundle import Evidence, document

if TYPE_CHECKING:
    from collections.abc import Callable


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
    from gate.evidence.layers import describe
    from gate.models.loading import load
    from gate.policy.loading import load_policy
    from gate.verdict import decide, judge

    started, clock = datetime.now(UTC), time.monotonic()
    loaded = load_policy(policy)
    run, confidence = loaded.policy.run, loaded.policy.defaults.confidence
    rules, layers = loaded.policy.rules, questions.layers_of(loaded.policy)
    spec = streaming.resolved_probe(loaded.policy.probe, probe)
    where = streaming.resolved_device(device)
    with TemporaryDirectory(prefix="gate-") as folder:
        model = load(model_uri, directory=Path(folder), device=where, allow_pickle=run.allow_pickle)
        rows = streaming.open_rows(spec)
        stream = streaming.batches(model, rows, layers, device=where, run=run, on_progress=on_progress)
        collections = local.fold(stream, questions.statistics_of(rules))
    streaming.require_pinned(rows, spec.digest)
    answers = questions.answers(rules, collections, confidence)
    findings = [judge(rule, answers[questions.question(rule)].get(rule.metric)) for rule in rules]
    seconds = time.monotonic() - clock
    return Evidence(
        document(
            model=model,
            policy=loaded,
            probe=rows,
            layers=[describe(name, at.path, at.pooling, collections[name]) for name, at in layers.items()],
            estimates=[(asked[0], each) for asked, found in answers.items() for each in found.values()],
            findings=findings,
            verdict=decide(findings),
            run=environment(
                device=where,
                precision=run.precision,
                seed=run.seed,
                confidence=confidence,
                started=started,
                seconds=seconds,
            ),
        )
    )
