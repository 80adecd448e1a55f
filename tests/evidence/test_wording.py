from __future__ import annotations

import math
from typing import Any

import pytest

from gate.evidence import summary, wording
from tests.evidence import samples

PASS, FAIL = samples.finding("pass"), samples.finding("fail")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "rank"),
        ({"slice": "language=ja"}, "rank[language=ja]"),
        ({"check": "relative"}, "rank (relative)"),
        ({"check": "worst_gap"}, "rank (worst gap)"),
        ({"slice": "language=ja, site=3", "check": "relative"}, "rank[language=ja, site=3] (relative)"),
        ({"slice": "a\nb"}, r"rank[a\nb]"),
        ({"slice": "a  b"}, "rank[a  b]"),
    ],
)
def test_a_finding_has_a_name_of_its_own(changes: dict[str, Any], name: str) -> None:
    assert wording.finding_name(samples.finding(**changes)) == name


def test_a_finding_of_before_there_were_checks_is_called_as_its_rule() -> None:
    document = samples.as_written()
    assert [wording.finding_name(result) for result in document["results"]][:3] == ["collapse", "rank", "cone"]


@pytest.mark.parametrize(
    ("findings", "words"),
    [
        ([PASS], "passes: the one rule held over the whole interval."),
        ([PASS, {**PASS, "slice": "a=1"}], "passes: the one rule held over the whole interval."),
        ([PASS, {**PASS, "rule": "b"}], "passes: all 2 rules held over the whole interval."),
        (
            [PASS, {**FAIL, "status": "waived", "slice": "a=1"}, {**FAIL, "status": "not_evaluated", "slice": "a=2"}],
            "passes: of 3 findings 1 waived and 1 not evaluated; the others held over the whole interval.",
        ),
        ([{**FAIL, "status": "waived"}], "passes: of 1 rule 1 waived."),
        ([PASS, {**FAIL, "status": "warn", "slice": "a=1"}], "passes with warnings: 1 of 2 findings warned."),
        ([PASS, {**FAIL, "slice": "a=1"}], "is blocked: of 2 findings 1 failed."),
        ([{**FAIL, "status": "not_evaluated"}], "is blocked: nothing was evaluated, and silence is not a pass."),
        ([], "is blocked: nothing was evaluated, and silence is not a pass."),
    ],
)
def test_the_headline_says_no_more_than_what_was_found(findings: list[dict[str, Any]], words: str) -> None:
    assert summary.headline(samples.judged(*findings)) == f"models:/digits/2 {words}"


def test_the_tally_counts_findings_where_a_rule_has_several() -> None:
    one, several = samples.judged(PASS, {**FAIL, "rule": "b"}), samples.judged(PASS, {**FAIL, "slice": "a=1"})
    assert summary.tally(one).startswith("2 rules: 1 passed, 1 failed, ")
    assert summary.tally(several).startswith("2 findings of 1 rule: 1 passed, 1 failed, ")


def test_a_line_of_a_pack_is_read_from_the_pack() -> None:
    document = samples.judged(samples.finding(policy_path="embedding@1", policy_line=2, policy_column=6))
    (result,) = document["results"]
    source = {"path": "embedding@1", "digest": "sha256:1", "text": "rules:\n  - {min: 9, id: rank}\n"}
    assert wording.source_line(document, result) is None
    document["policy"] = {**document["policy"], "sources": [source]}
    assert wording.source_line(document, result) == ("  - {min: 9, id: rank}", "min: 9")
    assert wording.place(document, result) == "embedding@1:2:6"


def test_an_anchor_is_the_place_of_the_rule_where_there_is_no_other() -> None:
    document = samples.as_written()
    assert wording.anchor(document, document["results"][1]) == ("policies/classifier.yaml", 19, 5)
    assert wording.place(document, document["results"][1]) == "policies/classifier.yaml:19:5"


def test_what_there_is_to_say_of_a_finding_has_labels() -> None:
    result = samples.finding("waived", waiver={**samples.WAIVER, "approver": "ana"}, baseline=2.25, docs="d", paper="p")
    assert [label for label, _ in wording.advice(result)] == ["why", "fix", "paper", "docs"]
    told = dict(wording.particulars(result))
    assert list(told) == ["baseline", "waiver", "rows"]
    assert told["baseline"] == "2.25"
    labels = [label for label, _ in wording.explained(result)]
    assert labels == ["baseline", "waiver", "why", "fix", "paper", "docs", "rows"]
    assert told["waiver"].endswith("- kenji@acme.example, until 2026-12-31 (RQ-204), approved by ana")
    assert wording.particulars(samples.finding(rows=[])) == []


def test_few_clusters_are_a_note_of_the_run() -> None:
    document = samples.judged(samples.finding(method="delta method, 12 clusters"), notes=["a\nb"])
    assert summary.notes(document) == [
        "a b",
        "fewer than 30 clusters, so intervals are rough; add rows of further clusters",
    ]
    assert summary.notes(samples.as_written()) == []


@pytest.mark.parametrize(("text", "longest", "line"), [("a\n b\x00", None, r"a b\x00"), ("abcdef", 4, "abc…")])
def test_a_text_becomes_one_line(text: str, longest: int | None, line: str) -> None:
    assert wording.one_line(text, longest) == line


def test_a_number_too_large_to_be_one_is_written_all_the_same() -> None:
    """A sum of what a file holds can leave the range of floating-point numbers."""
    assert wording.number(-math.inf) == "-inf"
