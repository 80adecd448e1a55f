from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from gate.attestation.deciding import CLOCKS, Accepted, Trust, issued, require_newer, require_promotable
from gate.attestation.deciding import statement as held
from gate.attestation.issuing import VALID
from gate.attestation.names import statement_key
from gate.attestation.statement import Statement
from gate.errors import VerificationError
from tests.attestation import made

CLASSIFIER = Accepted("classifier", made.statement().policy.digest)
SECOND = timedelta(seconds=1)


def promotable(
    *found: Statement,
    policies: Any = (CLASSIFIER,),
    aliases: Any = ("champion",),
    max_age: timedelta | None = None,
    now: datetime = made.NOW,
) -> list[Statement]:
    return require_promotable(made.tags(*found), made.VERSION, aliases, Trust(made.ring(), policies, max_age), now)


@pytest.mark.parametrize("policies", [(CLASSIFIER,), None])
def test_a_passing_statement_lets_a_version_go(policies: Any) -> None:
    assert promotable(policies=policies) == [made.statement()]
    warned = made.statement(verdict="warned")
    assert promotable(warned, policies=policies) == [warned]


@pytest.mark.parametrize("policies", [(CLASSIFIER,), None])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "failed"}, "the verdict of policy 'classifier' is FAILED$"),
        ({"verdict": "inconclusive"}, "is INCONCLUSIVE$"),
        ({"verdict": "error", "reason": "the files changed"}, r"is ERROR \(the files changed\)$"),
        ({"issued": made.NOW + CLOCKS + SECOND}, "of the future, issued at 2026-11-22 12:05:01 UTC; set the clock"),
        ({"expires": made.NOW}, "expired at 2026-11-22 12:00 UTC; check the version again"),
    ],
)
def test_what_does_not_pass_or_count_any_more_does_not_go(policies: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        promotable(made.statement(**changes), policies=policies)


@pytest.mark.parametrize(("isolation", "counts"), [("process", True), (None, True), ("none", False)])
def test_where_isolation_is_asked_for_a_model_that_ran_inside_of_the_gate_does_not_go(
    isolation: str | None, *, counts: bool
) -> None:
    found = made.statement(isolation=isolation)
    assert require_promotable(made.tags(found), made.VERSION, (), Trust(made.ring()), made.NOW) == [found]
    trust = Trust(made.ring(), isolated=True)
    if counts:
        assert require_promotable(made.tags(found), made.VERSION, (), trust, made.NOW) == [found]
        return
    with pytest.raises(VerificationError, match="ran inside of the gate under policy 'classifier'"):
        require_promotable(made.tags(found), made.VERSION, (), trust, made.NOW)


def test_clocks_may_differ_a_little() -> None:
    assert promotable(made.statement(issued=made.NOW + CLOCKS))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"enforcement": "warn"}, "was asked for an alias where it only warns; check models:/encoder/7 itself"),
        (
            {"overrides": ("probe", "baseline")},
            "another probe and baseline than it names; check without --probe and --baseline",
        ),
    ],
)
def test_a_policy_must_have_judged_as_it_is_written(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        promotable(made.under(made.statement(), **changes))


@pytest.mark.parametrize(
    ("age", "said"),
    [
        (timedelta(minutes=1), "1.1 minutes old, and may be 1 minute old"),
        (timedelta(minutes=90), "90.1 minutes old, and may be 90 minutes old"),
        (timedelta(hours=12), "12.1 hours old, and may be 12 hours old"),
        (timedelta(hours=36), "36.1 hours old, and may be 36 hours old"),
        (timedelta(days=7), "7.1 days old, and may be 7 days old"),
    ],
)
def test_whoever_verifies_may_ask_for_a_younger_one(age: timedelta, said: str) -> None:
    assert promotable(max_age=age, now=made.NOW + age)
    with pytest.raises(VerificationError, match=f"was issued at 2026-11-22 12:00 UTC: it is {said}; check the version"):
        promotable(max_age=age, now=made.NOW + age + SECOND)


def test_no_age_that_is_asked_for_makes_it_count_longer() -> None:
    with pytest.raises(VerificationError, match="expired"):
        promotable(max_age=10 * VALID, now=made.NOW + VALID)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "8"}, "belongs to models:/encoder/7, not to models:/encoder/8"),
        ({"name": "other"}, "belongs to models:/encoder/7, not to models:/other/7"),
        ({"created": 1}, r"for another version models:/encoder/7 \(created: 1700000000000 != 1\); check this one"),
        ({"source": "models:/m-2"}, r"\(source: models:/m-1 != models:/m-2\)"),
        ({"workspace": "team"}, r"\(workspace: default != team\)"),
    ],
)
def test_a_statement_counts_for_its_very_version(changes: dict[str, Any], message: str) -> None:
    version = made.VERSION.model_copy(update=changes)
    with pytest.raises(VerificationError, match=message):
        held(made.envelope(), made.ring(), version)
    with pytest.raises(VerificationError, match=message):
        require_promotable(made.tags(), version, (), Trust(made.ring()), made.NOW)


