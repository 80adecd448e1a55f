"""The references of metrics and policies: rendered from the code, never stale, and every link leads somewhere."""

from __future__ import annotations

import ast
import inspect
import os
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from docs import make_policy, make_server
from gate import policy_tests
from gate.cli import main
from gate.errors import PolicyError
from gate.geometry import catalogue
from gate.geometry.registry import Change
from gate.geometry.statistics import COLUMNS
from gate.measurement import measure
from gate.policy import load_policy
from gate.policy.kinds import Keys
from gate.policy.reads import Reads
from gate.policy.references import Given, input_fault
from gate.policy.schema import Columns, Policy
from gate.policy_tests.schema import PolicyTests
from tests.conftest import Demo

FENCED = re.DOTALL | re.MULTILINE
DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "metrics.md").read_text(encoding="utf-8")
MAKE: dict[str, Any] = runpy.run_path(str(DOCS / "make_metrics.py"))
ENTRIES = catalogue.load()
EVERYTHING = Given(tuple(Columns.model_fields), tuple(Reads.model_fields), baseline=True)


def section(name: str) -> str:
    found = re.search(rf"^### `{name}`\n(.*?)(?=^##)", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert found, name
    return found.group(1)


def test_the_page_is_what_the_registry_says() -> None:
    rendered = MAKE["render"](*MAKE["registered"]())
    assert rendered == PAGE, "stale: run `python -m gate.geometry.catalogue`, then `python docs/make_metrics.py`"


def test_the_page_does_not_depend_on_the_order_of_the_metrics_within_a_family_or_on_a_second_run() -> None:
    assert MAKE["render"](catalogue.families(), list(ENTRIES.values())) == PAGE


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_every_metric_has_an_entry_with_all_that_a_user_needs(name: str) -> None:
    entry, text = ENTRIES[name], section(name).replace("\\", "")
    rows = re.findall(r"^\| `([^`]+)` \|", text, flags=re.MULTILINE)
    assert rows == [name, *(f"{name}.{readout}" for readout in entry.readouts), *entry.params]
    for fact in ("Better", "Unit", "Decides when", "Needs", "In a policy", "Models", "Unchanged by", "Paper"):
        assert f"- **{fact}**: " in text
    assert ("- **In a policy**: yes" in text) == (input_fault(name, EVERYTHING) is None)
    needs = next(line for line in text.splitlines() if line.startswith("- **Needs**"))
    assert all(f"`{column}`" in needs for column in entry.required)
    assert entry.description in text
    assert ("#the-same-name-elsewhere" in text) == bool(entry.elsewhere)


def test_every_link_leads_to_a_heading_of_the_page() -> None:
    headings = re.findall(r"^#+ (.*)$", PAGE, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(([^)]*)\)", PAGE)
    assert {link for link in links if link.removeprefix("#") not in anchors} == set()
    assert {f"#{name}" for name in ENTRIES} <= set(links)


def test_other_definitions_stand_in_one_place() -> None:
    listed = re.findall(r"^\| \[`(\w+)`\]", PAGE.split("## The same name elsewhere\n")[1], flags=re.MULTILINE)
    assert set(listed) == {name for name, entry in ENTRIES.items() if entry.elsewhere}
    assert {"effective_rank", "collapse_index", "vci", "within_between_ratio", "mean_cosine"} <= set(listed)
    assert "reptrix" in ENTRIES["effective_rank"].elsewhere


def test_every_input_and_every_change_is_explained() -> None:
    inputs = PAGE.split("## Inputs\n")[1].split("\n## ")[0]
    named = set(re.findall(r"^\| `(\w+)` \|", inputs, flags=re.MULTILINE))
    assert named == {*COLUMNS, *catalogue.SPLITS, *catalogue.WEIGHTS}
    assert set(MAKE["CHANGES"]) == set(get_args(Change))


def test_how_to_give_inputs_stands_before_the_metrics_and_names_what_there_is() -> None:
    assert PAGE.index("## Inputs\n") < PAGE.index("## All metrics\n") < PAGE.index("### `")
    call = ast.parse(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[0]).body[0]
    assert isinstance(call, ast.Assign)
    assert isinstance(call.value, ast.Call)
    named = {keyword.arg for keyword in call.value.keywords}
    assert named <= {*COLUMNS, *inspect.signature(measure).parameters}
    assert {"tokens", "token_mask", "reference", "outputs", "params", "attributes"} <= named


def test_no_heading_is_followed_by_a_question() -> None:
    headings = re.findall(r"^## (.*)$", PAGE, flags=re.MULTILINE)
    assert not [heading for heading in headings if ":" in heading or "?" in heading]


def test_what_a_policy_can_name_is_what_the_page_says() -> None:
    roles = {*Columns.model_fields} - {"input", "id"}
    assert set(re.findall(r"`probe\.columns\.(\w+)`", PAGE)) == {
        key for keys in MAKE["OF_THE_PROBE"].values() for key in keys
    }
    assert {key for keys in MAKE["OF_THE_PROBE"].values() for key in keys} == roles
    inputs = PAGE.split("## Inputs\n")[1].split("\n## ")[0]
    given = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", inputs, flags=re.MULTILINE))
    assert set(re.findall(r"`reads\.(\w+)`", inputs)) == {*Reads.model_fields}
    assert (given["logits"], given["baseline"]) == ("`reads.logits`", "`baseline`")
    assert given["baseline_logits"] == "`baseline` and `reads.logits`"
    for name, entry in ENTRIES.items():
        keyed = all(given[each.partition(".")[0]] != "-" for each in entry.required)
        assert keyed == (input_fault(name, EVERYTHING) is None)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a * b and v_a, |x| <= 1", r"a \* b and v_a, |x| <= 1"),
        ("_a_ <b> [c](d)", r"\_a\_ \<b> [c\](d)"),
        ("as `a_*b` * says", r"as `a_*b` \* says"),
    ],
)
def test_formulas_are_not_read_as_markup(text: str, written: str) -> None:
    assert MAKE["escaped"](text) == written


