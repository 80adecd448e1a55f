"""Results that no estimate bears out are not trusted, however the document is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from gate.backtest import bundles
from gate.backtest.bundles import Asked
from gate.errors import GateError
from gate.evidence import bundle
from gate.evidence.validation import validate
from tests.evidence.samples import RECORDED, recorded

Document: TypeAlias = dict[str, Any]
Edit: TypeAlias = Callable[[Document], object]


def estimate(document: Document, of: str = "candidate", **about: Any) -> Document:
    """Of the effective rank on all rows, where nothing else is said."""
    wanted = {"of": of, "metric": "effective_rank", "slice": None, **about}
    found: Document = next(each for each in document["estimates"] if wanted.items() <= each.items())
    return found


def result(document: Document, check: str = "bound", **about: Any) -> Document:
    wanted = {"rule": "rank", "check": check, **about}
    found: Document = next(each for each in document["results"] if wanted.items() <= each.items())
    return found


def moved(entry: Document, by: float) -> None:
    entry["value"] += by
    entry["interval"] = [end + by for end in entry["interval"]]
    entry["intervals"] = [[level, low + by, high + by] for level, low, high in entry["intervals"]]


def widened(entry: Document) -> None:
    low, high = entry["interval"]
    entry["interval"] = [low - 1, high + 1]
    entry["intervals"] = [[level, low - 1, high + 1] for level, low, high in entry["intervals"]]


def sliced(document: Document) -> Document:
    """A result on a slice that has a number."""
    found: Document = next(each for each in document["results"] if each["slice"] and each["value"] is not None)
    return found


def second(document: Document) -> None:
    document["estimates"].append(dict(estimate(document)))


def narrower(document: Document, of: str, ends: Callable[[float, float, float], list[float]]) -> None:
    entry = next(each for each in document["estimates"] if each["of"] == of and len(each["intervals"]) > 2)
    entry["intervals"] = [
        [level, *(ends(low, high, entry["value"]) if level > entry["confidence"] else (low, high))]
        for level, low, high in entry["intervals"]
    ]


def without_cut(document: Document) -> None:
    name = sliced(document)["slice"]
    document["slices"] = [cut for cut in document["slices"] if f"pen={cut['slice']['pen']}" != name]


def excused(document: Document) -> Document:
    for found in document["results"]:
        if found["slice"] == sliced(document)["slice"]:
            found["reason"] = "missing_slice: it has 0 rows, needed are 30"
    return document


def again(intervals: list[list[float]]) -> None:
    level, low, high = next(each for each in intervals if each[0] == 0.99)
    intervals.append([level, low, high + 1])


def about(document: Document) -> Document:
    """The change that the first relative result is of."""
    found = next(each for each in document["results"] if each["check"] == "relative" and each["value"] is not None)
    cut = None if found["slice"] is None else {"pen": found["slice"].removeprefix("pen=")}
    return {"of": "change", "metric": found["metric"], "slice": cut}


EDITS: dict[str, tuple[Edit, str]] = {
    "value": (lambda found: moved(estimate(found), 20), "'rank' has the value 2.1.*, which is no estimate of the cand"),
    "interval": (
        lambda found: widened(estimate(found)),
        r"'rank' has the interval \[2.0.*, which is no estimate of th",
    ),
    "its own level": (
        lambda found: result(found).update(confidence=0.123),
        "'rank' has the interval .* is no estimate of the candidate: effective_rank of layer 'output'",
    ),
    "gone": (lambda found: found["estimates"].remove(estimate(found)), "'rank' has the value .* is no estimate of"),
    "another layer": (lambda found: estimate(found).update(layer="x"), "'rank' has the value .* is no estimate of"),
    "no interval": (lambda found: estimate(found).update(interval=None, intervals=[]), "which is no estimate of"),
    "twice": (second, "it holds two estimates of the candidate: effective_rank of layer 'output'; do not trust it"),
    "slice": (without_cut, "has a result of pen=.*, which is no slice; do not trust it"),
    "slice by reason": (
        lambda found: without_cut(excused(found)),
        "has a result of pen=.*, which is no slice; do not trust it",
    ),
    "a level": (
        lambda found: narrower(found, "candidate", lambda _low, _high, value: [value, value]),
        "an interval of the candidate: .* is narrower than one of a lower level; do not trust it",
    ),
    "one end": (
        lambda found: narrower(found, "candidate", lambda _low, high, value: [value, high]),
        "an interval of the candidate: .* is narrower than one of a lower level; do not trust it",
    ),
    "a change": (
        lambda found: narrower(found, "change", lambda _low, _high, value: [value, value]),
        "an interval of the change: .* is narrower than one of a lower level; do not trust it",
    ),
    "a level twice": (
        lambda found: estimate(found)["intervals"].append([0.99, -9.0, 99.0]),
        "is narrower than one of a lower level; do not trust it",
    ),
    "a level of a change twice": (
        lambda found: again(estimate(found, **about(found))["intervals"]),
        "an interval of the change: .* is narrower than one of a lower level; do not trust it",
    ),
    "model": (
        lambda found: found["model"].update(name="digits", version="2"),
        "it says version '2' of 'digits' of the model 'features:candidate.npz'; do not trust it",
    ),
    "baseline": (
        lambda found: found["baseline"].update(name="digits", version="2"),
        "it says version '2' of 'digits' of the model 'features:champion.npz'; do not trust it",
    ),
    "no number": (
        lambda found: result(found).update(value=None, interval=None),
        "rule 'rank' failed without a finite value and interval",
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_contradicts_another_part_is_not_trusted(edit: str) -> None:
    change, message = EDITS[edit]
    document = recorded("compared")
    change(document)
    with pytest.raises(GateError, match=message):
        validate(document)


@pytest.mark.parametrize("edit", EDITS)
def test_a_backtest_that_reads_less_of_it_trusts_it_no_more(edit: str) -> None:
    """It reads the intervals of two levels, and of those only what a rule or a result asks for."""
    change, message = EDITS[edit]
    document = recorded("compared")
    change(document)
    metrics = frozenset(each["metric"] for each in document["results"])
    with pytest.raises(GateError, match=message):
        bundles.document(json.dumps(document).encode(), Asked(metrics, frozenset({0.95, 0.99})))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda found: moved(estimate(found, **about(found)), 1.0), "has the value .* is no estimate of the change"),
        (lambda found: widened(estimate(found, **about(found))), "has the interval .* is no estimate of the change"),
        (
            lambda found: moved(estimate(found, **about(found) | {"of": "baseline"}), 1.0),
            "has the baseline .*, which is no estimate of the baseline",
        ),
    ],
)
def test_a_change_is_held_against_its_estimate_and_its_baseline(edit: Edit, message: str) -> None:
    document = recorded("compared")
    edit(document)
    with pytest.raises(GateError, match=message):
        validate(document)


def test_estimates_that_nobody_asks_for_are_not_held_against_results() -> None:
    """Their metrics are not read, so that their results have nothing to be held against."""
    document = recorded("compared")
    found = bundles.document(json.dumps(document).encode(), Asked(frozenset({"effective_rank"}), frozenset({0.95})))
    assert {each["metric"] for each in found["estimates"]} == {"effective_rank"}
    assert len(found["results"]) == len(document["results"])


def test_a_result_at_a_level_of_its_own_is_held_against_the_interval_there() -> None:
    document = recorded("compared")
    level, *ends = next(each for each in estimate(document)["intervals"] if each[0] == 0.99)
    result(document).update(confidence=level, interval=ends)
    asked = Asked(frozenset({"effective_rank"}), frozenset({0.9}))
    bundles.document(json.dumps(document).encode(), asked)
    result(document)["interval"] = [ends[0], ends[1] + 0.001]
    with pytest.raises(GateError, match="which is no estimate of the candidate: effective_rank of layer 'output'"):
        bundles.document(json.dumps(document).encode(), asked)


@pytest.mark.parametrize("name", RECORDED)
def test_every_released_document_agrees_with_itself_however_it_is_read(name: str) -> None:
    content = json.dumps(recorded(name)).encode()
    metrics = {each["metric"] for each in bundle.loads(content.decode())["results"]}
    for asked in (None, frozenset({0.95}), frozenset({0.99}), frozenset({0.5, 0.999999})):
        bundles.document(content, Asked(frozenset(metrics), asked))
    for metric in metrics:
        bundles.document(content, Asked(frozenset({metric}), frozenset({0.9})))
