from __future__ import annotations

import json
import re
from typing import Any

import pytest
from pydantic_sarif import model  # type: ignore[import-untyped]

from gate.evidence import sarif
from tests.evidence import samples

# Strict models, generated from the last draft of the OASIS schema of SARIF 2.1.0: an unknown key, a missing one or
# another type is refused. Of all keys and requirements, the standard changed one name after that.
Log = model.StaticAnalysisResultsFormatSarifVersion210JsonSchema
STANDARD, DRAFT = '"status": "accepted"', '"state": "accepted"'


def run(document: dict[str, Any] | None = None) -> dict[str, Any]:
    (only,) = json.loads(sarif.render(document or samples.everything()))["runs"]
    return dict(only)


def results(document: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    return {result["properties"]["finding"]: result for result in run(document)["results"]}


def nothing_evaluated() -> dict[str, Any]:
    return samples.judged(samples.finding("not_evaluated", min=None, max=None, value=None, interval=None, why=None))


DOCUMENTS = [
    *(samples.recorded(name) for name in samples.RECORDED),
    samples.everything(),
    samples.hostile(),
    nothing_evaluated(),
    samples.judged(),
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_log_is_what_the_standard_allows(document: dict[str, Any]) -> None:
    rendered = sarif.render(document).replace(STANDARD, DRAFT)
    log = Log.model_validate_json(rendered, strict=True)
    assert log.model_dump(mode="json", by_alias=True, exclude_unset=True) == json.loads(rendered)
    assert "null" not in re.sub(r'"(?:[^"\\]|\\.)*"', "", rendered)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_code_scanning_finds_all_that_it_requires(document: dict[str, Any]) -> None:
    found = run(document)
    rules = found["tool"]["driver"]["rules"]
    for rule in rules:
        texts = [rule[key]["text"] for key in ("shortDescription", "fullDescription", "help")]
        assert all(texts)
        assert all(len(text) <= 1024 for text in texts[:2])
    for result in found["results"]:
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert place["artifactLocation"]["uri"]
        assert place["region"]["startLine"] >= 1
        assert result["message"]["text"]
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]


@pytest.mark.parametrize("name", samples.RECORDED)
def test_every_rule_of_the_policy_is_declared_once_in_its_order(name: str) -> None:
    document = samples.recorded(name)
    rules = [rule["id"] for rule in run(document)["tool"]["driver"]["rules"]]
    assert rules == list(dict.fromkeys(result["rule"] for result in document["results"]))
    assert [rule["id"] for rule in run()["tool"]["driver"]["rules"]] == ["rank", "cone", "drift", "spread"]


def test_a_model_that_passed_has_rules_and_no_results() -> None:
    found = run(samples.recorded("passed"))
    assert (len(found["tool"]["driver"]["rules"]), found["results"]) == (10, [])


@pytest.mark.parametrize(
    ("status", "level"),
    [
        ("fail", "error"),
        ("error", "error"),
        ("inconclusive", "warning"),
        ("warn", "warning"),
        ("waived", "note"),
        ("not_evaluated", "note"),
    ],
)
def test_an_outcome_has_its_level(status: str, level: str) -> None:
    (result,) = run(samples.judged(samples.finding(status)))["results"]
    assert (result["level"], result["properties"]["outcome"]) == (level, status)


def test_a_rule_says_what_it_asks_for_why_and_how_to_help() -> None:
    rank, cone, drift, spread = run()["tool"]["driver"]["rules"]
    assert rank["shortDescription"]["text"] == "effective_rank of layer 'embedding': at least 9"
    assert rank["fullDescription"]["text"].startswith("Ten classes need nine directions")
    assert rank["help"]["text"].splitlines()[2] == "paper: Roy and Vetterli 2007, EUSIPCO"
    assert (cone["helpUri"], "helpUri" in spread) == ("https://acme.example/cone?a=1", False)
    assert [rule["defaultConfiguration"]["level"] for rule in (drift, spread)] == ["error", "warning"]


def test_a_result_names_the_finding_and_what_was_measured() -> None:
    text = results()["rank[language=de]"]["message"]["text"]
    assert text == "rank[language=de]: effective_rank of layer 'embedding' is 2.17 [2.11, 2.23], must be at least 9"


def test_a_result_points_at_the_root_policy() -> None:
    place = results()["cone"]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "policies/a.yaml"}
    assert place["region"] == {"startLine": 4, "startColumn": 3, "endLine": 4}
    old = results(samples.as_written())["rank"]["locations"][0]["physicalLocation"]
    assert old["artifactLocation"] == {"uri": "policies/classifier.yaml"}
    assert old["region"] == {"startLine": 19, "startColumn": 5, "endLine": 19}


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("./policies/a.yaml", "policies/a.yaml"),
        ("ci/../policies/a b%.yaml", "policies/a%20b%25.yaml"),
        ("/srv/policies/a.yaml", "/srv/policies/a.yaml"),
    ],
)
def test_a_path_is_a_uri_without_detours_and_never_a_file_url(path: str, uri: str) -> None:
    anchor = {"path": path, "line": 2, "column": 1}
    (result,) = run(samples.judged(samples.finding(anchor=anchor)))["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri


def test_a_place_that_is_not_known_is_the_first_line() -> None:
    document = samples.recorded()
    document["results"][1].update(anchor=None, policy_line=None, policy_column=None)
    region = results(document)["rank"]["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 1, "startColumn": 1, "endLine": 1}


def test_a_waiver_is_a_suppression() -> None:
    found = results()
    assert found["rank[language=ja]"]["suppressions"] == [
        {
            "kind": "external",
            "status": "accepted",
            "justification": "New tokenizer halves ja coverage. - kenji@acme.example, until 2026-12-31 (RQ-204)",
        }
    ]
    assert [name for name, result in found.items() if "suppressions" in result] == ["rank[language=ja]"]


def fingerprints(**model: Any) -> list[str]:
    document = samples.everything()
    document["model"].update(model)
    return [result["partialFingerprints"]["primaryLocationLineHash"] for result in run(document)["results"]]


def test_a_fingerprint_is_that_of_model_rule_and_slice() -> None:
    found = fingerprints()
    assert len(set(found)) == len(found) == 9
    assert fingerprints(version="9", resolved="models:/digits/9", uri="models:/digits@a", digest="sha256:9") == found
    assert not set(fingerprints(name="letters")) & set(found)
    assert not set(fingerprints(name=None, uri="features:a.npy")) & set(fingerprints(name=None, uri="features:b.npy"))


def test_models_are_series_of_their_own() -> None:
    assert run()["automationDetails"] == {"id": "gate/classifier/digits/"}


@pytest.mark.parametrize(
    ("code", "successful"), [(0, True), (1, True), (4, True), (6, True), (7, True), (2, False), (3, False), (5, False)]
)
def test_a_run_that_judged_nothing_was_not_successful(code: int, successful: bool) -> None:
    (invocation,) = run({**samples.recorded(), "exit_code": code})["invocations"]
    assert invocation == {"executionSuccessful": successful, "exitCode": code}


def test_notes_of_the_run_are_notifications() -> None:
    (note,) = run()["invocations"][0]["toolConfigurationNotifications"]
    assert note["level"] == "warning"
    assert note["message"]["text"].startswith("the waiver of rule 'x' matches nothing")


def test_the_tool_has_its_version_where_it_is_known() -> None:
    document = samples.recorded()
    assert run(document)["tool"]["driver"]["version"] == "0.1.0"
    document["run"]["version"] = None
    assert "version" not in run(document)["tool"]["driver"]


def test_names_from_models_and_data_stay_text() -> None:
    rendered = sarif.render(samples.hostile())
    assert all(char.isprintable() or char == "\n" for char in rendered)
    shown = re.findall(r'"(?:text|justification)": "(?:[^"\\]|\\.)*"', rendered)
    assert len(shown) > 20
    assert all("](" not in text for text in shown)
    assert all("\n" not in result["message"]["text"] for result in run(samples.hostile())["results"])
