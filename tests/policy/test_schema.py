"""What a policy may say, and what is refused."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from pydantic import ValidationError

from gate.geometry import catalogue
from gate.policy.references import (
    IN_A_POLICY,
    conflicts,
    did_you_mean,
    in_a_policy,
    input_fault,
    input_faults,
    metric_fault,
    params_faults,
)
from gate.policy.schema import Columns, Policy, Rule

DIGEST = "sha256:" + "0a" * 32
ROLES = ("label", "group", "length", "id", "cluster", "sublabel")


def policy(**changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "gate/v1",
        "kind": "Policy",
        "metadata": {"name": "encoder", "version": "1.0.0"},
        "rules": [{"id": "rank", "metric": "effective_rank", "min": 3}],
        **changes,
    }


def rule(**changes: Any) -> dict[str, Any]:
    return {"id": "rank", "metric": "effective_rank", "min": 3, **changes}


def faults(data: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ValidationError) as raised:
        Policy.model_validate(data)
    return {".".join(map(str, error["loc"])): error["msg"] for error in raised.value.errors()}


def test_everything_but_the_rules_has_the_defaults_of_the_design() -> None:
    read = Policy.model_validate(policy())
    assert (read.run.seed, read.run.precision, read.run.batch_size, read.run.isolation) == (
        0,
        "float32",
        "auto",
        "none",
    )
    assert read.run.allow_pickle is False
    assert (read.defaults.confidence, read.defaults.inconclusive, read.defaults.severity) == (0.95, "block", "block")
    only = read.rules[0]
    assert (only.layer, only.min, only.max, only.severity, only.params) == ("output", 3.0, None, "block", {})


def test_a_whole_policy_is_read() -> None:
    read = Policy.model_validate(
        policy(
            probe={
                "uri": "p.parquet",
                "digest": DIGEST,
                "columns": {"input": ["a", "b"], "target": ["t", "u"], **dict(zip(ROLES, "ygnics", strict=True))},
                "shape": [1, 8, 8],
            },
            run={"seed": 7, "precision": "float32", "batch_size": 64, "allow_pickle": True, "isolation": "none"},
            layers={"embedding": {"path": "1", "pooling": "mean"}},
            rules=[rule(layer="embedding", max=9, why="w", fix="f", severity="warn")],
        )
    )
    assert read.probe is not None
    assert (read.probe.columns.input, read.probe.columns.target) == (("a", "b"), ("t", "u"))
    assert "".join(getattr(read.probe.columns, role) for role in ROLES) == "ygnics"
    assert read.probe.shape == (1, 8, 8)
    assert read.run.batch_size == 64
    assert (read.rules[0].layer, read.rules[0].max, read.rules[0].severity) == ("embedding", 9.0, "warn")


def test_the_default_severity_reaches_the_rules_that_name_none() -> None:
    rules = [rule(id="a"), rule(id="b", severity="block")]
    read = Policy.model_validate(policy(defaults={"severity": "warn"}, rules=rules))
    assert [each.severity for each in read.rules] == ["warn", "block"]


@pytest.mark.parametrize("bound", [True, "3", "0.5", nan, inf, -inf, [3], 10**400])
@pytest.mark.parametrize("key", ["min", "max"])
def test_a_bound_is_a_finite_number(key: str, bound: object) -> None:
    assert f"rules.0.{key}" in faults(policy(rules=[{"id": "r", "metric": "vci", key: bound}]))


def test_a_rule_without_a_bound_is_refused() -> None:
    found = faults(policy(rules=[{"id": "r", "metric": "vci"}]))
    assert "needs `min`, `max` or both, found neither" in found["rules.0"]


def test_min_above_max_is_refused_and_equal_bounds_are_not() -> None:
    assert "should be at least `min`, found min 3.0 and max 2.0" in faults(policy(rules=[rule(max=2)]))["rules.0.max"]
    assert Policy.model_validate(policy(rules=[rule(max=3)])).rules[0].max == 3.0


def test_rule_ids_are_unique() -> None:
    assert faults(policy(rules=[rule(), rule()]))["rules.1.id"] == "'rank' is already the id of rules.0"


def test_a_rule_names_a_layer_that_exists() -> None:
    layers = {"embedding": {"path": "1"}}
    found = faults(policy(layers=layers, rules=[rule(layer="embeding")]))
    assert found["rules.0.layer"] == "there is no layer 'embeding'. Did you mean `embedding`?"
    for built_in in ("input", "output"):
        assert Policy.model_validate(policy(rules=[rule(layer=built_in)])).rules[0].layer == built_in


def test_a_layer_that_resembles_none_lists_those_there_are() -> None:
    assert conflicts(["emb"], [("a", "xyz")]) == [
        (("rules", 0, "layer"), "there is no layer 'xyz'. There are: emb, input, output.")
    ]


def test_a_built_in_layer_cannot_be_redefined() -> None:
    assert "is the name of a built-in layer" in faults(policy(layers={"output": {"path": "1"}}))["layers.output"]


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ((), "extends"), ((), "scope"), ((), "baseline"), ((), "waivers"),
        (("rules", 0), "relative"), (("rules", 0), "slices"), (("rules", 0), "enforce_from"),
        (("defaults",), "multiplicity"), (("run",), "timeout"), (("probe",), "expectations"),
    ],
)  # fmt: skip
def test_keys_of_later_versions_are_never_ignored(place: tuple[Any, ...], key: str) -> None:
    data = policy(defaults={}, run={}, probe={"uri": "p.npz", "columns": {"input": "x"}})
    target: Any = data
    for part in place:
        target = target[part]
    target[key] = {"any": "thing"}
    assert ".".join(map(str, (*place, key))) in faults(data)


@pytest.mark.parametrize(
    ("block", "content"),
    [
        ("run", {"isolation": "process"}),
        ("run", {"precision": "bfloat16"}),
        ("defaults", {"inconclusive": "warn"}),
        ("defaults", {"inconclusive": "pass"}),
    ],
)
def test_values_of_later_versions_are_refused_by_name(block: str, content: dict[str, str]) -> None:
    ((key, value),) = content.items()
    assert f"'{value}' is not supported yet" in faults(policy(**{block: content}))[f"{block}.{key}"]


@pytest.mark.parametrize(
    ("block", "content", "where"),
    [
        ("run", {"seed": -1}, "run.seed"),
        ("run", {"seed": True}, "run.seed"),
        ("run", {"seed": 2**63}, "run.seed"),
        ("run", {"batch_size": 0}, "run.batch_size"),
        ("run", {"batch_size": 1_000_001}, "run.batch_size"),
        ("run", {"batch_size": True}, "run.batch_size"),
        ("run", {"batch_size": "all"}, "run.batch_size"),
        ("run", {"allow_pickle": "yes"}, "run.allow_pickle"),
        ("run", {"allow_pickle": 1}, "run.allow_pickle"),
        ("defaults", {"confidence": 1.0}, "defaults.confidence"),
        ("defaults", {"confidence": 0.99991}, "defaults.confidence"),
        ("defaults", {"confidence": 95}, "defaults.confidence"),
        ("defaults", {"confidence": 0.05}, "defaults.confidence"),
        ("metadata", {"name": "a b", "version": "1"}, "metadata.name"),
        ("metadata", {"name": "a", "version": 3.1}, "metadata.version"),
        ("probe", {"uri": "p", "columns": {"input": "x"}, "digest": "sha256:12"}, "probe.digest"),
        ("probe", {"uri": "p", "columns": {"input": []}}, "probe.columns.input"),
        ("probe", {"uri": "p", "columns": {"input": ["a", "a"]}}, "probe.columns.input"),
        ("probe", {"uri": "p", "columns": {"input": 3}}, "probe.columns.input"),
        ("probe", {"uri": "p", "columns": {"input": "x", "cluster": ["a", "b"]}}, "probe.columns.cluster"),
        ("probe", {"uri": "p", "columns": {"input": "x", "sublabel": ""}}, "probe.columns.sublabel"),
        ("probe", {"uri": "p", "columns": {"input": "x", "target": []}}, "probe.columns.target"),
        ("probe", {"uri": "p", "columns": {"input": "x", "target": ["t", "t"]}}, "probe.columns.target"),
        ("probe", {"uri": "p", "columns": {"input": "x", "target": 3}}, "probe.columns.target"),
        ("probe", {"uri": "p", "columns": {"input": "x"}, "shape": [0]}, "probe.shape.0"),
        ("probe", {"uri": " ", "columns": {"input": "x"}}, "probe.uri"),
        ("layers", {"e": {"path": "1", "pooling": "avg"}}, "layers.e.pooling"),
        ("layers", {"e e": {"path": "1"}}, "layers.e e.[key]"),
    ],
)
def test_values_out_of_their_range_are_refused(block: str, content: dict[str, Any], where: str) -> None:
    assert where in faults(policy(**{block: content}))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("run.batch_size", "should be `auto` or a whole number of rows, from 1 to 1000000; found 0"),
        ("probe.columns.input", "should name at least one column, and none of them twice; found []"),
    ],
)
def test_a_refusal_says_what_was_found(where: str, message: str) -> None:
    data = policy(run={"batch_size": 0}, probe={"uri": "p", "columns": {"input": []}})
    assert message in faults(data)[where]


def test_a_column_may_be_named_or_left_out() -> None:
    for target, expected in (("t", "t"), (["t"], ("t",)), (None, None)):
        columns = {"input": "x", "cluster": None, "target": target}
        read = Policy.model_validate(policy(probe={"uri": "p", "columns": columns}))
        assert read.probe is not None
        assert (read.probe.columns.cluster, read.probe.columns.target) == (None, expected)


def test_columns_of_another_kind_are_refused_with_what_was_found() -> None:
    found = faults(policy(probe={"uri": "p", "columns": {"input": {"a": 1}}}))
    assert "should be the name of a column, or a list of such names; found {'a': 1}" in found["probe.columns.input"]


def test_every_metric_and_read_out_of_the_catalogue_is_a_name_that_a_rule_may_have() -> None:
    for name, entry in catalogue.load().items():
        for metric in (name, *(f"{name}.{readout}" for readout in entry.readouts)):
            assert Rule.model_validate({"id": "r", "metric": metric, "max": 1}).metric == metric


def test_an_unknown_metric_offers_the_nearest_one() -> None:
    found = faults(policy(rules=[rule(metric="effective_rnak")]))["rules.0.metric"]
    assert found.endswith("there is no metric 'effective_rnak'. Did you mean `effective_rank`?")


def test_a_metric_that_resembles_none_lists_those_there_are() -> None:
    fault = metric_fault("zzz")
    assert fault is not None
    assert all(name in fault for name in catalogue.load())


def test_an_unknown_read_out_offers_the_nearest_or_lists_them() -> None:
    assert metric_fault("effective_rank.shar") == (
        "'effective_rank' has no read-out 'shar'. Did you mean `effective_rank.share`?"
    )
    assert metric_fault("effective_rank.") is not None
    assert metric_fault("channel_spread.x") == "'channel_spread' has no read-out 'x'. It has: none."


def test_the_name_of_a_read_out_offers_the_metrics_that_have_it() -> None:
    assert metric_fault("rankme") == "there is no metric 'rankme'. Did you mean `effective_rank.rankme`?"
    several = [name for name, entry in catalogue.load().items() if "share" in entry.readouts]
    assert len(several) > 1
    assert all(f"`{name}.share`" in str(metric_fault("share")) for name in several)


@pytest.mark.parametrize("name", sorted(catalogue.load()))
def test_a_rule_needs_inputs_that_a_policy_can_give(name: str) -> None:
    required = catalogue.load()[name].required
    beyond = [each for each in required if each not in IN_A_POLICY]
    fault = input_fault(name, Columns.model_fields)
    assert fault == input_fault(name, None)
    assert (fault is None) == (not beyond) == in_a_policy(catalogue.load()[name]).startswith("yes")
    if fault:
        assert fault.startswith("a policy cannot give `")
        assert all(f"`{each}`" in fault for each in beyond)
        assert f"use gate.measure for {name!r}" in fault
        return
    for each in required:
        key = IN_A_POLICY[each]
        lacking = input_fault(f"{name}.any", [other for other in Columns.model_fields if other != key])
        assert lacking == f"'{name}.any' needs `{key}` of the probe set; add `{key}: NAME` to `probe.columns`"


def test_inputs_that_a_policy_gives_are_columns_of_its_probe_set() -> None:
    assert set(IN_A_POLICY.values()) == {*Columns.model_fields} - {"input", "id"}


def test_every_rule_is_asked_for_its_inputs() -> None:
    rules = [rule(), rule(id="a", metric="ece"), rule(id="b", metric="subclass_retention")]
    probe = {"uri": "p.npz", "columns": {"input": "x", "label": "y", "sublabel": None}}
    found = faults(policy(probe=probe, rules=rules))
    assert found == {
        "rules.1.metric": "a policy cannot give `logits` yet; use gate.measure for 'ece'",
        "rules.2.metric": (
            "'subclass_retention' needs `sublabel` of the probe set; add `sublabel: NAME` to `probe.columns`"
        ),
    }
    assert input_faults(["label"], [None, 3, "zzz", "cdnv"]) == []


def test_a_policy_without_a_probe_block_leaves_its_columns_to_the_command() -> None:
    assert Policy.model_validate(policy(rules=[rule(metric="subclass_retention")])).probe is None


def test_parameters_belong_to_the_metric() -> None:
    found = faults(policy(rules=[rule(metric="knn_label_agreement", params={"kk": 3, "tau": "hot", "vote_k": 2.5})]))
    assert found["rules.0.params.kk"].startswith("'knn_label_agreement' takes no parameter 'kk'.")
    assert found["rules.0.params.tau"] == "should be like the default 0.07, found 'hot'"
    assert found["rules.0.params.vote_k"] == "should be a whole number like the default 200, found 2.5"
    assert params_faults("knn_label_agreement", {"k": 5, "tau": 1}) == []


def test_a_parameter_without_a_default_takes_a_number() -> None:
    assert params_faults("collapse_index", {"null_share": "half"}) == [
        (("null_share",), "should be a number, found 'half'")
    ]
    assert params_faults("collapse_index", {"null_share": 1}) == []


@pytest.mark.parametrize(
    ("name", "entry"), [(name, entry) for entry in catalogue.load().values() for name in entry.ranges]
)
def test_a_parameter_holds_its_range_with_both_ends(name: str, entry: catalogue.Entry) -> None:
    low, high = entry.ranges[name]
    assert params_faults(entry.name, {name: low}) == params_faults(entry.name, {name: high}) == []
    for value in (low - 1, high + 1):
        message = f"should be from {low:g} to {high:g}, found {value!r}"
        assert params_faults(entry.name, {name: value}) == [((name,), message)]


def test_the_largest_values_that_can_be_run_are_read() -> None:
    run, defaults = {"seed": 2**63 - 1, "batch_size": 1_000_000}, {"confidence": 0.9999}
    read = Policy.model_validate(policy(run=run, defaults=defaults))
    assert (read.run.seed, read.run.batch_size, read.defaults.confidence) == (2**63 - 1, 1_000_000, 0.9999)


@pytest.mark.parametrize("value", [True, nan, inf, 10**400, [1], {"a": 1}])
def test_a_parameter_is_a_finite_number_or_text(value: object) -> None:
    found = faults(policy(rules=[rule(metric="knn_label_agreement", params={"tau": value})]))
    assert "should be a finite number or text" in found["rules.0.params.tau"]


def test_only_a_near_word_is_offered() -> None:
    assert did_you_mean("mni", ["min", "max"]) == " Did you mean `min`?"
    assert did_you_mean("threshold", ["min", "max"]) == ""


def test_a_policy_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Policy.model_validate(policy()).rules[0].min = 0.0
