"""Probe specs as text: one that is made, and digests that are pinned in one that is there."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from ruamel.yaml import YAML

from gate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gate.policy.schema import Probe

_WIDEST = 1000


def pin(path: Path, digests: Mapping[str, str]) -> None:
    """Write digests into a probe spec, or into the `probe` block of a policy; everything else stays.

    Args:
        path: Of the file.
        digests: `digest` and, where there is one, `slices_digest`.

    Raises:
        UsageError: The file has no probe block of its own.
    """
    yaml = _yaml()
    value = yaml.load(path.read_text(encoding="utf-8"))
    block = value.get("probe") if value.get("kind") == "Policy" else value
    if not isinstance(block, dict):
        raise UsageError(f"{path}: the policy takes its probe from another file; pin the digests there")
    block.update(digests)
    stream = StringIO()
    yaml.dump(value, stream)
    path.write_text(stream.getvalue(), encoding="utf-8")


def spec_text(probe: Probe) -> str:
    """The text of a probe spec that says what this one says."""
    value = probe.written
    stream = StringIO()
    _yaml().dump(value, stream)
    return stream.getvalue()


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = _WIDEST
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
