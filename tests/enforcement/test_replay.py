"""Statements that are genuine, on another version, of another time or under another policy."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from tests.enforcement.servers import EARLY, GEOMETRY, STRICT, Server


def ago(**span: float) -> datetime:
    return datetime.now(UTC) - timedelta(**span)


def test_a_statement_on_version_1_says_nothing_of_version_2(server: Server) -> None:
    first = server.version()
    second = server.version(first.name)
    text = server.envelope(first)
    server.refuses(lambda: server.attach(second, text), f"the statement belongs to models:/{first.name}/1")


def test_a_statement_on_one_model_says_nothing_of_another(server: Server) -> None:
    first, second = server.version(), server.version()
    server.refuses(lambda: server.attach(second, server.envelope(first)), f"belongs to models:/{first.name}/1")


def test_a_statement_says_nothing_of_a_version_that_was_made_anew_under_its_number(server: Server) -> None:
    model = server.model()
    first = server.version(model=model)
    text = server.envelope(first)
    server.client.delete_registered_model(first.name)
    time.sleep(0.01)
    server.client.create_registered_model(first.name)
    again = server.version(first.name, model)
    assert (again.version, again.source) == (first.version, first.source)
    server.refuses(lambda: server.attach(again, text), "issued for another version")
    server.refuses(lambda: server.promote(again), "there is no signed statement")


def test_a_statement_says_nothing_of_another_source(server: Server) -> None:
    version = server.version()
    text = server.envelope(version, source=f"models:/{server.model().model_id}")
    server.refuses(lambda: server.attach(version, text), "issued for another version")


def test_a_statement_of_another_workspace_is_refused(server: Server) -> None:
    version = server.version()
    text = server.envelope(version, workspace="team-a")
    server.refuses(lambda: server.attach(version, text), "(workspace: team-a != default)")


def test_an_old_pass_does_not_come_back_over_a_new_fail(server: Server) -> None:
    version = server.version()
    old = server.envelope(version, issued=ago(minutes=2))
    assert server.attach(version, old).status_code == 200
    assert server.record(version, verdict="failed", issued=ago(minutes=1)).status_code == 200
    server.refuses(lambda: server.attach(version, old), "is older than the one recorded")
    server.refuses(lambda: server.promote(version), "is FAILED")


def test_a_statement_of_the_same_moment_takes_no_place(server: Server) -> None:
    version, moment = server.version(), ago(minutes=1)
    assert server.record(version, verdict="failed", issued=moment).status_code == 200
    text = server.envelope(version, issued=moment)
    server.refuses(lambda: server.attach(version, text), "is older than the one recorded")


def test_a_statement_that_has_expired_opens_nothing(server: Server) -> None:
    version = server.version()
    assert server.record(version, issued=ago(days=2), valid=timedelta(days=1)).status_code == 200
    server.refuses(lambda: server.promote(version), "the statement expired at")


def test_a_policy_that_is_not_in_force_opens_nothing(server: Server) -> None:
    version = server.version()
    assert server.record(version, digest=f"sha256:{'9' * 64}").status_code == 200
    server.refuses(lambda: server.promote(version), "is not in force for")


def test_a_policy_of_other_models_opens_nothing(server: Server) -> None:
    version = server.version()
    assert server.record(version, policy="strict", digest=STRICT).status_code == 200
    server.refuses(lambda: server.promote(version), "there is no signed statement of policy 'geometry'")


def test_the_digest_of_one_policy_under_the_name_of_another_opens_nothing(server: Server) -> None:
    version = server.version(server.name("two."))
    assert server.record(version, digest=STRICT).status_code == 200
    assert server.record(version, policy="strict", digest=GEOMETRY).status_code == 200
    server.refuses(lambda: server.promote(version), "is not in force for")


def test_a_decision_for_an_early_alias_does_not_open_champion(server: Server) -> None:
    version = server.version()
    assert server.record(version, policy="early", digest=EARLY).status_code == 200
    server.refuses(lambda: server.promote(version), "there is no signed statement of policy 'geometry'")
    assert server.record(version, enforcement="warn").status_code == 200
    server.refuses(lambda: server.promote(version), "was asked for an alias where it only warns")


def test_a_verdict_with_another_probe_set_than_the_policy_names_opens_nothing(server: Server) -> None:
    version = server.version()
    assert server.record(version, overrides=("probe",)).status_code == 200
    server.refuses(lambda: server.promote(version), "check without --probe")
