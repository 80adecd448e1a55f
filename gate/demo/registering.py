"""The part of the quick start that a team's training job would do: log a model and register it."""

from __future__ import annotations

import contextlib
import io
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from gate.models.quiet import quiet_mlflow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gate.demo.digits import Images
    from gate.demo.training import DigitClassifier, Recipe

MODEL_NAME = "digits"
EXPERIMENT = "digits"


@dataclass(frozen=True)
class Registry:
    """An MLflow registry inside a folder: one database file and the artifacts beside it."""

    folder: Path

    @property
    def uri(self) -> str:
        """What MLflow calls this registry."""
        return f"sqlite:///{self.folder.resolve() / 'mlflow.db'}"

    def register(self, model: DigitClassifier, recipe: Recipe, examples: Images, *, name: str, accuracy: float) -> str:
        """Log a model in MLflow's default format and register it as the next version.

        Args:
            model: In evaluation mode.
            recipe: Kept as parameters of the run.
            examples: At least two images; the example of one row would make a program that takes one row only.
            name: Of the run.
            accuracy: On held-out images, kept as a metric of the run.

        Returns:
            The URI of the new version, such as `models:/digits/1`.
        """
        with self._in_use():
            import mlflow
            import mlflow.pytorch

            with mlflow.start_run(experiment_id=self._experiment(), run_name=name) as run:
                mlflow.log_params(asdict(recipe))
                mlflow.log_metric("test_accuracy", accuracy)
                logged = mlflow.pytorch.log_model(
                    model, name="model", input_example=examples.pixels[:2], pip_requirements=["torch"]
                )
            version = self._next_version(logged.model_uri, run.info.run_id, logged.model_id)
        return f"models:/{MODEL_NAME}/{version}"

    def _experiment(self) -> str:
        import mlflow

        known = mlflow.get_experiment_by_name(EXPERIMENT)
        if known is not None:
            return str(known.experiment_id)
        artifacts = (self.folder.resolve() / "artifacts").as_uri()
        return str(mlflow.create_experiment(EXPERIMENT, artifact_location=artifacts))

    def _next_version(self, source: str, run_id: str, model_id: str) -> str:
        """By a client of this very registry: the environment may name another one for registered models."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        if not client.search_registered_models(filter_string=f"name = '{MODEL_NAME}'"):
            client.create_registered_model(MODEL_NAME)
        return str(client.create_model_version(MODEL_NAME, source, run_id=run_id, model_id=model_id).version)

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        """Point MLflow here for a while, without its messages: they speak of its database, not of the demo."""
        with quiet_mlflow(), contextlib.redirect_stderr(io.StringIO()):
            import mlflow

            before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
            mlflow.set_tracking_uri(self.uri)
            try:
                yield
            finally:
                mlflow.set_tracking_uri(before)  # type: ignore[arg-type] # None unsets it, as in MLflow's own code
