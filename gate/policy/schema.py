"""The keys of a policy file, and what each of them may hold.

Keys are closed sets, numbers are strict (`bool` and text are not numbers, infinity is not a bound), and a key that a
later version will understand is refused by name: a bound that is ignored is a bound that passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from sys import float_info
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from gate.policy.references import conflicts, input_faults, metric_fault, params_faults

if TYPE_CHECKING:
    from gate.policy.reading import Location

MOST_ROWS = 1_000_000  # in one batch
LARGEST_SEED = 2**63 - 1  # of a generator
MOST_CONFIDENCE = 0.9999  # an interval of more says little, and the quantile of 1 is infinite

Severity = Literal["block", "warn"]
Pooling = Literal["none", "mean", "cls", "last", "max", "flatten", "spatial_mean"]


def _later(*values: str) -> BeforeValidator:
    def refuse(value: object) -> object:
        if isinstance(value, str) and value in values:
            raise ValueError(f"{value!r} is not supported yet")
        return value

    return BeforeValidator(refuse)


def _batch_size(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_ROWS):
        return value
    raise ValueError(f"should be `auto` or a whole number of rows, from 1 to {MOST_ROWS}; found {value!r}")


def _column_names(value: object) -> object:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"should be the name of a column, or a list of such names; found {value!r}")
    if not names or len(set(names)) != len(names):
        raise ValueError(f"should name at least one column, and none of them twice; found {value!r}")
    return value if isinstance(value, str) else tuple(names)


def _optional_column_names(value: object) -> object:
    return None if value is None else _column_names(value)


def _parameter(value: object) -> object:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= float_info.max:
        return value
    raise ValueError(f"should be a finite number or text, found {value!r}")


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=1)]
Parameter = Annotated[float | int | str, BeforeValidator(_parameter)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Text = Annotated[str, StringConstraints(pattern=r"\S")]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class _Keys(BaseModel):
    """A closed set of keys; `later` names those that are refused until a later version reads them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    later: ClassVar[frozenset[str]] = frozenset()


class Metadata(_Keys):
    """What the policy is called, and whose it is."""

    name: Name
    version: Annotated[str, StringConstraints(pattern=r"^\S+$")]  # in quotes: YAML reads a bare 3.10 as 3.1
    owner: Text | None = None
    description: Text | None = None


class Columns(_Keys):
    """Which columns of the probe set hold what."""

    input: Annotated[str | tuple[str, ...], BeforeValidator(_column_names)]
    label: Text | None = None
    group: Text | None = None
    length: Text | None = None
    id: Text | None = None
    cluster: Text | None = None  # rows of one are not independent: intervals widen
    sublabel: Text | None = None
    target: Annotated[str | tuple[str, ...] | None, BeforeValidator(_optional_column_names)] = None

    @property
    def given(self) -> frozenset[str]:
        """The keys that name a column."""
        return frozenset(key for key, name in self if name is not None)


class Probe(_Keys):
    """The fixed inputs that the model is shown."""

    later: ClassVar[frozenset[str]] = frozenset({"expectations"})

    uri: Text
    columns: Columns
    digest: Digest | None = None  # a probe set with another content is an error
    shape: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None  # of one input row


class Run(_Keys):
    """How the model is run."""

    later: ClassVar[frozenset[str]] = frozenset({"timeout"})

    seed: Annotated[int, Field(strict=True, ge=0, le=LARGEST_SEED)] = 0
    precision: Annotated[Literal["float32"], _later("float64", "float16", "bfloat16")] = "float32"
    batch_size: Annotated[int | Literal["auto"], BeforeValidator(_batch_size)] = "auto"
    allow_pickle: StrictBool = False
    isolation: Annotated[Literal["none"], _later("process")] = "none"


class Layer(_Keys):
    """Where features are read: a `named_modules()` path, `input` or `output`."""

    path: Text
    pooling: Pooling = "none"


class Defaults(_Keys):
    """What holds for every rule that does not say otherwise."""

    later: ClassVar[frozenset[str]] = frozenset({"multiplicity"})

    confidence: Annotated[float, Field(strict=True, gt=0.5, le=MOST_CONFIDENCE)] = 0.95  # two-sided level
    inconclusive: Annotated[Literal["block"], _later("warn", "pass")] = "block"
    severity: Severity = "block"


class Rule(_Keys):
    """One bound on one read-out of one layer; both bounds are inclusive."""

    later: ClassVar[frozenset[str]] = frozenset({"relative", "slices", "enforce_from", "docs"})

    id: Name
    metric: str
    layer: str = "output"
    min: Number | None = None
    max: Number | None = None
    severity: Severity = "block"
    why: Text | None = None
    fix: Text | None = None
    params: dict[str, Parameter] = {}

    @field_validator("metric")
    @classmethod
    def _is_in_the_catalogue(cls, metric: str) -> str:
        if fault := metric_fault(metric):
            raise ValueError(fault)
        return metric

    @field_validator("max")
    @classmethod
    def _is_not_below_min(cls, high: float | None, info: ValidationInfo) -> float | None:
        low = info.data.get("min")
        if high is not None and low is not None and not low <= high:
            raise ValueError(f"should be at least `min`, found min {low!r} and max {high!r}")
        return high

    @field_validator("params")
    @classmethod
    def _belong_to_the_metric(
        cls, params: dict[str, float | int | str], info: ValidationInfo
    ) -> dict[str, float | int | str]:
        metric = info.data.get("metric")
        faults = params_faults(metric, params) if metric else []
        if faults:
            raise _as_validation_error(faults)
        return params

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a rule needs `min`, `max` or both, found neither")
        return self


class Policy(_Keys):
    """A whole policy file."""

    later: ClassVar[frozenset[str]] = frozenset({"extends", "scope", "baseline", "waivers"})

    api_version: Literal["gate/v1"] = Field(alias="apiVersion")
    kind: Literal["Policy"]
    metadata: Metadata
    probe: Probe | None = None
    run: Run = Run()
    layers: dict[Name, Layer] = {}
    defaults: Defaults = Defaults()
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _hand_down_the_severity(cls, data: object) -> object:
        """Give `defaults.severity` to the rules that name none."""
        defaults = data.get("defaults") if isinstance(data, Mapping) else None
        severity = defaults.get("severity") if isinstance(defaults, Mapping) else None
        if not isinstance(data, Mapping) or severity not in ("block", "warn"):
            return data
        rules = data.get("rules")
        if not isinstance(rules, list | tuple):
            return data
        filled = [{"severity": severity, **rule} if isinstance(rule, Mapping) else rule for rule in rules]
        return {**data, "rules": filled}

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        columns = None if self.probe is None else self.probe.columns.given
        faults = conflicts(self.layers, [(rule.id, rule.layer) for rule in self.rules])
        faults += input_faults(columns, [rule.metric for rule in self.rules])
        if faults:
            raise _as_validation_error(faults)
        return self


def _as_validation_error(faults: Iterable[tuple[Location, str]]) -> ValidationError:
    details = [
        InitErrorDetails(type=PydanticCustomError("fault", "{text}", {"text": text}), loc=loc, input=None)
        for loc, text in faults
    ]
    return ValidationError.from_exception_data("policy", details)
