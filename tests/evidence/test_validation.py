"""Documents that lack something or contradict themselves are not trusted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from gate.errors import GateError, UsageError
from gate.evidence import bundle
from gate.evidence.validation import validate
from tests.evidence.samples import WAIVER

SAMPLES = Path(__file__).parent / "v1"


def sample(name: str = "sample") -> dict[str, Any]:
    return bundle.load(SAMPLES / f"{name}.json")


@pytest.mark.parametrize(
    ("part", "key", "where"),
    [((), "results", "the document"), (("policy",), "text", "policy"), (("results", 2), "message", r"results\[2\]")],
)
def test_a_missing_key_is_named(part: tuple[str | int, ...], key: str, where: str) -> None:
    document = sample()
    found: Any = document
    for step in part:
        found = found[step]
    del found[key]
    with pytest.raises(UsageError, match=f"{where} lacks {key}"):
        validate(document)


@pytest.mark.parametrize("value", [None, math.nan, True, "0.5"])
def test_a_pass_without_a_finite_number_is_not_trusted(value: object) -> None:
    document = sample("passed")
    document["results"][0]["value"] = value
    with pytest.raises(GateError, match="rule 'collapse' passed without a finite value and interval"):
        validate(document)


def test_counts_that_the_results_do_not_bear_out_are_not_trusted() -> None:
    document = sample()
    document["results"][0]["status"] = "warn"
    with pytest.raises(GateError, match="but its results are"):
        validate(document)


def test_a_status_that_the_results_do_not_bear_out_is_not_trusted() -> None:
    document = sample()
    document["status"] = "passed"
    with pytest.raises(GateError, match="it says 'passed', but its results add up to 'failed'"):
        validate(document)


def test_evidence_without_a_result_is_never_passed() -> None:
    document = sample("passed")
    document["results"] = []
    document["counts"] = dict.fromkeys(document["counts"], 0)
    with pytest.raises(GateError, match="add up to 'error'"):
        validate(document)


@pytest.mark.parametrize("code", [1, 3, 6, False, "0", None])
def test_an_exit_code_that_does_not_fit_the_status_is_not_trusted(code: object) -> None:
    document = sample("passed")
    document["exit_code"] = code
    with pytest.raises(GateError, match="it says 'passed' with the exit code"):
        validate(document)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"status": "passd"}, "has the unknown status 'passd'"),
        ({"status": ["pass"]}, r"has the unknown status \['pass'\]"),
        ({"max": None}, "has the bounds None and None, expected one number or two"),
        ({"max": "0.85"}, "has the bounds None and '0.85'"),
        ({"interval": []}, "passed without a finite value and interval"),
        ({"interval": [0.1]}, r"has the interval \[0.1\], expected two finite numbers"),
        ({"interval": [0.1, 0.2, 0.3]}, "has the interval .* expected two finite numbers"),
        ({"interval": [0.1, "0.3"]}, "has the interval .* expected two finite numbers"),
        ({"interval": [0.3, 0.1]}, "has the value .* outside its interval"),
        ({"value": 0.3}, "has the value 0.3 outside its interval"),
        ({"value": 0.5, "interval": [0.1, 0.9]}, "passed with the interval .* outside its bounds"),
        ({"min": 0.2}, "passed with the interval .* outside its bounds"),
    ],
)
def test_a_result_that_contradicts_itself_is_not_trusted(fields: dict[str, object], message: str) -> None:
    document = sample("passed")
    document["results"][0].update(fields)
    with pytest.raises(GateError, match=f"rule 'collapse' {message}"):
        validate(document)


def test_a_failing_value_outside_its_interval_is_not_trusted() -> None:
    document = sample()
    document["results"][0]["value"] = 0.1
    with pytest.raises(GateError, match=r"has the value .* outside its interval"):
        validate(document)


@pytest.mark.parametrize(("key", "value"), [("text", "another\n"), ("text", "\ud800"), ("digest", None)])
def test_a_policy_whose_digest_is_not_that_of_its_text_is_not_trusted(key: str, value: object) -> None:
    document = sample()
    document["policy"][key] = value
    with pytest.raises(GateError, match=r"is not that of its (text|first source|sources)"):
        validate(document)


@pytest.mark.parametrize(("status", "waiver"), [("waived", None), ("pass", WAIVER), ("fail", WAIVER)])
def test_what_is_waived_has_a_waiver_and_nothing_else_has(status: str, waiver: object) -> None:
    document = sample("passed")
    document["results"][0].update(status=status, waiver=waiver)
    document["counts"] = {**document["counts"], "pass": document["counts"]["pass"] - 1}
    document["counts"][status] += 1
    with pytest.raises(GateError, match=f"has the status '{status}' and the waiver "):
        validate(document)


@pytest.mark.parametrize(("evaluated", "code"), [(False, 3), (False, 0), (True, 5)])
def test_nothing_evaluated_is_code_5_and_code_5_is_nothing_evaluated(evaluated: bool, code: int) -> None:
    document = sample("error")
    if not evaluated:
        for result in document["results"]:
            result["status"] = "not_evaluated"
        document["counts"] = dict.fromkeys(document["counts"], 0) | {"not_evaluated": len(document["results"])}
    document["exit_code"] = 3 if evaluated else 5
    validate(document)
    document["exit_code"] = code
    with pytest.raises(GateError, match=f"it says 'error' with the exit code {code}"):
        validate(document)


def test_every_source_of_a_policy_is_held_to_its_digest() -> None:
    for change in ({"text": "another\n"}, {"digest": "sha256:" + "0" * 64}):
        document = sample("compared")
        assert len(document["policy"]["sources"]) == 2
        document["policy"]["sources"][1].update(change)
        with pytest.raises(GateError, match="is not that of its text"):
            validate(document)
    document = sample("compared")
    document["policy"]["sources"].pop()
    with pytest.raises(GateError, match="is not that of its sources"):
        validate(document)
    document = sample("compared")
    document["policy"]["sources"].reverse()
    with pytest.raises(GateError, match="is not that of its first source"):
        validate(document)
