from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from gate.errors import GateError, UsageError
from gate.estimate import Estimate, Influence
from gate.evidence import bundle, text
from gate.models.baseline import Absent
from gate.models.finding import FoundModel
from gate.policy.loading import LoadedPolicy, load_policy
from gate.probes.probe_set import Columns, Transform, open_probe
from gate.verdict import Finding, Judgement, Measurements, Occasion, decide, judge, question_of

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
MODEL = FoundModel(
    uri="models:/encoder@candidate",
    resolved="models:/encoder/7",
    name="encoder",
    version="7",
    run_id="1" * 32,
    model_id=None,
    digest="sha256:" + "a" * 64,
    flavour="pytorch",
    serialization="pt2",
    trust="code-free",
    path=Path("encoder"),
)
PLACES: dict[str, Any] = {
    "layers": [],
    "reads": {},
    "baseline_layers": {},
    "ran": {"candidate": {}, "baseline": {}},
    "validation": {"status": "passed"},
    "expectations": {},
}
NO_BASELINE = Absent("the policy names no baseline; there are no relative rules")
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
    params={},
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


TODAY = date(2026, 11, 21)


def built(
    policy: LoadedPolicy,
    probe: ProbeSet,
    estimate: Estimate,
    finding: Finding | None = None,
    baseline: FoundModel | Absent = NO_BASELINE,
    measured: Measurements | None = None,
) -> dict[str, Any]:
    found = measured or Measurements({question_of(policy.policy.rules[0]): estimate})
    judgement = judge(policy.policy, found, Occasion((MODEL.resolved, MODEL.digest), TODAY))
    if finding is not None:
        judgement = Judgement((finding,), decide([finding]), (), ())
    return bundle.document(
        model=MODEL,
        baseline=baseline,
        policy=policy,
        probe=probe,
        places=PLACES,
        measured=found,
        judgement=judgement,
        run=RUN,
    )


def judged(policy: LoadedPolicy, estimate: Estimate) -> Finding:
    found = Measurements({question_of(policy.policy.rules[0]): estimate})
    return judge(policy.policy, found, Occasion((), TODAY)).findings[0]


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
    passed = judged(policy, ESTIMATE)
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
    "content", ["", "{", "\x00\x01", '{"schema": NaN}', '{"schema": -Infinity}', '{"schema": 1e999}', "[" * 200_000]
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


def test_the_digest_of_a_policy_covers_the_byte_order_mark_of_its_file(tmp_path: Path, probe: ProbeSet) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8-sig")
    assert built(load_policy(tmp_path / "policy.yaml"), probe, ESTIMATE)["policy"]["text"] == POLICY


def test_evidence_has_the_verdict_at_hand_and_prints_as_text() -> None:
    evidence = bundle.Evidence(sample())
    assert (evidence.status, evidence.exit_code) == ("failed", 1)
    assert str(evidence) == text.render(sample())


# What came with baselines, slices, packs and waivers.


def test_a_baseline_is_described_like_the_model(policy: LoadedPolicy, probe: ProbeSet) -> None:
    earlier = replace(MODEL, resolved="models:/encoder/3", version="3", digest="sha256:" + "b" * 64)
    document = built(policy, probe, ESTIMATE, baseline=earlier)
    assert (document["baseline"]["resolved"], document["baseline"]["digest"]) == (earlier.resolved, earlier.digest)
    assert document["baseline"].keys() == document["model"].keys()
    assert document["baseline_reason"] is None


