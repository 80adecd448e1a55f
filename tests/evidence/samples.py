"""Documents to render: those that were recorded, and one with every kind of finding."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from gate.evidence import bundle

RECORDED = tuple(sorted(path.stem for path in (Path(__file__).parent / "v1").glob("*.json")))
OUTCOMES = ("pass", "fail", "inconclusive", "warn", "waived", "not_evaluated", "error")
HOSTILE = (
    "a\nb\r|c|<script>alert(1)</script></summary>`d`::error file=x::%0A,e: \x1b[2J\x00\x0b\ufffe\ud800\u202e"
    "*f* _g_ ~~h~~ [i](https://evil.example) ![j](k) @octocat ##[error]l ]]>&amp;&#10;\\| {0} <!-- m"
)
WAIVER = {
    "owner": "kenji@acme.example",
    "reason": "New tokenizer halves ja coverage.",
    "expires": "2026-12-31",
    "ticket": "RQ-204",
    "approver": None,
}


def recorded(name: str = "sample") -> dict[str, Any]:
    return bundle.load(Path(__file__).parent / "v1" / f"{name}.json")


def as_written(name: str = "sample") -> dict[str, Any]:
    """The document as the version of the gate that recorded it left it, without the keys that came later."""
    document: dict[str, Any] = json.loads((Path(__file__).parent / "v1" / f"{name}.json").read_text(encoding="utf-8"))
    return document


@cache
def rank() -> dict[str, Any]:
    return next(result for result in recorded()["results"] if result["rule"] == "rank")


def finding(status: str = "fail", **changes: Any) -> dict[str, Any]:
    """The recorded failure of the rule `rank`, changed, with the keys that evidence has by now."""
    result = rank()
    later = {
        "check": "bound",
        "policy_path": "policies/classifier.yaml",
        "anchor": {"path": "policies/classifier.yaml", "line": result["policy_line"], "column": 5},
        "baseline": None,
        "confidence": 0.95,
        "paper": None,
        "enforce_from": None,
    }
    return {**result, **later, "status": status, **changes}


def judged(*results: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A document of these findings: its counts, status and exit code are those of the findings."""
    found = Counter(result["status"] for result in results)
    worst = (("error", "error", 3), ("fail", "failed", 1), ("inconclusive", "inconclusive", 4), ("warn", "warned", 0))
    decided = next(((status, code) for outcome, status, code in worst if found[outcome]), ("passed", 0))
    status, code = decided if found.keys() - {"not_evaluated"} else ("error", 5)
    counts = {outcome: found[outcome] for outcome in OUTCOMES}
    return {**recorded(), "results": list(results), "counts": counts, "status": status, "exit_code": code, **changes}


def everything() -> dict[str, Any]:
    """Every outcome and every check; of the rules, one with slices and one from a pack."""
    low = {"min": -0.02, "max": None, "value": -0.05, "interval": [-0.06, -0.04], "baseline": 2.25}
    gap = {"min": None, "max": 0.1, "value": 0.15, "interval": [0.11, 0.19]}
    small: dict[str, Any] = {
        "value": None,
        "interval": None,
        "reason": "few_rows: 12 rows; needed are 200",
        "rows": [],
        "n": 12,
    }
    place = {"path": "policies/a.yaml", "line": 4, "column": 3}
    pack = {"policy_path": "embedding@1", "policy_line": 7, "anchor": place}
    results = [
        finding("pass", value=12.0, interval=[11.0, 13.0], rows=[], paper="Roy and Vetterli 2007, EUSIPCO"),
        finding("fail", check="relative", **low),
        finding("warn", check="worst_gap", enforce_from="2027-01-15", **gap),
        finding("pass", slice="language=en", rows=[]),
        finding("fail", slice="language=de"),
        finding("waived", slice="language=ja", waiver=WAIVER),
        finding("not_evaluated", slice="language=no", **small),
        finding("inconclusive", slice="language=ja", check="relative", **low),
        finding("error", rule="cone", metric="mean_cosine", **{**small, **pack}, docs="https://acme.example/cone?a=1"),
        finding("not_evaluated", rule="drift", check="relative", **{**small, **pack, "min": None, "max": None}),
        finding("warn", rule="spread", slice="language=en, site=3", severity="warn", docs="page 3"),
    ]
    return judged(*results, notes=["the waiver of rule 'x' matches nothing that failed; take it out"])


def hostile() -> dict[str, Any]:
    """Everything, with a text that attacks every format in each place that a model, a policy or data can fill."""
    document = everything()
    for result in document["results"]:
        result.update(rule=f"{result['rule']}{HOSTILE}", metric=HOSTILE, layer=HOSTILE, message=HOSTILE, why=HOSTILE)
        result.update(fix=HOSTILE, paper=HOSTILE, docs=HOSTILE, reason=HOSTILE)
        result["slice"] = result["slice"] and f"{result['slice']}{HOSTILE}"
        result["rows"] = [{"id": HOSTILE, "influence": 1.0}]
        result["anchor"] = {**result["anchor"], "path": f"policies/{HOSTILE}.yaml"}
        result["waiver"] = result["waiver"] and dict.fromkeys(WAIVER, HOSTILE)
    names = {"name": HOSTILE, "version": HOSTILE, "path": HOSTILE}
    model = {**document["model"], "resolved": HOSTILE, "uri": HOSTILE, "name": HOSTILE}
    policy, probe = {**document["policy"], **names}, {**document["probe"], "uri": HOSTILE}
    said = {"notes": [HOSTILE], "baseline_reason": HOSTILE}
    return {**document, "model": model, "policy": policy, "probe": probe, **said}
