"""What is judged is what MLflow gives to whoever loads the model, by whichever of its flavours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gate.errors import ModelError
from gate.models.mlmodel import Permissions, inspect

SKOPS = {"pickled_model": "model.skops", "serialization_format": "skops"}
BERT = {"model_binary": "model", "pipeline_model_type": "BertModel"}
# Flavour, what it says, what the generic one says beside its loader; as MLflow writes them.
WRITTEN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "pytorch": ({"model_data": "data"}, {"data": "data"}),
    "onnx": ({"data": "model.onnx"}, {"data": "model.onnx"}),
    "sklearn": (SKOPS, {"model_path": "model.skops"}),
    "sentence_transformers": ({}, {"data": "model.sentence_transformer"}),
    "transformers": (BERT, {}),
    "keras": ({"data": "data"}, {}),
    "xgboost": ({"data": "m.json", "model_class": "xgboost.core.Booster"}, {"data": "m.json"}),
}
FILES = (
    *("data/model.pt2", "data/model.keras", "model.onnx", "model.skops", "m.json", "model/model.safetensors"),
    *("model.sentence_transformer/model.safetensors", "other/model.pt2", "other/model.onnx", "other.skops"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"{}")
    modules = [{"path": "", "type": "sentence_transformers.models.Transformer"}]
    (tmp_path / "model.sentence_transformer" / "modules.json").write_text(json.dumps(modules))
    return tmp_path


def said(folder: Path, flavour: str, *, further: Any = None, own: Any = None, generic: Any = None) -> None:
    """What the files say, with some of it said in another way."""
    settings, beside = WRITTEN[flavour]
    python = {"loader_module": f"mlflow.{flavour}", **beside, **(generic or {})}
    flavours = {flavour: {**settings, **(own or {})}, "python_function": python, **(further or {})}
    (folder / "MLmodel").write_text(json.dumps({"flavors": flavours}))
    inspect(folder, Permissions())


@pytest.mark.parametrize("flavour", WRITTEN)
def test_what_mlflow_writes_is_one_model(folder: Path, flavour: str) -> None:
    said(folder, flavour)
    (folder / "MLmodel").write_text(json.dumps({"flavors": {"pytorch": {"model_data": "data"}}}))
    inspect(folder, Permissions())  # of several inputs there is no generic flavour


@pytest.mark.parametrize(
    ("flavour", "generic", "key"),
    [
        ("pytorch", {"data": "other"}, "data"),
        ("pytorch", {"data": None}, "data"),  # MLflow would look beside the MLmodel file
        ("pytorch", {"loader_module": "mlflow.sklearn", "model_path": "other.skops"}, "loader_module"),
        ("pytorch", {"model_path": "other"}, "model_path"),
        ("onnx", {"data": "other/model.onnx"}, "data"),
        ("sklearn", {"model_path": "other.skops"}, "model_path"),
        ("sklearn", {"data": "other.skops"}, "data"),
        ("sentence_transformers", {"data": "other"}, "data"),
        ("transformers", {"data": "other"}, "data"),
        ("keras", {"data": "other"}, "data"),
        ("xgboost", {"data": "other"}, "data"),
    ],
)
def test_a_generic_flavour_that_leads_elsewhere_is_refused(
    folder: Path, flavour: str, generic: dict[str, Any], key: str
) -> None:
    with pytest.raises(ModelError, match=f"python_function has {key}: .* MLflow would serve another model"):
        said(folder, flavour, generic=generic)


@pytest.mark.parametrize("flavour", WRITTEN)
@pytest.mark.parametrize("further", ["onnx", "spark"])
def test_a_further_flavour_may_be_another_model(folder: Path, flavour: str, further: str) -> None:
    if flavour == further:
        further = "sklearn"
    settings = WRITTEN.get(further, ({}, {}))[0]
    with pytest.raises(ModelError, match=r"the model has the flavours .*; whoever loads it by another one may"):
        said(folder, flavour, further={further: settings})


@pytest.mark.parametrize("value", ["elsewhere", None])
@pytest.mark.parametrize("key", ["peft_adaptor", "local_base_model_path", "source_model_revision"])
def test_a_model_that_mlflow_makes_of_other_parts_is_refused(folder: Path, key: str, value: str | None) -> None:
    with pytest.raises(ModelError, match=f"{key} is {value!r}, by which MLflow loads another model"):
        said(folder, "transformers", own={key: value})


@pytest.mark.parametrize("flavour", ["transformers", "sentence_transformers"])
@pytest.mark.parametrize("name", ["adapter_config.json", "router_config.json"])
def test_adapters_and_routes_are_refused_wherever_they_lie(folder: Path, flavour: str, name: str) -> None:
    place = folder / ("model" if flavour == "transformers" else "model.sentence_transformer") / name
    place.write_text("{}")
    with pytest.raises(ModelError, match=f"{name}: the model has .* which the gate cannot judge"):
        said(folder, flavour)
