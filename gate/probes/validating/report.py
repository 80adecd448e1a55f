"""What was found out about a probe set, as text and as JSON, each from its document alone."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gate.probes.validation import Validation

SCHEMA = "gate.probe-validation/v1"
FORMATS = ("text", "json")
_BEGINNINGS = {
    "text": re.compile(r"PROBE SET (passed|warned|failed)  "),
    "json": re.compile(r'\{\s*"schema":\s*"gate\.probe-validation/v'),
}
_MOST_NAMED = 4  # columns of one check, in the report as text
_MARKS = {"passed": "ok", "warned": "warn", "failed": "FAIL"}


def report(validation: Validation, *, digest: str | None, slices_digest: str | None) -> dict[str, Any]:
    """The document of a validation, with every check.

    Args:
        validation: The validation.
        digest: Of the probe set; None where it has faults, and so none.
        slices_digest: The same with the columns by which alone the rows are cut.
    """
    return {
        "schema": SCHEMA,
        "uri": validation.uri,
        "digest": digest,
        "slices_digest": slices_digest,
        **validation.document,
        "checks": [
            {"name": check.name, "expectation": check.type, "frame": check.frame, "result": result}
            for check, result in validation.results()
        ],
    }


def render(format_: str, document: Mapping[str, Any]) -> str:
    """The document as `text` or `json`."""
    if format_ == "json":
        return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return "\n".join(_lines(document)) + "\n"


def is_report(beginning: str, format_: str) -> bool:
    """Whether a file that begins so is one that `render` made, or empty."""
    return not beginning or _BEGINNINGS[format_].match(beginning) is not None


def brief(name: str) -> str:
    """The name of a check with the first of its columns, where there are many: `width(p0, p1, p2 and 61 more)`."""
    fault, _, inner = name.partition("(")
    about, colon, which = inner.removesuffix(")").partition(": [")
    columns = about.split(", ")
    if len(columns) <= _MOST_NAMED:
        return name
    kept = columns[: _MOST_NAMED - 1]
    return f"{fault}({', '.join(kept)} and {len(columns) - len(kept)} more{colon}{which})"


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    yield f"PROBE SET {document['status']}  {document['uri']}"
    counts = [f"{document[key]} {key}" for key in ("rows", "classes", "groups") if document[key]]
    counts += [f"{split} {rows}" for split, rows in document["splits"].items()]
    yield f"  {', '.join(counts) or 'no rows'}"
    for key in ("digest", "slices_digest"):
        if document[key] is not None:
            yield f"  {key}: {document[key]}"
    yield ""
    for check in document["checks"]:
        yield f"  {_MARKS[check['result']]:<5}{brief(check['name'])}"
    if document["findings"]:
        yield ""
    for finding in document["findings"]:
        kind = "error" if finding["severity"] == "critical" else "warning"
        yield f"{kind}[{finding['fault']}]: {finding['message']}"
