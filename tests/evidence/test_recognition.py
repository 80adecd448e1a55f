"""A report of the gate is known by its first lines, and nothing else is taken for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from gate.evidence import bundle, html, text
from gate.evidence.recognition import beginning, is_report

SAMPLES = Path(__file__).parent / "v1"
FORMATS = ("json", "html", "text")


@pytest.mark.parametrize("name", ["sample", "passed", "error"])
@pytest.mark.parametrize("format_", FORMATS)
def test_a_report_is_recognised_as_its_own_format_only(tmp_path: Path, name: str, format_: str) -> None:
    document = bundle.load(SAMPLES / f"{name}.json")
    render = {"json": bundle.dumps, "html": html.render, "text": text.render}[format_]
    (tmp_path / "report").write_text(render(document), encoding="utf-8")
    found = beginning(tmp_path / "report")
    assert [each for each in FORMATS if is_report(found, each)] == [format_]


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\xff\x93NUMPY",
        b"PAR1",
        b"{}",
        b'{"note": "gate.evidence/v1"}',
        b'{"note": {"schema": "gate.evidence/v1"}}',
        b'<!doctype html><html lang="en"><head><meta charset="utf-8"></head>',
        b'<p><meta name="generator" content="geometry-gate"></p>',
        b"# PASSED  models:/a/1 passes: the one rule held.\n1 rule: 1 passed, 0 failed\n",
        b"PASSED  models:/a/1 passes: the one rule held over the whole interval.\nand then my notes\n",
        b"PASSED  all of my exams\n12 rules: 4 passed, 3 failed\n",
        (SAMPLES / "classifier.yaml").read_bytes(),
    ],
)
def test_no_other_file_is_taken_for_a_report(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert not any(is_report(beginning(tmp_path / "file"), each) for each in FORMATS)
