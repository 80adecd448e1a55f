"""What another version of a policy does differently: every rule and setting, and whether it lets more pass or less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import BaseModel

from gate.policy.kinds import Margin
from gate.policy.loosening import loosened_baseline, loosened_defaults, loosened_expectations, loosened_rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gate.policy.kinds import Location
    from gate.policy.loosening import Loosened
    from gate.policy.schema import Policy, Probe, Run, Scope
    from gate.policy.waivers import Waiver

Kind = Literal["removed", "loosened", "changed", "tightened", "added", "reworded"]
KINDS: tuple[Kind, ...] = ("removed", "loosened", "changed", "tightened", "added", "reworded")

_WORDS = {
    "rule": ("why", "fix", "paper", "docs", "reason", "override"),
    "waiver": ("owner", "reason", "ticket", "approver"),
    "defaults": ("reason", "override"),
    "baseline": ("reason", "override"),
    "probe": ("expectations.reason", "expectations.override"),
}  # what → its fields that decide nothing
_OF_WHAT = ("rule", "model", "slices")  # a waiver holds for


class Detail(NamedTuple):
    """One key that differs, with what it was and is; None where there is no such key."""

    key: str
    kind: Kind
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Difference:
    """One rule, waiver or block that differs.

    Attributes:
        what: `rule`, `waiver`, or the key of the block.
        name: Of the rule or waiver, empty for a block.
        kind: `changed` where it lets more pass in one respect and less in another, or where nobody can tell. Only rules
            are `added` or `removed`: a waiver that comes is `loosened`, one that goes `tightened`.
        details: The keys that differ; none of a rule that was added or removed.
    """

    what: str
    name: str
    kind: Kind
    details: tuple[Detail, ...] = ()


def differences(old: Policy, new: Policy) -> list[Difference]:
    """Everything that differs: rules, waivers, then the blocks around them.

    Args:
        old: The policy.
        new: What is to take its place.
    """
    probes = (old.probe, new.probe)
    found = [
        *_rules(old, new),
        *_waivers(old, new),
        _judged("defaults", "", (old.defaults, new.defaults), _looser(old, new), _looser(new, old)),
        _judged("baseline", "", (old.baseline, new.baseline), _less_compared(old, new), _less_compared(new, old)),
        _judged("scope", "", (old.scope, new.scope), _warns(old.scope, new.scope), _warns(new.scope, old.scope)),
        _judged("run", "", (old.run, new.run), _runs_code(old.run, new.run), _runs_code(new.run, old.run)),
        _judged("probe", "", probes, _asks_less(*probes), _asks_less(*reversed(probes))),
        _judged("layers", "", (old.layers, new.layers), (), ()),
        _judged("reads", "", (old.reads, new.reads), (), ()),
    ]
    return [each for each in found if each.details or each.kind in ("added", "removed")]


def _looser(old: Policy, new: Policy) -> Iterator[Location]:
    return _places(loosened_defaults(old.defaults, new.defaults))


def _less_compared(old: Policy, new: Policy) -> Iterator[Location]:
    """Where comparisons are no longer made; of another version or layer nobody can tell whether it is a worse one."""
    if old.baseline and new.baseline:
        yield from (place for place in _places(loosened_baseline(old, new)) if place == ("when_absent",))
    elif old.baseline and any(rule.enabled and rule.compares for rule in old.rules):
        yield ()


def _warns(old: Scope, new: Scope) -> Iterator[Location]:
    """Aliases at which the new scope only warns and the old one does not; where nothing is said of one, it blocks."""
    for alias, severity in new.aliases.items():
        if severity == "warn" != old.aliases.get(alias):
            yield "aliases", alias


def _runs_code(old: Run, new: Run) -> Iterator[Location]:
    for key in ("allow_pickle", "allow_code"):
        if getattr(new, key) and not getattr(old, key):
            yield (key,)
    if new.isolation == "none" != old.isolation:
        yield ("isolation",)


def _asks_less(old: Probe | None, new: Probe | None) -> Iterator[Location]:
    """Where another content of the probe set is accepted."""
    if old is None or new is None:
        return
    for key in ("digest", "slices_digest"):
        if getattr(old, key) and not getattr(new, key):
            yield (key,)
    for place in _places(loosened_expectations(old.expectations, new.expectations)):
        yield "expectations", *place


def _places(found: Iterable[Loosened]) -> Iterator[Location]:
    return (location for location, _ in found)


def _rules(old: Policy, new: Policy) -> Iterator[Difference]:
    before, after = ({rule.id: rule for rule in policy.rules} for policy in (old, new))
    for name in {**before, **after}:
        if name not in after or name not in before:
            yield Difference("rule", name, "removed" if name in before else "added")
        else:
            was, now = before[name], after[name]
            yield _judged("rule", name, (was, now), _places(loosened_rule(was, now)), _places(loosened_rule(now, was)))


def _waivers(old: Policy, new: Policy) -> Iterator[Difference]:
    """A waiver is the same where it is of the same rule, model and slices; of several, the one that lasts longest."""
    before, after = (
        {(each.rule, each.model, tuple(sorted(each.slices.items()))): each for each in by_day}
        for by_day in (sorted(policy.waivers, key=lambda each: each.expires) for policy in (old, new))
    )
    for key in {**before, **after}:
        where = "".join(f", {column}={value}" for column, value in key[2])
        name = f"{key[0]} for {key[1]}{where}"
        was, now = before.get(key), after.get(key)
        yield _judged("waiver", name, (_terms(was), _terms(now)), _lasts_longer(was, now), _lasts_longer(now, was))


def _terms(waiver: Waiver | None) -> dict[str, object]:
    return {key: value for key, value in waiver or () if key not in _OF_WHAT}


def _lasts_longer(old: Waiver | None, new: Waiver | None) -> Iterator[Location]:
    if new and (old is None or new.expires > old.expires):
        yield ("expires",)


def _judged(
    what: str, name: str, values: tuple[object, object], looser: Iterable[Location], tighter: Iterable[Location]
) -> Difference:
    """What differs between two values of one block, by what each key does to the verdict."""
    more, less = list(looser), list(tighter)
    words = [tuple(key.split(".")) for key in _WORDS.get(what, ())]
    details = tuple(
        Detail(
            ".".join(map(str, location)),
            "reworded" if location in words else _kind(location, more, less),
            _text(was),
            _text(now),
        )
        for location, was, now in _unlike(*values)
    )
    kinds = {detail.kind for detail in details} - {"reworded"}
    kind: Kind = next(iter(kinds)) if len(kinds) == 1 else "changed" if kinds else "reworded"
    return Difference(what, name, kind, details)


def _kind(location: Location, more: Iterable[Location], less: Iterable[Location]) -> Kind:
    lets_more, lets_less = (any(_touch(location, each) for each in found) for found in (more, less))
    if lets_more == lets_less:
        return "changed"
    return "loosened" if lets_more else "tightened"


def _touch(one: Location, other: Location) -> bool:
    """Whether one location lies in the other."""
    return all(mine == theirs for mine, theirs in zip(one, other, strict=False))


def _unlike(old: object, new: object, here: Location = ()) -> Iterator[tuple[Location, object, object]]:
    """Every key with another value; a block that one of the two does not have is one key."""
    if old == new:
        return
    was, now = _keys(old), _keys(new)
    if was is None or now is None:
        yield here, old, new
        return
    for key in {**was, **now}:
        yield from _unlike(was.get(key), now.get(key), (*here, key))


def _keys(value: object) -> Mapping[str, object] | None:
    if isinstance(value, BaseModel):
        return dict(value)
    return value if isinstance(value, Mapping) else None


def _text(value: object) -> str | None:
    """A value of a policy in one line."""
    if value is None or value in ((), {}):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, tuple) and not isinstance(value, Margin):
        return ", ".join(_text(each) or "" for each in value)
    if (keys := _keys(value)) is not None:
        return ", ".join(f"{key}: {text}" for key, each in keys.items() if (text := _text(each)) is not None)
    return str(value)
