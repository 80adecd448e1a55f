"""The probe set that counts, and the device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gate import streaming
from gate.errors import ProbeError, UsageError
from gate.policy.schema import Probe
from tests.streaming.made import probe


def test_another_content_than_the_pinned_one_is_refused(rows: Path) -> None:
    spec = probe(rows, input="x", id="id")
    opened = streaming.open_rows(spec)
    list(opened.batches(10))
    streaming.require_pinned(opened, spec)
    streaming.require_pinned(opened, spec.model_copy(update={"digest": opened.digest}))
    with pytest.raises(ProbeError, match="the policy pins sha256:0"):
        streaming.require_pinned(opened, spec.model_copy(update={"digest": "sha256:" + "0" * 64}))


def test_other_slices_than_the_pinned_ones_are_refused(rows: Path) -> None:
    spec = probe(rows, input="x")
    cut, whole = streaming.open_rows(spec, ("id",)), streaming.open_rows(spec)
    for opened in (cut, whole):
        list(opened.batches(10))
    assert cut.digest == whole.digest
    pinned = spec.model_copy(update={"digest": cut.digest, "slices_digest": cut.slices_digest})
    streaming.require_pinned(cut, pinned)
    for opened, spec in ((whole, pinned), (cut, pinned.model_copy(update={"slices_digest": "sha256:" + "0" * 64}))):
        with pytest.raises(ProbeError, match=r"by which slices cut it, it has the digest .* as `slices_digest`"):
            streaming.require_pinned(opened, spec)


def test_the_probe_that_counts_is_the_override_under_the_policys_digest(rows: Path, tmp_path: Path) -> None:
    pinned = Probe.model_validate({"uri": "a.npz", "columns": {"input": "x"}, "digest": "sha256:" + "1" * 64})
    assert streaming.resolved_probe(pinned, None) is pinned
    assert streaming.resolved_probe(pinned, "b.npz") == pinned.model_copy(update={"uri": "b.npz"})
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"uri: {rows}\ncolumns: {{input: x}}\n")
    assert streaming.resolved_probe(pinned, str(spec)).digest == pinned.digest
    assert streaming.resolved_probe(None, str(spec)).uri == str(rows)


def test_without_any_probe_there_is_nothing_to_measure_on() -> None:
    with pytest.raises(UsageError, match="no `probe:` block and no --probe"):
        streaming.resolved_probe(None, None)
    with pytest.raises(UsageError, match="give a probe spec"):
        streaming.resolved_probe(None, "b.npz")


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="device 'tpu' is unknown"):
        streaming.resolved_device("tpu")
    assert streaming.resolved_device("cpu") == "cpu"
    if not torch.cuda.is_available():
        assert streaming.resolved_device("auto") == "cpu"
        with pytest.raises(UsageError, match="torch finds no GPU here"):
            streaming.resolved_device("cuda")
