"""Where every failure becomes a message on stderr and an exit code; no crash can read as a verdict."""

from __future__ import annotations

import re
import traceback
from typing import TYPE_CHECKING, Protocol

import typer

from gate.errors import GateError, PolicyError

if TYPE_CHECKING:
    from collections.abc import Sequence

COULD_NOT_EVALUATE = 3
USAGE = 2
INTERRUPTED = 130

_UsageFault: type[Exception] = typer.BadParameter.__mro__[1]  # of click, or of typer's own copy of it


class Command(Protocol):
    """What typer makes of an application."""

    def main(self, args: Sequence[str] | None, prog_name: str, *, standalone_mode: bool) -> object:
        """Parse and run; returns the exit code of a `typer.Exit`, or what the command returned."""


def guarded(command: Command, arguments: Sequence[str] | None) -> int:
    """Run a command to its exit code.

    Python exits with 1 on a crash and libraries leave through `sys.exit`, which would read "a rule failed": whatever is
    not an expected failure is 3, "could not evaluate".
    """
    try:
        result = command.main(arguments, "gate", standalone_mode=False)
    except _UsageFault as error:
        return _report_usage(error)
    except GateError as error:
        typer.echo(describe(error), err=True)
        return error.exit_code
    except KeyboardInterrupt:
        return _report_interrupt()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the one place that may
        return _report_crash(error)
    if result == INTERRUPTED:  # typer's word for an interrupt
        return _report_interrupt()
    return result if isinstance(result, int) else 0


def describe(error: GateError) -> str:
    """An expected failure as it is printed: `error[model]: …`, or one such line for every fault of a policy."""
    if isinstance(error, PolicyError):
        return str(error)
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(error).__name__.removesuffix("Error")).lower()
    return f"error[{kind}]: {error}"


def _report_usage(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message() if isinstance(error, typer.BadParameter) else str(error)
    if context is not None:
        typer.echo(context.get_usage(), err=True)
    typer.echo(f"error[usage]: {message}", err=True)
    if context is not None:
        typer.echo(f"Try '{context.command_path} --help'.", err=True)
    return USAGE


def _report_interrupt() -> int:
    typer.echo("interrupted", err=True)
    return INTERRUPTED


def _report_crash(error: BaseException) -> int:
    typer.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    typer.echo(f"error[crash]: {type(error).__name__}: {error}; nothing was decided, please report this", err=True)
    return COULD_NOT_EVALUATE
