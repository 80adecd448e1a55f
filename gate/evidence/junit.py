"""The evidence as JUnit XML, for the test pages of CI servers: a suite for the policy, a test case for each finding."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from gate.evidence import summary, wording

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree.ElementTree import Element

_CHILDREN = {
    "fail": "failure",
    "inconclusive": "failure",
    "error": "error",
    "warn": "system-out",  # a case with output only has passed
    "waived": "skipped",
    "not_evaluated": "skipped",
}
_COUNTERS = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def render(document: Mapping[str, Any]) -> str:
    """Render the evidence as JUnit XML.

    Args:
        document: The evidence.

    Returns:
        XML 1.0 that ends with a newline; a test case keeps its name from run to run.
    """
    suite = _suite(document)
    counters = {key: suite.attrib[key] for key in ("tests", *_COUNTERS, "time")}
    root = ET.Element("testsuites", {"name": "geometry-gate", **counters})
    root.append(suite)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(document: Mapping[str, Any]) -> Element:
    cases = [_case(document, result) for result in document["results"]]
    found = Counter(child.tag for case in cases for child in case)
    run = document["run"]
    attributes = {
        "name": wording.one_line(document["policy"]["name"]),
        "tests": str(len(cases)),
        **{counter: str(found[tag]) for counter, tag in _COUNTERS.items()},
        "time": f"{run['seconds']:.3f}",
        "timestamp": run["started"],
    }
    suite = ET.Element("testsuite", attributes)
    suite.append(_properties(document))
    suite.extend(cases)
    said = [wording.printable(summary.headline(document)), *(f"note: {note}" for note in summary.notes(document))]
    ET.SubElement(suite, "system-out").text = "\n".join(said)
    return suite


def _properties(document: Mapping[str, Any]) -> Element:
    model, policy, probe, run = (document[key] for key in ("model", "policy", "probe", "run"))
    facts = {
        "status": document["status"],
        "exit_code": document["exit_code"],
        "model": model["resolved"],
        "model_digest": model["digest"],
        "policy": summary.policy_name(document),
        "policy_digest": policy["digest"],
        "probe": probe["uri"],
        "probe_digest": probe["digest"],
        "baseline": summary.baseline(document),
        "baseline_digest": (document["baseline"] or {}).get("digest"),
        "gate_version": run["version"],
    }
    properties = ET.Element("properties")
    for name, fact in facts.items():
        if fact is not None:
            ET.SubElement(properties, "property", {"name": name, "value": wording.one_line(str(fact))})
    return properties


def _case(document: Mapping[str, Any], result: Mapping[str, Any]) -> Element:
    anchor = wording.anchor(document, result)
    attributes = {
        "name": wording.finding_name(result),
        "classname": wording.one_line(document["policy"]["name"]),
        "file": wording.printable(anchor.path),
        "line": str(anchor.line),
    }
    case = ET.Element("testcase", attributes)
    if result["status"] in _CHILDREN:
        case.append(_outcome(document, result))
    return case


def _outcome(document: Mapping[str, Any], result: Mapping[str, Any]) -> Element:
    message, place = wording.one_line(result["message"]), wording.printable(wording.place(document, result))
    told = [
        f"--> {place}",
        *(f"{label}: {text}" for label, text in wording.explained(result)),
    ]
    child = ET.Element(_CHILDREN[result["status"]])
    if child.tag == "system-out":
        told.insert(0, f"warning: {message}")
    else:
        child.attrib.update(type=result["status"], message=_excuse(result) or message)
    child.text = "\n".join(told)
    return child


def _excuse(result: Mapping[str, Any]) -> str | None:
    """What a skipped case says first: the waiver, with the message that it excuses."""
    waived = wording.waived(result)
    return None if waived is None else wording.one_line(f"waived: {waived}: {result['message']}")
