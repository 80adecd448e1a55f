"""What a bundle recorded is judged again as it was judged then."""

from __future__ import annotations

from contextlib import chdir
from dataclasses import replace
from datetime import date
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import gate
from gate.evidence import bundle, recorded
from gate.models.baseline import Absent
from gate.models.digest import digest_file
from gate.policy.loading import LoadedPolicy, Source, load_policy
from gate.policy.merging import Place, Written
from gate.policy.schema import Policy
from gate.probes.probe_set import Columns, ProbeSet, open_probe
from gate.verdict import OUTCOMES, Finding, Judgement, Measurements, judge
from tests.evidence.test_bundle import MODEL, PLACES, RUN
from tests.verdict.drawn import as_a_model_may_have_it, drawn
from tests.verdict.made import DIGEST, ON, VERSION

HERE = Path(__file__).parent / "v1"
CANDIDATE = replace(MODEL, resolved=VERSION, digest=DIGEST)


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> ProbeSet:
    path = tmp_path_factory.mktemp("probe") / "probe.npz"
    np.savez(path, x=np.zeros((3, 2), dtype=np.float32))
    opened = open_probe(str(path), columns=Columns(input="x"))
    list(opened.batches(3))
    return opened


def loaded(policy: Policy) -> LoadedPolicy:
    """A policy as if it had been read from a file of one line."""
    text = "x"
    source = Source("p.yaml", text, f"sha256:{sha256(text.encode()).hexdigest()}")
    return LoadedPolicy(policy, Written({}, {(): Place("p.yaml", 1, 1)}), (source,))


def written(policy: Policy, measured: Measurements, judgement: Judgement, probe: ProbeSet) -> dict[str, Any]:
    """The document of a judgement, through JSON and back."""
    absent = measured.no_baseline is not None
    document = bundle.document(
        model=CANDIDATE,
        baseline=Absent(measured.no_baseline or "")
        if absent
        else replace(CANDIDATE, resolved="models:/encoder/3", version="3"),
        policy=loaded(policy),
        probe=probe,
        places=PLACES,
        measured=measured,
        judgement=judgement,
        run=RUN,
    )
    return bundle.loads(bundle.dumps(document))


def without_rows(findings: tuple[Finding, ...]) -> list[Finding]:
    return [replace(finding, rows=()) for finding in findings]


class Run(NamedTuple):
    """A judgement, and the document that it was written to."""

    policy: Policy
    measured: Measurements
    then: Judgement
    document: dict[str, Any]


@pytest.fixture(scope="module")
def runs(probe: ProbeSet) -> list[Run]:
    found = []
    for seed in range(60):
        policy, sound = drawn(seed, loose=False)
        measured = sound if seed % 3 == 0 else as_a_model_may_have_it(sound, seed)
        then = judge(policy, measured, ON)
        found.append(Run(policy, measured, then, written(policy, measured, then, probe)))
    return found


def test_a_recorded_document_gives_the_findings_that_it_was_written_with(runs: list[Run]) -> None:
    for run in runs:
        occasion = recorded.occasion(run.document, ON.today)
        again = judge(run.policy, recorded.measurements(run.document), occasion)
        assert without_rows(again.findings) == without_rows(run.then.findings)
        assert (again.verdict, again.waivers, again.notes) == (run.then.verdict, run.then.waivers, run.then.notes)
    assert {finding.status for run in runs for finding in run.then.findings} == set(OUTCOMES)


def test_the_findings_of_a_document_are_those_of_its_results(runs: list[Run]) -> None:
    for run in runs:
        for finding, result in zip(run.then.findings, run.document["results"], strict=True):
            assert (finding.rule, finding.status, finding.check, finding.slice, finding.message, finding.reason) == (
                tuple(result[key] for key in ("rule", "status", "check", "slice", "message", "reason"))
            )
            assert result["interval"] == (None if finding.interval is None else list(finding.interval))
            assert (result["value"], result["min"], result["max"]) == (finding.value, finding.min, finding.max)


@pytest.mark.parametrize("defaults", [{"confidence": 0.99}, {"multiplicity": "holm"}, {"confidence": 0.9}], ids=str)
def test_a_document_is_judged_at_another_level_as_the_model_would_have_been(
    runs: list[Run], defaults: dict[str, Any]
) -> None:
    """A backtest may ask for more than was asked for then: the intervals of all levels were recorded."""
    for run in runs:
        other = run.policy.model_copy(update={"defaults": run.policy.defaults.model_copy(update=defaults)})
        then, again = judge(other, run.measured, ON), judge(other, recorded.measurements(run.document), ON)
        assert without_rows(again.findings) == without_rows(then.findings)


def test_the_rows_of_slices_are_recorded_in_the_order_of_the_columns(probe: ProbeSet) -> None:
    policy, measured = drawn(0)
    slices: Any = {
        ("site", "language"): {(("site", "3"), ("language", "ja")): 40},
        ("language",): {(("language", "ja"),): 90},
    }
    measured = replace(measured, slices=slices)
    document = written(policy, measured, judge(policy, measured, ON), probe)
    assert recorded.measurements(document).slices == slices


