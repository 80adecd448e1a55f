"""The metrics: a function becomes one by a decorator, and its annotations say what it needs."""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
import pkgutil
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Literal, NamedTuple

from torch import Tensor

from gate import geometry
from gate.errors import MetricError
from gate.geometry.influence import Readout, Refusal
from gate.geometry.statistics import Statistic

Change = Literal["translation", "scaling", "row_scaling", "rotation", "permutation", "channel_scaling", "linear_map"]
ModelKind = Literal[
    "classifier", "embedding", "backbone", "regression", "sequence", "generator", "autoencoder", "quantiser"
]
Answer = Tensor | Readout | Refusal
Answers = dict[str, Answer] | Refusal  # by read-out; a refusal is that of all of them
Later = Callable[[], Answer]  # a read-out that costs more than the value: computed when it is asked for
VALUE = "value"


@dataclass(frozen=True, eq=False)
class Metric:
    """A metric as its decorator and annotations describe it.

    Attributes:
        name: The function's name, the metric's name everywhere.
        meaning: First line of its docstring.
        unit: Of the value.
        greater_is_better: Direction of the value and of each read-out, None where a range is healthy.
        invariant_to: Changes of the features that leave the value as it is; every other one moves it.
        unasserted: Changes of which nothing is said.
        paper: Source.
        domain: When the value may decide, in words; outside it the answer is inconclusive or not applicable.
        kinds: Kinds of model that it is about, all when empty.
        limits: Smallest and largest possible value of it and of each read-out.
        readouts: Name → meaning of the read-outs besides the value.
        statistics: Parameter name → kind of statistic.
        optional: Parameters that are None when the rows lack a column.
        needs: Columns without which it is not applicable.
        readout_needs: Read-out → inputs without which that one is not applicable, the value's under "value".
        params: What a policy may set, with the default.
        ranges: Smallest and largest value of each parameter: beyond them it would no longer measure what it says.
        reads: Columns and weights that some of its read-outs read, where there are any.
        elsewhere: What other libraries compute under this name, and how this differs; empty where all agree.
    """

    name: str
    meaning: str
    function: Callable[..., Answer | Mapping[str, Answer | Later]]
    unit: str
    greater_is_better: Mapping[str, bool | None]
    invariant_to: frozenset[Change]
    unasserted: frozenset[Change]
    paper: str
    domain: str
    kinds: frozenset[ModelKind]
    limits: Mapping[str, tuple[float, float]]
    readouts: Mapping[str, str]
    statistics: Mapping[str, type[Statistic]]
    optional: frozenset[str]
    needs: tuple[str, ...]
    readout_needs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    elsewhere: str = ""

    def addresses(self) -> tuple[str, ...]:
        """Every name a policy can use for it: the metric and its read-outs."""
        return (self.name, *(f"{self.name}.{readout}" for readout in self.readouts))

    def inputs(self) -> tuple[frozenset[str], frozenset[str]]:
        """Columns, other rows and weights that it cannot do without, and those that it also reads."""
        required, optional = set(self.needs), set(self.reads)
        for name, kind in self.statistics.items():
            split = kind.split
            named = kind.needs if split == "probe" else (split, *(f"{split}.{need}" for need in kind.needs))
            (optional if name in self.optional else required).update(named)
        return frozenset(required), frozenset(optional - required)

    def better(self, readout: str) -> bool | None:
        """Whether greater is better of a read-out, "value" included; None where a range is healthy."""
        return self.greater_is_better[readout]

    def limits_of(self, readout: str) -> tuple[float, float]:
        """Smallest and largest possible value of a read-out."""
        return self.limits.get(readout, (-math.inf, math.inf))


class Number(NamedTuple):
    """A read-out besides the value, as a decorator declares it: made by `higher`, `lower` and `neither`."""

    meaning: str
    greater_is_better: bool | None
    needs: frozenset[str] = frozenset()


def higher(meaning: str, needs: Collection[str] = ()) -> Number:
    """A read-out of which a greater number is better, with the optional inputs of its metric that it needs."""
    return Number(meaning, greater_is_better=True, needs=frozenset(needs))


