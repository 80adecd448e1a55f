"""Policies that extend packs and other files: which file is meant, and whose line a fault is on."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from gate.errors import NothingEvaluatedError, PolicyError, UsageError
from gate.policy import load_policy, packs
from gate.policy.merging import Place

HEAD = 'apiVersion: gate/v1\nkind: Policy\nmetadata: {name: NAME, version: "1.0.0"}\n'
COMPANY = f"{HEAD}layers: {{embedding: {{path: '1'}}}}\nrules:\n  - {{id: rank, metric: effective_rank, min: 20}}\n"
ABOUT_FILES = "a file is named with its ending, such as `zzz.yaml`"
MARGIN = "should be a number of at least 0, or a percentage such as `5%`"
LABEL = "'vci' needs `label` of the probe set; add `label: NAME` to `probe.columns`"
CROSSED = "should be at least `min`, found min 40 and max 30"
PACKS = [(name, f"{name}@{load_policy(name).policy.metadata.version.partition('.')[0]}") for name in packs.names()]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, text: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")
    return name


def child(*extends: str, more: str = "", name: str = "child.yaml") -> str:
    entries = "".join(f"  - {each}\n" for each in extends)
    return write(name, f"{HEAD}extends:\n{entries}{more}")


def faults(reference: str) -> list[str]:
    with pytest.raises(PolicyError) as raised:
        load_policy(reference)
    return [str(fault) for fault in raised.value.faults]


@pytest.mark.parametrize(("name", "entry"), PACKS)
def test_a_pack_can_be_checked_under_and_extended(name: str, entry: str) -> None:
    pack = load_policy(name)
    extended = load_policy(child(entry))
    assert extended.policy.rules == pack.policy.rules == load_policy(entry).policy.rules
    assert [source.path for source in extended.sources] == ["child.yaml", entry]
    assert extended.sources[1].text == pack.text
    assert extended.position("rules", 0, "metric") == Place(entry, *pack.position("rules", 0, "metric")[1:])
    assert extended.anchor("rules", 0, "metric") == Place("child.yaml", 5, 5)


def test_files_are_found_from_the_folder_of_the_policy_that_names_them() -> None:
    write("shared/company.yaml", COMPANY)
    write("shared/team.yaml", f"{HEAD}extends: [company.yaml]\nrules: [{{id: rank, min: 21}}]\n")
    loaded = load_policy(child("../shared/team.yaml", name="models/child.yaml"))
    paths = ["models/child.yaml", "models/../shared/team.yaml", "models/../shared/company.yaml"]
    assert [source.path for source in loaded.sources] == paths
    assert loaded.position("rules", 0, "min") == Place(paths[1], 5, 20)
    assert loaded.position("rules", 0, "metric") == Place(paths[2], 6, 16)
    assert loaded.anchor("rules", 0, "metric") == Place(paths[0], 5, 5)


def test_the_digest_is_that_of_all_files() -> None:
    write("company.yaml", COMPANY)
    loaded = load_policy(child("company.yaml"))
    digests = [f"sha256:{sha256(Path(path).read_bytes()).hexdigest()}" for path in ("child.yaml", "company.yaml")]
    assert [source.digest for source in loaded.sources] == digests
    assert loaded.digest == f"sha256:{sha256(''.join(digests).encode()).hexdigest()}"
    write("company.yaml", COMPANY.replace("20", "21"))
    assert load_policy("child.yaml").digest != loaded.digest


def test_later_entries_count_before_earlier_ones_and_the_policy_before_all() -> None:
    write("first.yaml", f"{HEAD}run: {{seed: 1, batch_size: 8}}\nrules: [{{id: a, metric: effective_rank, min: 1}}]\n")
    write("second.yaml", f"{HEAD}run: {{seed: 2}}\nrules: [{{id: b, metric: effective_rank, min: 1, why: 'b'}}]\n")
    loaded = load_policy(child("first.yaml", "second.yaml", more="rules: [{id: b, why: 'own'}]\n"))
    assert (loaded.policy.run.seed, loaded.policy.run.batch_size) == (2, 8)
    assert [(rule.id, rule.why) for rule in loaded.policy.rules] == [("a", None), ("b", "own")]
    assert load_policy(child("first.yaml", "second.yaml", more="run: {seed: 3}")).policy.run.seed == 3


def test_what_a_file_says_is_anchored_at_the_entry_that_names_it() -> None:
    write("first.yaml", f"{HEAD}rules: [{{id: a, metric: effective_rank, min: 1}}]\n")
    write("second.yaml", f"{HEAD}extends: [third.yaml]\n")
    write("third.yaml", f"{HEAD}rules: [{{id: c, metric: effective_rank, min: 1}}]\n")
    loaded = load_policy(child("first.yaml", "second.yaml"))
    assert [loaded.anchor("rules", index).line for index in (0, 1)] == [5, 6]


def test_a_file_that_two_others_extend_is_one_source() -> None:
    write("company.yaml", COMPANY)
    for name in ("a.yaml", "b.yaml"):
        write(name, f"{HEAD}extends: [company.yaml]\n")
    loaded = load_policy(child("a.yaml", "b.yaml"))
    assert [source.path for source in loaded.sources] == ["child.yaml", "a.yaml", "company.yaml", "b.yaml"]
    assert [rule.id for rule in loaded.policy.rules] == ["rank"]


WAIVED = "waivers:\n  - {rule: rank, model: 'models:/e/1', expires: %s, owner: ann, reason: the tokenizer is new}\n"


def test_a_waiver_that_two_others_take_over_is_one() -> None:
    write("company.yaml", COMPANY + WAIVED % "2027-01-01")
    write("a.yaml", f"{HEAD}extends: [company.yaml]\n")
    write("b.yaml", f"{HEAD}extends: [company.yaml]\n{WAIVED % '2027-02-01'}")
    loaded = load_policy(child("a.yaml", "b.yaml"))
    assert [str(each.expires) for each in loaded.policy.waivers] == ["2027-01-01", "2027-02-01"]
    assert [loaded.position("waivers", index).path for index in (0, 1)] == ["company.yaml", "b.yaml"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "clasifier@1",
            "there is no pack 'clasifier'. Did you mean `classifier@1`?",
        ),
        ("clasifier", "there is no pack 'clasifier'. Did you mean `classifier`?"),
        ("zzz@1", f"there is no pack 'zzz'. There are: {', '.join(packs.names())}; a file is named with its ending,"),
        ("classifier", "names no version of the pack 'classifier'; write `classifier@1`"),
        ("classifier@99", "there is no version 99 of the pack 'classifier', this is 1."),
        ("classifier@0", "there is no version 0 of the pack 'classifier', this is 1."),
        (
            "classifier@1.0",
            "there is no policy file 'classifier@1.0'. A pack is named with its major version, such as `cl",
        ),
        ("compny.yaml", "there is no policy file 'compny.yaml'. Did you mean `company.yaml`?"),
        (
            "nowhere/company.yaml",
            "there is no policy file 'nowhere/company.yaml'. There is no folder 'nowhere' either.",
        ),
        (".", "there is no policy file '.'."),
        ("child.yaml", "'child.yaml' is this policy itself; take it out"),
        ("./child.yaml", "'./child.yaml' is this policy itself; take it out"),
        ("'  '", "should be text that is not empty; found '  '"),
    ],
)
def test_an_entry_that_means_no_policy_is_a_fault_at_its_line(entry: str, message: str) -> None:
    write("company.yaml", COMPANY)
    found = faults(child("company.yaml", entry, more="rules: [{id: rank, min: 21}, {id: mine, mni: 3}]\n"))
    assert found[0].startswith(f"child.yaml:6:5: error[policy]: extends.1: {message}")
    assert found[-1] == ("child.yaml:7:41: error[policy]: rules.1.mni: there is no key `mni`. Did you mean `min`?")


@pytest.mark.parametrize(
    ("extends", "place", "message"),
    [
        ("classifier@1", "4:1", "extends: should be a list, found 'classifier@1'; write `[\"classifier@1\"]`"),
        ("[3]", "4:11", "extends.0: should be text, found 3; write it in quotes"),
        ("{a: 1}", "4:1", "extends: should be a list, found {'a': 1}; begin each entry with `-`"),
        ("", "4:1", "extends: has no value; write one, or remove the key"),
    ],
)
def test_entries_of_another_kind_are_the_only_fault_of_a_file_that_adds_to_them(
    extends: str, place: str, message: str
) -> None:
    content = "rules: [{id: rank, min: 21, layer: embedding, slices: {min_rows: 9}, relative: {}}]"
    found = faults(write("child.yaml", f"{HEAD}extends: {extends}\n{content}\n"))
    assert found == [f"child.yaml:{place}: error[policy]: {message}"]


def test_what_a_file_must_say_of_itself_no_other_says_for_it() -> None:
    content = "kind: Policy\nmetadata: {name: a}\nextends: [zzz@1]\nrules: [{id: rank}]\nlayers: {a: {pooling: mean}}\n"
    assert [line.partition("]: ")[2].partition(";")[0] for line in faults(write("child.yaml", content))] == [
        "apiVersion: is required, and not there",
        "metadata.version: is required, and not there",
        f"extends.0: there is no pack 'zzz'. There are: {', '.join(packs.names())}",
    ]


def test_policies_that_extend_each_other_are_a_fault_of_the_last() -> None:
    write("a.yaml", f"{HEAD}extends: [b.yaml]\n")
    write("b.yaml", f"{HEAD}extends: [c.yaml]\n")
    write("c.yaml", f"{HEAD}extends: [./a.yaml]\n")
    assert faults("a.yaml") == [
        "c.yaml:4:11: error[policy]: extends.0: './a.yaml' extends this policy in turn; take one of the two out"
    ]


def test_faults_of_an_extended_file_are_shown_with_its_path_and_those_of_all_files_at_once() -> None:
    write("company.yaml", COMPANY.replace("min: 20", "mni: 20"))
    write("other.yaml", f"{HEAD}rules: [{{id: a, metric: vcii, max: .nan}}]\n")
    own = "defaults: {confidence: 95}\nrules: [{id: rank, min: no, enforce_from: soon}, {id: rank, max: 1}]\n"
    there = ", ".join(packs.names())
    assert faults(child("company.yaml", "other.yaml", "zzz@1", more=own)) == [
        f"child.yaml:7:5: error[policy]: extends.2: there is no pack 'zzz'. There are: {there}; {ABOUT_FILES}",
        "child.yaml:8:12: error[policy]: defaults.confidence: should be at most 0.9999, found 95",
        "child.yaml:9:20: error[policy]: rules.0.min: should be a number, found 'no'; leave the key out for none",
        "child.yaml:9:29: error[policy]: rules.0.enforce_from: should be a day such as 2027-01-31, found 'soon'",
        "child.yaml:9:51: error[policy]: rules.1.id: 'rank' is already the id of rules.0; give it another",
        "company.yaml:6:40: error[policy]: rules.0.mni: there is no key `mni`. Did you mean `min`?",
        "other.yaml:4:17: error[policy]: rules.0.metric: there is no metric 'vcii'. Did you mean `vci`?",
        "other.yaml:4:31: error[policy]: rules.0.max: should be a finite number, found nan",
    ]


def test_faults_of_the_text_are_told_before_files_are_merged() -> None:
    write("company.yaml", COMPANY)
    more = "rules: [{id: rank, min: 21, min: 3, relative: {max_drop: x}}, {id: other, why: }]\n"
    assert faults(child("company.yaml", more=more)) == [
        "child.yaml:6:29: error[policy]: rules.0.min: `min` is given twice, first on line 6; keep one of the two",
        f"child.yaml:6:48: error[policy]: rules.0.relative.max_drop: {MARGIN}; found 'x'",
        "child.yaml:6:75: error[policy]: rules.1.why: has no value; write one, or remove the key",
    ]


def test_a_rule_of_two_files_is_called_by_its_id() -> None:
    write("company.yaml", COMPANY)
    found = faults(child("company.yaml", more="rules: [{id: extra, max: 3}, {id: rank, min: 21, max: 20}]\n"))
    assert found == [
        "child.yaml:6:9: error[policy]: rules.extra.metric: is required, and not there; add it",
        "child.yaml:6:10: error[policy]: rules.extra.id: no policy that this one extends has a rule 'extra' to add to",
        "child.yaml:6:50: error[policy]: rules.rank.max: should be at least `min`, found min 21 and max 20",
    ]


def test_what_no_longer_fits_together_is_told_in_the_policys_own_file() -> None:
    labelled = "  - {id: probe, metric: vci, max: 1}\n"
    write("company.yaml", COMPANY.replace("min: 20", "min: 20, max: 30") + labelled)
    more = "rules: [{id: rank, min: 40}]\nprobe: {uri: p.npz, columns: {input: x}}\n"
    assert faults(child("company.yaml", more=more)) == [
        f"child.yaml:5:5: error[policy]: rules.probe.metric: {LABEL} (company.yaml, line 7)",
        f"child.yaml:6:9: error[policy]: rules.rank.max: {CROSSED} (company.yaml, line 6)",
    ]


def test_two_rules_of_one_id_are_not_merged_into_that_of_a_base() -> None:
    write("company.yaml", COMPANY)
    more = "rules:\n  - {id: rank, min: 21}\n  - {id: rank, min: 1, metric: effective_rank}\n"
    assert faults(child("company.yaml", more=more)) == [
        "child.yaml:8:6: error[policy]: rules.rank.id: 'rank' is already the id of rules.0; give it another"
    ]


def test_a_waiver_of_a_base_stays_and_may_be_of_a_rule_that_is_switched_off() -> None:
    waiver = "waivers: [{rule: rank, model: 'models:/a/1', expires: 2030-01-01, owner: o, reason: ten letters}]\n"
    write("company.yaml", COMPANY + "  - {id: b, metric: effective_rank, min: 1}\n" + waiver)
    off = "rules: [{id: rank, enabled: false, override: true, reason: Not asked of us.}]\n"
    loaded = load_policy(child("company.yaml", more=off + waiver.replace("rank", "b")))
    assert [each.rule for each in loaded.policy.waivers] == ["rank", "b"]
    assert [loaded.position("waivers", index).path for index in (0, 1)] == ["company.yaml", "child.yaml"]


def test_a_policy_with_all_rules_switched_off_evaluates_nothing() -> None:
    write("company.yaml", COMPANY)
    off = "rules: [{id: rank, enabled: false, override: true, reason: Not asked of us.}]\n"
    with pytest.raises(NothingEvaluatedError, match=r"policy 'NAME' has no rule that is switched on, so nothing is"):
        load_policy(child("company.yaml", more=off))


def test_a_base_may_have_no_rules() -> None:
    write("company.yaml", COMPANY.partition("rules")[0])
    rules = "rules: [{id: rank, metric: effective_rank, layer: embedding, min: 1}]\n"
    assert load_policy(child("company.yaml", more=rules)).policy.layers["embedding"].path == "1"


def test_a_pack_is_refused_under_a_version_that_it_does_not_have() -> None:
    with pytest.raises(
        UsageError, match=r"there is no version 99 of the pack 'classifier', this is 1\..*`classifier@1`"
    ):
        load_policy("classifier@99")


def test_a_file_goes_before_a_pack_of_its_name_and_a_folder_does_not() -> None:
    Path("classifier").mkdir()
    assert len(load_policy("classifier").policy.rules) > 1
    Path("classifier").rmdir()
    write("classifier", COMPANY)
    assert [rule.id for rule in load_policy("classifier").policy.rules] == ["rank"]


def test_a_mistyped_pack_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"policy 'clasifier' does not exist, .* Did you mean `classifier`\?"):
        load_policy("clasifier")


def test_another_baseline_takes_the_place_of_the_policys_own() -> None:
    relative = COMPANY.replace("min: 20", "relative: {max_drop: 1}")
    write("a.yaml", relative + "baseline: {uri: '@champion', when_absent: skip_relative}\n")
    baseline = load_policy("a.yaml", baseline="models:/b/1").policy.baseline
    assert baseline is not None
    assert (baseline.uri, baseline.when_absent) == ("models:/b/1", "error")
    write("b.yaml", relative)
    assert "compares with a baseline" in faults("b.yaml")[0]
    assert load_policy("b.yaml", baseline="models:/b/1").policy.baseline is not None
    write("c.yaml", relative + "baseline: '@champion'\n")
    with pytest.raises(PolicyError, match="baseline: should hold keys with values, found '@champion'"):
        load_policy("c.yaml", baseline="models:/b/1")
