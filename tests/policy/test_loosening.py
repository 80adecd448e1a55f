"""A policy may be stricter than the one it extends; looser only with `override` and a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from gate.errors import Fault, PolicyError
from gate.policy import load_policy
from gate.policy.loading import LoadedPolicy

HEAD = 'apiVersion: gate/v1\nkind: Policy\nmetadata: {name: NAME, version: "1.0.0"}\n'
BASE = f"""{HEAD}
baseline: {{uri: "@champion"}}
defaults: {{confidence: 0.9, multiplicity: holm}}
rules:
  - id: rank
    metric: effective_rank
    min: 20
    max: 90
    relative: {{max_drop: 5%, max_rise: 0.2}}
    enforce_from: 2027-01-15
  - id: sliced
    metric: knn_label_agreement
    params: {{k: 5}}
    slices:
      by: [language]
      min: 0.7
      max: 0.99
      bounds: {{ja: {{min: 0.6}}}}
      relative: {{max_drop: 0.1}}
      worst_gap: {{max: 0.2}}
      min_rows: 100
      required: [en, ja]
  - {{id: soft, metric: mean_cosine, max: 0.5, severity: warn}}
  - {{id: hard, metric: mean_cosine, max: 0.9, severity: block}}
"""
NOTHING = "there is nothing in what this policy extends that it could override; remove it"
WHY = ", override: true, reason: Agreed in RQ-204"


def loaded(folder: Path, child: str, *, base: str = BASE) -> LoadedPolicy:
    (folder / "base.yaml").write_text(base, encoding="utf-8")
    (folder / "child.yaml").write_text(f"{HEAD}extends: [base.yaml]\n{child}\n", encoding="utf-8")
    return load_policy(folder / "child.yaml")


def faults(folder: Path, child: str, *, base: str = BASE) -> tuple[Fault, ...]:
    with pytest.raises(PolicyError) as raised:
        loaded(folder, child, base=base)
    return raised.value.faults


LOOSER = [
    ("rules", "id: rank, min: 19", "min", "rank.min", "from 20 to 19"),
    ("rules", "id: rank, max: 90.5", "max", "rank.max", "from 90 to 90.5"),
    ("rules", "id: rank, layer: input", "layer", "rank.layer", "asks another question, from output to input"),
    ("rules", "id: rank, metric: vci", "metric", "rank.metric", "asks another question, from effective_rank to vci"),
    ("rules", "id: sliced, params: {k: 6}", "params", "sliced.params", "asks another question, from {'k': 5} to"),
    ("rules", "id: sliced, params: {tau: 1}", "params", "sliced.params", "asks another question, from {'k': 5} to"),
    ("rules", "id: rank, enabled: false", "enabled", "rank.enabled", "switches the rule off"),
    ("rules", "id: rank, severity: warn", "severity", "rank.severity", "from block to warn"),
    ("rules", "id: rank, enforce_from: 2027-01-16", "enforce_from", "rank.enforce_from", "not from 2027-01-15"),
    ("rules", "id: hard, enforce_from: 2026-01-15", "enforce_from", "hard.enforce_from", "not from the start"),
    ("rules", "id: rank, relative: {max_drop: 6%}", "max_drop", "rank.relative.max_drop", "from 5% to 6%"),
    ("rules", "id: rank, relative: {max_drop: 0.001}", "max_drop", "rank.relative.max_drop", "from 5% to 0.001"),
    ("rules", "id: rank, relative: {max_rise: 0.21}", "max_rise", "rank.relative.max_rise", "from 0.2 to 0.21"),
    ("rules", "id: rank, relative: {max_rise: 1%}", "max_rise", "rank.relative.max_rise", "from 0.2 to 1%"),
    ("rules", "id: sliced, slices: {by: [site]}", "by", "sliced.slices.by", "from language to site"),
    ("rules", "id: sliced, slices: {min: 0.69}", "min", "sliced.slices.min", "from 0.7 to 0.69"),
    ("rules", "id: sliced, slices: {max: 1}", "max", "sliced.slices.max", "from 0.99 to 1"),
    ("rules", "id: sliced, slices: {min_rows: 101}", "min_rows", "sliced.slices.min_rows", "smaller slices are not"),
    ("rules", "id: sliced, slices: {min_rows: 99}", "min_rows", "sliced.slices.min_rows", "enough for slices that"),
    ("rules", "id: sliced, slices: {required: [en]}", "required", "sliced.slices.required", "no longer requires ja"),
    ("rules", "id: sliced, slices: {worst_gap: {max: 0.3}}", "max", "sliced.slices.worst_gap.max", "from 0.2 to 0.3"),
    ("rules", "id: sliced, slices: {relative: {max_drop: 0.2}}", "max_drop", "sliced.slices.relative.max_drop", "0.2"),
    ("rules", "id: sliced, slices: {bounds: {ja: {min: 0.5}}}", "min", "sliced.slices.bounds.ja.min", "0.6 to 0.5"),
    ("rules", "id: sliced, slices: {bounds: {en: {min: 0.5, max: 0.9}}}", "min", "sliced.slices.bounds.en.min", "0.5"),
    ("rules", "id: sliced, slices: {bounds: {de: {min: 0.8}}}", "de", "sliced.slices.bounds.de.max", "to nothing"),
    ("defaults", "confidence: 0.89", "confidence", "confidence", "from 0.9 to 0.89"),
    ("defaults", "inconclusive: warn", "inconclusive", "inconclusive", "from block to warn"),
    ("defaults", "inconclusive: pass", "inconclusive", "inconclusive", "from block to pass"),
    ("defaults", "multiplicity: none", "multiplicity", "multiplicity", "from holm to none"),
    ("defaults", "severity: warn", "severity", "severity", "from block to warn"),
    ("baseline", "when_absent: skip_relative", "when_absent", "when_absent", "from error to skip_relative"),
    ("baseline", "uri: '@first'", "uri", "uri", "compares with another version, from @champion to @first"),
    ("baseline", "uri: models:/e/1", "uri", "uri", "compares with another version, from @champion to models:/e/1"),
    ("baseline", "uri: models:/e@first", "uri", "uri", "another version, from @champion to models:/e@first"),
]  # fmt: skip


def as_block(block: str, content: str, more: str = "") -> str:
    return f"rules: [{{{content}{more}}}]" if block == "rules" else f"{block}: {{{content}{more}}}"


@pytest.mark.parametrize(("block", "content", "key", "where", "what"), LOOSER)
def test_whatever_loosens_is_refused_at_its_place(
    tmp_path: Path, block: str, content: str, key: str, where: str, what: str
) -> None:
    child = as_block(block, content)
    (fault,) = faults(tmp_path, child)
    assert (fault.path, fault.line, fault.column) == (str(tmp_path / "child.yaml"), 5, child.rindex(f"{key}:") + 1)
    assert fault.message.startswith(f"{block}.{where}: loosens {tmp_path / 'base.yaml'}, ")
    assert what in fault.message
    inside = "rule" if block == "rules" else f"`{block}` block"
    assert fault.message.endswith(f"; take it out, or write `override: true` and a `reason` in this {inside}")


@pytest.mark.parametrize(("block", "content"), [case[:2] for case in LOOSER])
def test_whatever_loosens_is_allowed_with_override_and_a_reason(tmp_path: Path, block: str, content: str) -> None:
    loaded(tmp_path, as_block(block, content, WHY))


@pytest.mark.parametrize(("block", "content"), [case[:2] for case in LOOSER])
def test_override_without_a_reason_is_refused(tmp_path: Path, block: str, content: str) -> None:
    child = as_block(block, content, ", override: true")
    (fault,) = (each for each in faults(tmp_path, child) if "override: needs a `reason`" in each.message)
    assert (fault.line, fault.column) == (5, child.index("override") + 1)


@pytest.mark.parametrize(
    ("block", "content"),
    [
        ("rules", "id: rank, min: 20, max: 90, relative: {max_drop: 5%, max_rise: 0.2}"),
        ("rules", "id: rank, min: 21, max: 89"),
        ("rules", "id: rank, relative: {max_drop: 4.9%, max_rise: 0.19}"),
        ("rules", "id: rank, enforce_from: 2027-01-14"),
        ("rules", "id: rank, slices: {by: [site], min: 18}"),
        ("rules", "id: rank, why: w, fix: f, docs: d, paper: p"),
        ("rules", "id: sliced, min: 0.8, relative: {max_drop: 1%}"),
        ("rules", "id: sliced, slices: {min: 0.71, max: 0.98, required: [ja, en, de]}"),
        ("rules", "id: sliced, slices: {required: [language=en, ja]}"),
        ("rules", "id: sliced, slices: {worst_gap: {max: 0.1}, relative: {max_drop: 0.05, max_rise: 1}}"),
        ("rules", "id: sliced, slices: {bounds: {ja: {min: 0.61, max: 0.7}, en: {min: 0.7, max: 0.99}}}"),
        ("rules", "id: soft, severity: block"),
        ("rules", "id: soft, max: 0.4"),
        ("rules", "id: new, metric: mean_cosine, max: 1, severity: warn, enforce_from: 2030-01-01"),
        ("defaults", "confidence: 0.99"),
        ("defaults", "severity: block, inconclusive: block, multiplicity: holm"),
        ("run", "seed: 7"),
        ("layers", "embedding: {path: '3'}"),
        ("scope", "models: [text-*], aliases: {challenger: warn}"),
    ],
)
def test_whatever_tightens_is_allowed(tmp_path: Path, block: str, content: str) -> None:
    assert loaded(tmp_path, as_block(block, content)).policy.rules


def test_everything_that_loosens_comes_at_once(tmp_path: Path) -> None:
    child = "rules:\n  - {id: soft, max: 0.6}\n  - {id: rank, min: 1, relative: {max_drop: 9%}}\n"
    child += "defaults: {confidence: 0.8}"
    assert [(each.line, each.column) for each in faults(tmp_path, child)] == [(6, 16), (7, 16), (7, 35), (8, 12)]


def test_an_override_is_for_its_own_rule_only(tmp_path: Path) -> None:
    child = f"rules:\n  - {{id: soft, max: 0.6{WHY}}}\n  - {{id: rank, min: 1}}\ndefaults: {{confidence: 0.8}}"
    assert [each.line for each in faults(tmp_path, child)] == [7, 8]
    child = f"rules:\n  - {{id: soft, max: 0.6}}\ndefaults: {{confidence: 0.8{WHY}}}"
    assert [each.line for each in faults(tmp_path, child)] == [6]


def test_an_override_of_nothing_is_refused(tmp_path: Path) -> None:
    child = f"rules: [{{id: new, metric: vci, max: 1{WHY}}}]"
    (fault,) = faults(tmp_path, child)
    assert (fault.line, fault.column) == (5, child.index("override") + 1)
    none = "no policy that this one extends has a rule 'new'"
    assert fault.message == f"rules.new.override: {none}, so there is nothing to override; remove it"
    with pytest.raises(PolicyError) as raised:
        load_policy(written(tmp_path, "own.yaml", BASE.replace("holm", f"holm{WHY}").replace('ion"', f'ion"{WHY}')))
    assert [each.message for each in raised.value.faults] == [
        f"baseline.override: {NOTHING}",
        f"defaults.override: {NOTHING}",
    ]


def test_a_baseline_is_overridden_only_where_the_base_has_one(tmp_path: Path) -> None:
    base = f"{HEAD}rules: [{{id: a, metric: effective_rank, min: 1}}]"
    (fault,) = faults(tmp_path, f"baseline: {{uri: '@c'{WHY}}}", base=base)
    assert fault.message == f"baseline.override: {NOTHING}"
    assert loaded(tmp_path, "baseline: {uri: '@c', when_absent: skip_relative}", base=base).policy.baseline is not None


def test_a_version_that_the_base_names_stays_the_one_that_is_compared_with(tmp_path: Path) -> None:
    base = BASE.replace('"@champion"', "models:/e@champion")
    for uri in ("'@champion'", "models:/e@first", "models:/other@champion"):
        (fault,) = faults(tmp_path, f"baseline: {{uri: {uri}}}", base=base)
        assert "baseline.uri: loosens" in fault.message
    loaded(tmp_path, "baseline: {uri: models:/e@champion}", base=base)
    assert faults(tmp_path, "baseline: {uri: models:/e/1}", base=BASE.replace('"@champion"', "'1'"))  # a folder


@pytest.mark.parametrize(
    ("models", "uri", "same"),
    [
        ("[e]", "models:/e@champion", True),
        ("[e]", "models:/garbage@champion", False),
        ("[e]", "models:/e@first", False),
        ("[e]", "models:/e/1", False),
        ("[e]", "models:/e@x@champion", False),
        ("['e@x']", "models:/e@x@champion", True),
        ("[e]", "e@champion", False),
        ("[e, f]", "models:/e@champion", False),
        ("['*']", "models:/e@champion", False),
        ("['e*']", "models:/e*@champion", False),
        ("['[e]']", "models:/[e]@champion", False),
        (None, "models:/e@champion", False),
        (None, "models:/*@champion", False),
    ],
)
def test_an_alias_may_be_written_out_for_the_one_model_of_the_scope(
    tmp_path: Path, models: str | None, uri: str, *, same: bool
) -> None:
    child = f"baseline: {{uri: '{uri}'}}" + (f"\nscope: {{models: {models}}}" if models else "")
    if same:
        assert loaded(tmp_path, child).policy.baseline is not None
    else:
        (fault,) = faults(tmp_path, child)
        assert fault.message.startswith(
            f"baseline.uri: loosens {tmp_path / 'base.yaml'}, compares with another version"
        )


def test_an_alias_is_the_whole_of_what_stands_after_the_last_at(tmp_path: Path) -> None:
    base = BASE.replace('"@champion"', '"@x@champion"')
    assert faults(tmp_path, "baseline: {uri: models:/e@x@champion}\nscope: {models: [e@x]}", base=base)


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        (
            "",
            "layers: {emb: {path: '2'}}",
            "emb: loosens PATH, asks another layer of the baseline, from its own path to 2",
        ),
        ("layers: {emb: {path: '1'}}", "layers: {emb: {path: '2'}}", "emb: loosens PATH, asks another layer of the b"),
        ("layers: {emb: {path: '1'}}", "layers: {emb: {pooling: mean}}", "from 1 (none) to 1 (mean); take it out"),
        ("layers: {emb: {path: '1'}}", "layers: {emb: {path: '1'}}", None),
        ("", "layers: {own: {path: '2'}}", None),
    ],
)
def test_another_layer_of_the_baseline_is_overridden(tmp_path: Path, before: str, after: str, what: str | None) -> None:
    named = "layers: {emb: {path: '1'}}\nrules:"
    base = BASE.replace('"@champion"', f'"@champion", {before}').replace("rules:", named)
    child = "layers: {own: {path: '3'}}\nbaseline: {" + after
    if what is None:
        assert loaded(tmp_path, child + "}", base=base).policy.rules
        return
    (fault,) = faults(tmp_path, child + "}", base=base)
    assert fault.line == 6
    assert fault.message.startswith("baseline.layers.emb: loosens")
    assert what.replace("PATH", str(tmp_path / "base.yaml")) in fault.message
    assert loaded(tmp_path, child + WHY + "}", base=base).policy.rules


def test_a_baseline_that_is_asked_for_takes_the_place_of_any(tmp_path: Path) -> None:
    loaded(tmp_path, "rules: [{id: rank, min: 21}]")
    policy = load_policy(tmp_path / "child.yaml", baseline="models:/e/1").policy
    assert policy.baseline is not None
    assert policy.baseline.uri == "models:/e/1"


def test_a_rule_of_ones_own_is_removed_and_not_switched_off(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, "rules: [{id: new, metric: vci, max: 1, enabled: false}]")
    assert fault.message == (
        "rules.new.enabled: no policy that this one extends has a rule 'new'; to have none here, remove it altogether"
    )


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


MIDDLE = f"{HEAD}extends: [base.yaml]\nrules: [{{id: rank, min: 10{WHY}}}]\ndefaults: {{confidence: 0.8{WHY}}}\n"


def test_what_a_base_has_overridden_is_the_new_mark(tmp_path: Path) -> None:
    written(tmp_path, "base.yaml", BASE)
    written(tmp_path, "middle.yaml", MIDDLE)
    top = f"{HEAD}extends: [middle.yaml]\n"
    assert load_policy(written(tmp_path, "top.yaml", f"{top}rules: [{{id: rank, min: 11}}]")).policy.rules[0].min == 11
    with pytest.raises(PolicyError, match=r"rules\.rank\.min: loosens .*middle\.yaml, from 10 to 9"):
        load_policy(written(tmp_path, "top.yaml", f"{top}rules: [{{id: rank, min: 9}}]"))
    with pytest.raises(PolicyError, match=r"defaults\.confidence: loosens .*middle\.yaml, from 0\.8 to 0\.7"):
        load_policy(written(tmp_path, "top.yaml", f"{top}defaults: {{confidence: 0.7}}"))


def test_a_bases_own_override_loosens_no_other_base(tmp_path: Path) -> None:
    written(tmp_path, "base.yaml", BASE)
    written(tmp_path, "middle.yaml", MIDDLE)
    written(tmp_path, "strict.yaml", f"{HEAD}rules: [{{id: rank, metric: effective_rank, min: 18, max: 90}}]\n")
    top = written(tmp_path, "top.yaml", f"{HEAD}extends:\n  - strict.yaml\n  - middle.yaml\n")
    with pytest.raises(PolicyError) as raised:
        load_policy(top)
    assert {(each.path, each.line) for each in raised.value.faults} == {(str(top), 6)}
    messages = [each.message for each in raised.value.faults]
    assert len(messages) == 3
    assert messages[0].startswith(f"defaults.confidence: loosens {tmp_path / 'strict.yaml'}, from 0.95 to 0.8;")
    assert messages[1].startswith("rules.rank.enforce_from: loosens")
    assert messages[2].startswith(f"rules.rank.min: loosens {tmp_path / 'strict.yaml'}, from 18 to 10;")
    assert messages[2].endswith(f"({tmp_path / 'middle.yaml'}, line 5)")


def test_a_default_severity_reaches_the_rules_of_a_base_that_name_none(tmp_path: Path) -> None:
    found = faults(tmp_path, "defaults: {severity: warn}")
    assert [each.message.partition(",")[0] for each in found] == [
        f"defaults.severity: loosens {tmp_path / 'base.yaml'}"
    ]
    rules = {rule.id: rule.severity for rule in loaded(tmp_path, f"defaults: {{severity: warn{WHY}}}").policy.rules}
    assert rules == {"rank": "warn", "sliced": "warn", "soft": "warn", "hard": "block"}


def test_a_default_severity_that_reaches_no_rule_of_the_base_loosens_nothing(tmp_path: Path) -> None:
    base = f"{HEAD}rules: [{{id: a, metric: effective_rank, min: 1, severity: block}}]"
    child = "defaults: {severity: warn}\nrules: [{id: b, metric: effective_rank, min: 1}]"
    assert [rule.severity for rule in loaded(tmp_path, child, base=base).policy.rules] == ["block", "warn"]


def test_a_severity_that_a_rule_names_itself_is_no_matter_of_the_defaults(tmp_path: Path) -> None:
    child = f"defaults: {{severity: warn{WHY}}}\nrules: [{{id: hard, severity: warn}}]"
    assert [each.message.partition(":")[0] for each in faults(tmp_path, child)] == ["rules.hard.severity"]


@pytest.mark.parametrize("change", ["confidence: 0.99", "multiplicity: holm"])
def test_more_confidence_loosens_where_what_is_inconclusive_does_not_block(tmp_path: Path, change: str) -> None:
    base = BASE.replace("multiplicity: holm", "inconclusive: warn")
    (fault,) = faults(tmp_path, f"defaults: {{{change}}}", base=base)
    assert "and what is inconclusive then does not block; take it out" in fault.message
    loaded(tmp_path, f"defaults: {{{change}, inconclusive: block}}", base=base)
    loaded(tmp_path, f"defaults: {{{change}{WHY}}}", base=base)


def test_a_slice_cannot_get_looser_bounds_under_its_other_name(tmp_path: Path) -> None:
    base = BASE.replace("      min: 0.7\n      max: 0.99\n", "")
    child = "rules: [{id: sliced, slices: {min: 0.6, bounds: {language=ja: {min: 0}}}}]"
    (fault,) = faults(tmp_path, child, base=base)
    assert "'language=ja' is the slice 'ja' once more" in fault.message


def test_a_rule_that_is_switched_off_has_nothing_to_loosen(tmp_path: Path) -> None:
    written(tmp_path, "base.yaml", BASE)
    written(tmp_path, "middle.yaml", f"{HEAD}extends: [base.yaml]\nrules: [{{id: rank, enabled: false{WHY}}}]\n")
    top = written(tmp_path, "top.yaml", f"{HEAD}extends: [middle.yaml]\nrules: [{{id: rank, enabled: true, min: 1}}]\n")
    rank = load_policy(top).policy.rules[0]
    assert (rank.enabled, rank.min, rank.reason) == (True, 1, "Agreed in RQ-204")


@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        ("", False),
        ("rules: [{id: new, metric: vci, max: 1}]", False),
        ("rules: [{id: rank, enabled: false}]", False),
        (f"rules: [{{id: rank, enabled: false{WHY}}}]", False),
        ("rules: [{id: rank, enabled: true, min: 21}]", False),
        ("rules: [{id: rank, min: 21}]", True),
        ("rules: [{id: rank, why: Small sites}]", True),
    ],
)
def test_a_switched_off_rule_is_taken_over_and_changes_to_it_are_refused(
    tmp_path: Path, rules: str, *, refused: bool
) -> None:
    written(tmp_path, "base.yaml", BASE)
    off = f"rules: [{{id: rank, enabled: false{WHY}}}]"
    written(tmp_path, "middle.yaml", f"{HEAD}extends: [base.yaml]\n{off}\n")
    top = written(tmp_path, "top.yaml", f"{HEAD}extends: [middle.yaml]\n{rules}\n")
    if not refused:
        assert load_policy(top).policy.rules[0].enabled == ("enabled: true" in rules)
        return
    with pytest.raises(PolicyError) as raised:
        load_policy(top)
    (fault,) = raised.value.faults
    assert fault.message.startswith("rules.rank.id: the rule 'rank' is switched off in what this policy extends;")
    assert (fault.line, fault.column) == (5, 10)


PROBE = f"""{HEAD}
probe:
  uri: a.parquet
  columns: {{input: x, label: y, group: g, length: n, id: i}}
  expectations:
    packs: [retrieval]
    min_rows: 100
    max_class_share: 0.5
    max_duplicates: 2%
    length: {{min: 1, max: 9}}
    unique: [url, path]
    not_null: [url]
    suite: a.json
