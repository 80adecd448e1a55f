"""What the columns of logits stand for: what a model calls them goes before the order of the labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gate.errors import MetricError
from gate.models.mlmodel import Permissions, inspect
from gate.streaming.logits import class_names, require_same_names
from gate.streaming.opening import open_rows
from tests.streaming.made import probe, written

NAMED = ("pos", "neg")


def names(tmp_path: Path, labels: list[str], *, named: tuple[str, ...] = NAMED) -> tuple[str, ...]:
    path = written(tmp_path / "p.npz", x=np.zeros((len(labels), 2), dtype=np.float32), y=labels)
    rows = open_rows(probe(path, input="x", label="y"))
    return class_names(rows, 2, 4, named=named, single=False)


def test_labels_that_the_model_knows_are_in_its_own_order(tmp_path: Path) -> None:
    assert names(tmp_path, ["neg", "pos"]) == NAMED
    assert names(tmp_path, ["neg", "neg"]) == NAMED
    assert names(tmp_path, ["neg", "pos"], named=()) == ("neg", "pos")


def test_numbers_count_the_outputs_of_the_model(tmp_path: Path) -> None:
    assert names(tmp_path, ["0", "1"]) == ("0", "1")


def test_labels_that_the_model_calls_otherwise_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(
        MetricError, match=r"calls its outputs 'pos', 'neg', and the labels are 'bad', 'good'; name them"
    ):
        names(tmp_path, ["bad", "good"])


def test_two_models_that_call_their_outputs_otherwise_are_not_compared() -> None:
    require_same_names(NAMED, NAMED)
    require_same_names(NAMED, ())
    with pytest.raises(MetricError, match="cannot be compared column by column"):
        require_same_names(NAMED, NAMED[::-1])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"id2label": {"1": "neg", "0": "pos"}}, NAMED),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, ()),
        ({"id2label": {"1": "neg", "2": "pos"}}, ()),
        ({"id2label": ["pos"]}, ()),
        ({}, ()),
    ],
)
def test_a_model_of_transformers_says_what_it_calls_its_outputs(tmp_path: Path, settings: Any, expected: Any) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"")
    (tmp_path / "model" / "config.json").write_text(json.dumps(settings))
    (tmp_path / "MLmodel").write_text("flavors: {transformers: {model_binary: model}}")
    assert inspect(tmp_path, Permissions()).outputs == expected
