from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.packs import regression
from benchmarks.packs.__main__ import RESULTS, SEEDS
from benchmarks.packs.judging import findings, pack
from gate import policy_tests
from gate.errors import PolicyError
from gate.geometry import catalogue
from gate.policy import packs
from gate.policy.loading import load_policy
from gate.policy.reading import read
from gate.policy.references import addresses, needs_baseline

LABELS = {"classes", "separation", "readout", "neighbours", "regression"}  # families that ask what rows are about
KINDS = {"spectrum": {"spectral"}, "anisotropy": {"hypersphere"}, "units": {"outliers"}, "labels": LABELS}
BOUNDS = ("min", "max", "max_drop", "max_rise")
NUMBER = r"-?\d+(?:\.\d+)?"


@dataclass(frozen=True)
class Asked:
    """What a pack asks of a team besides the model: columns of the probe set, and whether they say what rows are."""

    columns: tuple[str, ...]
    labelled: bool = True


PACKS = {
    "classifier": Asked(("label",)),
    "embedding": Asked(("label",)),
    "ssl-backbone": Asked(("label",)),
    "regression": Asked(("target",)),
    "sequence": Asked(("label", "length")),
    "successor": Asked(("label",)),
    "vae": Asked((), labelled=False),
    "codebook": Asked((), labelled=False),
}
EVERY_PACK = pytest.mark.parametrize("name", PACKS)


def path_of(name: str) -> Path:
    return packs.folder() / f"{name}.yaml"


def family(metric: str) -> str:
    return catalogue.load()[metric.partition(".")[0]].family


def child(folder: Path, extends: list[str], columns: tuple[str, ...] | None = None) -> Path:
    lines = ["apiVersion: gate/v1", "kind: Policy", 'metadata: {name: child, version: "1.0.0"}']
    lines.append(f"extends: [{', '.join(extends)}]")
    if columns is not None:
        given = ", ".join(f"{column}: {column}" for column in ("input", *columns))
        lines.append(f"probe: {{uri: rows.npz, columns: {{{given}}}}}")
    path = folder / "child.yaml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_every_file_of_the_folder_is_a_pack_of_the_table_and_the_other_way_round() -> None:
    assert packs.names() == sorted(PACKS) == sorted(SEEDS)


def test_what_lies_beside_the_packs_and_cannot_be_named_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("encoder.yaml", "encoder.test.yaml", "README.md"):
        (tmp_path / name).touch()
    monkeypatch.setattr(packs, "folder", lambda: tmp_path)
    assert packs.names() == ["encoder"]


@EVERY_PACK
def test_a_pack_is_named_like_its_file_and_says_how_to_extend_it(name: str) -> None:
    policy = load_policy(path_of(name)).policy
    assert (policy.metadata.name, policy.metadata.version) == (name, "1.0.0")
    assert policy.metadata.description
    header = path_of(name).read_text(encoding="utf-8").split("apiVersion")[0]
    assert f"{name}@1" in header
    assert "benchmarks/packs/RESULTS.md" in header


@EVERY_PACK
def test_every_rule_has_a_reason_a_remedy_a_source_and_a_plain_name(name: str) -> None:
    rules = load_policy(path_of(name)).policy.rules
    assert 7 <= len(rules) <= 14
    for rule in rules:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.id), rule.id
        assert rule.paper, rule.id
        for text in (rule.why, rule.fix):
            assert text is not None, rule.id
            assert text.endswith("."), rule.id


@EVERY_PACK
def test_what_a_remedy_names_is_something_that_the_rule_measures(name: str) -> None:
    for rule in load_policy(path_of(name)).policy.rules:
        for address in re.findall(r"`(\w+\.\w+)`", rule.fix or ""):
            assert address in addresses(), rule.id
            assert address.partition(".")[0] == rule.metric.partition(".")[0], rule.id


@EVERY_PACK
@pytest.mark.parametrize("kind", KINDS)
def test_no_pack_rests_on_one_kind_of_check(name: str, kind: str) -> None:
    rules = load_policy(path_of(name)).policy.rules
    blocking = {family(rule.metric) for rule in rules if rule.severity == "block"}
    assert bool(blocking & KINDS[kind]) == (kind != "labels" or PACKS[name].labelled)


@EVERY_PACK
def test_a_pack_asks_for_the_columns_of_its_kind_and_no_others(name: str, tmp_path: Path) -> None:
    columns = PACKS[name].columns
    load_policy(child(tmp_path, [f"{name}@1"], columns))
    for column in columns:
        rest = tuple(each for each in columns if each != column)
        with pytest.raises(PolicyError, match=f"`{column}`"):
            load_policy(child(tmp_path, [f"{name}@1"], rest))


@pytest.mark.parametrize("name", ["classifier", "embedding", "ssl-backbone", "sequence"])
def test_a_pack_of_a_kind_goes_together_with_that_of_successors(name: str, tmp_path: Path) -> None:
    both = load_policy(child(tmp_path, [f"{name}@1", "successor@1"])).policy
    alone = [load_policy(path_of(each)).policy.rules for each in (name, "successor")]
    assert [rule.id for rule in both.rules] == [rule.id for rules in alone for rule in rules]
    assert {rule.layer for rule in both.rules} == {"embedding"}


def test_a_successor_is_compared_with_its_champion_in_two_ways() -> None:
    policy = load_policy(path_of("successor")).policy
    assert policy.baseline is not None
    assert (policy.baseline.uri, policy.baseline.when_absent) == ("@champion", "skip_relative")
    assert all(rule.relative or needs_baseline(rule.metric) for rule in policy.rules)
    moved = {family(rule.metric) for rule in policy.rules if rule.relative}
    assert all(moved & families for families in KINDS.values())
    assert {"compatibility", "behaviour", "forgetting", "overlap", "comparison"} <= {
        family(rule.metric) for rule in policy.rules
    }


