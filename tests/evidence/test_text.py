from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gate.evidence import bundle, text

SAMPLES = Path(__file__).parent / "v1"
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def sample(name: str = "sample") -> dict[str, Any]:
    return bundle.load(SAMPLES / f"{name}.json")


def test_the_verdict_comes_first() -> None:
    assert text.render(sample()).startswith(
        "FAILED  models:/digits/2 is blocked: of 10 rules 3 failed and 1 could not be decided.\n"
    )
    assert text.render(sample("passed")).startswith(
        "PASSED  models:/digits/1 passes: all 10 rules held over the whole interval.\n"
    )


def test_the_second_line_counts_every_outcome_errors_included() -> None:
    counted = "12 rules: 4 passed, 3 failed, 2 inconclusive, 2 warned, 0 waived, 0 not evaluated, 1 error"
    assert text.render(sample("error")).splitlines()[1] == counted


def test_a_failing_rule_has_its_source_frame() -> None:
    frame = """\
error[rank]: effective_rank of layer 'embedding' is 2.17 [2.11, 2.23], must be at least 9
  --> policies/classifier.yaml:19:5
   |
19 |     min: 9  # one direction per class, less one
   |     ^^^^^^ short by 6.83 (95% interval, n = 500)
   = why: Ten classes need nine directions; with fewer the next fine-tune has nothing to work with.
   = fix: Lower the learning rate of the backbone, or add a decorrelation term.
   = rows: digit-0300, """
    assert frame in text.render(sample())


def test_frames_are_sorted_worst_first() -> None:
    kinds = re.findall(r"^(\w+)\[([\w-]+)\]: ", text.render(sample("error")), flags=re.MULTILINE)
    assert kinds == [
        ("error", "contrast-between-layers"),
        ("error", "collapse"),
        ("error", "rank"),
        ("error", "cone"),
        ("inconclusive", "neighbours"),
        ("inconclusive", "dead-units"),
        ("warning", "dimensions"),
        ("warning", "linear-probe"),
    ]


def test_an_error_says_why_there_is_no_verdict() -> None:
    rendered = text.render(sample("error"))
    assert "could not be judged: missing_input: it needs the features of several layers" in rendered
    assert "^^^^^^ not judged" in rendered


def test_passing_rules_stand_in_one_aligned_table() -> None:
    lines = [line for line in text.render(sample("passed")).splitlines() if line.startswith("pass ")]
    assert len(lines) == 10
    assert len({line.index(" of embedding  ") for line in lines}) > 1
    assert len({re.search(r" at (least|most) ", line).start() for line in lines}) == 1  # type: ignore[union-attr]


def test_a_bound_inside_a_flow_mapping_is_marked_alone() -> None:
    document = sample()
    result = next(result for result in document["results"] if result["rule"] == "rank")
    line = "  - {id: rank, metric: effective_rank, min: 9, severity: block}"
    document["policy"]["text"] = line
    result["policy_line"], result["policy_column"] = 1, line.index("min") + 1
    column = line.index("min")
    assert f"1 | {line}\n  | {' ' * column}^^^^^^ short by" in text.render(document)


def test_a_place_that_the_text_does_not_have_leaves_out_the_frame() -> None:
    document = sample()
    document["policy"]["text"] = ""
    rendered = text.render(document)
    assert "^^^" not in rendered
    assert "  --> policies/classifier.yaml:19:5\n   = short by 6.83 (95% interval, n = 500)\n" in rendered


def test_without_colour_the_text_has_no_control_characters() -> None:
    assert all(char.isprintable() or char == "\n" for char in text.render(sample("error")))


@pytest.mark.parametrize("name", ["sample", "passed", "error"])
def test_colour_changes_no_letter(name: str) -> None:
    coloured = text.render(sample(name), color=True)
    assert coloured != ANSI.sub("", coloured)
    assert ANSI.sub("", coloured) == text.render(sample(name))


def test_names_from_models_and_data_cannot_write_to_the_terminal() -> None:
    document = sample()
    document["model"]["resolved"] = "models:/\x1b[2Jevil/1"
    document["results"][0]["rows"][0]["id"] = "row\r\x07\x9b1A"
    document["results"][0]["why"] = "first\nPASSED  second\u202e"
    rendered = text.render(document)
    assert all(char.isprintable() or char == "\n" for char in rendered)
    assert r"models:/\x1b[2Jevil/1" in rendered
    assert "= why: first PASSED  second".replace("  ", " ") in rendered


def test_nothing_evaluated_reads_as_blocked() -> None:
    document = sample()
    document["results"], document["status"] = [], "error"
    document["counts"] = dict.fromkeys(document["counts"], 0)
    rendered = text.render(document)
    assert "nothing was evaluated, and silence is not a pass" in rendered
    assert rendered.splitlines()[1].startswith("0 rules: 0 passed")


def test_an_inconclusive_run_and_a_warned_one_say_so() -> None:
    document = sample()
    document["results"] = [result for result in document["results"] if result["status"] in ("inconclusive", "pass")]
    document["counts"].update(fail=0, warn=0)
    assert "INCONCLUSIVE  models:/digits/2 is blocked: of 5 rules 1 could not be decided." in text.render(
        {**document, "status": "inconclusive"}
    )
    document = sample()
    document["results"] = [result for result in document["results"] if result["status"] in ("warn", "pass")]
    document["counts"].update(fail=0, inconclusive=0)
    assert "WARNED  models:/digits/2 passes with warnings: 2 of 6 rules warned." in text.render(
        {**document, "status": "warned"}
    )


def test_a_single_rule_that_held_reads_well() -> None:
    document = sample("passed")
    document["results"] = document["results"][:1]
    document["counts"]["pass"] = 1
    assert text.render(document).startswith(
        "PASSED  models:/digits/1 passes: the one rule held over the whole interval.\n1 rule: 1 passed"
    )


def clustered(clusters: int, rows: int = 1797) -> dict[str, Any]:
    document = sample("passed")
    document["probe"]["rows"] = rows
    document["estimates"][0]["method"] += f", {clusters} clusters"
    return document


@pytest.mark.parametrize(
    ("clusters", "rows", "words"),
    [
        (150, 1797, "1797 rows in 150 clusters"),
        (30, 1797, "1797 rows in 30 clusters"),
        (1, 1797, "1797 rows in 1 cluster"),
        (150, 8192, "8192 rows in 150 clusters"),
        (150, 8193, "8193 rows in at least 150 clusters"),
    ],
)
def test_the_head_names_the_clusters_and_warns_of_few(clusters: int, rows: int, words: str) -> None:
    rendered = text.render(clustered(clusters, rows))
    assert rendered.splitlines()[2].endswith(f", {words}")
    note = "note: fewer than 30 clusters, so intervals are rough; add rows of further clusters"
    assert (rendered.splitlines()[3] == note) == (clusters < 30)
    assert "cluster" not in text.render(sample("passed"))


@pytest.mark.parametrize(
    ("validation", "rows"),
    [({"splits": {"probe": 900, "ood": 100}}, "900 rows"), ({"splits": {}}, "1000 rows"), (None, "1000 rows")],
)
def test_the_head_counts_the_rows_that_were_judged(validation: object, rows: str) -> None:
    document = sample("passed")
    document["probe"] |= {"rows": 1000, "validation": validation}
    assert text.render(document).splitlines()[2].endswith(f", {rows}")
