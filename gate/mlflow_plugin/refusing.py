"""How a guarded store says no: written down in the audit log first, then answered as MLflow answers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, PERMISSION_DENIED

from gate.attestation.names import REFUSED
from gate.errors import GateError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gate.mlflow_plugin.audit import Audit


@contextmanager
def refusing(audit: Audit, entry: dict[str, Any]) -> Iterator[None]:
    """Turn a refusal into what the server answers, once it is written down.

    Args:
        audit: Where.
        entry: Who wanted what of which model.

    Raises:
        MlflowException: In place of every error of the gate.
    """
    what = f"{entry['what']} of {entry['model']}"
    try:
        yield
    except VerificationError as error:
        reason = str(error)
        try:
            audit.append({**entry, "decision": "refused", "reason": reason})
        except GateError as unwritten:
            reason = f"{reason} ({unwritten})"
        raise MlflowException(f"{REFUSED}{what}: {reason}", PERMISSION_DENIED) from None
    except GateError as error:
        raise MlflowException(f"{REFUSED}{what}: {error}", INTERNAL_ERROR) from None
