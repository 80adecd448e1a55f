"""What is known of the metrics without torch: rendered from the registry, tested against it.

`python -m gate.geometry.catalogue` renders it anew.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from gate.errors import MetricError

if TYPE_CHECKING:
    from gate.geometry.registry import Metric

Span: TypeAlias = tuple[float, float]

_FILE = "catalogue.json"
_SECTION = re.compile(r"^(Args|Returns|Raises|Examples?|Notes?):$", re.MULTILINE)
_ARGUMENT = re.compile(r"^ {4}(\w+): ", re.MULTILINE)
READING_ORDER = (
    "spectral",
    "uniformity",
    "hypersphere",
    "outliers",
    "classes",
    "separation",
    "depth",
    "smoothing",
    "readout",
    "neighbours",
    "probe_rows",
    "comparison",
    "mapping",
    "overlap",
    "compatibility",
    "regression",
    "ood",
    "latent",
    "codebook",
    "predictions",
    "recalls",
    "slices",
    "behaviour",
    "forgetting",
    "groups",
    "retention",
    "head",
    "trivial",
)  # of the families; any other comes last
SPLITS = {
    "reference": "rows of the training set, apart from the probe set",
    "ood": "rows out of distribution",
    "shifted": "the probe set under a shift, such as another preprocessing",
}
WEIGHTS = {
    "head": "the model's linear head: head.weight (C, d) and, where it has one, head.bias (C,)",
    "codebook": "the model's code vectors (K, e)",
}


@dataclass(frozen=True)
class Entry:
    """What can be said of a metric without running it.

    Attributes:
        name: Its id.
        family: Name of the family that it belongs to.
        meaning: One sentence.
        description: Formula and reading, paragraphs apart by an empty line.
        unit: Of the value.
        greater_is_better: Direction of the value and of every read-out, None where a range is healthy.
        domain: When the value may decide, in words.
        kinds: Kinds of model that it is about, all when empty.
        required: Columns, other rows and weights without which it is not applicable, with what they hold.
        optional: Those that it reads where there are any.
        readout_needs: Read-out → those of the optional ones without which it is not applicable; the metric's own value
            is "value".
        invariant_to: Changes of the features that leave the value as it is.
        unasserted: Changes of which nothing is said; every other one moves the value.
        readouts: Name → meaning of the numbers besides the value.
        limits: Smallest and largest possible number, of the value and of every read-out.
        params: What a policy may set, with the default.
        ranges: Smallest and largest value of each parameter.
        explanations: Parameter → what it is.
        paper: Source.
        elsewhere: What other libraries compute under this name, and how this differs; empty where all agree.
    """

    name: str
    family: str
    meaning: str
    description: str
    unit: str
    greater_is_better: Mapping[str, bool | None]
    domain: str
    kinds: tuple[str, ...]
    required: Mapping[str, str]
    optional: Mapping[str, str]
    readout_needs: Mapping[str, tuple[str, ...]]
    invariant_to: tuple[str, ...]
    unasserted: tuple[str, ...]
    readouts: Mapping[str, str]
    limits: Mapping[str, Span]
    params: Mapping[str, Any]
    ranges: Mapping[str, Span]
    explanations: Mapping[str, str]
    paper: str
    elsewhere: str

    def direction(self, readout: str = "value") -> str:
        """Which way is better, as a word: `higher`, `lower` or `range`.

        Args:
            readout: Name of a read-out, "value" for the metric itself.
        """
        return {True: "higher", False: "lower", None: "range"}[self.greater_is_better[readout]]

    def needed_by(self, readout: str = "value") -> tuple[str, ...]:
        """The inputs without which a read-out is not applicable: those of the metric, and its own."""
        return (*self.required, *self.readout_needs.get(readout, ()))

    def read_by(self, readout: str = "value") -> tuple[str, ...]:
        """The inputs that can move a read-out: what it needs, and what no read-out needs but the metric reads.

        One besides the value that declares no needs may do with one of several inputs: any optional one can move it.
        """
        if readout != "value" and readout not in self.readout_needs:
            return (*self.required, *self.optional)
        of_some = {name for needs in self.readout_needs.values() for name in needs}
        return (*self.needed_by(readout), *(name for name in self.optional if name not in of_some))


def heading(title: str) -> str:
    """What stands before the colon of a family's title; the question behind it is for the module."""
    return title.partition(": ")[0]


def in_words(span: Span) -> str:
    """Smallest and largest number, as people say it."""
    low, high = span
    if math.isinf(low):
        return "any number" if math.isinf(high) else f"at most {high:.4g}"
    return f"at least {low:.4g}" if math.isinf(high) else f"{low:.4g} to {high:.4g}"


@cache
def load() -> dict[str, Entry]:
    """Every metric by name: those of this package, and those that other packages add, which alone need torch."""
    entries = {entry.name: entry for entry in _written()[1]}
    return entries | {found.name: _entry(found) for found in _added() if found.name not in entries}


def find(address: str) -> tuple[Entry, str]:
    """The metric and read-out of an address `id` or `id.readout`; whether it has that read-out is not looked at.

    Raises:
        KeyError: There is no metric of that name.
    """
    name, _, readout = address.partition(".")
    return load()[name], readout or "value"


@cache
def families() -> dict[str, str]:
    """Family → what it is about, in the order in which people read them; those of other packages come last."""
    titles, _ = _written()
    return titles | {_family(found): _title(found) for found in _added() if _family(found) not in titles}


