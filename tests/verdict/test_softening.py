"""What softens a FAIL or an INCONCLUSIVE, for how long and for whom; and that nothing softens an ERROR."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from gate.verdict import Finding, Judgement, judge
from tests.verdict.made import (
    DIGEST,
    ON,
    TODAY,
    VERSION,
    estimate,
    judgement,
    languages,
    normal,
    on_all_rows,
    policy,
    refused,
    rule,
)

FAILS, OPEN, PASSES = normal(60.0, 1.0), normal(96.0, 1.0), normal(120.0, 1.0)


def waiver(**changes: Any) -> dict[str, Any]:
    known = {"rule": "rank", "model": VERSION, "owner": "kenji", "expires": "2026-12-31", "reason": "New tokenizer."}
    return {**known, **changes}


def with_waivers(each: Any, *waivers: dict[str, Any], of: Any = None, **keys: Any) -> Judgement:
    of = of or rule()
    return judgement(of, on_all_rows(of, each), waivers=list(waivers), **keys)


def one(judged: Judgement) -> Finding:
    (finding,) = judged.findings
    return finding


# Waivers.


@pytest.mark.parametrize("model", [VERSION, DIGEST])
@pytest.mark.parametrize("each", [FAILS, OPEN, refused("few_rows: x", "inconclusive")])
@pytest.mark.parametrize("severity", ["block", "warn"])
def test_a_waiver_covers_a_fail_and_an_inconclusive_by_version_and_by_digest(
    model: str, each: Any, severity: str
) -> None:
    judged = with_waivers(each, waiver(model=model, ticket="RQ-204"), of=rule(severity=severity))
    seen = one(judged)
    assert (seen.status, judged.verdict.status, judged.verdict.exit_code) == ("waived", "passed", 0)
    assert seen.waiver is not None
    assert (seen.waiver.owner, seen.waiver.ticket) == ("kenji", "RQ-204")
    assert [(entry.rule, use) for entry, use in judged.waivers] == [("rank", "used")]
    assert judged.notes == ()


def test_what_is_waived_is_still_evaluated_and_shown() -> None:
    seen, bare = one(with_waivers(FAILS, waiver())), one(with_waivers(FAILS))
    assert bare.status == "fail"
    assert replace(seen, status="fail", waiver=None) == bare


@pytest.mark.parametrize("each", [None, refused(), estimate(float("nan"), (1.0, 2.0)), estimate(True, (0.0, 2.0))])
def test_a_waiver_never_covers_an_error(each: Any) -> None:
    judged = with_waivers(each, waiver())
    assert (one(judged).status, judged.verdict.exit_code, one(judged).waiver) == ("error", 3, None)
    assert [use for _, use in judged.waivers] == ["unused"]


def test_an_expired_waiver_is_ignored_and_told() -> None:
    judged = with_waivers(FAILS, waiver(expires="2026-11-20"))
    assert (one(judged).status, judged.verdict.exit_code) == ("fail", 1)
    assert [use for _, use in judged.waivers] == ["expired"]
    assert judged.notes == (f"the waiver of rule 'rank' for {VERSION} by kenji expired on 2026-11-20 and is ignored",)


def test_a_waiver_holds_on_its_last_day() -> None:
    assert one(with_waivers(FAILS, waiver(expires=TODAY.isoformat()))).status == "waived"


def test_a_waiver_that_nothing_needs_is_told() -> None:
    judged = with_waivers(PASSES, waiver())
    assert (one(judged).status, [use for _, use in judged.waivers]) == ("pass", ["unused"])
    assert judged.notes == (
        f"the waiver of rule 'rank' for {VERSION} by kenji matches nothing that failed; take it out",
    )


@pytest.mark.parametrize("model", ["models:/encoder/8", "models:/other/7", "sha256:" + "b" * 64])
def test_a_waiver_of_another_model_is_no_matter(model: str) -> None:
    judged = with_waivers(FAILS, waiver(model=model))
    assert (one(judged).status, judged.waivers, judged.notes) == ("fail", (), ())


def test_a_waiver_of_another_rule_does_not_cover() -> None:
    other, failing = rule(id="other", min=3), rule()
    judged = judge(policy(other, failing, waivers=[waiver(rule="other")]), on_all_rows(failing, FAILS), ON)
    assert [each.status for each in judged.findings] == ["pass", "fail"]
    assert [use for _, use in judged.waivers] == ["unused"]


def test_of_two_waivers_of_a_rule_the_one_that_holds_counts() -> None:
    judged = with_waivers(FAILS, waiver(expires="2026-01-01", owner="mia"), waiver())
    assert one(judged).status == "waived"
    assert [use for _, use in judged.waivers] == ["expired", "used"]
    assert len(judged.notes) == 1


def test_a_waiver_of_slices_covers_these_slices_and_nothing_else() -> None:
    of = rule(min=96, slices={"by": ["language"], "min": 96, "worst_gap": {"max": 0}})
    measured = languages(of, en=(100, FAILS), ja=(100, FAILS), de=(100, normal(10, 1.0)))
    measured.candidate[measured.on()] = FAILS
    judged = judgement(of, measured.measurements(), waivers=[waiver(slices={"language": "ja"})])
    assert {(each.check, each.slice): each.status for each in judged.findings} == {
        ("bound", None): "fail",
        ("bound", "language=en"): "fail",
        ("bound", "language=ja"): "waived",
        ("bound", "language=de"): "fail",
        ("worst_gap", None): "fail",
    }
    assert [use for _, use in judged.waivers] == ["used"]
    whole = judgement(of, measured.measurements(), waivers=[waiver()])
    assert {each.status for each in whole.findings} == {"waived"}
    assert whole.verdict.status == "passed"


def test_a_waiver_of_a_slice_does_not_cover_that_it_is_missing() -> None:
    of = rule(slices={"by": ["language"], "min": 96, "required": ["ja"]})
    measured = languages(of, en=(100, PASSES))
    judged = judgement(of, measured.measurements(), waivers=[waiver(slices={"language": "ja"})])
    assert {each.slice: each.status for each in judged.findings} == {"language=en": "pass", "language=ja": "error"}


def test_a_waiver_of_one_column_covers_every_slice_with_that_value() -> None:
    from tests.verdict.made import cut

    of = rule(slices={"by": ["language", "site"], "min": 96})
    slices: Any = {
        (("language", language), ("site", site)): (100, FAILS) for language in ("en", "ja") for site in ("1", "2")
    }
    judged = judgement(of, cut(of, slices).measurements(), waivers=[waiver(slices={"language": "ja"})])
    assert [each.status for each in judged.findings] == ["fail", "fail", "waived", "waived"]


# Severities, dates and the enforcement point.


@pytest.mark.parametrize(("each", "status"), [(FAILS, "warn"), (OPEN, "warn"), (PASSES, "pass"), (refused(), "error")])
def test_a_rule_that_only_warns_turns_fail_and_inconclusive_into_a_warning(each: Any, status: str) -> None:
    seen = one(with_waivers(each, of=rule(severity="warn")))
    assert (seen.status, seen.severity) == (status, "warn")


@pytest.mark.parametrize(
    ("days", "status", "countdown"),
    [(-1, "fail", ""), (0, "fail", ""), (1, "warn", ", in 1 day)"), (55, "warn", ", in 55 days)")],
)
def test_a_rule_warns_until_its_day_and_counts_down(days: int, status: str, countdown: str) -> None:
    day = TODAY + timedelta(days=days)
    seen = one(with_waivers(FAILS, of=rule(enforce_from=day)))
    assert (seen.status, seen.severity) == (status, "warn" if days > 0 else "block")
    assert seen.enforce_from == day
    plain = "effective_rank of layer 'embedding' is 60 [58, 62], must be at least 96"
    assert seen.message == (f"{plain} (blocks from {day}{countdown}" if countdown else plain)


@pytest.mark.parametrize(("each", "status"), [(OPEN, "warn"), (PASSES, "pass"), (refused(), "error"), (None, "error")])
def test_before_its_day_a_rule_still_errs_and_passes(each: Any, status: str) -> None:
    seen = one(with_waivers(each, of=rule(enforce_from=date(2027, 1, 15))))
    assert seen.status == status
    assert ("blocks from 2027-01-15" in seen.message) == (status == "warn")


def test_a_rule_that_will_always_warn_counts_nothing_down() -> None:
    seen = one(with_waivers(FAILS, of=rule(enforce_from=date(2027, 1, 15), severity="warn")))
    assert (seen.status, "blocks from" in seen.message) == ("warn", False)


@pytest.mark.parametrize(("each", "status"), [(FAILS, "warn"), (OPEN, "warn"), (PASSES, "pass"), (refused(), "error")])
def test_at_an_alias_that_only_warns_nothing_but_an_error_blocks(each: Any, status: str) -> None:
    of = rule()
    judged = judge(policy(of), on_all_rows(of, each), replace(ON, enforcement="warn"))
    assert one(judged).status == status
    assert judged.verdict.exit_code == (3 if status == "error" else 0)


# What an open rule does.


@pytest.mark.parametrize(
    ("inconclusive", "status", "code"),
    [("block", "inconclusive", 4), ("warn", "warn", 0), ("pass", "not_evaluated", 5)],
)
@pytest.mark.parametrize("each", [OPEN, refused("few_rows: x", "inconclusive")])
def test_an_open_rule_blocks_warns_or_counts_as_not_evaluated(
    inconclusive: str, status: str, code: int, each: Any
) -> None:
    judged = with_waivers(each, defaults={"inconclusive": inconclusive})
    assert (one(judged).status, judged.verdict.exit_code) == (status, code)
    assert one(judged).reason == one(with_waivers(each)).reason


def test_beside_a_rule_that_is_decided_an_open_one_that_may_pass_is_left_out() -> None:
    decided, undecided = rule(min=3), rule(id="open", min=96)
    keys: Any = {"defaults": {"inconclusive": "pass"}}
    judged = judge(policy(decided, undecided, **keys), on_all_rows(decided, OPEN), ON)
    assert [each.status for each in judged.findings] == ["pass", "not_evaluated"]
    assert (judged.verdict.status, judged.verdict.exit_code) == ("passed", 0)


@pytest.mark.parametrize("inconclusive", ["block", "warn", "pass"])
@pytest.mark.parametrize("each", [FAILS, refused(), None])
def test_what_an_open_rule_does_is_nothing_to_a_fail_or_an_error(inconclusive: str, each: Any) -> None:
    assert one(with_waivers(each, defaults={"inconclusive": inconclusive})).status == (
        "fail" if each is FAILS else "error"
    )


def test_a_run_of_which_everything_is_waived_passes() -> None:
    judged = with_waivers(FAILS, waiver(), waiver(rule="rank", model=DIGEST))
    assert (judged.verdict.status, judged.verdict.exit_code, judged.verdict.counts["waived"]) == ("passed", 0, 1)


@pytest.mark.parametrize("severity", ["block", "warn"])
def test_a_severity_of_the_defaults_is_that_of_rules_that_name_none(severity: str) -> None:
    written: Any = {"id": "rank", "metric": "effective_rank", "layer": "embedding", "min": 96}
    of = policy(rules=[written], defaults={"severity": severity})
    judged = judge(of, on_all_rows(rule(), FAILS), ON)
    assert one(judged).status == ("fail" if severity == "block" else "warn")
