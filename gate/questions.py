"""What the rules of a policy ask, and the answers: where to read, what to keep of it, and the estimates that follow."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from gate.errors import MetricError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gate.estimate import Estimate
    from gate.features import LayerAddress
    from gate.geometry.statistics import Collection, Statistic
    from gate.models.baseline import Absent
    from gate.models.finding import FoundModel
    from gate.policy.reads import Layer, Place
    from gate.policy.rules import Rule
    from gate.policy.schema import Policy
    from gate.pooling import Pooling
    from gate.verdict import Measurements, Question, Slice

By = tuple[str, ...]  # the columns of the probe set by which it is cut
_FEATURES = "features"
_OF_STEPS = "token_mean_cosine.layer_overlap"


class Part(NamedTuple):
    """Some rows as one model represents them."""

    layer: str
    of: Literal["candidate", "baseline"] = "candidate"
    slice: Slice = ()


@dataclass(frozen=True)
class Plan:
    """Where to read what.

    Attributes:
        layers: Name → address of every layer that a rule is about.
        baseline_layers: Those of the baseline that something is compared with.
        reads: Column → address of what metrics read of the model besides features.
        baseline_reads: Those of the baseline that something is compared with.
        weights: Name → layer, of those whose weights metrics read.
        baseline_weights: Those of the baseline that something is compared with.
        second_view: Whether a metric reads the second view of each row.
        classes: What the columns of logits stand for; empty where nobody says.
        cuts: Layer → the columns by which its rows are cut into slices.
        baseline_cuts: Those of the baseline that something is compared with.
        rules: Of the policy, without those that are switched off.
    """

    layers: Mapping[str, LayerAddress]
    baseline_layers: Mapping[str, LayerAddress]
    reads: Mapping[str, LayerAddress]
    baseline_reads: Mapping[str, LayerAddress]
    weights: Mapping[str, str]
    baseline_weights: Mapping[str, str]
    second_view: bool
    classes: tuple[str, ...]
    cuts: Mapping[str, tuple[By, ...]]
    baseline_cuts: Mapping[str, tuple[By, ...]]
    rules: tuple[Rule, ...]

    @property
    def reads_described(self) -> dict[str, dict[str, Any]]:
        """What is read besides features, as evidence keeps it: path and pooling, of logits the classes as well."""
        found = {name: asdict(where) for name, where in self.reads.items()}
        found |= {name: {"path": path, "pooling": "weights"} for name, path in self.weights.items()}
        return found | ({"logits": found["logits"] | {"classes": list(self.classes)}} if "logits" in found else {})

    @property
    def compares(self) -> bool:
        """Whether anything is compared with a baseline."""
        return bool(self.baseline_layers or self.baseline_reads)

    @property
    def tags(self) -> tuple[str, ...]:
        """Every column by which rows are cut, once."""
        return tuple(dict.fromkeys(column for cuts in self.cuts.values() for by in cuts for column in by))


def plan(policy: Policy) -> Plan:
    """What a policy needs to be read."""
    from gate.features import LayerAddress

    rules = tuple(rule for rule in policy.rules if rule.enabled)
    own = {} if policy.baseline is None else policy.baseline.layers
    names = dict.fromkeys(rule.layer for rule in rules)
    reads = {name: LayerAddress(*_with_steps(place, rules)) for name, place in policy.reads.places.items()}
    compared = {(rule.layer, column) for rule in rules for column in _of_the_baseline(rule) if policy.baseline}
    columns = {column for _, column in compared}
    return Plan(
        layers={name: _address(policy.layers.get(name), name) for name in names},
        baseline_layers={
            name: _address(own.get(name) or policy.layers.get(name), name)
            for name in names
            if (name, _FEATURES) in compared
        },
        reads=reads,
        baseline_reads={name: where for name, where in reads.items() if name.partition(".")[0] in columns},
        weights=policy.reads.weights,
        baseline_weights={name: path for name, path in policy.reads.weights.items() if name in columns},
        second_view=any("shifted" in _inputs(rule) for rule in rules) and _has_pairs(policy),
        classes=() if policy.reads.logits is None else policy.reads.logits.classes,
        cuts=_cuts(rules),
        baseline_cuts=_cuts(rule for rule in rules if rule.slices is not None and rule.slices.relative is not None),
        rules=rules,
    )


def _with_steps(place: Place, rules: Iterable[Rule]) -> tuple[str, Pooling]:
    """Where something is read: of tokens with the steps between layers, which are dear, where a rule asks for them."""
    steps = place.pooling == "token_terms" and any(rule.metric == _OF_STEPS for rule in rules)
    return place.path, cast("Pooling", "token_steps" if steps else place.pooling)


def _inputs(rule: Rule) -> tuple[str, ...]:
    """What a rule may read."""
    from gate.geometry import catalogue

    entry, readout = catalogue.find(rule.metric)
    return entry.read_by(readout)


def _has_pairs(policy: Policy) -> bool:
    return policy.probe is not None and "pair" in policy.probe.columns.given


def _cuts(rules: Iterable[Rule]) -> dict[str, tuple[By, ...]]:
    found: dict[str, dict[By, None]] = defaultdict(dict)
    for rule in rules:
        if rule.slices is not None:
            found[rule.layer][rule.slices.by] = None
    return {layer: tuple(each) for layer, each in found.items()}


def applicable(policy: Policy) -> list[str]:
    """The metrics that what a policy gives suffices for, whatever its rules are."""
    from gate.geometry import catalogue
    from gate.policy.references import Given, input_fault

    columns = None if policy.probe is None else policy.probe.columns.given
    given = Given(columns or (), policy.reads.named, baseline=policy.baseline is not None)
    return [name for name in catalogue.load() if input_fault(name, given) is None]


def _address(layer: Layer | None, name: str) -> LayerAddress:
    from gate.features import LayerAddress

    return LayerAddress(name) if layer is None else LayerAddress(layer.path, layer.pooling)


def _of_the_baseline(rule: Rule) -> Iterator[str]:
    """What a rule reads of the baseline: features, and columns of a policy's `reads`.

    A number of two versions reads what it needs of the other one, and one that is compared with itself all that it
    reads.
    """
    from gate.geometry import catalogue
    from gate.policy.references import OF_THE_BASELINE

    entry, readout = catalogue.find(rule.metric)
    needed = entry.needed_by(readout)
    if "baseline" in needed:
        yield _FEATURES
    for name, keys in OF_THE_BASELINE.items():
        yield from keys if name in needed else ()
    if rule.is_relative:
        yield _FEATURES
        yield from entry.read_by(readout)


def _rules_about(part: Part, rules: Iterable[Rule]) -> Iterator[Rule]:
    """The rules that ask something of these rows."""
    by = tuple(column for column, _ in part.slice)
    for rule in rules:
        if rule.layer != part.layer or (by and (rule.slices is None or rule.slices.by != by)):
            continue
        relative = rule.slices.relative if by and rule.slices else rule.relative
        if part.of == "candidate" or relative is not None:
            yield rule


def kinds_of(part: Part, rules: Iterable[Rule]) -> tuple[type[Statistic], ...]:
    """What the metrics asked of these rows read, and for all rows of the candidate what its pictures are drawn from."""
    from gate.estimation import statistics_for
    from gate.geometry.registry import find
    from gate.geometry.statistics import ClassMoments, Moments

    pictures = () if part.slice or part.of == "baseline" else (Moments, ClassMoments)
    asked = statistics_for(find(rule.metric)[0] for rule in _rules_about(part, rules))
    return tuple(dict.fromkeys((*pictures, *asked)))


def answers(
    rules: tuple[Rule, ...], collections: Mapping[Part, Collection], confidence: float, baseline: FoundModel | Absent
) -> Measurements:
    """The estimates of everything that the rules ask, with all read-outs of the candidate's metrics on all rows.

    Args:
        rules: Of the policy.
        collections: Statistics by part, as they were folded.
        confidence: Two-sided level of the intervals.
        baseline: What the candidate was compared with, or why it was not.

    Raises:
        MetricError: Features of a layer are not finite.
    """
    from gate.models.baseline import Absent
    from gate.verdict import Measurements

    found: dict[str, dict[Question, Estimate]] = {"candidate": {}, "baseline": {}}
    slices: dict[By, dict[Slice, int]] = defaultdict(dict)
    for part, collection in collections.items():
        _require_finite(part, collection)
        if part.slice:
            slices[tuple(column for column, _ in part.slice)][part.slice] = collection.census.n
        found[part.of] |= _estimates(part, collection, rules, confidence)
    return Measurements(
        candidate=found["candidate"],
        baseline=found["baseline"],
        changes={
            question: found["candidate"][question].minus(estimate)
            for question, estimate in found["baseline"].items()
            if question in found["candidate"]
        },
        slices=slices,
        no_baseline=baseline.reason if isinstance(baseline, Absent) else None,
    )


def _require_finite(part: Part, collection: Collection) -> None:
    try:
        for split, census in collection.censuses.items():
            census.require_finite(split=split)
    except MetricError as error:
        whose = " of the baseline" if part.of == "baseline" else ""
        raise MetricError(f"layer {part.layer!r}{whose}: {error}") from None


def _estimates(
    part: Part, collection: Collection, rules: tuple[Rule, ...], confidence: float
) -> dict[Question, Estimate]:
    from gate.estimation import estimate
    from gate.geometry.registry import VALUE, find
    from gate.verdict import Question, levels, question_of

    wanted: dict[tuple[str, tuple[tuple[str, object], ...]], set[str]] = defaultdict(set)
    for rule in _rules_about(part, rules):
        metric, readout = find(rule.metric)
        whole = part.of == "candidate" and not part.slice
        wanted[metric.name, question_of(rule).params] |= {VALUE, *metric.readouts} if whole else {readout}
    return {
        Question(part.layer, address, params, part.slice): each
        for (name, params), readouts in wanted.items()
        for address, each in estimate(
            find(name)[0],
            collection,
            confidence=confidence,
            params=_given(find(name)[0].params, params),
            readouts=sorted(readouts),
            levels=levels(confidence),
        ).items()
    }


def _given(defaults: Mapping[str, object], params: Iterable[tuple[str, object]]) -> dict[str, object]:
    """The parameters that are not at their defaults."""
    return {name: value for name, value in params if defaults[name] != value}
