"""From a model URI to a module: resolved, downloaded once, digested, inspected, and only then loaded, by path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlparse

from gate.errors import ModelError
from gate.models.digest import digest_directory, digest_file
from gate.models.mlmodel import Declaration, inspect
from gate.models.programs import Program, load_exported, load_pickled
from gate.models.quiet import quiet_mlflow
from gate.models.registry import Location, download, resolve

if TYPE_CHECKING:
    from torch import nn

FEATURES = "features:"
_FEATURE_SUFFIXES = (".npy", ".npz", ".parquet")


@dataclass(frozen=True)
class LoadedModel:
    """A model that can be measured, and where it came from.

    Attributes:
        uri: As it was asked for.
        resolved: The same with an alias replaced by its version; a local path made absolute.
        name: Of the registered model; None outside the registry.
        version: Of the registered model; None outside the registry.
        run_id: The run that made the model, if known.
        model_id: MLflow's logged model ("m-…"), if known.
        digest: "sha256:…" over the files (gate.models.digest), or of the one file of features.
        flavour: "pytorch", or "features" for precomputed vectors.
        serialization: The format of the file that was loaded.
        module: In evaluation mode on the device; None for precomputed vectors.
        batch_size: The only number of rows that an exported program takes; None when any number will do.
        path: The folder of the model, or the file of features.
        input_dtype: What the model's input is ("float32"), if its file or its signature says so.
    """

    uri: str
    resolved: str
    name: str | None
    version: str | None
    run_id: str | None
    model_id: str | None
    digest: str
    flavour: Literal["pytorch", "features"]
    serialization: Literal["pt2", "pickle", "features"]
    module: nn.Module | None
    batch_size: int | None
    path: Path
    input_dtype: str | None = None


def load(uri: str, *, directory: Path, device: str = "cpu", allow_pickle: bool = False) -> LoadedModel:
    """Load a model.

    Args:
        uri: "models:/name/version", "models:/name@alias", "models:/m-…", "runs:/run/path", a folder that holds an
            MLmodel file, or "features:PATH" with a .npy, .npz or .parquet file of precomputed vectors.
        directory: Where to download to; each call makes a folder of its own in it. Made when missing.
        device: Where the module is to run ("cpu", "cuda").
        allow_pickle: Whether a pickled model may be loaded, which runs its code.

    Raises:
        RegistryError: The registry cannot be reached or does not know the model.
        ModelError: The model is missing, may not be loaded, or cannot be.
    """
    if uri.startswith(FEATURES):
        return _features(uri)
    if not uri.startswith(("models:/", "runs:/")):
        folder = _local_folder(uri)
        return _from_folder(uri, Location(str(folder)), folder, device=device, allow_pickle=allow_pickle)
    with quiet_mlflow():
        location = resolve(uri)
        folder = download(location, directory)
    return _from_folder(uri, location, folder, device=device, allow_pickle=allow_pickle)


def _from_folder(uri: str, location: Location, folder: Path, *, device: str, allow_pickle: bool) -> LoadedModel:
    digest = digest_directory(folder)
    declared = inspect(folder, allow_pickle=allow_pickle)
    with quiet_mlflow():
        program = _program(declared, folder, device=device, allow_pickle=allow_pickle)
    return LoadedModel(
        uri=uri,
        resolved=location.resolved,
        name=location.name,
        version=location.version,
        run_id=location.run_id or declared.run_id,
        model_id=location.model_id or declared.model_id,
        digest=digest,
        flavour="pytorch",
        serialization=declared.serialization,
        module=program.module,
        batch_size=program.batch_size,
        path=folder,
        input_dtype=program.input_dtype or declared.input_dtype,
    )


def _program(declared: Declaration, folder: Path, *, device: str, allow_pickle: bool) -> Program:
    if declared.serialization == "pt2":
        return load_exported(declared.weights, device=device, allow_pickle=allow_pickle)
    return load_pickled(folder, device=device)


def _local_folder(uri: str) -> Path:
    parsed = urlparse(uri)
    if parsed.scheme == "file":
        return _existing_folder(uri, Path(unquote(parsed.path)))
    if "://" in uri or uri.startswith(("models:", "runs:")):
        raise ModelError(
            f"{uri!r} is no model URI that the gate knows: write models:/name/version, models:/name@alias, "
            "runs:/run/path, a folder that holds an MLmodel file, or features:PATH"
        )
    return _existing_folder(uri, Path(uri))


def _existing_folder(uri: str, path: Path) -> Path:
    if not path.is_dir():
        raise ModelError(
            f"{uri!r}: there is no such folder; a model in a registry is written models:/name/version or "
            "models:/name@alias"
        )
    return path.resolve()


def _features(uri: str) -> LoadedModel:
    path = Path(uri.removeprefix(FEATURES)).resolve()
    if path.suffix not in _FEATURE_SUFFIXES:
        raise ModelError(f"{uri!r}: the suffix is {path.suffix!r}, expected one of {', '.join(_FEATURE_SUFFIXES)}")
    if not path.is_file():
        raise ModelError(f"{uri!r}: there is no such file of precomputed vectors")
    return LoadedModel(
        uri=uri,
        resolved=f"{FEATURES}{path}",
        name=None,
        version=None,
        run_id=None,
        model_id=None,
        digest=digest_file(path),
        flavour="features",
        serialization="features",
        module=None,
        batch_size=None,
        path=path,
    )
