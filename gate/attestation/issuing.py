"""From evidence to the statement that is signed: it ends when what it rests on does."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from gate.attestation.statement import Statement, UnderPolicy, Version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VALID = timedelta(days=365)
"""How long a statement may count at most; whoever verifies may ask for a younger one."""
_MOST = 30_000  # characters of all names and digests, so that the statement fits into a tag of any database


def issue(
    document: Mapping[str, Any],
    subject: Version,
    files: Mapping[str, str] | None,
    *,
    now: datetime,
    evidence: str | None = None,
    run: str | None = None,
    error: str | None = None,
) -> Statement:
    """The statement on a version that evidence leads to.

    Args:
        document: The evidence.
        subject: The version as the registry has it.
        files: Path → SHA-256 of every file of the model, where a verdict is signed.
        now: When it is issued.
        evidence: Digest of the evidence as it is recorded; None before that.
        run: The MLflow run that holds it.
        error: Why the verdict is none, whatever the evidence says.
    """
    policy, model = document["policy"], document["model"]
    outcomes = defaultdict(list)
    for result in document["results"]:
        outcomes[result["status"]].append(result["rule"])
    return Statement(
        subject=subject,
        digest=model["digest"],
        names=model["names_digest"],
        files=dict(files) if files and len(json.dumps(files)) <= _MOST else None,
        verdict="error" if error else document["status"],
        reason=error,
        policy=UnderPolicy(
            name=policy["name"],
            version=policy["version"],
            digest=policy["digest"],
            enforcement=document["run"]["enforcement"],
            overrides=tuple(document["run"]["overrides"]),
        ),
        probe=document["probe"]["digest"],
        baseline=None if document["baseline"] is None else document["baseline"]["digest"],
        evidence=evidence,
        run=run,
        trust=model["trust"],
        isolation=(model.get("isolation") or {}).get("mode"),
        issued=now.astimezone(UTC),
        expires=min([now + VALID, *_ends(document)]).astimezone(UTC),
        outcomes={outcome: tuple(dict.fromkeys(rules)) for outcome, rules in outcomes.items()},
    )


def _ends(document: Mapping[str, Any]) -> Iterator[datetime]:
    """When rules that did not hold begin to block: a waiver ends, or the day comes from which a rule is enforced."""
    for result in document["results"]:
        if result["status"] == "waived":
            last = min(date.fromisoformat(result["waiver"]["expires"]), date.max - timedelta(days=1))
            yield _midnight(last + timedelta(days=1))
        elif result["status"] == "warn" and result["enforce_from"]:
            day = date.fromisoformat(result["enforce_from"])
            yield from [_midnight(day)] if day > date.fromisoformat(document["run"]["started"][:10]) else []


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
