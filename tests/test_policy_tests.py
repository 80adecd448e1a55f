"""Policy tests: what the author of a policy writes down is judged as a check judges what it measures."""

from __future__ import annotations

from pathlib import Path

import pytest

from gate.errors import NothingEvaluatedError, PolicyError, UsageError
from gate.policy_tests import found, load, run
from gate.policy_tests.rendering import junit, text

POLICY = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "1.0.0"}
scope: {models: ["enc*"], aliases: {challenger: warn}}
rules:
  - {id: rank, metric: effective_rank, min: 30}
  - {id: cone, metric: mean_cosine, max: 0.2, severity: warn}
"""
COMPARED = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "1.0.0"}
baseline: {uri: "@champion", when_absent: WHEN}
rules:
  - {id: rank, metric: effective_rank, relative: {max_drop: 2}}
"""
SLICED = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "1.0.0"}
probe: {uri: probe.npz, columns: {input: x}}
rules:
  - id: rank
    metric: effective_rank
    slices: {by: language, min: 30, min_rows: 200, required: [ja], worst_gap: {max: 5}}
"""
DATED = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "1.0.0"}
rules:
  - {id: rank, metric: effective_rank, min: 30}
  - {id: cone, metric: mean_cosine, max: 0.2, enforce_from: 2027-01-15}
waivers:
  - {rule: rank, model: "models:/enc/41", expires: 2026-12-31, owner: kenji, reason: the tokenizer is new}
"""
GOOD = "effective_rank: {value: 40, interval: [38, 42]}"
NEAR = "effective_rank: {value: 30, interval: [28, 32]}"
FEW = "effective_rank: {status: inconclusive, reason: 'few_rows: 9'}"
NONE = "effective_rank: {status: not_applicable}"
LOW = "effective_rank: {value: 20, interval: [18, 22]}"
ROUND = "mean_cosine: {value: 0.1, interval: [0.09, 0.11]}"
POINTED = "mean_cosine: {value: 0.5, interval: [0.4, 0.6]}"


def written(folder: Path, tests: str, policy: str = POLICY) -> Path:
    (folder / "policy.yaml").write_text(policy, encoding="utf-8")
    path = folder / "policy.test.yaml"
    head = "kind: PolicyTests\npolicy: policy.yaml\ntests:\n"
    lines = [f"  - {{name: t{number}, {test}}}\n" for number, test in enumerate(tests.splitlines())]
    path.write_text(head + "".join(lines), encoding="utf-8")
    return path


def complaints(folder: Path, test: str, policy: str = POLICY) -> tuple[str, ...]:
    """What is not as one test expects."""
    (tested,) = run(load(written(folder, test, policy)))
    return tested.complaints


def faults(folder: Path, tests: str, policy: str = POLICY) -> list[str]:
    """What is wrong with a file, each with line and column."""
    path = written(folder, tests, policy)
    with pytest.raises(PolicyError) as raised:
        load(path)
    return [str(fault).removeprefix(f"{path}:") for fault in raised.value.faults]


@pytest.mark.parametrize(
    "test",
    [
        f"given: {{{GOOD}, {ROUND}}}, expect: {{status: passed, exit_code: 0, pass: [rank, cone], fail: []}}",
        f"given: {{{LOW}, {ROUND}}}, expect: {{status: failed, exit_code: 1, fail: [rank]}}",
        f"given: {{{GOOD}, {POINTED}}}, expect: {{status: warned, exit_code: 0, warn: [cone]}}",
        f"given: {{{NEAR}, {ROUND}}}, expect: {{status: inconclusive, exit_code: 4, inconclusive: [rank]}}",
        f"given: {{{FEW}, {ROUND}}}, expect: {{status: inconclusive, exit_code: 4, inconclusive: [rank]}}",
        f"given: {{{NONE}, {ROUND}}}, expect: {{status: error, exit_code: 3, error: [rank]}}",
        f"given: {{{ROUND}}}, expect: {{status: error, exit_code: 3, error: [rank], pass: [cone]}}",
        f"given: {{{LOW}, {ROUND}}}, alias: challenger, expect: {{status: warned, exit_code: 0, warn: [rank]}}",
        f"given: {{{GOOD}, {ROUND}}}, model: 'models:/other/1', expect: {{status: error, exit_code: 5}}",
        f"given: {{{GOOD}, {ROUND}}}, model: 'models:/enc/1', expect: {{status: passed}}",
    ],
)
def test_a_policy_says_of_written_numbers_what_it_says_of_measured_ones(tmp_path: Path, test: str) -> None:
    assert complaints(tmp_path, test) == ()


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_a_number_that_is_none_is_judged_as_it_is_and_never_passes(tmp_path: Path, value: str) -> None:
    for given in (
        f"effective_rank: {{value: {value}, interval: [38, 42]}}",
        f"effective_rank: {{value: 40, interval: [{value}, 42]}}",
        f"effective_rank: {{value: 40, interval: [38, {value}]}}",
        "effective_rank: {value: 40, interval: [42, 38]}",
    ):
        test = f"given: {{{given}, {ROUND}}}, expect: {{status: error, exit_code: 3, error: [rank]}}"
        assert complaints(tmp_path, test) == ()


