"""What is wrong with the keys of a file: everything at once, each with its place and what to write instead."""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from gate.errors import Fault, PolicyError
from gate.policy.reading import nearest
from gate.policy.references import did_you_mean, policy_faults
from gate.policy.schema import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic_core import ErrorDetails

    from gate.policy.kinds import Location
    from gate.policy.merging import Written
    from gate.policy.reading import Tree

Model = TypeVar("Model", bound=BaseModel)

_LONGEST_VALUE = 80  # of a message


def validated(model: type[Model], tree: Tree, written: Written, name: str) -> Model:
    """The keys as the model has them.

    Args:
        model: What the keys should be.
        tree: Of the file, with the faults that only its text shows.
        written: The keys, merged with those of other files, and their places.
        name: Of the file.

    Raises:
        PolicyError: There are faults; all of them, in the order of their lines.
    """
    faults = faults_of(model, tree, written, name)
    if faults:
        raise PolicyError(
            tuple(sorted(faults, key=lambda fault: (fault.path, fault.line, fault.column, fault.message)))
        )
    return model.model_validate(written.value)


def faults_of(model: type[BaseModel], tree: Tree, written: Written, name: str, *, partial: bool = False) -> set[Fault]:
    """Everything that is wrong; of keys that only add to others (`partial`), what is missing is no fault."""
    faults = {Fault(name, *problem.position, _worded(problem.location, problem.message)) for problem in tree.problems}
    reported = {problem.location for problem in tree.problems}
    if () in reported:
        return faults
    if not isinstance(tree.value, dict):
        message = f"expected keys with values, such as `{_keys(model)[0]}: …`; found {_short(tree.value)}"
        return {*faults, Fault(*nearest(written.places, ()), message)}
    try:
        model.model_validate(written.value)
    except ValidationError as error:
        for location, message in _messages(model, written.value, error, partial=partial):
            if location not in reported:
                faults.add(Fault(*nearest(written.places, location), _worded(location, message)))
    return faults


def _messages(
    model: type[BaseModel], value: Mapping[str, object], error: ValidationError, *, partial: bool
) -> Iterator[tuple[Location, str]]:
    for detail in error.errors(include_url=False):
        location = tuple(part for part in detail["loc"] if part != "[key]")
        if not (partial and detail["type"] in ("missing", "fault", "value_error")):
            yield location, _sentence(model, location, detail)
    if model is Policy and not partial:  # pydantic looks at the whole only when every part is valid
        yield from policy_faults(value)


def _worded(location: Location, message: str) -> str:
    where = ".".join(str(part) for part in location)
    return f"{where}: {message}" if where else message


def _sentence(model: type[BaseModel], location: Location, detail: ErrorDetails) -> str:
    kind, found = detail["type"], _short(detail["input"])
    if kind == "extra_forbidden":
        return _unknown_key(_model_at(model, location[:-1]), str(location[-1]))
    if kind in ("missing", "fault"):
        return detail["msg"]
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    if kind in ("model_type", "dict_type"):
        return f"should hold keys with values, found {found}"
    if kind == "literal_error":
        expected = detail["ctx"]["expected"]
        return f"Input should be {expected}, found {found}." + did_you_mean(str(detail["input"]), _quoted(expected))
    quote = isinstance(detail["input"], bool | int | float | date) and kind == "string_type"
    return f"{detail['msg']}, found {found}" + ("; write it in quotes" if quote else "")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _unknown_key(model: type[BaseModel], key: str) -> str:
    if key in getattr(model, "later", ()):
        return f"`{key}` is not supported yet; remove it"
    keys = _keys(model)
    return "Extra inputs are not permitted." + (did_you_mean(key, keys) or f" The keys here are: {', '.join(keys)}.")


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _quoted(expected: str) -> list[str]:
    return re.findall(r"'([^']*)'", expected)


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
