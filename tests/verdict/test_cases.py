"""What a rule asks for: bounds, the change against a baseline, slices; and what it says where there is no answer."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from gate.verdict import Finding, Measurements, judge, question_of
from tests.verdict.made import (
    BASELINE,
    ON,
    compared,
    cut,
    estimate,
    found,
    judgement,
    languages,
    normal,
    on_all_rows,
    policy,
    refused,
    rule,
)

ACCURACY = "ridge_probe_accuracy"
EXACT = estimate(100.0, (100.0, 100.0))


def changed(relative: dict[str, Any], change: Any, baseline: Any, **changes: Any) -> Finding:
    of = rule(relative=relative, **changes)
    (finding,) = judgement(of, compared(of, change, baseline)).findings
    return finding


# Against a baseline.


@pytest.mark.parametrize(
    ("relative", "baseline", "interval", "expected"),
    [
        ({"max_drop": 2}, 100, (-1.5, -0.5), "pass"),
        ({"max_drop": 2}, 100, (-2, -1), "pass"),
        ({"max_drop": 2}, 100, (40, 60), "pass"),
        ({"max_drop": 2}, 100, (-3, -1), "inconclusive"),
        ({"max_drop": 2}, 100, (-4, -2.5), "fail"),
        ({"max_drop": 0}, 100, (0, 1), "pass"),
        ({"max_drop": 0}, 100, (-1, -0.5), "fail"),
        ({"max_rise": 2}, 100, (-60, -40), "pass"),
        ({"max_rise": 2}, 100, (1, 2), "pass"),
        ({"max_rise": 2}, 100, (1, 3), "inconclusive"),
        ({"max_rise": 2}, 100, (2.5, 4), "fail"),
        ({"max_drop": 2, "max_rise": 1}, 100, (-1.5, 0.5), "pass"),
        ({"max_drop": 2, "max_rise": 1}, 100, (1.5, 1.9), "fail"),
        ({"max_drop": 2, "max_rise": 1}, 100, (-3, -2.5), "fail"),
        ({"max_drop": "5%"}, 100, (-5, -4), "pass"),
        ({"max_drop": "5%"}, 100, (-6, -4), "inconclusive"),
        ({"max_drop": "5%"}, 100, (-7, -6), "fail"),
        ({"max_drop": "5%"}, 10, (-0.6, -0.55), "fail"),
        ({"max_rise": "5%"}, 100, (4, 5), "pass"),
        ({"max_rise": "5%"}, 100, (6, 7), "fail"),
    ],
)
def test_a_drop_and_a_rise_are_bounded_each_on_its_side(
    relative: dict[str, Any], baseline: float, interval: tuple[float, float], expected: str
) -> None:
    change = estimate(sum(interval) / 2, interval)
    assert changed(relative, change, estimate(baseline, (baseline, baseline))).status == expected


@pytest.mark.parametrize(("interval", "expected"), [((-4.5, -3), "pass"), ((-7, -6), "fail"), ((3, 60), "pass")])
def test_a_percentage_of_a_negative_baseline_keeps_its_direction(interval: tuple[float, float], expected: str) -> None:
    baseline, change = estimate(-100.0, (-100.0, -100.0)), estimate(sum(interval) / 2, interval)
    seen = changed({"max_drop": "5%"}, change, baseline)
    assert (seen.status, seen.min, seen.max, seen.baseline) == (expected, -5.0, None, -100.0)


def test_a_finding_of_a_change_says_what_it_was_compared_with() -> None:
    fallen = estimate(-7.0, (-8.0, -6.0), metric=ACCURACY)
    relative = {"max_drop": "5%", "max_rise": 12}
    seen = changed(relative, fallen, EXACT, metric=ACCURACY, why="w", paper="p")
    assert (seen.check, seen.slice, seen.status) == ("relative", None, "fail")
    assert (seen.value, seen.interval, seen.baseline) == (-7.0, (-8.0, -6.0), 100.0)
    assert (seen.min, seen.max, seen.margin, seen.why, seen.paper) == (-5.0, 12.0, 2.0, "w", "p")
    assert seen.location == ("relative", "max_drop")
    assert seen.message == (
        "ridge_probe_accuracy of layer 'embedding' changed by -7 [-8, -6] for the worse from the baseline's 100, "
        "may drop by at most 5% of the baseline, 5 and rise by at most 12"
    )
    assert changed({"max_rise": 1}, estimate(2.0, (1.5, 2.5)), EXACT).location == ("relative", "max_rise")


@pytest.mark.parametrize(
    ("metric", "change", "words"),
    [
        (ACCURACY, 3.0, " for the better"),
        (ACCURACY, -3.0, " for the worse"),
        ("collapse_index", 3.0, " for the worse"),
        ("collapse_index", -3.0, " for the better"),
        ("effective_rank", 3.0, ""),
        ("within_between_ratio.between_share", 3.0, ""),
        (ACCURACY, 0.5, ""),
    ],
)
def test_a_change_is_called_one_for_the_better_or_the_worse_where_that_can_be_said(
    metric: str, change: float, words: str
) -> None:
    ends = (change - 1, change + 1)
    seen = changed({"max_drop": 9}, estimate(change, ends, metric=metric), EXACT, metric=metric)
    assert f"changed by {change:.3g} [{ends[0]:.3g}, {ends[1]:.3g}]{words} from the baseline's 100" in seen.message


@pytest.mark.parametrize("relative", [{"max_drop": "5%"}, {"max_rise": "0%"}, {"max_drop": 1, "max_rise": "5%"}])
@pytest.mark.parametrize("severity", ["block", "warn"])
def test_a_percentage_of_zero_is_an_error(relative: dict[str, Any], severity: str) -> None:
    zero = estimate(0.0, (-1.0, 1.0))
    seen = changed(relative, estimate(0.0, (0.0, 0.0)), zero, severity=severity)
    assert seen.status == "error"
    assert seen.reason == "zero_baseline: a percentage of the baseline's 0 is no margin; give an absolute one"
    assert changed({"max_drop": 1}, estimate(0.0, (0.0, 0.0)), zero).status == "pass"


@pytest.mark.parametrize("relative", [{"max_drop": 1000}, {"max_drop": "99%"}, {"max_rise": 1000, "max_drop": 1000}])
@pytest.mark.parametrize(
    "baseline",
    [
        estimate(nan, (1.0, 2.0)),
        estimate(inf, (1.0, inf)),
        estimate(-inf, (-inf, 2.0)),
        estimate(None, None),
        estimate(True, (0.0, 2.0)),
        estimate("1", (0.0, 2.0)),
        estimate(100.0, None),
        estimate(100.0, (nan, 101.0)),
        estimate(100.0, (90.0, inf)),
        estimate(100.0, (101.0, 102.0)),
        refused(),
        refused(status="not_applicable"),
        refused(status="something else"),
    ],
)
def test_a_baseline_that_is_no_finite_measurement_is_an_error(relative: dict[str, Any], baseline: Any) -> None:
    seen = changed(relative, estimate(0.0, (0.0, 0.0)), baseline)
    assert seen.status == "error"
    assert "in the baseline, " in str(seen.reason)
    assert seen.message.startswith("effective_rank of layer 'embedding' could not be judged: ")


def test_a_baseline_that_more_rows_could_measure_leaves_it_open() -> None:
    baseline = refused("few_rows: 3 rows", "inconclusive", n_needed=90)
    seen = changed({"max_drop": 1000}, estimate(0.0, (0.0, 0.0)), baseline)
    assert (seen.status, seen.reason, seen.n_needed) == ("inconclusive", "few_rows: in the baseline, 3 rows", 90)


@pytest.mark.parametrize("change", [None, refused(), estimate(nan, (0.0, 0.0)), estimate(0.0, (-inf, 0.0))])
@pytest.mark.parametrize("baseline", [None, EXACT])
def test_a_change_that_is_no_finite_measurement_is_an_error(change: Any, baseline: Any) -> None:
    assert changed({"max_drop": 1000}, change, baseline).status == "error"


def test_without_a_baseline_what_compares_is_not_evaluated_and_the_rest_is() -> None:
    of = rule(min=3, relative={"max_drop": 1}, slices={"by": "language", "relative": {"max_rise": 1}, "min": 3})
    measured = languages(of, en=(100, estimate()))
    measured.candidate[measured.on()] = estimate()
    findings = judgement(of, measured.measurements("there is no baseline models:/x@champion")).findings
    assert [(each.check, each.slice, each.status) for each in findings] == [
        ("bound", None, "pass"),
        ("relative", None, "not_evaluated"),
        ("bound", "language=en", "pass"),
        ("relative", "language=en", "not_evaluated"),
    ]
    assert findings[1].reason == "no_baseline: there is no baseline models:/x@champion"
    assert "was not evaluated: no_baseline: there is no baseline models:/x@champion" in findings[1].message


@pytest.mark.parametrize("metric", ["knn_overlap", "prediction_entropy_ratio.entropy_shift"])
def test_a_number_of_two_versions_is_not_evaluated_without_a_baseline(metric: str) -> None:
    of = rule(metric=metric, min=0.5)
    reads = {"logits": {"path": "head"}}
    seen = judgement(of, Measurements({}, no_baseline="there is none"), reads=reads)
    assert [(each.status, each.reason) for each in seen.findings] == [("not_evaluated", "no_baseline: there is none")]
    assert seen.verdict.exit_code == 5


def test_the_metric_of_two_versions_of_a_model_with_a_baseline_is_judged_like_any_other() -> None:
    of = rule(metric="knn_overlap", min=0.5)
    assert found(of, estimate(0.6, (0.55, 0.65), metric="knn_overlap")).status == "pass"
    assert found(of, None).status == "error"


# Slices.


def by_slice(of: Any, measured: Any, **keys: Any) -> dict[tuple[str, str | None], str]:
    findings = judgement(of, measured.measurements(), **keys).findings
    return {(each.check, each.slice): each.status for each in findings}


def sliced(**keys: Any) -> Any:
    return rule(slices={"by": ["language"], **keys})


def test_every_slice_is_judged_by_the_bounds_of_slices() -> None:
    of = rule(min=96, slices={"by": ["language"], "min": 50})
    measured = languages(of, en=(100, normal(99, 0.1)), de=(100, normal(40, 0.1)), ja=(100, normal(50, 1)))
    measured.candidate[measured.on()] = normal(97, 0.1)
    assert by_slice(of, measured) == {
        ("bound", None): "pass",
        ("bound", "language=en"): "pass",
        ("bound", "language=de"): "fail",
        ("bound", "language=ja"): "inconclusive",
    }
    seen = judgement(of, measured.measurements()).findings[2]
    assert seen.message == "effective_rank of layer 'embedding' on language=de is 40 [39.8, 40.2], must be at least 50"
    assert (seen.location, seen.min, seen.n) == (("slices", "min"), 50, 100)


@pytest.mark.parametrize("name", ["ja", "language=ja"])
def test_a_slice_of_its_own_bounds_is_judged_by_these_alone(name: str) -> None:
    of = sliced(min=90, bounds={name: {"min": 30, "max": 60}})
    measured = languages(of, en=(100, normal(40, 0.1)), ja=(100, normal(40, 0.1)))
    assert by_slice(of, measured) == {("bound", "language=en"): "fail", ("bound", "language=ja"): "pass"}
    measured = languages(of, en=(100, normal(99, 0.1)), ja=(100, normal(99, 0.1)))
    assert by_slice(of, measured) == {("bound", "language=en"): "pass", ("bound", "language=ja"): "fail"}
    seen = judgement(of, measured.measurements()).findings[1]
    assert seen.location == ("slices", "bounds", name, "max")


def test_a_rule_that_bounds_single_slices_says_nothing_of_the_others() -> None:
    of = sliced(bounds={"ja": {"min": 30}})
    measured = languages(of, en=(100, normal(1, 0.1)), ja=(100, normal(40, 0.1)))
    assert by_slice(of, measured) == {("bound", "language=ja"): "pass"}


def test_a_slice_with_bounds_of_its_own_that_is_too_small_is_an_error() -> None:
    of = sliced(bounds={"ja": {"min": 30}})
    measured = languages(of, en=(100, normal(99, 0.1)), ja=(29, normal(99, 0.1)))
    assert by_slice(of, measured)[("bound", "language=ja")] == "error"
    assert judgement(of, measured.measurements()).verdict.status == "error"


def test_a_slice_with_bounds_of_its_own_that_is_not_there_is_an_error() -> None:
    of = sliced(bounds={"jp": {"min": 30}})
    measured = languages(of, en=(100, normal(1, 0.1)), ja=(100, normal(40, 0.1)))
    (seen,) = judgement(of, measured.measurements()).findings
    assert (seen.status, seen.slice, seen.location) == ("error", "language=jp", ("slices", "bounds", "jp"))
    assert seen.reason == "missing_slice: it has 0 rows, needed are 30"


def test_a_slice_that_is_too_small_is_listed_and_not_judged() -> None:
    of = sliced(min=1, min_rows=200)
    measured = languages(of, en=(200, normal(99, 0.1)), ja=(199, normal(99, 0.1)))
    assert by_slice(of, measured) == {("bound", "language=en"): "pass", ("bound", "language=ja"): "not_evaluated"}
    seen = judgement(of, measured.measurements()).findings[0]
    assert (seen.slice, seen.location) == ("language=ja", ("slices", "min_rows"))
    assert seen.message == (
        "effective_rank of layer 'embedding' on language=ja was not evaluated: "
        "missing_slice: it has 199 rows, needed are 200"
    )


@pytest.mark.parametrize("rows", [None, 29])
def test_a_required_slice_that_is_missing_or_too_small_is_an_error(rows: int | None) -> None:
    of = sliced(min=1, required=["en", "language=ja"])
    small: Any = {} if rows is None else {"ja": (rows, normal(99, 0.1))}
    measured = languages(of, en=(100, normal(99, 0.1)), **small)
    assert by_slice(of, measured) == {("bound", "language=en"): "pass", ("bound", "language=ja"): "error"}
    seen = judgement(of, measured.measurements()).findings[0]
    assert seen.reason == f"missing_slice: it has {rows or 0} rows, needed are 30"
    assert seen.location == ("slices", "required")
    assert judgement(of, measured.measurements()).verdict.status == "error"


@pytest.mark.parametrize(
    "asked", [{"min": 1}, {"worst_gap": {"max": 9}}, {"relative": {"max_drop": 9}}, {"bounds": {"en": {"min": 1}}}]
)
@pytest.mark.parametrize("bounded", [{}, {"min": 1}])
def test_slices_that_are_all_too_small_are_an_error_and_never_a_pass(
    asked: dict[str, Any], bounded: dict[str, Any]
) -> None:
    of = rule(slices={"by": ["language"], **asked}, **bounded)
    measured = languages(of, en=(29, normal(99, 0.1)), ja=(3, normal(99, 0.1)))
    measured.candidate[measured.on()] = normal(99, 0.1)
    judged = judgement(of, measured.measurements())
    assert (judged.verdict.status, judged.verdict.exit_code) == ("error", 3)
    reasons = [each.reason for each in judged.findings if each.status == "error"]
    assert "nothing_evaluated: no slice by language has 30 rows" in reasons
    softest: Any = {"inconclusive": "pass", "severity": "warn"}
    assert judgement(of, measured.measurements(), defaults=softest).verdict.exit_code == 3


def test_a_probe_set_without_any_slice_is_an_error() -> None:
    of = sliced(min=1)
    measured = languages(of)
    assert by_slice(of, measured) == {("bound", "language=*"): "error"}
    (seen,) = judgement(of, measured.measurements()).findings
    assert seen.reason == "missing_slice: the rows were not cut by language"
    measured.slices[("language",)] = {}
    (seen,) = judgement(of, measured.measurements()).findings
    assert seen.reason == "nothing_evaluated: no slice by language has 30 rows"


def test_a_slice_without_an_estimate_is_an_error() -> None:
    of = sliced(min=1)
    measured = languages(of, en=(100, normal(99, 0.1)), ja=(100, None))
    assert by_slice(of, measured) == {("bound", "language=en"): "pass", ("bound", "language=ja"): "error"}


def test_rows_are_cut_by_several_columns_at_once() -> None:
    of = rule(
        slices={
            "by": ["language", "site"],
            "min": 50,
            "bounds": {"site=3, language=ja": {"min": 10}},
            "required": ["language=en, site=1", "site=9, language=en"],
        }
    )
    slices: Any = {
        (("language", "en"), ("site", "1")): (100, normal(60, 0.1)),
        (("language", "ja"), ("site", "1")): (100, normal(40, 0.1)),
        (("language", "ja"), ("site", "3")): (100, normal(40, 0.1)),
    }
    assert by_slice(of, cut(of, slices)) == {
        ("bound", "language=en, site=9"): "error",
        ("bound", "language=en, site=1"): "pass",
        ("bound", "language=ja, site=1"): "fail",
        ("bound", "language=ja, site=3"): "pass",
    }


def test_every_slice_is_compared_with_the_baseline_on_its_own_rows() -> None:
    of = sliced(relative={"max_drop": "10%"})
    measured = languages(of, en=(100, normal(99, 0.1)), ja=(100, normal(20, 0.1)))
    for name, change, before in (("en", -12.0, 119.5), ("ja", -12.0, 32.0)):
        asked = measured.on((("language", name),))
        measured.changes[asked], measured.baseline[asked] = normal(change, 0.1), normal(before, 0.1)
    assert by_slice(of, measured) == {("relative", "language=en"): "inconclusive", ("relative", "language=ja"): "fail"}
    measured.baseline[measured.on((("language", "en"),))] = normal(200, 0.1)
    assert by_slice(of, measured) == {("relative", "language=en"): "pass", ("relative", "language=ja"): "fail"}
    seen = judgement(of, measured.measurements()).findings[1]
    assert (seen.location, seen.baseline, seen.slice) == (("slices", "relative", "max_drop"), 32.0, "language=ja")
    assert "on language=ja changed by -12 [-12.2, -11.8] from the baseline's 32, may drop" in seen.message


def test_a_slice_without_a_change_is_an_error() -> None:
    of = sliced(relative={"max_drop": 1})
    assert by_slice(of, languages(of, en=(100, normal(99, 0.1)))) == {("relative", "language=en"): "error"}


def test_the_gap_between_slices_is_judged_with_its_interval() -> None:
    of = sliced(worst_gap={"max": 10})
    near = languages(of, en=(100, normal(60, 0.1)), de=(100, normal(58, 0.1)), ja=(100, normal(55, 0.1)))
    assert by_slice(of, near) == {("worst_gap", None): "pass"}
    apart = languages(of, en=(100, normal(60, 0.1)), de=(100, normal(58, 0.1)), ja=(70, normal(45, 0.1)))
    (seen,) = judgement(of, apart.measurements()).findings
    assert (seen.check, seen.status, seen.value, seen.n) == ("worst_gap", "fail", 15.0, 270)
    assert (seen.max, seen.location) == (10, ("slices", "worst_gap", "max"))
    assert seen.message == (
        "effective_rank of layer 'embedding' differs between slices by 15 [14.7, 15.3] "
        "(language=ja below language=en), must be at most 10"
    )


def test_small_slices_are_no_part_of_the_gap() -> None:
    of = sliced(worst_gap={"max": 10})
    measured = languages(of, en=(100, normal(60, 0.1)), de=(100, normal(58, 0.1)), ja=(3, normal(1, 0.1)))
    assert by_slice(of, measured) == {("worst_gap", None): "pass", ("bound", "language=ja"): "not_evaluated"}


def test_one_slice_alone_has_no_gap_and_does_not_pass() -> None:
    of = sliced(min=1, worst_gap={"max": 10})
    measured = languages(of, en=(100, normal(60, 0.1)), ja=(3, normal(1, 0.1)))
    assert by_slice(of, measured)["worst_gap", None] == "error"


@pytest.mark.parametrize(
    ("odd", "status"),
    [
        (None, "error"),
        (estimate(nan, (1.0, 2.0)), "error"),
        (estimate(60.0, (nan, 61.0)), "error"),
        (estimate(60.0, (59.0, inf)), "error"),
        (estimate(True, (0.0, 2.0)), "error"),
        (estimate("1", (0.0, 2.0)), "error"),
        (estimate(60.0, ("1", 61.0)), "error"),
        (estimate(60.0, None), "error"),
        (refused(), "error"),
        (refused(status="something else"), "error"),
        (refused("few_rows: too few", "inconclusive"), "inconclusive"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_slice_without_a_number_leaves_no_gap_to_judge(odd: Any, status: str, first: bool) -> None:
    of = sliced(worst_gap={"max": 1000})
    whole: Any = {"en": (100, normal(60, 0.1)), "de": (100, normal(58, 0.1))}
    slices: Any = {"aa": (100, odd), **whole} if first else {**whole, "zz": (100, odd)}
    assert by_slice(of, languages(of, **slices)) == {("worst_gap", None): status}


def test_an_error_in_one_slice_is_not_hidden_by_another_that_is_open() -> None:
    of = sliced(worst_gap={"max": 1000})
    measured = languages(of, en=(50, refused("few_rows: x", "inconclusive")), ja=(50, refused("zero_rows: y")))
    (seen,) = judgement(of, measured.measurements()).findings
    assert (seen.status, seen.reason) == ("error", "zero_rows: on language=ja, y")


# Switched off.


def test_a_rule_that_is_switched_off_is_listed_with_the_reason_and_judges_nothing() -> None:
    of = rule(min=1000, relative={"max_drop": 0}, enabled=False, override=True, reason="No activation, none can die.")
    judged = judgement(of, on_all_rows(of, estimate()))
    (seen,) = judged.findings
    assert (seen.status, seen.reason) == ("not_evaluated", "switched_off: No activation, none can die.")
    assert judged.verdict.exit_code == 5


def test_a_rule_that_is_switched_off_leaves_the_others_as_they_are() -> None:
    off, on = rule(id="off", min=1000, enabled=False, override=True, reason="Not for this kind."), rule(min=3)
    judged = judge(policy(off, on), on_all_rows(on, estimate()), ON)
    assert [each.status for each in judged.findings] == ["not_evaluated", "pass"]
    assert (judged.verdict.status, judged.verdict.exit_code) == ("passed", 0)


def test_rules_ask_for_their_own_parameters() -> None:
    five, default = rule(metric="knn_label_agreement", min=0.5, params={"k": 5}), rule(metric="knn_label_agreement")
    assert question_of(five) != question_of(default)
    assert dict(question_of(five).params)["k"] == 5
    told = estimate(0.9, (0.8, 0.95), metric="knn_label_agreement")
    (seen,) = judgement(five, Measurements({question_of(default): told}), baseline=BASELINE).findings
    assert (seen.status, seen.reason) == ("error", "missing: no estimate was made for this rule")
