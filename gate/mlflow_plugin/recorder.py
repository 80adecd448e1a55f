"""Records a check in MLflow: a run with metrics and artifacts, and short tags on the model version.

The order is the safety: the verdict is written last, so what breaks off on the way never reads as a pass.
"""

from __future__ import annotations

import re
import sys
import time
from contextlib import contextmanager, redirect_stdout
from itertools import islice
from typing import TYPE_CHECKING, Any

from gate.errors import RegistryError
from gate.evidence import bundle, summary, text
from gate.models.quiet import quiet_mlflow
from gate.models.registry import failures, reason, without_passwords

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

EXPERIMENT = "gate"
FOLDER = "gate"
_WORDS = {"passed": "PASS", "warned": "WARN", "failed": "FAIL", "inconclusive": "INCONCLUSIVE", "error": "ERROR"}
_BLOCKING = ("FAIL", "INCONCLUSIVE")
_BATCH = 1000  # what a tracking server takes in one call


def record(
    document: Mapping[str, Any],
    report_html: str,
    *,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
) -> str:
    """Record a check in MLflow.

    The run lies in the experiment of the model's own run, or in the experiment "gate". It holds the finite estimates as
    metrics, and the evidence, the report and a summary as artifacts below "gate/". A registered version is tagged
    `gate` (the verdict), `gate.run` and `gate.policy`.

    Args:
        document: The evidence.
        report_html: The page that `gate.evidence.html.render` makes of it.
        tracking_uri: Of the tracking server; MLflow's own setting when None.
        registry_uri: Of the model registry; MLflow's own setting when None.

    Returns:
        The id of the run.

    Raises:
        RegistryError: MLflow cannot be reached, or refuses. As far as MLflow still answers, the run has ended as FAILED
            and the model version reads as ERROR.
    """
    from mlflow import MlflowClient, get_tracking_uri

    with quiet_mlflow(), redirect_stdout(sys.stderr):
        try:
            return _record(MlflowClient(tracking_uri, registry_uri), document, report_html)
        except failures() as error:
            raise RegistryError(
                f"cannot record the check of {document['model']['resolved']} in MLflow at "
                f"{without_passwords(tracking_uri or get_tracking_uri())!r}: {reason(error)}; "
                "mend that and run the check again, or run it with --no-record"
            ) from error


def stricter_verdict(document: Mapping[str, Any]) -> str | None:
    """The verdict of another policy that blocks the version, where this check is about to write a milder one over it.

    Args:
        document: The evidence.

    Returns:
        Such as `FAIL under classifier@1.0.0`, None where there is none.
    """
    from mlflow import MlflowClient

    model, policy = document["model"], summary.policy_name(document)
    if not model["version"]:
        return None
    try:
        with quiet_mlflow(), redirect_stdout(sys.stderr):
            tags = MlflowClient().get_model_version(model["name"], model["version"]).tags
    except failures():
        return None  # recording will say what is wrong
    before, whose = tags.get("gate"), tags.get("gate.policy")
    milder = before in _BLOCKING and document["status"] in ("passed", "warned")
    return f"{before} under {whose}" if milder and whose not in (None, policy) else None


def _record(client: MlflowClient, document: Mapping[str, Any], report_html: str) -> str:
    model = document["model"]
    if model["version"]:  # an unknown version ends here; from now on no earlier pass is seen
        client.get_model_version(model["name"], model["version"])
        client.set_model_version_tag(model["name"], model["version"], "gate", "ERROR")
    experiment = _experiment_of(client, model) or _own_experiment(client)
    subject = f"{model['name']} version {model['version']}" if model["version"] else model["resolved"]
    run_id: str = client.create_run(experiment, run_name=f"gate check of {subject}").info.run_id
    with _failed_unless_done(client, run_id):
        _log(client, run_id, document, _linked(client, run_id, model, experiment))
        client.log_text(run_id, bundle.dumps(document), f"{FOLDER}/evidence.json")
        client.log_text(run_id, report_html, f"{FOLDER}/report.html")
        client.log_text(run_id, text.render(document), f"{FOLDER}/summary.txt")
        client.set_terminated(run_id, "FINISHED")
        _tag(client, run_id, document)
    return run_id