@pytest.mark.parametrize("value", ["true", '"1"', "[]", "no", "1e-3x", "", "{}", "2027-01-01", "5%", '"1e-3"'])
def test_what_is_no_number_at_all_is_a_fault_of_the_file(tmp_path: Path, value: str) -> None:
    test = f"given: {{effective_rank: {{value: {value}, interval: [38, 42]}}, {ROUND}}}, expect: {{status: passed}}"
    assert any("given.effective_rank.value" in fault for fault in faults(tmp_path, test))


def test_a_test_says_what_is_not_as_expected_and_why(tmp_path: Path) -> None:
    told = complaints(
        tmp_path, f"given: {{{GOOD}, {POINTED}}}, expect: {{status: failed, exit_code: 1, fail: [rank], warn: []}}"
    )
    assert told == (
        "status: expected failed, found warned",
        "exit_code: expected 1, found 0",
        "fail: expected rank, but rank is pass: effective_rank of layer 'output' is 40 [38, 42], must be at least 30",
        "warn: did not expect cone: mean_cosine of layer 'output' is 0.5 [0.4, 0.6], must be at most 0.2",
    )


def test_where_only_a_status_is_expected_the_findings_say_why_it_is_another(tmp_path: Path) -> None:
    told = complaints(tmp_path, f"given: {{{LOW}, {ROUND}}}, expect: {{status: passed}}")
    assert told[0] == "status: expected passed, found failed"
    assert told[1].startswith("rank is fail: effective_rank of layer 'output' is 20 ")


def test_an_interval_is_that_of_the_level_at_which_a_rule_is_judged(tmp_path: Path) -> None:
    policy = POLICY.replace("rules:", "defaults: {confidence: 0.99, multiplicity: holm}\nrules:")
    for given, expect in ((GOOD, "pass: [rank, cone]"), (LOW, "fail: [rank]"), (NEAR, "inconclusive: [rank]")):
        assert complaints(tmp_path, f"given: {{{given}, {ROUND}}}, expect: {{{expect}}}", policy) == ()


def test_the_change_against_a_baseline_is_given_or_made_of_two_independent_intervals(tmp_path: Path) -> None:
    policy = COMPARED.replace("WHEN", "skip_relative")
    near, far = GOOD.replace("40", "39").replace("38, 42", "38.5, 39.5"), LOW
    candidate, baseline = f"given: {{{near}}}", "baseline: {effective_rank: {value: 40, interval: [39.5, 40.5]}}"
    assert complaints(tmp_path, f"{candidate}, {baseline}, expect: {{pass: [rank (relative)]}}", policy) == ()
    assert complaints(tmp_path, f"given: {{{far}}}, {baseline}, expect: {{fail: [rank]}}", policy) == ()
    wide = "given: {effective_rank: {value: 38.9, interval: [38, 40]}}"  # -1.1 -/+ hypot(0.9, 0.5)
    assert complaints(tmp_path, f"{wide}, {baseline}, expect: {{inconclusive: [rank]}}", policy) == ()
    paired = "change: {effective_rank: {value: -1.1, interval: [-1.2, -1]}}"
    assert complaints(tmp_path, f"{wide}, {baseline}, {paired}, expect: {{pass: [rank]}}", policy) == ()
    (fault,) = faults(tmp_path, f"{baseline}, {paired}, expect: {{pass: [rank]}}", policy)
    assert "a change lies between two numbers" in fault
    assert complaints(tmp_path, f"{candidate}, expect: {{status: error, error: [rank]}}", policy) == ()


