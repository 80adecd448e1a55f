"""Whether the model that is judged is the one that MLflow gives to everybody else, who may load it by another name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gate.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

GENERIC = "python_function"
ENCODER = "model.sentence_transformer"  # the folder that MLflow loads, whatever a file says
# Flavour → the key of the generic flavour that leads to its files, and its own.
_PLACES: Mapping[str, tuple[str, str]] = {
    "pytorch": ("data", "model_data"),
    "onnx": ("data", "data"),
    "tensorflow": ("data", "data"),
    "xgboost": ("data", "data"),
    "lightgbm": ("data", "data"),
    "catboost": ("data", "data"),
    "sklearn": ("model_path", "pickled_model"),
    "sentence_transformers": ("data", ""),
}


def require_one_model(path: Path, flavours: Mapping[str, Any], judged: str) -> None:
    """Refuses a model that is another one, or may be, when it is loaded by another of its flavours.

    Args:
        path: Of the MLmodel file.
        flavours: What it says of each.
        judged: The flavour by which the gate loads it, as MLflow calls it.

    Raises:
        ModelError: There is a further flavour, or the generic one loads in another way or other files.
    """
    generic = flavours.get(GENERIC)
    loader = generic.get("loader_module") if isinstance(generic, dict) else None
    own = str(loader).removeprefix("mlflow.") if judged == GENERIC else judged
    if further := sorted({str(each) for each in flavours} - {judged, GENERIC, own}):
        raise ModelError(
            f"{path}: the model has the flavours {judged} and {', '.join(further)}; whoever loads it by another one "
            "may get another model than is judged: log each as a model of its own"
        )
    settings = flavours.get(own)
    if not isinstance(generic, dict) or not isinstance(settings, dict):
        return
    there, here = _PLACES.get(own, ("", ""))
    expected = {"loader_module": f"mlflow.{own}", "data": None, "model_path": None}
    if there:
        expected[there] = settings.get(here) if here else ENCODER
    for key, value in expected.items():
        if generic.get(key) != value:
            raise ModelError(
                f"{path}: {GENERIC} has {key}: {generic.get(key)!r}, where {own} loads {value!r}; MLflow would serve "
                "another model than is judged: log the model again"
            )
