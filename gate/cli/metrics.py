"""`gate metrics`: what can be measured, read from the catalogue; nothing heavy is imported."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gate.cli import outputs
from gate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

    from gate.geometry.catalogue import Entry

Address = Annotated[
    str | None,
    typer.Argument(metavar="[ID]", help="A metric, or ID.READOUT, to see in full.", show_default=False),
]
Family = Annotated[str | None, typer.Option(metavar="NAME", help="Only the metrics of one family.")]
Needs = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Only the metrics that read a column, such as labels.")
]
Long = Annotated[bool, typer.Option("--long", help="Several lines for every metric of the list.")]
Format = Annotated[Literal["text", "json"], typer.Option("--format", help="What is written to stdout.")]

EPILOG = "A policy names a metric as ID, or as ID.READOUT for one of its further numbers."


def metrics(
    address: Address = None,
    *,
    family: Family = None,
    needs: Needs = None,
    long: Long = False,
    format_: Format = "text",
) -> None:
    """List the metrics, a line each: which way is better, what it needs, what it says; or show one in full."""
    from gate.cli import metric_pages
    from gate.geometry import catalogue

    if address is None:
        entries = _selected(family, needs)
    elif family or needs:
        raise UsageError("--family and --needs narrow the list; leave them out to see one metric")
    else:
        entries = [_found(address)]
    if format_ == "json":
        outputs.to_stdout(catalogue.dumps(entries, catalogue.families()))
    elif address is not None:
        outputs.to_stdout(metric_pages.in_full(entries[0], address))
    else:
        outputs.to_stdout(metric_pages.at_length(entries) if long else metric_pages.in_lines(entries))


def _found(address: str) -> Entry:
    from gate.geometry import catalogue
    from gate.policy.references import metric_fault

    if fault := metric_fault(address):
        raise UsageError(f"{fault} `gate metrics` lists them all.")
    return catalogue.load()[address.partition(".")[0]]


def _selected(family: str | None, needs: str | None) -> list[Entry]:
    from gate.geometry import catalogue

    entries = list(catalogue.load().values())
    if family is not None:
        _require("family", family, catalogue.families())
    read = {entry.name: {name.partition(".")[0] for name in (*entry.required, *entry.optional)} for entry in entries}
    if needs is not None:
        _require("column", needs, sorted(set().union(*read.values())))
    kept = [entry for entry in entries if family in (None, entry.family) and (not needs or needs in read[entry.name])]
    if not kept:
        raise UsageError(f"no metric of the family {family!r} reads {needs!r}; leave one of the two out")
    return kept


def _require(what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        near = get_close_matches(name, known, n=1)
        offer = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(known)}."
        raise UsageError(f"no metric has the {what} {name!r}. {offer}")
