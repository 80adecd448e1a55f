"""From two model URIs to a comparison: both on the same rows, in one pass."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from gate.errors import MetricError, SameVersionError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from gate.evaluation import Evaluated
    from gate.models.finding import FoundModel
    from gate.policy.schema import Policy
    from gate.streaming.passes import OnProgress


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
    on_progress: OnProgress | None = None,
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
        on_progress: Called with the number of probe rows done so far, and of all.

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
    if not rules.rules:
        raise _nothing(a, b, wanted.lacking.values())
    earlier, found = _measured(rules, a, b, device, on_progress)
    confidence = rules.defaults.confidence
    questions = [question_of(rule) for rule in rules.rules]
    answers = answered(questions, found.measured, confidence, holm=multiplicity == "holm")
    if not answers.differences and not answers.between:
        raise _nothing(a, b, (*answers.refused.values(), *wanted.lacking.values()))
    run = environment(
        device=found.device,
        precision=rules.run.precision,
        seed=rules.run.seed,
        confidence=confidence,
        started=started,
        seconds=time.monotonic() - clock,
    )
    return Comparison(
        document(earlier, found.model, found.probe, asked=wanted, answers=answers, multiplicity=multiplicity, run=run)
    )


def _nothing(a: str, b: str, reasons: Iterable[str]) -> MetricError:
    return MetricError(f"no number of {a} and {b} could be compared: {'; '.join(dict.fromkeys(reasons))}")


def _measured(
    policy: Policy, a: str, b: str, device: str, on_progress: OnProgress | None
) -> tuple[FoundModel, Evaluated]:
    """Version A, and what one pass gave for both: B is the candidate, A its baseline."""
    from gate.evaluation import evaluate
    from gate.models.baseline import Absent

    try:
        found = evaluate(policy, b, device=device, on_progress=on_progress)
    except SameVersionError:
        raise UsageError(f"{a} and {b} are the same version, there is nothing to compare; name two") from None
    assert not isinstance(found.baseline, Absent)  # noqa: S101 - every question compares, and none absent is let pass
    return found.baseline, found
