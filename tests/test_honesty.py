"""Nothing bad passes: every bad input, fed to every public path, ends in another exit code than 0 and in no pass.

The table is input x path. A replay exits with 0 whatever it says of a version; then it must not say that it passes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gate.cli import main

ROWS, CHANNELS = 300, 8
POLICY = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "1.0.0"}
probe: {uri: rows.parquet, columns: {input: x}}
rules:
  - id: rank
    metric: effective_rank
    min: BOUND
    slices: {by: language, min: 3, min_rows: 50, required: [ja]}
"""
TESTS = """\
kind: PolicyTests
policy: policy.yaml
tests:
  - name: it passes
    given: {effective_rank: {value: VALUE, interval: [VALUE, VALUE]}}
    slices:
      language=ja: {rows: 100, given: {effective_rank: {value: 7, interval: [7, 7]}}}
    expect: {status: passed}
"""
WAIVER = """\
waivers:
  - rule: rank
    model: MODEL
    expires: 2020-01-01
    owner: kenji@acme.example
    reason: It was fine for a while.
"""


class Number(NamedTuple):
    """Something that is no number, as each kind of file holds it."""

    in_yaml: str
    in_json: str
    rows: Callable[[np.ndarray[Any, Any]], pa.Array]


def listed(features: np.ndarray[Any, Any]) -> pa.Array:
    return pa.array(list(features))


def with_one(value: float) -> Callable[[np.ndarray[Any, Any]], pa.Array]:
    def spoiled(features: np.ndarray[Any, Any]) -> pa.Array:
        changed = features.copy()
        changed[3, 2] = value
        return listed(changed)

    return spoiled


def all_of(value: object) -> Callable[[np.ndarray[Any, Any]], pa.Array]:
    return lambda features: pa.array([[value] * CHANNELS] * len(features))


NUMBERS = {
    "NaN": Number(".nan", "NaN", with_one(float("nan"))),
    "inf": Number(".inf", "Infinity", with_one(float("inf"))),
    "-inf": Number("-.inf", "-Infinity", with_one(float("-inf"))),
    "too large": Number("1e999", "1e999", with_one(float("inf"))),
    "None": Number("null", "null", lambda features: pa.array([None, *features[1:]])),
    "True": Number("true", "true", all_of(True)),
    '"1"': Number('"1"', '"1"', all_of("1")),
    '"1e-3"': Number('"1e-3"', '"1e-3"', all_of("1e-3")),
    "no": Number("no", '"no"', all_of("no")),
    "empty list": Number("[]", "[]", lambda features: pa.array([[]] * len(features), pa.list_(pa.float32()))),
}


