"""Policy files: positions, all faults at once, and nothing that loosens a bound unseen."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from gate.errors import NothingEvaluatedError, PolicyError, UsageError
from gate.policy import load_policy, load_probe_spec
from gate.policy.loading import Source
from gate.policy.merging import Place
from gate.policy.reading import MOST_VALUES, nearest, read

GOOD = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "3.10"}
layers:
  embedding: {path: "1", pooling: mean}
rules:
  - id: collapse
    metric: collapse_index
    layer: embedding
    max: 3.5e-1   # not the text '3.5e-1'
  - id: rank
    metric: effective_rank
    min: 96
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "policy.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def faults(folder: Path, text: str | bytes) -> list[str]:
    path = written(folder, text)
    with pytest.raises(PolicyError) as raised:
        load_policy(path)
    assert all(line.startswith(f"{path}:") for line in str(raised.value).splitlines())
    return [f"{fault.line}:{fault.column}: {fault.message}" for fault in raised.value.faults]


def test_a_policy_is_loaded_with_its_text_digest_and_positions(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    loaded = load_policy(path)
    assert loaded.policy.metadata.version == "3.10"
    assert loaded.policy.rules[0].max == 0.35
    assert (loaded.path, loaded.text) == (str(path), GOOD)
    assert loaded.digest == f"sha256:{sha256(GOOD.encode()).hexdigest()}"
    assert loaded.position("rules", 1, "min") == Place(str(path), 13, 5)
    assert loaded.position("rules", 1) == Place(str(path), 11, 5)
    assert loaded.position("layers", "embedding", "pooling") == Place(str(path), 5, 26)
    assert loaded.sources == (Source(str(path), GOOD, loaded.digest),)


def test_a_place_that_is_not_written_is_the_nearest_around_it(tmp_path: Path) -> None:
    loaded = load_policy(written(tmp_path, GOOD))
    assert loaded.position("rules", 1, "max") == loaded.position("rules", 1)
    assert loaded.position("probe", "columns") == Place(loaded.path, 1, 1)
    assert nearest({(): (3, 4)}, ("a", 0)) == (3, 4)


def test_a_typo_is_shown_with_its_place_and_the_nearest_key(tmp_path: Path) -> None:
    found = faults(tmp_path, GOOD.replace("    min: 96", "    mni: 96"))
    assert found == ["13:5: rules.1.mni: there is no key `mni`. Did you mean `min`?"]


def test_a_printed_fault_begins_with_file_line_and_column(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD.replace("min: 96", "mni: 96"))
    with pytest.raises(PolicyError, match=r"policy\.yaml:13:5: error\[policy.*\]: rules\.1\.mni: .*`min`\?"):
        load_policy(path)


def test_all_faults_of_a_file_come_at_once_in_the_order_of_its_lines(tmp_path: Path) -> None:
    text = (
        GOOD.replace("kind: Policy", "kind: Polcy")
        .replace("layer: embedding", "layer: embeding")
        .replace("id: rank", "id: collapse")
        .replace("metric: effective_rank", "metric: effective_rnak")
        .replace("min: 96", "min: yes\n    slices: {by: [site]}")
    )
    assert faults(tmp_path, text) == [
        "2:1: kind: should be `Policy`, found 'Polcy'",
        "9:5: rules.0.layer: there is no layer 'embeding'. Did you mean `embedding`?",
        "11:5: rules.1.id: 'collapse' is already the id of rules.0; give it another",
        "12:5: rules.1.metric: there is no metric 'effective_rnak'. Did you mean `effective_rank`?",
        "13:5: rules.1.min: should be a number, found 'yes'",
        "14:5: rules.1.slices: needs at least one of `min`, `max`, `bounds`, `relative` and `worst_gap`, found none",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("kind: Policy\n", "", "1:1: kind: is required, and not there; add it"),
        ('"3.10"', "3.10", "3:27: metadata.version: should be text, found 3.1; write it in quotes"),
        ("min: 96", "min: .inf", "13:5: rules.1.min: should be a finite number, found inf"),
        ("min: 96", "min:", "rules.1.min: has no value; write one, or remove the key"),
        ("min: 96", "min: ~\n    max: 200", "rules.1.min: has no value; write one, or remove the key"),
        (
            "min: 96",
            "min: 96\n    min: 9",
            "14:5: rules.1.min: `min` is given twice, first on line 13; keep one of the two",
        ),
        ("min: 96", "min: &low 96\n    <<: {max: 3}", "rules.1: merge keys (`<<`) are not supported"),
        ("  - id: rank", "  - 7\n  - id: rank", "11:5: rules.1: should hold keys with values, found 7"),
        ("layers:", "layers:\n  3: {path: x}", "layers: a key should be text, found '3'; write it in quotes"),
        ("layers:", "layers:\n  [a]: {path: x}", "layers: a key should be text, found a list or mapping"),
        ("layers:", "layers: 3\nlayer:", "layers: should hold keys with values, found 3"),
        ("layers:", "threshold: 3\nlayers:", "there is no key `threshold`. The keys here are: apiVersion, kind,"),
        ("min: 96", "min: !bound 96", "13:10: not valid YAML: the tag '!bound' is not allowed"),
        ("min: 96", "min: !!binary aGk=", "13:10: not valid YAML: the tag 'tag:yaml.org,2002:binary' is not allowed"),
        ("min: 96", "min: !!int abc", "13:5: rules.1.min: 'abc' is no whole number; write another value"),
        (
            "min: 96",
            "enforce_from: 2027-02-30",
            "13:5: rules.1.enforce_from: '2027-02-30' is no day, day is out of range",
        ),
        (
            "min: 96",
            "min: 96: 3",
            "13:12: not valid YAML: a key inside a value; put text that holds `: ` in quotes",
        ),
        ("min: 96", "min: *low", "13:10: not valid YAML: nothing is named by `&low`; put text that begins with `*` in"),
        ("min: 96", "\tmin: 96", "13:5: not valid YAML: a tab; indent with spaces"),
        ("min: 96", "why: @all", "13:10: not valid YAML: a value cannot begin with '@'; put it in quotes"),
        ("min: 96", "min: 96\n---\na: 1", "14:1: not valid YAML: a second document begins here; a policy is one"),
        ("min: 96", "min: 9\x006", "13:11: not valid YAML: the character '\\x00' is not allowed"),
        ("apiVersion", "%YAML 1.1\n---\napiVersion", "1:1: '%YAML 1.1': policies are YAML 1.2; remove this line"),
        ("apiVersion", "\ufeff\ufeff%YAML 1.1\n---\napiVersion", "1:1: '%YAML 1.1': policies are YAML 1.2; remove"),
        ("min: 96", "params: {k: 3}\n    min: 96", "13:14: rules.1.params.k: 'effective_rank' takes no parameter 'k'"),
        (
            "metric: effective_rank",
            "metric: knn_label_agreement\n    params: {k: 0}",
            "13:14: rules.1.params.k: should be from 1 to 200, found 0",
        ),
        (
            "metric: effective_rank",
            "metric: ece",
            "12:5: rules.1.metric: 'ece' needs `logits` of the model; say where they are: `reads: {logits: {path: PA",
        ),
        (
            "metric: effective_rank",
            "metric: cka_debiased",
            "12:5: rules.1.metric: 'cka_debiased' compares with a baseline; name one: `baseline: {uri: models:/NAME@",
        ),
        (
            "metric: effective_rank",
            "metric: worst_group_accuracy.per_view",
            "12:5: rules.1.metric: a policy cannot give `view_logits` yet; use gate.measure for 'worst_group_accuracy.",
        ),
        (
            "metric: effective_rank",
            "metric: token_mean_cosine",
            "12:5: rules.1.metric: 'token_mean_cosine' needs `tokens` of the model; say where they are: `reads: {token",
        ),
        (
            "    metric: effective_rank\n    min: 96",
            "    metric: ncc_accuracy.env_gap\n    max: 0.1\nprobe: {uri: p.npz, columns: {input: x, label: y}}",
            "12:5: rules.1.metric: 'ncc_accuracy.env_gap' needs `group` of the probe set; add `group: NAME` to `probe.",
        ),
        (
            "metric: effective_rank",
            "metric: prediction_entropy_ratio.entropy_shift",
            "12:5: rules.1.metric: 'prediction_entropy_ratio.entropy_shift' compares with a baseline; name one: `base",
        ),
        (
            "rules:",
            "run: {seed: 9223372036854775808}\nrules:",
            "6:7: run.seed: should be at most 9223372036854775807, found 9223372036854775808",
        ),
    ],
)
def test_a_fault_is_shown_at_its_place(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    assert any(expected in fault for fault in faults(tmp_path, GOOD.replace(old, new)))


@pytest.mark.parametrize(
    ("metric", "key"), [("subclass_retention", "sublabel"), ("cdnv.max", "label"), ("length_collapse", "length")]
)
@pytest.mark.parametrize("other", ["", ", pooling: average"])
def test_a_column_that_the_probe_block_does_not_name_is_a_fault(
    tmp_path: Path, metric: str, key: str, other: str
) -> None:
    rest = {"sublabel": "y", "label": "y", "length": "y"}
    rest.pop(key)
    columns = ", ".join(f"{name}: {column}" for name, column in rest.items())
    text = GOOD.replace("layers:", f"probe:\n  uri: p.npz\n  columns: {{input: x, {columns}}}\nlayers:")
    text = text.replace("metric: effective_rank", f"metric: {metric}").replace(", pooling: mean", other)
    expected = f"15:5: rules.1.metric: {metric!r} needs `{key}` of the probe set; add `{key}: NAME` to `probe.columns`"
    found = faults(tmp_path, text)
    assert found[-1] == expected
    assert len(found) == (2 if other else 1)  # with any other fault, and without
    load_policy(written(tmp_path, text.replace("input: x", f"input: x, {key}: z").replace(other or "\0", "")))


@pytest.mark.parametrize("end", ["\r", "\x85", "\u2028", "\u2029"])
@pytest.mark.parametrize("quote", ["# c", "- 'c", '- "c', "- c"])
def test_a_line_that_an_editor_does_not_show_is_a_fault(tmp_path: Path, end: str, quote: str) -> None:
    (fault,) = faults(tmp_path, f"a: 1\n{quote}{end}%YAML 1.1{end}---{end}max: 1:30")
    place = f"2:{len(quote) + 1}"
    assert fault == f"{place}: the character {end!r} may end a line, or not; end lines with a line feed"


def test_the_line_ends_of_windows_are_no_fault(tmp_path: Path) -> None:
    loaded = load_policy(written(tmp_path, GOOD.replace("\n", "\r\n")))
    assert loaded.position("rules", 1, "min")[1:] == (13, 5)


@pytest.mark.parametrize("key", ["scope", "baseline"])
def test_a_block_that_holds_no_keys_is_refused(tmp_path: Path, key: str) -> None:
    assert faults(tmp_path, f"{GOOD}{key}: [x]\n") == [f"14:1: {key}: should hold keys with values, found ['x']"]
    assert faults(tmp_path, f"{GOOD}waivers: [x]\n") == ["14:11: waivers.0: should hold keys with values, found 'x'"]


def test_words_that_older_yaml_reads_as_booleans_stay_words() -> None:
    tree = read("languages: [en, no, de]\ntime: 20:30\nsmall: 1e-3\noctal: 014\n")
    assert tree.value == {"languages": ["en", "no", "de"], "time": "20:30", "small": 0.001, "octal": 14}
    assert tree.problems == ()


def test_an_alias_means_what_it_names() -> None:
    assert read("a: &x {b: 1}\nc: *x\n").value == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize("text", ["a: &x [*x]", "a: " + "[" * 5000])
def test_endless_nesting_is_a_fault(tmp_path: Path, text: str) -> None:
    assert faults(tmp_path, text) == ["1:1: values are nested too deeply, or an alias contains itself"]


def test_aliases_cannot_stand_for_more_values_than_memory_holds(tmp_path: Path) -> None:
    lines = ["a0: &a0 [" + ",".join("x" * 20) + "]"]
    lines += [f"a{i}: &a{i} [" + ",".join([f"*a{i - 1}"] * 20) + "]" for i in range(1, 9)]
    (fault,) = faults(tmp_path, "\n".join(lines))
    assert f"more than {MOST_VALUES} values" in fault


@pytest.mark.parametrize("text", ["", "# a comment\n"])
def test_an_empty_file_is_a_fault(tmp_path: Path, text: str) -> None:
    assert faults(tmp_path, text) == ["1:1: the file is empty, expected keys with values"]


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n", "3\n"])
def test_a_file_without_keys_is_a_fault(tmp_path: Path, text: str) -> None:
    assert "expected keys with values, such as `apiVersion: …`; found" in faults(tmp_path, text)[0]


def test_a_binary_file_is_a_fault(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, b"a: 1\nb: \x80\x81")
    assert fault == "2:4: not a text file: byte 0x80 is not UTF-8; expected a YAML file in UTF-8"


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    assert load_policy(written(tmp_path, b"\xef\xbb\xbf" + GOOD.encode())).position("apiVersion")[1:] == (1, 1)


@pytest.mark.parametrize("rules", ["rules: []\n", ""])
def test_a_policy_without_rules_evaluates_nothing(tmp_path: Path, rules: str) -> None:
    text = GOOD[: GOOD.index("rules:")] + rules
    with pytest.raises(NothingEvaluatedError, match=r"policy 'encoder' has no rules, so nothing is evaluated"):
        load_policy(written(tmp_path, text))


def test_a_missing_file_offers_the_nearest_one(tmp_path: Path) -> None:
    written(tmp_path, GOOD)
    with pytest.raises(
        UsageError, match=r"polciy\.yaml' does not exist, expected a YAML file\. Did you mean `.*policy"
    ):
        load_policy(tmp_path / "polciy.yaml")
    with pytest.raises(UsageError, match=r"no\.yml' does not exist, expected a YAML file\.$"):
        load_policy(tmp_path / "no.yml")
    with pytest.raises(UsageError, match=r"There is no folder '.*nowhere' either"):
        load_policy(tmp_path / "nowhere" / "policy.yaml")


def test_a_folder_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder, expected a YAML file"):
        load_policy(tmp_path)


def test_a_path_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD) / "below-a-file.yaml"
    with pytest.raises(UsageError, match="cannot be read: Not a directory"):
        load_policy(path)


def test_a_probe_spec_holds_the_keys_of_the_probe_block(tmp_path: Path) -> None:
    path = written(tmp_path, "uri: probe.npz\ncolumns: {input: image, label: digit}\nshape: [1, 8, 8]\n")
    probe = load_probe_spec(path)
    assert (probe.uri, probe.columns.input, probe.columns.label, probe.shape) == (
        "probe.npz",
        "image",
        "digit",
        (1, 8, 8),
    )


def test_a_probe_spec_is_refused_like_a_policy(tmp_path: Path) -> None:
    path = written(tmp_path, "uri: probe.npz\ncolums: {input: image}\nexpectations: {max_rows: 2}\n")
    with pytest.raises(PolicyError) as raised:
        load_probe_spec(path)
    assert [fault.message for fault in raised.value.faults] == [
        "columns: is required, and not there; add it",
        "colums: there is no key `colums`. Did you mean `columns`?",
        "expectations.max_rows: there is no key `max_rows`. Did you mean `min_rows`?",
    ]


def test_a_long_value_is_shortened_in_its_message(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, GOOD.replace("min: 96", f"min: {'x' * 500}"))
    assert len(fault) < 200


def test_reading_a_policy_imports_neither_torch_nor_mlflow(tmp_path: Path) -> None:
    code = (
        "import sys; from gate.policy import load_policy; load_policy(sys.argv[1]);"
        "print(sorted({'torch', 'mlflow', 'pandas', 'numpy', 'great_expectations'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(written(tmp_path, GOOD))]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
