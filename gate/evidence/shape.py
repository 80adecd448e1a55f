"""The keys of a document, and of which kind their values are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gate.errors import UsageError
from gate.estimate import is_number

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = "gate.evidence/v1"
_KEYS = {
    "": (
        "schema status exit_code counts model policy probe baseline baseline_reason baseline_asked run notes waivers "
        "layers reads baseline_layers slices estimates results"
    ),
    "model": "uri resolved name version digest flavour serialization run_id model_id",
    "policy": "name version path digest text sources",
    "probe": "uri digest rows columns",
    "run": "version python torch mlflow platform device precision seed confidence git started seconds",
}
_LISTS = ("notes", "waivers", "layers", "slices", "estimates", "results")
_RESULT = (
    "rule metric layer check slice status severity value interval confidence min max margin baseline n d c method "
    "n_needed policy_path policy_line policy_column anchor message reason why fix paper docs enforce_from waiver rows"
)
_ESTIMATE = "of model metric layer slice value interval intervals status reason n d c method confidence params"


def require_shape(content: object) -> dict[str, Any]:
    """The document, when it has every key, and values that can be read.

    Raises:
        UsageError: It is of another schema, lacks a key, or holds a value of another kind.
    """
    found = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(content, dict) or found != SCHEMA:
        raise UsageError(
            f"its schema is {found!r}, expected {SCHEMA!r}; read it with the version of gate that wrote it"
        )
    for part, keys in _KEYS.items():
        _check_keys(content[part] if part else content, keys, part or "the document")
    for key in _LISTS:
        _check(content[key], key, lambda value: isinstance(value, list), "a list")
    _check(content["counts"], "counts", lambda value: isinstance(value, dict), "numbers by outcome")
    _check_texts(content)
    for key in ("reads", "baseline_layers"):
        _check(content[key], key, lambda value: value is None or _are_places(value), "a path and a pooling by name")
    for number, result in enumerate(content["results"]):
        _check_keys(result, _RESULT, f"results[{number}]")
    for number, estimate in enumerate(content["estimates"]):
        _check_estimate(estimate, f"estimates[{number}]")
    for number, cut in enumerate(content["slices"]):
        _check_keys(cut, "slice rows", f"slices[{number}]")
        _check(cut["slice"], f"slices[{number}].slice", lambda value: bool(value) and _is_slice(value), "columns")
        _check(cut["rows"], f"slices[{number}].rows", _is_count, "a number of rows")
    _check_sources(content["policy"]["sources"])
    return content


def _check_texts(content: dict[str, Any]) -> None:
    if content["baseline"] is not None:
        _check_keys(content["baseline"], _KEYS["model"], "baseline")
    for number, note in enumerate(content["notes"]):
        _check(note, f"notes[{number}]", _is_text, "a text")
    _check(content["run"]["started"], "run.started", _is_text, "a time")


def _check_keys(found: object, keys: str, where: str) -> None:
    missing = set(keys.split()) - set(found if isinstance(found, dict) else ())
    if missing:
        raise UsageError(f"{where} lacks {', '.join(sorted(missing))}; write it again with `gate check -o json=PATH`")


def _check(found: object, where: str, fits: Callable[[Any], bool], expected: str) -> None:
    if not fits(found):
        raise UsageError(f"{where} is {found!r}, expected {expected}; write it again with `gate check -o json=PATH`")


def _check_estimate(estimate: Any, where: str) -> None:  # noqa: ANN401 - whatever a file held
    _check_keys(estimate, _ESTIMATE, where)
    for key, (fits, expected) in _OF_AN_ESTIMATE.items():
        _check(estimate[key], f"{where}.{key}", fits, expected)


def _check_sources(sources: object) -> None:
    _check(sources, "policy.sources", lambda value: isinstance(value, list) and bool(value), "at least one file")
    for number, source in enumerate(sources if isinstance(sources, list) else ()):
        _check_keys(source, "path digest text", f"policy.sources[{number}]")


def _is_slice(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _are_places(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(each, dict) and _is_text(each.get("path")) and _is_text(each.get("pooling"))
        for each in value.values()
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_numbers(value: object, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(map(is_number, value))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str) or is_number(value)


_MODELS = ("candidate", "baseline", "change")
_OF_AN_ESTIMATE: dict[str, tuple[Callable[[Any], bool], str]] = {
    "of": (lambda value: value in _MODELS, f"one of {', '.join(_MODELS)}"),
    "metric": (_is_text, "a text"),
    "layer": (_is_text, "a text"),
    "status": (_is_text, "a text"),
    "method": (_is_text, "a text"),
    "reason": (lambda value: value is None or _is_text(value), "a text or null"),
    "slice": (lambda value: value is None or _is_slice(value), "columns or null"),
    "params": (
        lambda value: isinstance(value, dict) and all(map(_is_scalar, value.values())),
        "numbers and texts by name",
    ),
    "n": (_is_count, "a number of rows"),
    "confidence": (is_number, "a level"),
    "value": (lambda value: value is None or is_number(value), "a number or null"),
    "interval": (lambda value: value is None or _are_numbers(value, 2), "two numbers or null"),
    "intervals": (
        lambda value: isinstance(value, list) and all(_are_numbers(each, 3) for each in value),
        "a level and two numbers each",
    ),
}
