"""One policy on top of another: what counts, and where it stands."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from gate.policy.merging import Place, Written, combined_digest, merged
from gate.policy.reading import read

BASE = """\
metadata: {name: base}
extends: [older]
scope: {models: [a]}
layers:
  emb: {path: "1", pooling: mean}
defaults: {confidence: 0.9, severity: warn, override: true, reason: Old rows.}
rules:
  - id: rank
    metric: effective_rank
    min: 3
    relative: {max_drop: 5%, max_rise: 8%}
    slices: {by: [site], min: 2, relative: {max_drop: 5%, max_rise: 9%}, bounds: {x: {min: 1, max: 7}}, required: [x]}
    params: {k: 5, tau: 2}
    override: true
    reason: Small sites.
  - {id: cone, metric: mean_cosine, max: 0.2}
waivers:
  - {rule: rank, owner: ann}
"""
CHILD = """\
metadata: {name: child}
layers:
  emb: {path: "2"}
  head: {path: "3"}
defaults:
  confidence: 0.95
rules:
  - id: extra
    metric: vci
  - id: rank
    min: 4
    relative:
      max_drop: 2%
    slices: {relative: {max_drop: 1%}, bounds: {x: {min: 2}}, required: [x, y, z]}
    params: {k: 9}
waivers:
  - {rule: cone, owner: bob}
