"""What became of policy tests, as text and as JUnit XML."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from gate.evidence.layout import painter
from gate.evidence.wording import one_line, printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

    from gate.policy_tests.files import Suite
    from gate.policy_tests.running import Tested

    Results = Sequence[tuple[Suite, Sequence[Tested]]]

FORMATS = ("text", "junit")
_BEGINNINGS = {
    "text": re.compile(r"(ok|FAILED)  \d+ policy tests?: "),
    "junit": re.compile(r'<\?xml version="1\.0" encoding="utf-8"\?>\s*<testsuites name="geometry-gate policy tests" '),
}


def render(format_: str, results: Results, *, color: bool = False) -> str:
    """The results in one of `FORMATS`.

    Args:
        format_: `text` or `junit`.
        results: Every file, and what became of its tests.
        color: Whether text takes ANSI colours.
    """
    return junit(results) if format_ == "junit" else text(results, color=color)


def is_report(beginning: str, format_: str) -> bool:
    """Whether a file that begins so is one that `render` made, or empty."""
    return not beginning or _BEGINNINGS[format_].match(beginning) is not None


def text(results: Results, *, color: bool = False) -> str:
    """A line for every test, and beneath it what is not as expected."""
    paint = painter(color=color)
    tested = [each for _, tests in results for each in tests]
    failed = sum(not each.passed for each in tested)
    word = paint("FAILED", "failed") if failed else paint("ok", "pass")
    count = f"{len(tested)} policy test{'' if len(tested) == 1 else 's'}"
    lines = [f"{word}  {count}: {len(tested) - failed} passed, {failed} failed"]
    for suite, tests in results:
        lines += ["", printable(f"{suite.path} ({suite.policy.policy.metadata.name}, {suite.policy.path})")]
        for each in tests:
            sign = paint("pass", "pass") if each.passed else paint("FAIL", "fail")
            lines.append(f"  {sign}  {one_line(each.name)}")
            if not each.passed:
                lines.append(printable(f"    --> {each.path}:{each.line}"))
                lines += [f"     = {one_line(complaint)}" for complaint in each.complaints]
    return "\n".join(lines) + "\n"


def junit(results: Results) -> str:
    """A suite for every file, a case for every test; the names stay the same from run to run."""
    root = ET.Element("testsuites", {"name": "geometry-gate policy tests", **_counters([t for _, t in results])})
    for suite, tests in results:
        element = ET.SubElement(root, "testsuite", {"name": one_line(suite.path), **_counters([tests])})
        element.extend(_case(suite, each) for each in tests)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _counters(suites: Sequence[Sequence[Tested]]) -> dict[str, str]:
    tested = [each for tests in suites for each in tests]
    failed = sum(not each.passed for each in tested)
    return {"tests": str(len(tested)), "failures": str(failed), "errors": "0", "skipped": "0", "time": "0.000"}


def _case(suite: Suite, tested: Tested) -> Element:
    names = {"name": one_line(tested.name), "classname": one_line(suite.policy.policy.metadata.name)}
    case = ET.Element("testcase", {**names, "file": printable(tested.path), "line": str(tested.line)})
    if not tested.passed:
        complaints = [one_line(complaint) for complaint in tested.complaints]
        failure = ET.SubElement(case, "failure", {"type": "unexpected", "message": complaints[0]})
        failure.text = "\n".join([f"--> {printable(tested.path)}:{tested.line}", *complaints])
    return case
