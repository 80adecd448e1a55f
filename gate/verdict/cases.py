"""What one rule asks for: a bound on the whole probe set, on the change, on every slice, on the gap between slices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gate.estimate import is_number
from gate.verdict.comparing import change_against, worst_gap
from gate.verdict.measurements import Question, question_of, slice_name
from gate.verdict.readings import at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gate.estimate import Estimate
    from gate.policy.kinds import Location, Margin
    from gate.policy.rules import Bounds, Relative, Rule, Slices
    from gate.verdict.measurements import Measurements, Slice
    from gate.verdict.outcomes import Check, Outcome


@dataclass(frozen=True)
class Case:
    """One thing to judge.

    Attributes:
        rule: That asks for it.
        check: What of the rule.
        at: The estimate at a confidence level, None where none was made.
        min, max: What it must lie between; None is no bound.
        required: The same in words, `must be at least 96`.
        location: Inside the rule, where the bounds stand.
        lower, upper: The keys there.
        slice: Rows that it is about; none for the whole probe set.
        baseline: What a relative one is compared with.
        settled: Outcome and reason where there is nothing to judge.
    """

    rule: Rule
    check: Check
    at: Callable[[float], Estimate | None]
    min: float | None = None
    max: float | None = None
    required: str = ""
    location: Location = ()
    lower: str = "min"
    upper: str = "max"
    slice: Slice = ()
    baseline: float | None = None
    settled: tuple[Outcome, str] | None = None

    @property
    def subject(self) -> str:
        """What was measured, in words."""
        where = f" on {slice_name(self.slice)}" if self.slice else ""
        return f"{self.rule.metric} of layer {self.rule.layer!r}{where}"


def cases(rule: Rule, measured: Measurements) -> Iterator[Case]:
    """Everything that a rule asks for; a rule that asks and gets no answer is a case that is settled as an error."""
    from gate.policy.references import needs_baseline

    nothing = partial(Case, rule, "bound", _nothing)
    if not rule.enabled:
        yield nothing(settled=("not_evaluated", f"switched_off: {rule.reason}"))
        return
    if measured.no_baseline is not None and needs_baseline(rule.metric):
        yield nothing(settled=("not_evaluated", f"no_baseline: {measured.no_baseline}"), required=_within(rule))
        return
    question = question_of(rule)
    if rule.bounded:
        yield _bound(rule, rule, partial(_at, measured.candidate, question))
    if rule.relative is not None:
        yield _relative(rule, rule.relative, question, measured)
    if rule.slices is not None:
        yield from _sliced(rule, rule.slices, question, measured)


def _bound(
    rule: Rule,
    bounds: Bounds,
    at: Callable[[float], Estimate | None],
    location: Location = (),
    slice_: Slice = (),
) -> Case:
    return Case(rule, "bound", at, bounds.min, bounds.max, _within(bounds), location, slice=slice_)


def _relative(
    rule: Rule, relative: Relative, question: Question, measured: Measurements, location: Location = ("relative",)
) -> Case:
    case = partial(Case, rule, "relative", location=location, slice=question.slice)
    if measured.no_baseline is not None:
        return case(_nothing, settled=("not_evaluated", f"no_baseline: {measured.no_baseline}"))
    change, baseline = measured.changes.get(question), measured.baseline.get(question)
    candidate = measured.candidate.get(question)
    value = baseline.value if baseline is not None and is_number(baseline.value) else None
    margins = {"drop": relative.max_drop, "rise": relative.max_rise}
    allowed = [f"{verb} by at most {_margin(each, value)}" for verb, each in margins.items() if each is not None]
    required = f"may {' and '.join(allowed)}"
    if change is None or baseline is None or candidate is None:
        return case(_nothing, required=required)
    if value == 0 and any(each and each.percent for each in margins.values()):
        reason = "zero_baseline: a percentage of the baseline's 0 is no margin; give an absolute one"
        return case(_nothing, settled=("error", reason), required=required)
    drop, rise = (None if each is None or value is None else each.of(value) for each in margins.values())
    return case(
        partial(change_against, change, candidate, baseline, relative),
        min=None if drop is None else 0.0 - drop,
        max=rise,
        required=required,
        lower="max_drop",
        upper="max_rise",
        baseline=value,
    )


def _margin(margin: Margin, baseline: float | None) -> str:
    amount = "" if baseline is None else f", {margin.of(baseline):.4g}"
    return f"{margin} of the baseline{amount}" if margin.percent else str(margin)


def _sliced(rule: Rule, slices: Slices, question: Question, measured: Measurements) -> Iterator[Case]:
    found, every = measured.slices.get(slices.by), tuple((column, "*") for column in slices.by)
    if found is None:
        by = ", ".join(slices.by)
        reason = f"missing_slice: the rows were not cut by {by}"
        yield Case(rule, "bound", _nothing, location=("slices", "by"), slice=every, settled=("error", reason))
        return
    enough = [each for each, rows in found.items() if rows >= slices.min_rows]
    yield from _unjudged(rule, slices, found)
    if not enough and not slices.required:
        reason = f"nothing_evaluated: no slice by {', '.join(slices.by)} has {slices.min_rows} rows"
        yield Case(rule, "bound", _nothing, location=("slices", "min_rows"), slice=every, settled=("error", reason))
    for each in enough:
        asked = question._replace(slice=each)
        bounds, where = slices.bounds_of(each)
        if bounds.bounded:
            yield _bound(rule, bounds, partial(_at, measured.candidate, asked), ("slices", *where), each)
        if slices.relative is not None:
            yield _relative(rule, slices.relative, asked, measured, ("slices", "relative"))
    if slices.worst_gap is not None:
        yield _gap(rule, slices, {each: measured.candidate.get(question._replace(slice=each)) for each in enough})


def _unjudged(rule: Rule, slices: Slices, found: Mapping[Slice, int]) -> Iterator[Case]:
    """Slices that are too small or not there at all: an error for those that the rule names."""
    from gate.policy.rules import slice_of

    required = [slice_of(slices.by, name) or () for name in slices.required]
    named = {slice_of(slices.by, name) or (): ("bounds", name) for name in slices.bounds}
    for each in dict.fromkeys((*required, *named, *found)):
        rows = found.get(each, 0)
        if rows >= slices.min_rows:
            continue
        reason = f"missing_slice: it has {rows} rows, needed are {slices.min_rows}"
        outcome: Outcome = "error" if each in required or each in named else "not_evaluated"
        key = ("required",) if each in required else named.get(each, ("min_rows",))
        yield Case(rule, "bound", _nothing, location=("slices", *key), slice=each, settled=(outcome, reason))


def _gap(rule: Rule, slices: Slices, estimates: Mapping[Slice, Estimate | None]) -> Case:
    largest = slices.worst_gap.max if slices.worst_gap else None
    case = partial(Case, rule, "worst_gap", max=largest, location=("slices", "worst_gap"))
    if len(estimates) < 2:
        reason = f"nothing_evaluated: {len(estimates)} of the slices have {slices.min_rows} rows, a gap needs two"
        return case(_nothing, settled=("error", reason))
    return case(partial(worst_gap, estimates), required=f"must be at most {largest:.12g}")


def _at(estimates: Mapping[Question, Estimate], question: Question, confidence: float) -> Estimate | None:
    found = estimates.get(question)
    return None if found is None else at(found, confidence)


def _nothing(_confidence: float) -> None:
    return None


def _within(bounds: Bounds) -> str:
    if not bounds.bounded:
        return ""
    if bounds.min is None:
        return f"must be at most {bounds.max:.12g}"
    if bounds.max is None:
        return f"must be at least {bounds.min:.12g}"
    return f"must be between {bounds.min:.12g} and {bounds.max:.12g}"
