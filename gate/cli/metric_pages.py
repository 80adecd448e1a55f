"""The catalogue of metrics as text: a line for each, a few lines for each, or one in full."""

from __future__ import annotations

import io
import shutil
from typing import TYPE_CHECKING

from gate.cli import outputs
from gate.geometry import catalogue

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console, RenderableType

    from gate.geometry.catalogue import Entry

_WIDTH = 110  # of a page that goes to a file or another program
_NARROW = 60
_DIRECTIONS = {
    "higher": "higher: give `min`",
    "lower": "lower: give `max`",
    "range": "a range: can be bad at both ends, or only describes; give `min` and `max` where you can",
}


def in_lines(entries: Sequence[Entry]) -> str:
    """Every metric in one line, family by family; a line is as long as it must be, so that no name is cut."""
    from gate.evidence.wording import printable

    parts = []
    for family, title, of_it in _by_family(entries):
        rows = [(entry.name, entry.direction(), ", ".join(entry.needed_by()) or "-", entry.meaning) for entry in of_it]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = ["  " + "  ".join([*(row[i].ljust(widths[i]) for i in range(3)), row[3]]) for row in rows]
        parts.append("\n".join([f"{family}: {catalogue.heading(title)}", *lines]))
    head = "Each line: id, which way is better, what it needs besides features, what it says. --long says more."
    return printable("\n\n".join([head, *parts]), keep="\n")


def _by_family(entries: Sequence[Entry]) -> Iterator[tuple[str, str, list[Entry]]]:
    for family, title in catalogue.families().items():
        of_it = [entry for entry in entries if entry.family == family]
        if of_it:
            yield family, title, of_it


def at_length(entries: Sequence[Entry]) -> str:
    """Every metric in a few lines, family by family."""
    from rich.padding import Padding
    from rich.text import Text

    parts: list[RenderableType] = []
    for family, title, of_it in _by_family(entries):
        parts.append(Text.assemble((family, "bold cyan"), f": {catalogue.heading(title)}\n"))
        for entry in of_it:
            parts.append(Padding(Text.assemble((entry.name, "bold"), f"  {entry.meaning}"), (0, 0, 0, 2)))
            parts.append(Padding(Text("\n".join([*_in_short(entry), ""]), style="dim"), (0, 0, 0, 6)))
    return _page(parts)


def _in_short(entry: Entry) -> list[str]:
    from gate.policy.references import in_a_policy

    inputs = [*entry.required, *(f"{name} (optional)" for name in entry.optional)]
    return [
        f"better: {entry.direction()}; reads: {', '.join(['features', *inputs])}; models: {_models(entry)}",
        f"decides when: {entry.domain}",
        f"in a policy: {_plain(in_a_policy(entry))}",
        f"paper: {entry.paper}",
    ]


def _plain(text: str) -> str:
    """Text of a page without its backticks."""
    return text.replace("`", "")


def _models(entry: Entry) -> str:
    return ", ".join(entry.kinds) or "every kind"


def in_full(entry: Entry, address: str) -> str:
    """All that is known of one metric.

    Args:
        entry: Of the metric.
        address: As it was asked for: the metric, or one of its read-outs.
    """
    from rich.text import Text

    readout = address.partition(".")[2]
    meaning = entry.readouts.get(readout, entry.meaning)
    parts: list[RenderableType] = [Text.assemble((address, "bold"), f"  {meaning}\n")]
    if readout:
        parts.append(Text(f"A read-out of {entry.name}: {entry.meaning}\n"))
    parts += [Text(f"{paragraph}\n") for paragraph in entry.description.split("\n\n") if paragraph]
    parts.append(_grid(_facts(entry, readout)))
    numbers = [("value", "the metric itself"), *entry.readouts.items()]
    named = [
        (
            _label(entry, name),
            entry.direction(name),
            catalogue.in_words(entry.limits[name]),
            _said(entry, name, meaning),
        )
        for name, meaning in numbers
    ]
    parts += [Text("\nread-outs: which way is better, possible values", style="bold"), _grid(named)]
    settings = [
        (
            name,
            "none" if default is None else f"{default}",
            catalogue.in_words(entry.ranges[name]),
            entry.explanations[name],
        )
        for name, default in entry.params.items()
    ]
    parts += [Text("\nparameters: default, range", style="bold"), _grid(settings)] if settings else []
    parts += [Text("\nthe same name elsewhere", style="bold"), Text(entry.elsewhere)] if entry.elsewhere else []
    return _page(parts)


def _page(parts: Iterable[RenderableType]) -> str:
    """The parts below each other, as wide as the terminal."""
    from gate.evidence.wording import printable

    console = _console()
    for part in parts:
        console.print(part)
    text = str(console.file.getvalue())  # type: ignore[attr-defined]
    return "\n".join(printable(line.rstrip(), keep="\x1b") for line in text.splitlines())


def _console() -> Console:
    from rich.console import Console

    color = outputs.stdout_has_color()
    return Console(
        file=io.StringIO(),
        width=max(shutil.get_terminal_size((_WIDTH, 0)).columns, _NARROW),
        force_terminal=color,
        color_system="standard" if color else None,
        **dict.fromkeys(("highlight", "markup", "emoji"), False),  # type: ignore[arg-type]
    )


def _label(entry: Entry, readout: str) -> str:
    """A read-out as its metric's name goes on: `.share`."""
    return entry.name if readout == "value" else f".{readout}"


def _said(entry: Entry, readout: str, meaning: str) -> str:
    """What a read-out says, and what it needs besides its metric."""
    needs = ", ".join(entry.readout_needs.get(readout, ()))
    return f"{meaning}; needs {needs}" if needs else meaning


def _facts(entry: Entry, readout: str) -> list[tuple[str, str]]:
    """What is said in a line each of a metric, or of the read-out that is asked for; "" is all of the metric."""
    from gate.policy.references import in_a_policy

    needed = entry.needed_by(readout) if readout else tuple(entry.required)
    meanings = {**entry.required, **entry.optional}
    needs, reads = (
        "\n".join(f"{name}: {meaning}" for name, meaning in meanings.items() if (name in needed) is there)
        for there in (True, False)
    )
    facts = [
        ("better", _DIRECTIONS[entry.direction(readout or "value")]),
        ("unit", entry.unit),
        ("decides when", entry.domain),
        ("needs", needs or "only the features"),
        ("reads if given", reads),
        ("in a policy", _plain(in_a_policy(entry, readout or None))),
        ("models", _models(entry)),
        ("unchanged by", _changes(entry.invariant_to) or "none of the changes that are tested"),
        ("not said of", _changes(entry.unasserted)),
        ("family", f"{entry.family}: {catalogue.heading(catalogue.families()[entry.family])}"),
        ("paper", entry.paper),
    ]
    return [(name, fact) for name, fact in facts if fact]


def _changes(names: Iterable[str]) -> str:
    return ", ".join(names).replace("_", " ")


def _grid(rows: Iterable[tuple[str, ...]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    lines = list(rows)
    grid = Table.grid(padding=(0, 2, 0, 0))
    for i in range(max(map(len, lines), default=0)):
        grid.add_column(overflow="fold", no_wrap=i == 0, min_width=max(len(line[0]) for line in lines) if i == 0 else 1)
    for name, *cells in lines:
        grid.add_row(Text(name, style="cyan"), *map(Text, cells))
    return grid
