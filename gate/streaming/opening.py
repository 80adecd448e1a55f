"""What is read, and where: the probe set that counts, and the device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gate.errors import ProbeError, UsageError

if TYPE_CHECKING:
    from gate.policy.schema import Probe
    from gate.probes.probe_set import ProbeSet


def open_rows(spec: Probe, tags: tuple[str, ...] = ()) -> ProbeSet:
    """The probe set that a policy or a probe spec describes, with further columns to cut it by.

    Raises:
        ProbeError: It cannot be read, or lacks a column.
    """
    from gate.probes.probe_set import Columns, open_probe

    return open_probe(spec.uri, columns=Columns(**spec.columns.model_dump(), tags=tags), shape=spec.shape)


def resolved_probe(block: Probe | None, override: str | None) -> Probe:
    """The probe that counts: the policy's, with what `--probe` says instead; a digest that the policy pins stays.

    Raises:
        UsageError: Neither names a probe set.
        PolicyError: The override is a probe spec with faults.
    """
    from gate.policy.loading import load_probe_spec

    if override is None:
        if block is None:
            raise UsageError(
                "the policy has no `probe:` block and no --probe was given; name a probe set in one of them"
            )
        return block
    if Path(override).suffix in (".yaml", ".yml"):
        spec = load_probe_spec(override)
        pinned = spec.digest if block is None or block.digest is None else block.digest
        return spec.model_copy(update={"digest": pinned})
    if block is None:
        raise UsageError(
            f"--probe {override!r} names a file, but the policy has no `probe:` block that names its columns; "
            "give a probe spec (.yaml)"
        )
    return block.model_copy(update={"uri": override})


def resolved_device(device: str) -> str:
    """`cpu` or `cuda`; `auto` takes a GPU when there is one.

    Raises:
        UsageError: A GPU was asked for and there is none, or the device is unknown.
    """
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device {device!r} is unknown; use auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device 'cuda': torch finds no GPU here; use auto or cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def require_pinned(probe: ProbeSet, digest: str | None) -> None:
    """Refuses a probe set whose content is not the pinned one.

    Raises:
        ProbeError: The digest differs.
    """
    if digest is not None and probe.digest != digest:
        raise ProbeError(
            f"{probe.uri}: what `probe.columns` names there has the digest {probe.digest}, the policy pins {digest}; "
            "restore the probe set and its columns, or pin the new digest"
        )
