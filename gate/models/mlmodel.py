"""What an MLmodel file says, read before anything of the model is loaded, and what is refused on its word alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from gate.errors import ModelError

Serialization = Literal["pt2", "pickle"]


@dataclass(frozen=True)
class Declaration:
    """What the MLmodel file of a pytorch model declares.

    Attributes:
        weights: The file that holds the model, "…/model.pt2" or "…/model.pth".
        serialization: The format of that file.
        run_id: The run that logged the model, if the file says so.
        model_id: The logged model ("m-…"), if the file says so.
        input_dtype: Of the one tensor in the signature ("float32"), None without such a signature.
    """

    weights: Path
    serialization: Serialization
    run_id: str | None
    model_id: str | None
    input_dtype: str | None


def inspect(folder: Path, *, allow_pickle: bool) -> Declaration:
    """Decide from the files alone whether a model may be loaded; no code of the model runs.

    Args:
        folder: Holds the MLmodel file.
        allow_pickle: Whether the policy accepts a pickle, which runs code when it is loaded.

    Raises:
        ModelError: Not a pytorch model of MLflow, or one that brings code, or a pickle that is not allowed.
    """
    document = _document(folder / "MLmodel")
    flavours = document.get("flavors")
    if not isinstance(flavours, dict) or not isinstance(flavours.get("pytorch"), dict):
        listed = ", ".join(sorted(flavours)) if isinstance(flavours, dict) and flavours else "none"
        raise ModelError(
            f"{folder / 'MLmodel'}: the flavours of this model are: {listed}; this version of the gate "
            "evaluates the flavour pytorch, and precomputed vectors as features:PATH"
        )
    _refuse_code(folder, flavours)
    weights = _weights(folder, flavours["pytorch"].get("model_data"))
    serialization: Serialization = "pt2" if weights.suffix == ".pt2" else "pickle"
    if serialization == "pickle" and not allow_pickle:
        raise ModelError(
            f"{weights}: this model is a pickle, and loading a pickle runs whatever code it holds. If you trust where "
            "it comes from, write `run: {allow_pickle: true}` in the policy; better, log the model again with "
            "serialization_format='pt2'"
        )
    return Declaration(
        weights, serialization, _text(document, "run_id"), _text(document, "model_id"), _input_dtype(document)
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
    return document


def _refuse_code(folder: Path, flavours: dict[str, Any]) -> None:
    """A folder of code lands on sys.path when the model is loaded, and a foreign loader is code."""
    advice = "it would run inside the gate and is not supported yet; log the model again without code_paths"
    if (folder / "code").exists():
        raise ModelError(f"{folder / 'code'}: the model brings a folder of code; {advice}")
    for name, settings in flavours.items():
        for key in ("code", "model_code_path"):
            if isinstance(settings, dict) and settings.get(key):
                raise ModelError(f"{folder / 'MLmodel'}: flavour {name!r} brings {key}: {settings[key]!r}; {advice}")
    generic = flavours.get("python_function")
    loader = generic.get("loader_module") if isinstance(generic, dict) else None
    if loader not in {None, "mlflow.pytorch"}:
        raise ModelError(
            f"{folder / 'MLmodel'}: loader_module is {loader!r}, expected 'mlflow.pytorch'; a loader of its own is code"
        )


def _weights(folder: Path, data: object) -> Path:
    if not isinstance(data, str) or PurePosixPath(data).is_absolute() or ".." in PurePosixPath(data).parts:
        raise ModelError(f"{folder / 'MLmodel'}: model_data is {data!r}, expected a path inside the model folder")
    # MLflow itself prefers the pickle where both are there, so both count as a pickle.
    for candidate in ("model.pth", "model.pt2"):
        if (folder / data / candidate).is_file():
            return folder / data / candidate
    raise ModelError(f"{folder / data}: there is neither model.pt2 nor model.pth; log the model again")


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
