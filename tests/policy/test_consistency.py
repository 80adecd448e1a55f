"""Whether the parts of a policy fit together: what only the whole of it shows."""

from __future__ import annotations

from typing import Any

import pytest

from gate.policy.consistency import conflicts, policy_faults

RANK = {"id": "rank", "metric": "effective_rank", "min": 3}
SLICED = {**RANK, "slices": {"by": ["language", "site"], "min": 2}}
NAME_ONE = "name one: `baseline: {uri: models:/NAME@ALIAS}`"


def faults(*rules: object, **others: Any) -> dict[str, str]:
    return {".".join(map(str, location)): message for location, message in policy_faults({"rules": rules, **others})}


def test_a_policy_whose_parts_fit_has_no_faults() -> None:
    assert faults(RANK, SLICED | {"id": "sliced"}, waivers=[{"rule": "sliced", "slices": {"site": "3"}}]) == {}


def test_a_layer_that_resembles_none_lists_those_there_are() -> None:
    assert conflicts(["emb"], [("a", "xyz")]) == [
        (("rules", 0, "layer"), "there is no layer 'xyz'. There are: emb, input, output.")
    ]


def test_every_rule_is_asked_for_its_inputs() -> None:
    rules = [RANK, {"id": "a", "metric": "ece", "max": 1}, {"id": "b", "metric": "subclass_retention", "min": 1}]
    assert faults(*rules, probe={"columns": {"input": "x", "label": "y", "sublabel": None}}) == {
        "rules.1.metric": "'ece' needs `logits` of the model; say where they are: `reads: {logits: {path: PATH}}`",
        "rules.2.metric": (
            "'subclass_retention' needs `sublabel` of the probe set; add `sublabel: NAME` to `probe.columns`"
        ),
    }


def test_what_a_policy_reads_of_the_model_suffices_for_its_rules() -> None:
    rule = {"id": "a", "metric": "prediction_entropy_ratio", "max": 1}
    assert faults(rule, reads={"logits": {"path": "output"}}) == {}
    assert list(faults(rule, reads={"codes": {"path": "output"}})) == ["rules.0.metric"]


def test_a_policy_without_a_probe_block_leaves_its_columns_to_the_command() -> None:
    assert faults({"id": "b", "metric": "subclass_retention", "min": 1}) == {}


@pytest.mark.parametrize("where", ["relative", "slices.relative"])
def test_a_relative_rule_needs_a_baseline(where: str) -> None:
    relative = {"max_drop": "5%"}
    asks = {"relative": relative} if where == "relative" else {"slices": {"by": "a", "relative": relative}}
    assert faults(RANK | asks) == {f"rules.0.{where}": f"compares with a baseline; {NAME_ONE}"}
    assert faults(RANK | asks, baseline={"uri": "@champion"}) == {}


def test_a_metric_of_two_versions_needs_a_baseline() -> None:
    rule = {"id": "a", "metric": "cka_debiased", "min": 0.5}
    assert faults(rule) == {"rules.0.metric": f"'cka_debiased' compares with a baseline; {NAME_ONE}"}
    assert faults(rule, baseline={"uri": "@champion"}) == {}


def test_a_read_out_of_two_versions_needs_a_baseline_and_its_metric_does_not() -> None:
    value, shift = (
        {"id": name, "metric": metric, "max": 0.5}
        for name, metric in (("a", "prediction_entropy_ratio"), ("b", "prediction_entropy_ratio.entropy_shift"))
    )
    reads, named = {"logits": {"path": "output"}}, {"uri": "@champion"}
    compares = f"'{shift['metric']}' compares with"
    assert faults(value, shift, reads=reads) == {"rules.1.metric": f"{compares} a baseline; {NAME_ONE}"}
    assert faults(value, shift, reads=reads, baseline=named) == {}
    assert faults(value, shift | {"relative": {"max_rise": 1}}, reads=reads, baseline=named) == {
        "rules.1.relative": f"{compares} the baseline itself; bound it by `min` and `max`"
    }


