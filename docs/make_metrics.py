# ruff: noqa: INP001 - a script beside the page that it makes, not a package
"""The reference of the metrics, from what the code says of them: `python docs/make_metrics.py` writes `metrics.md`.

What is shown is the registry's own text: docstrings, and the arguments of the decorator.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from gate.geometry import catalogue
from gate.geometry.catalogue import SPLITS, WEIGHTS, Entry, heading, in_words
from gate.geometry.statistics import COLUMNS
from gate.policy.references import OF_THE_BASELINE, OF_THE_MODEL, OF_THE_PROBE, in_a_policy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

PAGE = Path(__file__).with_name("metrics.md")
HEAD = """\
# Metrics

All {count} metrics of `gate.measure`, and which of them a rule of a policy can be about. The text is that of the code:
`make reference` writes this page, and a test fails when it is stale. `gate metrics` lists the same in a terminal,
`gate metrics ID` shows one of them.

How to read an entry:

- **Better** is the direction, of the metric and of each of its read-outs. Where it says *range*, the number can be bad
  at both ends or only describes: give `min` and `max` where you can. A difference is better where the fault that it
  was made to show is smaller.
- **Decides when** is the domain in which the number may decide. Outside of it the answer is *inconclusive* (other or
  more rows could answer) or *not applicable* (the question does not exist for this model), never a number, never a
  pass.
