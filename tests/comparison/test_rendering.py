"""A comparison as people read it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from markdown_it import MarkdownIt

from gate.comparison import markdown, text, wording
from gate.evidence import layout

ANSI = re.compile(r"\x1b\[[0-9;]*m")
HOSTILE = "a|b`<script>\x1b[2J\n@octocat [i](https://evil.example)"


def number(value: float, half: float) -> dict[str, Any]:
    return {"value": value, "interval": [value - half, value + half], "confidence": 0.95, "standard_error": half / 2}


def difference(metric: str, outcome: str, change: float = 0.5, **changes: Any) -> dict[str, Any]:
    each = {
        "metric": metric, "layer": "embedding", "params": {}, "better": "lower", "outcome": outcome,
        "a": number(1.0, 0.1), "b": number(1.0 + change, 0.1), "difference": number(change, 0.05), "strength": 20.0,
        "n": 100, "d": 8, "c": None, "method": "paired difference, delta method", "rows": [],
    }  # fmt: skip
    return {**each, **changes}


def document(*differences: dict[str, Any], **changes: Any) -> dict[str, Any]:
    found = differences or (difference("collapse_index", "worse"),)
    outcomes = [each["outcome"] for each in found]
    between = {**difference("cka_debiased", ""), **number(0.5, 0.1), "better": "higher"}
    refused: dict[str, Any] = {
        "metric": "nrc1",
        "layer": None,
        "params": {},
        "reason": "missing_input: it needs targets",
    }
    model = {"uri": "models:/m/1", "resolved": "models:/m/1", "digest": "sha256:1"}
    content = {
        "a": model, "b": {**model, "resolved": "models:/m/2"}, "policy": None, "reads": {}, "multiplicity": "none",
        "probe": {"uri": "probe.npz", "digest": "sha256:2", "rows": 100}, "run": {"confidence": 0.95},
        "layers": {"embedding": {"path": "encoder.4", "pooling": "mean"}}, "differences": list(found),
        "counts": {**{each: outcomes.count(each) for each in wording.TITLES}, "not_compared": 1},
        "between": [between], "not_compared": [refused],
    }  # fmt: skip
    return {**content, **changes}


def test_the_page_tells_both_versions_the_tally_and_the_place() -> None:
    assert text.render(document()).splitlines()[:3] == [
        "COMPARED  B models:/m/2 against A models:/m/1",
        "1 compared: 1 worse, 0 better, 0 different, 0 no difference; 1 between the two; 1 not compared",
        "100 rows of probe.npz; layer embedding (encoder.4, mean)",
    ]


def test_outcomes_stand_under_each_other_in_one_order_and_empty_ones_are_left_out() -> None:
    page = text.render(
        document(difference("ece", "worse"), difference("vci", "different"), difference("cdnv", "better"))
    )
    heads = re.findall(r"^(worse|better|different|no difference|between|not compared)\b", page, flags=re.MULTILINE)
    assert heads == ["worse", "better", "different", "between", "not compared"]


def test_a_row_has_both_numbers_and_their_difference_with_intervals() -> None:
    assert "  collapse_index  1.00 [0.90, 1.10]  1.50 [1.40, 1.60]  0.50 [0.45, 0.55]\n" in text.render(document())
    assert "  cka_debiased  0.50 [0.40, 0.60]  higher is better\n" in text.render(document())
    assert "  needs targets: nrc1\n" in text.render(document())


def test_a_layer_is_named_where_there_are_several_and_settings_where_they_are_own() -> None:
    places = {name: {"path": name, "pooling": "none"} for name in ("embedding", "output")}
    own = difference("knn_label_agreement", "worse", params={"k": 5})
    page = text.render(document(own, difference("ece", "worse", layer=None), layers=places))
    assert "knn_label_agreement (k=5) of embedding" in page
    assert "(k=20)" not in text.render(document(difference("knn_label_agreement", "worse", params={"k": 20})))
    assert re.search(r"^  ece +1\.0", page, flags=re.MULTILINE)
    assert "layers embedding, output" in page


def test_no_line_is_longer_than_a_hundred_characters() -> None:
    wide: dict[str, Any] = {
        "a": number(-123.456, 0.0123),
        "b": number(-98765.4, 1.234),
        "difference": number(-98641.9, 1.2),
    }
    rows = [difference("prediction_entropy_ratio.confusion_set", "worse", **wide), difference("ece", "no_difference")]
    many: list[dict[str, Any]] = [
        {"metric": f"metric_{i}", "layer": None, "params": {}, "reason": "needs much more of everything"}
        for i in range(40)
    ]
    page = text.render(document(*rows, not_compared=many))
    assert max(map(len, page.splitlines())) <= layout.WIDTH
    assert "\n  prediction_entropy_ratio.confusion_set\n" in page


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        (0.8611, 0.8559, 0.8661, "0.861 [0.856, 0.866]"),
        (23.19, 22.81, 23.62, "23.2 [22.8, 23.6]"),
        (1234.5, 1100.2, 1300.1, "1234 [1100, 1300]"),
        (0.0105, 0.0004, 0.0206, "0.0105 [0.0004, 0.0206]"),  # an end that is not 0 does not read 0
        (-0.0003, -0.02, 0.02, "0.000 [-0.020, 0.020]"),  # and 0 has no sign
        (0.0, 0.0, 0.0, "0 [0, 0]"),
        (15.61, 15.61, 15.61, "15.61 [15.61, 15.61]"),
        (2.5e9, 2.4e9, 2.6e9, "2.5e+09 [2.4e+09, 2.6e+09]"),
        (3e-12, 1e-12, 5e-12, "3e-12 [1e-12, 5e-12]"),
    ],
)
def test_a_number_has_the_decimals_that_its_interval_supports(
    value: float, low: float, high: float, shown: str
) -> None:
    assert wording.shown({"value": value, "interval": [low, high]}) == shown


def test_a_value_without_an_interval_is_shown_as_it_is() -> None:
    assert wording.shown({"value": 0.5, "interval": None}) == "0.5"


def test_the_page_says_that_intervals_are_paired_and_how_many_differ_by_chance() -> None:
    rows = [difference("ece", "no_difference")] * 60
    page = text.render(document(*rows))
    assert "Both versions saw the same 100 rows: the intervals of B - A are paired, at 95%." in page
    assert "Of 60 numbers about 3 would differ by chance if nothing had changed; --holm allows for that." in page
    at_once = text.render(document(*rows, multiplicity="holm"))
    assert "They are so wide that all differences hold at once, at 95% (Holm)." in at_once
    assert "by chance" not in at_once


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "Of 1 number fewer than one would"),
        (2, "Of 2 numbers fewer than one would"),
        (20, "Of 20 numbers about 1 would"),
        (40, "Of 40 numbers about 2 would"),
    ],
)
def test_of_few_numbers_fewer_than_one_differ_by_chance(count: int, words: str) -> None:
    assert words in text.render(document(*[difference("ece", "no_difference")] * count))


def test_clusters_are_named_and_few_of_them_warned_of() -> None:
    clustered = difference("ece", "worse", method="paired difference, delta method, 12 clusters")
    page = text.render(document(clustered))
    assert "100 rows in 12 clusters" in page
    assert "Fewer than 30 clusters, so intervals are rough; add rows of further clusters." in page


def test_colour_changes_no_letter_and_without_it_there_is_no_control_character() -> None:
    plain = text.render(document())
    coloured = text.render(document(), color=True)
    assert coloured != plain == ANSI.sub("", coloured)
    hostile = document(
        difference("ece", "worse", layer=HOSTILE), a={"resolved": HOSTILE}, probe={"uri": HOSTILE, "rows": 1}
    )
    hostile["layers"] = {HOSTILE: {"path": HOSTILE, "pooling": "none"}, "x": {"path": "x", "pooling": "none"}}
    assert all(char.isprintable() or char == "\n" for char in text.render(hostile))


def test_markdown_is_a_heading_tables_and_folded_parts() -> None:
    page = markdown.render(document(difference("ece", "worse"), difference("vci", "no_difference")))
    assert page.startswith("### gate compare: B models:/m/2 against A models:/m/1\n")
    assert "| ece | 1.00 \\[0.90, 1.10\\] | 1.50 \\[1.40, 1.60\\] | 0.50 \\[0.45, 0.55\\] |" in page
    rendered = MarkdownIt("commonmark").enable("table").render(page)
    assert rendered.count("<table>") == 3
    assert re.findall(r"<summary>(.*?)</summary>", rendered) == [
        "⚪ no difference: the interval of B - A holds 0 (1)",
        "not compared (1)",
    ]


def test_names_from_models_and_files_are_never_markup() -> None:
    hostile = document(
        difference("ece", "worse", layer=HOSTILE), a={"resolved": HOSTILE}, probe={"uri": HOSTILE, "rows": 1}
    )
    hostile["layers"] = {HOSTILE: {"path": HOSTILE, "pooling": "none"}, "x": {"path": "x", "pooling": "none"}}
    hostile["not_compared"][0]["reason"] = HOSTILE
    page = markdown.render(hostile)
    rendered = MarkdownIt("commonmark").enable("table").render(page)
    assert "<script" not in rendered
    assert "<a " not in rendered
    assert "@octocat" not in page
    assert all(line.count("|") - line.count("\\|") == 5 for line in page.splitlines() if line.startswith("| ece"))