def test_estimates_say_of_which_model_and_slice_they_are(policy: LoadedPolicy, probe: ProbeSet) -> None:
    question = question_of(policy.policy.rules[0])
    part = question._replace(slice=(("site", "3"), ("language", "ja")))
    measured = Measurements(
        {question: ESTIMATE, part: replace(ESTIMATE, n=40)},
        {question: replace(ESTIMATE, value=21.0)},
        {question: replace(ESTIMATE, value=-1.0, interval=(-2.0, 0.0), intervals={0.99: (-3.0, 1.0)})},
        {("site", "language"): {part.slice: 40}},
    )
    earlier = replace(MODEL, resolved="models:/encoder/3", version="3")
    document = built(policy, probe, ESTIMATE, baseline=earlier, measured=measured)
    told = [(each["of"], each["model"], each["slice"], each["value"], each["n"]) for each in document["estimates"]]
    assert told == [
        ("candidate", "models:/encoder/7", None, 20.0, 300),
        ("candidate", "models:/encoder/7", {"site": "3", "language": "ja"}, 20.0, 40),
        ("baseline", "models:/encoder/3", None, 21.0, 300),
        ("change", "models:/encoder/7", None, -1.0, 300),
    ]
    assert [each["intervals"] for each in document["estimates"]] == [[], [], [], [[0.99, -3.0, 1.0]]]
    assert document["slices"] == [{"slice": {"site": "3", "language": "ja"}, "rows": 40}]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"value": math.inf, "interval": None}, "not_finite: the value is inf, expected a finite number"),
        ({"interval": (18.0, math.inf)}, "not_finite: the interval is (18.0, inf), expected two finite numbers"),
        ({"interval": (21.0, 22.0)}, "bad_interval: the interval (21.0, 22.0) does not contain the value 20.0"),
    ],
)
def test_a_number_that_cannot_be_judged_is_recorded_with_the_reason_that_its_finding_has(
    policy: LoadedPolicy, probe: ProbeSet, changes: dict[str, Any], reason: str
) -> None:
    document = built(policy, probe, replace(ESTIMATE, intervals={0.99: (1.0, 30.0)}, **changes))
    for entry in (document["estimates"][0], document["results"][0]):
        assert (entry["status"], entry["reason"], entry["interval"]) == ("error", reason, None)
    assert document["estimates"][0]["intervals"] == []


def test_an_interval_without_an_end_is_left_out_of_the_further_levels(policy: LoadedPolicy, probe: ProbeSet) -> None:
    wide = replace(ESTIMATE, intervals={0.99: (17.0, 23.0), 0.999: (-math.inf, math.inf)})
    assert built(policy, probe, wide)["estimates"][0]["intervals"] == [[0.99, 17.0, 23.0]]


EXTENDED = """\
apiVersion: gate/v1
kind: Policy
metadata: {name: child, version: "1"}
extends: [policy.yaml]
baseline: {uri: "@champion", when_absent: skip_relative}
rules:
  - {id: cone, metric: mean_cosine, max: 0.5}
  - {id: rank, relative: {max_drop: 5%}}
waivers:
  - {rule: rank, model: "models:/encoder/7", expires: 2026-12-31, owner: kenji, reason: New tokenizer., ticket: RQ-1}
  - {rule: cone, model: "models:/encoder/7", expires: 2026-01-31, owner: kenji, reason: New tokenizer.}
  - {rule: cone, model: "models:/encoder/8", expires: 2026-12-31, owner: kenji, reason: Another version.}
"""


@pytest.fixture
def child(policy: LoadedPolicy, tmp_path: Path) -> LoadedPolicy:  # noqa: ARG001 - it lies there
    (tmp_path / "child.yaml").write_text(EXTENDED)
    return load_policy(tmp_path / "child.yaml")


def failing(child: LoadedPolicy) -> Measurements:
    rank, cone = (question_of(rule) for rule in child.policy.rules)
    low = replace(ESTIMATE, value=2.0, interval=(1.0, 3.0))
    return Measurements(
        {rank: low, cone: replace(low, metric="mean_cosine")},
        no_baseline="there is no baseline models:/encoder@champion",
    )


