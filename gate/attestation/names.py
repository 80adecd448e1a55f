"""Names as a person reads them: what looks alike is alike, so that nothing passes for something else."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

KEY = "gate"
PREFIX = "gate."
STATEMENTS = "gate.statement."
"""Prefix of the tags of a version that hold signed statements, one for each policy by its name.

MLflow's page of a version sorts tags, so this long one comes after those that a person reads.
"""
FROZEN = "gate.frozen"
"""Tag of a version: where its files lie in the artifact store, which may no longer change."""

_UNSEEN = ("Cc", "Cf")  # control and format characters
# Letters, marks and a symbol without a shape.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_MARKED = re.compile(r"LATIN (?:SMALL|CAPITAL) LETTER (?:DOTLESS )?([A-Z]{1,2})(?: WITH .*)?$")

SCHEME = "gate+"
"""Before the scheme of a registry or an artifact store that is guarded."""

NOT_IN_FORCE = "not in force: "
"""In the tag `gate`, before the verdict of a policy that the server does not know, or knows in another wording."""
REFUSED = "Refused by gate: "
"""With which every refusal of a guarded server begins, and by which its clients know one."""

Kind = Literal["ours", "statement", "free"]


def canonical(name: str) -> str:
    """The name without case, accents, strokes, width and surrounding blanks: `Chámpiøn ` and `champion` are one.

    Databases may take such names for one as well. Compared must be `canonical` of both sides.
    """
    apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    solid = _INVISIBLE.sub("", apart)
    shown = (each for each in solid if not unicodedata.combining(each) and unicodedata.category(each) not in _UNSEEN)
    bare = "".join(map(_bare, shown))
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
    return "ours" if _reads_as_ours(plain) else "free"


def _reads_as_ours(plain: str) -> bool:
    """Whether it is `gate`, alone or with a part after a dot; a letter of another script may look like one of these."""
    start, after = plain[: len(KEY)], plain[len(KEY) :][:1]
    same = [ours == theirs for ours, theirs in zip(KEY, start, strict=False)]
    alike = [alike or (not theirs.isascii() and theirs.isalpha()) for alike, theirs in zip(same, start, strict=True)]
    ends = after in ("", ".") or not (after.isascii() or after.isalnum())
    return len(start) == len(KEY) and any(same) and all(alike) and ends
