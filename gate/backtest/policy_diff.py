"""Two versions of a policy side by side, and what each says of recorded evidence: one document."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gate.backtest.replaying import changes
from gate.backtest.summary import named, notes, todo, verdict
from gate.policy.differences import KINDS, differences

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from gate.backtest.replaying import Replay
    from gate.policy.loading import LoadedPolicy

SCHEMA = "gate.policy-diff/v1"


def policy_diff(
    old: LoadedPolicy, new: LoadedPolicy, pairs: Sequence[tuple[Replay, ...]], today: date
) -> dict[str, Any]:
    """Describe a change of a policy as plain JSON values.

    Args:
        old: The policy.
        new: What is to take its place.
        pairs: For each bundle of evidence the replay under the old and under the new one.
        today: The day of the replays.
    """
    found = differences(old.policy, new.policy)
    versions = [_version(before, after, new.path) for before, after in pairs]
    replayed = [each for each in versions if each["before"] and each["after"]]
    return {
        "schema": SCHEMA,
        "old": named(old),
        "new": named(new),
        "date": today.isoformat(),
        "kinds": {kind: sum(each.kind == kind for each in found) for kind in KINDS},
        "differences": [
            asdict(each) | {"details": [detail._asdict() for detail in each.details]}
            for each in sorted(found, key=lambda each: KINDS.index(each.kind))
        ],
        "counts": {
            "versions": len(versions),
            "changed": sum(each["changed"] for each in versions),
            "unchanged": sum(not each["changed"] for each in replayed),
            "not_replayed": len(versions) - len(replayed),
        },
        "notes": notes(after for _, after in pairs),
        "versions": versions,
    }


def _version(old: Replay, new: Replay, policy: str) -> dict[str, Any]:
    before, after = verdict(old.verdict), verdict(new.verdict)
    both = old.findings and new.findings
    return {
        "model": new.model,
        "source": new.source,
        "before": before,
        "after": after,
        "changed": before is not None and after is not None and _decided(before) != _decided(after),
        "changes": [change._asdict() for change in (changes(old.findings, new.findings) if both else ())],
        "obstacles": list(dict.fromkeys((*old.obstacles, *new.obstacles))),
        "todo": todo(new, policy),
    }


def _decided(found: dict[str, Any]) -> tuple[object, object]:
    return found["status"], found["exit_code"]
