"""Why a rule came out as it did, from the evidence alone."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gate.evidence import explaining
from gate.evidence.layout import WIDTH
from gate.evidence.meaning import meaning, recorded
from tests.evidence import samples

ANSI = re.compile(r"\x1b\[[0-9;]*m")
EVERY = [*(samples.recorded(name) for name in samples.RECORDED), samples.everything()]


def facts(page: str, block: str) -> dict[str, str]:
    """Label → text of the facts under a line that begins so."""
    lines = page.split(block, 1)[1].partition("\n\n")[0].splitlines()
    found: dict[str, str] = {}
    label = ""
    for line in lines:
        if match := re.match(r"  (\S[\w ]*?)  +(\S.*)$", line):
            label, found[match[1]] = match[1], match[2]
        elif label:
            found[label] += f" {line.strip()}"
    return found


def explained(*results: dict[str, Any], rule: str = "rank", **changes: Any) -> str:
    return explaining.rule(samples.judged(*results, **changes), rule)


@pytest.mark.parametrize("document", EVERY, ids=[*samples.RECORDED, "everything"])
def test_every_rule_of_every_recorded_document_is_explained_in_lines_of_one_width(document: dict[str, Any]) -> None:
    assert explaining.rules_of(document) == list(dict.fromkeys(result["rule"] for result in document["results"]))
    for rule in explaining.rules_of(document):
        page = explaining.rule(document, rule)
        assert page.startswith(f"rule {rule}: ")
        assert max(map(len, page.splitlines())) <= WIDTH, rule
        assert page.endswith("\n")
        assert "\n\n\n" not in page
        metric = next(result["metric"] for result in document["results"] if result["rule"] == rule)
        assert f"\nwhat {metric} is\n" in page


def test_a_failure_tells_value_interval_bound_miss_and_how_sure_it_is() -> None:
    page = explaining.rule(samples.recorded(), "rank")
    result = samples.rank()
    told = facts(page, "must be at least 9\n")
    assert told["value"].startswith("2.172 [2.112, 2.233], 95% interval, n = 500, 64 dimensions")
    assert told["required"] == "at least 9: short by 6.83"
    half = (result["interval"][1] - result["interval"][0]) / 2
    away = f"{(9 - result['value']) / half:.3g} half-widths"
    assert told["how sure"] == f"the whole interval lies outside the bounds; the value lies {away} from the nearest one"
    head = facts(page, "rule rank: fail\n")
    assert head["why"].startswith("Ten classes need nine directions")
    assert head["fix"].startswith("Lower the learning rate")
    assert head["rule"] == "policies/classifier.yaml:19:5, blocks a promotion"


def test_what_is_not_decided_says_with_how_many_rows_it_would_be() -> None:
    page = explained(samples.finding("inconclusive", interval=[1.0, 9.5], n_needed=770, severity="warn"))
    told = facts(page, "inconclusive[rank]: ")
    assert told["how sure"].endswith("these rows do not decide; about 770 rows would decide, 500 were there")
    assert told["required"] == "at least 9: inside the interval, not decided"
    assert "half-widths" not in told["how sure"]
    assert facts(page, "rule rank: inconclusive\n")["rule"].endswith("only warns")


def test_what_passed_says_by_how_much() -> None:
    page = explained(samples.finding("pass", value=12.0, interval=[11.0, 13.0], margin=-3.0, rows=[]))
    told = facts(page, "pass[rank]: ")
    assert told["required"] == "at least 9: inside by 3"
    assert told["how sure"] == (
        "the whole interval lies inside the bounds; the value lies 3 half-widths from the nearest one"
    )
    assert "rows that push" not in page


def test_what_could_not_be_judged_says_why_and_names_no_number() -> None:
    broken = samples.finding("error", value=None, interval=None, margin=None, reason="few_rows: 3 rows", rows=[])
    page = explained(broken)
    assert page.startswith("rule rank: error\n")
    assert not {"value", "how sure"} & facts(page, "error[rank]: ").keys()


def test_the_change_against_the_baseline_is_that_of_the_same_layer_slice_and_settings() -> None:
    def number(of: str, value: float, **changes: Any) -> dict[str, Any]:
        own = next(each for each in samples.recorded()["estimates"] if each["metric"] == "effective_rank")
        changed = {"of": of, "value": value, "interval": [value - 1, value + 1], "params": {"k": 5}}
        return {**own, **changed, **changes}

    result = samples.rank()
    estimates = [
        number("candidate", 0.5, params={}), number("baseline", 99.0, params={}), number("baseline", 88.0, layer="x"),
        number("baseline", 77.0, slice={"language": "ja"}), number("candidate", result["value"]),
        number("baseline", 4.0), number("change", result["value"] - 4),
    ]  # fmt: skip
    model = {**samples.recorded()["model"], "resolved": "models:/digits/1"}
    page = explained(samples.finding("fail"), estimates=estimates, baseline=model)
    assert facts(page, "must be at least 9\n")["baseline"] == (
        "models:/digits/1 has 4 [3, 5]; the change is -1.828 [-2.828, -0.8284] (-46%), paired on the same rows"
    )
    relative = samples.finding("fail", check="relative", value=result["value"] - 4, min=-0.1, interval=[-3, -0.5])
    page = explained(relative, estimates=estimates, baseline=model)
    assert facts(page, "fail[rank (relative)]: ")["baseline"] == "models:/digits/1 has 4 [3, 5]"
    assert "baseline" not in facts(explained(samples.finding("fail"), baseline=None), "must be at least 9\n")


def test_slices_stand_worst_first_and_the_worst_of_them_decides_the_title() -> None:
    page = explaining.rule(samples.everything(), "rank")
    section = page[page.index("slices, worst first: 1 of 5 findings pass\n") :].split("\n\n")[0]
    outcomes = [re.match(r"  (\w+(?: evaluated)?)  ", line) for line in section.splitlines()[1:]]
    assert [match[1] for match in outcomes if match] == ["fail", "inconclusive", "not evaluated", "waived", "pass"]
    assert "language=ja (change)" in section
    assert "few_rows: 12 rows; needed are 200" in section
    hidden = samples.judged(
        samples.finding("pass", value=12.0, interval=[11.0, 13.0], margin=-3.0, rows=[]),
        samples.finding("fail", slice="language=de"),
    )
    page = explaining.rule(hidden, "rank")
    assert page.startswith("rule rank: fail\n")
    assert "\nfail[rank[language=de]]: " in page
    assert "\npass[rank]: " in page


def test_many_slices_are_cut_with_a_line_that_counts_the_others() -> None:
    page = explained(*(samples.finding("fail", slice=f"site={number}") for number in range(25)))
    assert page.count("\n  fail  site=") == 20
    assert "  and 5 more, none of them worse\n" in page


def test_the_rows_that_drive_it_are_told_by_how_much_they_move_the_value() -> None:
    rows = [{"id": f"row-{i}", "influence": -50.0 + i} for i in range(12)]
    page = explained(samples.finding("fail", value=2.0, interval=[1.9, 2.1], n=500, rows=rows))
    section = page[page.index("rows that push rank most to its failing side") :].split("\n\n")[0].splitlines()
    assert section[1:3] == ["  row-0  -0.1", "  row-1  -0.098"]
    assert section[11:] == ["  and 2 more", "  Without these 12 rows the value would be about 3.068."]
    above = samples.finding("fail", value=0.99, interval=[0.98, 1.0], rows=rows, metric="knn_label_agreement")
    assert "Without these 12 rows the value would be about 1." in explained(above)  # no share is more than 1
    moved = samples.finding("fail", check="relative", value=-0.5, interval=[-0.6, -0.4], min=-0.1, rows=rows)
    assert "Without these 12 rows the change would be about 0.568." in explained(moved)


def test_rows_that_also_drive_a_slice_are_counted() -> None:
    rows = [{"id": f"row-{i}", "influence": -1.0} for i in range(6)]
    page = explained(
        samples.finding("fail", rows=rows),
        samples.finding("fail", slice="language=ja", rows=rows[:4]),
        samples.finding("fail", slice="language=de", rows=[{"id": "other", "influence": -1.0}]),
    )
    assert "\n  4 of them also drive language=ja.\n" in page
    both = [samples.finding("fail", slice="language=ja", check=check, rows=rows) for check in ("bound", "relative")]
    assert "also drive" not in explained(*both)


def test_other_read_outs_of_the_metric_are_told_with_what_they_are() -> None:
    page = explaining.rule(samples.recorded(), "rank")
    section = page[page.index("all that was recorded of effective_rank at layer embedding\n") :].split("\n\n")[0]
    names = [each["metric"] for each in samples.recorded()["estimates"] if each["metric"].startswith("effective_rank")]
    assert re.findall(r"^  (effective_rank\S*)  ", section, flags=re.MULTILINE) == names
    assert "effective_rank  2.172 [2.112, 2.233]" in re.sub(r" {2,}", "  ", section)
    document = samples.recorded()
    others = [{**each, "of": of} for of in ("baseline", "change") for each in document["estimates"]]
    sliced = [{**each, "slice": {"language": "ja"}} for each in document["estimates"]]
    document["estimates"] += [*others, *sliced]
    assert explaining.rule(document, "rank") == page


def test_a_number_that_was_refused_says_why_in_its_place() -> None:
    document = samples.recorded("error")
    refused = next(each for each in document["estimates"] if each["value"] is None)
    told = " ".join(recorded(document, refused["metric"]).split())
    assert f"{refused['metric']} - {refused['reason']}" in told
    assert recorded(document, refused["metric"], "no-such-layer") == ""


def test_waivers_and_dates_of_a_rule_are_told() -> None:
    page = explained(samples.finding("waived", waiver=samples.WAIVER, enforce_from="2027-01-15"))
    assert facts(page, "waived[rank]: ")["waiver"].startswith("New tokenizer halves ja coverage. - kenji@acme.example")
    assert facts(page, "rule rank: waived\n")["enforced"] == "warns until 2027-01-15, blocks from then on"
    idle: list[dict[str, Any]] = [
        {**samples.WAIVER, "rule": "rank", "model": "m", "slices": {}, "state": "expired"},
        {**samples.WAIVER, "rule": "rank", "model": "m", "slices": {}, "state": "used", "reason": "used elsewhere"},
        {**samples.WAIVER, "rule": "other", "model": "m", "slices": {}, "state": "unused", "reason": "of another"},
    ]
    told = facts(explained(samples.finding("fail"), waivers=idle), "rule rank: fail\n")["waiver"]
    assert told == "expired, until 2026-12-31: New tokenizer halves ja coverage. - kenji@acme.example"


def test_a_metric_that_this_version_does_not_know_is_explained_as_far_as_the_evidence_goes() -> None:
    page = explained(samples.finding("fail", metric="from_the_future"))
    assert "what from_the_future is\n  unknown  this version of gate has no such metric\n" in page


def test_a_read_out_is_told_with_the_metric_that_it_is_of() -> None:
    told = facts(meaning("effective_rank.share"), "what effective_rank.share is\n")
    assert (told["is"], told["see"]) == ("value / d", "gate metrics effective_rank.share")
    assert told["of"].startswith("effective_rank: ")
    assert told["better"].startswith("neither: ")
    assert facts(meaning("collapse_index"), "what collapse_index is\n")["better"] == "lower is better"


def test_an_overview_tells_what_did_not_pass_worst_first_with_the_command_that_says_more() -> None:
    page = explaining.overview(samples.everything(), source="--evidence a.json")
    assert page.startswith("ERROR  models:/digits/2 is blocked: ")
    assert re.findall(r"^(\w+(?: evaluated)?)\[", page, flags=re.MULTILINE) == [
        "error",
        "fail",
        "warn",
        "not evaluated",
    ]
    commands = re.findall(r"^  see +(gate explain .*)$", page, flags=re.MULTILINE)
    assert commands == [f"gate explain {rule} --evidence a.json" for rule in ("cone", "rank", "spread", "drift")]
    assert "\n  also  5 more findings of this rule did not pass\n" in page
    passed = explaining.overview(samples.recorded("passed"), source="--run 3f2a")
    assert "gate explain" not in passed
    assert re.search(r"^passed: .*\brank\b", passed, flags=re.MULTILINE)


@pytest.mark.parametrize("document", EVERY, ids=[*samples.RECORDED, "everything"])
def test_colour_changes_no_letter(document: dict[str, Any]) -> None:
    pages = [(explaining.overview(document, source="x"), explaining.overview(document, source="x", color=True))]
    pages += [
        (explaining.rule(document, rule), explaining.rule(document, rule, color=True))
        for rule in explaining.rules_of(document)
    ]
    for plain, coloured in pages:
        assert coloured != plain == ANSI.sub("", coloured)


def test_names_from_models_and_data_cannot_write_to_the_terminal() -> None:
    document = samples.hostile()
    pages = [explaining.overview(document, source="--run x")]
    pages += [explaining.rule(document, rule) for rule in explaining.rules_of(document)]
    for page in pages:
        assert all(char.isprintable() or char == "\n" for char in page)
