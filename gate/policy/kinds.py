"""What a value of a policy may be: strict numbers, margins, dates, names. `bool` and text are not numbers."""

from __future__ import annotations

from datetime import date, datetime
from math import isfinite
from re import fullmatch
from sys import float_info
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, WithJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

MOST_ROWS = 1_000_000  # in one batch
LARGEST_SEED = 2**63 - 1  # of a generator
_PERCENT = r"\d+(\.\d+)?\s?%"

Location = tuple[str | int, ...]
Severity = Literal["block", "warn"]


class Keys(BaseModel):
    """A closed set of keys, each with a description."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Margin(NamedTuple):
    """How far a value may lie from the baseline's: an absolute amount, or a percentage of the baseline's value."""

    amount: float
    percent: bool

    def of(self, baseline: float) -> float:
        """The margin in the unit of the value."""
        return self.amount / 100 * abs(baseline) if self.percent else self.amount

    def __str__(self) -> str:
        return f"{self.amount:.12g}{'%' if self.percent else ''}"


def as_faults(faults: list[tuple[Location, str]]) -> ValidationError:
    """Faults that one validator found, each with its place."""
    details = [
        InitErrorDetails(type=PydanticCustomError("fault", "{text}", {"text": text}), loc=loc, input=None)
        for loc, text in faults
    ]
    return ValidationError.from_exception_data("policy", details)


def _margin(value: object) -> object:
    if isinstance(value, Margin):
        return value
    percent = isinstance(value, str) and fullmatch(_PERCENT, value) is not None
    amount = float(str(value).rstrip("% ")) if percent else value
    if not isinstance(amount, int | float) or isinstance(amount, bool) or not isfinite(amount) or amount < 0:
        raise ValueError(f"should be a number of at least 0, or a percentage such as `5%`; found {value!r}")
    return Margin(float(amount), percent)


def _date(value: object) -> object:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        return value
    raise ValueError(f"should be a date such as 2027-01-31, found {str(value)!r}")


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


def _several_names(value: object) -> object:
    names = _column_names(value)
    return (names,) if isinstance(names, str) else names


def _optional_column_names(value: object) -> object:
    return None if value is None else _column_names(value)


def _parameter(value: object) -> object:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= float_info.max:
        return value
    raise ValueError(f"should be a finite number or text, found {value!r}")


def not_yet(*values: str) -> BeforeValidator:
    """Refuses values that a later version will understand, by name."""

    def refuse(value: object) -> object:
        if isinstance(value, str) and value in values:
            raise ValueError(f"{value!r} is not supported yet")
        return value

    return BeforeValidator(refuse)


_TEXTS: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "uniqueItems": True},
    ]
}
_MARGIN: dict[str, Any] = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": f"^{_PERCENT}$"}],
}

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=1)]
Parameter = Annotated[float | int | str, BeforeValidator(_parameter)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Text = Annotated[str, StringConstraints(pattern=r"\S")]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Day = Annotated[date, BeforeValidator(_date)]
Allowance = Annotated[Margin, BeforeValidator(_margin), WithJsonSchema(_MARGIN)]
BatchSize = Annotated[
    int | Literal["auto"],
    BeforeValidator(_batch_size),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": MOST_ROWS}]}),
]
ColumnNames = Annotated[str | tuple[str, ...], BeforeValidator(_column_names), WithJsonSchema(_TEXTS)]
OptionalColumnNames = Annotated[
    str | tuple[str, ...] | None, BeforeValidator(_optional_column_names), WithJsonSchema(_TEXTS)
]
SeveralNames = Annotated[tuple[str, ...], BeforeValidator(_several_names), WithJsonSchema(_TEXTS)]
