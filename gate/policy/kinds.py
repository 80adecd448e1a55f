"""What a value of a policy may be: strict numbers, margins, dates, names. `bool` and text are not numbers."""

from __future__ import annotations

from datetime import date, datetime
from re import fullmatch
from sys import float_info
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypeGuard, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

MOST_ROWS = 1_000_000  # in one batch
LARGEST_SEED = 2**63 - 1  # of a generator
SHORTEST_REASON = 10  # of a waiver, in characters

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
TEXT = r"\S"
VERSION = r"^\S+$"
DIGEST = r"^sha256:[0-9a-f]{64}$"
DURATION = r"^[1-9]\d{0,5}[smh]$"
SECONDS = {"s": 1, "m": 60, "h": 3600}
AGE = r"^[1-9]\d{0,4}[mhd]$"
MEMORY = r"^[1-9]\d{0,5}(\.\d+)?[MGT]B$"
BYTES = {"MB": 10**6, "GB": 10**9, "TB": 10**12}
ONE_MODEL = r"^(models:/[^/@*?]+/[1-9][0-9]*|sha256:[0-9a-f]{64})$"
PERCENT = r"^[0-9]+(\.[0-9]+)?\s?%$"
IN_WORDS = {
    NAME: "a name of letters, digits, `.`, `_` and `-` that begins with a letter or a digit",
    TEXT: "text that is not empty",
    VERSION: 'a version without spaces, such as "1.0.0"',
    DIGEST: "`sha256:` and 64 hexadecimal digits in lower case",
    ONE_MODEL: "one version, `models:/NAME/VERSION`, or the digest of its files, `sha256:…`, and no pattern or alias",
    PERCENT: "a percentage such as `5%`",
    DURATION: "a duration such as `90s`, `20m` or `2h`",
    AGE: "an age such as `30d`, `12h` or `90m`",
    MEMORY: "an amount of memory such as `8GB` or `512MB`",
}  # pattern → what it asks for

_LONGEST = 80  # of a value in a message

Location = tuple[str | int, ...]
Severity = Literal["block", "warn"]


def _some(schema: dict[str, Any], keys: type[Any]) -> None:
    if keys.some_of:
        schema["anyOf"] = [{"required": [key]} for key in keys.some_of]


