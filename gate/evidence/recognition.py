"""Whether a file is a report that an earlier check wrote: no other file may be removed or overwritten."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_READ = 1 << 16  # characters: a report tells what it is in its first lines
_VERDICT = r"(PASSED|WARNED|FAILED|INCONCLUSIVE|ERROR)"
_HEADLINE = r"[^\n]+ (passes|passes with warnings|is blocked): [^\n]+\n"
_TALLY = r"\d+ (rules?|findings of \d+ rules?): \d+ passed, "
_BEGINNINGS = {
    "json": re.compile(r'\{\s*"schema":\s*"gate\.evidence/v'),
    "html": re.compile(
        r'<!doctype html>\s*<html lang="en">\s*<head>\s*<meta charset="utf-8">\s*'
        r'<meta name="generator" content="geometry-gate">'
    ),
    "junit": re.compile(r'<\?xml version="1\.0" encoding="utf-8"\?>\s*<testsuites name="geometry-gate" '),
    "sarif": re.compile(
        r'\{\s*"\$schema":\s*"[^"]+",\s*"version":\s*"2\.1\.0",\s*'
        r'"runs":\s*\[\s*\{\s*"tool":\s*\{\s*"driver":\s*\{\s*"name":\s*"geometry-gate",'
    ),
    "github": re.compile(rf"gate: {_VERDICT}  {_HEADLINE}gate: {_TALLY}"),
    "markdown": re.compile(rf"### \S+ {_VERDICT}: [^\n]+\n\n<!-- geometry-gate -->\n"),
    "text": re.compile(rf"{_VERDICT}  {_HEADLINE}{_TALLY}"),
}


def beginning(path: Path) -> str:
    """The first characters of a file; a byte that is no UTF-8 is replaced.

    Args:
        path: Any file that can be read.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(_READ)


def is_report(text: str, format_: str) -> bool:
    """Whether a file that begins so is a report of this format, or empty, so that nothing is lost with it.

    Args:
        text: As `beginning` gives it.
        format_: `text`, `json`, `junit`, `sarif`, `github`, `markdown` or `html`.
    """
    return not text or _BEGINNINGS[format_].match(text) is not None
