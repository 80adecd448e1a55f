"""The report in a real browser, without a network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gate.evidence import bundle, html
from tests.browsing import CHROMIUM, dumped

SAMPLES = Path(__file__).parent / "v1"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


def opened(page: Path, folder: Path) -> str:
    """The document as the browser has built it."""
    return dumped(page.as_uri(), folder)


@pytest.mark.parametrize("name", ["sample", "passed", "error"])
def test_the_report_shows_verdict_rules_and_pictures(tmp_path: Path, name: str) -> None:
    document = bundle.load(SAMPLES / f"{name}.json")
    page = tmp_path / "report.html"
    page.write_text(html.render(document), encoding="utf-8")
    dom = opened(page, tmp_path)
    text = re.sub(r"<[^>]+>", " ", dom)
    assert document["status"].upper() in text.upper()
    for result in document["results"]:
        assert result["rule"] in text
    assert dom.count("<svg") >= 3 + len(document["results"]) / 2
    assert "<parsererror" not in dom
