from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest

from gate.evidence import github
from tests.evidence import samples


class Command(NamedTuple):
    """A workflow command, as the runner reads it."""

    name: str
    properties: dict[str, str]
    message: str


def commands(document: dict[str, Any]) -> list[Command]:
    return [command(line) for line in github.render(document).splitlines() if line.startswith("::")]


def command(line: str) -> Command:
    found = re.fullmatch(r"::(\w+) (.*?)::(.*)", line)
    assert found
    pairs = (pair.split("=", 1) for pair in found[2].split(","))
    return Command(found[1], {key: unescaped(value) for key, value in pairs}, unescaped(found[3]))


def unescaped(text: str) -> str:
    for code, char in (("%2C", ","), ("%3A", ":"), ("%0A", "\n"), ("%0D", "\r"), ("%25", "%")):
        text = text.replace(code, char)
    return text


def test_the_verdict_and_the_counts_come_first_in_plain_lines() -> None:
    lines = github.render(samples.recorded()).splitlines()
    assert lines[0] == "gate: FAILED  models:/digits/2 is blocked: of 10 rules 3 failed and 1 could not be decided."
    assert lines[1].startswith("gate: 10 rules: 4 passed, 3 failed, ")
    assert lines[2] == (
        "::error title=gate (collapse),file=policies/classifier.yaml,line=13::"
        "collapse_index of layer 'embedding' is 0.992 [0.992, 0.993], must be at most 0.85"
        "%0Awhy: Above 0.85 the features of all classes share one direction, "
        "and nearest-neighbour search stops working."
        "%0Afix: Check weight decay and the normalisation before the pooling layer."
        "%0Arows: digit-0442, digit-0012, digit-0393, digit-0098, digit-0002, digit-0087, digit-0333, digit-0058 "
        "and 12 more push it most to the failing side"
    )


def test_a_model_that_passed_has_no_annotation() -> None:
    assert len(github.render(samples.recorded("passed")).splitlines()) == 2
    assert commands(samples.recorded("passed")) == []


@pytest.mark.parametrize(
    ("status", "name"),
    [
        ("fail", "error"),
        ("error", "error"),
        ("inconclusive", "warning"),
        ("warn", "warning"),
        ("waived", "notice"),
        ("not_evaluated", "notice"),
    ],
)
def test_an_outcome_has_its_command(status: str, name: str) -> None:
    assert [each.name for each in commands(samples.judged(samples.finding(status)))] == [name]


def test_an_annotation_points_at_the_root_policy() -> None:
    cone = next(each for each in commands(samples.everything()) if "cone" in each.properties["title"])
    assert cone.properties == {"title": "gate (cone)", "file": "policies/a.yaml", "line": "4"}


def test_several_columns_of_a_slice_are_one_title() -> None:
    document = samples.judged(samples.finding(slice="language=en, site=3"))
    assert "::error title=gate (rank[language=en%2C site=3]),file=" in github.render(document)
    assert commands(document)[0].properties["title"] == "gate (rank[language=en, site=3])"


@pytest.mark.parametrize("count", [10, 11, 25])
def test_the_worst_ten_are_shown_and_the_others_stand_in_one_line(count: int) -> None:
    mild = [samples.finding("warn", slice=f"site={number}") for number in range(count - 3)]
    worst = [samples.finding("error"), samples.finding("fail", rule="a"), samples.finding("fail", rule="b")]
    found = commands(samples.judged(samples.finding("pass", rule="c"), *mild, *worst))
    assert [each.name for each in found[:10]] == ["error"] * 3 + ["warning"] * 7
    rest = [f"rank[site={number}] (warn)" for number in range(7, count - 3)]
    assert [each.message for each in found[10:]] == ([f"and {len(rest)} more: {', '.join(rest)}"] if rest else [])
    assert [each.name for each in found[10:]] == (["notice"] if rest else [])


def test_notes_of_the_run_stand_before_the_annotations() -> None:
    lines = github.render(samples.everything()).splitlines()
    assert lines[2] == "gate: note: the waiver of rule 'x' matches nothing that failed; take it out"


def test_names_from_models_and_data_can_give_no_command() -> None:
    rendered = github.render(samples.hostile())
    lines = rendered.splitlines()
    assert len(lines) == 3 + 9
    assert all(char.isprintable() or char == "\n" for char in rendered)
    assert all(line.startswith("gate: ") and "##[" not in line for line in lines[:3])
    for found in commands(samples.hostile()):
        assert set(found.properties) == {"title", "file", "line"}
        assert "::error file=x::%0A,e: " in found.message
        assert found.properties["line"].isdigit()
