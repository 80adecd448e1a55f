"""Records a check in MLflow: a run with metrics and artifacts, and short tags on the model version.

The order is the safety: the verdict is written last, so what breaks off on the way never reads as a pass.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager, redirect_stdout
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from gate.attestation.names import statement_key
from gate.errors import RegistryError
from gate.evidence import bundle, summary, text
from gate.mlflow_plugin import display, metrics
from gate.mlflow_plugin.tags import WORDS
from gate.models.quiet import quiet_mlflow
from gate.models.registry import failures, reason, without_passwords

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow import MlflowClient
    from mlflow.entities import Param

    from gate.mlflow_plugin.signing import Signer

EXPERIMENT = "gate"
FOLDER = "gate"
_BLOCKING = ("FAIL", "INCONCLUSIVE")


def record(
    document: Mapping[str, Any],
    report_html: str,
    *,
    signer: Signer | None = None,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
) -> str:
    """Record a check in MLflow.

    The run lies in the experiment of the model's own run, or in the experiment "gate". It holds the finite estimates as
    metrics of the probe set and of the logged model, and the evidence, the report and a summary as artifacts below
    "gate/". A registered version is tagged `gate` (the verdict), `gate.run` and `gate.policy`, and its description
    begins with the verdict.

    Args:
        document: The evidence.
        report_html: The page that `gate.evidence.html.render` makes of it.
        signer: Signs the verdict on a registered version; without one it is recorded unsigned.
        tracking_uri: Of the tracking server; MLflow's own setting when None.
        registry_uri: Of the model registry; MLflow's own setting when None.

    Returns:
        The id of the run.

    Raises:
        RegistryError: MLflow cannot be reached, or refuses. As far as MLflow still answers, the run has ended as FAILED
            and the model version reads as ERROR.
        ModelError: The files of the version are not those that were checked.
    """
    from mlflow import MlflowClient, get_tracking_uri

    with quiet_mlflow(), redirect_stdout(sys.stderr):
        try:
            return _record(MlflowClient(tracking_uri, registry_uri), document, report_html, signer)
        except failures() as error:
            raise RegistryError(
                f"cannot record the check of {document['model']['resolved']} in MLflow at "
                f"{without_passwords(tracking_uri or get_tracking_uri())!r}: {reason(error)}; "
                "mend that and run the check again, or run it with --no-record"
            ) from error


def tags_before(document: Mapping[str, Any]) -> Mapping[str, str]:
    """Those of the version that evidence is about, before it is recorded.

    None where there is no version, or the registry does not answer: recording will say what is wrong.

    Args:
        document: The evidence.
    """
    from mlflow import MlflowClient

    model = document["model"]
    if not model["version"]:
        return {}
    try:
        with quiet_mlflow(), redirect_stdout(sys.stderr):
            return dict(MlflowClient().get_model_version(model["name"], model["version"]).tags)
    except failures():
        return {}


def stricter_verdict(document: Mapping[str, Any], tags: Mapping[str, str]) -> str | None:
    """The verdict of another policy that blocks the version, where this check is about to write a milder one over it.

    Args:
        document: The evidence.
        tags: Of the version, as `tags_before` has them.

    Returns:
        Such as `FAIL under classifier@1.0.0`, None where there is none.
    """
    before, whose, policy = tags.get("gate"), tags.get("gate.policy"), summary.policy_name(document)
    milder = before in _BLOCKING and document["status"] in ("passed", "warned")
    return f"{before} under {whose}" if milder and whose not in (None, policy) else None


def has_signed_statement(document: Mapping[str, Any], tags: Mapping[str, str]) -> bool:
    """Whether a signed statement of the policy is on the version, which recording without a key leaves as it is.

    Args:
        document: The evidence.
        tags: Of the version, as `tags_before` has them.
    """
    return statement_key(document["policy"]["name"]) in tags


def _record(client: MlflowClient, document: Mapping[str, Any], report_html: str, signer: Signer | None) -> str:
    model = document["model"]
    if model["version"]:  # an unknown version ends here; from now on no earlier pass is seen
        client.get_model_version(model["name"], model["version"])
        _withdraw(client, model, signer)
    experiment = _experiment_of(client, model) or _own_experiment(client)
    subject = f"{model['name']} version {model['version']}" if model["version"] else model["resolved"]
    run_id: str = client.create_run(experiment, run_name=f"gate check of {subject}").info.run_id
    with _failed_unless_done(client, run_id):
        _log(client, run_id, document, _linked(client, run_id, model, experiment))
        evidence = bundle.dumps(document)
        client.log_text(run_id, evidence, f"{FOLDER}/evidence.json")
        client.log_text(run_id, report_html, f"{FOLDER}/report.html")
        client.log_text(run_id, text.render(document), f"{FOLDER}/summary.txt")
        if signer and model["version"]:
            digest = f"sha256:{sha256(evidence.encode()).hexdigest()}"
            client.log_text(run_id, signer.sign(client, run_id, digest), f"{FOLDER}/attestation.json")
        client.set_terminated(run_id, "FINISHED")
        _tag(client, run_id, document)
        if model["version"]:
            _show(client, run_id, document, signer)
    if model["version"]:  # what stands stays, should this fail
        report = display.report_of(experiment, run_id, f"{FOLDER}/report.html")
        line = display.first_line(WORDS[document["status"]], document, report)
        display.put_first(client, model["name"], model["version"], line)
    return run_id


def _withdraw(client: MlflowClient, model: Mapping[str, Any], signer: Signer | None) -> None:
    """Let no earlier verdict be seen until this one is complete."""
    if signer:
        signer.begin(client)
    else:
        client.set_model_version_tag(model["name"], model["version"], "gate", "ERROR")
    display.put_first(client, model["name"], model["version"], None)


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
    from mlflow.entities import DatasetInput

    probe = metrics.probe_set(document)
    client.log_inputs(run_id, [DatasetInput(probe)])
    measured_on = (probe.name, probe.digest)
    values = metrics.numbers(document)
    metrics.log(client, run_id, values, model_id=model_id, dataset=measured_on, params=_params(document))


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

    source = metrics.known_model(client, model["model_id"])
    if source is None or source.experiment_id != experiment:
        return None
    client.log_inputs(run_id, models=[LoggedModelInput(source.model_id)])
    return str(source.model_id)


def _tag(client: MlflowClient, run_id: str, document: Mapping[str, Any]) -> None:
    client.set_tag(run_id, "mlflow.note.content", summary.headline(document))
    client.set_tag(run_id, "gate.policy", summary.policy_name(document))
    client.set_tag(run_id, "gate", WORDS[document["status"]])


def _show(client: MlflowClient, run_id: str, document: Mapping[str, Any], signer: Signer | None) -> None:
    """Write the verdict last; until then ERROR stands on the version, so that no earlier pass is seen."""
    if signer:
        signer.publish(client)
        return
    model = document["model"]
    tags = {"gate.run": run_id[:8], "gate.policy": summary.policy_name(document), "gate": WORDS[document["status"]]}
    for key, value in tags.items():
        client.set_model_version_tag(model["name"], model["version"], key, value)