rules:
  - {{id: rank, metric: effective_rank, min: 1}}
"""


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ("min_rows: 99", "`min_rows` from 100 to 99"),
        ("max_class_share: 0.6", "`max_class_share` from 0.5 to 0.6"),
        ("max_duplicates: 3%", "`max_duplicates` from 2% to 3%"),
        ("max_duplicates: 1", "`max_duplicates` from 2% to 1"),
        ("length: {min: 0}", "from 1 to 0"),
        ("length: {max: 10}", "from 9 to 10"),
        ("unique: [url]", "no longer asks it of path"),
        ("not_null: [path]", "no longer asks it of url"),
        ("suite: b.json", "asks what another suite does, from a.json to b.json"),
        ("packs: [basic]", "`min_rows_per_class` from 2 to nothing"),
        ("min_rows_per_class: 1", "`min_rows_per_class` from 2 to 1"),
        ("warn: [length]", "only warns of `length`"),
    ],
)
def test_a_probe_set_of_which_less_is_asked_needs_a_reason(tmp_path: Path, keys: str, what: str) -> None:
    (fault,) = faults(tmp_path, f"probe: {{expectations: {{{keys}}}}}", base=PROBE)
    advice = "take it out, or write `override: true` and a `reason` in this `expectations` block"
    assert fault.message.startswith("probe.expectations.")
    assert f"{what}; {advice}" in fault.message
    assert fault.line == 5
    allowed = loaded(tmp_path, f"probe: {{expectations: {{{keys}{WHY}}}}}", base=PROBE)
    assert allowed.policy.probe is not None
    assert allowed.policy.probe.expectations.override


@pytest.mark.parametrize(
    "keys",
    [
        "min_rows: 101",
        "max_duplicates: 0",
        "length: {min: 2, max: 8}",
        "unique: [path, url, title]",
        "packs: [retrieval, classification]",
        "max_class_share: 0.4",
    ],
)
def test_more_may_be_asked_of_a_probe_set_freely(tmp_path: Path, keys: str) -> None:
    policy = loaded(tmp_path, f"probe: {{expectations: {{{keys}}}}}", base=PROBE).policy
    assert policy.probe is not None
    assert policy.probe.expectations.bounds["min_rows"].value >= 100


def test_permission_to_ask_less_of_a_probe_set_is_not_handed_down(tmp_path: Path) -> None:
    loaded(tmp_path, f"probe: {{expectations: {{min_rows: 50{WHY}}}}}", base=PROBE)
    (tmp_path / "child.yaml").rename(tmp_path / "middle.yaml")
    path = tmp_path / "last.yaml"
    path.write_text(f"{HEAD}extends: [middle.yaml]\nprobe: {{expectations: {{min_rows: 40}}}}\n", encoding="utf-8")
    with pytest.raises(PolicyError, match="`min_rows` from 50 to 40"):
        load_policy(path)


def test_permission_to_ask_less_of_no_other_probe_set_is_needless(tmp_path: Path) -> None:
    probe = f"probe: {{uri: a.npy, columns: {{input: x}}, expectations: {{min_rows: 5{WHY}}}}}"
    (fault,) = faults(tmp_path, probe, base=f"{HEAD}rules: [{{id: rank, metric: effective_rank, min: 1}}]\n")
    assert fault.message == f"probe.expectations.override: {NOTHING}"