TESTED = sorted(path.name.removesuffix(".test.yaml") for path in packs.folder().glob("*.test.yaml"))


def test_the_tests_beside_the_packs_are_those_of_packs() -> None:
    assert "classifier" in TESTED
    assert set(TESTED) <= set(PACKS)


@pytest.mark.parametrize("name", TESTED)
def test_a_pack_passes_the_tests_beside_it_and_each_of_its_rules_is_seen_to_fail_or_pass(name: str) -> None:
    suite = policy_tests.load(packs.folder() / f"{name}.test.yaml")
    assert suite.policy.policy.metadata.name == name
    assert [(each.name, each.complaints) for each in policy_tests.run(suite) if not each.passed] == []
    assert {case.expect.status for case in suite.tests} == {"passed", "failed", "inconclusive", "error"}
    rules = {rule.id for rule in suite.policy.policy.rules}
    assert {each for case in suite.tests for names in case.expect.lists.values() for each in names} == rules


def measured(name: str) -> dict[str, dict[str, str]]:
    """Rule → column → cell of the table of a pack in RESULTS.md."""
    text = RESULTS.read_text(encoding="utf-8")
    section = next(each for each in text.split("\n## ")[1:] if each.splitlines()[0] == name)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {row[0].split("`")[1]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}


def healthy_of(table: dict[str, dict[str, str]]) -> list[str]:
    columns = list(next(iter(table.values())))
    return columns[columns.index("bound") + 1 : columns.index("reach")]


def ends(cell: str) -> tuple[float, float] | None:
    found = re.findall(NUMBER, cell)
    return (float(found[0]), float(found[-1])) if found else None


def comments(name: str) -> dict[tuple[str, str], str]:
    """Rule and bound → the comment on its line."""
    text = path_of(name).read_text(encoding="utf-8")
    lines, tree = text.splitlines(), read(text)
    rules = [rule.id for rule in load_policy(path_of(name)).policy.rules]
    return {
        (rules[int(location[1])], str(location[-1])): lines[line - 1].partition("#")[2].strip()
        for location, (line, _) in tree.positions.items()
        if location[:1] == ("rules",) and len(location) > 2 and location[-1] in BOUNDS
    }


def same(written: str, value: float) -> bool:
    """Whether a number is another one, rounded to as many digits as it is written with."""
    half = 0.5 * 10.0 ** -len(written.partition(".")[2])
    return abs(float(written) - value) <= half + 0.005 * abs(value) + 0.0005


@EVERY_PACK
def test_the_numbers_of_a_pack_are_those_that_were_measured(name: str) -> None:
    table = measured(name)
    good = healthy_of(table)
    found = comments(name)
    assert {rule for rule, _ in found} == {rule.id for rule in load_policy(path_of(name)).policy.rules}
    for (rule, bound), comment in found.items():
        cells = {model: span for model, cell in table[rule].items() if (span := ends(cell))}
        healthy = [cells[model] for model in good]
        cells["healthy"] = min(low for low, _ in healthy), max(high for _, high in healthy)
        named = [model for model in cells if re.search(rf"\b{re.escape(model)} {NUMBER}", comment)]
        assert set(named) & {"healthy", *good}, (rule, bound, comment)
        assert set(named) - {"healthy", *good}, (rule, bound, comment)
        for model in named:
            match = re.search(rf"\b{re.escape(model)} ({NUMBER})(?: to ({NUMBER}))?", comment)
            assert match, (rule, bound, model)
            low, high = match.group(1), match.group(2) or match.group(1)
            assert same(low, cells[model][0]), (rule, bound, model, comment, cells[model])
            assert same(high, cells[model][1]), (rule, bound, model, comment, cells[model])


@EVERY_PACK
def test_the_measured_rules_are_those_of_the_pack(name: str) -> None:
    table = measured(name)
    for rule in load_policy(path_of(name)).policy.rules:
        row = table[rule.id]
        assert row["metric"] == f"`{rule.metric}`"
        limits = [rule.min, rule.max]
        if rule.relative:
            limits = [
                None if margin is None else margin.amount for margin in (rule.relative.max_drop, rule.relative.max_rise)
            ]
        assert [float(number) for number in re.findall(NUMBER, row["bound"])] == [x for x in limits if x is not None]


@EVERY_PACK
def test_healthy_models_pass_and_every_blocking_rule_stops_a_broken_one(name: str) -> None:
    text = RESULTS.read_text(encoding="utf-8").split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert "every blocking rule passes every healthy model: yes" in text
    table = measured(name)
    good = healthy_of(table)
    for rule in load_policy(path_of(name)).policy.rules:
        cells = [cell for model, cell in table[rule.id].items() if model not in good]
        assert any("●" in cell or "◐" in cell for cell in cells), rule.id


def test_the_regression_pack_passes_a_healthy_network_and_stops_a_squeezed_one() -> None:
    policy = pack("regression")
    healthy, squeezed = islice(regression.cases(0), 2)
    assert {each.status for each in findings(policy, healthy)} == {"pass"}
    failed = {each.rule for each in findings(policy, squeezed) if each.status == "fail"}
    assert (squeezed.model, failed >= {"squeezed", "rank", "collapse"}) == ("weight decay", True)
    assert "linear-probe" not in failed