@pytest.mark.parametrize("where", ["relative", "slices.relative"])
def test_a_metric_of_two_versions_has_no_change_against_one_of_them(where: str) -> None:
    relative = {"max_drop": "5%"}
    asks = {"relative": relative} if where == "relative" else {"slices": {"by": "a", "relative": relative}}
    found = faults({"id": "a", "metric": "cka_debiased"} | asks, baseline={"uri": "@champion"})
    assert found == {
        f"rules.0.{where}": "'cka_debiased' compares with the baseline itself; bound it by `min` and `max`"
    }


def test_a_rule_that_is_switched_off_asks_for_nothing() -> None:
    off = {"id": "a", "metric": "ece", "max": 1, "relative": {"max_rise": 1}, "enabled": False}
    assert faults(RANK, off) == {}


def test_a_layer_of_the_baseline_is_one_of_the_policy() -> None:
    baseline = {"uri": "@champion", "layers": {"embeding": {"path": "1"}}}
    found = faults(RANK, baseline=baseline, layers={"embedding": {"path": "2"}})
    assert found == {"baseline.layers.embeding": "there is no layer 'embeding'. Did you mean `embedding`?"}
    found = faults(RANK, baseline=baseline)
    assert found == {"baseline.layers.embeding": "there is no layer 'embeding'. There are: none."}


def test_a_waiver_names_a_rule_that_exists() -> None:
    assert faults(RANK, waivers=[{"rule": "rnk"}, {"rule": "zzz"}]) == {
        "waivers.0.rule": "there is no rule 'rnk'. Did you mean `rank`?",
        "waivers.1.rule": "there is no rule 'zzz'. There are: rank.",
    }


def test_a_waiver_of_slices_names_columns_by_which_the_rule_is_cut() -> None:
    waivers = [{"rule": "rank", "slices": {"langage": "ja", "site": "3"}}]
    assert faults(SLICED, waivers=waivers) == {
        "waivers.0.slices.langage": "the rule 'rank' has no slices by 'langage'; it is cut by language, site"
    }
    assert faults(RANK, waivers=waivers)["waivers.0.slices.site"] == (
        "the rule 'rank' has no slices by 'site'; leave `slices` out to waive all of it"
    )
    assert faults(RANK | {"slices": {"by": "site"}}, waivers=[{"rule": "rank", "slices": {"site": "3"}}]) == {}


def test_a_waiver_of_a_rule_that_was_switched_off_is_no_fault() -> None:
    assert faults(RANK | {"enabled": False}, waivers=[{"rule": "rank"}]) == {}


def test_two_waivers_of_one_rule_are_no_fault() -> None:
    waivers = [{"rule": "rank", "model": f"models:/encoder/{version}"} for version in (1, 2)]
    assert faults(RANK, waivers=waivers) == {}


def test_of_a_file_that_adds_to_others_only_its_own_names_are_looked_at() -> None:
    rules = [RANK | {"layer": "of another"}, RANK, {"id": "a", "metric": "ece", "relative": {"max_drop": 1}}]
    content = {"rules": rules, "layers": {"output": {}}, "waivers": [{"rule": "of another"}]}
    assert [".".join(map(str, location)) for location, _ in policy_faults(content, partial=True)] == [
        "layers.output",
        "rules.1.id",
    ]


@pytest.mark.parametrize(
    "content",
    [
        {"rules": 3}, {"rules": [3, None, {"id": [], "metric": {}, "layer": 1, "slices": 3, "relative": 3}]},
        {"layers": [1], "reads": 3, "probe": {"columns": []}}, {"baseline": {"layers": [3]}},
        {"rules": [RANK], "waivers": 3}, {"rules": [RANK], "waivers": [3, {"rule": []}, {"rule": "rank", "slices": 3}]},
        {"rules": [RANK | {"slices": {"by": 3}}], "waivers": [{"rule": "rank"}]},
    ],
)  # fmt: skip
@pytest.mark.parametrize("partial", [False, True])
def test_what_is_of_another_kind_is_left_to_other_checks(content: dict[str, object], partial: bool) -> None:
    wanted = ["compares with a baseline; " + NAME_ONE] if "'relative': 3" in repr(content) and not partial else []
    assert [message for _, message in policy_faults(content, partial=partial)] == wanted