- **Needs** are columns, other rows or tensors of the model without which none of its numbers is applicable. **Reads if
  given** are those that it does without, or that only some of its numbers need: the table of its read-outs says which.
  [Inputs](#inputs) says how to give them.
- **In a policy** says whether `gate check` can judge it: *yes*, or *not yet* and for want of which input. A policy
  that asks for one that it cannot have is refused by `gate policy validate`.
- **Models** are the kinds of model for which it means something.
- **Unchanged by** are the changes of the features that leave the number as it is. Every other change under
  [Changes of the features](#changes-of-the-features) moves it; of those under **Not said of** nothing is claimed.
- A **read-out** is a further number of the same metric, `id.readout`. Each has an interval and the rows that move it,
  and each can be ruled on.

In formulas, n is the number of rows, d the dimension of the features, C the number of classes, and a unit row is a row
divided by its length.
"""
CHANGES = {
    "translation": "one vector is added to every row",
    "scaling": "all rows are multiplied by one positive number",
    "row_scaling": "each row is multiplied by a positive number of its own",
    "rotation": "an orthogonal map of the features",
    "permutation": "the channels in another order",
    "channel_scaling": "each channel is multiplied by a positive number of its own",
    "linear_map": "any invertible linear map of the features",
}
GLOSSARY = {
    "null": "the value that rows without any structure would give",
    "standard probe": "ridge regression from features to labels, judged on held-out rows",
    "fold": "part of the rows that is judged by the others",
    "sampled rows": "rows with the lowest hashes of their ids, kept one by one",
    "judged rows": "held-out rows whose prediction counts towards the value",
    "influence": "how much each sampled row moves the value",
    "domain": "the rows and models for which the number may decide",
}
GIVING = """\
`gate.measure` takes all of them, a policy those that have a key.

```python
found = gate.measure(
    features,  # (n, d): an array or a tensor
    metrics=["ece", "knn_label_agreement"],  # all metrics, when left out
    labels=labels,  # one entry a row, in the order of the rows
    logits=logits,  # (n, C)
    outputs=["cat", "dog"],  # class names of the columns of logits, in their order
    attributes={"scanner": scanners, "sex": sexes},  # several columns: a dict by name
    tokens={"encoder.11": states},  # token states (n, T, d) by layer, from shallow to deep
    token_mask=mask,  # (n, T): true where a token is real
    baseline=earlier,  # (n, e): another version's features of the same rows
    reference={"features": rows, "labels": row_labels},  # other rows, with columns of their own
    ood=strange_rows,  # other rows without columns
    weights={"head.weight": weight, "head.bias": bias},
    params={"knn_label_agreement": {"k": 5}},  # by metric; a policy writes them under `params` of the rule
)
```
"""
ELSEWHERE = """\
Several libraries use one name for different numbers. A bound that was found with another library holds here only if the
definition is the same. What others compute is what was found in the versions that are named, by running them or by
reading their code.
"""


def registered() -> tuple[dict[str, str], list[Entry]]:
    """Families and metrics as the code has them now, whatever the catalogue's file says."""
    return catalogue.loads(catalogue.render())


def render(titles: Mapping[str, str], entries: Sequence[Entry]) -> str:
    """The page.

    Args:
        titles: Family → what it is about, in order.
        entries: The metrics.
    """
    by_family = {family: [entry for entry in entries if entry.family == family] for family in titles}
    ordered = [entry for each in by_family.values() for entry in each]
    blocks = [HEAD.format(count=len(entries)), "## Words\n", table(("Word", "What it means"), GLOSSARY.items())]
    blocks += ["## Inputs\n", GIVING, table(("Input", "What it holds", "In `gate.measure`", "In a policy"), inputs())]
    blocks += ["## All metrics\n", overview(ordered)]
    for family, some in by_family.items():
        blocks.append(f"## {heading(titles[family])}\n")
        for entry in some:
            blocks += section(entry)
    return "\n".join([*blocks, *appendix(ordered)]).rstrip("\n") + "\n"


def overview(entries: Iterable[Entry]) -> str:
    """The table at the top."""
    rows = [
        (link(entry.name), escaped(entry.meaning), entry.direction(), names(entry.needed_by()) or "-")
        for entry in entries
    ]
    return table(("Metric", "What it says", "Better", "Needs"), rows)


def section(entry: Entry) -> Iterator[str]:
    """One metric in full."""
    yield f"### `{entry.name}`\n"
    yield f"**{escaped(entry.meaning)}.**\n"
    if entry.description:
        yield f"{escaped(entry.description)}\n"
    yield "".join(f"- **{name}**: {fact}\n" for name, fact in facts(entry))
    numbers = [("value", "the metric itself"), *entry.readouts.items()]
    rows = [
        (f"`{address(entry, name)}`", said(entry, name, text), entry.direction(name), in_words(entry.limits[name]))
        for name, text in numbers
    ]
    yield table(("Read-out", "What it says", "Better", "Possible values"), rows)
    if entry.params:
        settings = [
            (f"`{name}`", code(default), in_words(entry.ranges[name]), escaped(entry.explanations[name]))
            for name, default in entry.params.items()
        ]
        yield table(("Parameter", "Default", "Range", "What it is"), settings)
    if entry.elsewhere:
        yield f"Other libraries compute another number under this name: see [The same name elsewhere](#{ANCHOR}).\n"


ANCHOR = "the-same-name-elsewhere"


def facts(entry: Entry) -> Iterator[tuple[str, str]]:
    """What is said of a metric in a line each."""
    yield "Better", entry.direction()
    yield "Unit", escaped(entry.unit)
    yield "Decides when", escaped(entry.domain)
    yield "Needs", names(entry.required) or "only the features"
    if entry.optional:
        yield "Reads if given", names(entry.optional)
    yield "In a policy", in_a_policy(entry)
    yield "Models", ", ".join(entry.kinds) or "every kind"
    yield "Unchanged by", changes(entry.invariant_to) or "none of the listed changes"
    if entry.unasserted:
        yield "Not said of", changes(entry.unasserted)
    yield "Paper", escaped(entry.paper)


def appendix(entries: Sequence[Entry]) -> Iterator[str]:
    """What belongs to all metrics: other definitions, changes."""
    yield "## The same name elsewhere\n"
    yield ELSEWHERE
    yield table(
        ("Metric", "What differs"), [(link(each.name), escaped(each.elsewhere)) for each in entries if each.elsewhere]
    )
    yield "## Changes of the features\n"
    yield table(("Change", "What is done"), [(change.replace("_", " "), what) for change, what in CHANGES.items()])


def inputs() -> Iterator[tuple[str, str, str, str]]:
    """Every input, and how it is given."""
    for name, column in COLUMNS.items():
        given = f'`{name}={{"NAME": ...}}`' if column.several else f"`{name}=...`"
        given += ", or token states (n, T, d) with `token_mask=`" if name.endswith("tokens") else ""
        yield f"`{name}`", escaped(column.meaning), given, keyed(name)
    for name, meaning in SPLITS.items():
        yield f"`{name}`", f"{meaning}; `{name}.labels` is a column of theirs", f"`{name}=...`", keyed(name)
    for name, meaning in WEIGHTS.items():
        tensors = '"head.weight": ..., "head.bias": ...' if name == "head" else f'"{name}": ...'
        yield f"`{name}`", escaped(meaning), f"`weights={{{tensors}}}`", keyed(name)


def keyed(name: str) -> str:
    """How a policy gives an input, in words."""
    return " and ".join(keys_of(name)) or "-"


def keys_of(name: str) -> Iterator[str]:
    """The keys by which a policy gives an input."""
    if name in OF_THE_PROBE:
        yield from (f"`probe.columns.{key}`" for key in OF_THE_PROBE[name])
    if name in OF_THE_BASELINE:
        yield "`baseline`"
    keys = (OF_THE_MODEL[name],) if name in OF_THE_MODEL else OF_THE_BASELINE.get(name, ())
    yield from (f"`reads.{key}`" for key in keys)


def address(entry: Entry, readout: str) -> str:
    """The name by which a rule asks for a read-out."""
    return entry.name if readout == "value" else f"{entry.name}.{readout}"


def said(entry: Entry, readout: str, meaning: str) -> str:
    """What a read-out says, and what it needs besides its metric."""
    needs = entry.readout_needs.get(readout, ())
    return escaped(meaning) + (f"; needs {names(needs)}" if needs else "")


def link(name: str) -> str:
    """To the section of a metric."""
    return f"[`{name}`](#{name})"


def names(columns: Iterable[str]) -> str:
    """Inputs as code."""
    return ", ".join(f"`{name}`" for name in columns)


def changes(some: Iterable[str]) -> str:
    """Changes as words."""
    return ", ".join(some).replace("_", " ")


def code(value: object) -> str:
    """A default as a policy would write it."""
    return "none" if value is None else f"`{json.dumps(value)}`"


def escaped(text: str) -> str:
    """Text in which Markdown sees nothing but what stands between backticks."""
    parts = text.split("`")
    outside = [re.sub(r"([\\*]|<(?=[A-Za-z/!?])|](?=\()|(?<!\w)_|_(?!\w))", r"\\\1", part) for part in parts[::2]]
    return "`".join(
        part for pair in zip(outside, [*parts[1::2], None], strict=False) for part in pair if part is not None
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells in which no line is too many."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(render(*registered()), encoding="utf-8")