def test_why_there_was_no_baseline_is_read_back(probe: ProbeSet) -> None:
    policy, measured = drawn(0)
    without = Measurements(measured.candidate, {}, {}, measured.slices, "there is none")
    document = written(policy, without, judge(policy, without, ON), probe)
    assert recorded.measurements(document).no_baseline == "there is none"
    whole = written(policy, measured, judge(policy, measured, ON), probe)
    assert recorded.measurements(whole).no_baseline is None


def test_the_occasion_is_that_of_the_recorded_model() -> None:
    document = bundle.load(HERE / "compared.json")
    found = recorded.occasion(document, date(2027, 1, 1), "warn")
    assert set(found.model) == {document["model"]["resolved"], document["model"]["digest"]}
    assert (found.today, found.enforcement) == (date(2027, 1, 1), "warn")


@pytest.mark.parametrize("name", ["sample", "passed", "error", "compared"])
def test_every_released_document_can_be_judged_again(name: str) -> None:
    document = bundle.load(HERE / f"{name}.json")
    found = recorded.measurements(document)
    assert sum(map(len, (found.candidate, found.baseline, found.changes))) == len(document["estimates"])
    assert all(each.metric == question.metric for question, each in found.candidate.items())


def test_a_real_check_is_judged_again_as_it_was(tmp_path: Path) -> None:
    """From vectors to JSON and back: baseline, slices, a pack, a waiver and a family-wise level."""
    document = checked(tmp_path)
    policy = load_policy(tmp_path / "policy.yaml").policy
    today = date(2026, 11, 21)
    again = judge(policy, recorded.measurements(document), recorded.occasion(document, today))
    assert len(document["results"]) == 11
    assert {result["status"] for result in document["results"]} >= {"pass", "fail", "waived", "not_evaluated"}
    for finding, result in zip(again.findings, document["results"], strict=True):
        assert (finding.rule, finding.status, finding.slice) == (result["rule"], result["status"], result["slice"])
        assert finding.message == result["message"]
        assert (finding.value, finding.min, finding.max) == (result["value"], result["min"], result["max"])
        assert (finding.n, finding.method, finding.baseline) == (result["n"], result["method"], result["baseline"])
    assert again.verdict.exit_code == document["exit_code"]
    assert [use for _, use in again.waivers] == [waiver["state"] for waiver in document["waivers"]]


POLICY = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "1"}
extends: [base.yaml]
probe:
  uri: PROBE
  columns: {input: x, label: y, id: id}
baseline: {uri: "features:BASELINE"}
defaults: {multiplicity: holm}
rules:
  - id: rank
    metric: effective_rank.share
    relative: {max_drop: 5%}
  - id: neighbours
    metric: knn_label_agreement
    min: 0.5
    slices:
      by: site
      min: 0.4
      min_rows: 50
      relative: {max_drop: 0.1}
      worst_gap: {max: 0.5}
  - {id: overlap, metric: knn_overlap, min: 0.99}
waivers:
  - {rule: overlap, model: "DIGEST", expires: 2026-12-31, owner: kenji, reason: The index is rebuilt anyway.}
  - {rule: cone, model: "DIGEST", expires: 2026-01-31, owner: kenji, reason: The index is rebuilt anyway.}
"""
BASE = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: base, version: "1"}
rules:
  - {id: cone, metric: mean_cosine, max: 0.3}
  - {id: spread, metric: collapse_index, max: 0.01}
"""


def checked(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 4
    signal = (rng.normal(size=(400, 8)) + 1.5 * np.eye(8)[labels]).astype(np.float32)
    sites = np.array(["a"] * 200 + ["b"] * 190 + ["c"] * 10)[rng.permutation(400)]
    ids = [f"r{row}" for row in range(400)]
    np.savez(folder / "probe.npz", x=signal, y=labels, id=ids, site=sites)
    for name in ("candidate", "baseline"):
        np.savez(
            folder / f"{name}.npz", features=signal + 0.1 * rng.normal(size=signal.shape).astype(np.float32), id=ids
        )
    text = POLICY.replace("PROBE", str(folder / "probe.npz")).replace("BASELINE", str(folder / "baseline.npz"))
    (folder / "policy.yaml").write_text(text.replace("DIGEST", digest_file(folder / "candidate.npz")))
    (folder / "base.yaml").write_text(BASE)
    with chdir(folder):
        found = gate.check(f"features:{folder}/candidate.npz", policy=folder / "policy.yaml", today=date(2026, 11, 21))
    return bundle.loads(bundle.dumps(found.document))


def test_a_level_whose_interval_has_no_end_is_left_open_then_and_now(probe: ProbeSet) -> None:
    policy, measured = drawn(1)
    holm = policy.model_copy(update={"defaults": policy.defaults.model_copy(update={"multiplicity": "holm"})})
    endless = {
        question: replace(each, intervals=dict.fromkeys(each.intervals, (-inf, inf)))
        for question, each in measured.candidate.items()
    }
    measured = replace(measured, candidate=endless)
    then = judge(holm, measured, ON)
    again = judge(holm, recorded.measurements(written(holm, measured, then, probe)), ON)
    assert without_rows(again.findings) == without_rows(then.findings)
    assert "error" not in {finding.status for finding in then.findings}