def test_the_evidence_holds_every_file_of_the_policy_and_a_digest_over_them(
    child: LoadedPolicy, probe: ProbeSet, tmp_path: Path
) -> None:
    document = built(child, probe, ESTIMATE, measured=failing(child))
    sources = document["policy"]["sources"]
    assert [source["text"] for source in sources] == [EXTENDED, POLICY]
    assert [Path(source["path"]).name for source in sources] == ["child.yaml", "policy.yaml"]
    assert document["policy"]["text"] == EXTENDED
    for source in sources:
        content = (tmp_path / Path(source["path"]).name).read_bytes()
        assert source["digest"] == f"sha256:{sha256(content).hexdigest()}"
    assert document["policy"]["digest"] not in [source["digest"] for source in sources]
    alone = load_policy(tmp_path / "policy.yaml")
    assert built(alone, probe, ESTIMATE)["policy"]["digest"] == sources[1]["digest"]


def test_a_result_of_another_file_is_anchored_in_the_policys_own(child: LoadedPolicy, probe: ProbeSet) -> None:
    results = built(child, probe, ESTIMATE, measured=failing(child))["results"]
    places = {(each["rule"], each["check"]): each for each in results}
    bound, relative, cone = places["rank", "bound"], places["rank", "relative"], places["cone", "bound"]
    assert (Path(bound["policy_path"]).name, bound["policy_line"]) == ("policy.yaml", 7)
    assert Path(bound["anchor"]["path"]).name == "child.yaml"
    assert bound["anchor"] == child.anchor("rules", 0, "min")._asdict()
    assert (Path(relative["policy_path"]).name, relative["policy_line"]) == ("child.yaml", 8)
    assert (cone["anchor"]["line"], cone["policy_line"]) == (7, 7)


def test_waivers_and_what_became_of_them_are_part_of_the_evidence(child: LoadedPolicy, probe: ProbeSet) -> None:
    document = built(child, probe, ESTIMATE, measured=failing(child))
    assert [(each["rule"], each["state"], each["owner"]) for each in document["waivers"]] == [
        ("rank", "used", "kenji"),
        ("cone", "expired", "kenji"),
    ]
    waived = next(each for each in document["results"] if each["status"] == "waived")
    told = {key: waived["waiver"][key] for key in ("owner", "reason", "expires", "ticket", "approver")}
    reason = {"reason": "New tokenizer.", "expires": "2026-12-31", "ticket": "RQ-1", "approver": None}
    assert told == {"owner": "kenji", **reason}
    assert "expired on 2026-01-31" in document["notes"][0]


def test_why_there_is_no_baseline_is_noted_where_one_was_asked_for(
    child: LoadedPolicy, policy: LoadedPolicy, probe: ProbeSet
) -> None:
    absent = Absent("there is no baseline models:/encoder@champion")
    asked = built(child, probe, ESTIMATE, measured=failing(child), baseline=absent)
    assert asked["baseline_reason"] == absent.reason
    assert absent.reason in asked["notes"]
    assert built(policy, probe, ESTIMATE)["notes"] == []


def test_a_document_says_which_columns_were_read_and_what_was_done_to_pictures(
    policy: LoadedPolicy, probe: ProbeSet, tmp_path: Path
) -> None:
    plain = built(policy, probe, ESTIMATE)["probe"]
    assert set(plain["columns"]) == {"input", "label", "group", "length", "id", "cluster", "sublabel", "target"}
    assert "transform" not in plain
    np.savez(tmp_path / "more.npz", x=np.zeros((3, 2, 2, 3), dtype=np.uint8), y=np.array(["a", "b", "c"]))
    columns = Columns(input="x", pair="x", tasks={"hue": "y"}, attributes=("y",))
    more = open_probe(str(tmp_path / "more.npz"), columns=columns, transform=Transform(resize=2))
    list(more.batches(3))
    written = json.loads(json.dumps(built(policy, more, ESTIMATE)["probe"]))
    assert written["columns"] | {"pair": "x", "tasks": {"hue": "y"}, "attributes": ["y"]} == written["columns"]
    assert (written["transform"]["resize"], written["transform"]["scale"]) == (2, 255.0)
