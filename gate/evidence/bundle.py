"""The evidence document `gate.evidence/v1`: built from one evaluation, written, read back and checked.

Nothing in it is NaN or infinite, which JSON cannot say: such a number is null, with a status and a reason.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from gate.errors import GateError, UsageError
from gate.evidence.environment import in_repository
from gate.evidence.shape import AGAIN, SCHEMA
from gate.evidence.validation import validate, validated
from gate.verdict import OUTCOMES
from gate.verdict.readings import reading, why_unsound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from gate.estimate import Estimate
    from gate.models.baseline import Absent
    from gate.models.finding import FoundModel
    from gate.policy.loading import LoadedPolicy
    from gate.policy.waivers import Waiver
    from gate.probes.probe_set import ProbeSet
    from gate.verdict import Finding, Judgement, Measurements, Question

_ALWAYS_GIVEN = ("label", "group", "length", "id", "cluster", "sublabel", "target")  # of a probe set, null without one


@dataclass(frozen=True)
class Evidence:
    """The outcome of a check: its document, with the verdict at hand.

    Attributes:
        document: `gate.evidence/v1`, plain JSON values.
    """

    document: dict[str, Any]

    @property
    def status(self) -> str:
        """passed, warned, failed, inconclusive or error."""
        return str(self.document["status"])

    @property
    def exit_code(self) -> int:
        """What `gate check` exits with by default."""
        return int(self.document["exit_code"])

    def __str__(self) -> str:
        from gate.evidence import text

        return text.render(self.document)


def document(
    *,
    model: FoundModel,
    baseline: FoundModel | Absent,
    policy: LoadedPolicy,
    probe: ProbeSet,
    places: Mapping[str, Any],
    measured: Measurements,
    judgement: Judgement,
    run: Mapping[str, Any],
) -> dict[str, Any]:
    """Describe one finished evaluation.

    Args:
        model: The model that was judged.
        baseline: What it was compared with, or why it was not.
        policy: The policy with its text and positions.
        probe: The probe set, after its complete pass.
        places: What was read where: `layers`, each as `gate.evidence.layers.describe` gives it; `reads`, name → path
            and pooling of anything else, of logits the classes as well; `baseline_layers`, name → path and pooling of
            those that something was compared with; `ran`, of `candidate` and `baseline` how it was run: `isolation`,
            with its mode, and `batch_size`; `validation` and `expectations`, of the probe set.
        measured: Every estimate.
        judgement: What the policy says of them.
        run: As `gate.evidence.environment.environment` gives it, with `enforcement`, `warn` where the policy blocks
            nothing at the alias that was asked for, and `overrides`, the options that stood in place of what it says.

    Returns:
        A document of plain JSON values that `validate` accepts.

    Raises:
        GateError: The findings and the verdict contradict each other, or a passing finding has no finite number.
    """
    from gate.models.baseline import Absent

    verdict, ran = judgement.verdict, places["ran"]
    reason = baseline.reason if isinstance(baseline, Absent) else None
    absence = [reason] if reason and policy.policy.baseline else []
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "status": verdict.status,
        "exit_code": verdict.exit_code,
        "counts": {outcome: verdict.counts.get(outcome, 0) for outcome in OUTCOMES},
        "model": _model(model, ran["candidate"]),
        "policy": _policy(policy),
        "probe": _probe(probe, places),
        "baseline": None if isinstance(baseline, Absent) else _model(baseline, ran["baseline"]),
        "baseline_reason": reason,
        "baseline_asked": baseline.asked if isinstance(baseline, Absent) else None,
        "run": dict(run),
        "notes": [*judgement.notes, *_cautions(model, baseline, places), *absence],
        "waivers": [_waiver(waiver) | {"state": use} for waiver, use in judgement.waivers],
        **{key: places[key] for key in ("layers", "reads", "baseline_layers")},
        "slices": [
            {"slice": dict(of), "rows": rows} for found in measured.slices.values() for of, rows in found.items()
        ],
        "estimates": list(_estimates(measured, {"candidate": model.resolved, "baseline": _resolved(baseline)})),
        "results": [_result(finding, policy) for finding in judgement.findings],
    }
    validate(content)
    return content


def finite(number: float | None) -> float | None:
    """The number when JSON can say it, else None.

    Args:
        number: Any number, NaN and infinity among them.
    """
    return None if number is None or not math.isfinite(number) else number


def dumps(content: Mapping[str, Any]) -> str:
    """The document as JSON text that ends with a newline.

    Raises:
        ValueError: A number is NaN or infinite.
    """
    return json.dumps(content, allow_nan=False, ensure_ascii=False, indent=1) + "\n"


def dump(content: Mapping[str, Any], path: Path) -> None:
    """Write the document to a file, making its folder.

    Args:
        content: The document.
        path: Where to write it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dumps(content), encoding="utf-8")