"""


def written(text: str, path: str) -> Written:
    tree = read(text)
    assert tree.problems == ()
    assert isinstance(tree.value, dict)
    return Written(tree.value, {location: Place(path, *at) for location, at in tree.positions.items()})


@pytest.fixture
def both() -> Written:
    return merged(written(BASE, "base.yaml"), written(CHILD, "child.yaml"))


def test_rules_are_matched_by_their_ids_and_new_ones_come_last(both: Written) -> None:
    assert [rule["id"] for rule in both.value["rules"]] == ["rank", "cone", "extra"]
    assert both.value["rules"][1] == {"id": "cone", "metric": "mean_cosine", "max": 0.2}


def test_keys_of_a_rule_are_merged_at_every_depth(both: Written) -> None:
    rank = both.value["rules"][0]
    assert (rank["metric"], rank["min"]) == ("effective_rank", 4)
    assert rank["relative"] == {"max_drop": "2%", "max_rise": "8%"}
    assert rank["params"] == {"k": 9, "tau": 2}
    assert rank["slices"] == {
        "by": ["site"],
        "min": 2,
        "relative": {"max_drop": "1%", "max_rise": "9%"},
        "bounds": {"x": {"min": 2, "max": 7}},
        "required": ["x", "y", "z"],
    }


def test_blocks_are_merged_key_by_key(both: Written) -> None:
    assert both.value["layers"] == {"emb": {"path": "2", "pooling": "mean"}, "head": {"path": "3"}}
    assert both.value["defaults"] == {"confidence": 0.95, "severity": "warn", "reason": "Old rows."}


def test_waivers_are_appended(both: Written) -> None:
    assert both.value["waivers"] == [{"rule": "rank", "owner": "ann"}, {"rule": "cone", "owner": "bob"}]


def test_a_waiver_that_is_there_already_is_not_appended_again() -> None:
    both = merged(
        written("waivers: [{owner: ann}, {owner: bob}]", "b"), written("waivers:\n- {owner: bob}\n- {owner: cy}", "c")
    )
    assert both.value == {"waivers": [{"owner": "ann"}, {"owner": "bob"}, {"owner": "cy"}]}
    assert leaves(both.value) == set(both.places)
    assert both.places["waivers", 1] == Place("b", 1, 25)
    assert both.places["waivers", 2] == Place("c", 3, 3)


def test_what_a_policy_says_of_itself_is_not_handed_down(both: Written) -> None:
    assert both.value["metadata"] == {"name": "child"}
    assert {"extends", "scope"} & both.value.keys() == set()
    assert not [location for location in both.places if location[:1] in (("extends",), ("scope",))]


@pytest.mark.parametrize(
    ("location", "path", "line", "text"),
    [
        (("rules", 0), "child.yaml", 10, "id: rank"),
        (("rules", 0, "metric"), "base.yaml", 9, "metric: effective_rank"),
        (("rules", 0, "min"), "child.yaml", 11, "min: 4"),
        (("rules", 0, "relative"), "child.yaml", 12, "relative:"),
        (("rules", 0, "relative", "max_drop"), "child.yaml", 13, "max_drop: 2%"),
        (("rules", 0, "relative", "max_rise"), "base.yaml", 11, "max_rise: 8%"),
        (("rules", 0, "slices", "relative", "max_drop"), "child.yaml", 14, "max_drop: 1%"),
        (("rules", 0, "slices", "relative", "max_rise"), "base.yaml", 12, "max_rise: 9%"),
        (("rules", 0, "slices", "by"), "base.yaml", 12, "by: [site]"),
        (("rules", 0, "slices", "by", 0), "base.yaml", 12, "site"),
        (("rules", 0, "slices", "bounds", "x", "max"), "base.yaml", 12, "max: 7"),
        (("rules", 0, "slices", "required", 2), "child.yaml", 14, "z]"),
        (("rules", 1, "max"), "base.yaml", 16, "max: 0.2"),
        (("rules", 2), "child.yaml", 8, "id: extra"),
        (("rules", 2, "metric"), "child.yaml", 9, "metric: vci"),
        (("layers", "emb", "path"), "child.yaml", 3, "path"),
        (("layers", "emb", "pooling"), "base.yaml", 5, "pooling"),
        (("defaults", "confidence"), "child.yaml", 6, "confidence"),
        (("defaults", "severity"), "base.yaml", 6, "severity"),
        (("waivers", 0, "owner"), "base.yaml", 18, "owner: ann"),
        (("waivers", 1, "owner"), "child.yaml", 17, "owner: bob"),
        ((), "child.yaml", 1, "metadata"),
    ],
)
def test_every_key_keeps_the_place_that_it_was_written_at(
    both: Written, location: tuple[str | int, ...], path: str, line: int, text: str
) -> None:
    source = (BASE if path == "base.yaml" else CHILD).splitlines()[line - 1]
    assert source.count(text) == 1
    assert both.places[location] == Place(path, line, source.index(text) + 1)


def leaves(value: Any, at: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {at}.union(*(leaves(each, (*at, key)) for key, each in items))


def test_every_value_has_a_place_and_every_place_a_value(both: Written) -> None:
    assert leaves(both.value) == set(both.places)


def test_a_list_that_replaces_a_longer_one_leaves_no_places_behind() -> None:
    both = merged(
        written("reads: {logits: {classes: [a, b, c]}}", "b"), written("reads: {logits: {classes: [d]}}", "c")
    )
    assert both.value == {"reads": {"logits": {"classes": ["d"]}}}
    assert leaves(both.value) == set(both.places)


def test_permission_to_loosen_is_not_handed_down(both: Written) -> None:
    assert "override" not in both.value["rules"][0]
    assert "override" not in both.value["defaults"]
    untouched = merged(written(BASE, "base.yaml"), written("metadata: {name: child}", "child.yaml"))
    assert "override" not in untouched.value["rules"][0]
    assert "override" not in untouched.value["defaults"]
    assert leaves(untouched.value) == set(untouched.places)


def test_why_another_policy_is_looser_stays_until_this_one_is() -> None:
    base = written(BASE, "base.yaml")
    assert merged(base, written("rules: [{id: rank, min: 4}]", "c")).value["rules"][0]["reason"] == "Small sites."
    own = merged(base, written("rules: [{id: rank, min: 1, override: true}]\ndefaults: {override: true}", "c"))
    assert "reason" not in own.value["rules"][0]
    assert "reason" not in own.value["defaults"]
    assert leaves(own.value) == set(own.places)


def test_layers_may_be_called_like_the_words_about_loosening() -> None:
    base = written("layers: {override: {path: '1'}, reason: {path: '2'}}\nrules: [{id: a}]", "b")
    both = merged(base, written("layers: {override: {path: '3'}}", "c"))
    assert both.value["layers"] == {"override": {"path": "3"}, "reason": {"path": "2"}}


def test_a_second_rule_of_one_id_is_not_merged_away() -> None:
    both = merged(written("rules: [{id: a, min: 3}]", "b"), written("rules: [{id: a, min: 4}, {id: a, min: 5}]", "c"))
    assert both.value["rules"] == [{"id": "a", "min": 4}, {"id": "a", "min": 5}]


def test_the_base_is_left_as_it_is() -> None:
    base = written(BASE, "base.yaml")
    before, places = repr(base.value), dict(base.places)
    merged(base, written(CHILD, "child.yaml"))
    assert (repr(base.value), dict(base.places)) == (before, places)


@pytest.mark.parametrize("base", ["rules: [{id: a}]", "waivers: [{rule: a}]", "layers: {a: {path: '1'}}"])
@pytest.mark.parametrize("other", ["3", "text", "[[a]]", "{b: 1}"])
def test_a_value_of_another_kind_is_left_to_validation(base: str, other: str) -> None:
    key = base.partition(":")[0]
    both = merged(written(base, "b"), written(f"{key}: {other}", "c"))
    assert leaves(both.value) == set(both.places)
    assert repr(read(other).value).strip("[]{}") in repr(both.value[key])


def test_what_another_file_says_is_anchored_at_the_rule_or_at_its_entry() -> None:
    child = written(CHILD + "extends:\n  - b@1\n  - base.yaml\n", "child.yaml")
    both = merged(written(BASE, "base.yaml"), child)
    both = Written(both.value, both.places, {"base.yaml": 1, "older": 1})
    assert both.path == "child.yaml"
    assert both.anchor(("rules", 0, "min")) == Place("child.yaml", 11, 5)
    assert both.anchor(("rules", 0, "metric")) == Place("child.yaml", 10, 5)
    assert both.anchor(("rules", 1, "max")) == Place("child.yaml", 20, 5)
    assert both.anchor(("defaults", "severity")) == Place("child.yaml", 20, 5)
    assert both.anchor(("run", "seed")) == Place("child.yaml", 1, 1)


def test_a_digest_is_that_of_the_file_or_of_all_files_in_their_order() -> None:
    assert combined_digest(["sha256:1"]) == "sha256:1"
    assert combined_digest(["sha256:1", "sha256:2"]) == f"sha256:{sha256(b'sha256:1sha256:2').hexdigest()}"
    assert combined_digest(["sha256:2", "sha256:1"]) != combined_digest(["sha256:1", "sha256:2"])
