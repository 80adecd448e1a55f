"""`gate policy diff`: two versions of a policy, rule by rule, and over recorded evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gate.cli import outputs
from gate.cli.backtest import Day, Model, Requests, parsed_day, replays
from gate.cli.collector import without_collector

if TYPE_CHECKING:
    from collections.abc import Sequence

Old = Annotated[str, typer.Argument(metavar="OLD", help="Policy file, or the name of a pack.", show_default=False)]
New = Annotated[str, typer.Argument(metavar="NEW", help="What is to take its place.", show_default=False)]
Against = Annotated[
    list[Path] | None,
    typer.Option(metavar="PATH", help="Evidence, or a folder that holds some, to replay both over. Repeatable."),
]

EPILOG = (
    "Exit codes: 0 whatever differs; 2 usage or policy; 3 a version could not be replayed under both. "
    "A pull request takes -o markdown."
)


def diff(
    old: Old, new: New, *, against: Against = None, model: Model = None, day: Day = None, output: Requests = None
) -> None:
    """Tell what a new version of a policy loosens and tightens, and which versions change their verdict."""
    with without_collector():
        raise typer.Exit(_diff(old, new, against or (), model, day, output or ()))


def _diff(
    old: str, new: str, against: Sequence[Path], model: str | None, day: str | None, output: Sequence[str]
) -> int:
    from gate import backtest as replaying
    from gate.backtest import diff_rendering
    from gate.policy.loading import load_policy

    targets = outputs.parse(output, replaying.FORMATS)
    outputs.remove_stale(targets, inputs=[Path(old), Path(new), *against], recognised=diff_rendering.is_report)
    today, before, after = parsed_day(day), load_policy(old), load_policy(new)
    pairs = replays([before.policy, after.policy], model, against, today)
    document = replaying.policy_diff(before, after, pairs, today)
    outputs.write_rendered(
        targets, lambda format_, _: diff_rendering.render(format_, document), recognised=diff_rendering.is_report
    )
    return replaying.exit_code(each for pair in pairs for each in pair)
