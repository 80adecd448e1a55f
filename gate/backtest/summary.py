"""Many replays together: one document, from which everything that people read is rendered."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from gate.backtest.replaying import changes
from gate.errors import GateError, NothingEvaluatedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date

    from gate.backtest.replaying import Replay
    from gate.policy.loading import LoadedPolicy
    from gate.verdict import Verdict

SCHEMA = "gate.backtest/v1"
_DIGITS = re.compile(r"(\d+)")


def newest(replays: Iterable[tuple[Replay, ...]]) -> list[tuple[Replay, ...]]:
    """Of every model the latest evidence, or where that cannot be replayed the latest of the same files that can.

    Args:
        replays: Of each bundle, under one policy or several.
    """
    of_each: dict[str, list[tuple[Replay, ...]]] = defaultdict(list)
    for each in replays:
        of_each[each[0].model].append(each)
    return [_latest(sorted(found, key=_age)) for found in of_each.values()]


def _age(replays: tuple[Replay, ...]) -> tuple[bool, str]:
    """The date; what cannot be read may be the latest."""
    return replays[0].recorded is None, _started(replays[0])


def _latest(in_order: Sequence[tuple[Replay, ...]]) -> tuple[Replay, ...]:
    last = in_order[-1]
    same = [each for each in in_order if _files(each) == _files(last) is not None and not is_stuck(each)]
    found = same[-1] if same else last
    if found is last:
        return last
    (why, *_) = (obstacle for each in last for obstacle in each.obstacles)
    note = f"replayed is the check of {_started(found[0])}, as a later one cannot be, {last[0].source}: {why}"
    return tuple(replace(each, notes=(*each.notes, note)) for each in found)


def _files(replays: tuple[Replay, ...]) -> str | None:
    """Which files of the model were checked, as far as is known."""
    recorded = replays[0].recorded
    return None if recorded is None else recorded.digest


def is_stuck(replays: Iterable[Replay]) -> bool:
    """Whether one of several policies cannot say anything of some evidence."""
    return any(each.verdict is None for each in replays)


def in_order(replays: Iterable[tuple[Replay, ...]]) -> list[tuple[Replay, ...]]:
    """By model, version 9 before version 10, then by date."""
    return sorted(replays, key=lambda each: (_natural(each[0].model), _started(each[0]), each[0].source))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(name)]


def _started(replay: Replay) -> str:
    return "" if replay.recorded is None else replay.recorded.started


def exit_code(replays: Iterable[Replay]) -> int:
    """0 where the policy can say something of every version, whatever it says; 3 where of one it cannot."""
    return GateError.exit_code if is_stuck(replays) else 0


def backtest(policy: LoadedPolicy, replays: Sequence[Replay], today: date) -> dict[str, Any]:
    """Describe a backtest as plain JSON values.

    Args:
        policy: That was replayed.
        replays: In the order in which they are to be shown.
        today: The day of the replay.

    Raises:
        NothingEvaluatedError: There is no evidence.
    """
    if not replays:
        raise NothingEvaluatedError("there is no evidence, so nothing was replayed; record some with `gate check`")
    return {
        "schema": SCHEMA,
        "policy": named(policy),
        "date": today.isoformat(),
        "counts": {
            "versions": len(replays),
            "changed": sum(each.changed for each in replays),
            "unchanged": sum(each.verdict is not None and not each.changed for each in replays),
            "not_replayed": sum(each.verdict is None for each in replays),
        },
        "notes": notes(replays),
        "versions": [_version(each, policy.path) for each in replays],
    }


def named(policy: LoadedPolicy) -> dict[str, str]:
    """A policy as a document names it."""
    metadata = policy.policy.metadata
    return {"name": metadata.name, "version": metadata.version, "path": policy.path, "digest": policy.digest}


def _version(replay: Replay, policy: str) -> dict[str, Any]:
    recorded = replay.recorded
    keys = ("policy", "status", "exit_code", "probe", "started")
    changed = () if recorded is None or not replay.findings else changes(recorded.findings, replay.findings)
    return {
        "model": replay.model,
        "source": replay.source,
        "before": None if recorded is None else {key: getattr(recorded, key) for key in keys},
        "after": verdict(replay.verdict),
        "changed": replay.changed,
        "changes": [change._asdict() for change in changed],
        "obstacles": list(replay.obstacles),
        "todo": todo(replay, policy),
    }


def verdict(found: Verdict | None) -> dict[str, Any] | None:
    """A verdict as a document has it."""
    return None if found is None else asdict(found)


def todo(replay: Replay, policy: str) -> str | None:
    """What to do where a policy cannot say anything of a version."""
    return f"gate check {replay.model} -p {policy}" if replay.verdict is None and replay.recorded else None


def notes(replays: Iterable[Replay]) -> list[str]:
    """What to know before versions are set against each other, first whether they were measured on the same rows."""
    probes, others = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for each in replays:
        if each.recorded is not None:
            probes[each.recorded.probe].append(each.model)
        for note in each.notes:
            others[note].append(each.model)
    told = [f"{_some(models)}: {note}" for note, models in others.items()]
    if len(probes) < 2:
        return told
    apart = ", ".join(f"{digest[:14]}… ({_some(models)})" for digest, models in probes.items())
    return [f"{len(probes)} different probe sets, whose numbers cannot be set against each other: {apart}", *told]


def _some(models: Sequence[str]) -> str:
    return models[0] if len(models) == 1 else f"{models[0]} and {len(models) - 1} more"
