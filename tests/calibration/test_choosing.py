from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from gate.calibration import asking, choosing, measuring, proposing
from gate.calibration.asking import Asked
from gate.calibration.choosing import KINDS, MOST_RULES, chosen, family_of
from gate.calibration.measuring import Version
from gate.calibration.proposing import LeftOut, Proposal, Shares, proposed
from gate.calibration.worthless import worthless
from gate.policy.loading import load_probe_spec
from tests.calibration import versions

if TYPE_CHECKING:
    from gate.calibration.worthless import Worthless


@dataclass(frozen=True)
class Measured:
    asked: Asked
    good: list[Version]
    bad: list[Version]
    nothing: Worthless

    def proposed(
        self, good: list[Version] | None = None, bad: list[Version] | None = None, nothing: Worthless | None = None
    ) -> tuple[list[Proposal], list[LeftOut], Shares]:
        worthless_ones = self.nothing if nothing is None else nothing
        return proposed(
            self.asked.candidates,
            good or self.good,
            bad or [],
            worthless_ones,
            false_alarm=0.05,
            assurance=0.9,
            level=0.95,
        )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    folder = tmp_path_factory.mktemp("versions")
    asked = asking.of_the_catalogue(load_probe_spec(versions.probe(folder)), {}, {})
    good = [measuring.measured(asked.policy, versions.good(folder, seed), keep_rows=seed == 0) for seed in range(6)]
    bad = [measuring.measured(asked.policy, versions.bad(folder, seed)) for seed in range(2)]
    return Measured(asked, good, bad, worthless(good[0].samples, [each.rule for each in asked.candidates]))


def test_every_bound_that_was_considered_shares_the_rate(measured: Measured) -> None:
    found, left_out, shares = measured.proposed(measured.good[:2])
    answered = [each for each in measured.asked.candidates if not any(each is lost.candidate for lost in left_out)]
    assert {each.candidate.rule.id for each in found} == {each.rule.id for each in answered}
    unanswered = [each for each in left_out if "has no answer" in each.reason]
    considered = sum(len(each.sides) for each in measured.asked.candidates) - sum(
        len(each.candidate.sides) for each in unanswered
    )
    assert shares.bounds == considered > sum(len(each.bounds) for each in found)


def test_every_good_version_lies_inside_every_bound(measured: Measured) -> None:
    for proposal in measured.proposed()[0]:
        for reading in proposal.good:
            for each in proposal.bounds:
                assert reading.low >= each.number if each.side == "min" else reading.high <= each.number


def test_a_metric_that_one_good_version_does_not_answer_is_left_out(measured: Measured) -> None:
    question = next(question for question in measured.good[2].estimates if question.metric == "mean_cosine")
    silent = replace(measured.good[2].estimates[question], status="inconclusive", reason="few_rows: too few")
    broken = replace(measured.good[2], estimates={**measured.good[2].estimates, question: silent})
    found, left_out, _ = measured.proposed([*measured.good[:2], broken])
    assert "mean-cosine" not in {each.candidate.rule.id for each in found}
    reasons = {each.candidate.rule.id: each.reason for each in left_out}
    assert reasons["mean-cosine"] == "good-2.npz has no answer: few_rows: too few"


def test_an_estimate_without_a_finite_interval_is_no_reading(measured: Measured) -> None:
    estimate = next(iter(measured.good[0].estimates.values()))
    assert proposing._reading(None, 0.95) == "missing: no estimate was made"
    broken = replace(estimate, status="ok", interval=(0.0, math.inf), value=0.0, intervals={})
    assert "not_finite" in str(proposing._reading(broken, 0.95))
    outside = replace(estimate, status="ok", interval=(0.0, 1.0), value=2.0, intervals={})
    assert "not_finite" in str(proposing._reading(outside, 0.95))


def test_a_bound_that_lets_everything_worthless_pass_is_left_out(measured: Measured) -> None:
    _, left_out, _ = measured.proposed(measured.good[:2])
    reasons = [each.reason for each in left_out]
    assert any(reason.startswith("too wide: ") and "everything worthless pass" in reason for reason in reasons)


