"""The whole gate, top down: a model, a probe set and a policy become measurements, and these become evidence."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from gate import questions, streaming
from gate.evidence.bundle import Evidence, document

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from gate.geometry.statistics import Collection
    from gate.models.baseline import Absent
    from gate.models.finding import FoundModel
    from gate.models.mlmodel import Permissions
    from gate.policy.schema import Policy
    from gate.probes.probe_set import ProbeSet
    from gate.probes.validation import Validation
    from gate.questions import Part, Plan
    from gate.streaming.passes import OnProgress
    from gate.verdict import Measurements


@dataclass(frozen=True)
class Evaluated:
    """What one pass over the probe set gave.

    Attributes:
        model: That was measured.
        baseline: What it was compared with, or why it was not.
        probe: The probe set, after its complete pass.
        plan: What was read where.
        collections: The statistics of every layer and slice.
        measured: The estimates that follow from them.
        device: Where the model ran.
        ran: How each of the two models ran: `candidate` and `baseline` → `isolation`, `batch_size`.
        validation: What came of the expectations that the probe set was held against.
        expectations: What was expected of it, as a policy has it.
    """

    model: FoundModel
    baseline: FoundModel | Absent
    probe: ProbeSet
    plan: Plan
    collections: Mapping[Part, Collection]
    measured: Measurements
    device: str
    ran: Mapping[str, Mapping[str, object]]
    validation: Validation
    expectations: Mapping[str, Any]


def check(
    model_uri: str,
    *,
    policy: str | Path,
    probe: str | None = None,
    baseline: str | None = None,
    device: str = "auto",
    today: date | None = None,
    on_progress: OnProgress | None = None,
) -> Evidence:
    """Evaluates a model under a policy; records nothing.

    Args:
        model_uri: `models:/name/version`, `models:/name@alias`, `runs:/…`, a folder with an MLmodel, `features:PATH`.
        policy: Policy file, or the name of a pack.
        probe: Probe set or probe spec in place of the policy's own.
        baseline: Model to compare with, in place of the policy's own.
        device: `auto`, `cpu` or `cuda`.
        today: On which waivers and dates are looked at; the date now (UTC) when None.
        on_progress: Called with the number of probe rows done so far, and of all.

    Returns:
        The evidence, whose status is the verdict.

    Raises:
        GateError: There is nothing to evaluate, or it could not be evaluated; the class fixes the exit code.
    """
    from gate.evidence.environment import environment
    from gate.policy.loading import load_policy
    from gate.policy.scope import enforcement
    from gate.verdict import Occasion, judge

    started, clock = datetime.now(UTC), time.monotonic()
    loaded = load_policy(policy, baseline=baseline)
    rules = loaded.policy
    found = evaluate(rules, model_uri, probe=probe, device=device, on_progress=on_progress)
    model = found.model
    on = Occasion((model.resolved, model.digest), today or started.date(), enforcement(rules, model_uri))
    overrides = [name for name, given in (("baseline", baseline), ("probe", probe)) if given is not None]
    return Evidence(
        document(
            model=model,
            baseline=found.baseline,
            policy=loaded,
            probe=found.probe,
            places=_places(found),
            measured=found.measured,
            judgement=judge(rules, found.measured, on),
            run={"enforcement": on.enforcement, "overrides": overrides}
            | environment(
                device=found.device,
                precision=rules.run.precision,
                seed=rules.run.seed,
                confidence=rules.defaults.confidence,
                started=started,
                seconds=time.monotonic() - clock,
            ),
        )
    )


def _places(found: Evaluated) -> dict[str, Any]:
    """What was read where, with what the pictures of each layer are drawn from."""
    from gate.evidence.layers import describe

    plan = found.plan
    return {
        "layers": [
            describe(name, at.path, at.pooling, found.collections[questions.Part(name)])
            for name, at in plan.layers.items()
        ],
        "reads": plan.reads_described,
        "ran": found.ran,
        "validation": found.validation.document,
        "expectations": found.expectations,
        "baseline_layers": {name: asdict(at) for name, at in plan.baseline_layers.items()},
    }


def evaluate(
    policy: Policy,
    model_uri: str,
    *,
    probe: str | None = None,
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> Evaluated:
    """Measures everything that a policy asks for, in one pass over the probe set; judges nothing.

    Args:
        policy: The rules, where to read, and the probe set.
        model_uri: As for `check`.
        probe: Probe set or probe spec in place of the policy's own.
        device: `auto`, `cpu` or `cuda`.
        on_progress: Called with the number of probe rows done so far, and of all.

    Raises:
        GateError: It could not be measured.
    """
    from gate.engines import local
    from gate.models.finding import found
    from gate.policy.scope import require_in_scope

    plan = questions.plan(policy)
    spec = streaming.resolved_probe(policy.probe, probe)
    where = streaming.resolved_device(device)
    with TemporaryDirectory(prefix="gate-") as folder:
        model = found(model_uri, directory=Path(folder), permissions=_permissions(policy))
        require_in_scope(policy, model.name, model_uri)
        baseline = _baseline(policy, model, Path(folder), compares=plan.compares)
        rows = streaming.open_rows(spec, plan.tags, Path(folder))
        columns = rows.columns.inputs
        with streaming.running(model, baseline, plan, device=where, run=policy.run, columns=columns) as models:
            # While the models are loaded in processes of their own.
            validation = streaming.valid(rows, spec, shown=model.flavour != "features")
            stream = streaming.batches(
                models, rows, plan, seed=policy.run.seed, total=validation.facts.rows, on_progress=on_progress
            )
            collections = local.fold(stream, lambda part: questions.kinds_of(part, plan.rules))
    streaming.require_pinned(rows, spec)
    measured = questions.answers(plan.rules, collections, policy.defaults.confidence, baseline)
    return Evaluated(
        model, baseline, rows, plan, collections, measured, where, models.ran, validation, spec.expectations.written
    )


def _permissions(policy: Policy) -> Permissions:
    """What a model may do when it is loaded."""
    from gate.models.mlmodel import Permissions

    return Permissions(pickle=policy.run.allow_pickle, code=policy.run.allow_code)


def _baseline(policy: Policy, candidate: FoundModel, directory: Path, *, compares: bool) -> FoundModel | Absent:
    """What the candidate is compared with, or why it is not."""
    from gate.models.baseline import Absent, find

    if policy.baseline is None:
        return Absent("the policy names no baseline; there are no relative rules")
    if not compares:
        return Absent("no rule compares with the baseline")
    return find(
        policy.baseline.uri,
        candidate,
        when_absent=policy.baseline.when_absent,
        directory=directory,
        permissions=_permissions(policy),
    )
