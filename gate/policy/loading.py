"""Policy files: read, validated, and refused with every fault at once and its line and column."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from gate.errors import Fault, NothingEvaluatedError, PolicyError, UsageError
from gate.policy.reading import Location, Position, Positions, Tree, nearest, read
from gate.policy.references import conflicts, did_you_mean, input_faults
from gate.policy.schema import Policy, Probe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic_core import ErrorDetails

Keys = TypeVar("Keys", bound=BaseModel)

_LONGEST_VALUE = 80  # of a message


@dataclass(frozen=True)
class LoadedPolicy:
    """A valid policy and the file that it was read from."""

    policy: Policy
    path: str
    text: str
    digest: str  # "sha256:…" of the bytes of the file
    lines: Positions

    def position(self, *location: str | int) -> Position:
        """Line and column, from 1, of a key or list item: `position("rules", 1, "min")`; else of what is around it."""
        return nearest(self.lines, location)


def load_policy(path: str | Path) -> LoadedPolicy:
    """Read and validate a policy file.

    Raises:
        UsageError: There is no such file, or it cannot be read.
        PolicyError: The file has faults; all of them, in the order of their lines.
        NothingEvaluatedError: The policy is well-formed and has no rule.
    """
    content, text = _content(path, "policy")
    tree = read(text)
    policy = _validated(Policy, tree, str(path))
    if not policy.rules:
        raise NothingEvaluatedError(
            f"{path}: policy {policy.metadata.name!r} has no rules, so nothing is evaluated; write one under `rules`"
        )
    return LoadedPolicy(policy, str(path), text, f"sha256:{sha256(content).hexdigest()}", tree.positions)


def load_probe_spec(path: str | Path) -> Probe:
    """Read a YAML file that holds the keys of a policy's `probe` block.

    Raises:
        UsageError: There is no such file, or it cannot be read.
        PolicyError: The file has faults; all of them, in the order of their lines.
    """
    _, text = _content(path, "probe spec")
    return _validated(Probe, read(text), str(path))


def _content(path: str | Path, kind: str) -> tuple[bytes, str]:
    file = Path(path)
    if file.is_dir():
        raise UsageError(f"{kind} {str(path)!r} is a folder, expected a YAML file")
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{kind} {str(path)!r} does not exist, expected a YAML file.{_similar_file(file)}") from None
    except OSError as error:
        raise UsageError(f"{kind} {str(path)!r} cannot be read: {error.strerror}") from None
    try:
        return content, content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        message = f"not a text file: byte {content[error.start]:#04x} is not UTF-8; expected a YAML file in UTF-8"
        raise PolicyError((Fault(str(path), line, column, message),)) from None


def _similar_file(file: Path) -> str:
    if not file.parent.is_dir():
        return f" There is no folder {str(file.parent)!r} either."
    near = get_close_matches(file.name, [each.name for each in file.parent.iterdir()], n=1)
    return f" Did you mean `{file.parent / near[0]}`?" if near else ""


def _validated(model: type[Keys], tree: Tree, path: str) -> Keys:
    faults = [Fault(path, *problem.position, _worded(problem.location, problem.message)) for problem in tree.problems]
    reported = {problem.location for problem in tree.problems}
    valid = None
    if () not in reported:
        if not isinstance(tree.value, dict):
            message = f"expected keys with values, such as `{_keys(model)[0]}: …`; found {_short(tree.value)}"
            raise PolicyError((*faults, Fault(path, *nearest(tree.positions, ()), message)))
        try:
            valid = model.model_validate(tree.value)
        except ValidationError as error:
            for location, message in _messages(model, tree.value, error):
                if location not in reported:
                    faults.append(Fault(path, *nearest(tree.positions, location), _worded(location, message)))
    if faults or valid is None:
        raise PolicyError(tuple(sorted(set(faults), key=lambda fault: (fault.line, fault.column, fault.message))))
    return valid


def _messages(
    model: type[BaseModel], value: Mapping[str, object], error: ValidationError
) -> Iterator[tuple[Location, str]]:
    for detail in error.errors(include_url=False):
        location = tuple(part for part in detail["loc"] if part != "[key]")
        yield location, _sentence(model, location, detail)
    if model is Policy:  # pydantic looks at the whole only when every part is valid
        rules = _rules(value)
        layers = value.get("layers")
        pairs = [(rule.get("id"), rule.get("layer")) for rule in rules]
        yield from conflicts(list(layers) if isinstance(layers, dict) else [], pairs)
        yield from input_faults(_given_columns(value), [rule.get("metric") for rule in rules])


def _rules(value: Mapping[str, object]) -> list[dict[str, object]]:
    """The rules as they are written; what is no rule is one that says nothing."""
    rules = value.get("rules")
    return [rule if isinstance(rule, dict) else {} for rule in rules] if isinstance(rules, list) else []


def _given_columns(value: Mapping[str, object]) -> list[str] | None:
    """The keys of `probe.columns`, None where there are none to go by."""
    probe = value.get("probe")
    columns = probe.get("columns") if isinstance(probe, dict) else None
    return list(columns) if isinstance(columns, dict) else None


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
