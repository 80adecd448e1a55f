"""Every option of every command is also read from an environment variable: `--fail-on` from GATE_FAIL_ON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

from typer.core import TyperGroup, TyperOption

if TYPE_CHECKING:
    from collections.abc import Sequence


class Command(Protocol):
    """What typer makes of a command or of a group of them."""

    @property
    def params(self) -> Sequence[object]:
        """Options and arguments."""


SomeCommand = TypeVar("SomeCommand", bound=Command)
Path: TypeAlias = tuple[str, ...]  # of a command: policy, test

_OF_ITS_OWN = ("--output", "--evidence", "--run")  # what one command reads or writes means nothing to another
_EVIDENCE = (("check",), ("report",))  # these two write the same


def with_variables(command: SomeCommand, path: Path = ()) -> SomeCommand:
    """The command, or all of a group, with options that are also read from variables, which the help names."""
    if isinstance(command, TyperGroup):
        for name, each in command.commands.items():
            with_variables(each, (*path, name))
        return command
    for option in command.params:
        if isinstance(option, TyperOption):
            option.envvar = variable(option.opts, path)
            option.show_envvar = True
    return command


def variable(names: Sequence[str], path: Path) -> str:
    """The variable of an option: GATE_FAIL_ON for `--fail-on`, GATE_COMPARE_OUTPUT where it is the command's alone."""
    long = next(name for name in names if name.startswith("--"))
    own = path if long in _OF_ITS_OWN and path not in _EVIDENCE else ()
    return "_".join(("GATE", *own, long.removeprefix("--"))).replace("-", "_").upper()
