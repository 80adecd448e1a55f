"""What another version of a policy loosens and tightens."""

from __future__ import annotations

from pathlib import Path

import pytest

from gate.policy.differences import Detail, Difference, differences
from gate.policy.loading import load_policy
from gate.policy.schema import Policy

HEAD = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "1.0.0"}
baseline: {uri: "@champion"}
"""
PIN = f"digest: sha256:{'0' * 64}"
RULE = "  - {id: rank, metric: effective_rank, %s}\n"
WAIVER = "waivers:\n  - {rule: rank, model: 'models:/e/1', expires: %s, owner: %s, reason: the tokenizer is new}\n"


def compared(folder: Path, old: str, new: str) -> list[Difference]:
    policies = []
    for name, text in (("old", old), ("new", new)):
        path = folder / f"{name}.yaml"
        path.write_text(HEAD + text, encoding="utf-8")
        policies.append(load_policy(path).policy)
    return differences(*policies)


def of_rules(folder: Path, old: str, new: str) -> list[tuple[str, str, str]]:
    """Kind, and key and kind of each detail, of the one rule."""
    (found,) = compared(folder, f"rules:\n{RULE % old}", f"rules:\n{RULE % new}")
    assert (found.what, found.name) == ("rule", "rank")
    return [(found.kind, detail.key, detail.kind) for detail in found.details]


@pytest.mark.parametrize(
    ("looser", "tighter", "key"),
    [
        ("min: 1", "min: 2", "min"),
        ("max: 2", "max: 1", "max"),
        ("max: 2", "min: 1, max: 2", "min"),
        ("min: 1, severity: warn", "min: 1", "severity"),
        ("min: 1, enforce_from: 2027-01-01", "min: 1", "enforce_from"),
        ("min: 1, enforce_from: 2027-01-02", "min: 1, enforce_from: 2027-01-01", "enforce_from"),
        ("relative: {max_drop: 5%}", "relative: {max_drop: 4%}", "relative.max_drop"),
        ("min: 1", "min: 1, relative: {max_drop: 4%}", "relative"),
        ("min: 1", "min: 1, slices: {by: language, min: 1}", "slices"),
        ("slices: {by: a, min: 1}", "slices: {by: a, min: 1, required: [ja]}", "slices.required"),
        ("slices: {by: a, min: 1, min_rows: 200}", "slices: {by: a, min: 1, min_rows: 100}", "slices.min_rows"),
        (
            "slices: {by: a, min: 2, bounds: {ja: {min: 1}}}",
            "slices: {by: a, min: 2, bounds: {ja: {min: 1.5}}}",
            "slices.bounds.ja.min",
        ),
        ("slices: {by: a, worst_gap: {max: 2}}", "slices: {by: a, worst_gap: {max: 1}}", "slices.worst_gap.max"),
    ],
)
def test_a_key_is_tightened_one_way_and_loosened_the_other(tmp_path: Path, looser: str, tighter: str, key: str) -> None:
    assert of_rules(tmp_path, looser, tighter) == [("tightened", key, "tightened")]
    assert of_rules(tmp_path, tighter, looser) == [("loosened", key, "loosened")]


@pytest.mark.parametrize(
    ("one", "other", "keys"),
    [
        ("min: 1, layer: input", "min: 1, layer: output", ["layer"]),
        ("relative: {max_drop: 5%}", "relative: {max_drop: 0.1}", ["relative.max_drop"]),
        ("slices: {by: a, min: 1}", "slices: {by: b, min: 1}", ["slices.by"]),
        (  # smaller slices are not judged, and one that must be there and is too small is an error
            "slices: {by: a, min: 1, required: [ja], min_rows: 200}",
            "slices: {by: a, min: 1, required: [ja], min_rows: 100}",
            ["slices.min_rows"],
        ),
        (
            "slices: {by: a, min: 1, bounds: {ja: {min: 2}}, min_rows: 200}",
            "slices: {by: a, min: 1, bounds: {ja: {min: 2}}, min_rows: 100}",
            ["slices.min_rows"],
        ),
    ],
)
def test_what_cannot_be_told_is_changed_both_ways(tmp_path: Path, one: str, other: str, keys: list[str]) -> None:
    for before, after in ((one, other), (other, one)):
        assert of_rules(tmp_path, before, after) == [("changed", key, "changed") for key in keys]


def test_a_rule_that_is_looser_in_one_respect_and_tighter_in_another_is_changed(tmp_path: Path) -> None:
    found = of_rules(tmp_path, "min: 1, max: 5", "min: 2, max: 6")
    assert found == [("changed", "min", "tightened"), ("changed", "max", "loosened")]


def test_words_decide_nothing(tmp_path: Path) -> None:
    assert of_rules(tmp_path, "min: 1, why: a", "min: 1, why: b, docs: c") == [
        ("reworded", "why", "reworded"),
        ("reworded", "docs", "reworded"),
    ]
    assert of_rules(tmp_path, "min: 1, why: a", "min: 2, why: b")[0][0] == "tightened"


def test_names_that_users_choose_are_no_words(tmp_path: Path) -> None:
    rules = f"rules:\n{RULE % 'min: 1'}"
    (found,) = compared(
        tmp_path, f"scope: {{aliases: {{owner: block}}}}\n{rules}", f"scope: {{aliases: {{owner: warn}}}}\n{rules}"
    )
    assert (found.kind, found.details) == ("loosened", (Detail("aliases.owner", "loosened", "block", "warn"),))
    asks = "slices: {by: source, min: 3, bounds: {docs: {min: 8}%s}}"
    assert of_rules(tmp_path, asks % ", why: {min: 5}", asks % "") == [("loosened", "slices.bounds.why", "loosened")]
    (found,) = compared(tmp_path, rules, f"layers: {{reason: {{path: a}}}}\n{rules}")
    assert [(detail.key, detail.kind) for detail in found.details] == [("reason", "changed")]


def test_values_are_told_as_they_are_written(tmp_path: Path) -> None:
    old = "min: 1, relative: {max_drop: 5%}, enforce_from: 2027-01-01, slices: {by: [a, b], min: 1}"
    (found,) = compared(tmp_path, f"rules:\n{RULE % old}", f"rules:\n{RULE % 'min: 1e-3'}")
    assert [(detail.key, detail.before, detail.after) for detail in found.details] == [
        ("min", "1", "0.001"),
        ("relative", "to: baseline, max_drop: 5%", None),
        ("slices", "min: 1, by: a, b, min_rows: 30", None),
        ("enforce_from", "2027-01-01", None),
    ]
    assert found.kind == "changed"


def test_rules_come_and_go(tmp_path: Path) -> None:
    one, two = RULE % "min: 1", RULE.replace("id: rank", "id: other") % "min: 1"
    found = compared(tmp_path, f"rules:\n{one}", f"rules:\n{two}")
    assert [(each.kind, each.name, each.details) for each in found] == [("removed", "rank", ()), ("added", "other", ())]
    assert compared(tmp_path, f"rules:\n{one}{two}", f"rules:\n{two}{one}") == []


def test_waivers_come_go_and_last_longer(tmp_path: Path) -> None:
    rules = f"rules:\n{RULE % 'min: 1'}"
    waived = rules + WAIVER % ("2027-01-01", "kenji")
    (found,) = compared(tmp_path, rules, waived)
    assert (found.what, found.name, found.kind) == ("waiver", "rank for models:/e/1", "loosened")
    assert found.details == (
        Detail("expires", "loosened", None, "2027-01-01"),
        Detail("owner", "reworded", None, "kenji"),
        Detail("reason", "reworded", None, "the tokenizer is new"),
    )
    (found,) = compared(tmp_path, waived, rules)
    assert (found.kind, found.details[0]) == ("tightened", Detail("expires", "tightened", "2027-01-01", None))
    longer = rules + WAIVER % ("2027-02-01", "kenji")
    assert compared(tmp_path, waived, longer)[0].kind == "loosened"
    assert compared(tmp_path, longer, waived)[0].kind == "tightened"
    assert compared(tmp_path, waived, rules + WAIVER % ("2027-01-01", "anna"))[0].kind == "reworded"


def test_of_two_waivers_of_one_thing_the_one_that_lasts_longest_counts(tmp_path: Path) -> None:
    rules = f"rules:\n{RULE % 'min: 1'}"
    short = rules + WAIVER % ("2026-01-01", "kenji")
    (tmp_path / "base.yaml").write_text(HEAD + rules + WAIVER % ("2030-01-01", "kenji"), encoding="utf-8")
    (found,) = compared(tmp_path, short, "extends: [base.yaml]\n" + WAIVER % ("2026-01-01", "kenji"))
    assert (found.kind, found.details) == ("loosened", (Detail("expires", "loosened", "2026-01-01", "2030-01-01"),))


@pytest.mark.parametrize(
    ("looser", "tighter", "what"),
    [
        ("defaults: {confidence: 0.9}", "defaults: {confidence: 0.95}", "defaults"),
        ("defaults: {inconclusive: warn}", "defaults: {}", "defaults"),
        ("baseline: {uri: '@champion', when_absent: skip_relative}", "baseline: {uri: '@champion'}", "baseline"),
        ("scope: {aliases: {champion: warn}}", "scope: {aliases: {champion: block}}", "scope"),
        ("scope: {aliases: {champion: warn}}", "scope: {aliases: {}}", "scope"),
        ("run: {allow_pickle: true}", "run: {}", "run"),
        ("probe: {uri: a.npz, columns: {input: x}}", f"probe: {{uri: a.npz, columns: {{input: x}}, {PIN}}}", "probe"),
    ],
)
def test_the_blocks_around_the_rules_count(tmp_path: Path, looser: str, tighter: str, what: str) -> None:
    rules = f"rules:\n{RULE % 'min: 1'}"
    for old, new, kind in ((looser, tighter, "tightened"), (tighter, looser, "loosened")):
        texts = [f"{text}\n{rules}" for text in (old, new)]
        if what == "baseline":
            found = differences(_bare(tmp_path, texts[0]), _bare(tmp_path, texts[1]))
        else:
            found = compared(tmp_path, *texts)
        assert [(each.what, each.kind) for each in found] == [(what, kind)]


def test_another_pin_is_changed(tmp_path: Path) -> None:
    one = f"probe: {{uri: a.npz, columns: {{input: x}}, {PIN}}}\nrules:\n{RULE % 'min: 1'}"
    (found,) = compared(tmp_path, one, one.replace("00", "11"))
    assert [(detail.key, detail.kind) for detail in found.details] == [("digest", "changed")]


@pytest.mark.parametrize(
    ("one", "other"),
    [("'@champion'", "'@shadow'"), ("models:/e/1", "models:/e/2"), ("'@champion'", "models:/e@champion")],
)
def test_a_comparison_with_another_version_is_changed_both_ways(tmp_path: Path, one: str, other: str) -> None:
    texts = [f"baseline: {{uri: {uri}}}\nrules:\n{RULE % 'min: 1'}" for uri in (one, other)]
    for old, new in (texts, texts[::-1]):
        (found,) = differences(_bare(tmp_path, old), _bare(tmp_path, new))
        assert [(found.what, detail.key, detail.kind) for detail in found.details] == [("baseline", "uri", "changed")]


def test_a_comparison_with_another_layer_is_changed_both_ways(tmp_path: Path) -> None:
    where = ("", ", layers: {a: {path: b}}", ", layers: {a: {path: c}}")
    texts = [f"layers: {{a: {{path: b}}}}\nbaseline: {{uri: x{each}}}\nrules:\n{RULE % 'min: 1'}" for each in where]
    texts.append(texts[0].partition("\n")[2])  # has no such layer itself
    for old, new in ((0, 1), (1, 0), (1, 2), (3, 1), (1, 3)):
        found, *others = differences(_bare(tmp_path, texts[old]), _bare(tmp_path, texts[new]))
        assert (found.what, found.kind) == ("baseline", "changed")
        assert [each.what for each in others] == (["layers"] if 3 in (old, new) else [])


@pytest.mark.parametrize(
    "asks",
    [
        "metric: effective_rank, min: 1, relative: {max_drop: 1}",
        "metric: effective_rank, slices: {by: a, relative: {max_drop: 1}}",
        "metric: cka_debiased, min: 0.5",
    ],
)
def test_a_baseline_that_goes_with_what_compares_lets_more_pass(tmp_path: Path, asks: str) -> None:
    rules = "rules:\n  - {id: other, metric: effective_rank, min: 1}\n"
    comparing = _bare(tmp_path, f"baseline: {{uri: '@champion'}}\n{rules}  - {{id: rank, {asks}}}\n")
    bare = _bare(tmp_path, rules)
    assert [(each.what, each.kind) for each in differences(comparing, bare)] == [
        ("rule", "removed"),
        ("baseline", "loosened"),
    ]
    assert [(each.what, each.kind) for each in differences(bare, comparing)] == [
        ("rule", "added"),
        ("baseline", "tightened"),
    ]


def test_a_baseline_that_nothing_was_compared_with_is_changed(tmp_path: Path) -> None:
    rules = f"rules:\n{RULE % 'min: 1'}"
    named, bare = _bare(tmp_path, f"baseline: {{uri: '@champion'}}\n{rules}"), _bare(tmp_path, rules)
    assert [(each.what, each.kind) for each in differences(named, bare)] == [("baseline", "changed")]


def _bare(folder: Path, text: str) -> Policy:
    path = folder / "bare.yaml"
    path.write_text(HEAD.partition("baseline")[0] + text, encoding="utf-8")
    return load_policy(path).policy


@pytest.mark.parametrize(
    ("block", "what"),
    [
        ("scope: {models: [enc-*]}", "scope"),
        (f"probe: {{uri: a.npz, columns: {{input: x}}, {PIN}}}", "probe"),
        ("probe: {uri: a.npz, columns: {input: x}}", "probe"),
        ("run: {seed: 7}", "run"),
        ("layers: {a: {path: b}}", "layers"),
        ("reads: {logits: {path: output}}", "reads"),
    ],
)
def test_where_it_is_measured_counts_too(tmp_path: Path, block: str, what: str) -> None:
    rules = f"rules:\n{RULE % 'min: 1'}"
    (found,) = compared(tmp_path, rules, f"{block}\n{rules}")
    assert (found.what, found.kind) == (what, "changed")


@pytest.mark.parametrize(
    ("old", "new", "key", "kind"),
    [
        ("min_rows: 50", "min_rows: 60", "expectations.min_rows", "tightened"),
        ("min_rows: 50", "{}", "expectations.min_rows", "loosened"),
        ("packs: [classification]", "packs: [basic]", "expectations.packs", "loosened"),
        ("length: {max: 5}", "length: {max: 6}", "expectations.length.max", "loosened"),
        ("min_rows: 50", "min_rows: 50, warn: [min_rows]", "expectations.warn", "loosened"),
        ("min_rows: 50", "min_rows: 50, reason: They are too few.", "expectations.reason", "reworded"),
    ],
)
def test_what_is_asked_of_a_probe_set_is_compared(tmp_path: Path, old: str, new: str, key: str, kind: str) -> None:
    texts = []
    for keys in (old, new):
        asked = "" if keys == "{}" else f", expectations: {{{keys}}}"
        columns = "{input: x, label: y, length: n}"
        texts.append(f"probe: {{uri: a.npy, columns: {columns}{asked}}}\nrules:\n{RULE % 'min: 1'}")
    (found,) = compared(tmp_path, *texts)
    assert (found.what, found.kind) == ("probe", kind)
    assert [(detail.key, detail.kind) for detail in found.details] == [(key, kind)]
