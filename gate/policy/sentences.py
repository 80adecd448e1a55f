"""What is wrong with one value, in words: what was expected, what was found, and what to write instead."""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, get_args

from pydantic import BaseModel

from gate.policy.kinds import IN_WORDS, shown
from gate.policy.references import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic_core import ErrorDetails

    from gate.policy.kinds import Location

_EXPECTED = {
    "float_type": "a number",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "bool_type": "`true` or `false`",
    "string_type": "text",
    "tuple_type": "a list",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than_equal": "at most {le}",
}
_SWITCHES = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_OF_BLOCKS = (("rules",), ("waivers",))  # lists, but not of text
_SURELY = 0.8  # so near that it is hardly another word


def sentence(model: type[BaseModel], location: Location, detail: ErrorDetails) -> str:
    """One fault that pydantic found.

    Args:
        model: Of the whole file.
        location: Of the fault in it.
        detail: As pydantic has it.
    """
    if detail["type"] == "extra_forbidden":
        return _unknown_key(_model_at(model, location[:-1]), str(location[-1]))
    return _SENTENCES.get(detail["type"], _of_another_kind)(detail)


def _of_another_kind(detail: ErrorDetails) -> str:
    kind, value = detail["type"], detail["input"]
    expected = _EXPECTED.get(kind, "").format(**detail.get("ctx", {})) or f"something else ({detail['msg']})"
    advice = "" if isinstance(value, str) and detail["loc"][-1:] in _OF_BLOCKS else _advice(kind, value)
    return f"should be {expected}, found {shown(value)}{advice}"


def _without_keys(detail: ErrorDetails) -> str:
    return f"should hold keys with values, found {shown(detail['input'])}"


def _none_of(detail: ErrorDetails) -> str:
    allowed = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
    *others, last = (f"`{each}`" for each in allowed)
    words = f"{', '.join(others)} or {last}" if others else last
    offer = did_you_mean(str(detail["input"]), allowed) if others else ""
    return f"should be {words}, found {shown(detail['input'])}{f'.{offer}' if offer else ''}"


def _unlike_a_pattern(detail: ErrorDetails) -> str:
    pattern = detail["ctx"]["pattern"]
    return f"should be {IN_WORDS.get(pattern, f'text like {pattern}')}; found {shown(detail['input'])}"


_SENTENCES: Mapping[str, Callable[[ErrorDetails], str]] = {
    "missing": lambda _: "is required, and not there; add it",
    "fault": lambda detail: detail["msg"],
    "incomplete": lambda detail: detail["msg"],
    "value_error": lambda detail: str(detail["ctx"]["error"]),
    "model_type": _without_keys,
    "dict_type": _without_keys,
    "too_short": lambda detail: f"should have at least one entry, found {shown(detail['input'])}",
    "literal_error": _none_of,
    "string_pattern_mismatch": _unlike_a_pattern,
}


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys as a file has them, those first that it must have."""
    fields = sorted(model.model_fields.items(), key=lambda item: not item[1].is_required())
    return [field.alias or name for name, field in fields]


def _advice(kind: str, value: object) -> str:
    """What to write instead, where that is plain."""
    if kind == "string_type" and isinstance(value, bool | int | float | date):
        return "; write it in quotes"
    if kind == "tuple_type" and isinstance(value, dict):
        return "; begin each entry with `-`"
    if not isinstance(value, str):
        return ""
    if kind == "tuple_type":
        return f'; write `["{value}"]`'
    if kind == "bool_type":
        return f"; write `{_SWITCHES[value]}`" if value in _SWITCHES else _if_quoted(value, ("true", "false"))
    return _as_a_number(value) if kind in ("float_type", "int_type") else ""


def _if_quoted(text: str, allowed: tuple[str, ...]) -> str:
    return "; write it without quotes" if text.lower() in allowed else ""


def _as_a_number(text: str) -> str:
    if re.fullmatch(r"\s*[-+]?[0-9]+,[0-9]+\s*", text):
        return "; write the decimals after a point"
    if re.fullmatch(r"\s*[-+]?[0-9.]+\s?%\s*", text):
        return "; percentages are for `max_drop` and `max_rise`"
    if text.lower() in ("none", "null", "nil", "no"):
        return "; leave the key out for none"
    try:
        float(text)
    except ValueError:
        return ""
    return "; write it without quotes"


def _unknown_key(model: type[BaseModel], key: str) -> str:
    keys = keys_of(model)
    inside = [name for name, field in model.model_fields.items() if key in _keys_inside(field.annotation)]
    below = f" It belongs under {' or '.join(f'`{name}`' for name in inside)}." if inside else ""
    offer = did_you_mean(key, keys, cutoff=_SURELY) or below or did_you_mean(key, keys)
    return f"there is no key `{key}`." + (offer or f" The keys here are: {', '.join(keys)}.")


def _keys_inside(annotation: object) -> list[str]:
    inner = _model_in(annotation)
    return keys_of(inner) if inner else []


def _model_at(model: type[BaseModel], location: Location) -> type[BaseModel]:
    """The model whose keys stand at `location`; list indexes and names of layers stay in the model they index."""
    for part in location:
        field = model.model_fields.get(str(part))
        model = (_model_in(field.annotation) if field else None) or model
    return model


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)
