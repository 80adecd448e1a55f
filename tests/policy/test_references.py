"""What a rule may refer to: metrics, their parameters, and inputs that a policy can give."""

from __future__ import annotations

import pytest

from gate.geometry import catalogue
from gate.policy.reads import Reads
from gate.policy.references import (
    OF_THE_BASELINE,
    OF_THE_MODEL,
    OF_THE_PROBE,
    Given,
    addresses,
    did_you_mean,
    in_a_policy,
    input_fault,
    metric_fault,
    needs_baseline,
    params_faults,
)
from gate.policy.rules import Rule
from gate.policy.schema import Columns

KEYS = tuple(Reads.model_fields)
EVERYTHING = Given(tuple(Columns.model_fields), KEYS, baseline=True)


def test_every_metric_and_read_out_of_the_catalogue_is_a_name_that_a_rule_may_have() -> None:
    entries = catalogue.load()
    assert len(addresses()) == len(set(addresses())) == sum(1 + len(entry.readouts) for entry in entries.values())
    for metric in addresses():
        assert metric.partition(".")[0] in entries
        assert Rule.model_validate({"id": "r", "metric": metric, "max": 1}).metric == metric


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


def test_a_typo_in_a_metric_keeps_its_read_out() -> None:
    assert metric_fault("efective_rank.share") == (
        "there is no metric 'efective_rank.share'. Did you mean `effective_rank.share`?"
    )
    assert metric_fault("efective_rank") == "there is no metric 'efective_rank'. Did you mean `effective_rank`?"


def test_the_name_of_a_read_out_offers_the_metrics_that_have_it() -> None:
    assert metric_fault("rankme") == "there is no metric 'rankme'. Did you mean `effective_rank.rankme`?"
    several = [name for name, entry in catalogue.load().items() if "share" in entry.readouts]
    assert len(several) > 1
    assert all(f"`{name}.share`" in str(metric_fault("share")) for name in several)


@pytest.mark.parametrize("name", sorted(catalogue.load()))
def test_a_rule_needs_inputs_that_a_policy_can_give(name: str) -> None:
    entry = catalogue.load()[name]
    beyond = [each for each in entry.needed_by() if each not in (*OF_THE_PROBE, *OF_THE_MODEL, *OF_THE_BASELINE)]
    fault = input_fault(name, EVERYTHING)
    assert (fault is None) == (not beyond) == in_a_policy(entry).startswith("yes")
    if fault:
        assert fault == input_fault(name, Given(None))
        assert fault.startswith("a policy cannot give `")
        assert all(f"`{each}`" in fault for each in beyond)
        assert f"use gate.measure for {name!r}" in fault


@pytest.mark.parametrize(
    ("metric", "each"),
    [
        (address, each)
        for name, entry in catalogue.load().items()
        for address, needed in (
            (f"{name}.any", entry.required),
            *((name if each == "value" else f"{name}.{each}", needs) for each, needs in entry.readout_needs.items()),
        )
        if input_fault(address, EVERYTHING) is None
        for each in needed
    ],
)
def test_a_policy_that_lacks_one_input_is_told_what_to_write(metric: str, each: str) -> None:
    if keys := OF_THE_PROBE.get(each):
        columns = [other for other in Columns.model_fields if other not in keys]
        named, lines = " and ".join(f"`{key}`" for key in keys), ", ".join(f"{key}: NAME" for key in keys)
        expected = f"{metric!r} needs {named} of the probe set; add `{lines}` to `probe.columns`"
        assert input_fault(metric, Given(columns, KEYS, baseline=True)) == expected
        assert input_fault(metric, Given(None, KEYS, baseline=True)) is None  # the command names the probe set
    elif each in OF_THE_BASELINE:
        expected = f"{metric!r} compares with a baseline; name one: `baseline: {{uri: models:/NAME@ALIAS}}`"
        assert input_fault(metric, Given(EVERYTHING.columns, KEYS)) == expected
    else:
        key = OF_THE_MODEL[each]
        reads = [other for other in KEYS if other != key]
        what = "paths: [PATH, ...]" if key in ("tokens", "depths") else "path: PATH"
        expected = f"{metric!r} needs `{key}` of the model; say where they are: `reads: {{{key}: {{{what}}}}}`"
        assert input_fault(metric, Given(EVERYTHING.columns, reads, baseline=True)) == expected


@pytest.mark.parametrize(
    ("address", "readout", "fault"),
    [
        ("worst_group_accuracy.per_view", "per_view", "a policy cannot give `view_logits` yet"),
        ("token_mean_cosine.dirichlet", "dirichlet", "a policy cannot give `dirichlet` yet"),
        ("within_between_ratio.null_space_shift", "null_space_shift", None),
        ("ridge_probe_accuracy", "value", None),
        ("ridge_probe_accuracy.r2", "r2", None),
    ],
)
def test_a_read_out_needs_inputs_that_a_policy_can_give(address: str, readout: str, fault: str | None) -> None:
    found = input_fault(address, EVERYTHING)
    assert found == (fault and f"{fault}; use gate.measure for {address!r}")
    assert in_a_policy(catalogue.find(address)[0], readout) == (
        "yes" if fault is None else f"not yet: it cannot give {fault.split()[4]}"
    )


def test_the_columns_of_one_read_out_are_not_asked_for_by_another() -> None:
    given = Given(("input", "target"))
    assert input_fault("ridge_probe_accuracy.r2", given) is None
    assert str(input_fault("ridge_probe_accuracy", given)).startswith("'ridge_probe_accuracy' needs `label` of")
    assert str(input_fault("ridge_probe_accuracy.worst_class", given)).endswith("add `label: NAME` to `probe.columns`")
    assert input_fault("mean_cosine", Given(())) is None


def test_outputs_of_the_baseline_are_read_where_those_of_the_candidate_are() -> None:
    lacking = input_fault("function_space_distance", Given((), (), baseline=True))
    assert lacking is not None
    assert lacking.startswith("'function_space_distance' needs `logits` of the model")


def test_a_metric_of_two_versions_needs_a_baseline() -> None:
    assert needs_baseline("cka_debiased")
    assert needs_baseline("negative_flip_rate.any")
    assert not needs_baseline("effective_rank")
    assert not needs_baseline("ridge_probe_accuracy")  # it reads one if there is one
    assert needs_baseline("prediction_entropy_ratio.entropy_shift")
    assert not needs_baseline("prediction_entropy_ratio")
    assert not needs_baseline("prediction_entropy_ratio.mi")


def test_a_metric_that_does_not_exist_lacks_no_input() -> None:
    assert input_fault("zzz", Given(None)) is None


def test_inputs_that_a_policy_gives_are_keys_of_it() -> None:
    assert {key for keys in OF_THE_PROBE.values() for key in keys} == {*Columns.model_fields} - {"input", "id"}
    assert set(OF_THE_MODEL.values()) == {*Reads.model_fields}


def test_parameters_belong_to_the_metric() -> None:
    faults = dict(params_faults("knn_label_agreement", {"kk": 3, "tau": "hot", "vote_k": 2.5}))
    assert faults["kk",].startswith("'knn_label_agreement' takes no parameter 'kk'.")
    assert faults["tau",] == "should be like the default 0.07, found 'hot'"
    assert faults["vote_k",] == "should be a whole number like the default 200, found 2.5"
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


def test_only_a_near_word_is_offered() -> None:
    assert did_you_mean("mni", ["min", "max"]) == " Did you mean `min`?"
    assert did_you_mean("threshold", ["min", "max"]) == ""