@pytest.mark.parametrize("given", ["{value: .nan, interval: [38, 42]}", "{value: 40, interval: [42, 38]}"])
@pytest.mark.parametrize("whose", ["given", "baseline"])
def test_no_difference_is_made_of_what_is_no_number(tmp_path: Path, given: str, whose: str) -> None:
    other = "baseline" if whose == "given" else "given"
    test = f"{whose}: {{effective_rank: {given}}}, {other}: {{{GOOD}}}, expect: {{status: error, error: [rank]}}"
    assert complaints(tmp_path, test, COMPARED.replace("WHEN", "skip_relative")) == ()


def test_without_a_baseline_rules_are_left_out_or_the_check_stops(tmp_path: Path) -> None:
    test = "given: {%s}, no_baseline: a first version, expect: {status: error, exit_code: %d}"
    assert complaints(tmp_path, test % (GOOD, 5), COMPARED.replace("WHEN", "skip_relative")) == ()
    stopped = COMPARED.replace("WHEN", "error")
    assert complaints(tmp_path, test % (GOOD, 3), stopped) == ()
    (told,) = complaints(tmp_path, f"given: {{{GOOD}}}, no_baseline: first, expect: {{status: passed}}", stopped)
    assert told.startswith(
        "status: expected passed, found error: there is no baseline (first), and `when_absent: error`"
    )


def test_a_version_that_is_named_must_be_there_unless_it_is_the_candidate(tmp_path: Path) -> None:
    test = f"given: {{{GOOD}}}, no_baseline: gone, %s expect: {{status: error, exit_code: %d}}"
    for when in ("skip_relative", "error"):
        named = COMPARED.replace("WHEN", when).replace("@champion", "models:/enc/37")
        assert complaints(tmp_path, test % ("", 3), named) == ()
        assert complaints(tmp_path, test % ("model: models:/enc/38,", 3), named) == ()
        itself = test % ("model: models:/enc/37,", 5 if when == "skip_relative" else 3)
        assert complaints(tmp_path, itself, named) == ()
    (told,) = complaints(
        tmp_path, test % ("", 5), COMPARED.replace("WHEN", "skip_relative").replace("@champion", "m/1")
    )
    assert told == (
        "exit_code: expected 5, found 3: there is no baseline (gone), and m/1, which is named, must be there "
        "unless the `model` of the test is that version"
    )
    aliased = COMPARED.replace("WHEN", "skip_relative").replace("@champion", "models:/enc@champion")
    assert complaints(tmp_path, test % ("", 5), aliased) == ()


def test_slices_are_judged_by_their_rows_and_numbers(tmp_path: Path) -> None:
    def given(ja: str, en: str, rows: int = 300) -> str:
        parts = f"'language=ja': {{rows: 300, given: {{{ja}}}}}, 'language=en': {{rows: {rows}, given: {{{en}}}}}"
        return f"slices: {{{parts}}}"

    for test in (
        f"{given(GOOD, GOOD)}, expect: {{status: passed, pass: [rank]}}",
        f"{given(LOW, GOOD)}, expect: {{fail: ['rank[language=ja]', rank (worst gap)], pass: ['rank[language=en]']}}",
        f"{given(GOOD, LOW, 199)}, expect: {{pass: ['rank[language=ja]'], not_evaluated: [rank]}}",
        f"slices: {{'language=en': {{rows: 300, given: {{{GOOD}}}}}}}, expect: {{status: error, exit_code: 3}}",
        f"given: {{{GOOD}}}, expect: {{status: error, error: [rank]}}",
    ):
        assert complaints(tmp_path, test, SLICED) == ()


def test_a_slice_without_a_number_leaves_no_gap_between_the_others(tmp_path: Path) -> None:
    wrong = "effective_rank: {value: .nan, interval: [.nan, .nan]}"
    parts = ", ".join(f"'language={name}': {{rows: 300, given: {{{GOOD}}}}}" for name in ("ja", "de"))
    test = f"slices: {{{parts}, 'language=en': {{rows: 300, given: {{{wrong}}}}}}}, expect: {{error: [rank]}}"
    policy = SLICED.replace("min: 30, ", "")
    assert complaints(tmp_path, test, policy) == ()