def test_what_catches_a_bad_version_is_never_too_wide(measured: Measured) -> None:
    as_good = {question: each.value for question, each in measured.good[0].estimates.items() if each.value is not None}
    found, left_out, _ = measured.proposed(bad=measured.bad, nothing={"a good version": as_good})
    assert all(any(each.caught) and not each.worthless for each in found)
    wide = [each.candidate.rule.id for each in left_out if each.reason.startswith("too wide")]
    assert len(found) > 5
    assert wide
    assert {each.candidate.rule.id for each in measured.proposed(nothing={})[0]} >= {*wide}  # nothing to be wide by


def test_without_bad_versions_there_is_a_rule_of_every_kind(measured: Measured) -> None:
    found = chosen(measured.proposed()[0])
    families = {family_of(each) for each in found.rules}
    available = {family_of(each) for each in measured.proposed()[0]}
    assert all(families & set(kind) for kind in KINDS.values() if available & set(kind))
    assert found.for_their_kind == frozenset()
    assert len(found.rules) <= MOST_RULES


def test_with_bad_versions_rules_that_catch_none_are_left_out_but_the_best_of_a_kind(measured: Measured) -> None:
    every = measured.proposed(bad=measured.bad)[0]
    found = chosen(every)
    blind = {each.candidate.rule.id for each in found.rules if not any(each.caught)}
    assert blind == found.for_their_kind
    lost = {each.candidate.rule.id for each in found.left_out if each.reason == "does not tell the bad versions apart"}
    assert lost
    assert all(not any(each.caught) for each in every if each.candidate.rule.id in lost)
    kept = chosen(every, keep_blind=True)
    assert len(kept.rules) > len(found.rules)
    assert "does not tell the bad versions apart" not in {each.reason for each in kept.left_out}


def test_at_most_two_rules_are_of_a_family_and_the_most_telling_ones_stay(measured: Measured) -> None:
    every = measured.proposed(bad=measured.bad)[0]
    found = chosen(every, keep_blind=True)
    by_family: dict[str, list[Proposal]] = {}
    for each in found.rules:
        by_family.setdefault(family_of(each), []).append(each)
    assert max(map(len, by_family.values())) == 2
    crowded_out = [each.candidate for each in found.left_out if each.reason.startswith("two rules of its family")]
    assert crowded_out
    for lost in (each for each in every if each.candidate in crowded_out):
        kept = by_family[family_of(lost)]
        assert min(choosing._telling(each) for each in kept) >= choosing._telling(lost)


def test_of_two_rules_that_say_the_same_one_is_left_out(measured: Measured) -> None:
    found = chosen(measured.proposed(bad=measured.bad)[0])
    ids = {each.candidate.rule.id for each in found.rules}
    reasons = {each.candidate.rule.id: each.reason for each in found.left_out}
    assert len(ids & {"collapse-index", "wasserstein-uniformity"}) == 1  # functions of one number
    lost = next(iter({"collapse-index", "wasserstein-uniformity"} - ids))
    assert re.match(r"says the same as (collapse|wasserstein)", reasons[lost])
    few = chosen(measured.proposed(measured.good[:4], measured.bad)[0])
    assert not [each for each in few.left_out if "says the same" in each.reason]  # four points lie on many curves


def test_no_policy_has_more_than_fifteen_rules(measured: Measured) -> None:
    every = measured.proposed()[0]
    layers = [
        replace(each, candidate=replace(each.candidate, rule=each.candidate.rule.model_copy(update={"layer": layer})))
        for layer in "abc"
        for each in every
    ]
    found = chosen(layers)
    assert len(found.rules) == MOST_RULES
    assert any("rules tell more apart" in each.reason for each in found.left_out)


def test_rules_stand_in_the_order_of_the_families(measured: Measured) -> None:
    from gate.geometry import catalogue

    order = list(catalogue.families())
    places = [order.index(family_of(each)) for each in chosen(measured.proposed()[0]).rules]
    assert places == sorted(places)