class Keys(BaseModel):
    """A closed set of keys, each with a description."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, json_schema_extra=_some
    )

    some_of: ClassVar[tuple[str, ...]] = ()  # at least one of these must be given

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if self.some_of and all(getattr(self, key) in (None, {}) for key in self.some_of):
            *others, last = (f"`{key}`" for key in self.some_of)
            raise incomplete(f"needs at least one of {', '.join(others)} and {last}, found none")
        return self


class Margin(NamedTuple):
    """How far a value may lie from the baseline's: an absolute amount, or a percentage of the baseline's value."""

    amount: float
    percent: bool

    def of(self, baseline: float) -> float:
        """The margin in the unit of the value."""
        return self.amount / 100 * abs(baseline) if self.percent else self.amount

    def __str__(self) -> str:
        return f"{self.amount:.12g}{'%' if self.percent else ''}"


def shown(value: object) -> str:
    """A value as it stands in a file, short enough for a message."""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value) if isinstance(value, date) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def as_faults(faults: list[tuple[Location, str]]) -> ValidationError:
    """Faults that one validator found, each with its place."""
    details = [
        InitErrorDetails(type=PydanticCustomError("fault", "{text}", {"text": text}), loc=loc, input=None)
        for loc, text in faults
    ]
    return ValidationError.from_exception_data("policy", details)


def incomplete(message: str) -> PydanticCustomError:
    """A fault that another file, to which this one only adds, may make good."""
    return PydanticCustomError("incomplete", "{text}", {"text": message})


def _finite(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= float_info.max


def _margin(value: object) -> object:
    if isinstance(value, Margin):
        return value
    percent = isinstance(value, str) and fullmatch(PERCENT, value) is not None
    amount = float(str(value).rstrip("% ")) if percent else value
    if not _finite(amount) or amount < 0:
        raise ValueError(f"should be a number of at least 0, or a percentage such as `5%`; found {shown(value)}")
    return Margin(float(amount), percent)


def _day(value: object) -> object:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        if isinstance(value, str) and fullmatch(r"\d{4}-\d{2}-\d{2}", value):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise ValueError(f"should be a day such as 2027-01-31, found {shown(value)}")


def _batch_size(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_ROWS):
        return value
    raise ValueError(f"should be `auto` or a whole number of rows, from 1 to {MOST_ROWS}; found {shown(value)}")


def _duration(value: object) -> object:
    if isinstance(value, str) and fullmatch(DURATION, value):
        return value
    raise ValueError(f"should be a duration such as `90s`, `20m` or `2h`, found {shown(value)}")


def _memory(value: object) -> object:
    if value is None or (isinstance(value, str) and fullmatch(MEMORY, value)):
        return value
    raise ValueError(f"should be an amount of memory such as `8GB` or `512MB`, found {shown(value)}")


def _column_names(value: object) -> object:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"should be the name of a column, or a list of such names; found {shown(value)}")
    if not names or len(set(names)) != len(names):
        raise ValueError(f"should name at least one column, and none of them twice; found {shown(value)}")
    return value if isinstance(value, str) else tuple(names)


def _several_names(value: object) -> object:
    names = _column_names(value)
    return (names,) if isinstance(names, str) else names


def _any_names(value: object) -> object:
    return value if value == () else _several_names(value)  # as a policy has it in which there are none


def _optional_column_names(value: object) -> object:
    return None if value is None else _column_names(value)


def _optional_several_names(value: object) -> object:
    return None if value is None else _several_names(value)


def _without_password(uri: str) -> str:
    user, at, _ = uri.partition("://")[2].partition("/")[0].rpartition("@")
    if at and ":" in user:
        raise ValueError(
            "holds a password, and every check keeps the policy in its evidence; give credentials in the environment, "
            "or the whole address with --probe"
        )
    return uri


def _columns_by_name(value: object) -> object:
    if isinstance(value, dict):
        if value and all(isinstance(each, str) and each for item in value.items() for each in item):
            return value
        raise ValueError(f"should give each name a column, found {shown(value)}")
    return None if value is None else {name: name for name in cast("tuple[str, ...]", _several_names(value))}


def _parameter(value: object) -> object:
    if isinstance(value, str) or _finite(value):
        return value
    raise ValueError(f"should be a finite number or text, found {shown(value)}")


def _explained(reason: str) -> str:
    if len(reason.strip()) < SHORTEST_REASON:
        raise ValueError(f"should say why in at least {SHORTEST_REASON} characters, found {shown(reason)}")
    return reason


def _has_a_reason(override: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - the value of the key
    if override and "reason" in info.data and info.data["reason"] is None:
        raise ValueError("needs a `reason` beside it: why may this policy be looser than the one it extends?")
    return override


def not_yet(*values: str, known: str) -> BeforeValidator:
    """Refuses values that a later version will understand, by name, with those that are known."""

    def refuse(value: object) -> object:
        if isinstance(value, str) and value in values:
            raise ValueError(f"{value!r} is not supported yet; there are: {known}")
        return value

    return BeforeValidator(refuse)


_TEXTS: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "uniqueItems": True},
    ]
}
_TEXTS_BY_NAME: dict[str, Any] = {
    "anyOf": [
        *_TEXTS["anyOf"],
        {"type": "object", "additionalProperties": {"type": "string", "minLength": 1}, "minProperties": 1},
    ]
}
_MARGIN: dict[str, Any] = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": PERCENT}]}
_BATCH_SIZE = {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": MOST_ROWS}]}

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=1)]
Parameter = Annotated[float | int | str, BeforeValidator(_parameter)]
Name = Annotated[str, StringConstraints(pattern=NAME)]
Text = Annotated[str, StringConstraints(pattern=TEXT)]
Duration = Annotated[str, BeforeValidator(_duration), Field(json_schema_extra={"pattern": DURATION})]
Memory = Annotated[str, BeforeValidator(_memory), Field(json_schema_extra={"pattern": MEMORY})]
Address = Annotated[str, StringConstraints(pattern=TEXT), AfterValidator(_without_password)]
Digest = Annotated[str, StringConstraints(pattern=DIGEST)]
Reason = Annotated[str, AfterValidator(_explained), Field(json_schema_extra={"minLength": SHORTEST_REASON})]
Permission = Annotated[StrictBool, AfterValidator(_has_a_reason)]  # stands after `reason` in its model
Day = Annotated[date, BeforeValidator(_day)]
Allowance = Annotated[Margin, BeforeValidator(_margin), WithJsonSchema(_MARGIN)]
BatchSize = Annotated[int | Literal["auto"], BeforeValidator(_batch_size), WithJsonSchema(_BATCH_SIZE)]
ColumnNames = Annotated[str | tuple[str, ...], BeforeValidator(_column_names), WithJsonSchema(_TEXTS)]
OptionalColumnNames = Annotated[
    str | tuple[str, ...] | None, BeforeValidator(_optional_column_names), WithJsonSchema(_TEXTS)
]
ColumnsByName = Annotated[dict[str, str] | None, BeforeValidator(_columns_by_name), WithJsonSchema(_TEXTS_BY_NAME)]
SeveralNames = Annotated[tuple[str, ...], BeforeValidator(_several_names), WithJsonSchema(_TEXTS)]
OptionalSeveralNames = Annotated[
    tuple[str, ...] | None, BeforeValidator(_optional_several_names), WithJsonSchema(_TEXTS)
]
AnyNames = Annotated[tuple[str, ...], BeforeValidator(_any_names), WithJsonSchema(_TEXTS)]
