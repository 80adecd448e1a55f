"""The keys of a document, and of which kind their values are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gate.errors import UsageError
from gate.evidence.kinds import (
    COLUMNS,
    COSINES,
    COUNT,
    ENDS,
    LEVEL,
    LEVELS,
    LIST,
    NUMBER,
    NUMBERS,
    POINTS,
    SCALARS,
    SOME_COLUMNS,
    TEXT,
    TIME,
    TRUTH,
    WHOLE,
    Kind,
    keys_of,
    list_of,
    misfit,
    one_of,
    or_null,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet
    from typing import TypeAlias

    Kinds: TypeAlias = Mapping[str, Kind]

SCHEMA = "gate.evidence/v1"
AGAIN = "write it again with `gate check -o json=PATH`"
_KEYS = {
    "": (
        "schema status exit_code counts model policy probe baseline baseline_reason baseline_asked run notes waivers "
        "layers reads baseline_layers slices estimates results"
    ),
    "model": "uri resolved name version digest flavour serialization run_id model_id",
    "policy": "name version path digest text sources",
    "probe": "uri digest rows columns",
    "run": "version python torch mlflow platform device precision seed confidence git started seconds",
    "waivers": "rule state expires owner reason",
    "layers": "name path pooling n d spectrum class_similarity scatter",
    "slices": "slice rows",
    "estimates": ("of model metric layer slice value interval intervals status reason n d c method confidence params"),
    "results": (
        "rule metric layer check slice status severity value interval confidence min max margin baseline n d c method "
        "n_needed policy_path policy_line policy_column anchor message reason why fix paper docs enforce_from waiver "
        "rows"
    ),
}
_REQUIRED = {part: frozenset(keys.split()) for part, keys in _KEYS.items()}
_PLACE = keys_of("a path and a pooling", path=TEXT, pooling=TEXT)
_PLACES = or_null(
    Kind(
        lambda value: isinstance(value, dict) and all(map(_PLACE.fits, value.values())), "a path and a pooling by name"
    )
)
_MAYBE = or_null(TEXT)
_SHAPE = list_of(COUNT, "numbers of values")
_MODEL = {
    "uri": TEXT,
    "resolved": TEXT,
    **dict.fromkeys(("name", "version"), _MAYBE),
    "digest": TEXT,
    **dict.fromkeys(("names_digest", "flavour", "serialization", "trust", "run_id", "model_id"), _MAYBE),
    "batch_size": or_null(COUNT),
    "isolation": or_null(keys_of("how the model was kept apart", mode=TEXT)),
}
# Of a list the kinds of its entries. What a key says that is not here is held against another one in
# `gate.evidence.validation`: a status, a count, a bound, a digest.
_KINDS: dict[str, Kinds] = {
    "": {
        "counts": Kind(lambda value: isinstance(value, dict), "numbers by outcome"),
        **dict.fromkeys(("baseline_reason", "baseline_asked"), _MAYBE),
        "reads": _PLACES,
        "baseline_layers": _PLACES,
        **dict.fromkeys(("waivers", "layers", "slices", "estimates", "results"), LIST),
    },
    "model": _MODEL,
    "policy": {"name": TEXT, "version": _MAYBE, "path": TEXT, "text": TEXT},
    "probe": {
        "uri": TEXT,
        "digest": TEXT,
        "slices_digest": _MAYBE,
        "rows": COUNT,
        "shape": or_null(_SHAPE),
        "validation": or_null(keys_of("what the probe set was held against", status=TEXT)),
    },
    "run": {
        **dict.fromkeys(("version", "python", "torch", "mlflow", "platform", "device", "precision"), _MAYBE),
        "seed": WHOLE,
        "confidence": LEVEL,
        "enforcement": or_null(one_of("block", "warn")),
        "overrides": or_null(list_of(TEXT, "names of options")),
        "git": or_null(keys_of("a commit", commit=TEXT, dirty=TRUTH)),
        "started": TIME,
        "seconds": NUMBER,
    },
    "waivers": dict.fromkeys(("rule", "state", "expires", "owner", "reason"), TEXT),
    "layers": {
        "name": TEXT,
        "path": TEXT,
        "pooling": TEXT,
        "n": COUNT,
        "d": WHOLE,
        "spectrum": NUMBERS,
        "class_similarity": or_null(COSINES),
        "scatter": or_null(POINTS),
    },
    "slices": {"slice": SOME_COLUMNS, "rows": COUNT},
    "estimates": {
        "of": one_of("candidate", "baseline", "change"),
        "model": _MAYBE,
        "metric": TEXT,
        "layer": TEXT,
        "status": TEXT,
        "method": TEXT,
        "reason": _MAYBE,
        "slice": or_null(COLUMNS),
        "params": SCALARS,
        "n": COUNT,
        "confidence": LEVEL,
        "value": or_null(NUMBER),
        "interval": or_null(ENDS),
        "intervals": LEVELS,
        **dict.fromkeys(("d", "c", "k", "n_needed"), or_null(WHOLE)),
        "detail": _MAYBE,
    },
    "results": {
        "rule": TEXT,
        "metric": TEXT,
        "layer": TEXT,
        "slice": _MAYBE,
        "severity": one_of("block", "warn"),
        "message": TEXT,
        **dict.fromkeys(("reason", "why", "fix", "paper", "docs", "enforce_from", "method"), _MAYBE),
        "confidence": or_null(LEVEL),
        **dict.fromkeys(("margin", "baseline"), or_null(NUMBER)),
        **dict.fromkeys(("n", "d", "c", "n_needed"), or_null(WHOLE)),
        "policy_path": TEXT,
        **dict.fromkeys(("policy_line", "policy_column"), or_null(WHOLE)),
        "anchor": keys_of("a path, a line and a column", path=TEXT, line=or_null(WHOLE), column=or_null(WHOLE)),
        "waiver": or_null(
            keys_of(
                "an owner, a reason and a date",
                **dict.fromkeys(("owner", "reason", "expires"), TEXT),
                **dict.fromkeys(("ticket", "approver"), _MAYBE),
            )
        ),
        "rows": list_of(keys_of("a row", id=TEXT, influence=or_null(NUMBER)), "rows with an id and an influence"),
    },
}


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
    _require_part(content, "", "")
    for part in ("model", "policy", "probe", "run"):
        _require_part(content[part], part, part)
    if content["baseline"] is not None:
        _require_part(content["baseline"], "model", "baseline")
    for part in ("waivers", "layers", "slices", "estimates", "results"):
        for number, entry in enumerate(content[part]):
            _require_part(entry, part, f"{part}[{number}]")
    _require_texts(content["notes"])
    _require_sources(content["policy"]["sources"])
    return content


def _require_part(found: object, part: str, where: str) -> None:
    """A part of a document with all keys and values of their kinds."""
    _check_keys(found, _REQUIRED[part], where or "the document")
    values = found if isinstance(found, dict) else {}
    key = misfit(values, _KINDS[part])
    if key is not None:
        _check(values.get(key), f"{where}.{key}" if where else key, _KINDS[part][key])


def _require_texts(notes: object) -> None:
    _check(notes, "notes", LIST)
    for number, note in enumerate(notes if isinstance(notes, list) else ()):
        _check(note, f"notes[{number}]", TEXT)


def _require_sources(sources: object) -> None:
    _check(sources, "policy.sources", Kind(lambda value: isinstance(value, list) and bool(value), "at least one file"))
    for number, source in enumerate(sources if isinstance(sources, list) else ()):
        where = f"policy.sources[{number}]"
        _check_keys(source, {"path", "digest", "text"}, where)
        for key in ("path", "text"):
            _check(source[key], f"{where}.{key}", TEXT)


def _check_keys(found: object, keys: AbstractSet[str], where: str) -> None:
    missing = keys - (found.keys() if isinstance(found, dict) else set())
    if missing:
        raise UsageError(f"{where} lacks {', '.join(sorted(missing))}; {AGAIN}")


def _check(found: object, where: str, kind: Kind) -> None:
    if not kind.fits(found):
        raise UsageError(f"{where} is {found!r}, expected {kind.expected}; {AGAIN}")
