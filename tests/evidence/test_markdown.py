from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from markdown_it import MarkdownIt

from gate.evidence import markdown
from tests.evidence import samples

OWN_TAGS = {"sub", "code", "br", "details", "summary"}


class Page(HTMLParser):
    """What a reader of the rendered page gets: its tags, the texts of its table cells, and all of its text."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(MarkdownIt("commonmark").enable("table").render(markdown.render(document)))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser's name
        self.tags.append(tag)
        if tag not in ("br", "hr", "img"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def many(slices: int) -> dict[str, Any]:
    return samples.judged(*(samples.finding(slice=f"site={number}") for number in range(slices)))


def test_the_verdict_is_the_first_line_and_a_heading_of_third_level() -> None:
    assert markdown.render(samples.recorded()).startswith(
        "### ❌ FAILED: models:/digits/2 is blocked: of 10 rules 3 failed and 1 could not be decided.\n"
    )
    assert markdown.render(samples.recorded("passed")).startswith(
        "### ✅ PASSED: models:/digits/1 passes: all 10 rules held over the whole interval.\n"
    )
    assert not re.search(r"^##? ", markdown.render(samples.everything()), flags=re.MULTILINE)


def test_a_rule_is_a_row_with_value_interval_bound_and_outcome() -> None:
    rows = Page(samples.recorded()).rows
    assert rows[0] == ["rule", "value with interval", "required", "outcome"]
    assert ["rankeffective_rank of embedding", "2.172 [2.112, 2.233]", "at least 9", "❌ fail"] in rows
    assert [row[-1].split()[-1] for row in rows[1:11]] == ["fail"] * 3 + ["inconclusive"] + ["warn"] * 2 + ["pass"] * 4


def test_what_was_compared_is_worded_by_its_direction() -> None:
    rows = {row[0].removesuffix("effective_rank of embedding"): row for row in Page(samples.everything()).rows}
    assert rows["rank (relative)"][1:3] == ["-0.05 [-0.06, -0.04]", "a drop of at most 0.02"]
    assert rows["rank (worst gap)"][1:3] == ["0.15 [0.11, 0.19]", "at most 0.1"]
    both = samples.judged(samples.finding(check="relative", min=0.0, max=0.5))
    assert Page(both).rows[1][2] == "a drop of at most 0, a rise of at most 0.5"


def test_a_finding_without_a_number_says_why_in_its_place() -> None:
    drift = next(row for row in Page(samples.everything()).rows if row[0].startswith("drift (relative)"))
    assert drift[1:] == ["few_rows: 12 rows; needed are 200", "-", "⏭️ not evaluated"]


def test_slices_stand_folded_under_a_line_that_counts_them() -> None:
    rendered = markdown.render(samples.everything())
    head = "<details><summary>rank: 5 slices, 1 fail, 1 inconclusive, 1 not evaluated, 1 waived, 1 pass</summary>"
    start = rendered.index(head)
    folded = rendered[start : rendered.index("</details>", start)]
    assert folded.count("**rank\\[language=") == 5
    assert "\\[language=" not in rendered[:start]


def test_what_did_not_pass_is_explained_once_for_every_rule() -> None:
    rendered = markdown.render(samples.everything())
    explained = rendered[rendered.index("#### What did not pass") :]
    assert re.findall(r"^\*\*(\w+)\*\* at", explained, flags=re.MULTILINE) == ["cone", "rank", "spread"]
    assert explained.count("*why:* Ten classes") == 3
    assert "**cone** at <code>embedding@1:7:5</code>" in explained
    assert "*docs:* <https://acme.example/cone?a=1>" in explained
    assert "*docs:* page 3" in explained
    assert "*waiver:* New tokenizer halves ja coverage. - kenji@acme.example, until 2026-12-31 (RQ-204)" in explained


def test_a_model_that_passed_needs_no_explanation() -> None:
    assert "What did not pass" not in markdown.render(samples.recorded("passed"))


def test_an_inconclusive_that_the_policy_lets_through_is_explained() -> None:
    document = samples.judged(samples.finding("pass"), samples.finding("not_evaluated", rule="b"))
    assert "- ⏭️ effective\\_rank of layer" in markdown.render(document)


def test_notes_of_the_run_stand_before_the_table() -> None:
    rendered = markdown.render(samples.everything())
    assert rendered.index("> ⚠️ the waiver of rule 'x' matches nothing") < rendered.index("| rule |")


def test_the_origin_is_named_with_its_digests() -> None:
    document = samples.recorded()
    rows = dict(row for row in Page(document).rows if len(row) == 2)
    assert rows["model"] == f"models:/digits/2 {document['model']['digest']}"
    assert rows["policy"] == f"classifier@1.0.0 {document['policy']['digest']}"
    assert rows["baseline"] == "the policy names no baseline; there are no relative rules"
    document["model"]["digest"] = None
    assert dict(row for row in Page(document).rows if len(row) == 2)["model"] == "models:/digits/2"


def test_names_from_models_and_data_stay_text() -> None:
    plain, page = Page(samples.everything()), Page(samples.hostile())
    assert page.open == []
    assert set(page.tags) == set(plain.tags) - {"a"}
    assert set(re.findall(r"<(\w+)", markdown.render(samples.hostile()))) <= OWN_TAGS
    assert [len(row) for row in page.rows] == [len(row) for row in plain.rows]
    shown = r"a b |c|<script>alert(1)</script></summary>`d`::error file=x::%0A,e: \x1b[2J\x00"
    assert page.text.count(shown) > 20
    assert "*f* _g_ ~~h~~ [i](https://evil.example) ![j](k) @\u200boctocat ##[error]l ]]>&amp;&#10;\\| {0}" in page.text


def test_an_address_is_not_a_mention() -> None:
    document = samples.judged(samples.finding(message="x@y.example asks @octocat and (@acme/team) about models:/a@b"))
    expected = "x@y.example asks @&#8203;octocat and (@&#8203;acme/team) about models:/a@b"
    assert expected in markdown.render(document)


@pytest.mark.parametrize("slices", [1_000, 10_000])
def test_the_page_stays_below_the_cap_and_says_what_it_left_out(slices: int) -> None:
    rendered = markdown.render(many(slices))
    assert len(rendered.encode()) <= 900_000
    left_out = re.findall(r"… and (\d+) more, which the evidence holds in full", rendered)
    shown = rendered.count("| **rank\\[site=")
    assert shown == 1_000
    assert left_out == ([] if slices == 1_000 else ["9000", "9000"])
    assert rendered.count("<details>") == rendered.count("</details>")


def test_the_worst_are_what_is_left_when_the_page_is_full() -> None:
    document = many(10_000)
    document["results"].append(samples.finding("error", slice="site=last"))
    assert "site=last" in markdown.render(document)


def test_names_of_any_length_stay_below_the_cap() -> None:
    long = "\u202e|" * 10_000
    texts = {"message": long, "why": long, "docs": f"https://{long}"}
    rules = [samples.finding(rule=f"{number}{long}", **texts) for number in range(40)]
    document = samples.judged(*rules, notes=[long])
    document["model"]["resolved"] = document["policy"]["path"] = document["probe"]["uri"] = long
    rendered = markdown.render(document)
    assert len(rendered.encode()) <= 900_000
    assert rendered.count("| **") == 40
    assert html.unescape(rendered).startswith("### ❌ FAILED: ")
