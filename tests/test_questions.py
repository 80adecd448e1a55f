from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gate import questions
from gate.engines import local
from gate.errors import MetricError, NothingEvaluatedError
from gate.features import LayerAddress
from gate.geometry.statistics import Batch, Moments
from gate.policy.loading import LoadedPolicy, load_policy
from tests.geometry import data

HEAD = "apiVersion: gate/v1\nkind: Policy\nmetadata: {name: p, version: '1'}\n"


def policy(folder: Path, rules: str) -> LoadedPolicy:
    path = folder / "p.yaml"
    path.write_text(f"{HEAD}layers:\n  deep: {{path: encoder.1, pooling: mean}}\n  unused: {{path: x}}\n{rules}")
    return load_policy(path)


def test_rules_with_the_same_metric_and_parameters_ask_one_question(tmp_path: Path) -> None:
    loaded = policy(
        tmp_path,
        "rules:\n"
        "  - {id: a, metric: effective_rank, layer: deep, min: 1}\n"
        "  - {id: b, metric: effective_rank.share, layer: deep, min: 0.1}\n"
        "  - {id: c, metric: knn_label_agreement, layer: deep, min: 0, params: {k: 5}}\n"
        "  - {id: d, metric: knn_label_agreement, layer: deep, min: 0}\n",
    )
    rules = loaded.policy.rules
    rows = Batch.of(data.isotropic(200, 8), ids=[str(i) for i in range(200)], labels=[i % 2 for i in range(200)])
    folded = local.fold([{"deep": rows}], questions.statistics_of(rules))
    answers = questions.answers(rules, folded, 0.9)
    assert len(answers) == 3
    assert [questions.question(rule) in answers for rule in rules] == [True] * 4
    neighbours = [answers[questions.question(rule)]["knn_label_agreement"] for rule in rules[2:]]
    assert [each.params["k"] for each in neighbours] == [5, 20]
    assert {each.confidence for each in neighbours} == {0.9}


def test_only_layers_that_a_rule_is_about_are_extracted(tmp_path: Path) -> None:
    loaded = policy(
        tmp_path,
        "rules:\n  - {id: a, metric: vci, layer: deep, max: 1}\n  - {id: b, metric: vci, layer: output, max: 1}\n",
    )
    assert questions.layers_of(loaded.policy) == {
        "deep": LayerAddress("encoder.1", "mean"),
        "output": LayerAddress("output"),
    }


def test_a_policy_without_rules_evaluates_nothing(tmp_path: Path) -> None:
    with pytest.raises(NothingEvaluatedError, match="rule"):
        policy(tmp_path, "rules: []\n")


def test_features_that_are_not_finite_name_their_layer(tmp_path: Path) -> None:
    rules = policy(tmp_path, "rules:\n  - {id: a, metric: vci, layer: deep, max: 1}\n").policy.rules
    features = torch.full((10, 2), torch.nan)
    folded = local.fold([{"deep": Batch.of(features, ids=[str(i) for i in range(10)])}], (Moments,))
    with pytest.raises(MetricError, match="layer 'deep': nonfinite_rows: 10 of 10"):
        questions.answers(rules, folded, 0.95)
