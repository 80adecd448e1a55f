"""What a failure of the registry is told as."""

from __future__ import annotations

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, PERMISSION_DENIED

from gate.models.registry import reason, refused_by_gate

LONG = "Refused by gate: alias 'champion' of models:/m/1: " + "the files lie elsewhere, " * 20 + "check it again"


def test_what_the_gate_of_a_server_says_keeps_its_end() -> None:
    refusal = MlflowException(LONG, PERMISSION_DENIED)
    assert refused_by_gate(refusal)
    assert reason(refusal).endswith(LONG)


def test_a_gate_that_could_not_decide_refuses_as_well_but_not_for_the_evidence() -> None:
    broken = MlflowException(LONG, INTERNAL_ERROR)
    assert not refused_by_gate(broken)
    assert reason(broken).endswith(LONG)


def test_what_anything_else_says_at_length_ends_at_a_word() -> None:
    denied = MlflowException("word " * 99, PERMISSION_DENIED)
    assert not refused_by_gate(denied)
    assert reason(denied) == "word " * 60 + "…"
    assert reason(OSError("word " * 60)) == ("word " * 60).strip()
    assert reason(OSError("w" * 400)) == "w" * 300 + " …"