@contextmanager
def _failed_unless_done(client: MlflowClient, run_id: str) -> Iterator[None]:
    """Leave a run that does not get to the end of the block as FAILED, with ERROR for its verdict."""
    done = False
    try:
        yield
        done = True
    finally:
        if not done:
            client.set_tag(run_id, "gate", "ERROR")
            client.set_terminated(run_id, "FAILED")


def _experiment_of(client: MlflowClient, model: Mapping[str, Any]) -> str | None:
    """The experiment of the model's own run, None when there is no such run or it was deleted."""
    from mlflow.exceptions import MlflowException

    if not model["run_id"]:
        return None
    try:
        experiment = client.get_experiment(client.get_run(model["run_id"]).info.experiment_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return str(experiment.experiment_id) if experiment.lifecycle_stage == "active" else None


def _own_experiment(client: MlflowClient) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        try:
            return str(client.create_experiment(EXPERIMENT))
        except MlflowException as error:  # another check made it meanwhile
            found = client.get_experiment_by_name(EXPERIMENT)
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                raise
    if found.lifecycle_stage != "active":
        raise RegistryError(
            f"the experiment {EXPERIMENT!r} was deleted; restore it, or delete it for good, and record again"
        )
    return str(found.experiment_id)


def _log(client: MlflowClient, run_id: str, document: Mapping[str, Any], model_id: str | None) -> None:
    metrics = iter(_metrics(document, model_id))
    params = _params(document)
    while batch := list(islice(metrics, _BATCH)):
        client.log_batch(run_id, metrics=batch, params=params)
        params = []


def _metrics(document: Mapping[str, Any], model_id: str | None) -> Iterator[Metric]:
    """The finite estimates, and the number of rules of each outcome."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    numbers = {f"rules/{outcome}": float(count) for outcome, count in document["counts"].items()}
    for estimate in document["estimates"]:
        value = bundle.finite(estimate["value"])
        if value is not None and estimate["of"] != "baseline":
            parts = [estimate["layer"], estimate["metric"], *_further(estimate)]
            name = "/".join(map(_plain, parts))
            numbers[name if name not in numbers else f"{name} ({len(numbers)})"] = value
    return (Metric(name, value, now, 0, model_id=model_id) for name, value in numbers.items())


def _further(estimate: Mapping[str, Any]) -> list[str]:
    """What tells an estimate from that of the candidate on all rows."""
    slices = [f"{column}-{value}" for column, value in (estimate["slice"] or {}).items()]
    return [*slices, *(["change"] if estimate["of"] == "change" else [])]


def _plain(name: str) -> str:
    """A name as MLflow takes it in a metric: a layer may be called anything."""
    return re.sub(r"[^\w .-]", "_", name)[:120].strip(".") or "_"


def _params(document: Mapping[str, Any]) -> list[Param]:
    from mlflow.entities import Param

    values = {
        "model": document["model"]["resolved"],
        "policy": summary.policy_name(document),
        "probe": document["probe"]["uri"],
        "model_digest": document["model"]["digest"],
        "policy_digest": document["policy"]["digest"],
        "probe_digest": document["probe"]["digest"],
    }
    return [Param(name, str(value)[:6000]) for name, value in values.items()]


def _linked(client: MlflowClient, run_id: str, model: Mapping[str, Any], experiment: str) -> str | None:
    """Name the logged model as the run's input, which MLflow shows only inside one experiment; its id when it does."""
    from mlflow.entities import LoggedModelInput
    from mlflow.exceptions import MlflowException

    if not model["model_id"]:
        return None
    try:
        source = client.get_logged_model(model["model_id"])
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    if source.experiment_id != experiment:
        return None
    client.log_inputs(run_id, models=[LoggedModelInput(model["model_id"])])
    return str(model["model_id"])


def _tag(client: MlflowClient, run_id: str, document: Mapping[str, Any]) -> None:
    """Write the verdict last; until then ERROR stands on the version, so that no earlier pass is seen."""
    model, verdict, policy = document["model"], _WORDS[document["status"]], summary.policy_name(document)
    if model["version"]:
        for key, value in (("gate.run", run_id[:8]), ("gate.policy", policy)):
            client.set_model_version_tag(model["name"], model["version"], key, value)
    client.set_tag(run_id, "mlflow.note.content", summary.headline(document))
    client.set_tag(run_id, "gate.policy", policy)
    client.set_tag(run_id, "gate", verdict)
    if model["version"]:
        client.set_model_version_tag(model["name"], model["version"], "gate", verdict)
