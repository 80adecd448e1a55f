from __future__ import annotations

import re
from typing import Any

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from gate.evidence import junit
from tests.evidence import samples


def parsed(document: dict[str, Any]) -> TestSuite:
    (suite,) = JUnitXml.fromstring(junit.render(document))
    assert isinstance(suite, TestSuite)
    return suite


def case(name: str, document: dict[str, Any] | None = None) -> TestCase:
    return next(case for case in parsed(document or samples.everything()) if case.name == name)


def child(name: str, document: dict[str, Any] | None = None) -> Any:
    (result,) = case(name, document).result
    return result


def properties(document: dict[str, Any]) -> dict[str | None, str | None]:
    return {each.get("name"): each.get("value") for each in parsed(document)._elem.iter("property")}


@pytest.mark.parametrize("name", samples.RECORDED)
def test_a_recorded_document_has_a_case_for_every_finding(name: str) -> None:
    document = samples.recorded(name)
    names = [str(case.name) for case in parsed(document)]
    assert [re.split(r"\[| \(", name)[0] for name in names] == [result["rule"] for result in document["results"]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("document", [samples.recorded("error"), samples.everything(), samples.hostile()])
def test_the_counters_are_those_of_the_children(document: dict[str, Any]) -> None:
    suite, counters = parsed(document), ("tests", "failures", "errors", "skipped")
    written = [getattr(suite, counter) for counter in counters]
    suite.update_statistics()  # type: ignore[no-untyped-call]
    assert written == [getattr(suite, counter) for counter in counters]
    head = re.search(r"<testsuites [^>]+>", junit.render(document))
    assert head
    assert [int(number) for number in re.findall(r'(?:tests|failures|errors|skipped)="(\d+)"', head[0])] == written


def test_every_outcome_has_its_child() -> None:
    kinds = {(type(result), result.type) for case in parsed(samples.everything()) for result in case.result}
    assert kinds == {
        (Failure, "fail"),
        (Failure, "inconclusive"),
        (Error, "error"),
        (Skipped, "waived"),
        (Skipped, "not_evaluated"),
    }


def test_a_warning_is_a_passing_case_with_its_message_as_output() -> None:
    warned = case("rank (worst gap)")
    assert warned.is_passed
    assert warned.system_out.startswith("warning: effective_rank of layer 'embedding' is 2.17")
    assert case("rank").is_passed
    assert not case("rank").system_out


def test_a_failure_says_what_where_and_why() -> None:
    failure = child("rank[language=de]")
    assert failure.message == "effective_rank of layer 'embedding' is 2.17 [2.11, 2.23], must be at least 9"
    assert failure.text.startswith("--> policies/classifier.yaml:19:5\nwhy: Ten classes need nine directions; ")
    assert "\nfix: Lower the learning rate" in failure.text
    assert "\nrows: digit-0300, " in failure.text


def test_a_waived_finding_is_skipped_with_owner_date_and_reason() -> None:
    waived = "waived: New tokenizer halves ja coverage. - kenji@acme.example, until 2026-12-31 (RQ-204): effective"
    assert child("rank[language=ja]").message.startswith(waived)


def test_a_rule_of_a_pack_points_into_the_root_policy_and_names_the_pack() -> None:
    element = case("cone")._elem
    assert (element.get("file"), element.get("line")) == ("policies/a.yaml", "4")
    assert child("cone").text.startswith("--> embedding@1:7:5")


def test_names_hold_no_number_that_was_measured() -> None:
    document = samples.everything()
    names = [case.name for case in parsed(document)]
    for result in document["results"]:
        result.update(value=0.123, interval=[0.1, 0.2], n=77, message="another", status="pass")
    assert [case.name for case in parsed(document)] == names
    assert len(set(names)) == len(names)


def test_the_suite_is_the_policy_and_its_time_is_in_seconds() -> None:
    suite = parsed(samples.everything())
    assert (suite.name, suite.time, suite.timestamp) == ("classifier", 3.217, "2026-11-21T09:30:00+00:00")
    assert {case.classname for case in suite} == {"classifier"}
    assert all(case.time is None for case in suite)


def test_the_digests_are_properties() -> None:
    document = samples.everything()
    found = properties(document)
    assert found["model_digest"] == document["model"]["digest"]
    assert found["policy_digest"] == document["policy"]["digest"]
    assert found["probe_digest"] == document["probe"]["digest"]
    assert (found["status"], found["exit_code"], found["policy"]) == ("error", "3", "classifier@1.0.0")
    assert "baseline_digest" not in found
    baseline = {"uri": "models:/digits@champion", "resolved": "models:/digits/1", "digest": "sha256:11"}
    found = properties({**document, "baseline": baseline})
    assert (found["baseline"], found["baseline_digest"]) == ("models:/digits/1", "sha256:11")


def test_the_verdict_and_the_notes_are_the_output_of_the_suite() -> None:
    said = str(parsed(samples.everything())._elem.findtext("system-out")).splitlines()
    assert said[0].startswith("models:/digits/2 is blocked: of 11 findings 1 could not be evaluated")
    assert said[1:] == ["note: the waiver of rule 'x' matches nothing that failed; take it out"]


def test_names_from_models_and_data_stay_text() -> None:
    rendered = junit.render(samples.hostile())
    allowed = re.compile(r"[\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")  # XML 1.0 less tab and return
    assert allowed.fullmatch(rendered)
    assert "<script>" not in rendered
    name = next(case.name for case in parsed(samples.hostile()) if "language=de" in case.name)
    found = child(name, samples.hostile())
    assert "<script>alert(1)</script>" in found.message
    assert r"\x1b[2J\x00" in found.message
    assert found.text.count("\n") == 5
