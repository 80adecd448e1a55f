"""The gate as an evaluator of `mlflow.models.evaluate`.

MLflow loads this module in every process that evaluates anything, while it is itself being imported: nothing of MLflow
and nothing heavy is imported with it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient
    from mlflow.data.evaluation_dataset import EvaluationDataset
    from mlflow.models.evaluation import EvaluationArtifact, EvaluationResult
    from mlflow.pyfunc import PyFuncModel

_logger = logging.getLogger(__name__)

MODEL_TYPE = "gate"
EXIT_CODE = "verdict/exit_code"
_KEYS = ("policy", "model", "probe", "baseline", "device")


class GateEvaluator:
    """Judges a model under a policy, as `gate check` does.

    It runs when it is asked by `model_type="gate"`, and never otherwise, whatever the configuration:

        mlflow.models.evaluate(
            "models:/encoder/7",
            data=probe,
            model_type="gate",
            evaluators="gate",
            evaluator_config={"policy": "policy.yaml"},
        )

    The configuration has the key `policy`, a file or the name of a pack, and may have:

    - `model`: the URI of the model, as `gate check` takes it. MLflow hands over a loaded model and not its URI; what is
      judged is the logged model that it says it is, or the one version that is registered from that. With `model` here
      and none as the first argument, MLflow does not load it at all, and it runs only in the gate's own isolation.
    - `probe`: a probe set or a probe spec. Without it `data`, a DataFrame, is the probe set, held against the columns,
      the digest and the expectations of the policy. With it MLflow only notes `data` beside the metrics.
    - `baseline` and `device`: as `gate check` has them.

    A verdict that does not pass is a result and no exception: look at `metrics["verdict/exit_code"]`, 0 when it passed,
    and at `artifacts["gate/summary.txt"].content`. The evidence, the report and the summary lie below "gate/" in the
    run of the evaluation, where `gate explain RUN` finds them. The registered version is left as it is: its tags, and
    the checks that `gate backtest` reads, are written by `gate check --record`.
    """

    @classmethod
    def can_evaluate(
        cls,
        *,
        model_type: str | None,
        evaluator_config: Mapping[str, Any] | None,
        **later: object,
    ) -> bool:
        """Whether the gate was asked for.

        MLflow hands a configuration that names no evaluator to all of them, so that no key of it says whom it is for.

        Args:
            model_type: As it was given to `evaluate`.
            evaluator_config: What MLflow takes for ours.
            later: What other releases of MLflow add.
        """
        del later
        if model_type != MODEL_TYPE and {"policy"} <= {*(evaluator_config or ())} <= {*_KEYS}:
            _logger.warning("the gate judges nothing: it runs for model_type='gate', and this is %r", model_type)
        return model_type == MODEL_TYPE

    def evaluate(
        self,
        *,
        dataset: EvaluationDataset,
        run_id: str,
        evaluator_config: Mapping[str, Any],
        model: PyFuncModel | None = None,
        model_id: str | None = None,
        **others: object,
    ) -> EvaluationResult:
        """Judge, and log to the run and to the logged model.

        Args:
            dataset: Made of `data`.
            run_id: Of the evaluation.
            evaluator_config: As the class describes it.
            model: As MLflow has loaded it.
            model_id: To whose logged model MLflow writes the metrics of the result by itself; None for none.
            others: What is said of models of other types.

        Raises:
            MlflowException: It could not be judged, and why.
        """
        del others
        from mlflow.exceptions import MlflowException

        from gate.errors import GateError

        try:
            document = _judged(evaluator_config, dataset, run_id, model, model_id)
        except GateError as error:
            raise MlflowException(str(error)) from error
        return _logged(document, dataset, run_id, model_id)


def _judged(
    config: Mapping[str, Any],
    dataset: EvaluationDataset,
    run_id: str,
    model: PyFuncModel | None,
    model_id: str | None,
) -> Mapping[str, Any]:
    """The evidence, of the very model that MLflow will write metrics to."""
    from gate.errors import UsageError
    from gate.evaluation import check
    from gate.mlflow_plugin.handed_over import as_probe, logged_model_of, uri_of

    options = _options(config)
    behind = logged_model_of(model)
    uri = options.pop("model", None) or uri_of(behind if model is not None else model_id)
    if "probe" in options:
        document = check(uri, **options).document
    else:
        with as_probe(dataset) as probe:
            document = check(uri, **options, probe=probe).document
        document["probe"]["uri"] = f"dataset:/{run_id}/{dataset.name}"  # the file is gone, MLflow knows the data
    judged = document["model"]["model_id"]
    others = [each for each in (behind, model_id) if each not in (None, judged)]
    if others:
        raise UsageError(
            f"{uri} was judged, which is the logged model {judged!r}, but MLflow evaluates {others[0]!r} and would "
            "show the verdict there: that is the model, or model_id, or is active (mlflow.clear_active_model())"
        )
    return document


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    from gate.errors import UsageError

    options = {key: str(value) for key, value in config.items() if value is not None}
    unknown = sorted(options.keys() - {*_KEYS})
    if unknown or "policy" not in options:
        found = f"there is no key {', '.join(map(repr, unknown))}" if unknown else "the key 'policy' is missing"
        raise UsageError(f"evaluator_config of the gate: {found}; it takes {', '.join(_KEYS)}")
    return options


def _measured_on(
    client: MlflowClient, run_id: str, document: Mapping[str, Any], dataset: EvaluationDataset
) -> tuple[str, str]:
    """Name and digest of what was measured; a probe set that the configuration names becomes an input of the run."""
    from mlflow.entities import DatasetInput

    from gate.mlflow_plugin import metrics

    if document["probe"]["uri"] == f"dataset:/{run_id}/{dataset.name}":
        return str(dataset.name), str(dataset.digest)
    probe = metrics.probe_set(document)
    client.log_inputs(run_id, [DatasetInput(probe)])
    return probe.name, probe.digest


def _logged(
    document: Mapping[str, Any], dataset: EvaluationDataset, run_id: str, model_id: str | None
) -> EvaluationResult:
    """The result; MLflow writes its metrics by itself where it knows the model, and twice would be once too often."""
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModelInput
    from mlflow.models.evaluation import EvaluationResult

    from gate.mlflow_plugin import metrics

    client = MlflowClient()
    values = {EXIT_CODE: float(document["exit_code"]), **metrics.numbers(document)}
    dataset_of = _measured_on(client, run_id, document, dataset)
    if model_id is None:
        known = metrics.known_model(client, document["model"]["model_id"])
        judged = None if known is None else str(known.model_id)
        if judged:
            client.log_inputs(run_id, models=[LoggedModelInput(judged)])
        metrics.log(client, run_id, values, model_id=judged, dataset=dataset_of)
    return EvaluationResult(values, _artifacts(client, run_id, document), run_id)


def _artifacts(client: MlflowClient, run_id: str, document: Mapping[str, Any]) -> dict[str, EvaluationArtifact]:
    """Written into the run, by the paths that they have there."""
    from mlflow.models.evaluation.artifacts import JsonEvaluationArtifact, TextEvaluationArtifact

    from gate.evidence import bundle, html, text
    from gate.mlflow_plugin.recorder import FOLDER

    evidence, report, summary = (f"{FOLDER}/{name}" for name in ("evidence.json", "report.html", "summary.txt"))
    texts = {report: html.render(document), summary: text.render(document)}
    for path, content in {evidence: bundle.dumps(document), **texts}.items():
        client.log_text(run_id, content, path)
    found = {path: TextEvaluationArtifact(f"runs:/{run_id}/{path}", content) for path, content in texts.items()}
    return {evidence: JsonEvaluationArtifact(f"runs:/{run_id}/{evidence}", document), **found}