@cache
def _written() -> tuple[dict[str, str], list[Entry]]:
    return loads(resources.files(__package__).joinpath(_FILE).read_text(encoding="utf-8"))


def loads(text: str) -> tuple[dict[str, str], list[Entry]]:
    """Families and metrics as `render` wrote them."""
    content = json.loads(text)
    return content["families"], [_read(fields) for fields in content["metrics"]]


@cache
def _added() -> tuple[Metric, ...]:
    """The metrics of other packages."""
    if not entry_points(group="gate.metrics"):
        return ()
    return tuple(found for found in _registered() if not _is_own(found))


def _registered() -> list[Metric]:
    from gate.geometry.registry import metrics

    return list(metrics().values())


def _is_own(found: Metric) -> bool:
    return found.function.__module__.rpartition(".")[0] == __package__


def _family(found: Metric) -> str:
    return found.function.__module__.rpartition(".")[2]


def _title(found: Metric) -> str:
    """The first line of what the family's module says of itself."""
    lines = (sys.modules[found.function.__module__].__doc__ or "").strip().splitlines()
    return lines[0].rstrip(".") if lines else _family(found)


def _entry(found: Metric) -> Entry:
    from gate.geometry.registry import VALUE, Change, ModelKind

    description, explained = _docstring(found)
    required, optional = ({name: _holds(name) for name in sorted(some)} for some in found.inputs())
    return Entry(
        name=found.name,
        family=_family(found),
        meaning=found.meaning,
        description=description,
        unit=found.unit,
        greater_is_better={name: found.better(name) for name in (VALUE, *found.readouts)},
        domain=found.domain,
        kinds=_in_order(get_args(ModelKind), found.kinds),
        required=required,
        optional=optional,
        readout_needs={name: tuple(sorted(needs)) for name, needs in found.readout_needs.items()},
        invariant_to=_in_order(get_args(Change), found.invariant_to),
        unasserted=_in_order(get_args(Change), found.unasserted),
        readouts=dict(found.readouts),
        limits={name: found.limits_of(name) for name in (VALUE, *found.readouts)},
        params=dict(found.params),
        ranges=dict(found.ranges),
        explanations={name: explained.get(name, "") for name in found.params},
        paper=found.paper,
        elsewhere=found.elsewhere,
    )


def _in_order(every: Iterable[str], some: Iterable[str]) -> tuple[str, ...]:
    return tuple(each for each in every if each in some)


def _docstring(found: Metric) -> tuple[str, dict[str, str]]:
    """What stands between the first line and the sections, and the meaning of each argument."""
    text = inspect.cleandoc(found.function.__doc__ or "").partition("\n")[2]
    body, *sections = _SECTION.split(text)
    paragraphs = re.split(r"\n\s*\n", body.strip())
    _, *parts = _ARGUMENT.split(dict(zip(sections[::2], sections[1::2], strict=True)).get("Args", ""))
    meanings = dict(zip(parts[::2], map(_joined, parts[1::2]), strict=True))
    return "\n\n".join(map(_joined, paragraphs)), meanings


def _joined(lines: str) -> str:
    return " ".join(lines.split())


def _holds(name: str) -> str:
    from gate.geometry.statistics import COLUMNS

    split, dot, column = name.partition(".")
    if dot and split in SPLITS:
        return f"{_holds(column)}, for the {split} rows"
    known = {**{column: each.meaning for column, each in COLUMNS.items()}, **SPLITS, **WEIGHTS}
    if split not in known:
        raise MetricError(f"{name!r} is no column, no other rows and no tensor of the model; there are {sorted(known)}")
    return known[split]


def _read(fields: Mapping[str, Any]) -> Entry:
    """An entry as JSON has it: lists are tuples, and an end that is null is infinite."""
    tuples = {name: tuple(each) for name, each in fields.items() if isinstance(each, list)}
    spans = {name: {each: _span(*ends) for each, ends in fields[name].items()} for name in ("limits", "ranges")}
    needs = {name: tuple(some) for name, some in fields["readout_needs"].items()}
    return Entry(**{**fields, **tuples, **spans, "readout_needs": needs})


def _span(low: float | None, high: float | None) -> Span:
    return -math.inf if low is None else low, math.inf if high is None else high


def _plain(entry: Entry) -> dict[str, Any]:
    fields = asdict(entry)
    for name in ("limits", "ranges"):
        fields[name] = {
            each: [end if math.isfinite(end) else None for end in ends] for each, ends in fields[name].items()
        }
    return fields


def dumps(entries: Collection[Entry], titles: Mapping[str, str]) -> str:
    """Some metrics as JSON; a limit that is null is infinite.

    Args:
        entries: The metrics.
        titles: Family → what it is about; those of the metrics are kept.
    """
    present = {entry.family for entry in entries}
    content = {
        "families": {family: title for family, title in titles.items() if family in present},
        "metrics": [_plain(entry) for entry in entries],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def render() -> str:
    """The catalogue of this package as JSON, from the registry."""
    own = [found for found in _registered() if _is_own(found)]
    titles = {_family(found): _title(found) for found in own}
    order = dict.fromkeys((*READING_ORDER, *titles))
    return dumps([_entry(found) for found in own], {name: titles[name] for name in order if name in titles})


if __name__ == "__main__":
    Path(__file__).with_name(_FILE).write_text(render(), encoding="utf-8")
