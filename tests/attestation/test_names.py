from __future__ import annotations

import sys
import unicodedata

import pytest

from gate.attestation.names import canonical, kind_of, statement_key


@pytest.mark.parametrize(
    "name",
    [
        "champion",
        "Champion",
        "CHAMPION",
        "chámpion",
        "champi\u0308on",
        "\N{FULLWIDTH LATIN SMALL LETTER C}hampion",
        " champion\n",
        "cham\x01pion",
        "\tcham\npion\x9f",
    ],
)
def test_what_looks_alike_is_alike(name: str) -> None:
    assert canonical(name) == "champion"


def test_a_canonical_name_stays_what_it_is() -> None:
    characters = map(chr, range(sys.maxunicode + 1))
    named = (character for character in characters if unicodedata.category(character) not in ("Cs", "Cn", "Co"))
    assert [each for each in named if canonical(canonical(each)) != canonical(each)] == []


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("gate", "ours"),
        ("Gáte", "ours"),
        ("gate.run", "ours"),
        ("\N{FULLWIDTH LATIN CAPITAL LETTER G}ate.run", "ours"),
        ("gate.statement.classifier", "statement"),
        ("gate.statement.Classifier", "ours"),
        ("gate.statement", "ours"),
        ("g\N{CYRILLIC SMALL LETTER A}te.policy", "ours"),
        ("g\N{ZERO WIDTH SPACE}ate", "ours"),
        ("gate\N{HORIZONTAL ELLIPSIS}", "ours"),
        ("gate\N{HANGUL JUNGSEONG FILLER}", "ours"),
        ("gate\N{HALFWIDTH HANGUL FILLER}", "ours"),
        ("\N{BRAILLE PATTERN BLANK}gate", "ours"),
        ("ga\N{VARIATION SELECTOR-16}te.policy", "ours"),
        ("".join(map(chr, (0x434, 0x430, 0x442, 0x430))), "free"),  # a Russian word
        ("gateway", "free"),
        ("team", "free"),
    ],
)
def test_a_tag_is_the_gates_a_statement_or_anybodys(key: str, kind: str) -> None:
    assert kind_of(key) == kind


def test_the_tag_of_a_statement_has_the_canonical_name_of_its_policy() -> None:
    assert statement_key("Text Encoder") == "gate.statement.text encoder"
    assert kind_of(statement_key("\N{FULLWIDTH LATIN CAPITAL LETTER P}ólicy")) == "statement"
