"""The command line: parse, call, print, exit. It decides nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from gate.cli import (
    backtest,
    calibrate,
    check,
    compare,
    demo,
    doctor,
    explain,
    keys,
    layers,
    metrics,
    policy,
    policy_diff,
    policy_show,
    policy_test,
    probe,
    promote,
    relay,
    report,
    verify,
)
from gate.cli.boundary import guarded
from gate.cli.environment import with_variables

app = typer.Typer(
    name="gate",
    help=(
        "Decide whether a registered model may be promoted, by the [bold]geometry of its representations[/bold].\n\n"
        "Start with [cyan]gate demo[/cyan], then [cyan]gate check models:/NAME/VERSION -p POLICY[/cyan]."
    ),
    epilog=(
        "Every option is also read from the environment, --fail-on from GATE_FAIL_ON; an option goes first.\n\n"
        "Exit codes: 0 passed, 1 a blocking rule failed, 2 usage or policy, 3 could not evaluate, 4 inconclusive, "
        "5 nothing evaluated, 6 warnings with --fail-on warn, 7 verification failed, 130 interrupted."
    ),
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("check", epilog=check.EPILOG)(check.check)
app.command("verify", epilog=verify.EPILOG)(verify.verify)
app.command("promote", epilog=promote.EPILOG)(promote.promote)
app.command("explain", epilog=explain.EPILOG)(explain.explain)
app.command("report", epilog=report.EPILOG)(report.report)
app.command("compare", epilog=compare.EPILOG)(compare.compare)
app.command("layers", epilog=layers.EPILOG)(layers.layers)
app.command("metrics", epilog=metrics.EPILOG)(metrics.metrics)
app.command("calibrate", epilog=calibrate.EPILOG)(calibrate.calibrate)
app.command("backtest", epilog=backtest.EPILOG)(backtest.backtest)
app.command("relay", epilog=relay.EPILOG)(relay.relay)
app.command("doctor", epilog=doctor.EPILOG)(doctor.doctor)
policy.app.command("diff", epilog=policy_diff.EPILOG)(policy_diff.diff)
policy.app.command("show")(policy_show.show)
policy.app.command("test", epilog=policy_test.EPILOG)(policy_test.run_tests)
app.add_typer(policy.app)
app.add_typer(probe.app)
app.add_typer(keys.app)


def _version(wanted: bool) -> None:  # noqa: FBT001 - the value of the flag
    if wanted:
        from gate import __version__

        typer.echo(f"gate {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the outermost boundary.

    Args:
        arguments: What follows `gate`; those of the process when None.

    Returns:
        The exit code. Whatever goes wrong has been reported on stderr.
    """
    return guarded(with_variables(typer.main.get_command(app)), arguments)