class Bench:
    """A folder with a probe set that passes its policy, the tests of the policy, and the evidence of the check."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.policy, self.tests = folder / "policy.yaml", folder / "policy.test.yaml"
        self.rows, self.evidence = folder / "rows.parquet", folder / "evidence.json"

    def edit(self, path: Path, *changes: tuple[str, str]) -> None:
        text = path.read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text, (path, old)
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")

    def tamper(self, change: Callable[[dict[str, Any]], object]) -> None:
        document = json.loads(self.evidence.read_text(encoding="utf-8"))
        change(document)
        self.evidence.write_text(json.dumps(document), encoding="utf-8")

    def spoil(self, part: str, number: Number, change: Callable[[float], dict[str, Any]]) -> None:
        """Every entry of a part of the evidence, with a text that stands for the number."""
        self.tamper(lambda document: [entry.update(change(entry["value"])) for entry in document[part]])
        self.evidence.write_text(
            self.evidence.read_text(encoding="utf-8").replace('"BAD"', number.in_json), encoding="utf-8"
        )

    def replace_rows(self, change: Callable[[np.ndarray[Any, Any]], pa.Array], rows: int = ROWS) -> None:
        generator = np.random.default_rng(0)
        features = change(generator.normal(size=(rows, CHANNELS)).astype(np.float32))
        languages = pa.array(["ja" if row % 2 else "en" for row in range(rows)])
        pq.write_table(pa.table({"x": features, "language": languages}), self.rows)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("healthy")
    bench = Bench(folder)
    bench.replace_rows(listed)
    bench.policy.write_text(POLICY.replace("BOUND", "3"), encoding="utf-8")
    bench.tests.write_text(TESTS.replace("VALUE", "7"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["check", "features:rows.parquet", "-p", "policy.yaml", "-o", "json=evidence.json", "-q"]) == 0
    return folder


@pytest.fixture
def bench(healthy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    shutil.copytree(healthy, tmp_path / "bench")
    monkeypatch.chdir(tmp_path / "bench")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Bench(tmp_path / "bench")


# Paths: what runs, and which file it takes the number from.


def check(_: Bench) -> int:
    return main(["check", "features:rows.parquet", "-p", "policy.yaml", "-q"])


def policy_test(_: Bench) -> int:
    return main(["policy", "test"])


def policy_diff(bench: Bench) -> int:
    bench.folder.joinpath("old.yaml").write_text(POLICY.replace("BOUND", "3"), encoding="utf-8")
    return main(["policy", "diff", "old.yaml", "policy.yaml", "--against", "evidence.json", "-o", "json"])


def backtest(_: Bench) -> int:
    return main(["backtest", "policy.yaml", "--evidence", "evidence.json", "-o", "json"])


def report(_: Bench) -> int:
    return main(["report", "evidence.json", "-o", "json"])


RUNS: dict[str, Callable[[Bench], int]] = {
    "check": check,
    "policy test": policy_test,
    "policy diff": policy_diff,
    "backtest": backtest,
    "report": report,
}
JUDGES = [name for name in RUNS if name != "report"]  # which read a policy
REPLAYS = ("policy diff", "backtest")  # which exit with 0 whatever they say


def passes(path: str, bench: Bench, capsys: pytest.CaptureFixture[str]) -> bool:
    """Whether a path lets through what it was given."""
    capsys.readouterr()
    code = RUNS[path](bench)
    out = capsys.readouterr().out
    assert code in (0, 1, 2, 3, 4, 5), (code, out)
    if path not in REPLAYS or code != 0:
        return code == 0
    return any(version["after"]["status"] in ("passed", "warned") for version in json.loads(out)["versions"])


@pytest.mark.parametrize("path", RUNS)
def test_what_is_good_passes(bench: Bench, capsys: pytest.CaptureFixture[str], path: str) -> None:
    assert passes(path, bench, capsys)


def feed_number(bench: Bench, path: str, number: Number) -> None:
    """The value that the path judges, and nothing else, becomes what is no number."""
    if path == "check":
        bench.replace_rows(number.rows)
    elif path == "policy test":
        bench.edit(bench.tests, ("value: 7, interval: [7", f"value: {number.in_yaml}, interval: [1"))
    else:
        bench.spoil("results" if path == "report" else "estimates", number, lambda _: {"value": "BAD"})


def feed_interval(bench: Bench, path: str, number: Number) -> None:
    """The same of one end of its interval; a check is given rows and makes the intervals itself."""
    if path == "policy test":
        bench.edit(bench.tests, ("[7, 7]}}\n    slices", f"[6, {number.in_yaml}]}}}}\n    slices"))
    else:
        part = "results" if path == "report" else "estimates"
        bench.spoil(part, number, lambda value: {"interval": ["BAD", value], "intervals": []})


@pytest.mark.parametrize("path", RUNS)
@pytest.mark.parametrize("name", NUMBERS)
def test_no_value_that_is_no_number_passes(
    bench: Bench, capsys: pytest.CaptureFixture[str], name: str, path: str
) -> None:
    feed_number(bench, path, NUMBERS[name])
    assert not passes(path, bench, capsys)


@pytest.mark.parametrize("path", [path for path in RUNS if path != "check"])
@pytest.mark.parametrize("name", NUMBERS)
def test_no_interval_of_what_is_no_number_passes(
    bench: Bench, capsys: pytest.CaptureFixture[str], name: str, path: str
) -> None:
    feed_interval(bench, path, NUMBERS[name])
    assert not passes(path, bench, capsys)


@pytest.mark.parametrize("path", JUDGES)
@pytest.mark.parametrize("name", NUMBERS)
def test_no_bound_that_is_no_number_is_read(bench: Bench, name: str, path: str) -> None:
    bench.edit(bench.policy, ("    min: 3\n", f"    min: {NUMBERS[name].in_yaml}\n"))
    assert RUNS[path](bench) == 2


@pytest.mark.parametrize("path", JUDGES)
def test_a_number_with_an_exponent_is_a_number(bench: Bench, capsys: pytest.CaptureFixture[str], path: str) -> None:
    bench.edit(bench.policy, ("    min: 3\n", "    min: 1e-3\n"))
    assert passes(path, bench, capsys)
    bench.edit(bench.policy, ("    min: 1e-3\n", "    min: 1e3\n"))
    assert not passes(path, bench, capsys)  # where it were read as text, there would be no bound


def no_rows(bench: Bench) -> None:
    bench.replace_rows(listed, rows=0)
    bench.edit(bench.tests, ("rows: 100", "rows: 0"))
    bench.tamper(lambda document: document.update(estimates=[], slices=[]))


def no_results(bench: Bench) -> None:
    bench.tamper(lambda document: document.update(results=[]))


def a_result_less(bench: Bench) -> None:
    bench.tamper(lambda document: document["results"].pop())


def a_metric_without_its_column(bench: Bench) -> None:
    bench.edit(bench.policy, ("metric: effective_rank", "metric: knn_label_agreement"))


def a_metric_that_was_not_measured(bench: Bench) -> None:
    bench.edit(bench.policy, ("metric: effective_rank", "metric: near_duplicate_share"))
    bench.edit(bench.tests, ("    given: {effective_rank: {value: 7, interval: [7, 7]}}\n", ""))
    bench.edit(bench.tests, ("given: {effective_rank: {value: 7, interval: [7, 7]}}", "given: {}"))


def a_slice_that_is_not_there(bench: Bench) -> None:
    bench.edit(bench.policy, ("required: [ja]", "required: [ja, de]"))


def no_slices(bench: Bench) -> None:
    bench.tamper(lambda document: document.update(slices=[]))


def no_rules(bench: Bench) -> None:
    bench.edit(bench.policy, (bench.policy.read_text(encoding="utf-8").partition("rules:")[2], " []\n"))


def an_expired_waiver(bench: Bench) -> None:
    digest = json.loads(bench.evidence.read_text(encoding="utf-8"))["model"]["digest"]
    waiver = WAIVER.replace("MODEL", digest)
    bench.edit(bench.policy, ("    min: 3\n", "    min: 7.9999\n"), ("rules:\n", f"{waiver}rules:\n"))
    bench.edit(
        bench.tests, ("    given: {effective", f"    model: {digest}\n    date: 2026-01-01\n    given: {{effective")
    )


def evidence_under_an_expired_waiver(bench: Bench) -> None:
    an_expired_waiver(bench)
    assert main(["check", "features:rows.parquet", "-p", "policy.yaml", "-o", "json=evidence.json", "-q"]) == 1


def a_waived_result_without_a_waiver(bench: Bench) -> None:
    bench.tamper(lambda document: document["results"][0].update(status="waived"))


def a_bound_twice(bench: Bench) -> None:
    bench.edit(bench.policy, ("    min: 3\n", "    min: 999\n    min: 3\n"))


def a_verdict_twice(bench: Bench) -> None:
    bench.edit(bench.evidence, ('"status": "passed"', '"status": "passed", "status": "failed"'))


# What is not there, not any more, or there twice: for every path what it is fed, and the exit code. A replay of a
# version that fails is no failure of the replay.
OTHERS: dict[str, dict[str, tuple[Callable[[Bench], None], int]]] = {
    "no rows": {
        "check": (no_rows, 3),
        "policy test": (no_rows, 1),
        "policy diff": (no_rows, 3),
        "backtest": (no_rows, 3),
        "report": (no_results, 3),
    },
    "missing metric": {
        "check": (a_metric_without_its_column, 2),
        "policy test": (a_metric_that_was_not_measured, 1),
        "policy diff": (a_metric_that_was_not_measured, 3),
        "backtest": (a_metric_that_was_not_measured, 3),
        "report": (a_result_less, 3),
    },
    "missing slice": {
        "check": (a_slice_that_is_not_there, 3),
        "policy test": (a_slice_that_is_not_there, 1),
        "policy diff": (no_slices, 3),
        "backtest": (no_slices, 3),
        "report": (a_result_less, 3),
    },
    "missing required slice": {
        "policy diff": (a_slice_that_is_not_there, 0),
        "backtest": (a_slice_that_is_not_there, 0),
    },
    "empty policy": {
        "check": (no_rules, 5),
        "policy test": (no_rules, 5),
        "policy diff": (no_rules, 5),
        "backtest": (no_rules, 5),
        "report": (no_results, 3),
    },
    "expired waiver": {
        "check": (an_expired_waiver, 1),
        "policy test": (an_expired_waiver, 1),
        "policy diff": (an_expired_waiver, 0),
        "backtest": (an_expired_waiver, 0),
        "report": (evidence_under_an_expired_waiver, 1),
    },
    "missing waiver": {
        "report": (a_waived_result_without_a_waiver, 3),
    },
    "duplicate key": {
        "check": (a_bound_twice, 2),
        "policy test": (a_bound_twice, 2),
        "policy diff": (a_bound_twice, 2),
        "backtest": (a_bound_twice, 2),
        "report": (a_verdict_twice, 3),
    },
}


@pytest.mark.parametrize(
    ("name", "path", "feed", "code"),
    [(name, path, feed, code) for name, paths in OTHERS.items() for path, (feed, code) in paths.items()],
)
def test_what_is_not_there_does_not_pass(
    bench: Bench,
    capsys: pytest.CaptureFixture[str],
    name: str,
    path: str,
    feed: Callable[[Bench], None],
    code: int,
) -> None:
    del name
    feed(bench)
    assert not passes(path, bench, capsys)
    assert RUNS[path](bench) == code
