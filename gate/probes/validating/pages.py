"""Data Docs without what would tell a third party that somebody looks at them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_SCRIPT = re.compile(
    r"<script\b[^>]*\bsrc\s*=\s*[\"']?(?:https?:)?//[^>]*>(?:.*?</script\s*>)?", re.IGNORECASE | re.DOTALL
)
_LINK = re.compile(r"<(?:link|img|iframe|source)\b[^>]*\b(?:href|src)\s*=\s*[\"']?(?:https?:)?//[^>]*>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"\b(href|src)\s*=\s*([\"'])(?:https?:)?//[^\"']*\2", re.IGNORECASE)
_IMPORT = re.compile(r"@import\s+[^;]*//[^;]*;|url\(\s*[\"']?(?:https?:)?//[^)]*\)", re.IGNORECASE)


def without_remote_references(page: str) -> str:
    """The page without scripts, styles, pictures and links that lie elsewhere; its tables stay."""
    page = _LINK.sub("", _SCRIPT.sub("", page))
    return _IMPORT.sub("", _ATTRIBUTE.sub("", page))


def strip(folder: Path) -> int:
    """The same of every page and style sheet below a folder; returns how many pages there are."""
    pages = 0
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".html", ".css"):
            path.write_text(without_remote_references(path.read_text(encoding="utf-8")), encoding="utf-8")
            pages += path.suffix == ".html"
    return pages