@pytest.mark.parametrize(("policies", "whose"), [((CLASSIFIER,), " of policy 'classifier'"), (None, "")])
def test_without_a_statement_nothing_goes(policies: Any, whose: str) -> None:
    others = {"gate": "PASS", "gate.policy": "classifier@1.0.0", "gate.attestation": made.envelope()}
    with pytest.raises(VerificationError, match=f"there is no signed statement{whose} on models:/encoder/7"):
        require_promotable(others, made.VERSION, (), Trust(made.ring(), policies), made.NOW)


def test_no_policy_in_force_is_no_pass() -> None:
    with pytest.raises(VerificationError, match="no policy in force is for 'encoder' at @champion"):
        promotable(policies=())
    elsewhere = Accepted("classifier", CLASSIFIER.digest, models=("digits-*",))
    with pytest.raises(VerificationError, match="no policy in force"):
        promotable(policies=(elsewhere,))


def test_a_policy_opens_its_own_aliases() -> None:
    staging = Accepted("classifier", CLASSIFIER.digest, aliases=frozenset({"staging"}))
    assert promotable(policies=(staging,), aliases=("staging",))
    for aliases in (("champion",), ("champion", "staging")):
        with pytest.raises(VerificationError, match="no policy in force is for 'encoder' at @champion"):
            promotable(policies=(staging,), aliases=aliases)


def test_another_text_of_the_policy_is_not_in_force() -> None:
    other = Accepted("classifier", f"sha256:{'0' * 64}")
    with pytest.raises(VerificationError, match=r"is not in force for 'encoder' \(in force: 000000000000…\)"):
        promotable(policies=(other,))
    assert promotable(policies=(other, CLASSIFIER))  # two texts of one name are alternatives


def test_every_policy_in_force_must_have_a_statement() -> None:
    second = Accepted("embedding", CLASSIFIER.digest)
    with pytest.raises(VerificationError, match="no signed statement of policy 'embedding'"):
        promotable(policies=(CLASSIFIER, second))
    both = [made.statement(), made.statement(policy="embedding")]
    assert promotable(*both, policies=(CLASSIFIER, second)) == both
    with pytest.raises(VerificationError, match="'embedding' is FAILED"):
        promotable(both[0], both[1].model_copy(update={"verdict": "failed"}), policies=(CLASSIFIER, second))


def test_where_any_policy_counts_none_may_fail() -> None:
    failed = made.statement(policy="embedding", verdict="failed")
    with pytest.raises(VerificationError, match="'embedding' is FAILED"):
        promotable(made.statement(), failed, policies=None)


@pytest.mark.parametrize("policies", [None, (Accepted("embedding", CLASSIFIER.digest),)])
def test_a_statement_under_the_tag_of_another_policy_does_not_count(policies: Any) -> None:
    moved = {statement_key("embedding"): made.envelope()}
    with pytest.raises(VerificationError, match=r"holds a statement of policy 'classifier'|is not in force"):
        require_promotable(moved, made.VERSION, (), Trust(made.ring(), policies), made.NOW)


@pytest.mark.parametrize("policies", [(CLASSIFIER,), None])
def test_the_signature_of_a_stranger_does_not_count(policies: Any) -> None:
    with pytest.raises(VerificationError, match="not trusted here"):
        require_promotable(made.tags(by="stranger"), made.VERSION, (), Trust(made.ring(), policies), made.NOW)


def test_an_old_statement_never_takes_the_place_of_a_newer_one() -> None:
    failed = made.envelope(made.statement(verdict="failed"))
    for early in (timedelta(0), SECOND, 30 * made.DAY):
        with pytest.raises(VerificationError, match="is older than the one recorded, of 2026-11-22 12:00:00 UTC"):
            require_newer(made.statement(made.NOW - early), failed, made.NOW + made.DAY)
    require_newer(made.statement(made.NOW + SECOND), failed, made.NOW + made.DAY)
    require_newer(made.statement(), None, made.NOW)
    assert issued(failed) == made.NOW


def test_a_statement_of_the_future_does_not_come_in() -> None:
    require_newer(made.statement(made.NOW + CLOCKS), None, made.NOW)
    with pytest.raises(VerificationError, match="is of the future, issued at 2026-11-22 12:05:01 UTC; set the clock"):
        require_newer(made.statement(made.NOW + CLOCKS + SECOND), None, made.NOW)
