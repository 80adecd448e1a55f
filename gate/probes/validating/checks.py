"""What is expected of a probe set, as stock expectations on frames of facts; plain data, nothing is checked here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from gate.errors import ProbeError
from gate.probes.columns import SPLITS
from gate.probes.validating.facts import shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gate.probes.validating.facts import Facts, FrameName

Severity = Literal["critical", "warning"]

_SUM = "expect_column_sum_to_be_between"
_BETWEEN = "expect_column_values_to_be_between"
_IN_SET = "expect_column_values_to_be_in_set"
ROW_COUNT = "expect_table_row_count_to_be_between"


class Portion(Protocol):
    """Some of the rows: a number of them, or a percentage."""

    @property
    def amount(self) -> float:
        """The number."""

    @property
    def percent(self) -> bool:
        """Whether it is a percentage."""


@dataclass(frozen=True)
class Expectations:
    """What a probe set must be; None where nothing is asked.

    Attributes:
        packs: Ready-made sets that the bounds come from, for the record.
        min_rows: Fewest rows to measure.
        min_classes: Fewest classes.
        min_rows_per_class: Fewest rows of each class.
        max_class_share: Largest share of one class.
        min_rows_per_group: Fewest rows of each group.
        max_duplicates: Most rows whose input equals that of an earlier one.
        max_leakage: Most rows whose input is among the reference rows too.
        length: Smallest and largest length of a row.
        unique: Columns without a value that comes twice, besides the id.
        not_null: Columns without a missing value, besides those with a role.
        suite: File of a suite of Great Expectations.
        warn: Bounds that only warn.
        shown: Whether a model is shown the inputs, so that they must differ; where vectors stand for a model it is not.
    """

    packs: tuple[str, ...] = ("basic",)
    min_rows: int = 1
    min_classes: int | None = None
    min_rows_per_class: int | None = None
    max_class_share: float | None = None
    min_rows_per_group: int | None = None
    max_duplicates: Portion | None = None
    max_leakage: Portion | None = None
    length: tuple[float | None, float | None] | None = None
    unique: tuple[str, ...] = ()
    not_null: tuple[str, ...] = ()
    suite: str | None = None
    warn: frozenset[str] = frozenset()
    shown: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are named here."""
        return tuple(dict.fromkeys((*self.unique, *self.not_null)))


@dataclass(frozen=True)
class Check:
    """One expectation on one frame.

    Attributes:
        fault: What it is called: the key of the policy, or `finite`, `width`, …
        column: Of the probe set; several with commas between them; "" where it is about none.
        frame: Which facts it looks at.
        type: A stock expectation of Great Expectations.
        kwargs: Its arguments.
        words: What is wrong where it does not hold, with `{rows}`, `{names}` and `{observed}`.
        severity: What becomes of a probe set for which it does not hold.
        at: Name of the rows at fault in `Facts.places`; "" where the expectation says them itself, or there are none.
        which: Tells it apart from others of the same fault and column; "" where there are none.
    """

    fault: str
    column: str
    frame: FrameName
    type: str
    kwargs: Mapping[str, Any]
    words: str
    severity: Severity = "critical"
    at: str = ""
    which: str = ""

    @property
    def name(self) -> str:
        """For a list of checks: `not_null(topic)`, `suite(topic: [0] column_values_to_be_unique)`."""
        about = ": ".join(filter(None, (self.column, self.which)))
        return f"{self.fault}({about})" if about else self.fault


def checks_of(facts: Facts, expected: Expectations) -> list[Check]:
    """Everything that is expected; the number of rows comes first, as nothing can be said of none.

    Args:
        facts: Of the probe set, with the columns that the expectations name.
        expected: What is asked.
    """
    found = [*_of_rows(facts, expected), *_of_columns(facts, expected), *_of_inputs(facts, expected)]
    found += [*_of_numbers(facts, expected), *_of_splits(facts, expected)]
    found += [*_of_classes(facts, expected), *_of_groups(facts, expected)]
    _require_asked(found, facts, expected)
    return [_softened(check, expected) for check in found]


def _require_asked(checks: Iterable[Check], facts: Facts, expected: Expectations) -> None:
    """Nothing passes by absence: a column that is named, in `probe.columns` or by an expectation, is checked."""
    asked = [("not_null", column) for column, role in facts.roles.items() if role or column in expected.not_null]
    asked += [("unique", column) for column in expected.unique]
    asked += [] if facts.unsuited else [("width", column) for column in facts.inputs + facts.pairs]
    made = [(check.fault, f", {check.column}, ") for check in checks]
    unsuited = {each.column for each in facts.unsuited}
    for fault, column in asked:
        if column in unsuited or (fault == "unique" and facts.is_empty(column)):
            continue  # which is a fault of its own
        if not any(fault == each and f", {column}, " in columns for each, columns in made):
            raise ProbeError(f"column {column!r}: nothing would be checked of it; this is a fault of gate, report it")