def test_the_day_and_the_model_of_a_test_are_those_of_waivers_and_dates(tmp_path: Path) -> None:
    for day, model, expect in (
        ("2026-12-31", "models:/enc/41", "{status: warned, waived: [rank], warn: [cone]}"),
        ("2027-01-01", "models:/enc/41", "{status: failed, waived: [], fail: [rank], warn: [cone]}"),
        ("2026-12-31", "models:/enc/42", "{status: failed, fail: [rank]}"),
        ("2027-01-15", "models:/enc/41", "{fail: [rank, cone]}"),
    ):
        test = f"given: {{{LOW}, {POINTED}}}, date: {day}, model: '{model}', expect: {expect}"
        assert complaints(tmp_path, test, DATED) == ()


def test_a_policy_with_dates_wants_the_day_of_the_test(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, f"given: {{{GOOD}, {ROUND}}}, expect: {{status: passed}}", DATED)
    assert fault.startswith("4:5: error[policy]: tests.0: the policy has waivers or dates; say on which day ")


def test_answers_may_differ_by_layer(tmp_path: Path) -> None:
    policy = POLICY.replace("{id: cone, metric: mean_cosine", "{id: cone, metric: effective_rank, layer: input")
    given = "effective_rank: {value: 0.1, interval: [0.1, 0.1], layers: {output: {value: 40, interval: [38, 42]}}}"
    assert complaints(tmp_path, f"given: {{{given}}}, expect: {{pass: [rank, cone]}}", policy) == ()
    only = "effective_rank: {layers: {output: {value: 40, interval: [38, 42]}}}"
    assert complaints(tmp_path, f"given: {{{only}}}, expect: {{pass: [rank], error: [cone]}}", policy) == ()


@pytest.mark.parametrize(
    ("test", "fault"),
    [
        ("expect: {}", "tests.0.expect: a test that expects nothing would always pass"),
        ("gven: {}, expect: {status: passed}", "tests.0.gven: there is no key `gven`. Did you mean `given`?"),
        ("given: {efective_rank: {status: error}}, expect: {pass: []}", "Did you mean `effective_rank`?"),
        ("given: {cdnv: {status: error}}, expect: {pass: []}", "no rule of the policy asks for 'cdnv'"),
        ("given: {effective_rank: {value: 1}}, expect: {pass: []}", "needs `value` and `interval`, or the `status`"),
        ("given: {effective_rank: {value: 1, interval: [1]}}, expect: {pass: []}", "interval.1: is required"),
        ("given: {effective_rank: {reason: x}}, expect: {pass: []}", "a `reason` needs a `status`"),
        ("given: {effective_rank: {status: ok}}, expect: {pass: []}", "`inconclusive`, `not_applicable` or `error`"),
        (
            "given: {effective_rank: {status: error, value: 1, interval: [1, 1]}}, expect: {pass: []}",
            "has a number and refuses with `status`",
        ),
        ("given: {effective_rank: {layers: {x: {status: error}}}}, expect: {pass: []}", "They ask at: output."),
        (
            "change: {effective_rank: {status: error}}, expect: {pass: []}",
            "a change lies between two numbers; give 'effective_rank' in `given` and",
        ),
        ("slices: {language=ja: {rows: 3}}, expect: {pass: []}", "the policy has no rule with `slices`"),
        ("slices: {language=ja: {given: {}}}, expect: {pass: []}", "slices.language=ja.rows: is required"),
        ("alias: champion, expect: {pass: []}", "the policy says nothing of the alias 'champion'"),
        ("expect: {fail: [rnk]}", "tests.0.expect.fail.0: there is no rule 'rnk'. Did you mean `rank`?"),
        ("expect: {status: fail}", "Did you mean `failed`?"),
        ("expect: {exit_code: true}", "expect.exit_code: should be a whole number, found true"),
        ("model: models:/enc@champion, expect: {pass: []}", "and no pattern or alias"),
        ("date: tomorrow, expect: {pass: []}", "should be a day such as 2027-01-31"),
        ("no_baseline: x, baseline: {effective_rank: {status: error}}, expect: {pass: []}", "says that there is none"),
        ("date: 2027-01-01, date: 2027-01-02, expect: {pass: []}", "`date` is given twice"),
    ],
)
def test_a_fault_of_the_file_is_told_with_its_place(tmp_path: Path, test: str, fault: str) -> None:
    told = faults(tmp_path, test)
    assert any(fault in each and each.startswith("4:") for each in told), told


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    told = faults(tmp_path, "expect: {pss: []}\nexpect: {status: fine}\ngiven: [], expect: {pass: []}")
    assert [each.partition(":")[0] for each in told] == ["4", "5", "6"]
    same = written(tmp_path, "expect: {pass: [rnk]}\nexpect: {fail: [rnk]}")
    same.write_text(same.read_text(encoding="utf-8").replace("t1", "t0"), encoding="utf-8")
    with pytest.raises(PolicyError) as raised:
        load(same)
    assert [fault.message.partition(":")[0] for fault in raised.value.faults] == [
        "tests.0.expect.pass.0",
        "tests.1.name",
        "tests.1.expect.fail.0",
    ]