def lower(meaning: str, needs: Collection[str] = ()) -> Number:
    """A read-out of which a smaller number is better, with the optional inputs of its metric that it needs."""
    return Number(meaning, greater_is_better=False, needs=frozenset(needs))


def neither(meaning: str, needs: Collection[str] = ()) -> Number:
    """A read-out that can be bad at both ends, or that only describes, with the optional inputs that it needs."""
    return Number(meaning, greater_is_better=None, needs=frozenset(needs))


_registered: dict[str, Metric] = {}


def metric(  # noqa: PLR0913 - one parameter for everything that is said of a metric
    *,
    unit: str,
    greater_is_better: bool | None,
    invariant_to: set[Change],
    paper: str,
    domain: str,
    kinds: set[ModelKind] | None = None,
    unasserted: set[Change] | None = None,
    readouts: Mapping[str, Number] | None = None,
    limits: Mapping[str, tuple[float, float]] | None = None,
    needs: set[str] | None = None,
    value_needs: set[str] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    reads: set[str] | None = None,
    elsewhere: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function as the metric of its name.

    Args:
        unit: Of the value.
        greater_is_better: Direction of the value, None where a range is healthy.
        invariant_to: Changes of the features that leave the value as it is.
        paper: Source.
        domain: When the value may decide, in words.
        kinds: Kinds of model that it is about; all when None.
        unasserted: Changes of which nothing is said.
        readouts: Name → meaning of further numbers, as `higher`, `lower` or `neither`, which says their direction and
            what they need; the function then returns a dict with "value" and these, or one refusal for all of them.
        limits: Smallest and largest possible value, by read-out.
        ranges: Smallest and largest value of each parameter.
        needs: Columns that it reads from the sampled rows; those that its statistics need are known.
        value_needs: Those of its optional inputs without which the value is not applicable, though some read-out is.
        reads: Columns and weights that it reads where there are any, and does without where there are none; those of
            optional statistics are known.
        elsewhere: What other libraries compute under this name, and how this differs.

    Raises:
        MetricError: The name is taken, the docstring, an annotation, a range or a direction is missing, or a read-out
            needs what is no optional input of the metric.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__
        if name in _registered:
            raise MetricError(f"metric {name!r} is registered twice")
        if not function.__doc__:
            raise MetricError(f"metric {name!r} needs a docstring: its first line is what people read")
        statistics, optional, params = _signature(function)
        if set(params) != set(ranges or ()):
            raise MetricError(
                f"metric {name!r}: every parameter needs a range, found {sorted(ranges or ())} for {sorted(params)}"
            )
        numbers = readouts or {}
        _require_directions(name, numbers)
        needed = {VALUE: frozenset(value_needs or ())} | {each: number.needs for each, number in numbers.items()}
        found = Metric(
            name=name,
            meaning=function.__doc__.strip().splitlines()[0].rstrip("."),
            function=function,
            unit=unit,
            greater_is_better={VALUE: greater_is_better}
            | {each: number.greater_is_better for each, number in numbers.items()},
            invariant_to=frozenset(invariant_to),
            unasserted=frozenset(unasserted or ()),
            paper=paper,
            domain=domain,
            kinds=frozenset(kinds or ()),
            limits=limits or {},
            readouts={each: number.meaning for each, number in numbers.items()},
            statistics=statistics,
            optional=optional,
            needs=_needs(statistics, optional, needs or set()),
            readout_needs={each: some for each, some in needed.items() if some},
            params=params,
            ranges=ranges or {},
            reads=tuple(sorted(reads or ())),
            elsewhere=elsewhere,
        )
        _require_optional(found)
        _registered[name] = found
        return function

    return register


def _require_directions(name: str, readouts: Mapping[str, object]) -> None:
    bare = [each for each, number in readouts.items() if not isinstance(number, Number)]
    if bare:
        raise MetricError(
            f"metric {name!r}: every read-out needs a direction, found none for {bare}; "
            'write higher("..."), lower("...") or neither("...") around its meaning'
        )


def _require_optional(found: Metric) -> None:
    _, optional = found.inputs()
    strange = {each: sorted(needs - optional) for each, needs in found.readout_needs.items() if needs - optional}
    if strange:
        raise MetricError(
            f"metric {found.name!r}: a read-out needs some of its optional inputs {sorted(optional)}, found {strange}; "
            "name in `reads` what the metric reads, and leave out what all of it needs"
        )


def _needs(statistics: Mapping[str, type[Statistic]], optional: frozenset[str], more: set[str]) -> tuple[str, ...]:
    kinds = (kind for name, kind in statistics.items() if name not in optional and kind.split == "probe")
    return tuple(sorted({need for kind in kinds for need in kind.needs} | more))


def _signature(function: Callable[..., Any]) -> tuple[dict[str, type[Statistic]], frozenset[str], dict[str, Any]]:
    hints = typing.get_type_hints(function)
    statistics: dict[str, type[Statistic]] = {}
    optional: set[str] = set()
    params: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            params[name] = parameter.default
            continue
        if name not in hints:
            raise MetricError(f"metric {function.__name__!r}: annotate parameter {name!r} with the statistic it reads")
        kinds = [kind for kind in typing.get_args(hints[name]) if kind is not types.NoneType] or [hints[name]]
        statistics[name] = kinds[0]
        if parameter.default is None:
            optional.add(name)
    return statistics, frozenset(optional), params


@cache
def _load_families() -> None:
    for module in pkgutil.iter_modules(geometry.__path__):
        if not module.ispkg:
            importlib.import_module(f"{geometry.__name__}.{module.name}")
    for entry in entry_points(group="gate.metrics"):
        entry.load()


def metrics() -> Mapping[str, Metric]:
    """All metrics by name: those of this package and those that other packages add."""
    _load_families()
    return dict(sorted(_registered.items()))


def find(address: str) -> tuple[Metric, str]:
    """The metric and read-out of an address `id` or `id.readout`.

    Raises:
        MetricError: There is none of that name; the nearest ones are named.
    """
    known = metrics()
    name, _, readout = address.partition(".")
    if name in known and (not readout or readout == VALUE or readout in known[name].readouts):
        return known[name], readout or VALUE
    every = [name for each in known.values() for name in each.addresses()]
    near = difflib.get_close_matches(address, every, n=3, cutoff=0.4)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise MetricError(f"there is no metric {address!r}{hint}")


def _require_in_range(found: Metric, name: str, value: object) -> None:
    if name not in found.params:
        raise MetricError(f"metric {found.name!r} has no parameter {name!r}; it has {sorted(found.params)}")
    low, high = found.ranges[name]
    kind = int if isinstance(found.params[name], int) else (int, float)
    if value is not found.params[name] and (
        isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high
    ):
        whole = "a whole number" if kind is int else "a number"
        raise MetricError(f"metric {found.name!r}: {name} must be {whole} from {low:g} to {high:g}, found {value!r}")


def answers(
    found: Metric,
    arguments: Mapping[str, Statistic | None],
    params: Mapping[str, Any],
    wanted: Collection[str] | None = None,
) -> dict[str, Answer]:
    """What the metric says of some statistics, by read-out: those that are wanted, all when None.

    Raises:
        MetricError: A parameter that it does not have or may not take, or it returned other read-outs than it declares.
    """
    for name, value in params.items():
        _require_in_range(found, name, value)
    result = found.function(**arguments, **params)
    if isinstance(result, Refusal):
        result = dict.fromkeys((VALUE, *found.readouts), result)
    named = dict(result) if isinstance(result, Mapping) else {VALUE: result}
    if set(named) != {VALUE, *found.readouts}:
        raise MetricError(
            f"metric {found.name!r} returned {sorted(named)}, declared are {sorted([VALUE, *found.readouts])}"
        )
    return {
        name: answer() if callable(answer) else answer
        for name, answer in named.items()
        if wanted is None or name in wanted
    }
