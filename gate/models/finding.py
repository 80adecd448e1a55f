"""From a model URI to the files of one model: resolved, downloaded once, digested and inspected; none of it is run."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from gate.errors import ModelError
from gate.models.digest import digest_file, digest_of, digest_of_names, listed
from gate.models.mlmodel import Flavour, Permissions, Trust, inspect
from gate.models.note import NOTE
from gate.models.quiet import quiet_mlflow
from gate.models.registry import Location, download, resolve

if TYPE_CHECKING:
    from gate.models.weights import Serialization

FEATURES = "features:"
_FEATURE_SUFFIXES = (".npy", ".npz", ".parquet")


@dataclass(frozen=True)
class FoundModel:
    """The files of a model that may be measured, and where they came from.

    Attributes:
        uri: As it was asked for.
        resolved: The same with an alias replaced by its version; a local path made absolute.
        name: Of the registered model; None outside the registry.
        version: Of the registered model; None outside the registry.
        run_id: The run that made the model, if known.
        model_id: MLflow's logged model ("m-…"), if known.
        digest: "sha256:…" over the files (gate.models.digest), or of the one file of features.
        flavour: Of MLflow, by which it is loaded; "features" for precomputed vectors.
        serialization: The format of the file that holds it.
        trust: What loading it runs: nothing of the model's own, a pickle, or Python files.
        path: The folder of the model, or the file of features.
        outputs: What the model calls its outputs, in order; empty where its files do not say.
        names_digest: As the digest, over the names of the files as well; None for features.
    """

    uri: str
    resolved: str
    name: str | None
    version: str | None
    run_id: str | None
    model_id: str | None
    digest: str
    flavour: Flavour
    serialization: Serialization
    trust: Trust
    path: Path
    outputs: tuple[str, ...] = ()
    names_digest: str | None = None


_NONE = Permissions()


def found(uri: str, *, directory: Path, permissions: Permissions = _NONE) -> FoundModel:
    """Find a model, and see that it may be loaded; nothing of it runs.

    What no digest covers, the model does not see either: MLflow's note is not in the folder that is loaded.

    Args:
        uri: "models:/name/version", "models:/name@alias", "models:/m-…", "runs:/run/path", a folder that holds an
            MLmodel file, or "features:PATH" with a .npy, .npz or .parquet file of precomputed vectors.
        directory: Where to download to; each call makes a folder of its own in it. Made when missing.
        permissions: What the policy lets it do when it is loaded.

    Raises:
        RegistryError: The registry cannot be reached or does not know the model.
        ModelError: The model is missing, or may not be loaded.
    """
    if uri.startswith(FEATURES):
        return _features(uri)
    if not uri.startswith(("models:/", "runs:/")):
        local = _local_folder(uri)
        folder = _copied(local, directory) if (local / NOTE).is_file() else local
        return _from_folder(uri, Location(str(local)), folder, permissions, is_copy=folder != local)
    with quiet_mlflow():
        location = resolve(uri)
        folder = download(location, directory)
    return _from_folder(uri, location, folder, permissions, is_copy=True)


def _from_folder(uri: str, location: Location, folder: Path, permissions: Permissions, *, is_copy: bool) -> FoundModel:
    try:
        files = listed(folder)
        if is_copy and (folder / NOTE).is_file():
            (folder / NOTE).unlink()
        declared = inspect(folder, permissions)
    except ModelError as error:  # a copy is gone when somebody reads this
        raise ModelError(str(error).replace(str(folder), location.resolved)) from error
    return FoundModel(
        uri=uri,
        resolved=location.resolved,
        name=location.name,
        version=location.version,
        run_id=location.run_id or declared.run_id,
        model_id=location.model_id or declared.model_id,
        digest=digest_of(files),
        names_digest=digest_of_names(files),
        flavour=declared.flavour,
        serialization=declared.serialization,
        trust=declared.trust,
        path=folder,
        outputs=declared.outputs,
    )


def _copied(folder: Path, directory: Path) -> Path:
    """A copy of somebody's own folder, from which the note may be taken away."""
    directory.mkdir(parents=True, exist_ok=True)
    copy = Path(tempfile.mkdtemp(prefix="model-", dir=directory), folder.name)
    try:
        return Path(shutil.copytree(folder, copy, symlinks=True))
    except OSError as error:
        raise ModelError(
            f"{folder}: the folder holds MLflow's note {NOTE!r}, which the model may not see, and cannot be copied "
            f"without it: {error}; remove that file"
        ) from error


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


def _features(uri: str) -> FoundModel:
    path = Path(uri.removeprefix(FEATURES)).resolve()
    if path.suffix not in _FEATURE_SUFFIXES:
        raise ModelError(f"{uri!r}: the suffix is {path.suffix!r}, expected one of {', '.join(_FEATURE_SUFFIXES)}")
    if not path.is_file():
        raise ModelError(f"{uri!r}: there is no such file of precomputed vectors")
    return FoundModel(
        uri=uri,
        resolved=f"{FEATURES}{path}",
        name=None,
        version=None,
        run_id=None,
        model_id=None,
        digest=digest_file(path),
        flavour="features",
        serialization="features",
        trust="code-free",
        path=path,
    )
