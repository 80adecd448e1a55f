"""Recorded evidence: where it is, and the part of it that a policy asks about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import from_json

from gate.errors import GateError, UsageError
from gate.evidence.recognition import beginning, is_report
from gate.evidence.validation import validated

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path


class Bundle(NamedTuple):
    """Evidence that has not been read yet.

    Attributes:
        source: Where it is: a file, or a run.
        model: That it is about, as far as is known without reading.
        read: Its bytes; raises a `GateError` where they cannot be had.
    """

    source: str
    model: str | None
    read: Callable[[], bytes]


def below(paths: Iterable[Path]) -> Iterator[Bundle]:
    """Files of evidence, and those that lie below folders, in order.

    A file that is named counts whatever it holds; below a folder count those that begin as evidence does.

    Raises:
        UsageError: There is no such file or folder.
    """
    for path in paths:
        if path.is_dir():
            yield from (_in_file(file) for file in sorted(path.rglob("*.json")) if is_report(beginning(file), "json"))
        elif path.is_file():
            yield _in_file(path)
        else:
            raise UsageError(f"there is no file or folder {str(path)!r}; give an evidence.json, or a folder of them")


def _in_file(path: Path) -> Bundle:
    def read() -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise GateError(f"{path}: cannot be read: {error.strerror}") from None

    return Bundle(str(path), None, read)


def document(content: bytes, metrics: Collection[str]) -> dict[str, Any]:
    """The evidence, with the estimates of some metrics alone: others are neither checked nor kept.

    Args:
        content: JSON text.
        metrics: By their addresses.

    Raises:
        GateError: It is no evidence, or contradicts itself.
    """
    try:
        found = from_json(content, allow_inf_nan=False)  # a third faster than json.loads, over hundreds of documents
    except ValueError as error:
        raise UsageError(f"is not evidence in JSON: {error}") from None
    estimates = found.get("estimates") if isinstance(found, dict) else None
    if isinstance(estimates, list):
        asked = [each for each in estimates if not isinstance(each, dict) or each.get("metric") in metrics]
        found["estimates"] = asked
    known = validated(found)
    if not isinstance(known["probe"]["columns"], dict):
        raise UsageError("probe.columns does not say what was read")
    for number, layer in enumerate(known["layers"]):
        if not isinstance(layer, dict) or not {"name", "path", "pooling"} <= layer.keys():
            raise UsageError(f"layers[{number}] does not say where features were read")
    return known
