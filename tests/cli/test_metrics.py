"""`gate metrics`: the catalogue on stdout, in a moment and without torch."""

from __future__ import annotations

import json
import math
import os
import pty
import re
import resource
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gate.cli import main
from gate.geometry import catalogue
from gate.policy import references

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRIES = catalogue.load()
Asked = tuple[int, str, str]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gate", "metrics", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Asked]:
    """Exit code, stdout and stderr of the command in this process, on a wide page so that nothing is wrapped."""
    monkeypatch.setenv("COLUMNS", "10000")
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def asked(*arguments: str) -> Asked:
        capsys.readouterr()
        return main(["metrics", *arguments]), *capsys.readouterr()

    return asked


def test_the_list_is_there_in_under_half_a_second_without_torch() -> None:
    seconds = []  # of a processor: what else runs on this machine does not count
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert (done.returncode, done.stderr) == (0, "")
    assert min(seconds) < 0.5
    heavy = "{'torch', 'mlflow', 'numpy', 'pandas', 'matplotlib', 'great_expectations'} & set(sys.modules)"
    for arguments in (["metrics"], ["metrics", "vci"], ["metrics", "--format", "json"], ["metrics", "vcii"]):
        code = f"import sys; from gate.cli import main; main({arguments!r}); print(); print({heavy})"
        shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert shown.endswith("\nset()\n"), arguments


def test_the_list_has_one_line_for_every_metric(ask: Callable[..., Asked]) -> None:
    code, out, err = ask()
    assert (code, err) == (0, "")
    lines = [re.split(r" {2,}", line.strip()) for line in out.splitlines() if line.startswith("  ")]
    assert sorted(lines) == sorted(
        [name, entry.direction(), ", ".join(entry.needed_by()) or "-", entry.meaning] for name, entry in ENTRIES.items()
    )
    titles = [f"{family}: {title.partition(': ')[0]}" for family, title in catalogue.families().items()]
    assert [line for line in out.splitlines() if line in titles] == titles


def test_the_long_list_says_of_every_metric_what_it_is(ask: Callable[..., Asked]) -> None:
    code, out, err = ask("--long")
    assert (code, err) == (0, "")
    for name, entry in ENTRIES.items():
        lines = out[out.index(f"\n  {name}  {entry.meaning}\n") :].splitlines()[2:6]
        assert lines[0].startswith(f"      better: {entry.direction()}; reads: features")
        assert all(column in lines[0] for column in (*entry.required, *entry.optional, *entry.kinds))
        in_a_policy = references.in_a_policy(entry).replace("`", "")
        facts = {"decides when": entry.domain, "in a policy": in_a_policy, "paper": entry.paper}
        assert lines[1:] == [f"      {fact}: {text}" for fact, text in facts.items()]
    headings = re.findall(r"^(\w+): ", out, flags=re.MULTILINE)
    assert headings == list(catalogue.families())


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_one_metric_is_shown_with_all_that_is_known_of_it(name: str, ask: Callable[..., Asked]) -> None:
    entry = ENTRIES[name]
    code, out, err = ask(name)
    assert (code, err) == (0, "")
    assert out.startswith(f"{name}  {entry.meaning}\n")
    said = [entry.unit, entry.domain, entry.paper, *entry.description.split("\n\n"), *entry.readouts.values()]
    said += [f"{column}: {meaning}" for each in (entry.required, entry.optional) for column, meaning in each.items()]
    said += [f"\n.{readout} " for readout in entry.readouts] + [
        change.replace("_", " ") for change in entry.invariant_to
    ]
    said += [each for param in entry.params for each in (param, entry.explanations[param])]
    said += [entry.elsewhere, ", ".join(entry.kinds) or "every kind"]
    assert [each for each in said if each not in out] == []
    shown = dict(re.findall(r"^\.(\S+) +(higher|lower|range) ", out, flags=re.MULTILINE))
    assert shown == {readout: entry.direction(readout) for readout in entry.readouts}
    assert re.search(rf"^better +(a )?{entry.direction()}:", out, flags=re.MULTILINE)


def test_a_read_out_is_shown_with_its_metric(ask: Callable[..., Asked]) -> None:
    _, out, _ = ask("effective_rank.share")
    assert out.startswith(f"effective_rank.share  {ENTRIES['effective_rank'].readouts['share']}\n")
    assert f"A read-out of effective_rank: {ENTRIES['effective_rank'].meaning}" in out
    assert re.search(r"^\.share +range +0 to 1 +value / d$", out, flags=re.MULTILINE)
    assert re.search(r"^effective_rank +range +at least 0 +the metric itself$", out, flags=re.MULTILINE)


