"""The rules of a policy: bounds on a number, on its change against the baseline, and on slices of the probe set."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StrictBool, ValidationInfo, field_validator, model_validator

from gate.policy.kinds import (
    Allowance,
    Count,
    Day,
    Keys,
    Location,
    Name,
    Number,
    Parameter,
    SeveralNames,
    Severity,
    Text,
    as_faults,
)
from gate.policy.references import metric_fault, params_faults

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
            raise ValueError(f"should be at least `min`, found min {low!r} and max {high!r}")
        return high

    @property
    def bounded(self) -> bool:
        """Whether there is a bound at all."""
        return self.min is not None or self.max is not None


class Relative(Keys):
    """How far the value may move against the baseline, measured on the same rows (non-inferiority, paired)."""

    to: Literal["baseline"] = "baseline"
    """What it is compared with."""
    max_drop: Allowance | None = None
    """How far it may lie below the baseline: a number in its unit, or a percentage of the baseline's value."""
    max_rise: Allowance | None = None
    """How far it may lie above the baseline."""

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.max_drop is None and self.max_rise is None:
            raise ValueError("needs `max_drop`, `max_rise` or both, found neither")
        return self


class WorstGap(Keys):
    """How far the best and the worst slice may lie apart."""

    max: Annotated[float, Field(strict=True, ge=0)]
    """Largest allowed difference between two slices."""


class Slices(Bounds):
    """What must hold on each part of the probe set."""

    by: SeveralNames
    """The column of the probe set to cut by, or several of them; a slice is one combination of their values."""
    bounds: dict[Text, Bounds] = Field(default_factory=dict)
    """Own bounds of single slices, by value or by `column=value`, in place of `min` and `max`."""
    relative: Relative | None = None
    """How far each slice may move against the baseline."""
    worst_gap: WorstGap | None = None
    """How far slices may lie apart."""
    min_rows: Count = MIN_SLICE_ROWS
    """A slice of fewer rows is listed and not judged."""
    required: tuple[Text, ...] = ()
    """Slices that must be there with `min_rows` rows, by value or by `column=value`; else the rule is an error."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.bounded and not self.bounds and self.relative is None and self.worst_gap is None:
            raise ValueError("needs at least one of `min`, `max`, `bounds`, `relative` and `worst_gap`, found none")
        faults: list[tuple[Location, str]] = []
        for key, names in (("required", enumerate(self.required)), ("bounds", ((name, name) for name in self.bounds))):
            for place, name in names:
                if slice_of(self.by, name) is None:
                    wanted = ", ".join(f"{column}=VALUE" for column in self.by)
                    faults.append(((key, place), f"should name a slice as `{wanted}`, found {name!r}"))
        for name, bounds in self.bounds.items():
            if not bounds.bounded:
                faults.append((("bounds", name), "needs `min`, `max` or both, found neither"))
        if faults:
            raise as_faults(faults)
        return self

    def bounds_of(self, columns: tuple[tuple[str, str], ...]) -> tuple[Bounds, Location]:
        """The bounds of one slice, and where they stand."""
        for name, own in self.bounds.items():
            if slice_of(self.by, name) == columns:
                return own, ("bounds", name)
        return self, ()


def slice_of(by: tuple[str, ...], name: str) -> tuple[tuple[str, str], ...] | None:
    """Columns and values of a slice: `ja` where there is one column, else `language=ja, site=3`, in any order."""
    if len(by) == 1:
        return ((by[0], name.removeprefix(f"{by[0]}=")),)
    found = dict(part.strip().partition("=")[::2] for part in name.split(","))
    return tuple((column, found[column]) for column in by) if found.keys() == set(by) else None


class Rule(Bounds):
    """One question to one layer, and the answers that are good enough."""

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
    """`warn` turns a FAIL and an INCONCLUSIVE into a warning, never an error."""
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
    override: StrictBool = False
    """In a policy that extends another: this rule may loosen the one of the same id."""
    reason: Text | None = None
    """Why it loosens it; needed with `override`."""
    enabled: StrictBool = True
    """`false`, with `override`, switches a rule of an extended policy off; reports still list it."""

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

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.bounded and self.relative is None and self.slices is None:
            raise ValueError("a rule needs at least one of `min`, `max`, `relative` and `slices`, found none")
        if self.override and self.reason is None:
            raise ValueError("`override` needs a `reason`: why may this policy be looser than the one it extends?")
        return self
