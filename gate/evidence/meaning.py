"""What a metric is, and which of its numbers a check recorded, in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gate.evidence import wording
from gate.evidence.layout import facts, painter, section, table

if TYPE_CHECKING:
    from collections.abc import Mapping

_BETTER = {
    "higher": "higher is better",
    "lower": "lower is better",
    "range": "neither: it can be bad at both ends, or only describes",
}


def meaning(address: str, *, color: bool = False) -> str:
    """What a metric, or one of its read-outs, is; all that is known of it stands in `gate metrics`.

    Args:
        address: A metric, or METRIC.READOUT.
        color: Whether to use ANSI colours.
    """
    from gate.geometry import catalogue

    paint = painter(color=color)
    name, _, readout = address.partition(".")
    entry = catalogue.load().get(name)
    if entry is None or (readout and readout not in entry.readouts):
        pairs = [("unknown", "this version of gate has no such metric")]
    else:
        pairs = [
            ("is", entry.readouts[readout] if readout else entry.meaning),
            ("of", f"{name}: {entry.meaning}" if readout else ""),
            ("better", _BETTER[entry.direction(readout or "value")]),
            ("decides when", entry.domain),
            ("paper", entry.paper),
            ("see", f"gate metrics {address}"),
        ]
    return section(wording.one_line(f"what {address} is"), facts(pairs, paint), paint) + "\n"


def recorded(document: Mapping[str, Any], address: str, layer: str | None = None, *, color: bool = False) -> str:
    """Every number of a metric that the evidence holds of the candidate on all rows; empty where there is none.

    Args:
        document: The evidence.
        address: A metric, or METRIC.READOUT, of which the metric counts.
        layer: The only layer to look at.
        color: Whether to use ANSI colours.
    """
    name, paint = address.partition(".")[0], painter(color=color)
    found: dict[str, list[tuple[str, str, str]]] = {}
    for each in document["estimates"]:
        whose = (each["of"], each["metric"].partition(".")[0], each["slice"])
        if whose == ("candidate", name, None) and layer in (None, each["layer"]):
            found.setdefault(each["layer"], []).append(_row(each))
    title = f"all that was recorded of {name} at layer"
    blocks = [section(wording.one_line(f"{title} {at}"), table(rows), paint) for at, rows in found.items()]
    return "\n\n".join(blocks) + "\n" if blocks else ""


def _row(estimate: Mapping[str, Any]) -> tuple[str, str, str]:
    """Address, number, and what it is; where there is no number, why not."""
    from gate.geometry import catalogue

    name, _, readout = estimate["metric"].partition(".")
    if estimate["value"] is None:
        return estimate["metric"], "-", str(estimate["reason"] or estimate["status"])
    entry = catalogue.load().get(name)
    return estimate["metric"], wording.measured(estimate), entry.readouts.get(readout, entry.meaning) if entry else ""
