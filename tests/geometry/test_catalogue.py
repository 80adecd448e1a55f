"""The catalogue: what is said of a metric is what the code does."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch

from gate.errors import MetricError
from gate.estimation import estimate, statistics_for
from gate.geometry import catalogue
from gate.geometry.influence import missing_input
from gate.geometry.registry import Metric, find, higher, lower, metric, metrics, neither
from gate.geometry.statistics import Batch, Codes, Collection, Moments, Sample, UnitClassMoments
from tests.geometry import inputs

NAMES = sorted(metrics())


class Watched(Batch):
    """Rows that note which of their columns are asked for."""

    asked: ClassVar[set[str]] = set()

    def codes(self, name: str) -> Codes | None:
        self.asked.add(name)
        return super().codes(name)

    def class_codes(self, name: str = "labels") -> Codes:
        self.asked.add(name)
        return super().class_codes(name)

    def numbers(self, name: str) -> torch.Tensor:
        self.asked.add(name)
        return super().numbers(name)

    def named(self, name: str) -> dict[str, Codes | torch.Tensor]:
        self.asked.add(name)
        return super().named(name)


def watched(n: int = 1200) -> Collection:
    given: dict[str, Any] = inputs.everything(n)
    parts = {split: given.pop(split) for split in inputs.SPLITS if split in given}
    weights, outputs = given.pop("weights", {}), inputs.NAMES_OF_CLASSES
    kinds = statistics_for(metrics().values())
    collections = []
    for split, rows in {"probe": given, **parts}.items():
        columns = dict(rows)
        features = columns.pop("features")
        ids = [str(row) for row in range(len(features))]
        about = {"split": split, "outputs": outputs, "weights": weights if split == "probe" else {}}
        flat = {name: values for name, values in columns.items() if name not in ("outputs", "seed", "ids")}
        collections.append(Collection.of(Watched.of(features, ids=ids, **about, **flat), kinds))
    return functools.reduce(Collection.merge, collections)


@pytest.fixture(scope="module")
def collection() -> Collection:
    return watched()


def watching(found: Metric) -> Metric:
    """The metric, of which only what itself asks for is noted."""

    @functools.wraps(found.function)
    def function(**arguments: Any) -> Any:
        Watched.asked.clear()
        return found.function(**arguments)

    return replace(found, function=function)


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_declares_the_columns_that_it_reads(name: str, collection: Collection) -> None:
    found = metrics()[name]
    Watched.asked.clear()
    estimate(watching(found), collection)
    entry = catalogue._entry(found)
    declared = {each.rpartition(".")[2] for each in (*entry.required, *entry.optional)}
    asked = {each.partition(".")[0] for each in Watched.asked} - {"features", "clusters"}
    more = ", ".join(sorted(asked - declared))
    assert asked <= declared, f"say so to the decorator of {name}: needs= or reads= {{{more}}}"


def test_a_column_that_is_read_and_not_declared_is_found(collection: Collection) -> None:
    def function(sample: Sample) -> Any:
        return missing_input("groups") if sample.rows.groups is None else missing_input("nothing")

    Watched.asked.clear()
    estimate(
        watching(
            replace(metrics()["near_duplicate_share"], function=function, readouts={}, statistics={"sample": Sample})
        ),
        collection,
    )
    assert Watched.asked == {"groups"}


def test_what_was_written_is_read_back() -> None:
    titles, entries = catalogue.loads(catalogue.render())
    assert {entry.name: entry for entry in entries} == {
        name: catalogue._entry(each) for name, each in metrics().items()
    }
    assert {entry.family for entry in entries} == set(titles)
    assert catalogue.render() == catalogue.render()


def made(function: Callable[..., Any], **changes: Any) -> Metric:
    return replace(metrics()["effective_rank"], function=function, name=function.__name__, **changes)


def documented(moments: Moments, *, cut: float = 1.0) -> None:
    """What it is.

    A formula
    over two lines.

    And a second paragraph: with a colon.

    Args:
        moments: Of features.
        cut: Where to cut,
            in units.

    Returns:
        Nothing: at all.
    """
    del moments, cut


def test_the_description_is_what_stands_before_the_arguments() -> None:
    entry = catalogue._entry(made(documented, params={"cut": 1.0}, ranges={"cut": (0, math.inf)}))
    assert entry.description == "A formula over two lines.\n\nAnd a second paragraph: with a colon."
    assert entry.explanations == {"cut": "Where to cut, in units."}
    assert (entry.params, entry.ranges) == ({"cut": 1.0}, {"cut": (0, math.inf)})
    assert (entry.family, entry.direction()) == ("test_catalogue", "range")


def short(moments: Moments) -> None:
    """What it is."""
    del moments


def test_a_docstring_of_one_line_has_no_description() -> None:
    assert catalogue._entry(made(short)).description == ""


def test_inputs_are_what_is_needed_and_what_more_is_read() -> None:
    class Others(Moments):
        split: ClassVar[Any] = "reference"
        needs: ClassVar[tuple[str, ...]] = ("labels",)

    found = made(
        short,
        needs=("logits",),
        reads=("groups", "head", "logits"),
        statistics={"classes": UnitClassMoments, "others": Others, "sample": Sample},
        optional=frozenset({"classes"}),
    )
    entry = catalogue._entry(found)
    assert list(entry.required) == ["logits", "reference", "reference.labels"]
    assert list(entry.optional) == ["groups", "head", "labels"]
    assert entry.required["reference.labels"] == "class of each row, for the reference rows"
    assert entry.optional["head"].startswith("the model's linear head")
    with pytest.raises(MetricError, match=r"'moods' is no column, no other rows and no tensor of the model"):
        catalogue._entry(made(short, needs=("moods",)))


@pytest.mark.parametrize("name", NAMES)
def test_every_read_out_has_a_direction_that_the_catalogue_knows(name: str) -> None:
    found, entry = metrics()[name], catalogue.load()[name]
    words = {True: "higher", False: "lower", None: "range"}
    assert list(entry.greater_is_better) == ["value", *entry.readouts] == list(found.greater_is_better)
    for address in found.addresses():
        _, readout = find(address)
        assert entry.direction(readout) == words[found.better(readout)]
    assert entry.direction() == entry.direction("value")


@pytest.mark.parametrize("name", NAMES)
def test_other_forms_of_the_value_have_its_direction(name: str) -> None:
    found = metrics()[name]
    same = [each for each, meaning in found.readouts.items() if each == "raw" or "the value itself" in meaning]
    assert {found.better(each) for each in same} <= {found.better("value")}


@pytest.mark.parametrize(
    ("address", "greater_is_better"),
    [
        ("worst_group_accuracy", True),
        ("worst_group_accuracy.gap", False),
        ("worst_class_recall.balanced_error", False),
        ("ece.nll", False),
        ("max_class_regression.poor_rich", True),
        ("mahalanobis_ood_auroc.fpr95", False),
        ("wasserstein_uniformity", False),
        ("wasserstein_uniformity.share", True),
        ("length_collapse.hf", True),
        ("token_mean_cosine.diversity", True),
        ("probe_power.detectable", False),
        ("knn_overlap.sim_mse", False),
        ("within_between_ratio", None),
        ("within_between_ratio.contamination", False),
        ("effective_rank.share", None),
        ("prediction_entropy_ratio.mean_entropy", None),
        ("dead_unit_share.active", None),
        ("mean_cosine.per_class", None),
    ],
)
def test_the_direction_of_a_read_out_is_its_own(address: str, greater_is_better: bool | None) -> None:
    found, readout = find(address)
    assert found.better(readout) is greater_is_better


def test_a_read_out_without_a_direction_is_no_metric() -> None:
    readouts: dict[str, Any] = {"up": higher("more"), "plain": "of which nothing is said", "bare": None}
    declared = metric(
        unit="x", greater_is_better=None, invariant_to=set(), paper="none", domain="always", readouts=readouts
    )

    def undirected(moments: Moments) -> torch.Tensor:
        """What it is."""
        return moments.mean.sum()

    with pytest.raises(
        MetricError, match=r"'undirected': every read-out needs a direction.*\['plain', 'bare'\].*higher"
    ):
        declared(undirected)
    assert "undirected" not in metrics()


def test_a_direction_is_said_around_the_meaning() -> None:
    assert [each("what")[:2] for each in (higher, lower, neither)] == [("what", True), ("what", False), ("what", None)]


@pytest.mark.parametrize(
    ("span", "words"),
    [
        ((0, 1), "0 to 1"),
        ((0, math.inf), "at least 0"),
        ((-math.inf, 1), "at most 1"),
        ((-math.inf, math.inf), "any number"),
    ],
)
def test_limits_are_said_in_words(span: tuple[float, float], words: str) -> None:
    assert catalogue.in_words(span) == words


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_explained_and_every_read_out_has_a_meaning(name: str) -> None:
    entry = catalogue._entry(metrics()[name])
    assert all(entry.explanations[param] for param in entry.params)
    assert all(entry.readouts.values())
    assert entry.description
    assert entry.elsewhere == inspect.cleandoc(entry.elsewhere).strip()
    assert all(low < high for low, high in entry.limits.values())
