"""From measurements to better, worse, different, no difference, or no answer."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gate.comparison.differences import EVERY_LAYER, Answers, answered
from gate.estimate import Estimate
from gate.verdict import Measurements, Question

LOWER, HIGHER, EITHER, OF_TWO = "collapse_index", "knn_label_agreement", "effective_rank", "cka_debiased"


def estimate(value: float | None = 0.0, half: float = 0.1, **changes: Any) -> Estimate:
    """A value in the middle of an interval of two standard errors either way, known at several levels."""
    known = {} if value is None else {level: (value - half * k, value + half * k) for level, k in _WIDER.items()}
    fields: dict[str, Any] = {
        "metric": "m", "status": "ok", "reason": None, "value": value, "interval": known.get(0.95),
        "standard_error": half / 2, "n": 100, "d": 8, "c": None, "k": None, "n_needed": None, "method": "delta method",
        "confidence": 0.95, "influence": None, "detail": None, "breakdown": None, "params": {}, "intervals": known,
    }  # fmt: skip
    return Estimate(**{**fields, **changes})


_WIDER = {0.9: 0.8, 0.95: 1.0, 0.975: 1.2, 0.98333333: 1.3, 0.99: 1.4, 0.9999: 2.0}


def sorted_out(changes: dict[Question, Estimate], *, holm: bool = False, **measured: Any) -> Answers:
    both = dict.fromkeys(changes, estimate())
    found = {"candidate": both, "baseline": both, **measured}
    return answered(list(changes), Measurements(changes=changes, **found), 0.95, holm=holm)


def outcome(metric: str, value: float, half: float = 0.1) -> str:
    (found,) = sorted_out({Question("output", metric): estimate(value, half)}).differences
    return found.outcome


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [
        (LOWER, 0.5, "worse"),
        (LOWER, -0.5, "better"),
        (HIGHER, 0.5, "better"),
        (HIGHER, -0.5, "worse"),
        (EITHER, 0.5, "different"),
        (EITHER, -0.5, "different"),
        (LOWER, 0.05, "no_difference"),
        (HIGHER, 0.1, "no_difference"),  # an end on 0 holds it
        (EITHER, -0.1, "no_difference"),
        (LOWER, 0.0, "no_difference"),
    ],
)
def test_the_outcome_is_that_of_the_whole_interval(metric: str, value: float, expected: str) -> None:
    assert outcome(metric, value) == expected


@pytest.mark.parametrize("ends", [(-math.inf, math.inf), (math.nan, 1.0), (0.1, math.inf)])
def test_an_interval_without_finite_ends_compares_nothing(ends: tuple[float, float]) -> None:
    question = Question("output", LOWER)
    found = sorted_out({question: estimate(0.5, interval=ends)})
    assert (found.differences, list(found.refused)) == ((), [question])
    assert found.refused[question].startswith("not_finite: ")


def test_a_refusal_says_whose_it_is() -> None:
    question = Question("output", LOWER)
    refused = estimate(None, status="inconclusive", reason="few_rows: 3 rows")
    for whose, key in (("A", "baseline"), ("B", "candidate")):
        both: dict[str, Any] = {key: {question: refused}}
        found = sorted_out({question: refused}, **both)
        assert found.refused == {question: f"few_rows: 3 rows (of {whose})"}
    same = {question: refused}
    assert sorted_out(same, candidate=same, baseline=same).refused == {question: "few_rows: 3 rows"}


def test_what_was_not_measured_is_refused_and_not_passed_over() -> None:
    question = Question("output", LOWER)
    for key in ("baseline", "candidate"):
        nothing: dict[str, Any] = {key: {}}
        found = sorted_out({question: estimate(0.5)}, **nothing)
        assert found.refused == {question: "missing: no estimate was made"}


def test_a_metric_of_two_versions_stands_apart() -> None:
    question = Question("output", OF_TWO)
    candidate = {question: estimate(0.5)}
    found = answered([question], Measurements(candidate=candidate), 0.95, holm=False)
    assert (found.differences, found.between, found.refused) == ((), candidate, {})
    unsound = Measurements(candidate={question: estimate(None, status="error", reason="few_rows: 3")})
    assert answered([question], unsound, 0.95, holm=False).refused == {question: "few_rows: 3"}


def test_a_read_out_that_one_version_alone_does_not_have_stands_apart() -> None:
    question = Question("output", "prediction_entropy_ratio.entropy_shift")
    alone = estimate(None, status="not_applicable", reason="missing_input: it needs baseline_logits")
    found = sorted_out({question: alone}, candidate={question: estimate(0.5)}, baseline={question: alone})
    assert list(found.between) == [question]
    other = Question("output", "prediction_entropy_ratio")
    assert not sorted_out({other: alone}, candidate={other: estimate(0.5)}, baseline={other: alone}).between


def test_what_changed_most_in_its_own_errors_comes_first() -> None:
    sizes = {"ece": (0.3, 0.2), LOWER: (0.5, 0.4), "mean_cosine": (0.1, 0.01), "cdnv": (-1.0, 0.2)}
    found = sorted_out({Question("output", metric): estimate(*each) for metric, each in sizes.items()})
    assert [each.question.metric for each in found.differences] == ["mean_cosine", "ece", LOWER, "cdnv"]
    assert [each.outcome for each in found.differences] == ["worse"] * 3 + ["better"]


def test_without_a_standard_error_the_half_width_counts_and_a_certain_change_is_the_strongest() -> None:
    (half,) = sorted_out({Question("output", LOWER): estimate(0.5, 0.1, standard_error=None)}).differences
    (certain,) = sorted_out({Question("output", LOWER): estimate(0.5, 0.0, standard_error=0.0)}).differences
    (none,) = sorted_out({Question("output", LOWER): estimate(0.0, 0.0, standard_error=0.0)}).differences
    assert half.strength == pytest.approx(5.0)
    assert (certain.strength, none.strength) == (math.inf, 0.0)


def test_at_once_a_difference_must_hold_at_the_level_that_is_left_for_it() -> None:
    strong, middling, weak = 0.3, 0.115, 0.105  # beyond the half-widths at 0.99, at 0.95, at 0.95
    found = {Question("output", LOWER): strong, Question("output", "ece"): middling, Question("output", "cdnv"): weak}
    changes = {question: estimate(value) for question, value in found.items()}
    assert [each.outcome for each in sorted_out(changes).differences] == ["worse"] * 3
    at_once = sorted_out(changes, holm=True).differences
    assert [each.outcome for each in at_once] == ["worse", "no_difference", "no_difference"]
    assert {each.change.confidence for each in at_once} == {0.975}  # 1 - 0.05 / 2: the strong one is settled
    certain = {question: estimate(0.5) for question in changes}
    assert [each.outcome for each in sorted_out(certain, holm=True).differences] == ["worse"] * 3


def test_one_answer_stands_for_layers_that_all_have_it() -> None:
    first, second = Question("one", LOWER), Question("two", LOWER)
    same = sorted_out({first: estimate(0.5), second: estimate(0.5)}).differences
    assert [each.question.layer for each in same] == [EVERY_LAYER]
    other = sorted_out({first: estimate(0.5), second: estimate(0.4)}).differences
    assert [each.question.layer for each in other] == ["one", "two"]
    third = {**dict.fromkeys((first, second), estimate(0.5)), Question("three", LOWER): estimate(0.4)}
    assert sorted(each.question.layer for each in sorted_out(third).differences) == ["one", "three", "two"]
    with_params = Question("two", LOWER, (("k", 5),))
    assert len(sorted_out({first: estimate(0.5), with_params: estimate(0.5)}).differences) == 2
    assert [each.question.layer for each in sorted_out({first: estimate(0.5)}).differences] == ["one"]
