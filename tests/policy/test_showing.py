"""A policy with all that it extends, as YAML with the origin of each line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gate.policy import packs
from gate.policy.loading import LoadedPolicy, load_policy
from gate.policy.reading import read
from gate.policy.showing import shown

BASE = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: base, version: "1.0.0"}
defaults: {confidence: 0.95}
rules:
  - {id: rank, metric: effective_rank, min: 9, why: "no\\nway \\e[2J", fix: "x\\u2028y \\u202e"}
  - id: cone
    metric: mean_cosine
    max: 0.2
    why: When all rows point the same way, cosine similarity no longer tells them apart, and search is lost.
  - {id: dead, metric: dead_unit_share, max: 1e-7, why: "é 円 \\U000e0001"}
"""
CHILD = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: child, version: "3.10", description: "no"}
extends: [base.yaml]
defaults: {confidence: 0.9, override: true, reason: we know what we do}
rules:
  - {id: rank, min: 12}
  - {id: cone, max: 0.5, override: true, reason: our head is made for it}
  - {id: dead, enabled: false, override: true, reason: there is no activation}
  - id: own
    metric: participation_ratio
    slices: {by: [language], min: 1, bounds: {"1e-3": {max: 4}}}
    enforce_from: 2027-01-15
"""


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedPolicy:
    (tmp_path / "base.yaml").write_text(BASE, encoding="utf-8")
    (tmp_path / "child.yaml").write_text(CHILD, encoding="utf-8")
    return load_policy(tmp_path / "child.yaml")


@pytest.mark.parametrize("origin", [True, False])
def test_what_is_shown_reads_back_as_the_merged_policy(loaded: LoadedPolicy, origin: bool) -> None:
    tree = read(shown(loaded, origin=origin))
    assert tree.problems == ()
    assert tree.value == loaded.written.value


@pytest.mark.parametrize("name", packs.names())
def test_a_pack_is_shown_as_it_is(name: str) -> None:
    loaded = load_policy(name)
    text = shown(loaded)
    assert read(text).value == loaded.written.value
    assert "  # " not in text


def test_each_line_of_another_file_says_which(loaded: LoadedPolicy, tmp_path: Path) -> None:
    lines = {line.partition("  # ")[0].strip(): line.partition("  # ")[2] for line in shown(loaded).splitlines()}
    base = f"{tmp_path}/base.yaml"
    assert lines["metric: effective_rank"] == f"{base}:6"
    assert lines["metric: mean_cosine"] == f"{base}:8"
    assert lines["min: 12"] == lines["- id: own"] == lines["enforce_from: 2027-01-15"] == ""
    assert "# " not in shown(loaded, origin=False)


def test_what_is_looser_says_than_what_and_why(loaded: LoadedPolicy, tmp_path: Path) -> None:
    lines = {line.partition("  # ")[0].strip(): line.partition("  # ")[2] for line in shown(loaded).splitlines()}
    base = f"looser than {tmp_path}/base.yaml"
    assert lines["max: 0.5"] == f"{base}:9, from 0.2 to 0.5: our head is made for it"
    assert lines["confidence: 0.9"] == f"{base}:4, from 0.95 to 0.9: we know what we do"
    assert lines["enabled: false"] == f"{base}:11, switches the rule off: there is no activation"
    assert sum(line.startswith("looser") for line in lines.values()) == 3


def test_control_characters_are_written_out(loaded: LoadedPolicy) -> None:
    assert all(char.isprintable() or char == "\n" for char in shown(loaded))


def test_the_keys_stand_in_the_order_of_the_format(loaded: LoadedPolicy) -> None:
    top = [line.partition(":")[0] for line in shown(loaded).splitlines() if line[0].isalpha()]
    assert top == ["apiVersion", "kind", "metadata", "extends", "defaults", "rules"]
