"""`gate explain`: a rule, a metric or a recorded run in plain words; nothing is evaluated."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gate.cli import metrics, outputs
from gate.cli.evidence import is_run, of_file, of_run
from gate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gate.policy.loading import LoadedPolicy

Subject = Annotated[
    str,
    typer.Argument(
        metavar="SUBJECT",
        help="A rule, a metric (ID or ID.READOUT), the MLflow run of a check, or a file of evidence.",
        show_default=False,
    ),
]
EvidenceFile = Annotated[
    str | None, typer.Option("--evidence", metavar="PATH", help="File of evidence (JSON) that a check wrote.")
]
RunId = Annotated[str | None, typer.Option("--run", metavar="ID", help="MLflow run that recorded a check.")]
PolicyFile = Annotated[
    str | None,
    typer.Option(
        "--policy",
        "-p",
        metavar="FILE|PACK",
        help="Policy file, or a ready-made pack such as classifier.",
    ),
]

EPILOG = (
    "With evidence it says why a rule failed, how sure that is and which rows drive it; with a policy, what it asks."
)


def explain(subject: Subject, *, evidence: EvidenceFile = None, run: RunId = None, policy: PolicyFile = None) -> None:
    """Explain a rule, a metric, or everything that did not pass in a recorded check."""
    if evidence is not None and run is not None:
        raise UsageError("--evidence and --run both name evidence; give one of them")
    if evidence is None and run is None and any(_recorded_as(subject)):
        outputs.to_stdout(_overview(*_recorded_as(subject)))
        return
    document = None if evidence is None and run is None else _document(evidence, run)
    loaded = _policy(policy)
    if told := _of_a_rule(subject, document, loaded):
        outputs.to_stdout("\n".join(told))
        return
    _require_metric(subject, document, loaded)
    metrics.metrics(subject)
    outputs.to_stdout("".join(f"\n{text}" for text in _of_a_metric(subject, document, loaded) if text))


def _recorded_as(subject: str) -> tuple[str | None, str | None]:
    """The file or the run that a subject is, if it is one."""
    if is_run(subject):
        return None, subject
    is_file = Path(subject).is_file() or Path(subject).suffix == ".json"
    return (subject, None) if is_file else (None, None)


def _source(evidence: str | None, run: str | None) -> str:
    return f"--run {shlex.quote(str(run))}" if evidence is None else f"--evidence {shlex.quote(evidence)}"


def _document(evidence: str | None, run: str | None) -> dict[str, Any]:
    return of_run(str(run)) if evidence is None else of_file(evidence)


def _policy(reference: str | None) -> LoadedPolicy | None:
    if reference is None:
        return None
    from gate.policy.loading import load_policy

    return load_policy(reference)


def _overview(evidence: str | None, run: str | None) -> str:
    from gate.evidence import explaining

    document, source = _document(evidence, run), _source(evidence, run)
    return explaining.overview(document, source=source, color=outputs.stdout_has_color())


def _of_a_rule(subject: str, document: Mapping[str, Any] | None, policy: LoadedPolicy | None) -> list[str]:
    """What the evidence and the policy say of a rule; nothing where neither has it."""
    from gate.evidence import asking, explaining

    color = outputs.stdout_has_color()
    name = re.split(r"\[| \(", subject)[0]  # of the name of a finding too, such as rank[language=ja]
    told = []
    if document is not None and name in explaining.rules_of(document):
        told.append(explaining.rule(document, name, color=color))
    if policy is not None and name in asking.rules_of(policy):
        told.append(asking.rule(policy, name, brief=bool(told), color=color))
    return told


def _of_a_metric(subject: str, document: Mapping[str, Any] | None, policy: LoadedPolicy | None) -> Iterator[str]:
    """What the evidence and the policy have of a metric."""
    from gate.evidence import asking
    from gate.evidence.meaning import recorded

    color = outputs.stdout_has_color()
    if document is not None:
        yield recorded(document, subject, color=color)
    if policy is not None:
        yield asking.about(policy, subject, color=color)


def _require_metric(subject: str, document: Mapping[str, Any] | None, policy: LoadedPolicy | None) -> None:
    """Refuses what is neither a rule nor a metric, with what may have been meant."""
    from gate.evidence import asking, explaining
    from gate.geometry import catalogue
    from gate.policy.references import did_you_mean, metric_fault

    fault = metric_fault(subject)
    if fault is None:
        return
    rules = [] if document is None else explaining.rules_of(document)
    rules += [] if policy is None else asking.rules_of(policy)
    entries = catalogue.load()
    readouts = [f"{name}.{readout}" for name, entry in entries.items() for readout in entry.readouts]
    near = did_you_mean(subject, [*rules, *entries, *readouts])
    near = near or fault[fault.index(" Did") :] if " Did you mean" in fault else near
    if rules:
        known = f" The rules are: {', '.join(dict.fromkeys(rules))}."
        raise UsageError(f"there is no rule and no metric {subject!r}.{near or known}")
    raise UsageError(
        f"there is no metric {subject!r}.{near} A rule is explained with its policy, -p POLICY, or with the evidence "
        "of a check, --evidence PATH or --run ID."
    )
