from __future__ import annotations

from collections import Counter
from pathlib import Path

from benchmarks.calibration import __main__ as benchmark
from benchmarks.calibration.draws import Rates, rates
from gate.calibration.asking import of_the_catalogue
from gate.calibration.measuring import measured
from gate.policy.loading import load_probe_spec
from tests.calibration import versions


def test_many_calibrations_are_judged_on_the_versions_that_they_did_not_see(tmp_path: Path) -> None:
    asked = of_the_catalogue(load_probe_spec(versions.probe(tmp_path)), {}, {})
    good = [measured(asked.policy, versions.good(tmp_path, seed), keep_rows=seed == 0) for seed in range(7)]
    bad = [measured(asked.policy, versions.bad(tmp_path, 0))]
    found = rates(asked, good, bad, versions=5, draws=4)
    assert found.versions == 5
    assert found.alarms <= 0.5
    assert found.missed == 0
    assert found == rates(asked, good, bad, versions=5, draws=4)


def test_the_page_counts_every_version_that_does_not_pass() -> None:
    case = benchmark.Case("five good", {})
    outcome = benchmark.Outcome(
        case, 9, 8.3, Counter(passed=17, failed=1, inconclusive=2), Counter(failed=5), Counter(rank=3)
    )
    assert benchmark._alarms(outcome) == 3
    page = benchmark._page([outcome], [Rates(5, 8.3, 9, 0.012, 0.95, 0)], 100)
    assert "| five good | 9 | 8.3 | 17 passed, 2 inconclusive, 1 failed | 5 failed | rank (3) |" in page
    assert "| 5 | 8.3 | 9 | 1.2% | 95% | 0.0% |" in page
