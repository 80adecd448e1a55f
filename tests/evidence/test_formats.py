"""All formats are rendered from one document, and say the same of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from junitparser import JUnitXml
from markdown_it import MarkdownIt

from gate.cli import outputs
from gate.errors import UsageError
from gate.evidence import bundle, github, html, junit, markdown, sarif, text
from gate.evidence.recognition import beginning, is_report
from tests.evidence import samples

Found = set[tuple[str, str]]  # name of a finding, and its outcome

CHECKS = {"bound": "", "relative": " (relative)", "worst_gap": " (worst gap)"}
EVERY = {outcome: outcome for outcome in samples.OUTCOMES}
LEVELS = {"error": "error", "fail": "error", "inconclusive": "warning", "warn": "warning"}


@dataclass(frozen=True)
class Format:
    """How to render a document, read the findings back, and what the format calls each outcome that it shows."""

    render: Callable[[dict[str, Any]], str]
    read: Callable[[str], Found]
    words: Mapping[str, str]

    def expected(self, document: dict[str, Any]) -> Found:
        outcomes = {name(result): result["status"] for result in document["results"]}
        return {(key, self.words[outcome]) for key, outcome in outcomes.items() if outcome in self.words}


def name(result: dict[str, Any]) -> str:
    slice_ = "" if result["slice"] is None else f"[{result['slice']}]"
    return f"{result['rule']}{slice_}{CHECKS[result['check']]}"


def in_json(rendered: str) -> Found:
    return {(name(result), result["status"]) for result in json.loads(rendered)["results"]}


def in_junit(rendered: str) -> Found:
    (suite,) = JUnitXml.fromstring(rendered)
    passed = {True: "warn", False: "pass"}
    return {(case.name, case.result[0].type if case.result else passed[bool(case.system_out)]) for case in suite}


def in_sarif(rendered: str) -> Found:
    (run,) = json.loads(rendered)["runs"]
    return {(each["properties"]["finding"], each["properties"]["outcome"]) for each in run["results"]}


def in_github(rendered: str) -> Found:
    shown = re.findall(r"^::(\w+) title=gate \((.*?)\),file=", rendered, flags=re.MULTILINE)
    rest = "".join(re.findall(r"^::notice title=gate::and \d+ more: (.*)$", rendered, flags=re.MULTILINE))
    more = re.findall(rf"(?:^|, )(.+?) \(({'|'.join(EVERY).replace('_', ' ')})\)(?=, |$)", rest)
    named = {(key, LEVELS.get(word, "notice")) for key, word in more}
    return named | {(title.replace("%2C", ","), level) for level, title in shown}


def in_markdown(rendered: str) -> Found:
    page = MarkdownIt("commonmark").enable("table").render(rendered)
    rows = re.findall(r"<tr>\n<td><strong>(.*?)</strong>.*?</td>\n<td>\S+ ([\w ]+)</td>\n</tr>", page, flags=re.DOTALL)
    return {(unescape(key), word.replace(" ", "_")) for key, word in rows}


def in_text(rendered: str) -> Found:
    frames = re.findall(r"^(error|inconclusive|warning|waived|note)\[(.*)\]: ", rendered, flags=re.MULTILINE)
    passed = re.findall(r"^pass  (.+?)  ", rendered, flags=re.MULTILINE)
    return {(key, kind) for kind, key in frames} | {(key, "pass") for key in passed}


def in_html(rendered: str) -> Found:
    rules = rendered[: rendered.index("The shape of layer")]
    found = re.findall(r'<tbody class="(\w+)">.*?<td class="name"><b>(.*?)</b>', rules, flags=re.DOTALL)
    return {(unescape(key), status) for status, key in found}


FORMATS = {
    "json": Format(bundle.dumps, in_json, EVERY),
    "junit": Format(junit.render, in_junit, EVERY),
    "sarif": Format(sarif.render, in_sarif, {key: key for key in EVERY if key != "pass"}),
    "github": Format(github.render, in_github, {**LEVELS, "waived": "notice", "not_evaluated": "notice"}),
    "markdown": Format(markdown.render, in_markdown, EVERY),
    "text": Format(
        text.render,
        in_text,
        {**EVERY, "fail": "error", "warn": "warning", "not_evaluated": "note"},
    ),
    "html": Format(html.render, in_html, EVERY),
}


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("recording", samples.RECORDED)
def test_a_recorded_document_has_the_same_findings_and_outcomes_in_every_format(recording: str, format_: str) -> None:
    document, kind = samples.recorded(recording), FORMATS[format_]
    assert kind.read(kind.render(document)) == kind.expected(document)


@pytest.mark.parametrize("format_", FORMATS)
def test_slices_comparisons_and_every_outcome_are_in_every_format(format_: str) -> None:
    document, kind = samples.everything(), FORMATS[format_]
    assert kind.read(kind.render(document)) == kind.expected(document)
    assert {result["status"] for result in document["results"]} == set(EVERY)
    assert len(kind.expected(document)) == sum(result["status"] in kind.words for result in document["results"])


@pytest.mark.parametrize("format_", ["junit", "sarif", "github", "markdown"])
@pytest.mark.parametrize("recording", samples.RECORDED)
def test_a_document_without_the_later_keys_reads_the_same(recording: str, format_: str) -> None:
    render = FORMATS[format_].render
    assert render(samples.as_written(recording)) == render(samples.recorded(recording))


@pytest.mark.parametrize("recording", samples.RECORDED)
def test_the_formats_carry_one_exit_code_and_one_verdict(recording: str) -> None:
    document = samples.recorded(recording)
    (run,) = json.loads(sarif.render(document))["runs"]
    (suite,) = JUnitXml.fromstring(junit.render(document))
    properties = {each.get("name"): each.get("value") for each in suite._elem.iter("property")}
    assert run["invocations"][0]["exitCode"] == document["exit_code"]
    assert (properties["exit_code"], properties["status"]) == (str(document["exit_code"]), document["status"])
    assert f"| exit code | {document['exit_code']} |" in markdown.render(document)
    verdict = document["status"].upper()
    assert text.render(document).startswith(f"{verdict}  ")
    assert github.render(document).startswith(f"gate: {verdict}  ")
    assert re.match(rf"### \S+ {verdict}: ", markdown.render(document))


DOCUMENTS = [*(samples.recorded(name) for name in samples.RECORDED), samples.everything(), samples.hostile()]


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("format_", FORMATS)
def test_a_report_is_recognised_as_its_own_format_only(tmp_path: Path, document: dict[str, Any], format_: str) -> None:
    (tmp_path / "report").write_text(FORMATS[format_].render(document), encoding="utf-8", errors="replace")
    found = beginning(tmp_path / "report")
    assert [each for each in FORMATS if is_report(found, each)] == [format_]


@pytest.mark.parametrize(
    "content",
    [
        '<?xml version="1.0" encoding="utf-8"?>\n<testsuites name="pytest tests">',
        '<?xml version="1.0" encoding="utf-8"?>\n<testsuites><testsuite name="geometry-gate"/></testsuites>',
        '{"$schema": "s", "version": "2.1.0", "runs": [{"tool": {"driver": {"name": "ruff", "rules": []}}}]}',
        '{"runs": [{"tool": {"driver": {"name": "geometry-gate"}}}]}',
        "::error title=gate (rank),file=a.yaml,line=1::short\n",
        "gate: open from nine to five\n",
        "### ✅ PASSED: all of my exams\n\nwith honours\n",
        "# Notes\n\n<!-- geometry-gate -->\n",
    ],
)
def test_no_other_file_is_taken_for_a_report(content: str) -> None:
    assert not any(is_report(content, format_) for format_ in FORMATS)


def test_every_format_that_can_be_asked_for_is_written_and_may_be_written_again(tmp_path: Path) -> None:
    assert set(outputs.FORMATS) == set(FORMATS)
    requests = [f"{format_}={tmp_path / format_}" for format_ in outputs.FORMATS]
    document = samples.recorded()
    for _ in range(2):
        outputs.write(outputs.parse(requests), document)
        for format_, kind in FORMATS.items():
            assert (tmp_path / format_).read_text(encoding="utf-8").rstrip() == kind.render(document).rstrip()
    outputs.remove_stale(outputs.parse(requests), inputs=[], model_uri="models:/a/1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format_", FORMATS)
def test_a_report_of_another_format_is_not_overwritten(tmp_path: Path, format_: str) -> None:
    path, other = tmp_path / "report", "junit" if format_ == "sarif" else "sarif"
    path.write_text(FORMATS[other].render(samples.recorded()), encoding="utf-8")
    with pytest.raises(UsageError, match=f"is no {format_} report of the gate"):
        outputs.write(outputs.parse([f"{format_}={path}"]), samples.recorded())