def test_a_file_without_tests_and_a_policy_without_rules_are_no_pass(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    path.write_text("kind: PolicyTests\npolicy: policy.yaml\ntests: []\n", encoding="utf-8")
    with pytest.raises(PolicyError, match="tests: should hold at least one test, found none"):
        load(path)
    path = written(tmp_path, "expect: {status: passed}", POLICY.partition("rules:")[0])
    with pytest.raises(NothingEvaluatedError, match=r"policy\.test\.yaml: .*has no rules"):
        load(path)


def test_a_policy_that_is_not_there_is_a_fault_at_its_place(tmp_path: Path) -> None:
    path = written(tmp_path, "expect: {status: passed}")
    path.write_text(path.read_text(encoding="utf-8").replace("policy: policy", "policy: plicy"), encoding="utf-8")
    with pytest.raises(PolicyError, match=r"policy.test.yaml:2:1: error\[policy\]: policy: .*Did you mean"):
        load(path)


def test_a_pack_is_tested_by_its_name(tmp_path: Path) -> None:
    path = written(tmp_path, "expect: {error: [rank]}")
    path.write_text(path.read_text(encoding="utf-8").replace("policy.yaml", "embedding@1"), encoding="utf-8")
    assert load(path).policy.path == "embedding@1"


def test_files_are_found_by_their_name_below_folders_that_are_not_hidden(tmp_path: Path) -> None:
    first = written(tmp_path, "expect: {pass: []}")
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    second = written(deep, "expect: {pass: []}").rename(deep / "x.test.yml")
    hidden = tmp_path / ".venv"
    hidden.mkdir()
    written(hidden, "expect: {pass: []}")
    (tmp_path / "tests.yaml").write_text("kind: PolicyTests\n", encoding="utf-8")
    other = tmp_path / "other.test.yaml"
    other.write_text("kind: Deployment\n", encoding="utf-8")
    assert found([tmp_path]) == ([second, first], [other])
    assert found([first, tmp_path])[0] == [first, second]
    assert found([other])[0] == [other]  # named, so that its faults are told


NEARLY = ("kind: policytest\n", "tests: []\n", "- a\n", "", "kind: {}\n", "\0", "kind: [\n")


@pytest.mark.parametrize("content", NEARLY)
def test_a_file_that_may_be_meant_is_not_left_out(tmp_path: Path, content: str) -> None:
    path = tmp_path / "p.test.yaml"
    path.write_text(content, encoding="utf-8")
    assert found([tmp_path]) == ([path], [])
    with pytest.raises(PolicyError):
        load(path)


def test_finding_nothing_is_no_pass(tmp_path: Path) -> None:
    with pytest.raises(NothingEvaluatedError, match=r"no file NAME\.test\.yaml .*\"Testing a policy\""):
        found([tmp_path])
    with pytest.raises(UsageError, match="there is no file or folder"):
        found([tmp_path / "none"])


def test_text_and_junit_say_the_same(tmp_path: Path) -> None:
    from junitparser import Failure, JUnitXml

    suite = load(written(tmp_path, f"given: {{{GOOD}, {ROUND}}}, expect: {{status: passed}}\nexpect: {{pass: [rank]}}"))
    results = [(suite, run(suite))]
    lines = text(results).splitlines()
    assert lines[0] == "FAILED  2 policy tests: 1 passed, 1 failed"
    assert [line for line in lines if line.startswith("  ")][:2] == ["  pass  t0", "  FAIL  t1"]
    assert f"    --> {tmp_path}/policy.test.yaml:5" in lines
    (read,) = JUnitXml.fromstring(junit(results).encode())
    assert (read.tests, read.failures, read.errors) == (2, 1, 0)
    cases = list(read)
    assert [(case.name, case.classname) for case in cases] == [("t0", "encoder"), ("t1", "encoder")]
    assert [type(each) for case in cases for each in case.result] == [Failure]
    assert cases[1].result[0].message.startswith("pass: expected rank, but rank is error: ")