def test_a_bar_does_not_end_a_cell() -> None:
    entry = replace(ENTRIES["vci"], meaning="|x| over |y|")
    assert r"| \|x\| over \|y\| |" in MAKE["overview"]([entry])


POLICY = (DOCS / "policy.md").read_text(encoding="utf-8")


def test_the_page_of_the_policy_is_what_the_code_says() -> None:
    assert make_policy.page() == POLICY, "stale: run `python -m docs.make_policy`"


def test_every_key_of_a_policy_is_on_its_page_with_what_it_holds_and_what_it_is() -> None:
    parts = re.split(r"^#+ ", POLICY, flags=re.MULTILINE)
    sections = {re.sub(r"[`\n]", "", part.partition("\n")[0]): part for part in parts}
    files: dict[str, type[Keys]] = {"Keys of a policy": Policy, "Keys of a file of policy tests": PolicyTests}
    blocks = {**files, **make_policy.BLOCKS, **make_policy.TESTS}
    for place, model in blocks.items():
        rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+) \|$", sections[place], flags=re.MULTILINE)
        assert {key for key, *_ in rows} == {field.alias or name for name, field in model.model_fields.items()}
        for key, holds, default, what in rows:
            field = next(field for name, field in model.model_fields.items() if (field.alias or name) == key)
            assert holds
            assert what.endswith(".")
            assert what == MAKE["escaped"](" ".join(str(field.description).split()))
            assert (default == "required") == field.is_required()


@pytest.mark.parametrize(("file", "blocks"), [(Policy, make_policy.BLOCKS), (PolicyTests, make_policy.TESTS)])
def test_every_block_has_a_section(file: type[Keys], blocks: dict[str, type[Keys]]) -> None:
    everywhere: set[type[Keys]] = {file, *blocks.values()}
    reached: set[type[Keys]] = {file}
    for model in everywhere:
        reached |= {inner for field in model.model_fields.values() if (inner := inside(field.annotation))}
    assert reached == everywhere


def inside(annotation: object) -> type[Keys] | None:
    if isinstance(annotation, type) and issubclass(annotation, Keys):
        return annotation
    return next((found for each in get_args(annotation) if (found := inside(each))), None)


def test_every_link_of_the_page_leads_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", POLICY, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(([^)]*)\)", POLICY)
    assert {link for link in links if link.startswith("#") and link[1:] not in anchors} == set()
    assert {link for link in links if not link.startswith("#") and not (DOCS / link).exists()} == set()
    assert {"#waivers", "#rulesslicesworst_gap", "#readsname", "#testsgivenmetric", "#testsslicesname"} <= set(links)


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", POLICY, flags=re.DOTALL | re.MULTILINE)


def test_the_policies_of_the_page_are_good(tmp_path: Path) -> None:
    policies = [block for block in examples("yaml") if "kind: Policy\n" in block]
    assert len(policies) == 5
    for block in policies:
        (tmp_path / "policy.yaml").write_text(block, encoding="utf-8")
        assert load_policy(tmp_path / "policy.yaml").policy.rules


def test_the_policy_tests_of_the_page_pass(tmp_path: Path) -> None:
    (tests,) = [block for block in examples("yaml") if "kind: PolicyTests\n" in block]
    (tmp_path / "policy.yaml").write_text(examples("yaml")[0], encoding="utf-8")
    (tmp_path / "policy.test.yaml").write_text(tests, encoding="utf-8")
    tested = policy_tests.run(policy_tests.load(tmp_path / "policy.test.yaml"))
    assert [each.complaints for each in tested] == [()] * 5


