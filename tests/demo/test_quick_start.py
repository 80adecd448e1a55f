from __future__ import annotations

import json
import re

import mlflow
import pytest

from gate.demo import POLICY, Judged, _outcome
from gate.models.quiet import quiet_mlflow
from gate.policy.loading import load_policy
from tests.conftest import Demo


def test_the_policy_of_the_demo_is_found_and_valid() -> None:
    rules = load_policy(POLICY).policy.rules
    assert {rule.severity for rule in rules} == {"block", "warn"}
    assert all(rule.why and rule.fix for rule in rules)


def test_the_demo_passes_the_healthy_model_and_blocks_the_collapsed_one(demo: Demo) -> None:
    assert demo.exit_code == 0, demo.stderr
    summary = demo.stdout.splitlines()[-6:]
    healthy, collapsed = [line.split() for line in summary[1:3]]
    assert [healthy[i] for i in (0, 1, 3, 4)] == ["healthy", "models:/digits/1", "PASS", "0"]
    assert [collapsed[i] for i in (0, 1, 3, 4)] == ["collapsed", "models:/digits/2", "FAIL", "1"]
    assert abs(float(healthy[2].rstrip("%")) - float(collapsed[2].rstrip("%"))) < 2
    assert "mlflow ui --backend-store-uri sqlite:///" in summary[-1]
    assert "healthy: training on 797 images" in demo.stderr


def test_the_demo_leaves_the_evidence_as_files_and_in_the_registry(demo: Demo) -> None:
    folder = demo.folder
    evidence = {name: json.loads((folder / f"{name}.json").read_text()) for name in ("healthy", "collapsed")}
    assert {name: document["exit_code"] for name, document in evidence.items()} == {"healthy": 0, "collapsed": 1}
    failed = {result["rule"] for result in evidence["collapsed"]["results"] if result["status"] == "fail"}
    assert {"collapse", "rank", "directions"} <= failed
    assert all((folder / f"{name}.html").read_text().startswith("<!") for name in evidence)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with quiet_mlflow():
        client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        tags = [client.get_model_version("digits", version).tags["gate"] for version in ("1", "2")]
    assert tags == ["PASS", "FAIL"]


def test_the_classes_that_remedies_point_to_stand_in_the_report(demo: Demo) -> None:
    report = (demo.folder / "collapsed.html").read_text(encoding="utf-8")
    table = report.partition("Everything that was measured")[2].partition("Where this comes from")[0]
    remedies = " ".join(str(rule.fix) for rule in load_policy(POLICY).policy.rules)
    named = re.findall(r"`(\w+\.\w+)`", remedies)
    assert len(named) == 2
    for address in named:
        (row,) = re.findall(rf"<code>{re.escape(address)}</code>(.*?)</tr>", table, flags=re.DOTALL)
        assert re.search(r"\bclass &#39;\d&#39;", row), row


@pytest.mark.parametrize("codes", [(0, 0), (1, 1), (0, 4), (3, 3), (1, 0)])
def test_any_other_pair_of_exit_codes_is_a_failure_of_the_demo(codes: tuple[int, int]) -> None:
    told: list[str] = []
    assert _outcome([Judged("model", "models:/digits/1", 0.99, code) for code in codes], told.append) == 3
    assert told == [f"error: the two checks exited with {codes}, expected (0, 1)"]


@pytest.mark.parametrize(
    ("code", "verdict"), [(0, "PASS"), (1, "FAIL"), (4, "INCONCLUSIVE"), (3, "ERROR"), (2, "ERROR")]
)
def test_the_verdict_is_read_off_the_exit_code(code: int, verdict: str) -> None:
    assert Judged("model", "models:/digits/1", 0.99, code).verdict == verdict
