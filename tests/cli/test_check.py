"""`gate check` from the command line to the registry: the verdict, the message, and what is left behind."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from xml.etree import ElementTree as ET

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from gate.cli import main
from gate.mlflow_plugin.recorder import EXPERIMENT
from gate.models.quiet import quiet_mlflow

ROWS = 300
NETWORK = "encoder"
POLICY = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "1.0.0"}
probe:
  uri: PROBE
  columns: {input: pixels, label: label, id: id}
layers:
  embedding: {path: embedding}
rules:
  - id: collapse
    metric: collapse_index
    layer: embedding
    max: 0.8
    why: Vectors that all lie on one line cannot be searched.
    fix: Look at the terms of the loss and their signs.
  - id: rank
    metric: effective_rank
    layer: embedding
    min: 6
  - {id: neighbours, metric: knn_label_agreement, layer: embedding, min: 0.5}
  - {id: classes, metric: ridge_probe_accuracy, layer: embedding, min: 0.5}
  - {id: repeats, metric: near_duplicate_share, layer: embedding, max: 0.1}
"""


def network(*, collapsed: bool = False) -> nn.Module:
    """A random encoder of digits into 24 channels; the collapsed one multiplies its last weights into one direction."""
    layers = OrderedDict(hidden=nn.Linear(64, 48), active=nn.Tanh(), embedding=nn.Linear(48, 24))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in (each for layer in layers.values() for each in layer.parameters()):
            weights.copy_(torch.randn(weights.shape, generator=generator) / 8)
        if collapsed:
            line = torch.randn(24, 1, generator=generator) @ torch.randn(1, 48, generator=generator)
            layers["embedding"].weight.mul_(0.1).add_(line)  # type: ignore[operator]
    return nn.Sequential(layers).eval()


def probe_table() -> pa.Table:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = ((digits.data[:ROWS] - 8) / 8).astype(np.float32)
    ids = [f"digit-{row:03d}" for row in range(ROWS)]
    return pa.table({"pixels": list(pixels), "label": [str(label) for label in digits.target[:ROWS]], "id": ids})


def inputs() -> np.ndarray[Any, Any]:
    return np.array(probe_table()["pixels"].to_pylist(), dtype=np.float32)


