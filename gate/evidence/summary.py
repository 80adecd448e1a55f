"""What every rendering of the evidence says of the whole run: its verdict, its counts, what it was measured on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from gate.evidence.wording import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

COUNTED = {
    "pass": "passed",
    "fail": "failed",
    "inconclusive": "inconclusive",
    "warn": "warned",
    "waived": "waived",
    "not_evaluated": "not evaluated",
    "error": "errors",
}
WORST_FIRST = ("error", "fail", "inconclusive", "warn", "not_evaluated", "waived", "pass")
_CLUSTERS = re.compile(r", (\d+) clusters$")  # the end of a method that knows of rows that belong together
_SAMPLED = 8192  # of more rows only a sample is kept, and the clusters counted are those of the sample
_FEW_CLUSTERS = 30


def headline(document: Mapping[str, Any]) -> str:
    """The verdict in one sentence.

    Args:
        document: The evidence.
    """
    counts, found = document["counts"], _findings(document)
    model, status = document["model"]["resolved"], document["status"]
    if status == "passed":
        return f"{model} passes: {_held(document)}."
    if status == "warned":
        return f"{model} passes with warnings: {counts['warn']} of {found} warned."
    blocking = [
        f"{counts[outcome]} {words}"
        for outcome, words in (
            ("error", "could not be evaluated"),
            ("fail", "failed"),
            ("inconclusive", "could not be decided"),
        )
        if counts[outcome]
    ]
    if not blocking:
        return f"{model} is blocked: nothing was evaluated, and silence is not a pass."
    return f"{model} is blocked: of {found} {_listed(blocking)}."


def tally(document: Mapping[str, Any]) -> str:
    """The number of findings of every outcome, in one line: of rules, where each has one finding.

    Args:
        document: The evidence.
    """
    rules, found = _rules(_rule_count(document)), _findings(document)
    judged = rules if rules == found else f"{found} of {rules}"
    return f"{judged}: {', '.join(counted(document, outcome) for outcome in COUNTED)}"


def counted(document: Mapping[str, Any], outcome: str) -> str:
    """The number of findings of one outcome, such as `3 failed`.

    Args:
        document: The evidence.
        outcome: A key of `counts`.
    """
    count = document["counts"][outcome]
    return "1 error" if (outcome, count) == ("error", 1) else f"{count} {COUNTED[outcome]}"


def worst_first(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The results by severity of their outcome, in the order of the policy within each.

    Args:
        document: The evidence.
    """
    return sorted(document["results"], key=lambda result: WORST_FIRST.index(result["status"]))


def policy_name(document: Mapping[str, Any]) -> str:
    """Name and version of the policy, such as `classifier@1.0.0`.

    Args:
        document: The evidence.
    """
    policy = document["policy"]
    return f"{policy['name']}@{policy['version']}" if policy["version"] else str(policy["name"])


def baseline(document: Mapping[str, Any]) -> str:
    """The model that it was compared with, or why there was none.

    Args:
        document: The evidence.
    """
    found = document["baseline"]
    return str(document["baseline_reason"] if found is None else found.get("resolved") or found["uri"])


def rows(document: Mapping[str, Any]) -> str:
    """The rows that were judged, such as `1797 rows in 150 clusters`; those of other splits are not.

    Args:
        document: The evidence.
    """
    probe, clusters = document["probe"], _clusters(document)
    n = (probe.get("validation") or {}).get("splits", {}).get("probe", probe["rows"])
    counted_rows = "1 row" if n == 1 else f"{n} rows"
    if clusters is None:
        return counted_rows
    at_least = "at least " if n > _SAMPLED else ""
    return f"{counted_rows} in {at_least}{clusters} cluster{'' if clusters == 1 else 's'}"


def notes(document: Mapping[str, Any]) -> list[str]:
    """What people are told of the whole run, such as a waiver that matches nothing.

    Args:
        document: The evidence.
    """
    few = caution(document)
    return [*map(one_line, document.get("notes", ())), *([few.removeprefix("note: ")] if few else [])]


def caution(document: Mapping[str, Any]) -> str | None:
    """What to know before reading any interval; None when there is nothing.

    Args:
        document: The evidence.
    """
    clusters = _clusters(document)
    if clusters is None or clusters >= _FEW_CLUSTERS:
        return None
    return f"note: fewer than {_FEW_CLUSTERS} clusters, so intervals are rough; add rows of further clusters"


def _clusters(document: Mapping[str, Any]) -> int | None:
    """Number of clusters, None when rows count as independent."""
    methods = (each["method"] or "" for each in (*document["estimates"], *document["results"]))
    return max((int(found.group(1)) for method in methods if (found := _CLUSTERS.search(method))), default=None)


def _held(document: Mapping[str, Any]) -> str:
    counts = document["counts"]
    excused = [f"{counts[outcome]} {COUNTED[outcome]}" for outcome in ("waived", "not_evaluated") if counts[outcome]]
    if not excused:
        rules = _rule_count(document)
        return f"{'the one rule' if rules == 1 else f'all {rules} rules'} held over the whole interval"
    others = "; the others held over the whole interval" if counts["pass"] else ""
    return f"of {_findings(document)} {_listed(excused)}{others}"


def _findings(document: Mapping[str, Any]) -> str:
    """The number of findings, called rules as long as each rule has one."""
    total, rules = len(document["results"]), _rule_count(document)
    return _rules(rules) if total == rules else f"{total} findings"


def _rule_count(document: Mapping[str, Any]) -> int:
    return len({result["rule"] for result in document["results"]})


def _rules(count: int) -> str:
    return "1 rule" if count == 1 else f"{count} rules"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def kept(model: Mapping[str, Any]) -> str | None:
    """How a model was kept from everything else while it ran; None where none ran, or evidence does not say.

    Args:
        model: Of the evidence, the candidate or the baseline.
    """
    isolation = model.get("isolation")
    if not isolation:
        return None
    if isolation["mode"] == "none":
        return "not at all: it ran in the process of the gate"
    bounded = ", ".join(what for what in isolation if what not in ("mode", "missing"))
    lacking = [f"not to be had: {what}" for what in isolation.get("missing", ())]
    return "; ".join(
        [f"in a process of its own, with bounds on {bounded}" if bounded else "in a process of its own", *lacking]
    )


def expected(probe: Mapping[str, Any]) -> str | None:
    """What the probe set was held against, and what came of it; None where evidence does not say.

    Args:
        probe: Of the evidence.
    """
    validation = probe.get("validation")
    if not validation or "expectations_checked" not in validation:
        return None
    splits = ", ".join(f"{rows} {split}" for split, rows in validation["splits"].items())
    checked = f"{validation['status']}: {validation['expectations_checked']} expectations, {validation['engine']}"
    return checked + (f"; rows: {splits}" if splits else "")
