"""Evidence in a run, held against what was signed of it: whoever may write artifacts can replace the file.

A reader has nobody's key, so no signature is looked at: `gate verify` does that.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from gate.attestation.envelope import unverified
from gate.attestation.statement import Statement, read
from gate.errors import UsageError, VerificationError
from gate.mlflow_plugin.tags import recorded
from gate.models.registry import failures, is_absent
from gate.verification.registered import asked

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow.entities import Run

_DO = "do not believe it: find out who can write the artifacts of the run, and check the version again"


def require_as_signed(run: Run, content: bytes, beside: Callable[[], bytes | None]) -> None:
    """Refuse evidence that is not what was signed for its run; what nobody signed is taken as it is.

    The statement on the version counts; where that is of another run, the one that lies beside the evidence.

    Args:
        run: That recorded the check.
        content: The evidence.
        beside: Reads the statement beside it; None where there is none.

    Raises:
        VerificationError: It is not, or the statement cannot be read.
    """
    run_id, version = str(run.info.run_id), str(run.data.params.get("model"))
    found = next((each for each in _on_version(version) if each.run == run_id), None)
    where = f"on {version}"
    if found is None:
        where, text = "beside it", beside()
        if text is None:
            return
        found = _statement(run_id, text)
    if found.run != run_id:
        raise VerificationError(f"the statement beside the evidence in run {run_id} is about run {found.run}; {_DO}")
    digest = f"sha256:{sha256(content).hexdigest()}"
    if found.evidence != digest:
        raise VerificationError(
            f"the evidence in run {run_id} is not what was signed for it: it is {digest}, and the statement {where} "
            f"names {found.evidence}; {_DO}"
        )


def _on_version(uri: str) -> list[Statement]:
    """The statements on the version that a run was recorded for; none where it is no version, or not there any more."""
    from mlflow import MlflowClient

    try:
        version = asked(uri)
        return list(recorded(MlflowClient().get_model_version(version.name, str(version.version)).tags).values())
    except UsageError:
        return []
    except failures() as error:
        if not is_absent(error):
            raise
        return []


def _statement(run_id: str, text: bytes) -> Statement:
    try:
        return read(unverified(text.decode(errors="replace")))
    except VerificationError as error:
        raise VerificationError(
            f"the statement beside the evidence in run {run_id} cannot be read: {error}; {_DO}"
        ) from None