@dataclass(frozen=True)
class Registry:
    """A real registry: encoder/1 (@champion) is healthy, /2 collapsed, /3 healthy and a pickle."""

    folder: Path
    healthy_run: str

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    @property
    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self.uri, self.uri)

    def again(self, version: str) -> str:
        """The same model as a version that was never checked."""
        with quiet_mlflow():
            known = self.client.get_model_version(NETWORK, version)
            made = self.client.create_model_version(NETWORK, known.source, known.run_id)
        return f"models:/{NETWORK}/{made.version}"

    def tags(self, uri: str) -> dict[str, str]:
        with quiet_mlflow():
            return dict(self.client.get_model_version(NETWORK, uri.rpartition("/")[2]).tags)

    def runs(self) -> dict[str, tuple[str, str | None]]:
        """Run → status and what it says of the verdict."""
        with quiet_mlflow():
            everywhere = [experiment.experiment_id for experiment in self.client.search_experiments()]
            found = self.client.search_runs(everywhere, max_results=1000)
        return {run.info.run_id: (run.info.status, run.data.tags.get("gate")) for run in found}

    def evidence(self, run_id: str) -> dict[str, Any]:
        with quiet_mlflow():
            path = self.client.download_artifacts(run_id, "gate/evidence.json")
        return strict(Path(path).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    import mlflow

    folder = tmp_path_factory.mktemp("registry")
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    with quiet_mlflow():
        run_id = filled(folder)
    yield Registry(folder, run_id)
    mlflow.set_tracking_uri(before)  # type: ignore[arg-type]


def filled(folder: Path) -> str:
    import mlflow
    import mlflow.pytorch

    runs = []
    experiment = mlflow.create_experiment("training", artifact_location=(folder / "artifacts").as_uri())
    for collapsed, serialization_format in ((False, "pt2"), (True, "pt2"), (False, "pickle")):
        with mlflow.start_run(experiment_id=experiment) as run:
            mlflow.pytorch.log_model(
                network(collapsed=collapsed),
                name="model",
                registered_model_name=NETWORK,
                input_example=inputs()[:2],
                serialization_format=serialization_format,
                pip_requirements=["torch"],
            )
        runs.append(run.info.run_id)
    mlflow.MlflowClient().set_registered_model_alias(NETWORK, "champion", "1")
    return str(runs[0])


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return strict(self.out)

    def is_refused(self, code: int, message: str) -> None:
        """One message on stderr, and neither a traceback nor anything on stdout."""
        assert (self.code, self.out) == (code, ""), self.err
        assert message in self.err
        assert self.err.count("\n") == self.err.count("error[") == 1
        assert "Traceback" not in self.err


Check = Callable[..., Done]


@pytest.fixture
def check(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Check:
    """`gate check` in this process: what a process of its own would add is seen by the tests that start one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
    for name in [name for name in os.environ if name.startswith("GATE_")]:
        monkeypatch.delenv(name)

    def run(uri: str, policy: Path, *options: str) -> Done:
        capfd.readouterr()
        code = main(["check", uri, "-p", str(policy), *options])
        return Done(code, *capfd.readouterr())

    return run


def gate(registry: str, *arguments: str, directory: Path) -> Done:
    """`gate` in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GATE_", "MLFLOW_"))}
    command = [sys.executable, "-m", "gate", *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        env=kept | {"MLFLOW_TRACKING_URI": registry},
    )
    return Done(done.returncode, done.stdout, done.stderr)


def strict(text: str) -> dict[str, Any]:
    def refuse(constant: str) -> NoReturn:
        raise AssertionError(constant)

    return dict(json.loads(text, parse_constant=refuse))


def written(folder: Path, *changes: tuple[str, str], table: pa.Table | None = None) -> Path:
    """The policy, with some of its text replaced, beside the probe set."""
    pq.write_table(probe_table() if table is None else table, folder / "probe.parquet")
    text = POLICY.replace("PROBE", str(folder / "probe.parquet"))
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "policy.yaml").write_text(text, encoding="utf-8")
    return folder / "policy.yaml"


def place(policy: Path, text: str) -> str:
    """`file:line:col` of the first place where the policy says this."""
    before = policy.read_text(encoding="utf-8").partition(text)[0]
    return f"{policy}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def numbers(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The estimates, without the name of the model that they are about."""
    return [{key: value for key, value in each.items() if key != "model"} for each in document["estimates"]]


def statuses(document: dict[str, Any]) -> dict[str, str]:
    return {result["rule"]: result["status"] for result in document["results"]}


# The verdict.


def test_a_collapsed_model_exits_with_1_and_each_failing_rule_is_named_with_its_line(
    registry: Registry, tmp_path: Path
) -> None:
    policy, uri = written(tmp_path), registry.again("2")
    document = tmp_path / "e.json"
    done = gate(
        registry.uri, "check", uri, "-p", str(policy), "-o", "text", "-o", f"json={document}", directory=tmp_path
    )
    assert done.code == 1
    assert done.out.startswith(f"FAILED  {uri} is blocked: of 5 rules 3 failed.")
    results = {each["rule"]: each for each in strict(document.read_text())["results"]}
    assert {name for name, each in results.items() if each["status"] == "fail"} == {"collapse", "rank", "neighbours"}
    for rule, metric, required, bound in (
        ("collapse", "collapse_index", "must be at most 0.8", "max: 0.8"),
        ("rank", "effective_rank", "must be at least 6", "min: 6"),
        ("neighbours", "knn_label_agreement", "must be at least 0.5", "min: 0.5"),
    ):
        value, low, high = (f"{number:.3g}" for number in (results[rule]["value"], *results[rule]["interval"]))
        headline = f"error[{rule}]: {metric} of layer 'embedding' is {value} [{low}, {high}], {required}"
        assert f"{headline}\n  --> {place(policy, bound)}\n" in done.out
    assert "why: Vectors that all lie on one line cannot be searched." in done.out
    assert "fix: Look at the terms of the loss and their signs." in done.out
    assert "95% interval, n = 300" in done.out
    assert "Traceback" not in done.err
    assert registry.tags(uri)["gate"] == "FAIL"
    (more,) = re.findall(
        r"^gate (explain collapse --run [0-9a-f]{32}) says more of what did not pass$", done.err, re.MULTILINE
    )
    assert "must be at most 0.8" in gate(registry.uri, *more.split(), directory=tmp_path).out


def test_a_healthy_model_passes_and_its_version_names_the_run_that_says_so(
    registry: Registry, check: Check, tmp_path: Path
) -> None:
    uri = registry.again("1")
    before = registry.runs()
    done = check(uri, written(tmp_path), "-o", "json")
    assert done.code == 0
    assert set(statuses(done.document).values()) == {"pass"}
    (run_id,) = registry.runs().keys() - before.keys()
    assert registry.runs()[run_id] == ("FINISHED", "PASS")
    assert registry.tags(uri) == {"gate": "PASS", "gate.run": run_id[:8], "gate.policy": "encoder@1.0.0"}
    assert registry.evidence(run_id) == done.document
    assert done.err.splitlines()[0] == f"recorded as MLflow run {run_id}"


def test_a_rule_that_cannot_be_evaluated_is_no_pass_and_reads_as_an_error(
    registry: Registry, check: Check, tmp_path: Path
) -> None:
    uri = registry.again("1")
    asked = written(tmp_path, ("metric: knn_label_agreement", "metric: ncc_head_disagreement"))
    done = check(uri, asked, "--fail-on", "never", "-o", "json")
    assert (done.code, done.document["status"], done.document["exit_code"]) == (3, "error", 3)
    assert statuses(done.document)["neighbours"] == "error"
    assert "missing_input: it needs " in next(
        each["message"] for each in done.document["results"] if each["rule"] == "neighbours"
    )
    assert registry.tags(uri)["gate"] == "ERROR"


def test_a_rule_whose_column_the_policy_does_not_name_is_refused_before_the_model_is_loaded(
    registry: Registry, check: Check, tmp_path: Path
) -> None:
    before = registry.runs()
    done = check("models:/encoder/1", written(tmp_path, (", label: label", "")), "--fail-on", "never")
    assert (done.code, done.out) == (2, "")
    assert "'knn_label_agreement' needs `label` of the probe set; add `label: NAME` to `probe.columns`" in done.err
    assert registry.runs() == before


def written_by_few(table: pa.Table) -> pa.Table:
    """Every digit four times, with the same cluster: rows that tell as much as a quarter of them."""
    few = table.slice(0, ROWS // 4)
    ids = [f"digit-{row:03d}" for row in range(len(few) * 4)]
    copies = pa.concat_tables([few] * 4).drop_columns("id").append_column("id", [ids])
    return copies.append_column("writer", [few["id"].to_pylist() * 4])


def test_a_cluster_column_widens_the_intervals_and_is_named_as_their_method(check: Check, tmp_path: Path) -> None:
    table = written_by_few(probe_table())
    plain = check("models:/encoder/1", written(tmp_path, table=table), "--no-record", "-o", "json").document
    named = written(tmp_path, ("id: id}", "id: id, cluster: writer}"), table=table)
    done = check("models:/encoder/1", named, "--no-record", "-o", "json").document
    assert plain["probe"]["columns"]["cluster"] is None
    assert done["probe"]["columns"]["cluster"] == "writer"
    assert done["probe"]["digest"] != plain["probe"]["digest"]
    for rule in ("collapse", "rank"):
        one, other = (next(each for each in every["results"] if each["rule"] == rule) for every in (plain, done))
        assert one["value"] == pytest.approx(other["value"], rel=1e-6)
        assert other["method"] == f"{one['method']}, 75 clusters"
        (low, high), (lower, higher) = one["interval"], other["interval"]
        assert 1.6 < (higher - lower) / (high - low) < 2.6  # four copies: twice, and a little for the few clusters


# Against the champion, on slices, and with a waiver.

RELATIVE = """\
baseline: {uri: '@champion', when_absent: skip_relative}
rules:
  - {id: no-worse, metric: knn_label_agreement, layer: embedding, relative: {max_drop: 0.05}}
"""
COMPARED = ("rules:\n", RELATIVE)


def test_a_collapsed_version_is_worse_than_the_champion_on_the_same_rows(check: Check, tmp_path: Path) -> None:
    done = check("models:/encoder/2", written(tmp_path, COMPARED), "--no-record", "-o", "json")
    found = next(each for each in done.document["results"] if each["rule"] == "no-worse")
    assert (done.code, found["status"], found["check"]) == (1, "fail", "relative")
    assert done.document["baseline"]["resolved"] == "models:/encoder/1"
    assert " for the worse from the baseline's " in found["message"]
    assert found["value"] < found["interval"][1] < found["min"] == -0.05
    assert found["rows"]
    alone = next(each for each in done.document["results"] if each["rule"] == "neighbours")
    assert found["value"] == pytest.approx(alone["value"] - found["baseline"])


def test_the_champion_itself_has_nothing_to_be_compared_with(check: Check, tmp_path: Path) -> None:
    done = check("models:/encoder/1", written(tmp_path, COMPARED), "--no-record", "-o", "json")
    assert (done.code, statuses(done.document)["no-worse"]) == (0, "not_evaluated")
    assert done.document["baseline"] is None
    assert "the baseline models:/encoder/1 is the candidate itself" in done.document["notes"]
    strict = ("skip_relative", "error")
    policy = written(tmp_path, COMPARED, strict)
    check("models:/encoder/1", policy, "--no-record").is_refused(
        3, "is the candidate itself, so nothing can be compared"
    )


def test_rows_are_judged_slice_by_slice(check: Check, tmp_path: Path) -> None:
    table = probe_table().append_column("pen", [["blue", "red", "blue"] * (ROWS // 3)])
    slices = "slices: {by: pen, min: 0.9, min_rows: 150, required: [blue], worst_gap: {max: 0.9}}"
    asked = ("knn_label_agreement, layer: embedding, min: 0.5", f"ncc_accuracy, layer: embedding, {slices}")
    done = check("models:/encoder/1", written(tmp_path, asked, table=table), "--no-record", "-o", "json")
    found = {each["slice"]: each for each in done.document["results"] if each["rule"] == "neighbours"}
    assert {name: each["status"] for name, each in found.items() if each["check"] == "bound"} == {
        "pen=red": "not_evaluated",
        "pen=blue": found["pen=blue"]["status"],
    }
    assert (found["pen=blue"]["n"], found[None]["status"], done.code) == (200, "error", 3)
    assert done.document["slices"] == [
        {"slice": {"pen": "blue"}, "rows": 200},
        {"slice": {"pen": "red"}, "rows": 100},
    ]


def test_a_waived_failure_is_shown_and_does_not_block(registry: Registry, check: Check, tmp_path: Path) -> None:
    uri = registry.again("2")
    reason = "expires: 2999-12-31, owner: kenji, reason: The index is rebuilt anyway."
    waivers = [f"  - {{rule: {rule}, model: '{uri}', {reason}}}\n" for rule in ("collapse", "rank", "neighbours")]
    policy = written(tmp_path, ("rules:\n", f"waivers:\n{''.join(waivers)}rules:\n"))
    done = check(uri, policy, "-o", "json", "--no-record")
    assert (done.code, done.document["status"]) == (0, "passed")
    assert {rule for rule, status in statuses(done.document).items() if status == "waived"} == {
        "collapse",
        "rank",
        "neighbours",
    }
    assert check("models:/encoder/2", policy, "--no-record").code == 1


# What cannot be evaluated: one message, and nothing is left behind.


def shown_nan(table: pa.Table) -> pa.Table:
    pixels = inputs()
    pixels[7, 3] = np.nan
    return table.set_column(0, "pixels", [list(pixels)])


def shown_infinite(table: pa.Table) -> pa.Table:
    pixels = inputs()
    pixels[7], pixels[250] = 3e38, -np.inf
    return table.set_column(0, "pixels", [list(pixels)])


def named_twice(table: pa.Table, row: int) -> pa.Table:
    ids = table["id"].to_pylist()
    ids[row] = ids[0]
    return table.set_column(2, "id", [ids])


def without_a_label(table: pa.Table) -> pa.Table:
    return table.set_column(1, "label", [[None, *table["label"].to_pylist()[1:]]])


def without_a_cluster(table: pa.Table) -> pa.Table:
    return table.append_column("writer", [["a", None, *table["label"].to_pylist()[2:]]])


REFUSALS: dict[str, tuple[int, str, list[tuple[str, str]], Callable[[pa.Table], pa.Table]]] = {
    "NaN features": (
        3,
        "finite: input 'pixels' is not finite in 1 of 300 rows ('digit-007'); every row needs finite numbers",
        [],
        shown_nan,
    ),
    "infinite inputs": (3, "input 'pixels' is not finite in 1 of 300 rows", [], shown_infinite),
    "a missing column": (
        3,
        "there is no column 'lable'; of 3 columns, nearest first: label",
        [("label: label", "label: lable")],
        lambda table: table,
    ),
    "an id twice in a batch": (
        3,
        "unique: id 'id' is not unique in 2 of 300 rows ('digit-000'); no value may come twice",
        [],
        lambda table: named_twice(table, 5),
    ),
    "an id in two batches": (
        3,
        "is not unique in 2 of 300 rows ('digit-000')",
        [],
        lambda table: named_twice(table, 299),
    ),
    "an empty probe": (3, "min_rows: 0 rows to measure, expected at least 1", [], lambda table: table.slice(0, 0)),
    "a missing label": (3, "label 'label' is missing in 1 of 300 rows ('digit-000')", [], without_a_label),
    "a missing cluster": (
        3,
        "cluster 'writer' is missing in 1 of 300 rows ('digit-001')",
        [("id: id}", "id: id, cluster: writer}")],
        without_a_cluster,
    ),
    "no probe set": (
        3,
        "there is no such file",
        [("probe.parquet", "prob.parquet")],
        lambda table: table,
    ),
    "rows of another width": (
        3,
        "error[model]: ",
        [],
        lambda table: table.set_column(0, "pixels", [list(inputs()[:, :63])]),
    ),
    "a wrong digest": (
        3,
        f"the policy pins sha256:{'0' * 64}; restore the probe set and its columns, or pin the new digest",
        [("  columns", f"  digest: sha256:{'0' * 64}\n  columns")],
        lambda table: table,
    ),
    "a wrong layer": (
        3,
        "layer 'embeding'; the nearest of its 5 layers, with the shapes of their outputs, are: 'embedding' (256, 24)",
        [("path: embedding", "path: embeding")],
        lambda table: table,
    ),
    "a layer that is not declared": (
        2,
        "there is no layer 'embeding'. Did you mean `embedding`?",
        [("metric: effective_rank\n    layer: embedding", "metric: effective_rank\n    layer: embeding")],
        lambda table: table,
    ),
    "no rule": (
        5,
        "has no rules, so nothing is evaluated",
        [(POLICY[POLICY.index("rules:") :], "")],
        lambda table: table,
    ),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_what_cannot_be_evaluated_is_one_message_and_leaves_nothing_behind(
    registry: Registry, check: Check, tmp_path: Path, fault: str
) -> None:
    code, message, changes, change = REFUSALS[fault]
    policy, uri = written(tmp_path, *changes, table=change(probe_table())), registry.again("1")
    before = registry.runs()
    done = check(uri, policy, "-o", "json", "-o", f"html={tmp_path}/gate.html", "--fail-on", "never")
    done.is_refused(code, message)
    assert registry.runs() == before
    assert registry.tags(uri) == {}
    assert not (tmp_path / "gate.html").exists()


@pytest.mark.parametrize(
    ("right", "wrong", "suggestion"),
    [
        ("min: 6", "mni: 6", "rules.1.mni: there is no key `mni`. Did you mean `min`?"),
        (
            "metric: effective_rank",
            "metric: efective_rank",
            "rules.1.metric: there is no metric 'efective_rank'. Did you mean `effective_rank`?",
        ),
        ("layers:", "layer:", "layer: there is no key `layer`. Did you mean `layers`?"),
    ],
)
def test_a_typo_in_the_policy_exits_with_2_and_says_where_and_what_was_meant(
    registry: Registry, tmp_path: Path, right: str, wrong: str, suggestion: str
) -> None:
    policy = written(tmp_path, (f"{right}\n", f"{wrong}\n"))
    before = registry.runs()
    done = gate(registry.uri, "check", "models:/encoder/1", "-p", str(policy), directory=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert f"{place(policy, wrong)}: error[policy]: {suggestion}\n" in done.err
    assert "Traceback" not in done.err
    assert registry.runs() == before


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("http://127.0.0.1:9", "no server answers there: "),
        ("sqlite:///empty.db", "not found; the registry holds no model"),
        ("sqlite:///nowhere/mlflow.db", "there is no database file 'nowhere/mlflow.db'"),
    ],
)
def test_a_registry_that_does_not_answer_is_one_message(tmp_path: Path, store: str, message: str) -> None:
    sqlite3.connect(tmp_path / "empty.db").execute("VACUUM").connection.close()
    done = gate(store, "check", "models:/encoder/1", "-p", str(written(tmp_path)), directory=tmp_path)
    done.is_refused(3, message)
    assert done.err.startswith("error[registry]: models:/encoder/1: ")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/encoder/999", "version=999) not found; there are: models:/encoder/"),
        ("models:/encodr/1", "not found; the nearest models are: encoder"),
        ("models:/encoder@challenger", "alias challenger not found"),
        ("runs:/00000000000000000000000000000000/model", "its files cannot be downloaded"),
        ("no/such/folder", "there is no such folder"),
        ("features:none.npy", "there is no such file of precomputed vectors"),
    ],
)
def test_a_model_that_is_not_there_is_one_message(
    registry: Registry, check: Check, tmp_path: Path, uri: str, message: str
) -> None:
    before = registry.runs()
    check(uri, written(tmp_path)).is_refused(3, message)
    assert registry.runs() == before


def test_a_version_that_passed_keeps_its_own_evidence_when_a_later_check_breaks_off(
    registry: Registry, check: Check, tmp_path: Path
) -> None:
    uri = registry.again("1")
    passed = check(uri, written(tmp_path), "-o", "json")
    tags, runs = registry.tags(uri), registry.runs()
    assert (passed.code, tags["gate"]) == (0, "PASS")
    check(uri, written(tmp_path, table=shown_nan(probe_table()))).is_refused(3, "is not finite in 1 of 300 rows")
    assert (registry.tags(uri), registry.runs()) == (tags, runs)
    run_id = next(run for run in runs if run.startswith(tags["gate.run"]))
    assert registry.evidence(run_id) == passed.document


# What is recorded, and what the flags change.


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize(("flag", "silent"), [("--dry-run", True), ("--no-record", False)])
def test_nothing_is_recorded_when_nobody_wants_that(
    registry: Registry, check: Check, tmp_path: Path, flag: str, silent: bool, version: str
) -> None:
    uri, before = registry.again(version), registry.runs()
    done = check(uri, written(tmp_path), flag, "-o", "json")
    status = {"1": "passed", "2": "failed"}[version]
    assert done.document["status"] == status
    assert done.code == (1 if status == "failed" and not silent else 0)
    assert (registry.runs(), registry.tags(uri)) == (before, {})


def test_a_flag_that_silences_failures_does_not_silence_errors(
    registry: Registry, check: Check, tmp_path: Path
) -> None:
    uri, policy = registry.again("2"), written(tmp_path)
    silenced = check(uri, policy, "--fail-on", "never", "-o", "json")
    assert (silenced.code, silenced.document["status"], silenced.document["exit_code"]) == (0, "failed", 1)
    assert registry.tags(uri)["gate"] == "FAIL"
    for flags in (["--fail-on", "never"], ["--dry-run"]):
        check("models:/encoder/999", policy, *flags).is_refused(3, "not found")


@pytest.fixture
def unrecordable(registry: Registry) -> Iterator[None]:
    """The experiment that evidence goes to, of what has no run of its own, was deleted."""
    with quiet_mlflow():
        found = registry.client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else registry.client.create_experiment(EXPERIMENT)
        registry.client.delete_experiment(experiment)
        yield
        registry.client.restore_experiment(experiment)


@pytest.mark.usefixtures("unrecordable")
@pytest.mark.parametrize(
    ("shown", "end"),
    [
        ("text", "\nnot recorded in full: do not rely on this verdict, run the check again\n"),
        ("github", "\n::error title=gate::not recorded in full: do not rely on this verdict, run the check again\n"),
        ("markdown", "\n\n**not recorded in full: do not rely on this verdict, run the check again**\n"),
    ],
)
def test_a_verdict_that_is_not_recorded_does_not_read_as_one(
    check: Check, tmp_path: Path, shown: str, end: str
) -> None:
    policy = written(tmp_path, ("path: embedding", "path: output"))
    vectors = saved_vectors(tmp_path, network(collapsed=False))[0]
    done = check(f"features:{vectors}", policy, "--record", "-o", shown)
    assert (done.code, "error[registry]: the experiment 'gate' was deleted" in done.err) == (3, True)
    assert "PASSED" in done.out
    assert done.out.endswith(end)
    assert "not recorded" not in check(f"features:{vectors}", policy, "-o", shown).out


@pytest.mark.usefixtures("unrecordable")
def test_what_machines_read_stays_what_it_is_though_it_is_not_recorded(check: Check, tmp_path: Path) -> None:
    policy = written(tmp_path, ("path: embedding", "path: output"))
    vectors = saved_vectors(tmp_path, network(collapsed=False))[0]
    done = check(f"features:{vectors}", policy, "--record", "-o", "json")
    assert (done.code, done.document["status"]) == (3, "passed")
    done = check(f"features:{vectors}", policy, "--record", "-o", "junit")
    assert (done.code, ET.fromstring(done.out).tag) == (3, "testsuites")  # noqa: S314 - our own file


@pytest.mark.parametrize("flag", ["--no-record", "--dry-run"])
def test_a_signature_on_what_is_not_recorded_is_usage_unless_the_environment_asks_for_it(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    key, policy = tmp_path / "ci", written(tmp_path)
    assert main(["keys", "new", str(key)]) == 0
    check("models:/encoder/1", policy, "--signing-key", str(key), flag).is_refused(
        2, f"error[usage]: --signing-key signs what is recorded, and with {flag} nothing is; leave out one of them"
    )
    monkeypatch.setenv("GATE_SIGNING_KEY", str(key))
    done = check("models:/encoder/1", policy, flag)
    assert (done.code, "not signed: only what is recorded" in done.err) == (0, True)


# The keys that CONVENTIONS section 3 and DESIGN section 7 promise to other programs.
KEYS = {
    "": "schema status exit_code counts model policy probe baseline baseline_reason run estimates results",
    "model": "uri resolved digest",
    "policy": "name version path digest text",
    "probe": "uri digest rows",
    "run": "version device precision seed git started seconds",
}
RESULT_KEYS = (
    "rule metric layer slice status severity value interval min max margin n d c method policy_line message why fix "
    "docs waiver"
)


def test_json_is_the_only_thing_on_stdout_and_the_same_check_says_the_same_again(
    registry: Registry, check: Check, tmp_path: Path
) -> None:
    policy, uri = written(tmp_path), registry.again("2")
    done = gate(registry.uri, "check", uri, "-p", str(policy), "-o", "json", "--no-record", directory=tmp_path)
    document = done.document
    assert document["schema"] == "gate.evidence/v1"
    for part, keys in KEYS.items():
        assert set(keys.split()) <= set(document[part] if part else document)
    assert all(set(RESULT_KEYS.split()) <= set(result) for result in document["results"])
    assert set(document["counts"]) == {"pass", "fail", "inconclusive", "warn", "waived", "not_evaluated", "error"}
    lines = [int(place(policy, bound).split(":")[-2]) for bound in ("max: 0.8", "min: 6", "min: 0.5")]
    assert [result["policy_line"] for result in document["results"][:3]] == lines
    assert done.err == ""
    again = check(uri, policy, "-o", "json", "--no-record")
    assert (again.document["estimates"], again.document["results"]) == (document["estimates"], document["results"])


# Ways to name a model.


def test_every_way_to_name_a_model_gives_the_same_evidence(registry: Registry, check: Check, tmp_path: Path) -> None:
    import mlflow.artifacts

    policy = written(tmp_path)
    with quiet_mlflow():
        folder = mlflow.artifacts.download_artifacts("models:/encoder/1", dst_path=str(tmp_path / "local"))
    uris = ["models:/encoder/1", "models:/encoder@champion", f"runs:/{registry.healthy_run}/model", folder]
    documents = [check(uri, policy, "-o", "json", "--no-record").document for uri in uris]
    first = documents[0]
    assert first["status"] == "passed"
    for document in documents[1:]:
        assert document["model"]["digest"] == first["model"]["digest"]
        assert (numbers(document), document["results"]) == (numbers(first), first["results"])
    assert documents[1]["model"]["resolved"] == "models:/encoder/1"


@pytest.mark.parametrize("version", ["1", "2"])
def test_precomputed_vectors_get_the_verdict_of_the_model_that_made_them(
    registry: Registry, check: Check, tmp_path: Path, version: str
) -> None:
    policy = written(tmp_path, ("path: embedding", "path: output"))
    judged = check(f"models:/{NETWORK}/{version}", policy, "-o", "json", "--no-record")
    before = registry.runs()
    for path in saved_vectors(tmp_path, network(collapsed=version == "2")):
        measured = check(f"features:{path}", policy, "-o", "json")
        assert (measured.code, statuses(measured.document)) == (judged.code, statuses(judged.document))
        assert measured.document["model"]["flavour"] == "features"
        for ours, theirs in zip(measured.document["results"], judged.document["results"], strict=True):
            assert [ours["value"], *ours["interval"]] == pytest.approx([theirs["value"], *theirs["interval"]], rel=1e-4)
    assert registry.runs() == before


def saved_vectors(folder: Path, model: nn.Module) -> tuple[Path, ...]:
    with torch.inference_mode():
        vectors = model(torch.from_numpy(inputs())).numpy()
    files = tuple(folder / f"vectors.{suffix}" for suffix in ("npy", "npz", "parquet"))
    np.save(files[0], vectors)
    np.savez(files[1], features=vectors)
    pq.write_table(pa.table({"features": list(vectors), "id": probe_table()["id"]}), files[2])
    return files


def test_vectors_in_another_order_than_the_probe_set_are_refused(check: Check, tmp_path: Path) -> None:
    policy = written(tmp_path, ("path: embedding", "path: output"))
    table = pa.table({"features": list(inputs()), "id": probe_table()["id"].to_pylist()[::-1]})
    pq.write_table(table, tmp_path / "vectors.parquet")
    done = check(f"features:{tmp_path}/vectors.parquet", policy)
    done.is_refused(3, "the vector of id 'digit-299' stands where the probe set")


# Pickles.


class Hostile:
    """Whoever unpickles this makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


ALLOWED = ("layers:\n", "run: {allow_pickle: true}\nlayers:\n")


def test_a_pickled_model_is_refused_until_the_policy_allows_it(
    registry: Registry, check: Check, tmp_path: Path
) -> None:
    uri, before = registry.again("3"), registry.runs()
    done = check(uri, written(tmp_path))
    done.is_refused(3, "write `run: {allow_pickle: true}` in the policy")
    assert (registry.tags(uri), registry.runs()) == ({}, before)
    allowed = check(uri, written(tmp_path, ALLOWED), "-o", "json", "--no-record")
    exported = check("models:/encoder/1", written(tmp_path), "-o", "json", "--no-record")
    assert (allowed.code, allowed.document["model"]["serialization"]) == (0, "pickle")
    assert statuses(allowed.document) == statuses(exported.document)


def test_a_hostile_pickle_does_not_run_before_the_policy_allows_it(check: Check, tmp_path: Path) -> None:
    import mlflow.artifacts

    marker = tmp_path / "hostile code has run"
    with quiet_mlflow():
        folder = Path(mlflow.artifacts.download_artifacts("models:/encoder/3", dst_path=str(tmp_path / "hostile")))
    weights = folder / "data" / "model.pth"
    assert weights.is_file()
    torch.save(Hostile(marker), weights)
    check(str(folder), written(tmp_path)).is_refused(3, "loading a pickle runs whatever code it holds")
    assert not marker.exists()
    allowed = written(tmp_path, ALLOWED)
    check(str(folder), allowed).is_refused(3, "the pickled model cannot be loaded here: PermissionError")
    assert not marker.exists()
    unkept = written(tmp_path, ("layers:\n", "run: {allow_pickle: true, isolation: none}\nlayers:\n"))
    check(str(folder), unkept).is_refused(3, "the pickled model cannot be loaded here")
    assert marker.exists()


# Interrupted.


def test_an_interrupted_check_exits_with_130_and_leaves_no_pass(registry: Registry, tmp_path: Path) -> None:
    many = 400
    table = pa.concat_tables([probe_table()] * many)
    table = table.set_column(2, "id", [[str(row) for row in range(ROWS * many)]])
    policy, uri = written(tmp_path, ("layers:\n", "run: {batch_size: 4}\nlayers:\n"), table=table), registry.again("1")
    before = registry.runs()
    ours, theirs = pty.openpty()
    environment = os.environ | {"MLFLOW_TRACKING_URI": registry.uri, "TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(
        [sys.executable, "-m", "gate", "check", uri, "-p", str(policy)],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment,
        cwd=tmp_path,
    )
    os.close(theirs)
    shown = read_until(ours, "1,024 of 120,000 rows")  # some rows are behind it
    process.send_signal(signal.SIGINT)
    shown += read_until(ours, None)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert shown.rstrip().endswith("interrupted")
    assert "Traceback" not in shown
    assert (registry.runs(), registry.tags(uri)) == (before, {})


def read_until(terminal: int, text: str | None) -> str:
    """What the terminal shows, up to a text or to the end."""
    shown = ""
    while text is None or text not in shown:
        try:
            shown += os.read(terminal, 65536).decode(errors="replace")
        except OSError:  # the other side has gone
            break
    return shown


def test_no_file_but_an_earlier_statement_makes_room_for_a_new_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "ci"
    assert main(["keys", "new", str(key)]) == 0
    for path in (key, tmp_path):
        arguments = ["check", "features:none.npy", "-p", "classifier", "--signing-key", str(key)]
        assert main([*arguments, "--attestation", str(path)]) == 2
        assert "--attestation" in (told := capsys.readouterr().err) or "cannot be written there" in told
    assert b"PRIVATE KEY" in key.read_bytes()
    earlier = tmp_path / "new" / "attestation.json"
    earlier.parent.mkdir()
    earlier.write_text('{"payloadType":"application/vnd.in-toto+json"}', encoding="utf-8")
    main([*arguments, "--attestation", str(earlier)])
    assert not earlier.exists()
