"""Every option of every command is set by its variable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.core import TyperGroup, TyperOption

from gate.cli import app, main
from gate.cli.environment import with_variables


def options(command: Any, path: tuple[str, ...] = ()) -> Iterator[Any]:
    if isinstance(command, TyperGroup):
        for name, each in command.commands.items():
            yield from options(each, (*path, name))
        return
    for option in command.params:
        if isinstance(option, TyperOption):
            yield pytest.param(command, option, path, id=f"{' '.join(path)} {option.opts[0]}")


# "1" is a text, a number and a yes
TEXTS = {"device": "cpu", "fail-on": "warn", "format": "json", "origin": "0", "workers": "2"}
OPTIONS = list(options(with_variables(typer.main.get_command(app))))


def given(command: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the command would be called with."""
    seen: dict[str, object] = {}
    monkeypatch.setattr(command, "callback", lambda **found: seen.update(found))
    arguments = ["x" for each in command.params if each.param_type_name == "argument" and each.required]
    command.main(arguments, standalone_mode=False)
    return seen


@pytest.mark.parametrize(("command", "option", "path"), OPTIONS)
def test_an_option_is_set_by_the_variable_of_its_name(
    monkeypatch: pytest.MonkeyPatch, command: Any, option: Any, path: tuple[str, ...]
) -> None:
    name = option.opts[0].removeprefix("--")
    is_its_own = name in ("output", "evidence", "run") and path not in (("check",), ("report",))
    own = "_".join((*path, "")) if is_its_own else ""
    monkeypatch.setenv("GATE_POLICY", "needed by check")
    before = given(command, monkeypatch)
    monkeypatch.setenv(f"GATE_{own}{name}".replace("-", "_").upper(), TEXTS.get(name, "1"))
    after = given(command, monkeypatch)
    assert {key for key in after if after[key] != before[key]} == {option.name}


def test_there_are_options_of_every_command() -> None:
    assert len(OPTIONS) > 50
    assert {str(each.id).rpartition(" ")[0] for each in OPTIONS} >= {"check", "demo", "policy diff", "metrics"}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["check"], ["GATE_POLICY", "GATE_PROBE", "GATE_OUTPUT", "GATE_FAIL_ON", "GATE_NO_PROGRESS"]),
        (["policy", "diff"], ["GATE_AGAINST", "GATE_DATE", "GATE_POLICY_DIFF_OUTPUT"]),
        (["calibrate"], ["GATE_CALIBRATE_OUTPUT", "GATE_GOOD"]),
    ],
)
def test_the_help_names_the_variables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], names: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*arguments, "--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"[env var: {name}]" in out for name in names)


def test_the_version_is_no_matter_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATE_VERSION", "1")
    assert main(["policy", "show", "classifier"]) == 0
    assert "kind: Policy" in capsys.readouterr().out
