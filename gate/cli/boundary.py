"""Where every failure becomes a message on stderr and an exit code; no crash can read as a verdict."""

from __future__ import annotations

import re
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import typer

from gate.cli.outputs import discard_stdout
from gate.errors import GateError, PolicyError, RefusedProbeError
from gate.evidence.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COULD_NOT_EVALUATE = 3
USAGE = 2
INTERRUPTED = 130

_UsageFault: type[Exception] = typer.BadParameter.__mro__[1]  # of click, or of typer's own copy of it


class Command(Protocol):
    """What typer makes of an application."""

    def main(self, args: Sequence[str] | None, prog_name: str, *, standalone_mode: bool) -> object:
        """Parse and run; returns the exit code of a `typer.Exit`, or what the command returned."""


class _Crash(Exception):  # noqa: N818 - carries what was raised, and is never shown
    """Around whatever an evaluation raised that is no expected failure."""

    def __init__(self, raised: BaseException) -> None:
        super().__init__(raised)
        self.raised = raised


@contextmanager
def evaluating() -> Iterator[None]:
    """Keep what the code of a model raises from reading as an exit of this command.

    typer takes an `Exit` from anywhere as ours, and its faults of usage as a wrong command line.
    """
    try:
        yield
    except (GateError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise _Crash(error) from error


def guarded(command: Command, arguments: Sequence[str] | None) -> int:
    """Run a command to its exit code.

    Python exits with 1 on a crash and libraries leave through `sys.exit`, which would read "a rule failed": whatever is
    not an expected failure is 3, "could not evaluate". What is printed holds no control character of a name.
    """
    try:
        result = command.main(arguments, "gate", standalone_mode=False)
    except _Crash as crash:
        return _report_crash(crash.raised)
    except BaseException as error:  # noqa: BLE001 - the one place that may
        if _is_unread_help(error):
            discard_stdout()
            return 0
        return _report(error)
    if result == INTERRUPTED:  # typer's word for an interrupt
        return _report_interrupt()
    return result if isinstance(result, int) else 0


def describe(error: GateError) -> str:
    """An expected failure as it is printed: `error[model]: …`, or one such line for each fault of several."""
    if isinstance(error, PolicyError):
        return "\n".join(printable(str(fault)) for fault in error.faults)
    if isinstance(error, RefusedProbeError):
        return "\n".join(printable(f"error[probe]: {fault}") for fault in error.faults)
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(error).__name__.removesuffix("Error")).lower()
    return printable(f"error[{kind}]: {error}")


def _is_unread_help(error: BaseException) -> bool:
    """Whether the reader of a help text has gone, as `| head` does: rich writes nothing else, and exits by 1."""
    if not isinstance(error, SystemExit) or not isinstance(error.__context__, BrokenPipeError):
        return False
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)][-1:] == ["on_broken_pipe"]


def _report(error: BaseException) -> int:
    if isinstance(error, _UsageFault):
        return _report_usage(error)
    if isinstance(error, GateError):
        typer.echo(describe(error), err=True)
        return error.exit_code
    return _report_interrupt() if isinstance(error, KeyboardInterrupt) else _report_crash(error)


def _report_usage(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message() if isinstance(error, typer.BadParameter) else str(error)
    if near := getattr(error, "possibilities", None):
        message += f". Did you mean {' or '.join(f'`{each}`' for each in near)}?"
    if context is not None:
        typer.echo(context.get_usage(), err=True)
    typer.echo(printable(f"error[usage]: {message}"), err=True)
    if context is not None:
        typer.echo(f"Try '{context.command_path} --help'.", err=True)
    return USAGE


def _report_interrupt() -> int:
    typer.echo("interrupted", err=True)
    return INTERRUPTED


def _report_crash(error: BaseException) -> int:
    typer.echo(printable("".join(traceback.format_exception(error)), keep="\n"), err=True, nl=False)
    last = f"error[crash]: {type(error).__name__}: {error}; nothing was decided, please report this"
    typer.echo(printable(last), err=True)
    return COULD_NOT_EVALUATE
