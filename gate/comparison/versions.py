"""From two model URIs to a comparison: both on the same rows, in one pass."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from gate.errors import MetricError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gate.models.loading import LoadedModel
    from gate.policy.schema import Policy
    from gate.probes.probe_set import ProbeSet
    from gate.verdict import Measurements


@dataclass(frozen=True)
class Comparison:
    """Two versions side by side: the document, with what is asked of it most at hand.

    Attributes:
        document: `gate.comparison/v1`, plain JSON values.
    """

    document: dict[str, Any]

    @property
    def counts(self) -> dict[str, int]:
        """Number of differences by outcome: worse, better, different, no_difference; and of those not compared."""
        return dict(self.document["counts"])

    def __str__(self) -> str:
        from gate.comparison import text

        return text.render(self.document)


@dataclass(frozen=True)
class _Measured:
    """What one pass over the rows gave."""

    a: LoadedModel
    b: LoadedModel
    probe: ProbeSet
    estimates: Measurements
    device: str


def compare(  # noqa: PLR0913 - one parameter for everything that can be asked
    a: str,
    b: str,
    *,
    probe: str | None = None,
    layers: Mapping[str, str] | None = None,
    reads: Mapping[str, str] | None = None,
    policy: str | Path | None = None,
    long: bool = False,
    multiplicity: Literal["none", "holm"] = "none",
    device: str = "auto",
    on_progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Measures two versions of a model on the same rows and says what differs; judges nothing.

    Args:
        a: URI of the version to compare with, as for `gate.check`.
        b: URI of the version that is compared.
        probe: Probe spec, or with a policy a probe set in place of the policy's own.
        layers: Name → `PATH` or `PATH:POOLING`; those of the policy, or the output of the model, when None.
        reads: What else of the model is read, `{"logits": "output"}`, over that of the policy.
        policy: File or pack whose layers, reads, probe set and parameters are taken; its rules are not judged.
        long: Whether every read-out is compared, not only the value of each metric.
        multiplicity: `holm` lets differences hold for all numbers at once (Holm 1979).
        device: `auto`, `cpu` or `cuda`.
        on_progress: Called with the number of probe rows done so far.

    Raises:
        UsageError: The two are the same version, there is no probe set, or a layer or read makes no sense.
        GateError: It could not be measured, or no number of the two could be compared.
    """
    from gate.comparison.asking import asked
    from gate.comparison.differences import answered
    from gate.comparison.document import document
    from gate.evidence.environment import environment
    from gate.verdict import question_of

    started, clock = datetime.now(UTC), time.monotonic()
    wanted = asked(a, probe=probe, layers=layers or {}, reads=reads or {}, policy=policy, long=long)
    rules = wanted.policy
    found = _measured(rules, a, b, device, on_progress)
    confidence = rules.defaults.confidence
    questions = [question_of(rule) for rule in rules.rules]
    answers = answered(questions, found.estimates, confidence, holm=multiplicity == "holm")
    if not answers.differences and not answers.between:
        reasons = "; ".join(dict.fromkeys((*answers.refused.values(), *wanted.lacking.values())))
        raise MetricError(f"no number of {a} and {b} could be compared: {reasons}")
    run = environment(
        device=found.device,
        precision=rules.run.precision,
        seed=rules.run.seed,
        confidence=confidence,
        started=started,
        seconds=time.monotonic() - clock,
    )
    return Comparison(
        document(found.a, found.b, found.probe, asked=wanted, answers=answers, multiplicity=multiplicity, run=run)
    )


def _measured(policy: Policy, a: str, b: str, device: str, on_progress: Callable[[int], None] | None) -> _Measured:
    """Both versions in one pass: B as the candidate, A as its baseline."""
    from gate import questions, streaming
    from gate.engines import local
    from gate.models.loading import load

    plan, run = questions.plan(policy), policy.run
    spec = streaming.resolved_probe(policy.probe, None)
    where = streaming.resolved_device(device)
    with TemporaryDirectory(prefix="gate-") as folder:
        earlier, later = (
            load(uri, directory=Path(folder), device=where, allow_pickle=run.allow_pickle) for uri in (a, b)
        )
        _require_two(earlier, later)
        rows = streaming.open_rows(spec)
        stream = streaming.batches(later, earlier, rows, plan, device=where, run=run, on_progress=on_progress)
        collections = local.fold(stream, lambda part: questions.kinds_of(part, plan.rules))
    streaming.require_pinned(rows, spec.digest)
    estimates = questions.answers(plan.rules, collections, policy.defaults.confidence, earlier)
    return _Measured(earlier, later, rows, estimates, where)


def _require_two(a: LoadedModel, b: LoadedModel) -> None:
    if a.digest == b.digest:
        raise UsageError(f"{a.uri} and {b.uri} are the same version, {b.digest}: there is nothing to compare")
