"""Probe sets that MLflow keeps: artifacts of runs, and the sources of datasets that were logged to them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gate.errors import ProbeError, RegistryError
from gate.models.quiet import quiet_mlflow
from gate.models.registry import download, failures, reason, resolve

if TYPE_CHECKING:
    from mlflow.data.dataset_source import DatasetSource
    from mlflow.entities import Run

_SCHEMES = ("runs:/", "dataset:/")
_SHOWN = 20


def is_kept(uri: str) -> bool:
    """Whether MLflow, and nothing else, knows where this is."""
    return uri.startswith(_SCHEMES)


def fetched(uri: str, directory: Path) -> Path:
    """Bring a probe set onto this machine.

    Args:
        uri: `runs:/RUN/path`, an artifact of a run, or `dataset:/RUN/NAME`, an input dataset that was logged to it.
        directory: Where its files go, each time into a new folder.

    Returns:
        The file or the folder.

    Raises:
        ProbeError: The run has no such artifact or dataset, or it has no file that can be had.
        RegistryError: There is no tracking store.
    """
    with quiet_mlflow():
        location = resolve(f"runs:/{_run_id(uri)}")
        if uri.startswith("runs:/"):
            return _artifact(uri, directory)
        return _source(uri, str(location.run_id), directory)


def _run_id(uri: str) -> str:
    scheme, _, rest = uri.partition(":/")
    run, _, path = rest.strip("/").partition("/")
    if not run or not path:
        last = "path/to/p.parquet" if scheme == "runs" else "NAME"
        raise ProbeError(f"{uri!r}: expected {scheme}:/RUN_ID/{last}")
    return run


def _artifact(uri: str, directory: Path) -> Path:
    try:
        return download(resolve(uri), directory)
    except RegistryError as error:
        raise ProbeError(f"{error}{_artifacts(_run_id(uri))}; check probe.uri") from error


def _artifacts(run: str) -> str:
    """What the run does hold, as a part of a message; nothing where it does not answer."""
    from mlflow import MlflowClient

    try:
        found = [each.path for each in MlflowClient().list_artifacts(run)][:_SHOWN]
    except failures():
        return ""
    return f"; the run holds: {', '.join(found) or 'no artifact'}"


def _source(uri: str, run: str, directory: Path) -> Path:
    from mlflow import MlflowClient

    try:
        found = MlflowClient().get_run(run)
    except failures() as error:
        raise ProbeError(f"{uri}: the run cannot be looked up: {reason(error)}; check probe.uri") from error
    return _loaded(uri, _dataset(uri, found), directory)


def _dataset(uri: str, run: Run) -> DatasetSource:
    import mlflow.data

    name = uri.removeprefix("dataset:/").strip("/").partition("/")[2]
    logged = [] if run.inputs is None else [each.dataset for each in run.inputs.dataset_inputs]
    matching = [each for each in logged if each.name == name]
    if not matching:
        names = ", ".join(sorted({each.name for each in logged})[:_SHOWN]) or "none"
        raise ProbeError(f"{uri}: the run has no dataset {name!r} among its inputs; there are: {names}")
    if len({each.digest for each in matching}) > 1:
        raise ProbeError(f"{uri}: the run has {len(matching)} datasets {name!r}; log each under a name of its own")
    try:
        return mlflow.data.get_source(matching[0])
    except failures() as error:
        raise ProbeError(f"{uri}: the source of the dataset cannot be read: {reason(error)}") from error


def _loaded(uri: str, source: DatasetSource, directory: Path) -> Path:
    from mlflow.data.filesystem_dataset_source import FileSystemDatasetSource
    from mlflow.data.http_dataset_source import HTTPDatasetSource

    if not isinstance(source, FileSystemDatasetSource | HTTPDatasetSource):
        raise ProbeError(
            f"{uri}: the source of the dataset is {type(source).__name__}, which names no file; log it with the path "
            "or the URL of a file: mlflow.data.from_pandas(frame, source=...)"
        )
    directory.mkdir(parents=True, exist_ok=True)
    try:
        return Path(source.load(dst_path=tempfile.mkdtemp(prefix="probe-", dir=directory)))
    except failures() as error:
        raise ProbeError(f"{uri}: the source of the dataset cannot be fetched: {reason(error)}") from error
