"""A line that is indented by a space too few or too many is said to be, in place of what the parser makes of it."""

from __future__ import annotations

import pytest

from gate.policy.reading import read

TEXT = """\
rules:
  - id: rank
    metric: effective_rank  # of all rows
    min: 96
    slices:
      by: language

      min: 3
waivers: []
"""
QUOTES = "a key inside a value; put text that holds `: ` in quotes"


def problem(text: str) -> tuple[tuple[int, int], str]:
    (found,) = read(text).problems
    return found.position, found.message.removeprefix("not valid YAML: ")


@pytest.mark.parametrize(
    ("old", "new", "position", "spaces", "around"),
    [
        ("    slices", "   slices", (5, 4), "3 spaces", "keys around it by 4"),
        ("    slices", "     slices", (5, 6), "5 spaces", "keys around it by 4"),
        ("    min: 96", "      min: 96", (4, 7), "6 spaces", "keys around it by 4"),
        ("      min: 3", "     min: 3", (8, 6), "5 spaces", "keys around it by 6"),
        ("      min: 3", "        min: 3", (8, 9), "8 spaces", "keys around it by 6"),
        ("      by:", "    by:", (8, 7), "6 spaces", "keys around it by 4"),
        ("      by:", "   by:", (6, 4), "3 spaces", "keys around it by 4"),
        ("  - id", "- id", (3, 5), "4 spaces", "keys around it by 2"),
        ("waivers", " waivers", (9, 2), "1 space", "keys around it by 0"),
        ("waivers", "   - id: b\nwaivers", (9, 4), "3 spaces", "list entries around it by 2"),
        ("waivers", " - id: b\nwaivers", (9, 2), "1 space", "list entries around it by 2"),
    ],
)
def test_a_line_out_of_line_is_told_with_those_around_it(
    old: str, new: str, position: tuple[int, int], spaces: str, around: str
) -> None:
    assert problem(TEXT.replace(old, new)) == (position, f"this line is indented by {spaces}, the {around}")


@pytest.mark.parametrize(
    ("old", "new", "position", "message"),
    [
        ("min: 96", "why: a: b", (4, 11), QUOTES),
        ("min: 96", "why: text that goes on\n      note: and on", (5, 11), QUOTES),
        ("min: 96", "why: text\n      that goes on\n      note: and on", (6, 11), QUOTES),
        ("min: 96", 'why: "a" b', (4, 14), "expected <block end>, but found '<scalar>'"),
    ],
)
def test_other_faults_are_not_put_down_to_the_indentation(
    old: str, new: str, position: tuple[int, int], message: str
) -> None:
    assert problem(TEXT.replace(old, new)) == (position, message)


def test_keys_of_blocks_that_ended_do_not_count() -> None:
    text = "metadata:\n     name: x\n" + TEXT.replace("    slices", "     slices")
    assert problem(text) == ((7, 6), "this line is indented by 5 spaces, the keys around it by 4")
