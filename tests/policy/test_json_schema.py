"""The JSON Schema of a policy: what an editor knows of it while it is written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gate.cli import main
from gate.policy import load_policy, packs
from gate.policy.json_schema import DIALECT, policy_schema, render
from gate.policy.kinds import Keys
from gate.policy.reading import read
from gate.policy.references import addresses
from gate.policy.schema import Policy

ROOT = Path(__file__).parent.parent.parent
BROKEN = Path(__file__).with_name("broken")
SCHEMA = policy_schema()
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)
GOOD = [packs.folder() / f"{name}.yaml" for name in packs.names()] + [BROKEN / "bases" / "company.yaml"]
# What only several files, the metrics or the text itself show.
UNSEEN = {"loosened", "needless-overrides", "missing-inputs"}
NO_YAML = {"several-documents", "tabs", "unquoted-signs"}
HEAD = 'apiVersion: gate/v1\nkind: Policy\nmetadata: {name: a, version: "1"}\n'


def plain(value: object) -> object:
    """As an editor has it, to whom a date is text."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, date) else value


def errors(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(plain(read(text).value))]


def models(keys: type[Keys] = Keys) -> Iterator[type[Keys]]:
    for each in keys.__subclasses__():
        if each.__module__.startswith("gate.policy."):
            yield each
            yield from models(each)


def test_it_is_a_schema_of_2020_12() -> None:
    assert SCHEMA["$schema"] == DIALECT == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(SCHEMA)
    assert re.fullmatch(r"urn:[a-z-]+:policy:v1", SCHEMA["$id"])
    assert SCHEMA["title"]


def test_the_copy_of_the_repository_is_what_the_code_says() -> None:
    copy = (ROOT / "docs" / "policy-v1.schema.json").read_text(encoding="utf-8")
    assert copy == render(), "stale: run `python -m docs.make_policy`"
    assert json.loads(copy) == SCHEMA


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_every_good_policy_validates(path: Path) -> None:
    load_policy(path)
    assert errors(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", ["README.md", "docs/policy.md"])
def test_every_policy_of_a_page_validates(page: str) -> None:
    blocks = re.findall(
        r"^```yaml\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    policies = [block for block in blocks if "kind: Policy\n" in block]
    assert len(policies) >= 1
    assert [errors(block) for block in policies] == [[]] * len(policies)


@pytest.mark.parametrize("name", sorted(path.stem for path in BROKEN.glob("*.yaml")))
def test_a_broken_policy_is_refused_where_a_schema_can_see_why(name: str) -> None:
    text = (BROKEN / f"{name}.yaml").read_text(encoding="utf-8")
    if name in NO_YAML:
        assert read(text).value is None
    else:
        assert (errors(text) == []) == (name in UNSEEN)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("rules: [{id: a, min: 1}]", "'metric' is a required property"),
        ("rules: [{metric: vci, min: 1}]", "'id' is a required property"),
        ("rules: [{id: a, metric: vci}]", "is not valid under any of the given schemas"),
        ("rules: [{id: a, metric: vcii, max: 1}]", "'vcii' is not one of"),
        ("rules: [{id: a, metric: vci, max: 1, threshold: 2}]", "Additional properties are not allowed ('threshold'"),
        ("rules: [{id: a, metric: vci, max: true}]", "True is not of type 'number'"),
        ("rules: [{id: a, metric: vci, max: '1'}]", "'1' is not of type 'number'"),
        ("rules: [{id: a, metric: vci, max: }]", "None is not of type 'number'"),
        ("rules: [{id: a b, metric: vci, max: 1}]", "'a b' does not match"),
        ("rules: [{id: a, metric: vci, max: 1, enforce_from: soon}]", "'soon' is not a 'date'"),
        ("rules: [{id: a, metric: vci, max: 1, relative: {}}]", "{} is not valid under any of the given schemas"),
        ("rules: [{id: a, metric: vci, relative: {max_drop: 5 percent}}]", "'5 percent' is not valid under any"),
        ("rules: [{id: a, metric: vci, slices: {min: 1}}]", "'by' is a required property"),
        ("rules: [{id: a, metric: vci, slices: {by: []}}]", "[] is not valid under any of the given schemas"),
        ("rules: [{id: a, metric: vci, slices: {by: l, bounds: {x: {}}}}]", "{} is not valid under any"),
        ("layers: {my layer: {path: '1'}}", "'my layer' does not match any of the regexes"),
        ("layers: {a: {pooling: mean}}", "'path' is a required property"),
        ("layers: {a: {path: '1', pooling: avg}}", "'avg' is not one of"),
        ("probe: {uri: p}", "'columns' is a required property"),
        ("probe: {uri: p, columns: {label: y}}", "'input' is a required property"),
        ("baseline: {when_absent: error}", "'uri' is a required property"),
        ("defaults: {confidence: 95}", "95 is greater than the maximum of 0.9999"),
        ("waivers: [{rule: a, model: 'models:/a/*', owner: o}]", "'reason' is a required property"),
        ("waivers: [{rule: a, model: 'models:/a/*', owner: o}]", "'models:/a/*' does not match"),
        ("waivers: [{rule: a, model: 'models:/a/1', owner: o, reason: short}]", "'short' is too short"),
        ("scope: {aliases: {champion: stop}}", "'stop' is not one of"),
        ("run: {timeout: 20}", "20 is not of type 'string'"),
        ("run: {memory: lots}", "'lots' does not match"),
    ],
)  # fmt: skip
def test_a_fault_of_one_file_is_seen(rest: str, message: str) -> None:
    assert any(message in error for error in errors(f"{HEAD}{rest}\n"))


