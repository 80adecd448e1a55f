"""What an MLmodel file says, read before anything of the model is loaded, and what is refused on its word alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gate.errors import ModelError
from gate.models.serving import require_one_model
from gate.models.weights import Serialization, weights_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Flavour = Literal["pytorch", "sentence_transformers", "transformers", "onnx", "sklearn", "keras", "pyfunc", "features"]
Trust = Literal["code-free", "pickle", "code"]

# In this order: a model has the generic flavour besides its own, and sentence encoders have transformers inside.
_FLAVOURS: Mapping[str, Flavour] = {
    "pytorch": "pytorch",
    "sentence_transformers": "sentence_transformers",
    "transformers": "transformers",
    "onnx": "onnx",
    "sklearn": "sklearn",
    "keras": "keras",
    "tensorflow": "keras",
    "python_function": "pyfunc",
}
# The loaders that a model may name: code of MLflow itself, which reads files of the model.
_LOADERS = {
    "mlflow.pytorch",
    "mlflow.sentence_transformers",
    "mlflow.transformers",
    "mlflow.onnx",
    "mlflow.sklearn",
    "mlflow.keras",
    "mlflow.tensorflow",
    "mlflow.pyfunc.model",
    "mlflow.pyfunc.loaders.code_model",
    "mlflow.xgboost",
    "mlflow.lightgbm",
    "mlflow.catboost",
}
_MODULES = "sentence_transformers."
# Files by which a library makes another model of it, where the package for that is installed.
_FURTHER = {"adapter_config.json": "an adapter (PEFT)", "router_config.json": "several routes for its inputs"}
_MERGE = "merge adapters into the weights, and log each route as a model of its own"
_LARGEST_SETTINGS = 64 << 20


@dataclass(frozen=True)
class Permissions:
    """What a policy lets a model do when it is loaded.

    Attributes:
        pickle: A pickle may be loaded, which runs whatever code it names.
        code: Python files of the model may run.
    """

    pickle: bool = False
    code: bool = False


@dataclass(frozen=True)
class Declaration:
    """What the MLmodel file declares of the flavour that is loaded.

    Attributes:
        flavour: That is loaded.
        weights: The file or folder that holds the model.
        serialization: The format of it.
        trust: What loading it runs: nothing of the model's own, a pickle, or Python files.
        settings: What the file says of the flavour.
        run_id: The run that logged the model, if the file says so.
        model_id: The logged model ("m-…"), if the file says so.
        input_dtype: Of the one tensor in the signature ("float32"), None without such a signature.
        outputs: What the model calls its outputs, in order; empty where its files do not say.
    """

    flavour: Flavour
    weights: Path
    serialization: Serialization
    trust: Trust
    settings: Mapping[str, Any]
    run_id: str | None
    model_id: str | None
    input_dtype: str | None
    outputs: tuple[str, ...] = ()


def inspect(folder: Path, permissions: Permissions) -> Declaration:
    """Decide from the files alone whether a model may be loaded; no code of the model runs.

    Args:
        folder: Holds the MLmodel file.
        permissions: What the policy accepts.

    Raises:
        ModelError: Of no flavour that the gate knows, or one that runs more than the policy accepts.
    """
    document = _document(folder / "MLmodel")
    flavours = document.get("flavors")
    known = [name for name in _FLAVOURS if isinstance(flavours, dict) and isinstance(flavours.get(name), dict)]
    if not isinstance(flavours, dict) or not known:
        listed = ", ".join(sorted(map(str, flavours))) if isinstance(flavours, dict) and flavours else "none"
        raise ModelError(
            f"{folder / 'MLmodel'}: the flavours of this model are: {listed}; the gate loads "
            f"{', '.join(_FLAVOURS)}, and precomputed vectors as features:PATH"
        )
    flavour, settings = _FLAVOURS[known[0]], flavours[known[0]]
    _refuse_foreign_loader(folder, flavours)
    brings = _code_of(folder, flavours)
    if brings is not None and not permissions.code:
        raise ModelError(
            f"{folder}: the model brings {brings}, Python code that would run when it is loaded. If you trust where it "
            "comes from, write `run: {allow_code: true}` in the policy; better, log the model again without it"
        )
    _refuse_remote_code(folder)
    weights, serialization = weights_of(flavour, folder, flavours)
    pickled = serialization == "pickle"
    if pickled and not permissions.pickle:
        raise ModelError(
            f"{weights}: this model is a pickle, and loading a pickle runs whatever code it holds. If you trust where "
            f"it comes from, write `run: {{allow_pickle: true}}` in the policy; better, {_WITHOUT_PICKLE[flavour]}"
        )
    require_one_model(folder / "MLmodel", flavours, known[0])
    return Declaration(
        flavour,
        weights,
        serialization,
        "code" if brings is not None else "pickle" if pickled else "code-free",
        settings,
        _text(document, "run_id"),
        _text(document, "model_id"),
        _input_dtype(document),
        _outputs(weights / "config.json") if flavour == "transformers" else (),
    )


def _document(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if not path.is_file():
        raise ModelError(f"{path}: there is no MLmodel file, so {path.parent.name!r} is not a model that MLflow saved")
    try:
        document = YAML(typ="safe", pure=True).load(path)
    except (YAMLError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: the MLmodel file is not readable YAML: {error}") from error
    if not isinstance(document, dict):
        raise ModelError(f"{path}: the MLmodel file holds {document!r}, expected a mapping with the key 'flavors'")
    _require_one_reading(path, document.get("flavors"))
    return document


def _require_one_reading(path: Path, flavours: object) -> None:
    """Refuses a file in which MLflow, which reads YAML 1.1, would see other flavours than these."""
    import yaml

    try:
        theirs = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise ModelError(f"{path}: the MLmodel file is not readable YAML: {error}") from error
    if repr(theirs.get("flavors") if isinstance(theirs, dict) else theirs) != repr(flavours):
        raise ModelError(
            f"{path}: YAML 1.1, which MLflow reads, and YAML 1.2 see different flavours in it (numbers such as 0o0, "
            "words such as no); put such values into quotes"
        )


def _refuse_foreign_loader(folder: Path, flavours: Mapping[str, Any]) -> None:
    generic = flavours.get("python_function")
    loader = generic.get("loader_module") if isinstance(generic, dict) else None
    if loader is not None and loader not in _LOADERS:
        raise ModelError(
            f"{folder / 'MLmodel'}: loader_module is {loader!r}, a loader that the gate does not know, and never "
            f"loads; expected one of: {', '.join(sorted(_LOADERS))}"
        )


def _code_of(folder: Path, flavours: Mapping[str, Any]) -> str | None:
    """What Python code of the model would run, in words."""
    if (folder / "code").exists():
        return "a folder 'code'"
    for name, settings in flavours.items():
        for key in ("code", "model_code_path"):
            # Whatever stands there: MLflow reads YAML 1.1, in which `0o0` is the name of a folder and no zero.
            if isinstance(settings, dict) and settings.get(key) not in (None, "", []):
                return f"{key}: {settings[key]!r} (flavour {name!r})"
    generic = flavours.get("python_function")
    if isinstance(generic, dict) and generic.get("loader_module") == "mlflow.pyfunc.loaders.code_model":
        return "a model from code"
    return None


def _refuse_remote_code(folder: Path) -> None:
    """Refuses settings that make a library import code: `auto_map`, custom pipelines, modules of other packages."""
    for path in sorted(folder.rglob("*.json")):
        found = _settings(path)
        if path.name in _FURTHER:
            raise ModelError(f"{path}: the model has {_FURTHER[path.name]}, which the gate cannot judge; {_MERGE}")
        for key in ("auto_map", "custom_pipelines", "trust_remote_code"):
            if isinstance(found, dict) and found.get(key):
                raise ModelError(
                    f"{path}: names code of its own by {key}: {found[key]!r}, which is never loaded; use a class that "
                    "the library has, and log the model again"
                )
        if path.name == "modules.json":
            _refuse_foreign_modules(path, found)


def _refuse_foreign_modules(path: Path, found: object) -> None:
    modules = found if isinstance(found, list) else []
    kinds = [each.get("type") if isinstance(each, dict) else each for each in modules]
    strange = [kind for kind in kinds if not isinstance(kind, str) or not kind.startswith(_MODULES)]
    if not kinds or strange:
        raise ModelError(f"{path}: lists the modules {kinds!r}, expected modules of sentence_transformers alone")


def _settings(path: Path) -> object:
    if path.stat().st_size > _LARGEST_SETTINGS:
        return None  # a vocabulary, which no library reads settings from
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: is no JSON that can be read: {error}") from error


_WITHOUT_PICKLE: Mapping[Flavour, str] = {
    "pytorch": "log the model again with serialization_format='pt2'",
    "sentence_transformers": "save its weights as safetensors",
    "transformers": "save its weights as safetensors",
    "sklearn": "log the model again with serialization_format='skops'",
    "pyfunc": "log a flavour that holds weights instead of objects, such as pytorch as pt2 or onnx",
}


def _outputs(path: Path) -> tuple[str, ...]:
    """The labels of a head in settings of transformers; those that it makes up itself say nothing."""
    settings = _settings(path) if path.is_file() else None
    named = settings.get("id2label") if isinstance(settings, dict) else None
    if not isinstance(named, dict) or any(str(place) not in named for place in range(len(named))):
        return ()
    names = tuple(str(named[str(place)]) for place in range(len(named)))
    return () if any(name == f"LABEL_{place}" for place, name in enumerate(names)) else names


def _text(document: dict[str, Any], key: str) -> str | None:
    value = document.get(key)
    return value if isinstance(value, str) else None


def _input_dtype(document: dict[str, Any]) -> str | None:
    """A hint only: a signature that cannot be read says nothing."""
    signature = document.get("signature")
    inputs = signature.get("inputs") if isinstance(signature, dict) else None
    try:
        specs = json.loads(inputs) if isinstance(inputs, str) else []
    except ValueError:
        return None
    match specs:
        case [{"tensor-spec": {"dtype": str(dtype)}}]:
            return dtype
        case _:
            return None
