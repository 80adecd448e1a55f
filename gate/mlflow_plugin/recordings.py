"""The evidence that checks recorded in MLflow: found and read, nothing is written."""

from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from gate.backtest import Bundle
from gate.errors import GateError, RegistryError, VerificationError
from gate.mlflow_plugin.as_signed import require_as_signed
from gate.mlflow_plugin.recorder import FOLDER
from gate.models.quiet import quiet_mlflow
from gate.models.registry import failures, is_registered, neighbours, reason, resolve, without_passwords

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from mlflow import MlflowClient
    from mlflow.entities import Run

_EVIDENCE = f"{FOLDER}/evidence.json"
_STATEMENT = f"{FOLDER}/attestation.json"
_LOCAL = ("file:", "/")
_PAGE = 1000
_BEGINNING = re.compile(r"[0-9a-f]{8,31}")  # of an id, as the tag `gate.run` has it
_AT_ONCE = 8  # downloads from a remote store
_IN_MEMORY = 64  # bundles


def of_model(name: str, *, every: bool = False, only: Collection[str] = ()) -> Iterator[Bundle]:
    """The evidence of a registered model's versions, from MLflow's own settings of the tracking server.

    Args:
        name: Of the registered model.
        every: Every run, those that broke off among them; else the newest of each version.
        only: The versions, `models:/NAME/VERSION`; all when empty.

    Raises:
        RegistryError: MLflow cannot be reached.
    """
    with _asking(f"the recorded checks of {name!r} cannot be looked up"):
        runs = [run for run in _runs(name) if not only or run.data.params["model"] in only]
    waiting = iter(runs if every else _newest(runs))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while part := list(islice(waiting, _IN_MEMORY)):
            with _asking(f"the recorded checks of {name!r} cannot be read"):
                contents = list(pool.map(_content, part))
            for run, content in zip(part, contents, strict=True):
                yield Bundle(f"run {run.info.run_id}", run.data.params["model"], partial(_read, content))


def nearest_models(name: str) -> str:
    """What the registry has in place of a model that it does not know, in words; nothing for one that it knows."""
    with _asking(f"the model {name!r} cannot be looked up"):
        from mlflow import MlflowClient

        return "" if is_registered(name) else neighbours(MlflowClient(), name)


def of_run(run_id: str) -> bytes:
    """The evidence that a run holds.

    Args:
        run_id: Of the run, or its beginning where no other check has the same.

    Raises:
        RegistryError: MLflow cannot be reached, or knows no such run, or several.
        VerificationError: The evidence is not what was signed for the run.
        GateError: The run holds no evidence.
    """
    with _asking(f"the run {run_id!r} cannot be looked up"):
        from mlflow import MlflowClient

        client = MlflowClient()
        return _read(_content(client.get_run(_completed(client, run_id) if _BEGINNING.fullmatch(run_id) else run_id)))


def _completed(client: MlflowClient, beginning: str) -> str:
    """The id of the one check that begins so."""
    wanted = f"tags.gate LIKE '%' AND attributes.run_id LIKE '{beginning}%'"
    found = [run.info.run_id for run in client.search_runs(_experiments(client), wanted, max_results=2)]
    if len(found) != 1:
        what = "no recorded check has" if not found else "several recorded checks have"
        raise RegistryError(f"{what} an id that begins with {beginning!r}; give more of it")
    return str(found[0])


@contextmanager
def _asking(failed: str) -> Iterator[None]:
    """MLflow, quiet, with its failures as ours; a store that is not there is not made."""
    with quiet_mlflow(), redirect_stdout(sys.stderr):
        from mlflow import get_tracking_uri

        resolve("runs:/")
        try:
            yield
        except failures() as error:
            where = without_passwords(get_tracking_uri())
            raise RegistryError(f"{failed} in MLflow at {where!r} (MLFLOW_TRACKING_URI): {reason(error)}") from error


def _runs(name: str) -> list[Run]:
    """The runs that recorded a check of some version, the latest first."""
    from mlflow import MlflowClient

    client = MlflowClient()
    experiments, subject = _experiments(client), f"models:/{name}/"
    quote = next((each for each in "'\"" if each not in name), "")
    wanted = f"tags.gate LIKE '%' AND params.model LIKE {quote}{subject}%{quote}" if quote else "tags.gate LIKE '%'"
    found: list[Run] = []
    token = None
    while experiments:
        page = client.search_runs(experiments, wanted, max_results=_PAGE, page_token=token)
        found += [run for run in page if run.data.params.get("model", "").rpartition("/")[0] == subject[:-1]]
        token = page.token
        if not token:
            break
    return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id), reverse=True)


def _experiments(client: MlflowClient) -> list[str]:
    found, token = [], None
    while True:
        page = client.search_experiments(max_results=_PAGE, page_token=token)
        found += [str(experiment.experiment_id) for experiment in page]
        token = page.token
        if not token:
            return found


def _newest(runs: Iterable[Run]) -> list[Run]:
    """The latest run of each version that came to its end; where none did, the latest."""
    latest: dict[str, Run] = {}
    for run in runs:
        before = latest.setdefault(run.data.params["model"], run)
        if run.info.status == "FINISHED" != before.info.status:
            latest[run.data.params["model"]] = run
    return list(latest.values())


def _content(run: Run) -> bytes | GateError:
    """The evidence of a run, or why there is none that may be read."""
    if run.info.status != "FINISHED":
        return GateError(f"the run did not come to its end, it is {run.info.status}; record the check again")
    try:
        content = _artifact(run, _EVIDENCE)
    except failures() as error:
        return GateError(f"the run holds no {_EVIDENCE} that can be read: {reason(error)}")
    try:
        require_as_signed(run, content, partial(_beside, run))
    except VerificationError as error:
        return error
    except failures() as error:
        return RegistryError(f"what was signed for run {run.info.run_id} cannot be looked up: {reason(error)}")
    return content


def _beside(run: Run) -> bytes | None:
    """The statement that was recorded with the evidence; None where the check was not signed."""
    from mlflow import MlflowClient

    folder = _folder(run)
    if folder is not None:
        there = (folder / _STATEMENT).exists()
    else:
        there = any(each.path == _STATEMENT for each in MlflowClient().list_artifacts(run.info.run_id, FOLDER))
    return _artifact(run, _STATEMENT) if there else None


def _artifact(run: Run, path: str) -> bytes:
    folder = _folder(run)
    return _downloaded(f"{run.info.artifact_uri}/{path}") if folder is None else (folder / path).read_bytes()


def _folder(run: Run) -> Path | None:
    """Where the artifacts of a run are on this machine, to be read without asking MLflow; None where they are not."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    uri = str(run.info.artifact_uri)
    return Path(local_file_uri_to_path(uri)) if uri.startswith(_LOCAL) else None


def _downloaded(uri: str) -> bytes:
    import mlflow.artifacts

    with TemporaryDirectory(prefix="gate-") as folder:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder)).read_bytes()


def _read(content: bytes | GateError) -> bytes:
    if isinstance(content, GateError):
        raise content
    return content
