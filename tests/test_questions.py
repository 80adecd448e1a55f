"""What a policy asks, and the answers: what is kept of which rows, and the estimates that follow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gate
from gate import questions
from gate.engines import local
from gate.errors import MetricError, NothingEvaluatedError
from gate.estimate import Estimate
from gate.features import LayerAddress
from gate.geometry import catalogue
from gate.geometry.statistics import Batch, ClassMoments, Moments, Spectrum, token_means, token_terms
from gate.models.baseline import Absent
from gate.policy.loading import load_policy
from gate.policy.references import OF_THE_PROBE, Given, input_fault, needs_baseline
from gate.policy.schema import Policy
from gate.probes.probe_set import ProbeBatch
from gate.questions import Part, Plan
from gate.streaming.parts import READ, Shown, parts_of
from gate.verdict import Measurements, Question, levels, question_of
from tests.geometry import data

NONE = Absent("none is asked for")
FOUND: Any = object()  # not an absent one

READ_ALIKE = ("logits", "before", "latent_means", "latent_log_variances", "codes", "attention_filter")
READS = {
    **{name: {"path": "output"} for name in READ_ALIKE[:5]},
    "depths": {"paths": ["early", "late"]},
    "tokens": {"paths": ["one", "two"]},
    "attention": {"path": "attentions.0"},
    "head": {"path": "head"},
}


def policy(*rules: dict[str, Any], **keys: Any) -> Policy:
    head = {"apiVersion": "gate/v1", "kind": "Policy", "metadata": {"name": "p", "version": "1"}}
    layers = {"deep": {"path": "encoder.1", "pooling": "mean"}, "unused": {"path": "x"}}
    named = [{"id": f"r{index}", "layer": "deep", **each} for index, each in enumerate(rules)]
    return Policy.model_validate({**head, "layers": layers, "baseline": {"uri": "x"}, "rules": named, **keys})


def asked(of: Policy, *batches: dict[Part, Batch], confidence: float = 0.95, baseline: Any = NONE) -> Measurements:
    plan = questions.plan(of)
    folded = local.fold(batches, lambda part: questions.kinds_of(part, plan.rules))
    return questions.answers(plan.rules, folded, confidence, baseline)


def some_rows(n: int = 200, d: int = 8, **columns: Any) -> Batch:
    ids = [str(row) for row in range(n)]
    return Batch.of(data.isotropic(n, d), ids=ids, labels=[row % 2 for row in range(n)], **columns)


# The plan.


def test_only_layers_that_a_rule_is_about_are_extracted() -> None:
    plan = questions.plan(policy({"metric": "vci", "max": 1}, {"metric": "vci", "layer": "output", "max": 1}))
    assert plan.layers == {"deep": LayerAddress("encoder.1", "mean"), "output": LayerAddress("output")}
    assert (plan.baseline_layers, plan.baseline_reads, plan.compares) == ({}, {}, False)


def test_a_rule_that_is_switched_off_reads_nothing() -> None:
    off: Any = {"metric": "vci", "max": 1, "enabled": False, "override": True, "reason": "Not for this kind."}
    plan = questions.plan(policy(off, {"metric": "vci", "layer": "output", "max": 1}))
    assert (list(plan.layers), [rule.id for rule in plan.rules]) == (["output"], ["r1"])


@pytest.mark.parametrize(
    ("rule", "layers", "reads"),
    [
        ({"metric": "effective_rank", "min": 1}, [], []),
        ({"metric": "effective_rank", "relative": {"max_drop": 1}}, ["deep"], []),
        ({"metric": "effective_rank", "slices": {"by": "site", "relative": {"max_drop": 1}}}, ["deep"], []),
        ({"metric": "knn_overlap", "min": 0}, ["deep"], []),
        ({"metric": "negative_flip_rate", "max": 1}, [], ["logits"]),
        ({"metric": "codebook_usage", "min": 0}, [], []),
        ({"metric": "codebook_usage", "relative": {"max_drop": 1}}, ["deep"], ["codes"]),
        ({"metric": "vae_active_units", "relative": {"max_drop": 1}}, ["deep"], ["latent_means"]),
        ({"metric": "mean_cosine", "relative": {"max_rise": 1}}, ["deep"], []),
        ({"metric": "mean_cosine.before_after", "relative": {"max_rise": 1}}, ["deep"], ["before"]),
        ({"metric": "mean_cosine.per_class", "relative": {"max_rise": 1}}, ["deep"], []),
        ({"metric": "prediction_entropy_ratio.entropy_shift", "max": 1}, [], ["logits"]),
        ({"metric": "prediction_entropy_ratio.mi", "max": 1}, [], []),
        ({"metric": "ridge_probe_accuracy.r2", "min": 0}, [], []),
        ({"metric": "ncc_head_disagreement", "relative": {"max_rise": 1}}, ["deep"], ["logits"]),
        ({"metric": "token_mean_cosine.low_share", "max": 1}, [], ["tokens.one", "tokens.two"]),
    ],
)
def test_of_the_baseline_what_is_compared_is_read_and_nothing_else(
    rule: dict[str, Any], layers: list[str], reads: list[str]
) -> None:
    plan = questions.plan(policy(rule, reads=READS))
    assert (list(plan.baseline_layers), list(plan.baseline_reads)) == (layers, reads)
    assert plan.compares == bool(layers or reads)
    tokens = ["tokens.one", "tokens.two", "token_mean"]
    assert list(plan.reads) == [*READ_ALIKE[:5], "depths.early", "depths.late", *tokens, "attention_filter"]


def test_every_column_to_cut_by_is_read_once() -> None:
    by_two: Any = {"metric": "effective_rank", "slices": {"by": ["site", "language"], "min": 1}}
    by_one: Any = {"metric": "mean_cosine", "slices": {"by": "site", "relative": {"max_rise": 1}}}
    plan = questions.plan(policy(by_two, by_one, by_two, {**by_one, "layer": "output"}))
    assert plan.cuts == {"deep": (("site", "language"), ("site",)), "output": (("site",),)}
    assert plan.baseline_cuts == {"deep": (("site",),), "output": (("site",),)}
    assert plan.tags == ("site", "language")


def test_a_policy_without_rules_evaluates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("apiVersion: gate/v1\nkind: Policy\nmetadata: {name: p, version: '1'}\nrules: []\n")
    with pytest.raises(NothingEvaluatedError, match="rule"):
        load_policy(path)


def test_what_applies_is_what_the_policy_gives_the_inputs_of() -> None:
    probe = {"uri": "p.npz", "columns": {"input": "x", "label": "y"}}
    bare = questions.applicable(policy({"metric": "effective_rank", "min": 1}, probe=probe, baseline=None))
    assert {"effective_rank", "knn_label_agreement"} <= set(bare)
    assert not {"knn_overlap", "ece", "nrc1", "negative_flip_rate"} & set(bare)
    reads = {"logits": {"path": "output"}}
    more = questions.applicable(policy({"metric": "effective_rank", "min": 1}, probe=probe, reads=reads))
    assert {"knn_overlap", "ece", "negative_flip_rate"} <= set(more)
    assert "ridge_probe_accuracy" in bare
    assert "worst_group_accuracy" not in more


# What is kept.


def test_statistics_are_kept_of_the_rows_that_something_asks_for() -> None:
    rules = policy(
        {"metric": "effective_rank", "min": 1, "relative": {"max_drop": 1}},
        {"metric": "mean_cosine", "max": 1, "slices": {"by": "site", "max": 1}},
    ).rules
    deep = Part("deep")
    whole, baseline = questions.kinds_of(deep, rules), questions.kinds_of(deep._replace(of="baseline"), rules)
    site, other = (questions.kinds_of(deep._replace(slice=((by, "1"),)), rules) for by in ("site", "language"))
    assert {Moments, ClassMoments} <= set(whole)
    assert set(baseline) < set(whole)
    assert baseline
    assert not set(baseline) & set(site)
    assert site
    assert other == ()
    assert any(issubclass(kind, Spectrum) for kind in baseline)


# The answers.


def test_rules_with_the_same_metric_and_parameters_ask_one_question() -> None:
    of = policy(
        {"metric": "effective_rank", "min": 1},
        {"metric": "effective_rank.share", "min": 0.1},
        {"metric": "knn_label_agreement", "min": 0, "params": {"k": 5}},
        {"metric": "knn_label_agreement", "min": 0},
    )
    found = asked(of, {Part("deep"): some_rows()}, confidence=0.9).candidate
    readouts = [1 + len(catalogue.load()[name].readouts) for name in ("effective_rank", "knn_label_agreement")]
    assert len(found) == readouts[0] + 2 * readouts[1]
    assert all(question_of(rule) in found for rule in of.rules)
    neighbours = [found[question_of(rule)] for rule in of.rules[2:]]
    assert [each.params["k"] for each in neighbours] == [5, 20]
    assert {each.confidence for each in found.values()} == {0.9}
    assert set(levels(0.9)) <= set(neighbours[0].intervals) | {0.9}


def test_features_that_are_not_finite_name_their_layer_and_model() -> None:
    of = policy({"metric": "effective_rank", "min": 1, "relative": {"max_drop": 1}})
    bad = Batch.of(torch.full((10, 2), torch.nan), ids=[str(i) for i in range(10)])
    with pytest.raises(MetricError, match="layer 'deep': nonfinite_rows: 10 of 10"):
        asked(of, {Part("deep"): bad})
    good = Batch.of(data.isotropic(10, 2), ids=[str(i) for i in range(10)])
    with pytest.raises(MetricError, match="layer 'deep' of the baseline: nonfinite_rows: 10 of 10"):
        asked(of, {Part("deep"): good, Part("deep", "baseline"): bad}, baseline=FOUND)


def test_why_there_is_no_baseline_is_part_of_the_answer() -> None:
    of = policy({"metric": "effective_rank", "min": 1})
    assert asked(of, {Part("deep"): some_rows()}).no_baseline == "none is asked for"
    assert asked(of, {Part("deep"): some_rows()}, baseline=FOUND).no_baseline is None


def test_rows_of_slices_are_counted() -> None:
    of = policy({"metric": "effective_rank", "slices": {"by": "site", "min": 1}})
    rows = some_rows(100)
    few, many = (Part("deep", slice=(("site", name),)) for name in "ab")
    parts = {few: rows.rows(torch.arange(7)), many: rows.rows(torch.arange(60))}
    found = asked(of, {Part("deep"): rows, **parts}, parts)
    assert found.slices == {("site",): {(("site", "a"),): 14, (("site", "b"),): 120}}


# A slice is measured as if its rows were all there are.

ROWS = 480
SITES = np.array(["large"] * 240 + ["lacks a class"] * 160 + ["one class"] * 60 + ["few"] * 15 + ["two"] * 4 + ["one"])
COLUMNS = ("labels", "groups", "lengths", "clusters", "sublabels", "targets")


@cache
def inputs() -> dict[str, Any]:
    """Every column that a policy can give, in an order that spreads the slices over the batches."""
    rng = np.random.default_rng(0)
    labels = np.arange(ROWS) % 4
    labels[240:400] = np.arange(160) % 3
    labels[400:460] = 1
    order = rng.permutation(ROWS)
    labels, sites = labels[order], SITES[order]
    x = (rng.normal(size=(ROWS, 8)) + 2 * np.eye(8)[labels]).astype(np.float32)
    earlier = x + rng.normal(size=x.shape).astype(np.float32) / 10
    head = rng.normal(size=(8, 4)).astype(np.float32)
    states = rng.normal(size=(ROWS, 5, 8)) + x[:, None]
    return {
        "x": x,
        "sites": sites,
        "labels": np.array([f"class {label}" for label in labels]),
        "groups": np.array([f"group {row % 3}" for row in range(ROWS)]),
        "sublabels": np.array([f"{label}/{row % 2}" for row, label in enumerate(labels)]),
        "lengths": np.arange(ROWS) % 17 + 1.0,
        "clusters": np.array([str(row // 2) for row in range(ROWS)]),
        "targets": np.stack([x[:, 0] * 2 + rng.normal(size=ROWS), x[:, 1]], axis=1).astype(np.float64),
        "cues": np.array([f"class {label}" for label in rng.permutation(labels)]),
        "pretext": np.array([str(row % 3) for row in range(ROWS)]),
        "attributes": {"device": np.array([f"device {row % 2}" for row in range(ROWS)])},
        "tasks": {"parity": np.array([str(label % 2) for label in labels])},
        "depths": {"early": rng.normal(size=(ROWS, 6)).astype(np.float32), "late": x},
        "tokens": {"one": states, "two": states + rng.normal(size=states.shape)},
        "attention_filter": rng.uniform(size=ROWS),
        "baseline_tokens": {"one": -states, "two": 2 * states},
        "logits": x @ head,
        "before": earlier,
        "latent_means": x,
        "latent_log_variances": -np.abs(x),
        "codes": rng.integers(0, 16, size=(ROWS, 4)),
        "baseline": earlier,
        "baseline_logits": earlier @ head,
    }


NAMES = tuple(f"class {label}" for label in range(4))
PARAMS = {"codebook_usage": {"size": 16}}
IDS = [f"row {row}" for row in range(ROWS)]


WEIGHTS = {"head.weight": torch.arange(32.0).reshape(4, 8) % 5, "head.bias": torch.arange(4.0)}


def read(known: Mapping[str, Any], rows: slice) -> dict[str, torch.Tensor]:
    """What a model gives besides its features, by the names under which a pass carries it."""
    found = {f"{READ}{name}": torch.tensor(known[name][rows]).float() for name in READ_ALIKE}
    found |= {f"{READ}depths.{name}": torch.tensor(each[rows]) for name, each in known["depths"].items()}
    states = {name: torch.tensor(each[rows]) for name, each in known["tokens"].items()}
    found[f"{READ}attention_filter"] = found[f"{READ}attention_filter"][:, None]
    return found | terms(states) | {f"{READ}token_mean": token_means(states["two"])}


def terms(states: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{READ}tokens.{name}": token_terms(each) for name, each in states.items()}


def streamed(plan: Plan, size: int) -> Iterator[dict[Part, Batch]]:
    known = inputs()
    for start in range(0, ROWS, size):
        rows = slice(start, start + size)
        names = ("labels", "groups", "lengths", "clusters", "sublabels", "cues", "pretext")
        texts: dict[str, Any] = {name: tuple(known[name][rows]) for name in names}
        texts |= {each: {name: tuple(of[rows]) for name, of in known[each].items()} for each in ("attributes", "tasks")}
        tags = {"site": tuple(known["sites"][rows])}
        prints = np.arange(ROWS)[rows]
        batch = ProbeBatch(
            known["x"][rows], tuple(IDS[rows]), fingerprints=prints, targets=known["targets"][rows], tags=tags, **texts
        )
        features = {"output": torch.tensor(known["x"][rows])} | read(known, rows)
        earlier = {"output": torch.tensor(known["baseline"][rows])}
        earlier |= {f"{READ}logits": torch.tensor(known["baseline_logits"][rows])}
        earlier |= {f"{READ}codes": features[f"{READ}codes"]}
        earlier |= terms({name: torch.tensor(each[rows]) for name, each in known["baseline_tokens"].items()})
        about = {"outputs": NAMES, "seed": 0}
        yield from parts_of(
            Shown(batch, features, earlier, {}), plan, {"candidate": {**about, "weights": WEIGHTS}, "baseline": about}
        )


def in_a_policy() -> list[str]:
    given = Given([key for keys in OF_THE_PROBE.values() for key in keys], list(READS), baseline=True)
    return [name for name in catalogue.load() if input_fault(name, given) is None]


@cache
def measured() -> Measurements:
    rules = []
    for name in in_a_policy():
        asks = {"min": 0} if needs_baseline(name) else {"relative": {"max_drop": 1}}
        rules.append(
            {"metric": name, "layer": "output", "params": PARAMS.get(name, {}), "slices": {"by": "site", **asks}}
        )
    plan = questions.plan(policy(*rules, reads=READS))
    folded = local.fold(streamed(plan, 200), lambda part: questions.kinds_of(part, plan.rules))
    return questions.answers(plan.rules, folded, 0.95, FOUND)


@cache
def alone(site: str) -> dict[str, Estimate]:
    """The same rows, measured where there are no others."""
    known, rows = inputs(), np.flatnonzero(inputs()["sites"] == site)
    given: dict[str, Any] = {
        name: {part: of[rows] for part, of in each.items()} if isinstance(each, dict) else each[rows]
        for name, each in known.items()
        if name not in ("x", "sites")
    }
    about: Any = {"ids": [IDS[row] for row in rows], "outputs": NAMES, "params": PARAMS, "weights": WEIGHTS}
    return gate.measure(known["x"][rows], metrics=in_a_policy(), **about, **given)


def same(one: Estimate, other: Estimate) -> bool:
    known = (one.status, one.n, one.n_needed) == (other.status, other.n, other.n_needed)
    numbers = [(one.value, other.value), *zip(one.interval or (), other.interval or (), strict=True)]
    return known and all(close(*each) for each in numbers)


def close(a: float | None, b: float | None) -> bool:
    return a is b or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-6))


def on_site(estimates: Mapping[Question, Estimate], site: str) -> dict[str, Estimate]:
    return {question.metric: each for question, each in estimates.items() if question.slice == (("site", site),)}


@pytest.mark.parametrize("site", dict.fromkeys(SITES.tolist()))
def test_a_slice_is_measured_as_if_its_rows_were_all_there_are(site: str) -> None:
    found = on_site(measured().candidate, site)
    assert list(found) == in_a_policy()
    other = {name: (found[name], alone(site)[name]) for name in found if not same(found[name], alone(site)[name])}
    assert other == {}
    assert sum(each.status == "ok" for each in found.values()) >= {"large": 25, "lacks a class": 25}.get(site, 0)


@pytest.mark.parametrize("site", dict.fromkeys(SITES.tolist()))
def test_a_slice_is_compared_with_the_baseline_on_its_own_rows(site: str) -> None:
    found = on_site(measured().changes, site)
    compared = [name for name in found if alone(site)[name].change is not None]
    assert len(compared) > 20
    for name in compared:
        other = alone(site)[name].change
        if name in ("codebook_usage", "vae_active_units", "prediction_entropy_ratio"):
            continue  # `gate.measure` is given these of the candidate alone
        assert other is not None
        assert same(found[name], other), name


def test_what_a_metric_reads_is_compared_with_the_same_of_the_baseline() -> None:
    """The codes of both are the same here, and so are the numbers of their use."""
    changes = [each for question, each in measured().changes.items() if question.metric == "codebook_usage"]
    assert {each.value for each in changes if each.status == "ok"} == {0.0}


def test_a_slice_of_every_size_has_an_answer_to_every_question() -> None:
    found = measured()
    assert set(found.slices["site",].values()) == {240, 160, 60, 15, 4, 1}
    assert {each.status for each in found.candidate.values()} == {"ok", "inconclusive", "not_applicable", "error"}
    assert all(each.reason for each in found.candidate.values() if each.status != "ok")
