"""`gate backtest`: a policy replayed over recorded evidence; no model is run."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gate.cli import outputs
from gate.cli.collector import without_collector
from gate.errors import NothingEvaluatedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import date

    from gate.backtest import Bundle, Replay
    from gate.policy.schema import Policy

PolicyFile = Annotated[
    str, typer.Argument(metavar="POLICY", help="Policy file, or the name of a pack.", show_default=False)
]
Model = Annotated[
    str | None, typer.Option(metavar="NAME", help="Registered model, whose recorded checks in MLflow are replayed.")
]
Evidence = Annotated[
    list[Path] | None,
    typer.Option(metavar="PATH", help="File of evidence, or a folder that holds such files. Repeatable."),
]
All = Annotated[bool, typer.Option("--all", help="Every recorded check, not only the newest of each version.")]
Day = Annotated[
    str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="Day of waivers and dates (UTC). Default: today.")
]
Requests = Annotated[list[str] | None, outputs.option("text, json or markdown")]

EPILOG = (
    "Exit codes: 0 every version was replayed, whatever its verdict; 2 usage or policy; "
    "3 a version could not be replayed; 5 there is no evidence."
)


def backtest(
    policy: PolicyFile,
    *,
    model: Model = None,
    evidence: Evidence = None,
    every: All = False,
    day: Day = None,
    output: Requests = None,
) -> None:
    """Replay a policy over recorded evidence: which versions would have another verdict, and why."""
    with without_collector():
        raise typer.Exit(_backtest(policy, model, evidence or (), every=every, day=day, output=output or ()))


def _backtest(
    policy: str, model: str | None, evidence: Sequence[Path], *, every: bool, day: str | None, output: Sequence[str]
) -> int:
    from gate import backtest as replaying
    from gate.policy.loading import load_policy

    targets = outputs.parse(output, replaying.FORMATS)
    if model is None and not evidence:
        raise UsageError("there is nothing to replay over; give --model NAME, --evidence PATH or both")
    outputs.remove_stale(targets, inputs=[Path(policy), *evidence], recognised=replaying.is_report)
    today, loaded = parsed_day(day), load_policy(policy)
    found = replays([loaded.policy], model, evidence, today, every=every)
    document = replaying.backtest(loaded, [only for (only,) in found], today)
    outputs.write_rendered(
        targets, lambda format_, _: replaying.render(format_, document), recognised=replaying.is_report
    )
    return replaying.exit_code(only for (only,) in found)


def replays(
    policies: Sequence[Policy], model: str | None, paths: Sequence[Path], today: date, *, every: bool = False
) -> list[tuple[Replay, ...]]:
    """Policies replayed over the evidence of a model in MLflow, and of files, in the order of versions.

    Of each version the newest evidence that can be replayed counts: older runs are read only where the newest cannot.

    Raises:
        UsageError: The model is no name, or there is no such file.
        NothingEvaluatedError: There is no evidence.
    """
    from gate import backtest as replaying

    found = [*replaying.replays(policies, chain(_recorded(model, every=every), replaying.below(paths)), today)]
    if not found and (model is not None or paths):
        raise NothingEvaluatedError(
            f"no evidence was found{_no_model(model)}, so nothing was replayed; record some with `gate check`"
        )
    if every:
        return replaying.in_order(found)
    stuck = {each[0].model for each in replaying.newest(found) if replaying.is_stuck(each)}
    if stuck and model is not None:
        sources = {each[0].source for each in found}
        older = (each for each in _recorded(model, every=True, only=stuck) if each.source not in sources)
        found += replaying.replays(policies, older, today)
    return replaying.in_order(replaying.newest(found))


def _no_model(name: str | None) -> str:
    if name is None:
        return ""
    from gate.mlflow_plugin.recordings import nearest_models

    near = nearest_models(name)
    return f" of {name!r}" if not near else f", as there is no registered model {name!r}{near}"


def _recorded(model: str | None, *, every: bool, only: Collection[str] = ()) -> Iterator[Bundle]:
    if model is None:
        return iter(())
    if not model or "/" in model or ":" in model:
        raise UsageError(f"--model takes the name of a registered model, without version or alias; found {model!r}")
    from gate.mlflow_plugin.recordings import of_model

    return of_model(model, every=every, only=only)


def parsed_day(text: str | None) -> date:
    """A day as it is written in a policy, today (UTC) when None.

    Raises:
        UsageError: It is no day.
    """
    from datetime import UTC, date, datetime

    if text is None:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--date should be a day such as 2027-01-31, found {text!r}") from None
