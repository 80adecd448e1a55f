"""The names of the metrics without torch: rendered from the registry, tested against it.

`python -m gate.geometry.catalogue` renders it anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gate.geometry.registry import Metric

_FILE = "catalogue.json"


@dataclass(frozen=True)
class Entry:
    """What can be said of a metric without running it.

    Attributes:
        name: Its id.
        meaning: One sentence.
        unit: Of the value.
        greater_is_better: Direction, None where a range is healthy.
        needs: Columns of the probe set without which it is not applicable.
        readouts: Name → meaning of the numbers besides the value.
        params: What a policy may set, with the default.
        ranges: Smallest and largest value of each parameter.
        paper: Source.
    """

    name: str
    meaning: str
    unit: str
    greater_is_better: bool | None
    needs: tuple[str, ...]
    readouts: Mapping[str, str]
    params: Mapping[str, Any]
    ranges: Mapping[str, tuple[float, float]]
    paper: str


@cache
def load() -> dict[str, Entry]:
    """Every metric by name: those of this package, and those that other packages add, which alone need torch."""
    text = resources.files(__package__).joinpath(_FILE).read_text(encoding="utf-8")
    entries = {fields["name"]: _read(fields) for fields in json.loads(text)}
    if entry_points(group="gate.metrics"):
        from gate.geometry.registry import metrics

        entries |= {name: _entry(found) for name, found in metrics().items() if name not in entries}
    return entries


def _read(fields: Mapping[str, Any]) -> Entry:
    ranges = {name: tuple(ends) for name, ends in fields["ranges"].items()}
    return Entry(**{**fields, "needs": tuple(fields["needs"]), "ranges": ranges})


def _entry(found: Metric) -> Entry:
    return Entry(
        found.name,
        found.meaning,
        found.unit,
        found.greater_is_better,
        found.needs,
        dict(found.readouts),
        dict(found.params),
        dict(found.ranges),
        found.paper,
    )


def render() -> str:
    """The catalogue of this package as JSON, from the registry."""
    from gate.geometry.registry import FAMILIES, metrics

    own = {f"gate.geometry.{family}" for family in FAMILIES}
    entries = [_entry(found) for found in metrics().values() if found.function.__module__ in own]
    return json.dumps([asdict(entry) for entry in entries], indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name(_FILE).write_text(render(), encoding="utf-8")
