"""What a rule of a policy asks, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from gate.evidence import asking
from gate.policy.loading import LoadedPolicy, load_policy

BASE = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: base, version: "1.0.0"}
layers: {embedding: {path: embedding}}
rules:
  - id: rank
    metric: effective_rank.share
    layer: embedding
    min: 0.1
    why: The index needs it.
    paper: Roy and Vetterli 2007
  - {id: cone, metric: mean_cosine, layer: embedding, max: 0.5, enforce_from: 2027-01-15}
"""
CHILD = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: child, version: "2.0"}
extends: [base.yaml]
baseline: {uri: "@champion"}
defaults: {multiplicity: holm}
rules:
  - id: rank
    min: 0.2
    max: 0.9
    relative: {max_drop: 5%, max_rise: 0.1}
  - id: cone
    enabled: false
    override: true
    reason: Unit vectors are centred by the index.
  - id: neighbours
    metric: knn_label_agreement
    layer: embedding
    severity: warn
    params: {k: 5}
    fix: Train longer.
    slices: {by: [language, site], min: 0.7, min_rows: 200, required: ["language=en, site=3"],
             bounds: {"language=ja, site=3": {min: 0.6}}, relative: {max_drop: 0.02}, worst_gap: {max: 0.1}}
waivers:
  - {rule: rank, model: "models:/m/4", expires: 2026-12-31, owner: me@acme.example, reason: We know of this.}
  - {rule: neighbours, model: "models:/m/4", slices: {language: ja}, expires: 2026-12-31, owner: me, ticket: RQ-2,
     reason: We know of that.}
"""


@pytest.fixture
def policy(tmp_path: Path) -> LoadedPolicy:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "child.yaml").write_text(CHILD)
    return load_policy(tmp_path / "child.yaml")


def plain(text: str, folder: Path) -> str:
    """In one line, without the folder of this run."""
    return " ".join(text.replace(str(folder), "DIR").split())


def test_a_rule_is_told_with_all_that_it_asks_and_where_each_part_is_written(
    policy: LoadedPolicy, tmp_path: Path
) -> None:
    told = plain(asking.rule(policy, "rank"), tmp_path)
    assert told.startswith(
        "rule rank of policy child@2.0 "
        "asks effective_rank.share of layer 'embedding' must be from 0.2 to 0.9 "
        "effective_rank.share of layer 'embedding' may drop by at most 5% of its value and rise by at most 0.1 against "
        "the baseline, on the same rows "
        "strictness blocks a promotion; at 95%, all rules at once "
        "why The index needs it. paper Roy and Vetterli 2007 "
        "written in DIR/child.yaml:8 (id, min, max, relative) DIR/base.yaml:7 (metric, layer, why, paper) "
        "waived for models:/m/4, until 2026-12-31: We know of this. - me@acme.example "
        "what effective_rank.share is"
    )


def test_slices_settings_and_their_waivers_are_told(policy: LoadedPolicy, tmp_path: Path) -> None:
    told = plain(asking.rule(policy, "neighbours"), tmp_path)
    each = "knn_label_agreement of layer 'embedding' on each slice by language, site"
    for part in (
        f"asks {each} must be at least 0.7",
        "on slice language=ja, site=3 it must be at least 0.6",
        f"{each} may drop by at most 0.02 against the baseline, on the same rows",
        "two slices may lie at most 0.1 apart",
        "slices of fewer than 200 rows are not judged; there must be language=en, site=3",
        "settings k=5",
        "strictness only warns",
        "fix Train longer.",
        "models:/m/4, language=ja, until 2026-12-31: We know of that. - me (RQ-2)",
    ):
        assert part in told


def test_a_rule_that_is_switched_off_or_waits_says_so(policy: LoadedPolicy, tmp_path: Path) -> None:
    told = plain(asking.rule(policy, "cone"), tmp_path)
    assert "is switched off: Unit vectors are centred by the index." in told
    assert "blocks a promotion; from 2027-01-15 on, and warns until then" in told
    assert "must be at most 0.5" in told


def test_what_the_metric_means_is_left_out_on_request(policy: LoadedPolicy) -> None:
    brief, whole = asking.rule(policy, "rank", brief=True), asking.rule(policy, "rank")
    assert whole.startswith(brief)
    assert "what effective_rank.share is" in whole[len(brief) :]
    assert "what effective_rank" not in brief


def test_the_rules_about_a_metric_are_found_by_any_of_its_read_outs(policy: LoadedPolicy) -> None:
    for address in ("effective_rank", "effective_rank.share", "effective_rank.sv"):
        told = asking.about(policy, address)
        assert told.startswith(
            "rules of child about effective_rank\n  rank  effective_rank.share of layer 'embedding' "
        )
    assert asking.about(policy, "vci") == ""
    assert asking.rules_of(policy) == ["rank", "cone", "neighbours"]


@pytest.mark.parametrize("pack", ["classifier"])
def test_every_rule_of_a_pack_can_be_told(pack: str) -> None:
    policy = load_policy(pack)
    for rule in asking.rules_of(policy):
        told = asking.rule(policy, rule)
        assert told.startswith(f"rule {rule} of policy ")
        assert max(map(len, told.splitlines())) <= 100