@pytest.mark.parametrize(
    "rest",
    [
        "rules: [{id: rank, min: 0.3}]",
        "rules: [{id: rank, slices: {min_rows: 50}, relative: {}}]",
        "layers: {embedding: {pooling: mean}}",
        "baseline: {when_absent: error}",
        "probe: {columns: {label: y}}",
        "reads: {logits: {classes: [a, b]}}",
    ],
)
def test_what_a_policy_adds_to_another_need_not_be_whole(rest: str) -> None:
    assert errors(f"{HEAD}extends: [classifier@1]\n{rest}\n") == []
    assert errors(f"{HEAD}{rest}\n") != []


@pytest.mark.parametrize(
    "rest", ["rules: [{min: 0.3}]", "rules: [{id: a, mni: 1}]", "waivers: [{rule: a}]", "scope: {models: []}"]
)
def test_what_another_cannot_make_good_is_seen_there_as_well(rest: str) -> None:
    assert errors(f"{HEAD}extends: [classifier@1]\n{rest}\n") != []


def test_a_policy_says_what_it_is() -> None:
    assert errors("rules: []") == [f"'{key}' is a required property" for key in ("apiVersion", "kind", "metadata")]


def described(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for block in (schema, *schema["$defs"].values()):
        for key, each in block["properties"].items():
            reference = each.get("$ref", "").rpartition("/")[2]
            yield key, {**schema["$defs"].get(reference, {}), **each}


def test_every_key_is_described_in_plain_text() -> None:
    keys = list(described(SCHEMA))
    assert len(keys) > 80
    for key, each in keys:
        assert each["description"].endswith("."), key
        assert not re.search(r"[`\n]", each["description"]), key


def test_every_block_is_closed_and_every_key_of_the_code_is_in_it() -> None:
    for model in {*models()} - {model for model in models() if model.__name__ == "Bounds"}:
        block = SCHEMA if model is Policy else SCHEMA["$defs"][model.__name__]
        assert set(block["properties"]) == {field.alias or name for name, field in model.model_fields.items()}
        assert block["additionalProperties"] is False


def test_null_is_no_value_and_what_is_named_is_closed() -> None:
    text = render()
    assert '"null"' not in text
    assert text.count('"patternProperties"') > text.count('"default": {}')
    assert SCHEMA["properties"]["layers"]["additionalProperties"] is False


def test_an_editor_offers_every_metric_and_read_out() -> None:
    assert SCHEMA["$defs"]["Rule"]["properties"]["metric"]["enum"] == addresses()


def test_gate_policy_schema_writes_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "schema"]) == 0
    stdout, stderr = capsys.readouterr()
    assert (stdout, stderr) == (render(), "")


def test_a_reader_that_has_gone_takes_nothing_from_the_exit_code() -> None:
    piped = f"{sys.executable} -m gate policy schema | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{\n", "")