@pytest.mark.parametrize(
    ("policy", "file"), [("vectors", "vectors.npy"), ("labelled", "vectors.npz"), ("labelled", "vectors.parquet")]
)
def test_vectors_without_a_model_are_judged_as_the_page_says(
    policy: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    labels = np.arange(400) % 4
    vectors = draw.normal(size=(4, 16))[labels] * 3 + draw.normal(size=(400, 16))
    np.save("vectors.npy", vectors)
    (code,) = examples("python")
    names = {"vectors": vectors, "labels": labels, "ids": np.array([f"row-{row}" for row in range(400)])}
    exec(code, names)  # noqa: S102 - our own page
    columns = {key: list(value) for key, value in np.load("vectors.npz").items()}
    pa.parquet.write_table(pa.table(columns), "vectors.parquet")
    (written,) = [block for block in examples("yaml") if block.startswith(f"# {policy}.yaml\n")]
    suffix = "" if policy == "vectors" else Path(file).suffix
    Path(f"{policy}.yaml").write_text(written.replace("uri: vectors.npz", f"uri: vectors{suffix}"), encoding="utf-8")
    assert f"gate check features:{'vectors.npz' if suffix else file} -p {policy}.yaml" in POLICY
    assert main(["check", f"features:{file}", "-p", f"{policy}.yaml", "--no-record"]) == 0
    told = capsys.readouterr().out
    assert ("knn_label_agreement of embedding" in told) == (policy == "labelled")


def test_what_the_page_says_of_looser_rules_is_so(tmp_path: Path) -> None:
    block = examples("yaml")[1]
    (tmp_path / "policy.yaml").write_text(re.sub(r" +override.*\n +reason.*\n", "", block), encoding="utf-8")
    with pytest.raises(PolicyError, match=r"rules\.neighbours\.min: loosens classifier@1"):
        load_policy(tmp_path / "policy.yaml")


GEOMETRY_WITH_MORE = """
import pathlib
from gate import geometry
geometry.__path__.append(str(pathlib.Path(__file__).parent / "gate" / "geometry"))
"""


def test_the_metric_of_the_contributors_guide_passes_its_test(tmp_path: Path) -> None:
    guide = (DOCS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files = dict(re.findall(r"^```python\n# (\S+)\n(.*?)^```$", guide, flags=re.DOTALL | re.MULTILINE))
    assert set(files) == {"gate/geometry/offset.py", "tests/geometry/test_offset.py"}
    for name, content in {**files, "conftest.py": GEOMETRY_WITH_MORE}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "tests"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_every_target_that_the_contributors_guide_names_is_one_of_make() -> None:
    guide = (DOCS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+): ", (DOCS.parent / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make (\w+)", guide, flags=re.MULTILINE))
    assert {"metrics", "bench", "test", "lint"} <= named <= targets


def test_the_page_of_the_server_is_what_the_code_says() -> None:
    assert make_server.PAGE.read_text(encoding="utf-8") == make_server.page(), "stale: run `python -m docs.make_server`"


def test_the_server_policy_of_the_page_is_good(tmp_path: Path) -> None:
    from gate import server_policy
    from gate.attestation import keys

    (found,) = re.findall(r"^   ```yaml\n(.*?)^   ```$", make_server.page(), flags=re.DOTALL | re.MULTILINE)
    keys.create(tmp_path / "keys" / "ci").with_name("ci").unlink()
    policy = examples("yaml")[0].replace("scope:", "old:")
    (tmp_path / "text-encoder.yaml").write_text(policy + "scope: {aliases: {champion: block}}\n", encoding="utf-8")
    (tmp_path / "server.yaml").write_text(dedent(found), encoding="utf-8")
    protection = server_policy.load(tmp_path / "server.yaml")
    assert protection.aliases == {"champion"}
    assert protection.protects_name("Prod.text-encoder")
    assert [each.name for each in protection.trust.policies or ()] == ["text-encoder"]


def test_the_evaluation_of_the_page_runs_on_what_the_readme_makes_and_tells_a_failure(
    demo: Demo, tmp_path: Path
) -> None:
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    for name, text in re.findall(r"^```\w+\n# ((?:probe|policy)\.\w+)\n(.*?)^```$", readme, FENCED):
        (tmp_path / name).write_text(text, encoding="utf-8")
    shutil.copytree(demo.home / "gate-demo", tmp_path / "gate-demo")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "GATE_"))}
    environment["MLFLOW_TRACKING_URI"] = "sqlite:///gate-demo/mlflow.db"

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, *command]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    run("probe.py").check_returncode()
    (example,) = re.findall(r"^```python\n(.*?)^```$", (DOCS / "evaluator.md").read_text(encoding="utf-8"), FENCED)
    done = run("-c", example)
    assert done.returncode == 0, done.stderr
    done = run("-c", example.replace("models:/digits/1", "models:/digits/2"))
    assert done.returncode == 1
    assert "AssertionError: FAILED  models:/digits/2 is blocked" in done.stderr
