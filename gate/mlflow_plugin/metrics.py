"""The finite estimates of a check as metrics of MLflow, each with its model and its probe set."""

from __future__ import annotations

import json
import re
import time
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from gate.evidence import bundle
from gate.evidence.wording import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow import MlflowClient
    from mlflow.entities import Dataset, LoggedModel, Param

_BATCH = 1000  # what a tracking server takes in one call
_DIGEST = len("sha256:") + 12  # characters: a server takes 36, people read fewer


def numbers(document: Mapping[str, Any]) -> dict[str, float]:
    """The number of rules of each outcome and the finite estimates, by the names that they have in MLflow.

    Args:
        document: The evidence.
    """
    found = {f"rules/{outcome}": float(count) for outcome, count in document["counts"].items()}
    for estimate in document["estimates"]:
        value = bundle.finite(estimate["value"])
        if value is not None and estimate["of"] != "baseline":
            parts = [estimate["layer"], estimate["metric"], *_further(estimate)]
            name = "/".join(map(_plain, parts))
            found[name if name not in found else f"{name} ({len(found)})"] = value
    return found


def probe_set(document: Mapping[str, Any]) -> Dataset:
    """The probe set as a dataset of MLflow, which its pages show as `probe.parquet (#sha256:1a79b2c3d4e5)`.

    Args:
        document: The evidence.
    """
    from mlflow.entities import Dataset

    probe = document["probe"]
    name = one_line(PurePosixPath(probe["uri"]).name or "probe", 200).replace('"', "'")
    source_type, source = _source(probe["uri"])
    profile = json.dumps({"num_rows": probe["rows"], "digest": probe["digest"]})
    return Dataset(name, probe["digest"][:_DIGEST], source_type, source, profile=profile)


def known_model(client: MlflowClient, model_id: str | None) -> LoggedModel | None:
    """The logged model that is to have the metrics; None where the tracking server knows none.

    Args:
        client: Of the tracking server.
        model_id: As the registry or the model's own files have it.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_logged_model(model_id) if model_id else None
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def log(
    client: MlflowClient,
    run_id: str,
    values: Mapping[str, float],
    *,
    model_id: str | None,
    dataset: tuple[str, str] | None,
    params: Sequence[Param] = (),
) -> None:
    """Write metrics into a run, and to the logged model: once, in as few calls as a server takes.

    Args:
        client: Of the tracking server.
        run_id: Of the run.
        values: Name → value, each of them finite.
        model_id: Of the logged model that they are of; None for none.
        dataset: Name and digest of what they were measured on; None where MLflow does not know it.
        params: Of the run.
    """
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    name, digest = dataset or (None, None)
    metrics = (
        Metric(key, value, now, 0, model_id=model_id, dataset_name=name, dataset_digest=digest)
        for key, value in values.items()
    )
    while batch := list(islice(metrics, _BATCH)):
        client.log_batch(run_id, metrics=batch, params=params)
        params = ()


def _further(estimate: Mapping[str, Any]) -> list[str]:
    """What tells an estimate from that of the candidate on all rows."""
    slices = [f"{column}-{value}" for column, value in (estimate["slice"] or {}).items()]
    return [*slices, *(["change"] if estimate["of"] == "change" else [])]


def _plain(name: str) -> str:
    """A name as MLflow takes it in a metric: a layer may be called anything."""
    return re.sub(r"[^\w .-]", "_", name)[:120].strip(".") or "_"


def _source(uri: str) -> tuple[str, str]:
    """What MLflow calls a place of that kind, and how it writes it down."""
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.exceptions import MlflowException

    try:
        found = resolve_dataset_source(uri)
    except MlflowException:  # a place inside of MLflow, or one that only fsspec reads
        return "gate", json.dumps({"uri": uri})
    return str(found._get_source_type()), str(found.to_json())  # noqa: SLF001 - the interface of a source
