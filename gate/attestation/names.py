"""Names as a person reads them: what looks alike is alike, so that nothing passes for something else."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

KEY = "gate"
PREFIX = "gate."
STATEMENTS = "gate.attestation."
"""Prefix of the tags of a version that hold signed statements, one for each policy by its name."""
FROZEN = "gate.frozen"
"""Tag of a version: where its files lie in the artifact store, which may no longer change."""

_MARKED = re.compile(r"LATIN (?:SMALL|CAPITAL) LETTER (?:DOTLESS )?([A-Z]{1,2})(?: WITH .*)?$")

SCHEME = "gate+"
"""Before the scheme of a registry or an artifact store that is guarded."""

Kind = Literal["ours", "statement", "free"]


def canonical(name: str) -> str:
    """The name without case, accents, strokes, width and surrounding blanks: `Chámpiøn ` and `champion` are one.

    Databases may take such names for one as well. Compared must be `canonical` of both sides.
    """
    apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    bare = "".join(_bare(character) for character in apart if not unicodedata.combining(character))
    return unicodedata.normalize("NFKC", bare.casefold()).strip()


def _bare(character: str) -> str:
    """The letter that a Latin one is with a stroke, a hook or the like, which no decomposition takes off."""
    if character.isascii():
        return character
    found = _MARKED.match(unicodedata.name(character, ""))
    return found.group(1).lower() if found else character


def statement_key(policy: str) -> str:
    """The tag that holds the statement of a policy.

    Args:
        policy: Its name.
    """
    return STATEMENTS + canonical(policy)


def kind_of(key: str) -> Kind:
    """Whether a tag is written by the gate alone, holds a statement that proves itself, or is anybody's."""
    plain = canonical(key)
    if key == plain and key.startswith(STATEMENTS):
        return "statement"
    return "ours" if plain == KEY or plain.startswith(PREFIX) else "free"
