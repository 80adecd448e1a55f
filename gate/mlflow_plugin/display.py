"""The verdict as the first line of a version's description, where MLflow's pages show it; nothing reads it back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient

_OURS = re.compile(
    r"\A(PASS|WARN|FAIL|INCONCLUSIVE|ERROR) gate - \d+/\d+ rules? holds? - \[report\]\(#/experiments/[\w/.-]+\)"
    r"(\r?\n\r?\n|\r?\n|\Z)"
)
_LONGEST = 5000  # characters that a store has room for


def first_line(word: str, document: Mapping[str, Any], report: str) -> str:
    """A verdict in plain words, such as `FAIL gate - 11/12 rules hold - [report](…)`.

    The table of versions shows its beginning as it is, the page of a version renders it. It holds no text of a model or
    of a policy, so that none of them can write into it.

    Args:
        word: The verdict.
        document: The evidence.
        report: Where the report is, relative to any page of MLflow: the browser knows the server, by its own name.
    """
    rules = {result["rule"] for result in document["results"]}
    broken = {result["rule"] for result in document["results"] if result["status"] != "pass"}
    hold = "rule holds" if len(rules) == 1 else "rules hold"
    return f"{word} gate - {len(rules - broken)}/{len(rules)} {hold} - [report]({report})"


def report_of(experiment: str, run_id: str, path: str) -> str:
    """The page of an artifact, relative to any page of MLflow."""
    return f"#/experiments/{experiment}/runs/{run_id}/artifacts/{path}"


def without_ours(description: str) -> str:
    """A description without our line."""
    return _OURS.sub("", description)


def put_first(client: MlflowClient, name: str, version: str, line: str | None) -> None:
    """Replace our line of an earlier check; what people wrote stays, and our line is left out where both have no room.

    Args:
        client: Of the registry.
        name: Of the registered model.
        version: Of it.
        line: Of `first_line`; None takes the earlier one away.
    """
    found = client.get_model_version(name, version).description or ""
    theirs = without_ours(found)
    wanted = "\n\n".join(part for part in (line, theirs) if part)
    if wanted != found and len(wanted) <= _LONGEST:
        client.update_model_version(name, version, wanted)
