"""What a rule of a policy asks, in words: of what, how strictly, why, and who wrote it where."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from gate.evidence.layout import facts, painter, section, table
from gate.evidence.meaning import meaning
from gate.evidence.wording import one_line
from gate.verdict import slice_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gate.policy.loading import LoadedPolicy
    from gate.policy.rules import Bounds, Relative, Rule, Slices
    from gate.policy.waivers import Waiver


def rules_of(policy: LoadedPolicy) -> list[str]:
    """The ids of the rules of a policy, those that are switched off among them."""
    return [rule.id for rule in policy.policy.rules]


def rule(policy: LoadedPolicy, name: str, *, brief: bool = False, color: bool = False) -> str:
    """All that a policy says of one rule.

    Args:
        policy: With what it extends.
        name: Id of one of its rules.
        brief: Whether to leave out what its metric means.
        color: Whether to use ANSI colours.

    Returns:
        Text that ends with a newline.
    """
    paint = painter(color=color)
    index = rules_of(policy).index(name)
    asked = policy.policy.rules[index]
    metadata = policy.policy.metadata
    advice = [(label, str(getattr(asked, label) or "")) for label in ("why", "fix", "paper", "docs")]
    pairs = [
        *(("" if number else "asks", text) for number, text in enumerate(_asked(asked))),
        ("settings", ", ".join(f"{key}={value}" for key, value in asked.params.items())),
        ("strictness", _strictness(policy, asked)),
        *advice,
        *(("" if number else "written in", text) for number, text in enumerate(_written(policy, index))),
        *(("waived for", _waiver(waiver)) for waiver in policy.policy.waivers if waiver.rule == name),
    ]
    title = one_line(f"rule {name} of policy {metadata.name}@{metadata.version}")
    told = section(title, facts(pairs, paint), paint)
    return f"{told}\n" if brief else f"{told}\n\n{meaning(asked.metric, color=color)}"


def about(policy: LoadedPolicy, metric: str, *, color: bool = False) -> str:
    """The rules of a policy that ask for a number of a metric; empty where there is none.

    Args:
        policy: With what it extends.
        metric: Its id, or METRIC.READOUT, of which the metric counts.
        color: Whether to use ANSI colours.
    """
    name = metric.partition(".")[0]
    found = [each for each in policy.policy.rules if each.metric.partition(".")[0] == name]
    rows = [(each.id, "; ".join(_asked(each))) for each in found]
    title = f"rules of {policy.policy.metadata.name} about {name}"
    return f"{section(one_line(title), table(rows), painter(color=color))}\n" if rows else ""


def _asked(rule_: Rule) -> Iterator[str]:
    """Everything that a rule wants, a sentence each."""
    subject = f"{rule_.metric} of layer {rule_.layer!r}"
    if rule_.bounded:
        yield f"{subject} must be {_within(rule_)}"
    if rule_.relative is not None:
        yield f"{subject} may {_moved(rule_.relative)}, on the same rows"
    if rule_.slices is not None:
        yield from _of_slices(subject, rule_.slices)


def _of_slices(subject: str, slices: Slices) -> Iterator[str]:
    each = f"{subject} on each slice by {', '.join(slices.by)}"
    if slices.bounded:
        yield f"{each} must be {_within(slices)}"
    for name, own in slices.bounds.items():
        yield f"on slice {name} it must be {_within(own)}"
    if slices.relative is not None:
        yield f"{each} may {_moved(slices.relative)}, on the same rows"
    if slices.worst_gap is not None:
        yield f"two slices may lie at most {slices.worst_gap.max:g} apart"
    required = f"; there must be {', '.join(slices.required)}" if slices.required else ""
    yield f"slices of fewer than {slices.min_rows} rows are not judged{required}"


def _within(bounds: Bounds) -> str:
    if bounds.min is None:
        return f"at most {bounds.max:.12g}"
    return f"at least {bounds.min:.12g}" if bounds.max is None else f"from {bounds.min:.12g} to {bounds.max:.12g}"


def _moved(relative: Relative) -> str:
    margins = (("drop", relative.max_drop), ("rise", relative.max_rise))
    told = [
        f"{verb} by at most {margin}{' of its value' if margin.percent else ''}" for verb, margin in margins if margin
    ]
    return f"{' and '.join(told)} against the baseline"


def _strictness(policy: LoadedPolicy, asked: Rule) -> str:
    defaults = policy.policy.defaults
    told = ["blocks a promotion" if asked.severity == "block" else "only warns"]
    told += [f"from {asked.enforce_from} on, and warns until then"] if asked.enforce_from else []
    told += [f"is switched off: {asked.reason}"] if not asked.enabled else []
    told += [f"loosens what it extends: {asked.reason}"] if asked.enabled and asked.override else []
    told.append(
        f"at {100 * defaults.confidence:g}%, {'all rules at once' if defaults.multiplicity == 'holm' else 'alone'}"
    )
    return "; ".join(told)


def _written(policy: LoadedPolicy, index: int) -> Iterator[str]:
    """Every file that says something of a rule, with the keys that it says."""
    keys: dict[str, list[str]] = defaultdict(list)
    lines: dict[str, list[int]] = defaultdict(list)
    for key in policy.written.value["rules"][index]:
        place = policy.position("rules", index, key)
        keys[place.path].append(key)
        lines[place.path].append(place.line)
    for path, found in keys.items():
        yield f"{path}:{min(lines[path])} ({', '.join(found)})"


def _waiver(waiver: Waiver) -> str:
    where = slice_name(tuple(waiver.slices.items())) if waiver.slices else None
    ticket = f" ({waiver.ticket})" if waiver.ticket else ""
    what = f"{waiver.model}, {where}" if where else waiver.model
    return f"{what}, until {waiver.expires}: {waiver.reason} - {waiver.owner}{ticket}"
