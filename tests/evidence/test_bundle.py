from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from gate.errors import GateError, UsageError
from gate.estimate import Estimate, Influence
from gate.evidence import bundle, text
from gate.evidence.validation import validate
from gate.models.loading import LoadedModel
from gate.policy.loading import LoadedPolicy, load_policy
from gate.probes.probe_set import Columns, open_probe
from gate.verdict import Finding, decide, judge

if TYPE_CHECKING:
    from gate.probes.probe_set import ProbeSet

SAMPLES = Path(__file__).parent / "v1"
POLICY = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: encoder, version: "2.1"}
rules:
  - id: rank
    metric: effective_rank
    min: 4
    max: 60
"""
RUN = {
    "version": "0.1.0",
    "python": "3.11",
    "torch": "2.13.0",
    "mlflow": "3.17.2",
    "platform": "Linux",
    "device": "cpu",
    "precision": "float32",
    "seed": 0,
    "confidence": 0.95,
    "git": None,
    "started": "2026-11-21T09:30:00+00:00",
    "seconds": 1.5,
}
MODEL = LoadedModel(
    uri="models:/encoder@candidate",
    resolved="models:/encoder/7",
    name="encoder",
    version="7",
    run_id="1" * 32,
    model_id=None,
    digest="sha256:" + "a" * 64,
    flavour="pytorch",
    serialization="pt2",
    module=None,
    batch_size=None,
    path=Path("encoder"),
)
ESTIMATE = Estimate(
    metric="effective_rank",
    status="ok",
    reason=None,
    value=20.0,
    interval=(18.0, 22.0),
    standard_error=1.0,
    n=300,
    d=64,
    c=None,
    k=None,
    n_needed=None,
    method="delta method",
    confidence=0.95,
    influence=Influence(("a", "b", "c"), torch.tensor([3.0, -1.0, -2.0], dtype=torch.float64)),
    detail=None,
    breakdown={"a": 1.0, "b": math.inf},
    params={"k": 10},
)


@pytest.fixture
def policy(tmp_path: Path) -> LoadedPolicy:
    (tmp_path / "policy.yaml").write_text(POLICY)
    return load_policy(tmp_path / "policy.yaml")


@pytest.fixture
def probe(tmp_path: Path) -> ProbeSet:
    np.savez(tmp_path / "probe.npz", x=np.zeros((3, 2), dtype=np.float32))
    opened = open_probe(str(tmp_path / "probe.npz"), columns=Columns(input="x"))
    list(opened.batches(3))
    return opened


def built(policy: LoadedPolicy, probe: ProbeSet, estimate: Estimate, finding: Finding | None = None) -> dict[str, Any]:
    findings = [finding or judge(policy.policy.rules[0], estimate)]
    return bundle.document(
        model=MODEL,
        policy=policy,
        probe=probe,
        layers=[],
        estimates=[("output", estimate)],
        findings=findings,
        verdict=decide(findings),
        run=RUN,
    )


def sample(name: str = "sample") -> dict[str, Any]:
    return bundle.load(SAMPLES / f"{name}.json")


def test_a_document_says_what_was_judged_on_what(policy: LoadedPolicy, probe: ProbeSet) -> None:
    document = built(policy, probe, ESTIMATE)
    assert document["schema"] == "gate.evidence/v1"
    assert (document["status"], document["exit_code"]) == ("passed", 0)
    assert document["counts"] == {
        "pass": 1,
        "fail": 0,
        "inconclusive": 0,
        "warn": 0,
        "waived": 0,
        "not_evaluated": 0,
        "error": 0,
    }
    assert document["model"]["resolved"] == "models:/encoder/7"
    assert document["model"]["digest"] == MODEL.digest
    assert document["policy"]["name"] == "encoder"
    assert document["policy"]["text"] == POLICY
    assert document["probe"]["rows"] == 3
    assert document["probe"]["columns"]["input"] == "x"
    assert document["baseline"] is None
    assert document["baseline_reason"]


def test_an_estimate_keeps_its_numbers_and_no_influence(policy: LoadedPolicy, probe: ProbeSet) -> None:
    estimate = built(policy, probe, ESTIMATE)["estimates"][0]
    assert estimate["layer"] == "output"
    assert estimate["model"] == "models:/encoder/7"
    assert (estimate["value"], estimate["interval"], estimate["n"]) == (20.0, [18.0, 22.0], 300)
    assert estimate["breakdown"] == {"a": 1.0, "b": None}
    assert "influence" not in estimate


@pytest.mark.parametrize(
    ("value", "interval", "line"),
    [(2.0, (1.0, 3.0), 7), (70.0, (65.0, 75.0), 8), (4.0, (3.0, 5.0), 7), (60.0, (59.0, 61.0), 8)],
)
def test_a_result_points_to_the_bound_that_it_does_not_hold(
    policy: LoadedPolicy, probe: ProbeSet, value: float, interval: tuple[float, float], line: int
) -> None:
    result = built(policy, probe, replace(ESTIMATE, value=value, interval=interval))["results"][0]
    assert (result["policy_line"], result["policy_column"]) == (line, 5)


def test_a_failing_result_names_the_rows_that_drive_it(policy: LoadedPolicy, probe: ProbeSet) -> None:
    result = built(policy, probe, replace(ESTIMATE, value=2.0, interval=(1.0, 3.0)))["results"][0]
    assert result["status"] == "fail"
    assert result["rows"] == [{"id": "c", "influence": -2.0}, {"id": "b", "influence": -1.0}]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_say_is_null_with_a_reason_and_an_error(
    policy: LoadedPolicy, probe: ProbeSet, value: float
) -> None:
    document = built(policy, probe, replace(ESTIMATE, value=value, interval=(value, value)))
    for entry in (document["estimates"][0], document["results"][0]):
        assert entry["value"] is None
        assert entry["interval"] is None
        assert entry["status"] == "error"
        assert entry["reason"]
    assert json.loads(bundle.dumps(document)) == document


def test_a_finding_that_passed_on_nan_is_refused(policy: LoadedPolicy, probe: ProbeSet) -> None:
    passed = judge(policy.policy.rules[0], ESTIMATE)
    with pytest.raises(GateError, match="rule 'rank' passed without a finite value and interval"):
        built(policy, probe, ESTIMATE, replace(passed, value=math.nan))


def test_a_document_with_nan_is_never_written(tmp_path: Path) -> None:
    document = sample()
    document["run"]["seconds"] = math.nan
    with pytest.raises(ValueError, match="not JSON compliant"):
        bundle.dump(document, tmp_path / "evidence.json")
    assert not (tmp_path / "evidence.json").exists()


@pytest.mark.parametrize(("number", "kept"), [(1.5, 1.5), (0, 0), (None, None), (math.nan, None), (-math.inf, None)])
def test_finite_keeps_only_what_json_can_say(number: float | None, kept: float | None) -> None:
    assert bundle.finite(number) == kept


@pytest.mark.parametrize(
    ("name", "status", "code"), [("sample", "failed", 1), ("passed", "passed", 0), ("error", "error", 3)]
)
def test_every_released_sample_stays_readable(name: str, status: str, code: int) -> None:
    document = sample(name)
    assert (document["status"], document["exit_code"]) == (status, code)


def test_what_is_written_reads_back_as_it_was(tmp_path: Path) -> None:
    bundle.dump(sample(), tmp_path / "folder" / "evidence.json")
    assert bundle.load(tmp_path / "folder" / "evidence.json") == sample()


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.json: cannot read evidence: No such file"):
        bundle.load(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    "content", ["", "{", "\x00\x01", '{"schema": NaN}', '{"schema": -Infinity}', '{"schema": 1e999}']
)
def test_what_is_not_json_is_a_usage_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "evidence.json").write_text(content)
    with pytest.raises(UsageError, match="is not evidence in JSON"):
        bundle.load(tmp_path / "evidence.json")


@pytest.mark.parametrize("content", [[], "gate.evidence/v1", None, {}, {"schema": "gate.evidence/v2"}])
def test_an_unknown_schema_is_a_usage_error(tmp_path: Path, content: object) -> None:
    (tmp_path / "evidence.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"evidence\.json: its schema is .*, expected 'gate\.evidence/v1'"):
        bundle.load(tmp_path / "evidence.json")


@pytest.mark.parametrize(
    ("part", "key", "where"),
    [((), "results", "the document"), (("policy",), "text", "policy"), (("results", 2), "message", r"results\[2\]")],
)
def test_a_missing_key_is_named(part: tuple[str | int, ...], key: str, where: str) -> None:
    document = sample()
    found: Any = document
    for step in part:
        found = found[step]
    del found[key]
    with pytest.raises(UsageError, match=f"{where} lacks {key}"):
        validate(document)


@pytest.mark.parametrize("value", [None, math.nan, True, "0.5"])
def test_a_pass_without_a_finite_number_is_not_trusted(value: object) -> None:
    document = sample("passed")
    document["results"][0]["value"] = value
    with pytest.raises(GateError, match="rule 'collapse' passed without a finite value and interval"):
        validate(document)


def test_counts_that_the_results_do_not_bear_out_are_not_trusted() -> None:
    document = sample()
    document["results"][0]["status"] = "warn"
    with pytest.raises(GateError, match="but its results are"):
        validate(document)


def test_a_status_that_the_results_do_not_bear_out_is_not_trusted() -> None:
    document = sample()
    document["status"] = "passed"
    with pytest.raises(GateError, match="it says 'passed', but its results add up to 'failed'"):
        validate(document)


def test_evidence_without_a_result_is_never_passed() -> None:
    document = sample("passed")
    document["results"] = []
    document["counts"] = dict.fromkeys(document["counts"], 0)
    with pytest.raises(GateError, match="add up to 'error'"):
        validate(document)


@pytest.mark.parametrize("code", [1, 3, 6, False, "0", None])
def test_an_exit_code_that_does_not_fit_the_status_is_not_trusted(code: object) -> None:
    document = sample("passed")
    document["exit_code"] = code
    with pytest.raises(GateError, match="it says 'passed' with the exit code"):
        validate(document)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"status": "passd"}, "has the unknown status 'passd'"),
        ({"status": ["pass"]}, r"has the unknown status \['pass'\]"),
        ({"max": None}, "has the bounds None and None, expected one number or two"),
        ({"max": "0.85"}, "has the bounds None and '0.85'"),
        ({"interval": []}, "passed without a finite value and interval"),
        ({"interval": [0.1]}, r"has the interval \[0.1\], expected two finite numbers"),
        ({"interval": [0.1, 0.2, 0.3]}, "has the interval .* expected two finite numbers"),
        ({"interval": [0.1, "0.3"]}, "has the interval .* expected two finite numbers"),
        ({"interval": [0.3, 0.1]}, "has the value .* outside its interval"),
        ({"value": 0.3}, "has the value 0.3 outside its interval"),
        ({"value": 0.5, "interval": [0.1, 0.9]}, "passed with the interval .* outside its bounds"),
        ({"min": 0.2}, "passed with the interval .* outside its bounds"),
    ],
)
def test_a_result_that_contradicts_itself_is_not_trusted(fields: dict[str, object], message: str) -> None:
    document = sample("passed")
    document["results"][0].update(fields)
    with pytest.raises(GateError, match=f"rule 'collapse' {message}"):
        validate(document)


def test_a_failing_value_outside_its_interval_is_not_trusted() -> None:
    document = sample()
    document["results"][0]["value"] = 0.1
    with pytest.raises(GateError, match=r"has the value .* outside its interval"):
        validate(document)


@pytest.mark.parametrize(("key", "value"), [("text", "another\n"), ("text", "\ud800"), ("digest", None)])
def test_a_policy_whose_digest_is_not_that_of_its_text_is_not_trusted(key: str, value: object) -> None:
    document = sample()
    document["policy"][key] = value
    with pytest.raises(GateError, match="is not that of its text"):
        validate(document)


def test_the_digest_of_a_policy_covers_the_byte_order_mark_of_its_file(tmp_path: Path, probe: ProbeSet) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8-sig")
    assert built(load_policy(tmp_path / "policy.yaml"), probe, ESTIMATE)["policy"]["text"] == POLICY


def test_evidence_has_the_verdict_at_hand_and_prints_as_text() -> None:
    evidence = bundle.Evidence(sample())
    assert (evidence.status, evidence.exit_code) == ("failed", 1)
    assert str(evidence) == text.render(sample())
