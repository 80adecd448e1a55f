"""What of a policy would let pass what the policy that it extends stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gate.policy.kinds import Location, Margin
    from gate.policy.rules import Bounds, Relative, Rule, Slices
    from gate.policy.schema import Defaults, Policy

_STRICTNESS = {"pass": 0, "warn": 1, "block": 2}
Loosened = tuple["Location", str]  # the key, and what it was and became


def loosened(base: Policy, child: Policy) -> Iterator[Loosened]:
    """Everything in which the child is looser than its base, apart from what it overrides with a reason."""
    if not child.defaults.override:
        for location, what in loosened_defaults(base.defaults, child.defaults):
            yield ("defaults", *location), what
    after = {rule.id: (index, rule) for index, rule in enumerate(child.rules)}
    for rule in base.rules:
        index, own = after[rule.id]
        if not own.override:
            for location, what in loosened_rule(rule, own):
                yield ("rules", index, *location), what


def loosened_defaults(base: Defaults, child: Defaults) -> Iterator[Loosened]:
    """Defaults that are looser than those of the base."""
    if child.confidence < base.confidence:
        yield ("confidence",), _from_to(base.confidence, child.confidence)
    if _STRICTNESS[child.inconclusive] < _STRICTNESS[base.inconclusive]:
        yield ("inconclusive",), _from_to(base.inconclusive, child.inconclusive)
    if base.multiplicity == "holm" != child.multiplicity:
        yield ("multiplicity",), _from_to(base.multiplicity, child.multiplicity)


def loosened_rule(base: Rule, child: Rule) -> Iterator[Loosened]:
    """Whatever the child's rule allows and the base's does not."""
    for key in ("metric", "layer", "params"):
        if getattr(base, key) != getattr(child, key):
            yield (key,), f"asks another question: {_from_to(getattr(base, key), getattr(child, key))}"
    if base.enabled and not child.enabled:
        yield ("enabled",), "switches the rule off"
    if _STRICTNESS[child.severity] < _STRICTNESS[base.severity]:
        yield ("severity",), _from_to(base.severity, child.severity)
    if child.enforce_from and (base.enforce_from is None or child.enforce_from > base.enforce_from):
        yield ("enforce_from",), _from_to(base.enforce_from or "from the start", child.enforce_from)
    yield from _bounds(base, child)
    yield from _within("relative", _relative(base.relative, child.relative))
    yield from _within("slices", _slices(base.slices, child.slices))


def _bounds(base: Bounds, child: Bounds) -> Iterator[Loosened]:
    if base.min is not None and (child.min is None or child.min < base.min):
        yield ("min",), _from_to(base.min, child.min)
    if base.max is not None and (child.max is None or child.max > base.max):
        yield ("max",), _from_to(base.max, child.max)


def _relative(base: Relative | None, child: Relative | None) -> Iterator[Loosened]:
    for key in ("max_drop", "max_rise") if base else ():
        before, after = getattr(base, key), getattr(child, key, None)
        if before is not None and not _tighter(after, before):
            yield (key,), _from_to(before, after)


def _tighter(after: Margin | None, before: Margin) -> bool:
    """Whether a margin allows no more than another; a percentage and an amount cannot be told apart."""
    return after is not None and after.percent == before.percent and after.amount <= before.amount


def _slices(base: Slices | None, child: Slices | None) -> Iterator[Loosened]:
    if base is None:
        return
    if child is None or child.by != base.by:
        yield ("by",), _from_to(", ".join(base.by), None if child is None else ", ".join(child.by))
        return
    yield from _bounds(base, child)
    for name in {**base.bounds, **child.bounds}:
        before, after = base.bounds.get(name, base), child.bounds.get(name, child)
        yield from _within("bounds", _within(name, _bounds(before, after)))
    if child.min_rows > base.min_rows:
        yield ("min_rows",), _from_to(base.min_rows, child.min_rows)
    if lost := set(base.required) - set(child.required):
        yield ("required",), f"no longer requires {', '.join(sorted(lost))}"
    if base.worst_gap and (child.worst_gap is None or child.worst_gap.max > base.worst_gap.max):
        yield ("worst_gap",), _from_to(base.worst_gap.max, child.worst_gap.max if child.worst_gap else None)
    yield from _within("relative", _relative(base.relative, child.relative))


def _within(key: str, found: Iterator[Loosened]) -> Iterator[Loosened]:
    return (((key, *location), what) for location, what in found)


def _from_to(before: object, after: object) -> str:
    return f"from {before} to {'nothing' if after is None else after}"