def load(path: Path) -> dict[str, Any]:
    """Read a document back and check it.

    Args:
        path: A file that `dump` wrote, by this or an earlier version.

    Raises:
        UsageError: There is no such file, or it is not evidence that this version can read.
        GateError: The document contradicts itself.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot read evidence: {error.strerror}; give the path of an evidence.json") from None
    return read(str(path), content)


def read(name: str, content: bytes) -> dict[str, Any]:
    """The document of a JSON text, checked; what is wrong with it is told with its name.

    Args:
        name: Where the text is from.
        content: JSON in UTF-8.

    Raises:
        UsageError: It is not evidence that this version can read.
        GateError: The document contradicts itself.
    """
    try:
        return loads(content)
    except GateError as error:
        raise type(error)(f"{name}: {error}") from None


def loads(text: str | bytes) -> dict[str, Any]:
    """The document of a JSON text, checked.

    Raises:
        UsageError: It is not evidence that this version can read.
        GateError: The document contradicts itself.
    """
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        content = json.loads(text, parse_constant=_refuse, parse_float=_parse_float)
    except ValueError as error:
        raise UsageError(f"is not evidence in JSON: {error}; {AGAIN}") from None
    except RecursionError:
        raise UsageError(f"is not evidence in JSON: it is nested too deeply; {AGAIN}") from None
    return validated(content)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _parse_float(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _model(model: FoundModel, ran: Mapping[str, object]) -> dict[str, Any]:
    keys = ("uri", "resolved", "name", "version", "digest", "names_digest", "flavour", "serialization", "trust")
    return {**ran, **{key: getattr(model, key) for key in (*keys, "run_id", "model_id")}}


def _cautions(model: FoundModel, baseline: FoundModel | Absent, places: Mapping[str, Any]) -> Iterator[str]:
    """What a reader has to know of the probe set, and of how the models ran, before features are believed."""
    from gate.models.baseline import Absent

    yield from (f"probe set: {each['message']}" for each in places["validation"].get("findings", ()))
    yield from _of_a_run("the model", model, places["ran"]["candidate"])
    if not isinstance(baseline, Absent):
        yield from _of_a_run("the baseline", baseline, places["ran"]["baseline"])


def _of_a_run(whose: str, model: FoundModel, ran: Mapping[str, Any]) -> Iterator[str]:
    if model.trust != "code-free":
        what = "a pickle" if model.trust == "pickle" else "Python files of its own"
        yield f"{whose} runs {what}: its features are what this code says that they are"
    isolation = ran.get("isolation", {})
    if isolation.get("mode") == "none":
        within = "with its files, network and credentials, and without a limit of time or memory"
        yield f"{whose} ran in the process of the gate, {within} (run.isolation: none)"
    for missing in isolation.get("missing", ()):
        yield f"{whose} ran in a process of its own that could not be closed as it should be: {missing}"


def _probe(probe: ProbeSet, places: Mapping[str, Any]) -> dict[str, Any]:
    transform = {} if probe.transform is None else {"transform": asdict(probe.transform)}
    return {
        **{key: getattr(probe, key) for key in ("uri", "digest", "slices_digest", "rows")},
        "columns": _columns(probe),
        "shape": None if probe.shape is None else list(probe.shape),
        **{key: places[key] for key in ("validation", "expectations")},
        **transform,
    }


def _columns(probe: ProbeSet) -> dict[str, Any]:
    """Those that there were in the first version of this format, and of all others what is given."""
    columns = asdict(probe.columns)
    return {key: value for key, value in columns.items() if value or key in _ALWAYS_GIVEN}


def _policy(policy: LoadedPolicy) -> dict[str, Any]:
    metadata = policy.policy.metadata
    return {
        "name": metadata.name,
        "version": metadata.version,
        "path": policy.path,
        "digest": policy.digest,
        "text": policy.text,
        "sources": [asdict(source) for source in policy.sources],
    }


def _waiver(waiver: Waiver) -> dict[str, Any]:
    return waiver.model_dump(mode="json")


def _resolved(baseline: FoundModel | Absent) -> str | None:
    return getattr(baseline, "resolved", None)


def _estimates(measured: Measurements, models: Mapping[str, str | None]) -> Iterator[dict[str, Any]]:
    kinds = {"candidate": measured.candidate, "baseline": measured.baseline, "change": measured.changes}
    for of, estimates in kinds.items():
        for question, estimate in estimates.items():
            yield {"of": of, "model": models.get(of, models["candidate"]), **_estimate(question, estimate)}


def _estimate(question: Question, estimate: Estimate) -> dict[str, Any]:
    keys = ("n", "d", "c", "k", "n_needed", "method", "confidence", "detail")
    unsound = estimate.status == "ok" and reading(estimate) is None
    further = {} if unsound else {level: _ends(ends) for level, ends in estimate.intervals.items()}
    return {
        "metric": estimate.metric,
        "layer": question.layer,
        "slice": dict(question.slice) or None,
        "status": "error" if unsound else estimate.status,
        "reason": why_unsound(estimate) if unsound else estimate.reason,
        "value": finite(estimate.value),
        "interval": None if unsound else _ends(estimate.interval),
        "intervals": [[level, *ends] for level, ends in further.items() if ends is not None],
        "standard_error": finite(estimate.standard_error),
        **{key: getattr(estimate, key) for key in keys},
        "breakdown": None if estimate.breakdown is None else {k: finite(v) for k, v in estimate.breakdown.items()},
        "params": dict(question.params),
    }


def _ends(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None or not all(map(math.isfinite, interval)) else list(interval)


def _result(finding: Finding, policy: LoadedPolicy) -> dict[str, Any]:
    index = [rule.id for rule in policy.policy.rules].index(finding.rule)
    place = policy.position("rules", index, *finding.location)
    anchor = policy.anchor("rules", index, *finding.location)
    keys = ("rule", "metric", "layer", "check", "slice", "severity", "min", "max", "n", "d", "c", "method", "n_needed")
    return {
        **{key: getattr(finding, key) for key in keys},
        "status": finding.status,
        "reason": finding.reason,
        "value": finite(finding.value),
        "interval": _ends(finding.interval),
        "confidence": finding.confidence,
        "margin": finite(finding.margin),
        "baseline": finite(finding.baseline),
        "policy_path": place.path,
        "policy_line": place.line,
        "policy_column": place.column,
        "anchor": anchor._replace(path=in_repository(anchor.path))._asdict(),
        "message": finding.message,
        **{key: getattr(finding, key) for key in ("why", "fix", "paper", "docs")},
        "enforce_from": None if finding.enforce_from is None else finding.enforce_from.isoformat(),
        "waiver": None if finding.waiver is None else _waiver(finding.waiver),
        "rows": [{"id": row.id, "influence": finite(row.influence)} for row in finding.rows],
    }
