"""The rows of a probe set on their way through one model or two: batches of features, one pass."""

from __future__ import annotations

from gate.streaming.opening import open_rows, require_pinned, resolved_device, resolved_probe, valid
from gate.streaming.parts import MOST_SLICES
from gate.streaming.passes import batches
from gate.streaming.sources import running, started

__all__ = [
    "MOST_SLICES",
    "batches",
    "open_rows",
    "require_pinned",
    "resolved_device",
    "resolved_probe",
    "running",
    "started",
    "valid",
]
