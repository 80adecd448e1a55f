"""Which file or folder holds the weights of a model, and in which format: found by its flavour, without loading it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from gate.errors import ModelError
from gate.models.serving import ENCODER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Serialization = Literal["pt2", "pickle", "safetensors", "onnx", "skops", "keras", "native", "code", "features"]

# Of these MLflow reads the library's own format, where the model is of one of these classes: another one is unpickled,
# or is whatever the name leads to.
_NATIVE: Mapping[str, frozenset[str]] = {
    "mlflow.xgboost": frozenset(
        {"xgboost.core.Booster", "xgboost.sklearn.XGBClassifier", "xgboost.sklearn.XGBRegressor"}
    ),
    "mlflow.lightgbm": frozenset({"lightgbm.basic.Booster"}),
}
_ELSEWHERE = ("peft_adaptor", "local_base_model_path", "source_model_revision")
_PICKLES = {".bin", ".pkl", ".pickle", ".pt", ".pth", ".joblib", ".ckpt"}


def weights_of(flavour: str, folder: Path, flavours: Mapping[str, Any]) -> tuple[Path, Serialization]:
    """Where the weights are, and their format; a format that may hold pickled objects is a pickle.

    Args:
        flavour: By which the model is loaded, as the gate calls it.
        folder: Holds the MLmodel file.
        flavours: What that file says of each.

    Raises:
        ModelError: They are missing, outside of the folder, or in no format that the gate knows.
    """
    if flavour == "pyfunc":
        return _pyfunc(folder, flavours["python_function"], flavours)
    own = "tensorflow" if flavour == "keras" and "keras" not in flavours else flavour
    return _WEIGHTS[flavour](folder, flavours[own])


def _inside(folder: Path, key: str, data: object) -> Path:
    if not isinstance(data, str) or PurePosixPath(data).is_absolute() or ".." in PurePosixPath(data).parts:
        raise ModelError(f"{folder / 'MLmodel'}: {key} is {data!r}, expected a path inside the model folder")
    if not (folder / data).exists():
        raise ModelError(f"{folder / 'MLmodel'}: {key} is {data!r}, and there is nothing there; log the model again")
    return folder / data


def _pytorch(folder: Path, settings: Mapping[str, Any]) -> tuple[Path, Serialization]:
    data = _inside(folder, "model_data", settings.get("model_data"))
    # MLflow itself prefers the pickle where both are there, so both count as a pickle.
    for candidate in ("model.pth", "model.pt2"):
        if (data / candidate).is_file():
            return data / candidate, "pt2" if candidate == "model.pt2" else "pickle"
    raise ModelError(f"{data}: there is neither model.pt2 nor model.pth; log the model again")


def _with_safetensors(data: Path) -> tuple[Path, Serialization]:
    """A folder of transformers: where a file is no safetensors but may hold pickled objects, it is a pickle."""
    pickles = [path for path in sorted(data.rglob("*")) if path.suffix in _PICKLES]
    if pickles:
        return data, "pickle"
    if not any(data.rglob("*.safetensors")):
        raise ModelError(f"{data}: there is no file *.safetensors; log the model again with its weights")
    return data, "safetensors"


def _transformers(folder: Path, settings: Mapping[str, Any]) -> tuple[Path, Serialization]:
    data = settings.get("model_binary", "pipeline")
    if "model_binary" not in settings and not (folder / data).exists():
        raise ModelError(
            f"{folder / 'MLmodel'}: the model is saved by its name on a hub alone, "
            f"{settings.get('source_model_name')!r}, and nothing is "
            "downloaded from there; log it again with its weights: save_pretrained=True"
        )
    # Whatever stands there: that a revision is named, were it null, is what MLflow goes by.
    if elsewhere := [key for key in _ELSEWHERE if key in settings]:
        raise ModelError(
            f"{folder / 'MLmodel'}: {elsewhere[0]} is {settings[elsewhere[0]]!r}, by which MLflow loads another model "
            "than lies in this folder; merge adapters into the weights, and log it again with save_pretrained=True"
        )
    return _with_safetensors(_inside(folder, "model_binary", data))


def _sentence_transformers(folder: Path, _settings: Mapping[str, Any]) -> tuple[Path, Serialization]:
    return _with_safetensors(_inside(folder, "data", ENCODER))


def _onnx(folder: Path, settings: Mapping[str, Any]) -> tuple[Path, Serialization]:
    return _inside(folder, "data", settings.get("data")), "onnx"


def _sklearn(folder: Path, settings: Mapping[str, Any]) -> tuple[Path, Serialization]:
    path = _inside(folder, "pickled_model", settings.get("pickled_model"))
    # The file decides and not what is said of it: MLflow reads every other format as a pickle.
    return path, "skops" if path.suffix == ".skops" and settings.get("serialization_format") == "skops" else "pickle"


def _keras(folder: Path, settings: Mapping[str, Any]) -> tuple[Path, Serialization]:
    data = _inside(folder, "data", settings.get("data", "data"))
    files = [path for path in sorted(data.rglob("*.keras")) if path.is_file()] if data.is_dir() else [data]
    if len(files) != 1 or files[0].suffix != ".keras":
        raise ModelError(
            f"{data}: expected one file *.keras, found {[path.name for path in files]}; save the model in Keras's own "
            "format and log it again"
        )
    return files[0], "keras"


def _pyfunc(folder: Path, settings: Mapping[str, Any], flavours: Mapping[str, Any]) -> tuple[Path, Serialization]:
    loader = settings.get("loader_module")
    if loader == "mlflow.pyfunc.loaders.code_model":
        return folder, "code"
    flavour = flavours.get(str(loader).removeprefix("mlflow."))
    kind = flavour.get("model_class") if isinstance(flavour, dict) else None
    pickles = any(path.suffix in _PICKLES for path in folder.rglob("*"))
    return folder, "native" if kind in _NATIVE.get(str(loader), ()) and not pickles else "pickle"


_WEIGHTS = {
    "pytorch": _pytorch,
    "sentence_transformers": _sentence_transformers,
    "transformers": _transformers,
    "onnx": _onnx,
    "sklearn": _sklearn,
    "keras": _keras,
}
