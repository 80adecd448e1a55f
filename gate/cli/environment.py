"""Every option of every command is also read from an environment variable: `--fail-on` from GATE_FAIL_ON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from typer.core import TyperGroup, TyperOption

if TYPE_CHECKING:
    from collections.abc import Sequence


class Command(Protocol):
    """What typer makes of a command or of a group of them."""

    @property
    def params(self) -> Sequence[object]:
        """Options and arguments."""


SomeCommand = TypeVar("SomeCommand", bound=Command)


def with_variables(command: SomeCommand) -> SomeCommand:
    """The command, or all of a group, with options that are also read from variables, which the help names."""
    if isinstance(command, TyperGroup):
        for each in command.commands.values():
            with_variables(each)
        return command
    for option in command.params:
        if isinstance(option, TyperOption):
            option.envvar = variable(option.opts)
            option.show_envvar = True
    return command


def variable(names: Sequence[str]) -> str:
    """The variable of an option with these names: GATE_FAIL_ON for `--fail-on`."""
    long = next(name for name in names if name.startswith("--"))
    return f"GATE_{long.removeprefix('--').replace('-', '_').upper()}"