def _of_rows(facts: Facts, expected: Expectations) -> Iterator[Check]:
    words = f"{{observed}} rows to measure, expected at least {expected.min_rows}; add rows"
    if facts.column("split") not in facts.read:
        yield Check("min_rows", "", "totals", _SUM, _on("rows", low=max(expected.min_rows, 1)), words)
    else:
        yield Check("rows", "", "totals", _SUM, _on("rows", low=1), "the probe set holds no row; add rows")
        yield Check("min_rows", "", "totals", _SUM, _on("measured", low=expected.min_rows), words)


def _softened(check: Check, expected: Expectations) -> Check:
    return replace(check, severity="warning") if check.fault in expected.warn else check


def _on(column: str, *, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    ends = {"min_value": low, "max_value": high}
    return {"column": column, **{key: end for key, end in ends.items() if end is not None}}


def _few(fault: str, column: str, at: str, words: str, most: float = 0) -> Check:
    """That something is so in no row, or in few."""
    return Check(fault, column, "totals", _SUM, _on(at, high=most), words, at=at)


def _called(facts: Facts, column: str) -> str:
    """A column as a message calls it: label 'topic'."""
    return f"{facts.roles.get(column) or 'column'} {column!r}"


def _of_columns(facts: Facts, expected: Expectations) -> Iterator[Check]:
    """Columns of the right kind, without a missing value, and unique where they must be."""
    columns = ", ".join(dict.fromkeys(each.column for each in facts.unsuited))
    yield Check("type", columns, "columns", _BETWEEN, _on("unsuited", high=0), "{names}")
    for column in facts.read:
        called = _called(facts, column)
        is_unique = column == facts.column("id") or column in expected.unique
        if facts.roles[column] or column in expected.not_null or (is_unique and facts.is_empty(column)):
            words = f"{called} is missing in {{rows}}; every row needs one"
            yield _few("not_null", column, f"missing {column}", words)
        if is_unique and not facts.is_empty(column):
            words = f"{called} is not unique in {{rows}}; no value may come twice"
            yield _few("unique", column, f"repeated {column}", words)


def _of_inputs(facts: Facts, expected: Expectations) -> Iterator[Check]:
    inputs = [column for column in facts.inputs if facts.is_suited(column, "input")]
    pairs = [column for column in facts.pairs if facts.is_suited(column, "pair")]
    if not inputs:
        return
    shown = dict.fromkeys(pairs, "pair") | dict.fromkeys(inputs, "input")
    columns = ", ".join(inputs)
    for fault, fact, wrong in (("not_null", "missing", "is missing"), ("finite", "nonfinite", "is not finite")):
        at = [column for column in dict.fromkeys(inputs + pairs) if column in facts.at_fault.get(fact, shown)]
        views = {view: ", ".join(repr(column) for column in at if shown[column] == view) for view in ("input", "pair")}
        called = " and ".join(f"{view} {names}" for view, names in views.items() if names)
        needed = "finite numbers" if fault == "finite" else "one, whole (pandas writes NaN as a missing value)"
        words = f"{called} {wrong} in {{rows}}; every row needs {needed}"
        yield _few(fault, ", ".join(at), fact, words)
    yield from _without_strays(facts, shown)
    usual = facts.usual_width
    words = f"input does not have {usual} values in {{rows}}; every row needs as many"
    yield Check("width", columns, "widths", _IN_SET, _in("width", [usual]), words, at="width")
    if "pair width" in facts.places:
        called = f"pair {', '.join(map(repr, pairs))}"
        words = f"{called} does not have as many values as the input in {{rows}}; every row needs as many"
        yield _few("width", ", ".join(pairs), "pair width", words)
    if facts.measured > 1 and expected.shown:
        rows = f"all {facts.measured} rows to measure"
        words = f"input is the same in {rows}, which says nothing; check columns.input, or add rows with other inputs"
        yield Check("constant", columns, "totals", _SUM, _on("different inputs", low=2), words)
    if (most := expected.max_duplicates) is not None:
        words = f"{{rows}} have the input of an earlier row, expected at most {_text(most)}; remove them"
        yield _few("max_duplicates", columns, "copy", words, _allowed(most, facts))
    for column in (each for each in expected.unique if each in shown and each not in facts.roles):
        words = f"{shown[column]} {column!r} is not unique in {{rows}}; no value may come twice"
        yield _few("unique", column, f"repeated {column}", words)


def _without_strays(facts: Facts, shown: Mapping[str, str]) -> Iterator[Check]:
    """That no column of numbers holds a text, of which a reader of CSV would make a column of texts."""
    for each in facts.strays:
        values = ", ".join(shortened(repr(value)) for value in each.values)
        words = (
            f"{shown[each.column]} {each.column!r} holds text in {{rows}}: {values}, among {each.among} "
            f"column{'s' * (each.among > 1)} of numbers; write a number in every row, or, where it is a column of "
            "texts, in every row one that is no number"
        )
        yield _few("type", each.column, f"text {each.column}", words)


def of_pictures(role: str, column: str, reasons: Iterable[str]) -> Check:
    """That every picture of a column can be read.

    Args:
        role: input or pair.
        column: Its name.
        reasons: Why those cannot that were found.
    """
    several = list(dict.fromkeys(reasons))
    words = f"{role} {column!r} in {{rows}} {several[0]}{'; others for other reasons' if several[1:] else ''}"
    return _few("picture", column, f"unreadable {column}", words)


def _allowed(most: Portion, facts: Facts) -> float:
    return most.amount / 100 * facts.measured if most.percent else most.amount


def _in(column: str, allowed: list[Any]) -> dict[str, Any]:
    return {"column": column, "value_set": allowed}


def _text(most: Portion) -> str:
    return f"{most.amount:.12g}{'%' if most.percent else ''}"


def _of_numbers(facts: Facts, expected: Expectations) -> Iterator[Check]:
    if expected.length is not None:
        yield from _needed(facts, "length", "length")
    for column, role in facts.numbers.items():
        if not facts.is_suited(column, role) or facts.is_empty(column):
            continue
        called = f"{role} {column!r}"
        words = f"{called} is not finite in {{rows}}; every row needs a finite number"
        yield _few("finite", column, f"nonfinite {column}", words)
        if role == "length" and expected.length is not None:
            low, high = expected.length
            ends = [f"{word} {end:.12g}" for word, end in (("at least", low), ("at most", high)) if end is not None]
            words = f"{called} lies outside in {{rows}}, expected {' and '.join(ends)}"
            yield _few("length", column, f"outside {column}", words)


def _needed(facts: Facts, bound: str, role: str) -> Iterator[Check]:
    """A check that does not hold, where there is no column that a bound is about: it would ask for nothing."""
    if facts.column(role) is None:
        words = f"there is no {role} column, which `{bound}` is about; name it in probe.columns"
        kind = "expect_column_distinct_values_to_contain_set"
        yield Check(bound, "", "columns", kind, _in("role", [role]), words)


def _of_splits(facts: Facts, expected: Expectations) -> Iterator[Check]:
    column = facts.column("split")
    if column is not None and column in facts.read:
        words = f"split {column!r} is none of {', '.join(SPLITS)} in {{rows}}"
        yield Check("split", column, "splits", _IN_SET, _in("split", list(SPLITS)), words, at=f"unknown {column}")
    if (most := expected.max_leakage) is not None:
        yield from _needed(facts, "max_leakage", "split")
        words = f"the input of {{rows}} is that of a reference row too, expected at most {_text(most)}; remove them"
        yield _few("max_leakage", ", ".join(facts.inputs), "leaked", words, _allowed(most, facts))


def _of_classes(facts: Facts, expected: Expectations) -> Iterator[Check]:
    label = facts.column("label")
    bounds = ("min_classes", "min_rows_per_class", "max_class_share")
    if label is None:
        for bound in bounds:
            yield from _needed(facts, bound, "label") if getattr(expected, bound) is not None else ()
        return
    called = f"label {label!r}"
    if (few := expected.min_classes) is not None:
        words = f"{called} has {{observed}} classes, expected at least {few}"
        yield Check("min_classes", label, "classes", ROW_COUNT, {"min_value": few}, words)
    if (few := expected.min_rows_per_class) is not None:
        words = f"{called} has too few rows of {{names}}, expected at least {few} of each class"
        yield Check("min_rows_per_class", label, "classes", _BETWEEN, _on("rows", low=few), words)
    if (most := expected.max_class_share) is not None:
        words = f"{called} is mostly {{names}}, expected at most {most:.12g} of the rows in one class"
        yield Check("max_class_share", label, "classes", _BETWEEN, _on("share", high=most), words)


def _of_groups(facts: Facts, expected: Expectations) -> Iterator[Check]:
    if (few := expected.min_rows_per_group) is None:
        return
    yield from _needed(facts, "min_rows_per_group", "group")
    if (group := facts.column("group")) is not None:
        words = f"group {group!r} has too few rows of {{names}}, expected at least {few} of each group"
        yield Check("min_rows_per_group", group, "groups", _BETWEEN, _on("rows", low=few), words)
