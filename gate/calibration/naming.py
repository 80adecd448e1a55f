"""Which versions a command line means: full URIs, or numbers of one registered model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_REGISTERED = "models:/"


class Named(NamedTuple):
    """URIs of models, each once."""

    good: tuple[str, ...]
    bad: tuple[str, ...]


def versions_of(models: Sequence[str], good: Sequence[str] = (), bad: Sequence[str] = ()) -> Named:
    """The URIs of the known-good and the known-bad versions.

    Args:
        models: Full URIs, all of them good, or one registered model `models:/NAME` without a version.
        good: Version numbers, `@ALIAS` and full URIs, one or several between commas in each text.
        bad: The same of versions that must not pass.

    Raises:
        UsageError: A number that belongs to no model, a model without a version, a version that is named twice, or no
            good version at all.
    """
    bare = [uri for uri in models if _is_bare(uri)]
    names = {_name(uri) for uri in models if uri.startswith(_REGISTERED) and not uri.startswith(f"{_REGISTERED}m-")}
    lists = [[each for text in texts for each in text.split(",") if each] for texts in (good, bad)]
    if bare and not lists[0]:
        raise UsageError(f"{bare[0]!r} names no version; say which ones are good: --good 3,4,5")
    full = [uri for uri in models if uri not in bare]
    found = Named((*full, *_uris(lists[0], names)), tuple(_uris(lists[1], names)))
    if not found.good:
        raise UsageError("no good version was named; give model URIs, or models:/NAME with --good 3,4,5")
    every = [*found.good, *found.bad]
    if twice := [uri for uri in dict.fromkeys(every) if every.count(uri) > 1]:
        raise UsageError(f"{', '.join(twice)}: named twice; a version counts once, as good or as bad")
    return found


def _is_bare(uri: str) -> bool:
    rest = uri.removeprefix(_REGISTERED)
    return uri.startswith(_REGISTERED) and "/" not in rest and "@" not in rest and not rest.startswith("m-")


def _name(uri: str) -> str:
    return uri.removeprefix(_REGISTERED).partition("/")[0].partition("@")[0]


def _uris(texts: Iterable[str], names: set[str]) -> list[str]:
    return [_uri(text.strip(), names) for text in texts]


def _uri(text: str, names: set[str]) -> str:
    if not (text.isdecimal() or text.startswith("@")):
        if ":" in text or "/" in text:
            return text
        raise UsageError(f"{text!r} is no version number and no model URI; write 3, @ALIAS, models:/NAME/3 or ./FOLDER")
    if len(names) != 1:
        known = f"there are {', '.join(sorted(names))}" if names else "none is named"
        raise UsageError(f"version {text} of which registered model? {known}; write models:/NAME/{text.lstrip('@')}")
    return f"{_REGISTERED}{next(iter(names))}{'' if text.startswith('@') else '/'}{text}"
