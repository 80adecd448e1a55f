"""What of a policy would let pass what the policy that it extends stops.

Compared are rules, defaults, what the probe set must be, and the baseline with the layers that are read of it. Where
the model, its layers and the probe set are, and what a model may do when it runs, is each policy's own business, as is
its scope; `gate policy diff` tells all of that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gate.policy.kinds import Margin
from gate.policy.references import did_you_mean
from gate.policy.rules import Bounds, slice_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from gate.policy.expectations import Expectations
    from gate.policy.kinds import Location
    from gate.policy.reads import Layer
    from gate.policy.rules import Relative, Rule, Slices
    from gate.policy.schema import Defaults, Policy, Scope

_STRICTNESS = {"pass": 0, "warn": 1, "block": 2}
Loosened = tuple["Location", str]  # the key, and what it was and became


def loosened(base: Policy, child: Policy, written: Mapping[str, Any]) -> Iterator[Loosened]:
    """Everything in which the child is looser than its base, apart from what it overrides with a reason.

    Args:
        base: The policy that is extended.
        child: The one that extends it, with all that it took over.
        written: The child's keys, which tell a severity that a rule names from one that `defaults` gives it.
    """
    if not child.defaults.override:
        yield from _within("defaults", loosened_defaults(base.defaults, child.defaults))
    if child.baseline and not child.baseline.override:
        yield from _within("baseline", loosened_baseline(base, child))
    if base.probe and child.probe and not child.probe.expectations.override:
        found = loosened_expectations(base.probe.expectations, child.probe.expectations)
        yield from _within("probe", _within("expectations", found))
    after = {rule.id: (index, rule) for index, rule in enumerate(child.rules)}
    for rule in base.rules:
        index, own = after[rule.id]
        for location, what in () if own.override else loosened_rule(rule, own):
            if location != ("severity",) or "severity" in written["rules"][index]:
                yield ("rules", index, *location), what
            elif not child.defaults.override:
                yield ("defaults", *location), what


def needless(bases: Sequence[Policy], child: Policy, own: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """What has no effect on what the policy extends: where it is, and what to do about it.

    Args:
        bases: The policies that are extended.
        child: The one that extends them, with all that it took over.
        own: The keys of the child's own file; a rule that is taken over switched off is no fault.
    """
    yield from _needless_permissions(bases, child)
    known = {rule.id for base in bases for rule in base.rules}
    off = {rule.id for base in bases for rule in base.rules if not rule.enabled}
    changed = {rule["id"] for rule in own.get("rules", ()) if rule.keys() - {"id"} and "enabled" not in rule}
    for index, rule in enumerate(child.rules):
        if rule.id in off & changed and not rule.enabled:
            was = "is switched off in what this policy extends; write `enabled: true` to have it judged, or remove this"
            yield ("rules", index, "id"), f"the rule {rule.id!r} {was}"
        if rule.id not in known:
            none = f"no policy that this one extends has a rule {rule.id!r}"
            near = f".{near}" if (near := did_you_mean(rule.id, known)) else ""
            if rule.override:
                yield ("rules", index, "override"), f"{none}, so there is nothing to override; remove it{near}"
            if not rule.enabled:
                yield ("rules", index, "enabled"), f"{none}; to have none here, remove it altogether{near}"


def _needless_permissions(bases: Sequence[Policy], child: Policy) -> Iterator[tuple[Location, str]]:
    nothing = "there is nothing in what this policy extends that it could override; remove it"
    if child.defaults.override and not bases:
        yield ("defaults", "override"), nothing
    if child.baseline and child.baseline.override and not any(base.baseline for base in bases):
        yield ("baseline", "override"), nothing
    if child.probe and child.probe.expectations.override and not any(base.probe for base in bases):
        yield ("probe", "expectations", "override"), nothing


def loosened_defaults(base: Defaults, child: Defaults) -> Iterator[Loosened]:
    """Defaults that are looser than those of the base.

    More confidence turns passes and failures into inconclusive answers: stricter, unless those do not block.
    """
    blocks = child.inconclusive == "block"
    if child.confidence < base.confidence or (child.confidence > base.confidence and not blocks):
        yield ("confidence",), _from_to(base.confidence, child.confidence) + _aside(blocks)
    if _STRICTNESS[child.inconclusive] < _STRICTNESS[base.inconclusive]:
        yield ("inconclusive",), _from_to(base.inconclusive, child.inconclusive)
    if base.multiplicity != child.multiplicity and (base.multiplicity == "holm" or not blocks):
        yield ("multiplicity",), _from_to(base.multiplicity, child.multiplicity) + _aside(blocks)


def _aside(blocks: bool) -> str:  # noqa: FBT001 - a fact, not a switch
    return "" if blocks else ", and what is inconclusive then does not block"


def loosened_baseline(base: Policy, child: Policy) -> Iterator[Loosened]:
    """Whether comparisons are left out that the base insists on, or made with another, perhaps worse version or layer.

    A layer that only the child has is none that the base asks for.
    """
    was, now = base.baseline, child.baseline
    if was is None or now is None:
        return
    if was.uri != now.uri and not _is_the_alias(was.uri, now.uri, child.scope):
        yield ("uri",), f"compares with another version, {_from_to(was.uri, now.uri)}"
    if was.when_absent == "error" != now.when_absent:
        yield ("when_absent",), _from_to(was.when_absent, now.when_absent)
    for name in base.layers:
        before, after = was.layers.get(name), now.layers.get(name)
        if before != after:
            yield ("layers", name), f"asks another layer of the baseline, {_from_to(_path(before), _path(after))}"


def _path(layer: Layer | None) -> str:
    return "its own path" if layer is None else f"{layer.path} ({layer.pooling})"


def _is_the_alias(alias: str, uri: str, scope: Scope) -> bool:
    """Whether `models:/NAME@champion` is what `@champion` means: NAME is the one model that the policy is for."""
    name, at, found = uri.removeprefix("models:/").rpartition("@")
    one = scope.models == (name,) and not set(name) & set("*?[")
    return uri.startswith("models:/") and one and alias == at + found


def loosened_expectations(base: Expectations, child: Expectations) -> Iterator[Loosened]:
    """Whatever the child accepts of a probe set and the base does not; a bound of a pack is one like any other."""
    before, after = base.bounds, child.bounds
    for key, was in before.items():
        now = after.get(key)
        own = getattr(base, key) is not None or getattr(child, key) is not None
        if key == "length":
            yield from _within(key, _bounds(was.value, now.value if now else Bounds()))
        elif not _asks_as_much(key, now.value if now else None, was.value):
            yield (key if own else "packs",), f"`{key}` {_from_to(was.value, now.value if now else None)}"
        if now and (was.severity, now.severity) == ("critical", "warning"):
            yield ("warn",), f"only warns of `{key}`"
    for name in ("unique", "not_null"):
        if lost := [column for column in getattr(base, name) if column not in getattr(child, name)]:
            yield (name,), f"no longer asks it of {', '.join(lost)}"
    if base.suite not in (None, child.suite):
        yield ("suite",), f"asks what another suite does, {_from_to(base.suite, child.suite)}"


def _asks_as_much(key: str, after: Any, before: Any) -> bool:  # noqa: ANN401 - a number or a margin, by the key
    if after is None:
        return False
    if key.startswith("min_"):
        return bool(after >= before)
    return _tighter(after, before) if isinstance(before, Margin) else bool(after <= before)


def loosened_rule(base: Rule, child: Rule) -> Iterator[Loosened]:
    """Whatever the child's rule allows and the base's does not."""
    if not base.enabled:
        return
    for key in ("metric", "layer", "params"):
        if getattr(base, key) != getattr(child, key):
            yield (key,), f"asks another question, {_from_to(getattr(base, key), getattr(child, key))}"
    if not child.enabled:
        yield ("enabled",), "switches the rule off"
    if _STRICTNESS[child.severity] < _STRICTNESS[base.severity]:
        yield ("severity",), _from_to(base.severity, child.severity)
    if child.enforce_from and (base.enforce_from is None or child.enforce_from > base.enforce_from):
        yield ("enforce_from",), f"blocks only from {child.enforce_from}, not {_since(base)}"
    yield from _bounds(base, child)
    yield from _within("relative", _relative(base.relative, child.relative))
    yield from _within("slices", _slices(base.slices, child.slices))


def _since(rule: Rule) -> str:
    return f"from {rule.enforce_from}" if rule.enforce_from else "from the start"


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
    """Whether a margin allows no more than another; a percentage and an amount cannot be told apart, unless it is 0."""
    comparable = after is not None and (after.percent == before.percent or not after.amount)
    return after is not None and comparable and after.amount <= before.amount


def _slices(base: Slices | None, child: Slices | None) -> Iterator[Loosened]:
    if base is None:
        return
    if child is None or child.by != base.by:
        yield ("by",), _from_to(", ".join(base.by), None if child is None else ", ".join(child.by))
        return
    yield from _bounds(base, child)
    yield from _within("bounds", _own_bounds(base, child))
    yield from _rows(base, child)
    if base.worst_gap and (child.worst_gap is None or child.worst_gap.max > base.worst_gap.max):
        yield ("worst_gap", "max"), _from_to(base.worst_gap.max, child.worst_gap.max if child.worst_gap else None)
    yield from _within("relative", _relative(base.relative, child.relative))


def _own_bounds(base: Slices, child: Slices) -> Iterator[Loosened]:
    """Single slices, however they are called: `ja` and `language=ja` are one."""
    for name in {**base.bounds, **child.bounds}:
        columns = slice_of(base.by, name) or ()
        before, (after, _) = base.bounds_of(columns)[0], child.bounds_of(columns)
        yield from _within(name, _bounds(before, after))


def _rows(base: Slices, child: Slices) -> Iterator[Loosened]:
    if child.min_rows > base.min_rows:
        yield ("min_rows",), f"{_from_to(base.min_rows, child.min_rows)}, and smaller slices are not judged"
    elif child.min_rows < base.min_rows and (base.required or base.bounds):
        yield ("min_rows",), f"{_from_to(base.min_rows, child.min_rows)}, enough for slices that must be there"
    kept = {slice_of(child.by, name) for name in child.required}
    if lost := [name for name in base.required if slice_of(base.by, name) not in kept]:
        yield ("required",), f"no longer requires {', '.join(lost)}"


def _within(key: str, found: Iterator[Loosened]) -> Iterator[Loosened]:
    return (((key, *location), what) for location, what in found)


def _from_to(before: object, after: object) -> str:
    was, became = (f"{each:.12g}" if isinstance(each, float) else each for each in (before, after))
    return f"from {was} to {'nothing' if became is None else became}"
