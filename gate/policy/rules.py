"""The rules of a policy: bounds on a number, on its change against the baseline, and on slices of the probe set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, StrictBool, ValidationInfo, field_validator

from gate.policy.kinds import (
    Allowance,
    Count,
    Day,
    Keys,
    Location,
    Name,
    Number,
    Parameter,
    Permission,
    SeveralNames,
    Severity,
    Text,
    as_faults,
)
from gate.policy.references import metric_fault, needs_baseline, params_faults

if TYPE_CHECKING:
    from collections.abc import Mapping

MIN_SLICE_ROWS = 30  # below it, hardly an interval is worth having


class Bounds(Keys):
    """Where a number must lie; both ends are inclusive, and the whole interval is judged."""

    min: Number | None = None
    """Smallest allowed value."""
    max: Number | None = None
    """Largest allowed value."""

    @field_validator("max")
    @classmethod
    def _is_not_below_min(cls, high: float | None, info: ValidationInfo) -> float | None:
        low = info.data.get("min")
        if high is not None and low is not None and not low <= high:
            raise ValueError(f"should be at least `min`, found min {low:.12g} and max {high:.12g}")
        return high

    @property
    def bounded(self) -> bool:
        """Whether there is a bound at all."""
        return self.min is not None or self.max is not None


class Relative(Keys):
    """How far the value may move against the baseline, measured on the same rows (non-inferiority, paired)."""

    some_of: ClassVar[tuple[str, ...]] = ("max_drop", "max_rise")

    to: Literal["baseline"] = "baseline"
    """What it is compared with."""
    max_drop: Allowance | None = None
    """How far it may lie below the baseline: a number in its unit, or a percentage of the baseline's value."""
    max_rise: Allowance | None = None
    """How far it may lie above the baseline."""


class WorstGap(Keys):
    """How far the best and the worst slice may lie apart."""

    max: Annotated[float, Field(strict=True, ge=0)]
    """Largest allowed difference between two slices."""


class OwnBounds(Bounds):
    """Where the number of one slice must lie."""

    some_of: ClassVar[tuple[str, ...]] = ("min", "max")


class Slices(Bounds):
    """What must hold on each part of the probe set."""

    some_of: ClassVar[tuple[str, ...]] = ("min", "max", "bounds", "relative", "worst_gap")

    by: SeveralNames
    """The column of the probe set to cut by, or several of them; a slice is one combination of their values."""
    bounds: dict[Text, OwnBounds] = Field(default_factory=dict)
    """Own bounds of single slices, by value or by `column=value`, in place of `min` and `max`."""
    relative: Relative | None = None
    """How far each slice may move against the baseline."""
    worst_gap: WorstGap | None = None
    """How far slices may lie apart."""
    min_rows: Count = MIN_SLICE_ROWS
    """A slice of fewer rows is listed and not judged."""
    required: tuple[Text, ...] = ()
    """Slices that must be there with `min_rows` rows, by value or by `column=value`; else the rule is an error."""

    @field_validator("bounds")
    @classmethod
    def _are_of_slices(cls, bounds: dict[str, OwnBounds], info: ValidationInfo) -> dict[str, OwnBounds]:
        if faults := _misnamed(info.data.get("by"), {name: name for name in bounds}):
            raise as_faults(faults)
        return bounds

    @field_validator("required")
    @classmethod
    def _are_slices(cls, required: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if faults := _misnamed(info.data.get("by"), dict(enumerate(required))):
            raise as_faults(faults)
        return required

    def bounds_of(self, columns: tuple[tuple[str, str], ...]) -> tuple[Bounds, Location]:
        """The bounds of one slice, and where they stand."""
        for name, own in self.bounds.items():
            if slice_of(self.by, name) == columns:
                return own, ("bounds", name)
        return self, ()


def _misnamed(by: tuple[str, ...] | None, names: Mapping[int, str] | Mapping[str, str]) -> list[tuple[Location, str]]:
    """Names that stand for no slice, or for one that an earlier name stands for; none where `by` itself is wrong."""
    faults: list[tuple[Location, str]] = []
    first: dict[object, str] = {}
    for place, name in names.items() if by else ():
        found = slice_of(by or (), name)
        if found is None:
            wanted = ", ".join(f"{column}=VALUE" for column in by or ())
            faults.append(((place,), f"should name a slice as `{wanted}`, found {name!r}"))
        elif first.setdefault(found, name) != name:
            faults.append(((place,), f"{name!r} is the slice {first[found]!r} once more; keep one of the two"))
    return faults


def slice_of(by: tuple[str, ...], name: str) -> tuple[tuple[str, str], ...] | None:
    """Columns and values of a slice: `ja` where there is one column, else `language=ja, site=3`, in any order."""
    if len(by) == 1:
        return ((by[0], name.removeprefix(f"{by[0]}=")),)
    found = dict(part.strip().partition("=")[::2] for part in name.split(","))
    once = name.count(",") + 1 == len(by)
    return tuple((column, found[column]) for column in by) if once and found.keys() == set(by) else None


class Rule(Bounds):
    """One question to one layer, and the answers that are good enough."""

    some_of: ClassVar[tuple[str, ...]] = ("min", "max", "relative", "slices")

    id: Name
    """Unique in the policy; the name of the rule everywhere."""
    metric: str
    """A metric, or METRIC.READOUT; `gate metrics` lists them."""
    layer: str = "output"
    """A name under `layers`, or `input` or `output` of the whole model."""
    relative: Relative | None = None
    """How far the value may move against the baseline."""
    slices: Slices | None = None
    """What must hold on each part of the probe set."""
    severity: Severity = "block"
    """`warn` turns a FAIL and an INCONCLUSIVE into a warning, never an error; where it is left out, `defaults` say."""
    enforce_from: Day | None = None
    """Until this day (UTC) the rule only warns; from then on its severity counts."""
    params: dict[str, Parameter] = Field(default_factory=dict)
    """Parameters of the metric, in place of their defaults."""
    why: Text | None = None
    """What breaks outside the bounds, in plain words; every report repeats it."""
    fix: Text | None = None
    """What to do then."""
    paper: Text | None = None
    """Where the metric, or the reasoning, comes from."""
    docs: Text | None = None
    """Where to read on."""
    reason: Text | None = None
    """Why it is looser than the one of the same id in a policy that this one extends; needed with `override`."""
    override: Permission = False
    """Lets it be looser."""
    enabled: StrictBool = True
    """`false`, with `override`, switches a rule of an extended policy off; reports still list it."""

    @property
    def compares(self) -> bool:
        """Whether it asks anything of the baseline."""
        return self.is_relative or needs_baseline(self.metric)

    @property
    def is_relative(self) -> bool:
        """Whether it bounds a change, of all rows or of slices."""
        return self.relative is not None or (self.slices is not None and self.slices.relative is not None)

    @field_validator("metric")
    @classmethod
    def _is_in_the_catalogue(cls, metric: str) -> str:
        if fault := metric_fault(metric):
            raise ValueError(fault)
        return metric

    @field_validator("params")
    @classmethod
    def _belong_to_the_metric(
        cls, params: dict[str, float | int | str], info: ValidationInfo
    ) -> dict[str, float | int | str]:
        metric = info.data.get("metric")
        faults = params_faults(metric, params) if metric else []
        if faults:
            raise as_faults(faults)
        return params