def test_what_a_read_out_needs_is_said_beside_it_and_on_its_own_page(ask: Callable[..., Asked]) -> None:
    pages = {name: ask(name)[1] for name in ("ridge_probe_accuracy", "ridge_probe_accuracy.pretext")}
    for out in pages.values():
        assert re.search(r"^\.pretext +higher +0 to 1 +balanced .*; needs pretext$", out, flags=re.MULTILINE)
        assert re.search(
            r"^ridge_probe_accuracy +higher +0 to 1 +the metric itself; needs labels$", out, flags=re.MULTILINE
        )
    for out, needs, answer in zip(
        pages.values(),
        ("only the features", "pretext: a free label"),
        ("yes; not yet", "yes"),
        strict=True,
    ):
        assert re.search(rf"^needs +{needs}", out, flags=re.MULTILINE)
        assert re.search(rf"^in a policy +{answer}", out, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("worst_group_accuracy", "higher: give `min`"),
        ("worst_group_accuracy.gap", "lower: give `max`"),
        ("prediction_entropy_ratio", "higher: give `min`"),
        ("prediction_entropy_ratio.mean_entropy", "a range: can be bad at both ends"),
    ],
)
def test_which_way_is_better_is_said_of_what_was_asked_for(
    address: str, advice: str, ask: Callable[..., Asked]
) -> None:
    assert re.search(rf"^better +{advice}", ask(address)[1], flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["effective_rnak"], "there is no metric 'effective_rnak'. Did you mean `effective_rank`?"),
        (["rankme"], "there is no metric 'rankme'. Did you mean `effective_rank.rankme`?"),
        (["effective_rank.shar"], "has no read-out 'shar'. Did you mean `effective_rank.share`?"),
        (["channel_spread.x"], "'channel_spread' has no read-out 'x'. It has: none."),
        (["--family", "spektral"], "no metric has the family 'spektral'. Did you mean `spectral`?"),
        (["--needs", "lables"], "no metric has the column 'lables'. Did you mean `labels`?"),
        (["--family", "zzz"], f"There are: {', '.join(catalogue.families())}."),
        (["--family", "spectral", "--needs", "labels"], "no metric of the family 'spectral' reads 'labels'"),
        (["vci", "--needs", "labels"], "--family and --needs narrow the list"),
        (["--format", "yaml"], "'yaml' is not one of"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(
    arguments: list[str], message: str, ask: Callable[..., Asked]
) -> None:
    code, out, err = ask(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("error[") == 1


def test_the_list_can_be_narrowed(ask: Callable[..., Asked]) -> None:
    narrowed = {
        ("--family", "spectral"): {name for name, each in ENTRIES.items() if each.family == "spectral"},
        ("--needs", "labels"): {name for name, each in ENTRIES.items() if "labels" in {*each.required, *each.optional}},
        ("--family", "hypersphere", "--needs", "labels"): {
            name
            for name, each in ENTRIES.items()
            if each.family == "hypersphere" and "labels" in {*each.required, *each.optional}
        },
    }
    for arguments, expected in narrowed.items():
        shown = json.loads(ask(*arguments, "--format", "json")[1])
        assert {each["name"] for each in shown["metrics"]} == expected != set()
        assert set(shown["families"]) == {ENTRIES[name].family for name in expected}
        for more in ([], ["--long"]):
            listed = re.findall(r"^  (\w+)  ", ask(*arguments, *more)[1], flags=re.MULTILINE)
            assert set(listed) == expected


def test_as_json_it_is_the_catalogue_and_infinite_limits_are_null(ask: Callable[..., Asked]) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    code, out, err = ask("--format", "json")
    assert (code, err) == (0, "")
    titles, entries = catalogue.loads(out)
    assert titles == catalogue.families()
    assert {entry.name: entry for entry in entries} == ENTRIES
    shown: dict[str, Any] = json.loads(out, parse_constant=refuse)
    limits = {each["name"]: each["limits"]["value"] for each in shown["metrics"]}
    assert limits["effective_rank"] == [0, None]
    assert limits["vci"] == [None, None]
    assert ENTRIES["effective_rank"].limits["value"][1] == math.inf
    one = json.loads(ask("vci.raw", "--format", "json")[1], parse_constant=refuse)
    assert [each["name"] for each in one["metrics"]] == ["vci"]


@pytest.mark.parametrize("arguments", [[], ["--long"], ["vci"], ["--format", "json"]])
def test_what_is_no_terminal_gets_no_colour_and_no_trailing_space(arguments: list[str]) -> None:
    done = run(*arguments, FORCE_COLOR="")
    assert "\x1b" not in done.stdout
    assert not re.search(r" $", done.stdout, flags=re.MULTILINE)
    assert done.stdout.endswith("\n")


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_it_asks_for_none(environment: dict[str, str], coloured: bool) -> None:
    parent, child = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    command = [sys.executable, "-m", "gate", "metrics", "channel_spread"]
    started = subprocess.Popen(command, stdout=child, env=kept | {"TERM": "xterm"} | environment)
    os.close(child)
    shown = b""
    while b"paper" not in shown:
        shown += os.read(parent, 65536)
    assert started.wait() == 0
    os.close(parent)
    assert (b"\x1b[1mchannel_spread" in shown) == coloured


def test_a_reader_that_has_gone_is_no_crash() -> None:
    command = f"{sys.executable} -m gate metrics | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Each line: id, ")


@pytest.mark.parametrize("columns", ["20", "80", "200"])
def test_no_line_of_a_page_is_wider_than_it_and_no_name_is_cut(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    for arguments in (["--long"], *([name] for name in ENTRIES)):
        assert main(["metrics", *arguments]) == 0
        out = capsys.readouterr().out
        assert max(map(len, out.splitlines())) <= max(int(columns), 60)
        assert "…" not in out
        entry = ENTRIES.get(arguments[0])
        assert all(f"\n.{name} " in out for name in (entry.readouts if entry else ()))


def test_a_line_of_the_list_is_never_broken(ask: Callable[..., Asked], monkeypatch: pytest.MonkeyPatch) -> None:
    wide = ask()[1]
    monkeypatch.setenv("COLUMNS", "60")
    assert ask()[1] == wide
