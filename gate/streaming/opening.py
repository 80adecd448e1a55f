"""What is read, and where: the probe set that counts, and the device."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from gate.errors import ProbeError, UsageError

if TYPE_CHECKING:
    from gate.policy.schema import Probe
    from gate.probes.probe_set import ProbeSet
    from gate.probes.validation import Validation


def open_rows(spec: Probe, tags: tuple[str, ...] = (), directory: Path | None = None) -> ProbeSet:
    """The probe set that a policy or a probe spec describes, with further columns to cut it by.

    Args:
        spec: Where it is, and which columns mean what.
        tags: Columns to cut the rows by.
        directory: Where the files go that MLflow keeps; None for a folder that lasts as long as the probe set.

    Raises:
        ProbeError: It cannot be read, or lacks a column.
    """
    from gate.models.artifacts import fetched, is_kept
    from gate.probes.probe_set import Columns, Transform, open_probe

    columns = Columns(**spec.columns.model_dump(exclude_none=True), tags=tags)
    transform = None if spec.transform is None else Transform(**spec.transform.model_dump(exclude_none=True))
    if not is_kept(spec.uri):
        return open_probe(spec.uri, columns=columns, shape=spec.shape, transform=transform)
    with ExitStack() as unless_it_opens:
        folder = directory or Path(unless_it_opens.enter_context(TemporaryDirectory(prefix="gate-")))
        at = fetched(spec.uri, folder)
        rows = open_probe(spec.uri, columns=columns, shape=spec.shape, transform=transform, at=at)
        weakref.finalize(rows, unless_it_opens.pop_all().close)
    return rows


def valid(probe: ProbeSet, spec: Probe, *, shown: bool = True) -> Validation:
    """What a probe set was held against, of one that may decide something.

    Args:
        probe: The probe set.
        spec: With what is expected of it.
        shown: Whether a model is shown its inputs, and not vectors beside it measured.

    Raises:
        ProbeError: It may not, and every reason why.
    """
    from gate.probes.validation import Expectations, validated

    return validated(probe, Expectations(**spec.expectations.resolved, shown=shown))


def resolved_probe(block: Probe | None, override: str | None) -> Probe:
    """The probe that counts: the policy's, with what `--probe` says instead; what the policy pins and expects stays.

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
        if block is None:
            return spec
        kept = {key: getattr(block, key) for key in ("digest", "slices_digest") if getattr(block, key) is not None}
        if "expectations" in block.model_fields_set:
            kept["expectations"] = block.expectations
        return spec.model_copy(update=kept)
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


def require_pinned(probe: ProbeSet, spec: Probe) -> None:
    """Refuses a probe set whose content is not the pinned one.

    Raises:
        ProbeError: A digest differs.
    """
    if spec.slices_digest not in (None, probe.slices_digest):
        raise ProbeError(
            f"{probe.uri}: with the columns by which slices cut it, it has the digest {probe.slices_digest}, the "
            f"policy pins {spec.slices_digest} as `slices_digest`; restore these columns, or pin the new digest"
        )
    if (digest := spec.digest) not in (None, probe.digest):
        raise ProbeError(
            f"{probe.uri}: what `probe.columns` names there has the digest {probe.digest}, the policy pins {digest}; "
            "restore the probe set and its columns, or pin the new digest"
        )
