"""Whatever a file holds instead of evidence is a message, and never a crash or a document that can be judged."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gate.errors import GateError, UsageError
from gate.evidence import bundle, explaining, github, html, junit, markdown, recorded, sarif, text
from gate.evidence.shape import require_shape
from gate.evidence.validation import validated

HERE = Path(__file__).parent / "v1"
NONSENSE: tuple[Any, ...] = (
    *(None, True, 0, -1.5, 1e308, 10**400, "", "1", "\x1b[31m"),
    *([], {}, [None], [1], {"a": None}, {"a": 1}, [[0.5, "1", 2]]),
)


def compared() -> dict[str, Any]:
    return bundle.load(HERE / "compared.json")


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("notes",), None, "notes is None, expected a list"),
        (("results",), {}, "results is {}, expected a list"),
        (("counts",), [], r"counts is \[\], expected numbers by outcome"),
        (("baseline",), "x", "baseline lacks digest, flavour"),
        (("policy", "sources"), [], r"policy.sources is \[\], expected at least one file"),
        (("policy", "sources", 0), {"path": "p"}, r"policy.sources\[0\] lacks digest, text"),
        (("slices", 0), {"rows": 3}, r"slices\[0\] lacks slice"),
        (("slices", 0, "slice"), {}, r"slices\[0\].slice is {}, expected columns"),
        (("slices", 0, "rows"), True, r"slices\[0\].rows is True, expected a number of rows"),
        (("estimates", 3), "x", r"estimates\[3\] lacks c, confidence"),
        (("estimates", 3, "of"), "champion", "expected one of candidate, baseline, change"),
        (("estimates", 3, "slice"), {"site": 3}, "expected columns or null"),
        (("estimates", 3, "params"), None, "expected numbers and texts by name"),
        (("estimates", 3, "params"), {"k": []}, "expected numbers and texts by name"),
        (("estimates", 3, "layer"), {}, r"estimates\[3\].layer is {}, expected a text"),
        (("estimates", 3, "n"), None, "expected a number of rows"),
        (("estimates", 3, "confidence"), "0.95", "expected a level"),
        (("estimates", 3, "value"), "1", r"estimates\[3\].value is '1', expected a number or null"),
        (("estimates", 3, "value"), True, "expected a number or null"),
        (("estimates", 3, "interval"), [1], "expected two numbers or null"),
        (("estimates", 3, "interval"), [1, "2"], "expected two numbers or null"),
        (("estimates", 3, "intervals"), [[0.9, 1]], "expected a level and two numbers each"),
        (("estimates", 3, "intervals"), [[0.9, 1, True]], "expected a level and two numbers each"),
        (("estimates", 3, "intervals"), None, "expected a level and two numbers each"),
        (("estimates", 3, "d"), -1, "expected a whole number or null"),
        (("model", "resolved"), None, "model.resolved is None, expected a text"),
        (("probe", "rows"), 10**400, "probe.rows is 1000.*, expected a number of rows"),
        (("run", "confidence"), None, "run.confidence is None, expected a level"),
        (("run", "git"), {}, "run.git is {}, expected a commit or null"),
        (("run", "started"), "soon", "run.started is 'soon', expected a time"),
        (("layers", 0, "spectrum"), [1.0, None], "expected numbers"),
        (("layers", 0, "spectrum"), [1.0, math.inf], "expected numbers"),
        (("layers", 0, "scatter"), {"x": [1.0], "y": [], "label": None}, "expected as many x, y and labels, if any"),
        (("layers", 0, "class_similarity"), {"classes": ["a"], "matrix": [[2.0]]}, "for each pair a cosine or null"),
        (("results", 0, "message"), None, r"results\[0\].message is None, expected a text"),
        (("results", 0, "policy_column"), "1", "expected a whole number or null"),
        (("results", 0, "margin"), 10**400, r"results\[0\].margin is 1000.*, expected a number or null"),
        (("results", 0, "anchor"), {}, "expected a path, a line and a column"),
        (("results", 0, "waiver"), {}, "is {}, expected an owner, a reason and a date or null"),
        (("results", 0, "rows"), [{"id": 1, "influence": 0.5}], "expected rows with an id and an influence"),
        (("results", 0, "severity"), "fatal", "expected one of block, warn"),
        (("waivers", 0, "state"), None, r"waivers\[0\].state is None, expected a text"),
    ],
)
def test_a_value_of_another_kind_is_named_with_its_place(path: tuple[Any, ...], value: Any, expected: str) -> None:
    document = compared()
    found: Any = document
    for step in path[:-1]:
        found = found[step]
    found[path[-1]] = value
    with pytest.raises(UsageError, match=expected):
        require_shape(document)


def places(found: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a document, of its longer lists the first two."""
    items = found.items() if isinstance(found, dict) else enumerate(found[:2]) if isinstance(found, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def spoilt(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    copied = copy.deepcopy({**document, "estimates": document["estimates"][:2], "slices": document["slices"][:2]})
    found = copied
    for step in path[:-1]:
        found = found[step]
    found[path[-1]] = value
    return copied


def show(document: dict[str, Any]) -> None:
    """In every way that there is."""
    for format_ in (bundle.dumps, text.render, junit.render, sarif.render, github.render, markdown.render, html.render):
        assert format_(document)
    assert explaining.overview(document, source="--run x")
    for rule in explaining.rules_of(document):
        assert explaining.rule(document, rule)


@pytest.mark.parametrize("name", ["compared", "passed"])
def test_no_value_at_any_place_makes_a_crash(name: str) -> None:
    """It is refused, or it can be shown and judged again; the document of a failure is never one of a pass."""
    document = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    document = {"slices": [], **document}
    draw = random.Random(0)  # noqa: S311
    refused = 0
    for path in places({**document, "estimates": document["estimates"][:2], "slices": document["slices"][:2]}):
        for value in draw.sample(NONSENSE, 2):
            try:
                read = validated(spoilt(document, path, value))
            except GateError:
                refused += 1
                continue
            recorded.measurements(read)
            show(read)
            assert (read["status"], read["exit_code"]) == (document["status"], document["exit_code"]), path
    assert refused > 100


@pytest.mark.parametrize("value", NONSENSE)
def test_what_is_no_document_at_all_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match=r"its schema is None, expected 'gate\.evidence/v1'"):
        validated(value)
