"""RESULTS.md: the range of every rule over the seeds, for the healthy model and for every broken one."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.packs.case import Case
    from gate.policy.rules import Rule
    from gate.policy.schema import Policy
    from gate.verdict import Finding

HEADER = """# What the rules of the policy packs see

`python -m benchmarks.packs` trains small healthy and broken models of every kind, several seeds each, and judges them
with the rules of `policies/`, and a few that `benchmarks/packs/children/` adds. A cell is the range of the value over
the seeds. **●**: the rule fails in every seed; ◐: in every seed it does not pass, but not always because it fails (the
interval lies across the bound, or the metric has no answer); ○: it does not pass in some seeds; nothing: it passes.
*Reach* is the union of the 95 % intervals of the healthy models, all of which must lie inside the bound.
"""
Key = tuple[str, str]  # rule, and what of it


@dataclass
class Judged:
    """All findings on the models of one pack.

    Attributes:
        policy: The pack.
        seeds: How many models there are of each.
        found: Model → rule → its finding in every seed.
        healthy: Models that must pass.
    """

    policy: Policy
    seeds: int
    found: dict[str, dict[Key, list[Finding]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    healthy: list[str] = field(default_factory=list)

    def add(self, case: Case, findings: Iterable[Finding]) -> None:
        """Take in what one model was found to be."""
        if case.healthy and case.model not in self.healthy:
            self.healthy.append(case.model)
        for finding in findings:
            self.found[case.model][finding.rule, finding.check].append(finding)

    def section(self) -> str:
        """The table of the pack, and what it comes to."""
        broken = [model for model in self.found if model not in self.healthy]
        head = ["rule", "metric", "bound", *self.healthy, "reach", *broken]
        lines = [f"## {self.policy.metadata.name}", "", _row(head), _row(["---"] * len(head))]
        lines += [self._line(key, broken) for key in next(iter(self.found.values()))]
        return "\n".join([*lines, "", *self._summary(broken)]) + "\n"

    def _line(self, key: Key, broken: Sequence[str]) -> str:
        rule = next(each for each in self.policy.rules if each.id == key[0])
        name = f"`{rule.id}`" + (" (change)" if key[1] == "relative" else "")
        cells = [name + (" *warns*" if rule.severity == "warn" else ""), f"`{rule.metric}`", _bound(rule, key[1])]
        cells += [_cell(self.found[model][key]) for model in self.healthy]
        cells.append(_reach([each for model in self.healthy for each in self.found[model][key]]))
        return _row([*cells, *(_cell(self.found[model][key]) for model in broken)])

    def _summary(self, broken: Sequence[str]) -> list[str]:
        seen = {model: self._stopping(model) for model in broken}
        missed = [model for model in broken if not seen[model] & self._blocking]
        idle = [rule.id for rule in self.policy.rules if not any(rule.id in rules for rules in seen.values())]
        return [
            f"- {self.seeds} seeds; every blocking rule passes every healthy model: {self._fair}",
            f"- broken models that no blocking rule stops in every seed: {', '.join(missed) or 'none'}",
            f"- rules that stop none of these models in every seed: {', '.join(idle) or 'none'}",
        ]

    @property
    def _blocking(self) -> set[str]:
        return {rule.id for rule in self.policy.rules if rule.severity == "block"}

    @property
    def _fair(self) -> str:
        fair = all(
            finding.status == "pass"
            for model in self.healthy
            for found in self.found[model].values()
            for finding in found
            if finding.rule in self._blocking
        )
        return "yes" if fair else "**no**"

    def _stopping(self, model: str) -> set[str]:
        """Rules with something that the model does not pass in any seed."""
        found = self.found[model].items()
        return {rule for (rule, _), seeds in found if all(finding.status != "pass" for finding in seeds)}


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value + 0.0:.3g}" if abs(value) >= 0.0005 else "0"


def _bound(rule: Rule, check: str) -> str:
    if check == "relative" and rule.relative is not None:
        moves = {"drop": rule.relative.max_drop, "rise": rule.relative.max_rise}
        return ", ".join(f"{verb} at most {margin}" for verb, margin in moves.items() if margin is not None)
    if rule.min is not None and rule.max is not None:
        return f"{rule.min:g} to {rule.max:g}"
    return f"at least {rule.min:g}" if rule.max is None else f"at most {rule.max:g}"


def _cell(found: Sequence[Finding]) -> str:
    values = [each.value for each in found if each.value is not None]
    shown = _span(min(values), max(values)) if values else "no answer"
    passed = sum(each.status == "pass" for each in found)
    if passed == len(found):
        return shown
    if passed:
        return f"{shown} ○"
    return f"{shown} **●**" if all(each.status == "fail" for each in found) else f"{shown} ◐"


def _reach(found: Sequence[Finding]) -> str:
    ends = [each.interval for each in found if each.interval is not None]
    return _span(min(low for low, _ in ends), max(high for _, high in ends)) if ends else "no answer"


def _span(low: float, high: float) -> str:
    first, last = _number(low), _number(high)
    return first if first == last else f"{first} to {last}"
