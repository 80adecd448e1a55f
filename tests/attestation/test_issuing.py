from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gate
from gate.attestation.issuing import VALID, issue
from gate.attestation.statement import Statement, read
from gate.models.digest import digest_of_names
from tests.attestation import made
from tests.evidence import samples

POLICY = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "1.0.0"}
probe: {uri: %s, columns: {input: x, id: id}}
rules:
  - {id: rank, metric: effective_rank, min: %s}
"""


def issued(document: dict[str, Any], **changes: Any) -> Statement:
    return issue(document, made.VERSION, made.FILES, **{"now": made.NOW, **changes})


def judged(*findings: dict[str, Any]) -> dict[str, Any]:
    return made.evidence(samples.judged(*findings))


@pytest.mark.parametrize(("least", "verdict", "outcome"), [("3", "passed", "pass"), ("999", "failed", "fail")])
def test_a_statement_says_what_the_evidence_says(tmp_path: Path, least: str, verdict: str, outcome: str) -> None:
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(300, 8)))
    probe = tmp_path / "probe.npz"
    np.savez(probe, x=np.zeros((300, 1)), id=np.arange(300).astype(str))
    (tmp_path / "policy.yaml").write_text(POLICY % (probe, least), encoding="utf-8")
    document = gate.check(f"features:{tmp_path / 'rows.npy'}", policy=tmp_path / "policy.yaml").document
    document["model"]["names_digest"] = digest_of_names(made.FILES)
    found = issued(document, evidence=f"sha256:{'a' * 64}", run="f" * 32)
    assert read(found.payload) == found
    assert (found.verdict, found.outcomes, found.passes) == (verdict, {outcome: ("rank",)}, verdict == "passed")
    assert (found.policy.name, found.policy.version, found.policy.enforcement) == ("encoder", "1.0.0", "block")
    assert found.policy.digest == document["policy"]["digest"]
    assert (found.digest, found.probe) == (document["model"]["digest"], document["probe"]["digest"])
    assert (found.trust, found.isolation, found.baseline) == ("code-free", None, None)


def test_without_anything_that_ends_it_counts_a_year() -> None:
    assert issued(made.evidence()).expires == made.NOW + VALID


@pytest.mark.parametrize(
    ("expires", "end"),
    [
        ("2026-12-31", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2026-11-22", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2999-12-31", made.NOW + VALID),
        ("9999-12-31", made.NOW + VALID),
    ],
)
def test_it_ends_with_the_day_that_a_waiver_ends(expires: str, end: datetime) -> None:
    waived = samples.finding("waived", waiver={**samples.WAIVER, "expires": expires})
    assert issued(judged(samples.finding("pass"), waived)).expires == end


@pytest.mark.parametrize(
    ("status", "day", "end"),
    [
        ("warn", "2027-01-15", datetime(2027, 1, 15, tzinfo=UTC)),
        ("pass", "2027-01-15", made.NOW + VALID),  # what holds goes on holding
        ("warn", "2026-01-15", made.NOW + VALID),  # in force already, and still a warning: it is no more than one
        ("warn", None, made.NOW + VALID),
    ],
)
def test_it_ends_when_a_rule_that_did_not_hold_begins_to_block(status: str, day: str | None, end: datetime) -> None:
    assert issued(judged(samples.finding(status, enforce_from=day))).expires == end


def test_the_first_of_several_ends_counts() -> None:
    waived = samples.finding("waived", waiver={**samples.WAIVER, "expires": "2027-03-01"})
    warned = samples.finding("warn", enforce_from="2027-02-01")
    assert issued(judged(waived, warned)).expires == datetime(2027, 2, 1, tzinfo=UTC)


def test_an_error_after_the_verdict_is_signed_in_its_place() -> None:
    found = issued(made.evidence(), error="the files changed meanwhile")
    assert (found.verdict, found.reason, found.passes) == ("error", "the files changed meanwhile", False)


def test_too_many_files_for_a_tag_are_left_to_the_digests() -> None:
    files = {f"{number}.bin": "0" * 64 for number in range(500)}
    found = issue(made.evidence(), made.VERSION, files, now=made.NOW)
    assert (found.files, found.names) == (None, digest_of_names(made.FILES))
