"""What `mlflow.models.evaluate` hands over, as the gate takes it: the URI of a loaded model, a file of data."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from gate.errors import ProbeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from mlflow.data.evaluation_dataset import EvaluationDataset
    from mlflow.pyfunc import PyFuncModel

_OTHERWISE = "`data` is the probe set where evaluator_config names none as 'probe'"


def logged_model_of(model: PyFuncModel | None) -> str | None:
    """The id of the logged model that a loaded one says it is; None for one that does not say.

    Args:
        model: As MLflow has loaded it; None where `evaluate` was given none.
    """
    return getattr(getattr(model, "metadata", None), "model_id", None)


def uri_of(model_id: str | None) -> str:
    """The URI of a logged model, or of the registered version where just one is made from it.

    Args:
        model_id: Such as "m-…".

    Raises:
        UsageError: There is none.
    """
    from mlflow import MlflowClient

    if model_id is None:
        raise UsageError(
            "MLflow does not tell the gate where this model is kept, and a model in memory is none that can be judged; "
            "name it: evaluator_config={'policy': ..., 'model': 'models:/NAME/VERSION'}"
        )
    source = f"models:/{model_id}"
    versions = MlflowClient().search_model_versions(f"source_path = '{source}'", max_results=2)
    return f"models:/{versions[0].name}/{versions[0].version}" if len(versions) == 1 else source


@contextmanager
def as_probe(dataset: EvaluationDataset) -> Iterator[str]:
    """The rows of `data` as the file of a probe set, for the length of a block.

    Args:
        dataset: That MLflow made of them.

    Raises:
        ProbeError: They have no columns, or what the block does with them raises one.
    """
    import pyarrow.parquet as pq

    with TemporaryDirectory(prefix="gate-") as folder:
        path = Path(folder, "data.parquet")
        try:
            pq.write_table(_table(dataset), path)
            yield str(path)
        except ProbeError as error:
            raise ProbeError(f"{str(error).replace(str(path), '`data`')}; {_OTHERWISE}") from error


def _table(dataset: EvaluationDataset) -> pa.Table:
    import pyarrow as pa
    from pandas import DataFrame

    rows = dataset.features_data
    if not isinstance(rows, DataFrame):
        raise ProbeError(f"`data` is a {type(rows).__name__}, expected a DataFrame with the columns of the policy")
    if dataset.has_targets:  # MLflow takes them out of the rest
        rows = rows.assign(**{str(dataset.targets_name): dataset.labels_data})
    try:
        return pa.Table.from_pandas(rows, preserve_index=False)
    except (pa.ArrowException, ValueError) as error:
        raise ProbeError(f"`data` cannot be written as a table: {error}") from error
