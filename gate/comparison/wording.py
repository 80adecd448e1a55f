"""The words and numbers that every rendering of a comparison shares."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from gate.evidence import summary, wording
from gate.evidence.wording import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    Document = Mapping[str, Any]

TITLES = {
    "worse": "worse",
    "better": "better",
    "different": "different, neither side is better by itself",
    "no_difference": "no difference: the interval of B - A holds 0",
}
_FINEST = 9  # decimals
_LARGE = 1e6
_DIRECTIONS = {"higher": "higher is better", "lower": "lower is better", "range": "neither is better"}


def headline(document: Document) -> str:
    """Which version is held against which."""
    return one_line(f"B {document['b']['resolved']} against A {document['a']['resolved']}")


def tally(document: Document) -> str:
    """How many numbers became what, in one line."""
    counts = document["counts"]
    words = [f"{counts[outcome]} {outcome.replace('_', ' ')}" for outcome in TITLES]
    others = f"{len(document['between'])} between the two; {counts['not_compared']} not compared"
    return f"{len(document['differences'])} compared: {', '.join(words)}; {others}"


def basis(document: Document) -> str:
    """Rows and places that the numbers are of."""
    layers = ", ".join(_place(name, where) for name, where in document["layers"].items())
    reads = [f"{name} read at {where['path']}" for name, where in document["reads"].items()]
    policy = [f"set up by policy {document['policy']}"] if document["policy"] else []
    places = f"layer{'s' if len(document['layers']) > 1 else ''} {layers}"
    return one_line("; ".join([f"{rows(document)} of {document['probe']['uri']}", places, *reads, *policy]))


def rows(document: Document) -> str:
    """The rows that both versions were measured on, such as `1797 rows in 150 clusters`."""
    return summary.rows(_as_evidence(document))


def footnotes(document: Document) -> list[str]:
    """What to know before a difference is believed."""
    level = f"{100 * document['run']['confidence']:g}%"
    compared = len(document["differences"])
    notes = [f"Both versions saw the same {rows(document)}: the intervals of B - A are paired, at {level}."]
    if document["multiplicity"] == "holm":
        notes[0] = notes[0].replace(f"paired, at {level}", "paired")
        notes.append(f"They are so wide that all differences hold at once, at {level} (Holm).")
    else:
        chance = round(compared * (1 - document["run"]["confidence"]))
        of_all = (
            f"Of {compared} number{'' if compared == 1 else 's'} {f'about {chance}' if chance else 'fewer than one'}"
        )
        notes.append(f"{of_all} would differ by chance if nothing had changed; --holm allows for that.")
    few = summary.caution(_as_evidence(document))
    return [*notes, *([few.removeprefix("note: ").capitalize() + "."] if few else [])]


def _as_evidence(document: Document) -> dict[str, Any]:
    numbers = [*document["differences"], *document["between"]]
    return {"probe": document["probe"], "estimates": numbers, "results": []}


def name(document: Document, entry: Mapping[str, Any]) -> str:
    """What a number is called: its metric, settings that are not the default, and the layer where there are several."""
    from gate.geometry import catalogue

    found = catalogue.load().get(entry["metric"].partition(".")[0])
    defaults = found.params if found else {}
    own = [f"{key}={value}" for key, value in entry["params"].items() if defaults.get(key) != value]
    settings = f" ({', '.join(own)})" if own else ""
    where = f" of {entry['layer']}" if len(document["layers"]) > 1 and entry["layer"] else ""
    return one_line(f"{entry['metric']}{settings}{where}")


def better(entry: Mapping[str, Any]) -> str:
    """Which way is better, in words."""
    return _DIRECTIONS[entry["better"]]


def shown(number: Mapping[str, Any]) -> str:
    """A value with its interval, with as many decimals as the interval supports: `0.861 [0.856, 0.866]`."""
    value, interval = number["value"], number["interval"]
    places = None if value is None or interval is None else _places(*interval)
    if places is None:
        return wording.measured(number)
    value, low, high = (f"{round(each, places) + 0.0:.{places}f}" for each in (value, *interval))
    return f"{value} [{low}, {high}]"


def _places(low: float, high: float) -> int | None:
    """Decimals that tell the width of an interval to a digit or two, and no end but 0 as 0; None where that is many."""
    half = (high - low) / 2
    if not half > 0 or max(abs(low), abs(high)) >= _LARGE:
        return None
    first = max(math.ceil(-math.log10(half / 2.5)), 0)
    ends = [end for end in (low, high) if end]
    return next((each for each in range(first, _FINEST) if all(round(end, each) for end in ends)), None)


def reasons(document: Document) -> dict[str, list[str]]:
    """Reason → the names of what was not compared for it, the commonest reason first."""
    found: dict[str, list[str]] = defaultdict(list)
    for entry in document["not_compared"]:
        found[one_line(entry["reason"]).removeprefix("missing_input: it ")].append(name(document, entry))
    return dict(sorted(found.items(), key=lambda each: -len(each[1])))


def _place(layer: str, where: Mapping[str, str]) -> str:
    """A layer, with its path and pooling where they say more than its name."""
    facts = [where["path"]] if where["path"] != layer else []
    facts += [where["pooling"]] if where["pooling"] != "none" else []
    return f"{layer} ({', '.join(facts)})" if facts else layer
